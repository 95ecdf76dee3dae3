"""Samples from a trained denoiser: the prior, the grid and the table that suit data of a given standard deviation.

**Grid.** Equal steps in arctan(r^p), r = sigma / (alpha std). With p = 1 these are equal angles: a DDIM step through an
angle h shrinks a Gaussian of that standard deviation by cos(h), n steps by the product of the cosines, which is nearest
to 1 for equal angles. p = 0.8 gives a few of the steps to lower noise, where structure finer than std is made.

**End.** No network is called before the time from which it was trained: all that it says there is made up. The last
step jumps to the data, and begins at the last time of the equal steps; with many steps that would be too early, and it
begins at the span's earliest time, the steps up to there being equal again. Where there are no data at t = 0 to jump to
(ve and edm: sigma(0) > 0), samples are states at the earliest time, with its noise.

**Start.** Even so 50 steps shrink a Gaussian by 2.5 %, (pi/2)^2 / (2 * 50), and an energy distance at 20,000 samples
sees half a percent. A deterministic table is linear in x and D, so what it does to a Gaussian is one number, its gain.
A start from N(0, (std / gain)^2 I) instead of N(0, sigma^2 I) makes the generated variance of Gaussian data exact at
any number of steps, and takes the leading error from all other data. With many steps it is the plain prior.
Stochastic tables forget their start: they get the law of x_t itself, N(0, (alpha^2 std^2 + sigma^2) I).

**Other grids** are those of papers (diffusion/grids.py), and start as there: from the law of x_t, whatever the table.

| grid                        | equal distances in          | source                                            |
| --------------------------- | --------------------------- | ------------------------------------------------- |
| angle                       | arctan(r^0.8)               | above                                             |
| uniform                     | t                           | Lipman et al. 2023                                |
| log_snr                     | log(alpha/sigma)            | Lu et al. 2022                                    |
| karras                      | (sigma/alpha)^(1/7)         | Karras et al. 2022, eq. 5                         |
| leading, linspace, trailing | k, of a chain's times k/T   | DDIM, Improved DDPM, DPM-Solver; Lin et al. 2024  |

The last row is for networks trained on a chain; with all its steps the three are one, and the solver `ddpm` is DDPM's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Generator, Tensor

from diffusion import grids, sampling, solvers
from diffusion.schedules import Schedule
from diffusion.types import Denoiser
from training.times import Span, chain_steps

Told = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Sampler:
    """A table of coefficients, and the standard deviation of the noise it starts from."""

    coefficients: solvers.Table
    spread: float
    told: Told | None = None  # of how many samples, at every call of a denoiser


CHUNK = 2**18  # numbers moved at once
COPIES = 3  # of all samples, as float32: in their parts, put together, and as what they are turned into
MOST_STEPS = 2**16  # n^(-1), a first-order method's error, is here down to n^(1/2) 2^-24, the rounding of n float32
POWER = 0.8


def angle_grid(schedule: Schedule, n: int, start: float, std: float, end: float = 0.0, power: float = POWER) -> Tensor:
    """n + 1 times from start to end at equal distances in arctan((sigma / (alpha std))^power), float64."""
    ends = torch.tensor([start, end], dtype=torch.float64)
    ratio = schedule.sigma(ends) / (std * schedule.alpha(ends))
    first, last = torch.atan(ratio**power).tolist()
    inner = torch.tan(torch.linspace(first, last, n + 1, dtype=torch.float64)[1:-1]) ** (1 / power)
    return torch.cat([ends[:1], schedule.time_of(-torch.log(std * inner)), ends[1:]])


SPACED: dict[str, Callable[[Schedule, int, float, float, float], Tensor]] = {  # n steps from a start to an end
    "angle": lambda schedule, n, start, end, std: angle_grid(schedule, n, start, std, end),
    "uniform": lambda schedule, n, start, end, std: grids.uniform(n, start, end),
    "log_snr": lambda schedule, n, start, end, std: grids.log_snr(schedule, n, start, end),
    "karras": lambda schedule, n, start, end, std: grids.karras(schedule, n, start, end),
}
JUMPING = ("log_snr", "karras")  # whose papers go to the earliest time, however few the steps, and jump from there
OF_A_CHAIN = {"leading": grids.leading, "linspace": grids.linspace, "trailing": grids.trailing}
OURS, GRIDS = "angle", (*SPACED, *OF_A_CHAIN)


def grid(schedule: Schedule, n: int, span: Span, std: float, name: str = OURS) -> Tensor:
    """n + 1 times, float64, from the span's latest to the data's; all but the last lie in the span.

    The last is 0; in a schedule without data at 0 it is the span's earliest. ValueError for a grid that there is not,
    or that is no grid of this span.
    """
    if name in OF_A_CHAIN:
        return _of_a_chain(name, n, span)
    if name not in SPACED:
        raise ValueError(f"grid {name!r} is unknown; there are {', '.join(GRIDS)}")
    spaced, data = SPACED[name], torch.zeros(1, dtype=torch.float64)
    if schedule.sigma(data) > 0:
        return spaced(schedule, n, span.latest, span.earliest, std)
    if n == 1:
        return torch.tensor([span.latest, 0.0], dtype=torch.float64)
    if name not in JUMPING:
        times = spaced(schedule, n, span.latest, 0.0, std)
        if times[-2] >= span.earliest:
            return times
    return torch.cat([spaced(schedule, n - 1, span.latest, span.earliest, std), data])


def _of_a_chain(name: str, n: int, span: Span) -> Tensor:
    """n of the times k/T that a network was trained at, and 0."""
    if span.T is None:
        raise ValueError(f"grid {name!r} is one of a chain, and this is no run of times = 'chain': take another grid")
    first, last = chain_steps(span.earliest, span.latest, span.T)
    steps = (OF_A_CHAIN[name](last, n) * last).round()  # of the chain that ends at `last`
    if steps[-2] < first:
        raise ValueError(f"grid {name!r} visits step {steps[-2]:.0f}, and training began at {first}: take another grid")
    return steps / span.T


def start_std(schedule: Schedule, coefficients: solvers.Table, std: float) -> float:
    """Standard deviation to start from so that Gaussian data of standard deviation `std` come out right (see above)."""
    if coefficients.noise.any():
        return law_std(schedule, coefficients.times[0], std)

    def gaussian(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return alpha * std**2 / (alpha**2 * std**2 + sigma**2) * x

    gain = sampling.sample(gaussian, coefficients, torch.ones(1, dtype=torch.float64)).item()
    return law_std(schedule, coefficients.times[-1], std) / gain


def law_std(schedule: Schedule, t: Tensor, std: float) -> float:
    """Standard deviation of x_t, of data of standard deviation `std`."""
    return math.hypot(std * schedule.alpha(t).item(), schedule.sigma(t).item())


def table(
    schedule: Schedule, solver: str, steps: int, span: Span, std: float, grid_name: str = OURS, **options: Any
) -> solvers.Table:
    """The solver's coefficients for `steps` steps over a span to the data; ValueError for an unknown solver or grid."""
    if solver not in solvers.SOLVERS:
        raise ValueError(f"solver {solver!r} is unknown; there are {', '.join(solvers.SOLVERS)}")
    check_steps(steps)
    return solvers.SOLVERS[solver](schedule, grid(schedule, steps, span, std, grid_name), **options)


