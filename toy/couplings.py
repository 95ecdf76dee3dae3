r"""Couplings of two laws, and the bridges they make: what flow matching starts from.

Gaussians on a line, x_0 ~ N(mu, v) and x_1 ~ N(nu, w), of covariance c:

    independent     c = 0
    optimal         c = sqrt(v w), the least E(x_1 - x_0)^2
    Schroedinger    c = (sqrt(4 v w + s^4) - s^2)/2       of all couplings the nearest, in KL, to x_1 = x_0 + N(0, s^2)

The last one's joint density is f(x_0) g(x_1) exp(-(x_1 - x_0)^2/(2 s^2)), so that its inverse covariance has -1/s^2 off
the diagonal (Bunne et al. 2023, eq. 6; Peyre & Cuturi 2019, rem. 4.25); it goes from optimal, s = 0, to independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from toy.mixture import Mixture

Batch = Float[Tensor, "batch dim"]


@dataclass(frozen=True)
class GaussianPair:
    """x_0 ~ N(mu, v) and x_1 ~ N(nu, w), jointly Gaussian, of covariance c."""

    mu: float
    v: float
    nu: float
    w: float
    c: float = 0.0

    def __post_init__(self) -> None:
        if not (self.v > 0 and self.w > 0 and abs(self.c) <= math.sqrt(self.v * self.w) * (1 + 1e-12)):
            raise ValueError(f"variances {self.v}, {self.w} > 0 and |c| <= their geometric mean wanted, c = {self.c}")

    def optimal(self) -> GaussianPair:
        """The same two laws at the least cost."""
        return GaussianPair(self.mu, self.v, self.nu, self.w, math.sqrt(self.v * self.w))

    def schroedinger(self, s: float) -> GaussianPair:
        """The same two laws, coupled by a Brownian motion of variance s^2 at time 1."""
        if not s >= 0:
            raise ValueError(f"s is a standard deviation: expected s >= 0, got {s}")
        product = self.v * self.w
        return GaussianPair(self.mu, self.v, self.nu, self.w, 2 * product / (math.sqrt(4 * product + s**4) + s**2))

    @property
    def correlation(self) -> float:
        return self.c / math.sqrt(self.v * self.w)

    @property
    def cost(self) -> float:
        """E(x_1 - x_0)^2."""
        return (self.mu - self.nu) ** 2 + self.v + self.w - 2 * self.c

    @property
    def covariance(self) -> Float[Tensor, "2 2"]:
        return torch.tensor([[self.v, self.c], [self.c, self.w]], dtype=torch.float64)

    def sample(self, n: int, generator: Generator) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """n draws of (x_0, x_1)."""
        first, second = torch.randn(2, n, generator=generator, dtype=torch.float64)
        r = max(-1.0, min(1.0, self.correlation))
        x_1 = self.nu + math.sqrt(self.w) * (r * first + math.sqrt(1 - r**2) * second)
        return self.mu + math.sqrt(self.v) * first, x_1


def assigned(x_0: Batch, x_1: Batch) -> Batch:
    """x_1 in the order that makes the mean of |x_1 - x_0|^2 least: optimal transport within the batch."""
    if x_0.shape != x_1.shape or x_0.ndim != 2:
        raise ValueError(f"two batches of one shape [batch, dim] wanted, got {list(x_0.shape)} and {list(x_1.shape)}")
    _, order = linear_sum_assignment((torch.cdist(x_0, x_1) ** 2).numpy())
    return x_1[torch.from_numpy(order)]


class Interpolant:
    """x_t = (1 - t) x_0 + t x_1 + s sqrt(t (1 - t)) z between two isotropic mixtures, x_0, x_1 and z independent.

    Given the components k of x_0 and l of x_1 all is Gaussian: the law of x_t is a mixture over the pairs (k, l), and
    E[x_0 | x_t] and E[x_1 | x_t] are in closed form.
    """

    def __init__(self, start: Mixture, end: Mixture, s: float) -> None:
        if not (start.isotropic and end.isotropic and start.dim == end.dim and s >= 0):
            raise ValueError(
                f"two isotropic mixtures of one dimension and s >= 0 wanted, got {start.name}, {end.name}, {s}"
            )
        self.s, self.dim = s, start.dim
        k, l = (
            index.flatten()
            for index in torch.meshgrid(*(torch.arange(len(m.weights)) for m in (start, end)), indexing="ij")
        )
        self.weights = start.weights[k] * end.weights[l]
        self.means = (start.means[k], end.means[l])
        self.variances = (start.variances[k, :1], end.variances[l, :1])

    def _moments(self, t: float) -> tuple[Tensor, Tensor]:
        """Means [pairs, dim] and variances [pairs, 1] of x_t."""
        (m_0, m_1), (v_0, v_1) = self.means, self.variances
        return (1 - t) * m_0 + t * m_1, (1 - t) ** 2 * v_0 + t**2 * v_1 + self.s**2 * t * (1 - t)

    def law(self, t: float) -> Mixture:
        """The law of x_t, as a world."""
        mean, variance = self._moments(t)
        return Mixture(f"interpolant at {t:g}", self.weights, mean, variance[:, 0])

    def ends(self, x: Batch, t: float) -> tuple[Batch, Batch]:
        """E[x_0 | x_t = x] and E[x_1 | x_t = x]."""
        mean, variance = self._moments(t)
        away = x[:, None] - mean
        log_p = self.weights.log() - (away**2).sum(-1) / (2 * variance[:, 0]) - self.dim / 2 * variance[:, 0].log()
        share = torch.softmax(log_p, 1)[..., None]
        x_0, x_1 = (
            (share * (m + weight * v / variance * away)).sum(1)
            for m, v, weight in zip(self.means, self.variances, (1 - t, t), strict=True)
        )
        return x_0, x_1
