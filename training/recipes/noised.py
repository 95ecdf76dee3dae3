"""Settings of every recipe that learns from noised data: what is predicted, under which schedule, at which times."""

from __future__ import annotations

from dataclasses import dataclass

from training.recipes.base import Recipe
from training.recipes.settings import Interior, Parameterization, Weights
from training.recipes.settings import Schedule as ScheduleName


@dataclass(frozen=True)
class NoisedRecipe(Recipe):
    """A network that predicts a row of the parameterization table at x_t = alpha x_0 + sigma eps."""

    parameterization: Parameterization = "v"
    schedule: ScheduleName = "cosine"
    weights: Weights = "unit"  # the squared error of targets brought to unit variance; the others: diffusion/losses.py
    earliest: Interior = 1e-3  # times are drawn between these two, and samplers run from the later one
    latest: Interior = 0.998

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.earliest < self.latest:
            raise ValueError(f"earliest = {self.earliest}, latest = {self.latest}: expected earliest < latest")
