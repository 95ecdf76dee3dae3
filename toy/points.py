"""Finitely many points: the law of a training set, and the denoiser that has memorised it.

    x_0 = p_n with probability 1/N,    r_n(x) = softmax_n(-|x - alpha p_n|^2 / 2 sigma^2)
    E[x_0 | x] = sum_n r_n p_n,        score = (alpha E[x_0 | x] - x)/sigma^2

(Karras et al. 2022, appendix B.3.) At sigma = 0 the limit sigma -> 0+ is taken: r is shared equally by the points
nearest to x/alpha; the log density is +inf on a point and -inf elsewhere, the score 0 on a point and infinite
elsewhere.

The law has no density at sigma = 0: its differential entropy is -inf, which is what `entropy()` returns. Its entropy as
a choice among N points is `discrete_entropy()` = log N (equal points count once, with their shares added).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from toy.world import Level, World, at_level


class Points(World):
    """Equal probability on each row of points [N, dim]."""

    def __init__(self, name: str, points: Float[Tensor, "N dim"]) -> None:
        if points.ndim != 2 or 0 in points.shape or not points.is_floating_point() or not points.isfinite().all():
            raise ValueError(f"points must be finite floats [N, dim], got {points.dtype} {list(points.shape)}")
        self.name, self.points, self.dim = name, points.double(), points.shape[1]

    def sample(self, n: int, generator: Generator) -> Tensor:
        k = torch.randint(len(self.points), (n,), generator=generator, device=generator.device)
        return self.points.to(k.device)[k]

    def log_density(self, x: Tensor, alpha: Level = 1.0, sigma: Level = 0.0) -> Tensor:
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        distance2 = self._distance2(x64, alpha)
        variance = torch.where(sigma == 0, 1.0, sigma) ** 2
        log_normal = -distance2 / (2 * variance) - self.dim / 2 * (2 * math.pi * variance).log()
        noiseless = torch.where(distance2.amin(-1) == 0, math.inf, -math.inf)
        noisy = log_normal.logsumexp(-1) - math.log(len(self.points))
        return torch.where(sigma[:, 0] == 0, noiseless, noisy).to(x.dtype)

    def score(self, x: Tensor, alpha: Level = 1.0, sigma: Level = 0.0) -> Tensor:
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        back = alpha * (self._shares(x64, alpha, sigma) @ self.points.to(x.device)) - x64
        noiseless = torch.where(back == 0, 0.0, back.sign() * math.inf)
        return torch.where(sigma == 0, noiseless, back / torch.where(sigma == 0, 1.0, sigma) ** 2).to(x.dtype)

    def denoiser(self, x: Tensor, alpha: Level, sigma: Level) -> Tensor:
        return (self._shares(*at_level(x, alpha, sigma, self.dim)) @ self.points.to(x.device)).to(x.dtype)

    def posterior_covariance(self, x: Tensor, alpha: Level, sigma: Level) -> Tensor:
        r, points = self._shares(*at_level(x, alpha, sigma, self.dim)), self.points.to(x.device)
        away = points - (r @ points)[:, None]
        return torch.einsum("bn,bni,bnj->bij", r, away, away).to(x.dtype)

    def posterior_sample(self, x: Tensor, alpha: Level, sigma: Level, generator: Generator) -> Tensor:
        r = self._shares(*at_level(x, alpha, sigma, self.dim))
        return self.points.to(x.device)[torch.multinomial(r, 1, generator=generator)[:, 0]].to(x.dtype)

    def entropy(self) -> float:
        """-inf: a law on points has no density."""
        return -math.inf

    def discrete_entropy(self) -> float:
        """-sum_p P(p) log P(p) over the distinct points, nats; log N when all differ."""
        _, counts = self.points.unique(dim=0, return_counts=True)
        share = counts.double() / len(self.points)
        return -float((share * share.log()).sum())

    def _distance2(self, x: Tensor, alpha: Tensor) -> Tensor:
        """|x - alpha p_n|^2, [batch, N]."""
        return ((x[:, None] - alpha[..., None] * self.points.to(x.device)) ** 2).sum(-1)

    def _shares(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """r_n, [batch, N]."""
        distance2 = self._distance2(x, alpha)
        nearest = (distance2 == distance2.amin(-1, keepdim=True)).double()
        noisy = (-distance2 / (2 * torch.where(sigma == 0, 1.0, sigma) ** 2)).softmax(-1)
        return torch.where(sigma == 0, nearest / nearest.sum(-1, keepdim=True), noisy)
