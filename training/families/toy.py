"""The toy family: a small network learns a world whose exact answer is known.

The network predicts the row of the parameterization table that the recipe names, in units in which a small network
finds every row equally easy (`unit` of preconditioning.py). Times are uniform and stratified (times.py).
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion import model, schedules
from diffusion.losses import denoising_loss
from toy import worlds
from toy.network import Network
from training import draw, times
from training.preconditioning import UnitVariance, unit_weight
from training.recipes import Recipe, ToyRecipe
from training.run_folder import RunFolder
from training.streams import Streams
from training.task import Batch


class Toy:
    """What the loop needs of a toy recipe: a network, its loss at a step, and a denoiser for previews."""

    def __init__(self, recipe: ToyRecipe) -> None:
        self.recipe = recipe
        self.world = worlds.make(recipe.world)
        self.schedule = schedules.SCHEDULES[recipe.schedule]()
        self.std = standard_deviation(self.world)
        self.shape = (self.world.dim,)
        self.span = times.span(recipe)

    def network(self) -> UnitVariance:
        inner = Network(dim=self.world.dim, width=self.recipe.width, depth=self.recipe.depth)
        return UnitVariance(inner, self.schedule, self.recipe.parameterization, self.std)

    def facts(self) -> dict[str, Any]:
        """Nothing but the recipe: a world is its name."""
        return {}

    def batch(self, n: int, streams: Streams) -> Batch:
        """(n draws of the world [n, dim], their times [n], their noise [n, dim]): small enough to be made ahead."""
        x_0, u = self.world.sample(n, streams("data", "cpu")).float(), times.strata(n, streams("time", "cpu"))
        t = self.recipe.earliest + (self.recipe.latest - self.recipe.earliest) * u
        return x_0, t.float(), torch.randn(x_0.shape, generator=streams("noise", "cpu"))

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """The mean weighted squared error."""
        (x_0, t, eps), kind = batch, self.recipe.parameterization
        unit = partial(unit_weight, "unit", kind, self.std)
        weights = unit if self.recipe.weights == "unit" else self.recipe.weights
        return denoising_loss(network, self.schedule, x_0, t, eps, kind, weights).mean()

    def denoiser(self, network: nn.Module) -> model.Denoiser:
        return model.denoiser(network, self.schedule, self.recipe.parameterization)

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """samples.png in the run folder: what the network generates so far, beside the truth."""
        return draw.samples(folder, self.recipe, self.schedule, self.std, self.denoiser(network.cpu()))

    def as_data(self, drawn: Tensor) -> Tensor:
        """The points themselves."""
        return drawn

    def picture(self, drawn: Tensor, path: Path, title: str, generator: torch.Generator) -> Path:
        """Samples beside as many draws of the world."""
        return draw.compare(drawn, self.recipe.world, path, title, generator)


def standard_deviation(world: worlds.World) -> float:
    """Root mean square, over coordinates, of the data's standard deviations: the posterior's where nothing is seen."""
    covariance = world.posterior_covariance(torch.zeros(1, world.dim, dtype=torch.float64), alpha=0.0, sigma=1.0)[0]
    return math.sqrt(covariance.trace().item() / world.dim)


def build(recipe: Recipe) -> Toy:
    """The family's entry, for the loop."""
    if not isinstance(recipe, ToyRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected a ToyRecipe")
    return Toy(recipe)
