"""The energy distance of a sample to a world's exact law, in units of what a perfect sampler gets.

For a sample x_1 .. x_N and the law P of a world, with Y, Y' ~ P independent,

    V = 2/N sum_i E|x_i - Y| - 1/N^2 sum_ij |x_i - x_j| - E|Y - Y'|

(Szekely & Rizzo 2013, eq. 2.1 with one of the two samples replaced by its law). It is the V-statistic: the zeros i = j
are counted and the divisor is N^2, so V is the exact energy distance between the empirical measure and P, and V >= 0.
For x_i drawn independently from a law Q,

    E V = D^2(Q, P) + E|X - X'|/N,    X, X' ~ Q independent,

since E sum_ij |x_i - x_j| = N (N-1) E|X - X'|. A perfect sampler (Q = P) has the exact mean E|Y - Y'|/N, not 0; V in
units of it is the `energy_ratio`: mean 1 for a perfect sampler, 1 + N D^2/E|Y - Y'| (nearly) for another.
One draw tells little (V is a weighted sum of chi-squares; of a perfect sampler's ratios one in five exceeds 1.3), so the
ratio is reported as a mean over independent sets with its 95 % limits.

E|x - Y| and E|Y - Y'| in closed form:

- isotropic Gaussians in the plane (Rice's mean): |x - Y| for Y ~ N(m, s^2 I), with q = |x - m|^2/(4 s^2), has the mean
  s sqrt(pi/2) exp(-q) ((1 + 2q) I_0(q) + 2q I_1(q)); the differences Y - Y' are again such a mixture.
- squares: F(u, v) = u v r/3 + u^3/6 asinh(v/u) + v^3/6 asinh(u/v), r = sqrt(u^2 + v^2), has d^2F/du dv = r, so the
  integral of |x - y| over a rectangle is a difference of F at its corners. G(u, v) = r (3 u^2 v^2 - u^4 - v^4)/60
  + (u^4 v asinh(v/u) + v^4 u asinh(u/v))/24 has d^4G/du^2 dv^2 = r, for the double integral over two rectangles.
- points: sums.

Any other Gaussian mixture: E|z| = 1/(2 sqrt pi) int_0^inf (1 - E exp(-s |z|^2)) s^(-3/2) ds by the trapezoid rule in
log s, whose relative error here is below 1e-10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import singledispatch

import torch
from torch import Tensor

from toy.checkerboard import Checkerboard
from toy.estimate import Estimate, estimate
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World, at_level

CHUNK = 2**21  # numbers held at once in a pairwise sum


@singledispatch
def mean_distance(world: World, x: Tensor) -> Tensor:
    """E|x - Y| for each row of x, Y ~ world; float64 [batch]."""
    raise TypeError(f"no closed form of E|x - Y| for {type(world).__name__}: register one with mean_distance.register")


@singledispatch
def mean_self_distance(world: World) -> float:
    """E|Y - Y'|, Y and Y' ~ world independent."""
    raise TypeError(
        f"no closed form of E|Y - Y'| for {type(world).__name__}: register one with mean_self_distance.register"
    )


def energy_distance(world: World, x: Tensor) -> float:
    """V of the sample x [N, dim] to the world's law."""
    x, _, _ = at_level(x, 1.0, 0.0, world.dim)
    if not len(x) or not bool(x.isfinite().all()):
        raise ValueError(f"a sample needs finite rows, got {int((~x.isfinite()).any(-1).sum())} of {len(x)} not finite")
    return 2 * float(mean_distance(world, x).mean()) - _pair_sum(x) / len(x) ** 2 - mean_self_distance(world)


def perfect_mean(world: World, n: int) -> float:
    """The exact mean of V for n independent draws of the law itself: E|Y - Y'|/n."""
    return mean_self_distance(world) / n


def energy_ratio(world: World, sets: Iterable[Tensor]) -> Estimate:
    """Mean and 95 % limits of V/perfect_mean over independent sample sets [N, dim]: 1 for a perfect sampler."""
    return estimate(energy_distance(world, x) / perfect_mean(world, len(x)) for x in sets)


