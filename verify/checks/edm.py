r"""EDM's scales and steps: unit variances by enumeration, churn's law by an exact pivot, Heun's order in sigma.

Five points and Gauss-Hermite nodes are a law that can be summed over: "unit variance" is then a sum, not a sample.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Generator, Tensor

from diffusion import edm, solvers
from diffusion.grids import uniform
from diffusion.sampling import sample
from diffusion.schedules import Schedule
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World
from verify.checks.chains import noise, scalar
from verify.statistics import Verdict, exact, location, regression, scale
from verify.worlds import FALSE_FAIL, Outcome, world_check

N = 20_000
LEVELS = (0.002, 0.3, 1.0, 80.0)


def _enumerated(points: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """x_0, x and the probability of each pair, [pairs]."""
    u, w = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(4))
    x_0 = points.repeat_interleave(len(u))
    return x_0, x_0 + sigma * u.repeat(len(points)), (w / w.sum()).repeat(len(points)) / len(points)


def _variance(value: Tensor, probability: Tensor) -> float:
    return float(probability @ value**2 - (probability @ value) ** 2)


@world_check("edm.c_in", "edm.c_skip", "edm.c_out", "edm.loss_weight", worlds=("points",))
def unit_variance(world: World, generator: Generator) -> Iterator[Outcome]:
    """Input and target of the network have variance 1, a network of zeros has loss 1; no other skip has less to add."""
    assert isinstance(world, Points)
    points = world.points[:, 0] / 2  # sigma_data = 0.5, as EDM's
    data = math.sqrt(float(points.var(correction=0)))
    for level in LEVELS:
        sigma = scalar(level)
        x_0, x, probability = _enumerated(points, level)
        skip, out = edm.c_skip(sigma, data), edm.c_out(sigma, data)
        target = (x_0 - skip * x) / out
        started = edm.loss_weight(sigma, data) * (edm.preconditioned(_nothing, data)(x, sigma) - x_0) ** 2
        others = [_variance(x_0 - (skip + d) * x, probability) / float(out) ** 2 for d in (-1e-3, 1e-3)]
        yield f"input, sigma = {level}", exact(abs(_variance(edm.c_in(sigma, data) * x, probability) - 1), 1e-9, "1")
        yield f"target, sigma = {level}", exact(abs(_variance(target, probability) - 1), 1e-9, "1")
        yield f"loss of nothing, sigma = {level}", exact(abs(float(probability @ started) - 1), 1e-9, "1")
        yield f"other skips, sigma = {level}", exact(1 - min(others), 0.0, "variance")


def _nothing(x: Tensor, c_noise: Tensor) -> Tensor:
    return torch.zeros_like(x)


@world_check("edm.wiener", worlds=("gaussian",))
def linear_denoiser(world: World, generator: Generator) -> Iterator[Outcome]:
    """On Gaussian data c_skip is the denoiser and c_out^2 the posterior's variance, along each eigenvector."""
    assert isinstance(world, Mixture) and world.basis is not None
    for level in (0.1, 2.0):
        _, x = world.noised(50, 1.0, level, generator)
        away = (x - world.means[0]) @ world.basis[0]
        denoised = (world.denoiser(x, 1.0, level) - world.means[0]) @ world.basis[0]
        covariance = world.basis[0].T @ world.posterior_covariance(x[:1], 1.0, level)[0] @ world.basis[0]
        for i, data in enumerate(world.variances[0].sqrt().tolist()):
            error = (denoised[:, i] - edm.c_skip(scalar(level), data) * away[:, i]).abs().max()
            yield f"direction {i}, sigma = {level}", exact(float(error), 1e-12, "distance")
            spread = abs(float(covariance[i, i] / edm.c_out(scalar(level), data) ** 2) - 1)
            yield f"variance {i}, sigma = {level}", exact(spread, 1e-12, "relative")


@world_check("edm.churn", worlds=("ring",))
def churned(world: World, generator: Generator) -> Iterator[Outcome]:
    """Churned data are x_0 + sigma_hat eps, eps ~ N(0, I) independent of x_0; S_noise scales the added variance."""
    sigma, gamma = scalar(0.3), 0.4
    x_0 = world.sample(N, generator)
    for S_noise in (1.0, 1.2):
        x, sigma_hat = edm.churn(x_0 + sigma * noise(x_0, generator), sigma, gamma, generator, S_noise)
        variance = sigma**2 + (sigma_hat**2 - sigma**2) * S_noise**2
        residual = (x - x_0) / variance.sqrt()
        yield f"variance, S_noise = {S_noise}", scale(residual.numpy(), FALSE_FAIL)
        yield f"mean, S_noise = {S_noise}", location(residual.numpy(), FALSE_FAIL)
        yield f"independence, S_noise = {S_noise}", regression(residual.numpy(), x_0.numpy(), FALSE_FAIL)


def _linear_in_time(low: float, high: float) -> Schedule:
    """sigma = low + (high - low) t at alpha = 1: a step in t is EDM's step in sigma."""
    return Schedule(
        "sigma",
        alpha=torch.ones_like,
        sigma=lambda t: low + (high - low) * t,
        alpha_dot=torch.zeros_like,
        sigma_dot=lambda t: torch.full_like(t, high - low),
    )


def _missed(world: Mixture, times: Tensor, generator: Generator) -> float:
    """RMS distance, exact minus Heun, of Gaussian data carried from sigma(times[0]) to sigma(times[-1])."""
    schedule = _linear_in_time(0.2, 2.2)
    start, end = (float(schedule.sigma(t)) for t in (times[0], times[-1]))
    _, x = world.noised(64, 1.0, start, generator)
    basis = torch.eye(world.dim, dtype=x.dtype) if world.basis is None else world.basis[0]
    stretch = ((world.variances[0] + end**2) / (world.variances[0] + start**2)).sqrt()
    truth = world.means[0] + ((x - world.means[0]) @ basis * stretch) @ basis.T
    reached = sample(lambda y, t: world.denoiser(y, 1.0, float(schedule.sigma(t))), solvers.heun(schedule, times), x)
    return float((reached - truth).square().mean().sqrt())


@world_check("edm.heun_order", worlds=("gaussian",))
def heun_in_sigma(world: World, generator: Generator) -> Iterator[Outcome]:
    """On dx/dsigma = (x - D)/sigma: order 2 between fixed ends, order 3 over one step."""
    assert isinstance(world, Mixture)
    missed, seed = partial(_missed, world), generator.initial_seed()
    for name, order, grids in (
        ("global", 2, [uniform(n, 0.9, 0.1) for n in (64, 128)]),
        ("local", 3, [uniform(1, 0.6, 0.6 - h) for h in (2**-8, 2**-9)]),
    ):
        coarse, fine = (missed(grid, generator.manual_seed(seed)) for grid in grids)
        yield name, _order(coarse, fine, order)


def _order(coarse: float, fine: float, proved: int) -> Verdict:
    return exact(abs(math.log2(coarse / fine) - proved), 0.1, "order")
