r"""Probabilistic PCA: the VAE whose evidence, posterior and optimum are all known.

    z ~ N(0, I),   x | z ~ N(W z + mean, v I)        so        x ~ N(mean, W W^T + v I)
    z | x ~ N(M^-1 W^T (x - mean), v M^-1),          M = W^T W + v I

As a world it is that Gaussian at every noise level. For any Gaussian encoder q(z | x) = N(m, S), weight beta:

    bound(x) = E_q log p(x | z) - beta KL(q || N(0, I))
             = -(dim log(2 pi v) + (|x - mean - W m|^2 + tr(W^T W S))/v)/2
               - beta (|m|^2 + tr S - K - log det S)/2

beta = 1 gives the evidence lower bound. The best encoder has M = W^T W + beta v I in the posterior's place, beta v for
its v; the best W for data of covariance U diag(l) U^T is U sqrt(max(l - beta v, 0)), up to a rotation of z.

Source: Tipping & Bishop 1999, eq. 3-7; Lucas et al. 2019, sec. 4.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from toy.mixture import Mixture

Square = Float[Tensor, "K K"]


class LinearGaussian(Mixture):
    """x = W z + mean + sqrt(v) eps, W [dim, K], mean [dim], v > 0 the variance of the noise."""

    def __init__(self, name: str, W: Float[Tensor, "dim K"], mean: Float[Tensor, " dim"], v: float) -> None:
        if W.ndim != 2 or mean.shape != W.shape[:1]:
            raise ValueError(f"W [dim, K], mean [dim] wanted, got {list(W.shape)}, {list(mean.shape)}")
        if not 0 < v < math.inf:
            raise ValueError(f"v is the variance of the noise: finite and > 0, got {v}")
        self.W, self.mean, self.v = W.double(), mean.double(), float(v)
        covariance = self.W @ self.W.T + v * torch.eye(len(W), dtype=torch.float64)
        super().__init__(name, torch.ones(1), self.mean[None], covariance)

    @property
    def latents(self) -> int:
        """K, the number of latent coordinates."""
        return self.W.shape[1]

    def encoder(
        self, x: Float[Tensor, "batch dim"], beta: float = 1.0
    ) -> tuple[Float[Tensor, "batch K"], Float[Tensor, "K K"]]:
        """Mean and covariance of the best encoder under weight beta; beta = 1 is the posterior of z given x."""
        M = self.W.T @ self.W + beta * self.v * torch.eye(self.latents, dtype=torch.float64)
        return torch.linalg.solve(M, self.W.T @ (x - self.mean).T).T, beta * self.v * torch.linalg.inv(M)

    def precision(self) -> Square:
        """Of the posterior: I + W^T W/v, whatever x is."""
        return torch.eye(self.latents, dtype=torch.float64) + self.W.T @ self.W / self.v

    def log_joint(self, x: Float[Tensor, "batch dim"], z: Float[Tensor, "batch K"]) -> Float[Tensor, " batch"]:
        """log p(x, z), nats."""
        squares = ((x - self.mean - z @ self.W.T) ** 2).sum(-1) / self.v + (z**2).sum(-1)
        return -(squares + self.dim * math.log(2 * math.pi * self.v) + self.latents * math.log(2 * math.pi)) / 2

    def bound(
        self, x: Float[Tensor, "batch dim"], m: Float[Tensor, "batch K"], S: Square, beta: float = 1.0
    ) -> Float[Tensor, " batch"]:
        """The objective of each x for the encoder N(m, S), nats; beta = 1: the ELBO."""
        miss = ((x - self.mean - m @ self.W.T) ** 2).sum(-1) + torch.trace(self.W.T @ self.W @ S)
        divergence = ((m**2).sum(-1) + torch.trace(S) - self.latents - torch.logdet(S)) / 2
        return -(self.dim * math.log(2 * math.pi * self.v) + miss / self.v) / 2 - beta * divergence


def ppca() -> LinearGaussian:
    """Three factors of five coordinates, no two of them orthogonal."""
    W = [[1.2, 0.5, 0.1], [0.2, 0.9, -0.4], [0.0, 0.5, 0.7], [0.6, 0.2, 0.2], [-0.3, 0.4, 0.6]]
    mean = torch.tensor([0.5, -0.5, 0.0, 1.0, 0.2], dtype=torch.float64)
    return LinearGaussian("ppca", torch.tensor(W, dtype=torch.float64), mean, 0.3)


def best_W(covariance: Float[Tensor, "dim dim"], v: float, latents: int, beta: float = 1.0) -> Float[Tensor, "dim K"]:
    """The W of the best beta-VAE for data of this covariance, dead columns 0; beta = 1: of maximum likelihood."""
    l, U = torch.linalg.eigh(covariance.double())
    kept = slice(len(l) - latents, None)
    return (U[:, kept] * (l[kept] - beta * v).clamp(min=0).sqrt()).flip(-1)


def mean_bound(
    W: Float[Tensor, "dim K"], A: Float[Tensor, "K dim"], S: Square, v: float, covariance: Tensor, beta: float = 1.0
) -> Float[Tensor, ""]:
    """The objective averaged over data N(mean, covariance), for the encoder N(A (x - mean), S); nats."""
    missed = torch.eye(len(W), dtype=W.dtype) - W @ A
    miss = torch.trace(missed @ covariance @ missed.T) + torch.trace(W.T @ W @ S)
    divergence = mean_rates(A, S, covariance).sum() + (S.diagonal().log().sum() - torch.logdet(S)) / 2
    return -(len(W) * math.log(2 * math.pi * v) + miss / v) / 2 - beta * divergence


def mean_rates(A: Float[Tensor, "K dim"], S: Square, covariance: Tensor) -> Float[Tensor, " K"]:
    """E KL(q(z_i | x) || N(0, 1)) of each latent coordinate over data of this covariance, nats."""
    squares, s = (A @ covariance @ A.T).diagonal(), S.diagonal()
    return (squares + s - 1 - s.log()) / 2
