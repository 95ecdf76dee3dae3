r"""Densities moved by a map, and averages of finitely many draws: closed forms against draws and enumeration.

Slopes and determinants are automatic derivatives of the inverse map: what is held against draws of y = g(x) is the
density p(x) |det dx/dy|, summed over the branches of the inverse, and nothing else.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from toy.frechet import frechet
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World
from verify.statistics import exact, mean_zero, scale, uniform
from verify.worlds import FALSE_FAIL, Outcome, world_check

N = 20_000
PAIRS, EACH = 20_000, 12  # FIDs drawn, and points in each of their samples
CELLS = 20_000  # of a line

Map = Callable[[Tensor], Tensor]


def moved(log_density: Map, inverse: Map, y: Tensor) -> Tensor:
    """p(x) |det dx/dy| at x = inverse(y), y [n, dim]; `inverse` takes and gives one point [dim]."""
    jacobian = torch.func.vmap(torch.func.jacrev(inverse))(y)  # type: ignore[no-untyped-call]
    return log_density(torch.func.vmap(inverse)(y)).exp() * torch.linalg.det(jacobian).abs()


def first_coordinate(world: World) -> tuple[Tensor, Tensor]:
    """Mean and variance of a Gaussian world's first coordinate."""
    assert isinstance(world, Mixture)
    basis = torch.eye(world.dim, dtype=torch.float64) if world.basis is None else world.basis[0]
    return world.means[0, 0], ((basis * world.variances[0]) @ basis.T)[0, 0]


# ------------------------------------------------------------------------------------------------ change of variables

Branch = tuple[str, Map, tuple[Map, ...], bool]  # y = g(x), branches of the inverse, is x < 0 one of them
LINE: tuple[Branch, ...] = (
    ("rising, sinh x", torch.sinh, (torch.asinh,), False),
    ("falling, exp(-x)", lambda x: torch.exp(-x), (lambda y: -torch.log(y),), False),
    ("not monotone, x^2", torch.square, (torch.sqrt, lambda y: -torch.sqrt(y)), True),
)


