"""Samples from a trained denoiser: the prior, the grid and the table that suit data of a given standard deviation.

**Grid.** Equal steps in arctan(r^p), r = sigma / (alpha std). With p = 1 these are equal angles: a DDIM step through an
angle h shrinks a Gaussian of that standard deviation by cos(h), n steps by the product of the cosines, which is nearest
to 1 for equal angles. p = 0.8 gives a few of the steps to lower noise, where structure finer than std is made.

**Start.** Even so 50 steps shrink a Gaussian by 2.5 %, (pi/2)^2 / (2 * 50), and an energy distance at 20,000 samples
sees half a percent. A deterministic table is linear in x and D, so what it does to a Gaussian is one number, its gain.
A start from N(0, (std / gain)^2 I) instead of N(0, sigma^2 I) makes the generated variance of Gaussian data exact at
any number of steps, and takes the leading error from all other data. With many steps it is the plain prior.
Stochastic tables forget their start: they get the law of x_t itself, N(0, (alpha^2 std^2 + sigma^2) I).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from diffusion import sampling, solvers
from diffusion.schedules import Schedule
from diffusion.types import Denoiser


@dataclass(frozen=True, eq=False)
class Sampler:
    """A table of coefficients, and the standard deviation of the noise it starts from."""

    coefficients: solvers.Table
    spread: float


CHUNK = 2**18  # numbers moved at once
POWER = 0.8


def angle_grid(schedule: Schedule, n: int, start: float, std: float, end: float = 0.0, power: float = POWER) -> Tensor:
    """n + 1 times from start to end at equal distances in arctan((sigma / (alpha std))^power), float64."""
    ends = torch.tensor([start, end], dtype=torch.float64)
    ratio = schedule.sigma(ends) / (std * schedule.alpha(ends))
    first, last = torch.atan(ratio**power).tolist()
    inner = torch.tan(torch.linspace(first, last, n + 1, dtype=torch.float64)[1:-1]) ** (1 / power)
    return torch.cat([ends[:1], schedule.time_of(-torch.log(std * inner)), ends[1:]])


def start_std(schedule: Schedule, coefficients: solvers.Table, std: float) -> float:
    """Standard deviation to start from so that Gaussian data of standard deviation `std` come out right (see above)."""
    start = coefficients.times[0]
    spread = math.hypot(std * schedule.alpha(start).item(), schedule.sigma(start).item())
    if coefficients.noise.any():
        return spread

    def gaussian(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return alpha * std**2 / (alpha**2 * std**2 + sigma**2) * x

    end = coefficients.times[-1]
    wanted = math.hypot(std * schedule.alpha(end).item(), schedule.sigma(end).item())
    return wanted / sampling.sample(gaussian, coefficients, torch.ones(1, dtype=torch.float64)).item()


def table(schedule: Schedule, solver: str, steps: int, start: float, std: float, **options: Any) -> solvers.Table:
    """The solver's coefficients for `steps` steps from time `start` to the data; ValueError for an unknown solver."""
    if solver not in solvers.SOLVERS:
        raise ValueError(f"solver {solver!r} is unknown; there are {', '.join(solvers.SOLVERS)}")
    if type(steps) is not int or steps < 1:
        raise ValueError(f"steps = {steps!r}: expected an integer >= 1")
    return solvers.SOLVERS[solver](schedule, angle_grid(schedule, steps, start, std), **options)


def sampler(schedule: Schedule, solver: str, steps: int, start: float, std: float, **options: Any) -> Sampler:
    """That table, started as suits data of standard deviation `std`."""
    coefficients = table(schedule, solver, steps, start, std, **options)
    return Sampler(coefficients, start_std(schedule, coefficients, std))


@torch.no_grad()
def draw(denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...], n: int, generator: Generator) -> Tensor:
    """n samples of the given shape, float32 [n, *shape], on the generator's device."""
    if type(n) is not int or n < 1:
        raise ValueError(f"n = {n!r}: expected an integer >= 1")
    noise = (torch.randn(size, *shape, generator=generator, device=generator.device) for size in sizes(n, shape))
    return torch.cat([sampling.sample(denoiser, sampler.coefficients, sampler.spread * z, generator) for z in noise])


def draw_told(
    denoiser: Callable[[Tensor | None], Denoiser], sampler: Sampler, shape: tuple[int, ...], n: int,
    generator: Generator, labels: Tensor | None,
) -> Tensor:  # fmt: skip
    """n samples by a denoiser of its labels, the i-th sample with the i-th of them, or by that of none."""
    parts = sizes(n, shape)
    told = [None] * len(parts) if labels is None else labels.split(parts)
    drawn = (draw(denoiser(part), sampler, shape, size, generator) for part, size in zip(told, parts, strict=True))
    return torch.cat(list(drawn))


def sizes(n: int, shape: tuple[int, ...]) -> list[int]:
    """n samples of the given shape, in parts that are moved at once."""
    most = max(1, CHUNK // math.prod(shape))
    return [min(most, n - start) for start in range(0, n, most)]
