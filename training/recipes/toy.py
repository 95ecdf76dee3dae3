"""The toy recipes: one for each world in the plane."""

from __future__ import annotations

from dataclasses import dataclass

from training.recipes.base import Recipe
from training.recipes.noised import NoisedRecipe
from training.recipes.settings import Count


@dataclass(frozen=True)
class ToyRecipe(NoisedRecipe):
    """A small network on a world of `toy/`, whose exact answer is known."""

    width: Count = 64
    """Features of each hidden layer."""
    depth: Count = 3
    """Hidden layers."""

    @property
    def world(self) -> str:
        """The part of the name after the dot: a key of toy.worlds.WORLDS."""
        return self.name.partition(".")[2]


WORLDS = (
    *("gaussian", "ring", "grid", "two_moons", "conditional_ring", "anisotropic", "spiral", "checkerboard", "points"),
)
TOYS: dict[str, Recipe] = {f"toy.{world}": ToyRecipe(name=f"toy.{world}") for world in WORLDS}
