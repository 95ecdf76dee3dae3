"""A uniform law on an interval, noised: y ~ U[a, b], x = alpha y + sigma eps, eps ~ N(0, 1).

In s = (x - alpha y)/sigma the posterior of y is a standard normal cut off to [lo, hi], lo = (x - alpha b)/sigma and
hi = (x - alpha a)/sigma. By symmetry let x lie at or right of the middle (lo + hi >= 0). With the half width
rho = (hi - lo)/2 = alpha (b - a)/(2 sigma),

    I      = int_lo^hi exp(-s^2/2) ds = sqrt(pi/2) (erfc(lo/sqrt 2) - erfc(hi/sqrt 2))
    p(x)   = I / (2 rho sqrt(2 pi) sigma)
    E[s]   = (exp(-lo^2/2) - exp(-hi^2/2)) / I
    Var[s] = 1 + (lo exp(-lo^2/2) - hi exp(-hi^2/2)) / I - E[s]^2
    y      = b - (b - a) g,    g = (s - lo)/(2 rho) in [0, 1]

(Johnson, Kotz & Balakrishnan 1994, section 13.10.1), and the score of p is -E[s]/sigma.

The differences cancel where the cut-off normal is nearly uniform (alpha -> 0, or a narrow interval), and far outside,
where it is nearly exponential and I underflows. There the same integrals are taken over g by Gauss-Legendre quadrature,
on the part of [0, 1] that carries all but exp(-40) of the mass. All its terms are positive: the relative error stays
near 1e-14, and exp(-lo^2/2) is kept as a logarithm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

FAR = 8.0  # lo from which on the closed forms lose digits
NODES, WEIGHTS = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(32))


@dataclass(frozen=True)
class Noised:
    """log p(x); E[y | x]; Var[y | x]; E[s | x], the score being -E[s]/sigma. All of one shape."""

    log_density: Tensor
    mean: Tensor
    variance: Tensor
    mean_s: Tensor


def noised(x: Tensor, alpha: Tensor, sigma: Tensor, a: Tensor, b: Tensor) -> Noised:
    """What x says about y ~ U[a, b]; sigma > 0. Arguments broadcast together, float64."""
    x, alpha, sigma, a, b = torch.broadcast_tensors(x, alpha, sigma, a, b)
    side = torch.where(x < alpha * (a + b) / 2, -1.0, 1.0).to(x)  # mirrored where x lies left of the middle
    near = torch.where(side > 0, b, a)
    lo = side * (x - alpha * near) / sigma
    rho = alpha * (b - a) / (2 * sigma)

    smooth = (rho * (1 + lo + rho) < 1) | (lo > FAR)
    parts = [torch.empty_like(lo) for _ in range(4)]
    for where, rule in ((smooth, _by_quadrature), (~smooth, _in_closed_form)):
        for part, value in zip(parts, rule(lo[where], rho[where]), strict=True):
            part[where] = value
    log_mass, mean_s, mean_g, variance_g = parts
    return Noised(
        log_density=log_mass - (math.sqrt(2 * math.pi) * sigma).log(),
        mean=near - side * (b - a) * mean_g,
        variance=(b - a) ** 2 * variance_g,
        mean_s=side * mean_s,
    )


def _in_closed_form(lo: Tensor, rho: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """log(I / 2 rho), E[s], E[g], Var[g] by the formulas above."""
    hi = lo + 2 * rho
    mass = math.sqrt(math.pi / 2) * (torch.erfc(lo / math.sqrt(2)) - torch.erfc(hi / math.sqrt(2)))
    at_lo, at_hi = torch.exp(-(lo**2) / 2), torch.exp(-(hi**2) / 2)
    mean_s = (at_lo - at_hi) / mass
    variance_s = 1 + (lo * at_lo - hi * at_hi) / mass - mean_s**2
    return (mass / (2 * rho)).log(), mean_s, (mean_s - lo) / (2 * rho), variance_s / (2 * rho) ** 2


def _by_quadrature(lo: Tensor, rho: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same by quadrature of exp(-(s^2 - lo^2)/2) = exp(-2 rho g (lo + rho g)) over g in [0, reach]."""
    reach = (20 / (rho * lo.clamp(min=1)).detach()).clamp(max=1)
    g = reach[..., None] * (1 + NODES.to(lo)) / 2
    lo_, rho_ = lo[..., None], rho[..., None]
    mass = reach[..., None] / 2 * WEIGHTS.to(lo) * torch.exp(-2 * rho_ * g * (lo_ + rho_ * g))
    total = mass.sum(-1)
    share = mass / total[..., None]
    mean_g = (share * g).sum(-1)
    variance_g = (share * (g - mean_g[..., None]) ** 2).sum(-1)
    return total.log() - lo**2 / 2, lo + 2 * rho * mean_g, mean_g, variance_g
