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
    """What the network predicts."""
    schedule: ScheduleName = "cosine"
    """How alpha and sigma, the shares of data and noise in x_t, change with time."""
    weights: Weights = "unit"
    """Of times in the loss; unit: the squared error of targets brought to unit variance (the others:
    diffusion/losses.py)."""
    earliest: Interior = 1e-3
    """The first of the times that are learned; 0 is data."""
    latest: Interior = 0.998
    """The last of the times that are learned, at which samplers start; 1 is noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.earliest < self.latest:
            raise ValueError(f"earliest = {self.earliest}, latest = {self.latest}: expected earliest < latest")
