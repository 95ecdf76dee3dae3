"""The distillation family: a student of a finished run, of the same architecture, for few steps.

    progressive   steps halved in rounds
    consistency   jumps to where a path began
    reflow        straight paths

Losses and targets are those of diffusion/distillation.py, students those of training/distillation/.
"""

from __future__ import annotations

from training import runs
from training.distillation.consistency import Consistency
from training.distillation.progressive import Progressive
from training.distillation.reflow import Reflow
from training.distillation.student import Student
from training.recipes import Recipe
from training.recipes.distill import ConsistencyRecipe, DistillRecipe, ProgressiveRecipe, ReflowRecipe

KINDS: dict[type[Recipe], type[Student]] = {
    ProgressiveRecipe: Progressive,
    ConsistencyRecipe: Consistency,
    ReflowRecipe: Reflow,
}


def build(recipe: Recipe) -> Student:
    """The family's entry, for the loop."""
    if not isinstance(recipe, DistillRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected a DistillRecipe")
    if not recipe.teacher:
        raise ValueError(f"{recipe.name} needs a teacher: the folder of a finished run of a generative model")
    try:
        teacher = runs.load(recipe.teacher)
    except ValueError as error:
        raise ValueError(f"teacher: {error}") from None
    return KINDS[type(recipe)](recipe, teacher)
