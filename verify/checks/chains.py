r"""Markov chains and their reversal: forward marginals, posteriors, the eta family.

The invariant behind most of these has no discretisation error: draw x_0 from the world, x_t ~ q(x_t | x_0), and
x_s ~ q_eta(x_s | x_t, x_0) with the true x_0. Then x_s given x_0 is N(alpha_s x_0, sigma_s^2) exactly, so

    r = (x_s - alpha_s x_0) / sigma_s ~ N(0, I)

is a pivot in every world, whatever its law. With an exact posterior draw x_0 ~ p(x_0 | x_t) instead, x_s ~ p_s.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from diffusion import ddim, ddpm
from diffusion.schedules import cosine
from diffusion.solvers import kappa
from toy.world import World
from verify.statistics import covariance, location, regression, same_law, scale
from verify.worlds import FALSE_FAIL, Outcome, world_check

N = 20_000
EVERYWHERE = ("gaussian", "ring", "grid", "two_moons", "checkerboard", "points")


def pivots(residual: Tensor, x_0: Tensor) -> Iterator[Outcome]:
    """What standard normal residuals, independent of the data, must satisfy."""
    r = residual.numpy()
    yield "variance", scale(r, FALSE_FAIL)
    yield "mean", location(r, FALSE_FAIL)
    yield "covariance", covariance(r, FALSE_FAIL)
    yield "independent of x_0", regression(r, x_0.numpy(), FALSE_FAIL)


def noise(x: Tensor, generator: Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@world_check("ddpm.forward", worlds=EVERYWHERE)
def forward_marginal(world: World, generator: Generator) -> Iterator[Outcome]:
    """Six unequal steps of the chain have the marginal that alpha_bar says."""
    x_0 = world.sample(N, generator)
    x, alpha_bar = x_0, scalar(1.0)
    for beta in (0.01, 0.05, 0.1, 0.2, 0.3, 0.4):
        alpha_bar_s, beta_t = alpha_bar, scalar(beta)
        x = ddpm.step_mean(x, beta_t) + beta_t.sqrt() * noise(x, generator)
        alpha_bar = alpha_bar_s * (1 - beta_t)
    mean = ddpm.forward_mean(x_0, alpha_bar_s, beta_t)
    yield from pivots((x - mean) / ddpm.forward_variance(alpha_bar_s, beta_t).sqrt(), x_0)


@world_check("ddpm.posterior", worlds=EVERYWHERE)
def posterior_step(world: World, generator: Generator) -> Iterator[Outcome]:
    """x_s drawn from DDPM's posterior has q's marginal, and steps forward to x_t as q does."""
    alpha_bar_s, beta_t = scalar(0.6), scalar(0.3)
    x_0 = world.sample(N, generator)
    mean_t, variance_t = ddpm.forward_mean(x_0, alpha_bar_s, beta_t), ddpm.forward_variance(alpha_bar_s, beta_t)
    x_t = mean_t + variance_t.sqrt() * noise(x_0, generator)
    spread = ddpm.posterior_variance(alpha_bar_s, beta_t).sqrt()
    x_s = ddpm.posterior_mean(x_t, x_0, alpha_bar_s, beta_t) + spread * noise(x_0, generator)
    yield from pivots((x_s - alpha_bar_s.sqrt() * x_0) / (1 - alpha_bar_s).sqrt(), x_0)
    forward = (x_t - ddpm.step_mean(x_s, beta_t)) / beta_t.sqrt()
    yield "forward step variance", scale(forward.numpy(), FALSE_FAIL)
    yield "forward step independent of x_s", regression(forward.numpy(), x_s.numpy(), FALSE_FAIL)


def _eta_step(x_t: Tensor, x_0: Tensor, t: Tensor, s: Tensor, eta: float, generator: Generator) -> Tensor:
    """x_s ~ q_eta(x_s | x_t, x_0) on the cosine schedule."""
    schedule, e = cosine(), scalar(eta)
    a_t, s_t, a_s, s_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    k = kappa(a_t, s_t, a_s, s_s)
    mean = ddim.mean(x_t, x_0, a_t, s_t, a_s, s_s, k, e)
    return mean + ddim.std(s_s, k, e) * noise(x_t, generator)


@world_check("ddim.eta", worlds=EVERYWHERE)
def eta_family_marginals(world: World, generator: Generator) -> Iterator[Outcome]:
    """For every eta the step from the true x_0 keeps q's marginal; two skipping steps in a row as well."""
    schedule = cosine()
    times = [scalar(t) for t in (0.8, 0.5, 0.3)]
    for eta in (0.0, 0.5, 1.0):
        x_0 = world.sample(N, generator)
        x = schedule.alpha(times[0]) * x_0 + schedule.sigma(times[0]) * noise(x_0, generator)
        for t, s in itertools.pairwise(times):
            x = _eta_step(x, x_0, t, s, eta, generator)
        residual = (x - schedule.alpha(times[-1]) * x_0) / schedule.sigma(times[-1])
        for name, verdict in pivots(residual, x_0):
            yield f"eta = {eta:g}, {name}", verdict


@world_check("ddim.eta", "ddpm.posterior", worlds=EVERYWHERE)
def posterior_draw_marginals(world: World, generator: Generator) -> Iterator[Outcome]:
    """With x_0 drawn from the exact posterior given x_t, x_s has the law of the noised data."""
    schedule, t, s = cosine(), scalar(0.7), scalar(0.35)
    for eta in (0.0, 1.0):
        _, x_t = world.noised(N, float(schedule.alpha(t)), float(schedule.sigma(t)), generator)
        x_0 = world.posterior_sample(x_t, float(schedule.alpha(t)), float(schedule.sigma(t)), generator)
        x_s = _eta_step(x_t, x_0, t, s, eta, generator)
        _, fresh = world.noised(N, float(schedule.alpha(s)), float(schedule.sigma(s)), generator)
        yield f"eta = {eta:g}, law of x_s", same_law(x_s.numpy(), fresh.numpy(), FALSE_FAIL)
