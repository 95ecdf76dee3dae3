"""The recipe of a run that was trained elsewhere: it says what the model is, and on which chain it predicts what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.recipes.base import Recipe
from training.recipes.images import ImageRecipe
from training.recipes.pixels import Share
from training.recipes.settings import Count, Interior, NotNegative, Parameterization, Schedule, Weights


@dataclass(frozen=True)
class ImportedRecipe(ImageRecipe):
    """A stock model of pixels, by its own config; the settings of a network repeat what that says of it.

    `data` and `path` say what it is judged by and what its students learn from; a folder without a path: nothing does.
    """

    model: str = ""
    """The model's config of diffusers, JSON."""
    chain: str = ""
    """What its scheduler's config says of betas, JSON: the chain that ddpm_linear then stands for."""
    within: NotNegative = 0.0
    """A prediction of x_0 is cut to +-within, as its scheduler does; 0: it is not."""

    data: str = "folder"
    held_out: Share | None = 0.0  # who trained it held nothing out that is known here
    parameterization: Parameterization = "eps"
    schedule: Schedule = "ddpm_linear"
    preconditioning: Literal["none", "unit", "edm"] = "none"
    weights: Weights = "plain"
    times: Literal["uniform", "chain", "lognormal", "logit_normal"] = "chain"
    latest: Interior = 1 - 1e-6
    steps: Count = 1
    batch: Count = 1


IMPORTED: dict[str, Recipe] = {"imported.diffusers": ImportedRecipe(name="imported.diffusers")}
