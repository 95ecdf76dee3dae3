r"""At which times a network learns: laws of t on [earliest, latest], each drawn through its quantile function.

A batch's n uniform numbers are stratified: the i-th lies in one of n equal parts of (0, 1), with one shift for all
(Kingma et al. 2021, appendix I.1). Each by itself is uniform, and the gradient has less noise.

| law          | what is drawn                      | source                         |
| ------------ | ---------------------------------- | ------------------------------ |
| uniform      | t                                  | Kingma et al. 2021             |
| chain        | t in {1/T, ..., 1}, T = 1000       | Ho et al. 2020, algorithm 1    |
| lognormal    | log(sigma/alpha) ~ N(mean, std^2)  | Karras et al. 2022, table 1    |
| logit_normal | log(t/(1 - t)) ~ N(mean, std^2)    | Esser et al. 2024, section 3.1 |

The two normal laws have their papers' mean and std unless a recipe says others: -1.2 and 1.2, 0 and 1. They are cut off
at the ends, exactly: nothing piles up there. A weight of diffusion/losses.py other than `plain` is stated for uniform
times; under another law the density multiplies it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from diffusion.schedules import Schedule
from training.recipes.denoising import DenoisingRecipe
from training.recipes.noised import NoisedRecipe

T = 1000
NORMAL = {"lognormal": (-1.2, 1.2), "logit_normal": (0.0, 1.0)}  # mean and std in the laws' papers
SLACK = 1e-9  # of T t: what is a whole number but for its rounding counts as one


@dataclass(frozen=True)
class Span:
    """The times at which a denoiser can be asked: from `earliest` to `latest`, where its samplers start.

    T   the number of steps of the chain that it was trained on, at t = k/T alone; None: at all times between.
    """

    earliest: float
    latest: float
    T: int | None = None


def span(recipe: NoisedRecipe) -> Span:
    """The times at which a recipe trains its network."""
    if isinstance(recipe, DenoisingRecipe) and recipe.times == "chain":
        return Span(chain_steps(recipe.earliest, recipe.latest)[0] / T, recipe.latest, T)
    return Span(recipe.earliest, recipe.latest)


def chain_steps(earliest: float, latest: float, T: int = T) -> tuple[int, int]:
    """(first, last) of the steps k of a chain that belong to an interval: each end is rounded up to a step."""
    return math.ceil(T * earliest - SLACK), math.ceil(T * latest - SLACK)


def strata(n: int, generator: Generator) -> Tensor:
    """n stratified uniform numbers in [0, 1), float64, on the generator's device."""
    shift = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
    return (torch.arange(n, dtype=torch.float64, device=generator.device) / n + shift) % 1


def draw(recipe: DenoisingRecipe, schedule: Schedule, n: int, generator: Generator) -> Tensor:
    """n times by the recipe's law, stratified: float64 [n]."""
    ends = torch.tensor([recipe.earliest, recipe.latest], dtype=torch.float64, device=generator.device)
    return quantile(recipe.times, strata(n, generator), schedule, ends, *normal(recipe))


def normal(recipe: DenoisingRecipe) -> tuple[float, float]:
    """(mean, std) of a recipe's normal law; where it has none, numbers without a meaning."""
    mean, std = NORMAL.get(recipe.times, (0.0, 1.0))
    if recipe.times_mean is not None:
        mean = recipe.times_mean
    if recipe.times_std is not None:
        std = recipe.times_std
    return mean, std


def quantile(law: str, u: Tensor, schedule: Schedule, ends: Tensor, mean: float, std: float) -> Tensor:
    """The times between two ends at which the law's distribution function takes the values u, float64."""
    earliest, latest = ends
    if law == "uniform":
        return earliest + (latest - earliest) * u
    if law == "chain":
        first, last = chain_steps(*ends.tolist())
        return (first + torch.floor(u * (last - first + 1))) / T
    if law == "lognormal":
        z = _normal(u, -schedule.half_log_snr(ends), mean, std)
        return schedule.time_of(-z)
    if law == "logit_normal":
        return torch.sigmoid(_normal(u, torch.logit(ends), mean, std))
    raise ValueError(f"times = {law!r}: expected uniform, chain, lognormal or logit_normal")


def _normal(u: Tensor, ends: Tensor, mean: float, std: float) -> Tensor:
    """Quantiles of N(mean, std^2) between two ends."""
    low, high = torch.special.ndtr((ends - mean) / std)
    return (mean + std * torch.special.ndtri(low + (high - low) * u)).clamp(*ends.tolist())
