"""The toy recipes: one for each world in the plane."""

from __future__ import annotations

from dataclasses import dataclass

from training.recipes.base import Recipe
from training.recipes.settings import Count, Interior, Parameterization, Schedule, Weights


@dataclass(frozen=True)
class ToyRecipe(Recipe):
    """A small network on a world of `toy/`, whose exact answer is known."""

    parameterization: Parameterization = "v"
    schedule: Schedule = "cosine"
    weights: Weights = "unit"  # the squared error of targets brought to unit variance; the others: diffusion/losses.py
    width: Count = 64
    depth: Count = 3
    earliest: Interior = 1e-3  # times are drawn between these two, and samplers run from the later one
    latest: Interior = 0.998

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.earliest < self.latest:
            raise ValueError(f"earliest = {self.earliest}, latest = {self.latest}: expected earliest < latest")

    @property
    def world(self) -> str:
        """The part of the name after the dot: a key of toy.worlds.WORLDS."""
        return self.name.partition(".")[2]


WORLDS = (
    *("gaussian", "ring", "grid", "two_moons", "conditional_ring", "anisotropic", "spiral", "checkerboard", "points"),
)
TOYS: dict[str, Recipe] = {f"toy.{world}": ToyRecipe(name=f"toy.{world}") for world in WORLDS}