def distribution_function(
    g: Map, branches: Sequence[Map], log_density: Map, low: float, high: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(y, P(Y < y)) at the images of equal cells of [low, high], where g is monotone: the midpoint rule."""
    edges = torch.linspace(low, high, CELLS + 1, dtype=torch.float64)
    y, middle = g(edges), g((edges[1:] + edges[:-1]) / 2)
    density = sum(moved(log_density, inverse, middle[:, None]) for inverse in branches)
    mass = density * y.diff().abs()
    if y[0] > y[-1]:
        y, mass = y.flip(0), mass.flip(0)
    return y.numpy(), np.concatenate([[0.0], mass.cumsum(0).numpy()])


@world_check("probability.change_of_variables_1d", "probability.square", worlds=("gaussian",))
def moved_line(world: World, generator: Generator) -> Iterator[Outcome]:
    """The integral of the moved density is 1, and up to y = g(x) it is the probability transform of a draw."""
    mean, variance = first_coordinate(world)
    law = torch.distributions.Normal(mean, variance.sqrt())
    reach = float(8.5 * variance.sqrt())
    for name, g, branches, folded in LINE:
        low, high = (0.0, abs(float(mean)) + reach) if folded else (float(mean) - reach, float(mean) + reach)
        y, total = distribution_function(g, branches, lambda x: law.log_prob(x[:, 0]), low, high)
        yield f"{name}, mass", exact(abs(total[-1] - 1), 1e-6, "probability")
        drawn = g(world.sample(N, generator)[:, 0]).numpy()
        yield f"{name}, law", uniform(np.interp(drawn, y, total).clip(0, 1), FALSE_FAIL)


def bend(x: Tensor) -> Tensor:
    """One coordinate, then the other, turned over: y_1 = x_1 exp(0.3 sin x_2), y_2 = -x_2 (1 + 0.3 y_1^2)."""
    first = x[..., 0] * torch.exp(0.3 * torch.sin(x[..., 1]))
    return torch.stack((first, -x[..., 1] * (1 + 0.3 * first**2)), -1)


def unbend(y: Tensor) -> Tensor:
    """Its inverse, the other way round."""
    second = -y[..., 1] / (1 + 0.3 * y[..., 0] ** 2)
    return torch.stack((y[..., 0] * torch.exp(-0.3 * torch.sin(second)), second), -1)


@world_check("probability.change_of_variables_2d", worlds=("ring",))
def moved_plane(world: World, generator: Generator) -> Iterator[Outcome]:
    """The moved density integrates to 1, and on each side of a crossing of two lines to the share of draws there."""
    drawn, h = bend(world.sample(N, generator)), 0.025
    across, up = (torch.arange(-reach + h / 2, reach, h, dtype=torch.float64) for reach in (2.5, 4.5))
    y, crossing = torch.cartesian_prod(across, up), torch.tensor([0.7, -0.8], dtype=torch.float64)
    mass = moved(world.log_density, unbend, y) * h**2
    yield "mass", exact(abs(float(mass.sum()) - 1), 1e-9, "probability")
    for signs in itertools.product((1, -1), repeat=2):
        inside, there = (((at - crossing) * torch.tensor(signs) > 0).all(-1) for at in (y, drawn))
        p = mass[inside].sum()
        verdict = mean_zero((there.double() - p).numpy(), (p * (1 - p)).expand(N).numpy(), FALSE_FAIL)
        yield f"corner {signs}", verdict


# ------------------------------------------------------------------------------------------------ estimates from draws


@world_check("probability.monte_carlo_error", worlds=("points",))
def mean_of_three(world: World, generator: Generator) -> Iterator[Outcome]:
    """The mean squared error of the mean of N = 1 .. 4 points, over all draws there are, is the variance over N."""
    assert isinstance(world, Points)
    points = world.points.double() ** 3  # not symmetric about its mean
    variance = points.var(0, correction=0)
    for n in range(1, 5):
        draws = torch.cartesian_prod(*[torch.arange(len(points))] * n).reshape(-1, n)
        error = ((points[draws].mean(1) - points.mean(0)) ** 2).mean(0)
        yield f"N = {n}", exact(float((error * n / variance - 1).abs().max()), 1e-12, "relative error")


@world_check("probability.monte_carlo_error", worlds=("gaussian",))
def error_of_the_mean(world: World, generator: Generator) -> Iterator[Outcome]:
    """The mean of 5 Gaussian draws, over sqrt(v/5), is standard normal: sqrt(v/4) would be seen."""
    mean, variance = first_coordinate(world)
    means = world.sample(5 * 40_000, generator)[:, 0].reshape(-1, 5).mean(1)
    yield "scale", scale(((means - mean) / (variance / 5).sqrt()).numpy(), FALSE_FAIL)


def std_moment(k: int, n: int) -> float:
    """E (s/sqrt(v))^k of the standard deviation s of n + 1 draws: n s^2/v is chi-square with n degrees of freedom."""
    return math.exp(k / 2 * math.log(2 / n) + math.lgamma((n + k) / 2) - math.lgamma(n / 2))


def expected_fid(n: int) -> float:
    """E FID/v of two samples of n + 1, in full: 2/(n + 1) + 2 (1 - (E s)^2/v)."""
    return 2 / (n + 1) + 2 * (1 - std_moment(1, n) ** 2)


@world_check(
    "probability.fid_bias",
    "probability.fid_positive",
    "probability.sample_variance",
    "probability.chi_square",
    worlds=("gaussian",),
)
def frechet_of_one_law(world: World, generator: Generator) -> Iterator[Outcome]:
    """Two samples of 12 of one coordinate: their FID's mean is the one in full, which is 3 v/n up to O(1/n^2)."""
    _, variance = first_coordinate(world)
    x = world.sample(2 * PAIRS * EACH, generator)[:, 0].reshape(2, PAIRS, EACH, 1)
    n = EACH - 1
    fids = frechet(x[0], x[1]) / variance
    fourth = 2 * std_moment(4, n) - 8 * std_moment(3, n) * std_moment(1, n) + 6
    spread = 8 / EACH**2 + fourth - (2 * (1 - std_moment(1, n) ** 2)) ** 2
    away = (fids - expected_fid(n)).numpy()
    yield "mean FID", mean_zero(away, np.full(PAIRS, spread), FALSE_FAIL)
    seconds = [n**2 * (expected_fid(n) - 3 / n) for n in (10, 30, 100, 300, 1000)]  # from -33/8 to 87/8, by the claim
    yield "what follows 3 v/n", exact(max(abs(c - 27 / 8) for c in seconds), 60 / 8, "v/n^2")
