"""The checkerboard: a uniform law on squares, exact at every noise level.

A square is a product of two intervals and Gaussian noise acts on each coordinate alone, so with the intervals' noised
densities A_i(x_1) and B_j(x_2) (interval.py) and F the set of filled squares (i, j),

    p_t(x)           = 1/|F| sum_(i,j) in F A_i(x_1) B_j(x_2)
    r_ij(x)          = A_i(x_1) B_j(x_2) / (|F| p_t(x))                    responsibilities
    E[x_0 | x]       = sum_ij r_ij (E_i[y | x_1], E_j[y | x_2])
    Cov[x_0 | x]     = sum_ij r_ij (diag(Var_i, Var_j) + deviations of the squares' means)

At sigma = 0 the limits sigma -> 0+ are taken: the posterior of x is the nearest point of the board (equal shares where
several squares are equally near); on the board the score is 0, off it infinite in the coordinates that point back.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool
from torch import Generator, Tensor

from toy.interval import Noised, noised
from toy.world import Level, World, at_level

BISECTIONS = 54  # halvings of an interval that exhaust float64


class Checkerboard(World):
    """Uniform on the filled squares of a board of side `width` about the origin; filled[i, j]: column i, row j."""

    dim = 2

    def __init__(self, name: str, filled: Bool[Tensor, "n n"], width: float) -> None:
        if filled.dtype != torch.bool or filled.ndim != 2 or filled.shape[0] != filled.shape[1] or not filled.any():
            raise ValueError(
                f"filled must be boolean, [n, n], with a square filled, got {filled.dtype} {[*filled.shape]}"
            )
        if not (width > 0 and math.isfinite(width)):
            raise ValueError(f"width must be positive, got {width}")
        self.name, self.filled, self.width = name, filled, width
        self.edges = torch.linspace(-width / 2, width / 2, len(filled) + 1, dtype=torch.float64)
        self.area = (width / len(filled)) ** 2 * int(filled.sum())

    def sample(self, n: int, generator: Generator) -> Tensor:
        squares = self.filled.nonzero()
        device = generator.device
        square = squares.to(device)[torch.randint(len(squares), (n,), generator=generator, device=device)]
        within = torch.rand(n, 2, generator=generator, dtype=torch.float64, device=device)
        return self.edges.to(device)[square] + self.width / len(self.filled) * within

    def log_density(self, x: Tensor, alpha: Level = 1.0, sigma: Level = 0.0) -> Tensor:
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        log_joint, seen = self._squares(x64, alpha, sigma)
        alpha = torch.where(sigma == 0, alpha, 1.0)
        on_board = (_average(log_joint, seen.mean) == x64 / alpha).all(-1)
        noiseless = torch.where(on_board, -math.log(self.area) - 2 * alpha[:, 0].log(), -math.inf)
        return torch.where(sigma[:, 0] == 0, noiseless, log_joint.flatten(1).logsumexp(-1)).to(x.dtype)

    def score(self, x: Tensor, alpha: Level = 1.0, sigma: Level = 0.0) -> Tensor:
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        log_joint, seen = self._squares(x64, alpha, sigma)
        back = _average(log_joint, seen.mean) - x64 / torch.where(sigma == 0, alpha, 1.0)
        noiseless = torch.where(back == 0, 0.0, back.sign() * math.inf)
        noisy = -_average(log_joint, seen.mean_s) / torch.where(sigma == 0, 1.0, sigma)
        return torch.where(sigma == 0, noiseless, noisy).to(x.dtype)

    def denoiser(self, x: Tensor, alpha: Level, sigma: Level) -> Tensor:
        log_joint, seen = self._squares(*at_level(x, alpha, sigma, self.dim))
        return _average(log_joint, seen.mean).to(x.dtype)

    def posterior_covariance(self, x: Tensor, alpha: Level, sigma: Level) -> Tensor:
        log_joint, seen = self._squares(*at_level(x, alpha, sigma, self.dim))
        within = torch.diag_embed(_average(log_joint, seen.variance))
        away = seen.mean - _average(log_joint, seen.mean)[..., None]  # [batch, axis, interval]
        r = _shares(log_joint)
        own = torch.einsum("bai,bai->ba", _by_axis(r), away**2)
        cross = torch.einsum("bij,bi,bj->b", r, away[:, 0], away[:, 1])
        off = cross[:, None, None] * torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to(r)
        return (within + torch.diag_embed(own) + off).to(x.dtype)

    def posterior_sample(self, x: Tensor, alpha: Level, sigma: Level, generator: Generator) -> Tensor:
        """A square by its share, then each coordinate by bisecting its distribution function."""
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        log_joint, seen = self._squares(x64, alpha, sigma)
        flat = torch.multinomial(_shares(log_joint).flatten(1), 1, generator=generator)[:, 0]
        square = torch.stack((flat // len(self.filled), flat % len(self.filled)), -1)  # [batch, axis]
        level = torch.rand(x64.shape, generator=generator, dtype=torch.float64, device=x.device)
        nearest = seen.mean.gather(2, square[..., None])[..., 0]
        edges = self.edges.to(x.device)
        drawn = _quantile(level, x64, alpha, torch.where(sigma == 0, 1.0, sigma), edges[square], edges[square + 1])
        return torch.where(sigma == 0, nearest, drawn).to(x.dtype)

    def entropy(self) -> float:
        """log(area of the filled squares)."""
        return math.log(self.area)

    def _squares(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Noised]:
        """log(A_i B_j / |F|) [batch, i, j], -inf where empty, and what each axis sees [batch, axis, interval].

        At sigma = 0: 0 on the nearest squares, -inf elsewhere; the nearest point of each interval, variance 0.
        """
        edges = self.edges.to(x.device)
        noise = torch.where(sigma == 0, 1.0, sigma)
        seen = noised(x[..., None], alpha[..., None], noise[..., None], edges[:-1], edges[1:])
        log_joint = seen.log_density[:, 0, :, None] + seen.log_density[:, 1, None, :] - math.log(int(self.filled.sum()))
        filled = self.filled.to(x.device)
        noiseless = sigma[..., None] == 0
        if bool(noiseless.any()):
            y = (x / torch.where(sigma == 0, alpha, 1.0))[..., None]
            nearest = torch.maximum(torch.minimum(y, edges[1:]), edges[:-1])
            distance2 = (nearest - y) ** 2
            distance2 = (distance2[:, 0, :, None] + distance2[:, 1, None, :]).masked_fill(~filled, math.inf)
            limit = torch.where(distance2 == distance2.amin((1, 2), keepdim=True), 0.0, -math.inf)
            log_joint = torch.where(noiseless, limit, log_joint)
            seen = Noised(
                log_density=seen.log_density,
                mean=torch.where(noiseless, nearest, seen.mean),
                variance=torch.where(noiseless, 0.0, seen.variance),
                mean_s=seen.mean_s,
            )
        return log_joint.masked_fill(~filled, -math.inf), seen


def _shares(log_joint: Tensor) -> Tensor:
    """r_ij, [batch, i, j]."""
    return log_joint.flatten(1).softmax(-1).reshape(log_joint.shape)


def _by_axis(r: Tensor) -> Tensor:
    """Shares of the columns and of the rows, [batch, axis, interval]."""
    return torch.stack((r.sum(2), r.sum(1)), 1)


def _average(log_joint: Tensor, values: Tensor) -> Tensor:
    """sum_ij r_ij (values of i on axis 0, of j on axis 1): [batch, axis, interval] to [batch, axis]."""
    return (_by_axis(_shares(log_joint)) * values).sum(-1)


def _quantile(level: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The y in [a, b] below which the posterior of y given x keeps the share `level`."""
    low, high, y = a, b, (a + b) / 2
    whole = noised(x, alpha, sigma, a, b).log_density + (b - a).log()
    for _ in range(BISECTIONS):  # Newton's method, halving the bracket instead wherever a step would leave it
        excess = (y - a) * (noised(x, alpha, sigma, a, y).log_density - whole).exp() - level
        low, high = torch.where(excess < 0, y, low), torch.where(excess < 0, high, y)
        density = (-((x - alpha * y) ** 2) / (2 * sigma**2) - whole).exp() / (math.sqrt(2 * math.pi) * sigma)
        step = y - excess / density
        y, before = torch.where((step >= low) & (step <= high), step, (low + high) / 2), y
        if bool(((y - before).abs() <= 1e-13 * (b - a)).all()):
            break
    return y


def checkerboard(cells: int = 4, width: float = 4.0) -> Checkerboard:
    """cells x cells squares, every second one filled."""
    i = torch.arange(cells)
    return Checkerboard("checkerboard", (i[:, None] + i[None, :]) % 2 == 0, width)
