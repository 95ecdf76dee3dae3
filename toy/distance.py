"""Mean distances, exactly: from a point to a law, within a law, within a sample.

For Y, Y' ~ a world's law, independent, E|x - Y| and E|Y - Y'| in closed form:

- isotropic Gaussians in the plane (Rice's mean): |x - Y| for Y ~ N(m, s^2 I), with q = |x - m|^2/(4 s^2), has the mean
  s sqrt(pi/2) exp(-q) ((1 + 2q) I_0(q) + 2q I_1(q)); the differences Y - Y' are again such a mixture.
- squares: F(u, v) = u v r/3 + u^3/6 asinh(v/u) + v^3/6 asinh(u/v), r = sqrt(u^2 + v^2), has d^2F/du dv = r, so the
  integral of |x - y| over a rectangle is a difference of F at its corners. G(u, v) = r (3 u^2 v^2 - u^4 - v^4)/60
  + (u^4 v asinh(v/u) + v^4 u asinh(u/v))/24 has d^4G/du^2 dv^2 = r, for the double integral over two rectangles.
- points: sums.

Any other Gaussian mixture: E|z| = 1/(2 sqrt pi) int_0^inf (1 - E exp(-s |z|^2)) s^(-3/2) ds by the trapezoid rule in
log s; its relative error is below 1e-10.

Within a sample, the sums over pairs s_i = sum_j |x_i - x_j|. On a line one sort gives them all. In the plane
|z| = pi/2 times the mean of |theta . z| over directions theta, and equally spaced ones make that mean converge fast: a
hundred sorts replace n^2 distances. Angles are doubled until the new ones alone agree with the old ones to AGREE (the
mean of both is closer than that). Few points, more dimensions, or no agreement: distances are summed one by one.
"""

from __future__ import annotations

import math
from functools import singledispatch

import torch
from jaxtyping import Float
from torch import Tensor

from toy.checkerboard import Checkerboard
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World, at_level

CHUNK = 2**21  # numbers held at once in a pairwise sum
FEW = 2048  # rows up to which all distances are cheaper than sorts
ANGLES, MOST_ANGLES = 64, 2048
AGREE = 1e-7  # relative


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


def distance_sums(x: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
    """s_i = sum_j |x_i - x_j|, float64."""
    x, _, _ = at_level(x, 1.0, 0.0, x.shape[-1])
    if x.shape[1] == 1:
        return _line_sums(x[:, 0])
    if x.shape[1] == 2 and len(x) > FEW:
        angles, sums = ANGLES, _direction_sums(x, ANGLES, 0.0)
        while angles < MOST_ANGLES:
            between = _direction_sums(x, angles, 0.5)
            apart, size = float((between - sums).sum()), float(sums.sum())
            angles, sums = 2 * angles, (sums + between) / 2
            if abs(apart) <= AGREE * size:
                return sums
    return torch.cat([_distances(rows, x).sum(-1) for rows in x.split(max(1, CHUNK // len(x)))])


def _direction_sums(x: Tensor, count: int, shift: float) -> Tensor:
    """pi/2 times the mean of sum_j |theta . (x_i - x_j)| over the angles pi (k + shift)/count, k < count."""
    angle = math.pi * (torch.arange(count, dtype=torch.float64) + shift) / count
    sums = torch.zeros_like(x[:, 0])
    for theta in torch.stack((angle.cos(), angle.sin()), -1).to(x):
        sums += math.pi / 2 / count * _line_sums(x @ theta)
    return sums


def _line_sums(z: Tensor) -> Tensor:
    """sum_j |z_i - z_j| from one sort: the z below count as z_i - z_j, those above as z_j - z_i."""
    ordered, order = z.sort()
    below = torch.arange(len(z), dtype=z.dtype, device=z.device)
    sum_below = ordered.cumsum(0) - ordered
    sums = ordered * (2 * below - len(z)) + ordered.sum() - 2 * sum_below
    return torch.empty_like(z).scatter_(0, order, sums)


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
    return float(distance_sums(world.points).mean()) / len(world.points)


def _rice(distance: Tensor, std: Tensor) -> Tensor:
    """E|z| for z in the plane, z ~ N(m, std^2 I), |m| = distance."""
    q = (distance / (2 * std)) ** 2
    bessel = (1 + 2 * q) * torch.special.i0e(q) + 2 * q * torch.special.i1e(q)
    return std * math.sqrt(math.pi / 2) * bessel


def _mean_norm(z: Tensor, variances: Tensor) -> Tensor:
    """E|Z| for Z ~ N(z, diag v), both [..., dim]: E exp(-s |Z|^2) = prod exp(-s z^2/(1 + 2 s v))/sqrt(1 + 2 s v)."""
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
