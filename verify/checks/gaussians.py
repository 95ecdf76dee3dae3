r"""Gaussians drawn, conditioned and mixed: what the closed forms say, against draws and against other closed forms.

    (x - posterior_mean(y)) / posterior_std ~ N(0, 1), independent of y

is a pivot of a joint Gaussian (x, y), whichever way the pair was made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from diffusion import gaussian
from toy.mixture import Mixture
from toy.world import World
from verify.checks.chains import noise, scalar
from verify.statistics import exact, location, regression, scale
from verify.worlds import FALSE_FAIL, Outcome, world_check

N = 20_000


def _one(world: World) -> tuple[Tensor, Tensor]:
    """Mean [dim] and covariance [dim, dim] of a Gaussian world."""
    assert isinstance(world, Mixture)
    basis = torch.eye(world.dim, dtype=torch.float64) if world.basis is None else world.basis[0]
    return world.means[0], basis @ torch.diag(world.variances[0]) @ basis.T


def _residual(r: Tensor, known: Tensor) -> Iterator[Outcome]:
    yield "variance", scale(r.numpy(), FALSE_FAIL)
    yield "mean", location(r.numpy(), FALSE_FAIL)
    yield "independent of what is known", regression(r.numpy(), known.numpy(), FALSE_FAIL)


@world_check("gaussian.conditioning", worlds=("gaussian",))
def measurement(world: World, generator: Generator) -> Iterator[Outcome]:
    """x given y = a x + b + noise, for each coordinate of the data."""
    mean, covariance = _one(world)
    x, v = world.sample(N, generator), covariance.diagonal()
    a, b, w = scalar(0.7), scalar(0.2), scalar(0.5)
    y = a * x + b + w.sqrt() * noise(x, generator)
    for i in range(world.dim):
        posterior = gaussian.posterior_mean(y[:, i], mean[i], v[i], a, b, w)
        r = (x[:, i] - posterior) / gaussian.posterior_variance(v[i], a, w).sqrt()
        for name, verdict in _residual(r, y[:, i] - y[:, i].mean()):
            yield f"coordinate {i}, {name}", verdict


@world_check("gaussian.conditioning_block", worlds=("gaussian",))
def coordinates(world: World, generator: Generator) -> Iterator[Outcome]:
    """One coordinate of the data given the other."""
    mean, C = _one(world)
    x = world.sample(N, generator)
    predicted = gaussian.conditional_mean(x[:, 1], mean[0], mean[1], C[0, 1], C[1, 1])
    r = (x[:, 0] - predicted) / gaussian.conditional_variance(C[0, 0], C[0, 1], C[1, 1]).sqrt()
    yield from _residual(r, x[:, 1] - mean[1])


@world_check("gaussian.mixture_score", "score.mixture", worlds=("gaussian",))
def mixture(world: World, generator: Generator) -> Iterator[Outcome]:
    """The score of a mixture of two, against the gradient of its log density."""
    q, mu, v, nu, w = (scalar(c) for c in (0.3, -0.5, 0.4, 1.0, 0.1))
    pair = Mixture("pair", torch.stack([q, 1 - q]), torch.stack([mu, nu])[:, None], torch.stack([v, w]))
    with torch.enable_grad():
        x = (2 * world.sample(500, generator)[:, :1]).requires_grad_()
        (gradient,) = torch.autograd.grad(pair.log_density(x).sum(), x)
    error = (gaussian.mixture_score(x.detach()[:, 0], q, mu, v, nu, w) - gradient[:, 0]).abs().max()
    yield "score", exact(float(error / gradient.abs().max()), 1e-12, "relative error of the score")


@world_check("gaussian.density", "gaussian.entropy", worlds=("gaussian",))
def surprise(world: World, generator: Generator) -> Iterator[Outcome]:
    """Each coordinate's mean surprise is its entropy: twice the excess of n draws is a chi-square less n."""
    mean, covariance = _one(world)
    x, v = world.sample(N, generator), covariance.diagonal()
    for i in range(world.dim):
        nats = -gaussian.log_normal(x[:, i], mean[i], v[i])
        squares = 2 * (nats - gaussian.entropy(v[i])) + 1  # (x - mean)^2 / variance, if both formulas are right
        yield f"coordinate {i}", scale(squares.clamp(min=0).sqrt().numpy(), FALSE_FAIL)
        yield f"coordinate {i}, least surprise", exact(float(-squares.min()), 1e-12, "nats")
