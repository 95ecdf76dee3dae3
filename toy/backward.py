r"""Gaussian data drawn back with a wrong score: the model's law, its KL and what bounds it, exactly.

Coordinates are independent, of mean 0: data of variances `data`, noised p_t of variances v = alpha^2 data + sigma^2,
whose score is -x/v. The model's is wrong by one share everywhere, s = -(1 + wrong) x/v. Its law q_t is drawn back from
t = 1 with drift f x - (1 + lambda^2)/2 g^2 s and noise lambda g, and has variances V,

    V' = 2 V (f + (1 + lambda^2)/2 g^2 (1 + wrong)/v) - lambda^2 g^2,

lambda = 1 the reversed SDE, 0 the probability-flow ODE. The loss is int (g^2/2) E_p |s - score_p|^2 dt. All in nats,
added over coordinates, for schedules with g finite on [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffusion import gaussian
from diffusion.schedules import Schedule

Variances = Float[Tensor, " d"]
NODES, WEIGHTS = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(60))


def over(function: Callable[[Tensor], Tensor], start: float, end: float) -> Tensor:
    """int function(t) dt, of a smooth function of times [n] to [n, ...]: Gauss-Legendre, 60 nodes."""
    half = (end - start) / 2
    return half * torch.tensordot(WEIGHTS, function((start + end) / 2 + half * NODES), dims=1)


def noised(data: Variances, schedule: Schedule, t: Float[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """v at times t."""
    return schedule.alpha(t)[:, None] ** 2 * data + schedule.sigma(t)[:, None] ** 2


def kl(v: Float[Tensor, "*n d"], V: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
    """KL(N(0, v) || N(0, V)), added over coordinates."""
    return gaussian.kl(torch.zeros_like(v), v, torch.zeros_like(v), V).sum(-1)


def model_rate(V: Variances, v: Variances, f: Tensor, g2: Tensor, noise: float, wrong: float) -> Variances:
    """V', with noise lambda = `noise`."""
    return 2 * V * (f + (1 + noise**2) / 2 * g2 * (1 + wrong) / v) - noise**2 * g2


def drawn_back(
    data: Variances, schedule: Schedule, noise: float, wrong: float, steps: int = 400
) -> tuple[Float[Tensor, " steps+1"], Float[Tensor, "steps+1 d"]]:
    """Times from 1 to 0, and the model's variances V at each, starting right at t = 1: Runge-Kutta."""
    grid = torch.linspace(1, 0, 2 * steps + 1, dtype=torch.float64)
    f, g2, v = schedule.drift(grid), schedule.diffusion2(grid), noised(data, schedule, grid)

    def rate(k: int, V: Tensor) -> Tensor:
        return model_rate(V, v[k], f[k], g2[k], noise, wrong)

    h, path = -1 / steps, [v[0]]
    for k in range(0, 2 * steps, 2):
        V = path[-1]
        k1 = rate(k, V)
        k2 = rate(k + 1, V + h / 2 * k1)
        k3 = rate(k + 1, V + h / 2 * k2)
        path.append(V + h / 6 * (k1 + 2 * k2 + 2 * k3 + rate(k + 2, V + h * k3)))
    return grid[::2], torch.stack(path)


def weighted_loss(data: Variances, schedule: Schedule, wrong: float, start: float = 0.0) -> float:
    """int from `start` to 1 of (g^2/2) E_p |s - score_p|^2 dt."""
    return float(
        over(lambda t: schedule.diffusion2(t) / 2 * (wrong**2 / noised(data, schedule, t)).sum(-1), start, 1.0)
    )


class Sampled(NamedTuple):
    """KL(data || sampler), and the three terms of its bound."""

    nats: float
    prior: float
    score: float
    discretisation: float

    @property
    def bound(self) -> float:
        return self.prior + self.score + self.discretisation


def sampled(data: Variances, schedule: Schedule, steps: int, wrong: float) -> Sampled:
    """The reversed SDE from N(0, I) in equal steps of t, its score kept over each step, all else exact.

    Prior: KL(p_1 || N(0, I)). Score and discretisation: int g^2 E e^2 dt, int g^2 E d^2 dt, e the model's error at the
    step's start and d the change of the true score since (sde.sampler_error). For schedules with sigma(1) about 1.
    """
    grid = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    alpha, v = schedule.alpha(grid), noised(data, schedule, grid)
    V, score, changed = torch.ones_like(data), 0.0, 0.0
    prior = float(kl(v[0], V))
    for k in range(steps):
        t, s = float(grid[k]), float(grid[k + 1])
        score += float(over(schedule.diffusion2, s, t) * (wrong**2 / v[k]).sum())
        changed += float(over(_change(data, schedule, alpha[k], v[k]), s, t))
        pushed, noise = carried(schedule, s, t)
        V = (alpha[k + 1] / alpha[k] - pushed * (1 + wrong) / v[k]) ** 2 * V + noise
    return Sampled(float(kl(data, V)), prior, score, changed)


def carried(schedule: Schedule, s: float, t: float) -> tuple[Tensor, Tensor]:
    """int_s^t g^2 alpha_s/alpha_r dr, and with the ratio squared: what drift and noise at r have become at s."""
    end = schedule.alpha(torch.tensor(s, dtype=torch.float64))

    def power(n: int) -> Tensor:
        return over(lambda r: schedule.diffusion2(r) * (end / schedule.alpha(r)) ** n, s, t)

    return power(1), power(2)


def _change(data: Variances, schedule: Schedule, alpha_t: Tensor, v_t: Tensor) -> Callable[[Tensor], Tensor]:
    """g^2 E |score_p(x_r, r) - score_p(x_t, t)|^2 at times r <= t: E x_r x_t = alpha_t/alpha_r v_r."""

    def at(r: Tensor) -> Tensor:
        ratio = alpha_t / schedule.alpha(r)[:, None]
        return schedule.diffusion2(r) * (1 / noised(data, schedule, r) + (1 - 2 * ratio) / v_t).sum(-1)

    return at
