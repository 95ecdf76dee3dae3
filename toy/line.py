r"""Laws on the line, exactly: distribution functions, quantiles, Wasserstein distances.

For a mixture in one dimension, noised to x_t = alpha x_0 + sigma eps, with v_k = alpha^2 lambda_k + sigma^2 and
z_k = (x - alpha m_k)/sqrt(v_k),

    F(x)                       = sum_k w_k Phi(z_k)
    int_(-oo)^x y dF(y)        = sum_k w_k (alpha m_k Phi(z_k) - sqrt(v_k) phi(z_k))
    int_(-oo)^x y^2 dF(y)      = sum_k w_k ((alpha^2 m_k^2 + v_k) Phi(z_k) - sqrt(v_k) (x + alpha m_k) phi(z_k))

The increasing map Q_q(F_p(x)) of quantile to quantile is the optimal one from p to q for every convex cost, so that

    W_p^p = int_0^1 |Q_p(u) - Q_q(u)|^p du

(Villani 2003, theorem 2.18). A sample's quantiles are its order statistics, each on a cell of length 1/n, where the
integral follows from the moments above. alpha and sigma are one level for all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from toy.mixture import Mixture
from toy.world import at_level

Law = tuple[Mixture, float, float]  # a world at the level (alpha, sigma)
BISECTIONS = 200  # at most


def distribution(world: Mixture, x: Float[Tensor, " n"], alpha: float = 1.0, sigma: float = 0.0) -> Float[Tensor, " n"]:
    """F(x) = P(x_t <= x)."""
    return _moments(world, x, alpha, sigma)[0]


def quantile(world: Mixture, u: Float[Tensor, " n"], alpha: float = 1.0, sigma: float = 0.0) -> Float[Tensor, " n"]:
    """The x with F(x) = u, 0 <= u <= 1, to the last digits of float64; infinite at the ends."""
    u = u.double()
    if not bool(((u >= 0) & (u <= 1)).all()):
        raise ValueError(f"quantiles are asked for at probabilities in [0, 1], got {u.flatten().tolist()[:4]}")
    low, high = _reach(world, alpha, sigma)
    x = _root(lambda x: distribution(world, x, alpha, sigma) - u, torch.full_like(u, low), torch.full_like(u, high))
    return torch.where(u == 0, -torch.inf, torch.where(u == 1, torch.inf, x))


def to_law(world: Mixture, x: Float[Tensor, "n 1"], power: int = 2, alpha: float = 1.0, sigma: float = 0.0) -> float:
    """W_power^power of a sample to the world's law, power 1 or 2; exact, and never 0 for a finite sample."""
    x64, _, _ = at_level(x, 1.0, 0.0, 1)
    if power not in (1, 2) or not len(x64) or not bool(x64.isfinite().all()):
        raise ValueError(f"power is 1 or 2, a sample has finite rows; got power {power}, {len(x64)} rows")
    points = x64[:, 0].sort().values
    n = len(points)
    edges = quantile(world, torch.arange(n + 1, dtype=torch.float64) / n, alpha, sigma)
    mass, first, second = _moments(world, edges, alpha, sigma)
    if power == 2:
        return float((points**2 / n - 2 * points * first.diff() + second.diff()).sum())
    split = torch.minimum(torch.maximum(points, edges[:-1]), edges[1:])
    middle, inner, _ = _moments(world, split, alpha, sigma)
    left = points * (middle - mass[:-1]) - (inner - first[:-1])
    right = (first[1:] - inner) - points * (mass[1:] - middle)
    return float((left + right).sum())


def between_samples(x: Float[Tensor, "n 1"], y: Float[Tensor, "n 1"], power: int = 2) -> float:
    """W_power^power of two samples of one size: the mean distance^power of their order statistics."""
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 1:
        raise ValueError(f"two samples of one shape [n, 1] wanted, got {list(x.shape)} and {list(y.shape)}")
    return float((x.double().sort(0).values - y.double().sort(0).values).abs().pow(power).mean())


def between_laws(p: Law, q: Law, power: int = 2, steps: int = 4000) -> float:
    """W_power^power of two laws (world, alpha, sigma).

    The pairs (x, y) of equal quantiles lie on a rising curve, parametrised by s = x + y, on which neither x nor y ever
    runs faster than s. There du/ds = p(x) q(y)/(p(x) + q(y)), smooth and decaying: the trapezoid rule.
    """
    (low, high), (low_q, high_q) = _reach(*p), _reach(*q)
    s = torch.linspace(low + low_q, high + high_q, steps, dtype=torch.float64)
    start, end = (torch.full_like(s, value) for value in (low + low_q - high_q, high + high_q - low_q))
    x = _root(lambda x: distribution(p[0], x, *p[1:]) - distribution(q[0], s - x, *q[1:]), start, end)
    y = s - x
    at_x, at_y = (law[0].log_density(z[:, None], *law[1:]) for law, z in ((p, x), (q, y)))
    rate = torch.exp(at_x + at_y - torch.logaddexp(at_x, at_y))
    return float(torch.trapezoid(rate * (x - y).abs() ** power, s))


def _root(rising: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Where a rising function changes sign, by bisection down to neighbouring float64."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if bool(((middle == low) | (middle == high)).all()):
            break
        below = rising(middle) < 0
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def _reach(world: Mixture, alpha: float, sigma: float) -> tuple[float, float]:
    """An interval beyond which the law has less than 1e-22 of its mass."""
    _, mean, std = _components(world, torch.zeros(1, dtype=torch.float64), alpha, sigma)
    return float((mean - 10 * std).min()), float((mean + 10 * std).max())


def _components(world: Mixture, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """x [n, 1], alpha m_k and sqrt(v_k) [1, K]."""
    if world.dim != 1:
        raise ValueError(f"a law on the line wanted, {world.name} has {world.dim} dimensions")
    x, a, s = at_level(x[:, None], alpha, sigma, 1)
    return x, a * world.means.T, (a**2 * world.variances.T + s**2).sqrt()


def _moments(world: Mixture, x: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """The integrals of 1, y and y^2 over y <= x."""
    x, mean, std = _components(world, x, alpha, sigma)
    z = (x - mean) / std
    below, at = torch.special.ndtr(z), torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    edge = torch.where(at == 0, 0.0, (x + mean) * at)
    parts = below, mean * below - std * at, (mean**2 + std**2) * below - std * edge
    mass, first, second = (part @ world.weights for part in parts)
    return mass, first, second
