"""The toy family: a small network learns a world whose exact answer is known.

The network predicts the row of the parameterization table that the recipe names, in units in which a small network
finds every row equally easy (after Karras et al. 2022, section 5): with target = a x_0 + b eps, data of variance std^2,

    prediction(x_t, t) = r F(x_t / s, t),    s = sqrt(alpha^2 std^2 + sigma^2),    r = sqrt(a^2 std^2 + b^2),

so that F's input and its target have unit variance at any noise level, VE's included. The weight `unit` is the plain
squared error of F itself, 1/r^2 times that of the prediction.

Times are stratified: the i-th of n samples gets one of n equal parts of [earliest, latest], with one shift for all
(Kingma et al. 2021, appendix I.1): the same law for each, and less noise in the gradient.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion import model, schedules
from diffusion.losses import denoising_loss
from diffusion.parameterization import row
from diffusion.schedules import Schedule
from diffusion.shapes import per_sample
from toy import worlds
from toy.network import Network
from training import draw
from training.recipes import Recipe, ToyRecipe
from training.run_folder import RunFolder
from training.streams import Streams
from training.task import Batch


class UnitVariance(nn.Module):
    """r F(x_t / s, t): the network F between scales that bring its input and target to unit variance."""

    def __init__(self, network: nn.Module, schedule: Schedule, kind: str, std: float) -> None:
        super().__init__()
        self.network, self.schedule, self.kind, self.std = network, schedule, kind, std

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        if t.ndim == 1 and t.stride(0) == 0:
            t = t[0]  # one time, expanded for the batch: its features need computing only once
        s = torch.hypot(self.std * self.schedule.alpha(t), self.schedule.sigma(t))
        r = target_std(self.schedule, self.kind, self.std, t)
        return per_sample(r, x) * self.network(x / per_sample(s, x), t)


def target_std(schedule: Schedule, kind: str, std: float, t: Tensor) -> Tensor:
    """r, the target's standard deviation at t; shape of t."""
    a, b = row(kind, *schedule.kernel(t))
    return torch.hypot(std * a, b)


class Toy:
    """What the loop needs of a toy recipe: a network, its loss at a step, and a denoiser for previews."""

    def __init__(self, recipe: ToyRecipe) -> None:
        self.recipe = recipe
        self.world = worlds.make(recipe.world)
        self.schedule = schedules.SCHEDULES[recipe.schedule]()
        self.std = standard_deviation(self.world)
        self.shape = (self.world.dim,)

    def network(self) -> UnitVariance:
        inner = Network(dim=self.world.dim, width=self.recipe.width, depth=self.recipe.depth)
        return UnitVariance(inner, self.schedule, self.recipe.parameterization, self.std)

    def facts(self) -> dict[str, Any]:
        """Nothing but the recipe: a world is its name."""
        return {}

    def batch(self, n: int, streams: Streams) -> Batch:
        """n draws of the world, [n, 2]."""
        return (self.world.sample(n, streams("data", "cpu")).float(),)

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """The mean weighted squared error, times and noise drawn from `streams`."""
        (x0,), kind = batch, self.recipe.parameterization
        n, device = len(x0), x0.device
        eps = torch.randn(x0.shape, generator=streams("noise"), device=device)
        shift = torch.rand((), generator=streams("time"), dtype=torch.float64, device=device)
        strata = (torch.arange(n, dtype=torch.float64, device=device) / n + shift) % 1
        t = (self.recipe.earliest + (self.recipe.latest - self.recipe.earliest) * strata).float()
        if self.recipe.weights != "unit":
            return denoising_loss(network, self.schedule, x0, t, eps, kind, self.recipe.weights).mean()
        losses = denoising_loss(network, self.schedule, x0, t, eps, kind, "plain")
        return (losses / target_std(self.schedule, kind, self.std, t) ** 2).mean()

    def denoiser(self, network: nn.Module) -> model.Denoiser:
        return model.denoiser(network, self.schedule, self.recipe.parameterization)

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """samples.png in the run folder: what the network generates so far, beside the truth."""
        return draw.samples(folder, self.recipe, self.schedule, self.std, self.denoiser(network))


def standard_deviation(world: worlds.World) -> float:
    """Root mean square, over coordinates, of the data's standard deviations: the posterior's where nothing is seen."""
    covariance = world.posterior_covariance(torch.zeros(1, world.dim, dtype=torch.float64), alpha=0.0, sigma=1.0)[0]
    return math.sqrt(covariance.trace().item() / world.dim)


def build(recipe: Recipe) -> Toy:
    """The family's entry, for the loop."""
    if not isinstance(recipe, ToyRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected a ToyRecipe")
    return Toy(recipe)
