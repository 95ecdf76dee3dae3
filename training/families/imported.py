"""The imported family: a stock model of pixels as a denoiser; it samples, is judged and teaches as if trained here."""

from __future__ import annotations

import functools
import json
from typing import Any

from torch import Tensor, nn

from diffusion import schedules
from diffusion.types import Denoiser
from training import networks
from training.data.source import Source
from training.families.images import Images
from training.interop import chain
from training.recipes import Recipe
from training.recipes.imported import ImportedRecipe
from training.times import Span

MODELS = ("UNet2DModel", "DiTTransformer2DModel")


class Imported(Images):
    """A denoiser whose network and chain are the recipe's JSON."""

    recipe: ImportedRecipe

    def __init__(self, recipe: ImportedRecipe) -> None:
        super().__init__(recipe)
        betas = chain.betas_of(json.loads(recipe.chain))
        self.steps = len(betas)
        if recipe.schedule == "ddpm_linear":
            self.schedule = schedules.discrete(betas)
            self.span = Span(1 / self.steps, recipe.latest, self.steps)

    @functools.cached_property
    def source(self) -> Source:
        if self.nameless:
            raise ValueError(f"{self.recipe.name} was imported without its data: import it with --data")
        return super().source

    @property
    def nameless(self) -> bool:
        """Whether nobody said what it was trained on."""
        return self.recipe.data == "folder" and not self.recipe.path

    def facts(self) -> dict[str, Any]:
        return {} if self.nameless else super().facts()

    def network(self) -> nn.Module:
        """The stock model; a U-Net's table of labels need not have one that says "not told", a DiT's has."""
        withholds = self.recipe.network == "dit" or (self.recipe.classes and self.recipe.label_dropout)
        unlabelled = networks.unlabelled(self.recipe) if withholds else None
        return networks.Stock(made(self.recipe.model), unlabelled, self.steps)

    def denoiser(self, network: nn.Module, labels: Tensor | None = None, guidance: float = 1.0) -> Denoiser:
        """The one for samplers, as in the stock pipeline: what it predicts, guided, is cut to +-within."""
        free, most = self.uncut(network, labels, guidance), self.recipe.within
        return (lambda x, t: free(x, t).clamp(-most, most)) if most else free

    def uncut(self, network: nn.Module, labels: Tensor | None = None, guidance: float = 1.0) -> Denoiser:
        """As all denoisers."""
        return super().denoiser(network, labels, guidance)


def made(config: str) -> nn.Module:
    """A new model of diffusers by its config; only the classes of MODELS are ever made. ValueError for any other."""
    import diffusers

    table = json.loads(config)
    if table.get("_class_name") not in MODELS:
        raise ValueError(f"model {table.get('_class_name')!r}: expected {' or '.join(MODELS)}")
    model = getattr(diffusers, table["_class_name"]).from_config(table)
    return networks.told_all(model) if isinstance(model, diffusers.DiTTransformer2DModel) else model


def build(recipe: Recipe) -> Imported:
    """The family's entry, for the loop."""
    if not isinstance(recipe, ImportedRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected an ImportedRecipe")
    if not recipe.model:
        raise ValueError(f"{recipe.name} is not trained but imported: seminar import FOLDER")
    return Imported(recipe)