def sampler(
    schedule: Schedule, solver: str, steps: int, span: Span, std: float, grid_name: str = OURS, **options: Any
) -> Sampler:
    """That table, started as suits data of standard deviation `std`."""
    coefficients = table(schedule, solver, steps, span, std, grid_name, **options)
    if grid_name == OURS:
        return Sampler(coefficients, start_std(schedule, coefficients, std))
    return Sampler(coefficients, law_std(schedule, coefficients.times[0], std))


@torch.no_grad()
def draw(denoiser: Denoiser, sampler: Sampler, shape: tuple[int, ...], n: int, generator: Generator) -> Tensor:
    """n samples of the given shape, float32 [n, *shape], on the generator's device."""
    check_number(n, shape)
    denoiser = watched(denoiser, sampler.told) if sampler.told else denoiser
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


def watched(denoiser: Denoiser, told: Told) -> Denoiser:
    """The denoiser; told(number of samples) after every call."""

    def answer(x: Tensor, t: Tensor) -> Tensor:
        denoised = denoiser(x, t)
        told(len(x))
        return denoised

    return answer


def check_steps(steps: int) -> None:
    """ValueError for a number of steps that no table has."""
    if type(steps) is not int or steps < 1:
        raise ValueError(f"steps = {steps!r}: expected an integer >= 1")
    if steps > MOST_STEPS:
        raise ValueError(
            f"steps = {steps}: expected at most {MOST_STEPS}, beyond which rounding to float32 costs more than finer "
            f"steps gain"
        )


def check_number(n: int, shape: tuple[int, ...]) -> None:
    """ValueError for a number of samples that is none, or whose samples are more than memory can hold."""
    if type(n) is not int or n < 1:
        raise ValueError(f"n = {n!r}: expected an integer >= 1")
    needed, there = COPIES * torch.float32.itemsize * n * math.prod(shape), psutil.virtual_memory().available
    if needed > there:
        raise ValueError(
            f"n = {n}: samples of {' x '.join(map(str, shape))} numbers take {needed / 2**30:.3g} GiB while they are "
            f"drawn, and {there / 2**30:.3g} GiB are free: draw at most {there * n // needed} at once"
        )


def sizes(n: int, shape: tuple[int, ...]) -> list[int]:
    """n samples of the given shape, in parts that are moved at once."""
    most = max(1, CHUNK // math.prod(shape))
    return [min(most, n - start) for start in range(0, n, most)]