def _pair_sum(x: Tensor) -> float:
    """sum_ij |x_i - x_j|: each block of rows with itself once, with the rows after it twice."""
    total, rows = 0.0, max(1, CHUNK // x.numel())
    for start in range(0, len(x), rows):
        block = x[start : start + rows]
        total += float(_distances(block, block).sum()) + 2 * float(_distances(block, x[start + rows :]).sum())
    return total


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|, from differences (a product of matrices would cancel), coordinate by coordinate (cache)."""
    square = torch.zeros(len(x), len(y), dtype=x.dtype, device=x.device)
    for x_d, y_d in zip(x.T, y.T, strict=True):
        difference = x_d[:, None] - y_d
        square.addcmul_(difference, difference)
    return square.sqrt_()


@mean_distance.register
def _(world: Mixture, x: Tensor) -> Tensor:
    x, _, _ = at_level(x, 1.0, 0.0, world.dim)
    rows = max(1, CHUNK // world.means.numel())
    if world.isotropic and world.dim == 2:
        parts = [
            _rice(_distances(part, world.means.to(x)), world.variances[:, 0].to(x).sqrt()) for part in x.split(rows)
        ]
    else:
        parts = [_mean_norm(*world.offsets(part)) for part in x.split(rows)]
    return torch.cat(parts) @ world.weights.to(x)


@mean_self_distance.register
def _(world: Mixture) -> float:
    return float(mean_distance(world.difference(), torch.zeros(1, world.dim, dtype=torch.float64)))


@mean_distance.register
def _(world: Checkerboard, x: Tensor) -> Tensor:
    x, _, _ = at_level(x, 1.0, 0.0, world.dim)
    u, v = ((world.edges.to(x) - x_d[:, None]) for x_d in x.T)
    return torch.einsum("ij,bij->b", _corners(world).to(x), _F(u[:, :, None], v[:, None, :])) / world.area


@mean_self_distance.register
def _(world: Checkerboard) -> float:
    gaps, corner = world.edges[:, None] - world.edges, _corners(world)
    G = _G(gaps[:, :, None, None], gaps[None, None])  # [i, i', j, j']
    return float(torch.einsum("ij,kl,ikjl->", corner, corner, G)) / world.area**2


@mean_distance.register
def _(world: Points, x: Tensor) -> Tensor:
    x, _, _ = at_level(x, 1.0, 0.0, world.dim)
    rows = max(1, CHUNK // world.points.numel())
    return torch.cat([_distances(part, world.points.to(x)).mean(-1) for part in x.split(rows)])


@mean_self_distance.register
def _(world: Points) -> float:
    return _pair_sum(world.points) / len(world.points) ** 2


def _rice(distance: Tensor, std: Tensor) -> Tensor:
    """E|z| for z in the plane, z ~ N(m, std^2 I), |m| = distance."""
    q = (distance / (2 * std)) ** 2
    bessel = (1 + 2 * q) * torch.special.i0e(q) + 2 * q * torch.special.i1e(q)
    return std * math.sqrt(math.pi / 2) * bessel


def _mean_norm(z: Tensor, variances: Tensor) -> Tensor:
    """E|Z| for Z ~ N(z, diag variances), both [..., dim]: E exp(-s |Z|^2) = prod exp(-s z^2/(1 + 2 s v))/sqrt(1 + 2 s v)."""
    scale = (z**2 + variances).sum(-1)  # E|Z|^2: the integrand falls off as exp(-|log(s scale)|/2) on both sides
    h, total = 0.25, torch.zeros_like(scale)
    for k in range(-240, 241):
        s = (math.exp(k * h) / scale)[..., None]
        log_mgf = -(s * z**2 / (1 + 2 * s * variances) + 0.5 * torch.log1p(2 * s * variances)).sum(-1)
        total -= torch.expm1(log_mgf) / s[..., 0].sqrt()
    return h * total / (2 * math.sqrt(math.pi))


def _corners(world: Checkerboard) -> Tensor:
    """Weights of the lattice's corners in a sum over the filled squares: the mixed second difference of `filled`."""
    return torch.nn.functional.pad(world.filled.double(), (1, 1, 1, 1)).diff(dim=0).diff(dim=1)


def _F(u: Tensor, v: Tensor) -> Tensor:
    return u * v * torch.hypot(u, v) / 3 + u**2 * _wing(u, v) / 6 + v**2 * _wing(v, u) / 6


def _G(u: Tensor, v: Tensor) -> Tensor:
    r = torch.hypot(u, v)
    return r * (3 * u**2 * v**2 - u**4 - v**4) / 60 + (u**3 * v * _wing(u, v) + v**3 * u * _wing(v, u)) / 24


def _wing(u: Tensor, v: Tensor) -> Tensor:
    """u asinh(v/|u|), 0 at u = 0."""
    return torch.where(u == 0, 0.0, u * torch.asinh(v / torch.where(u == 0, 1.0, u.abs())))
