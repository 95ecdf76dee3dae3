"""What every world can do.

A world is the law of x_0; at the level (alpha, sigma) it is the law of x_t = alpha x_0 + sigma eps, eps ~ N(0, I).
Two identities tie its answers together (Tweedie, and its derivative; Efron 2011, eq. 1.4 and 2.8, with scale alpha):

    score(x)             = (alpha denoiser(x) - x) / sigma^2
    d denoiser(x) / d x  = alpha / sigma^2 posterior_covariance(x)
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Generator, Tensor

Level = float | Tensor
Batch = Float[Tensor, "batch dim"]


class World(ABC):
    """A law of data known exactly at every noise level. alpha and sigma: scalars or [batch]."""

    name: str
    dim: int

    @abstractmethod
    def sample(self, n: int, generator: Generator) -> Float[Tensor, "n dim"]:
        """n independent draws of x_0, float64."""

    @abstractmethod
    def log_density(self, x: Batch, alpha: Level = 1.0, sigma: Level = 0.0) -> Float[Tensor, " batch"]:
        """log p_t(x), nats."""

    @abstractmethod
    def score(self, x: Batch, alpha: Level = 1.0, sigma: Level = 0.0) -> Batch:
        """grad_x log p_t(x)."""

    @abstractmethod
    def denoiser(self, x: Batch, alpha: Level, sigma: Level) -> Batch:
        """E[x_0 | x_t = x]."""

    @abstractmethod
    def posterior_covariance(self, x: Batch, alpha: Level, sigma: Level) -> Float[Tensor, "batch dim dim"]:
        """Cov[x_0 | x_t = x]."""

    @abstractmethod
    def posterior_sample(self, x: Batch, alpha: Level, sigma: Level, generator: Generator) -> Batch:
        """One draw of x_0 given x_t = x, for each row of x."""

    @abstractmethod
    def entropy(self) -> float:
        """Differential entropy of x_0, nats."""

    def noised(
        self, n: int, alpha: Level, sigma: Level, generator: Generator
    ) -> tuple[Float[Tensor, "n dim"], Float[Tensor, "n dim"]]:
        """n independent pairs (x_0, x_t) at the level (alpha, sigma), float64."""
        x0 = self.sample(n, generator)
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        _, alpha, sigma = at_level(x0, alpha, sigma, self.dim)
        return x0, alpha * x0 + sigma * eps


def at_level(x: Tensor, alpha: Level, sigma: Level, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """x [batch, dim], alpha and sigma [batch or 1, 1], all float64; anything that does not fit is refused."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a floating-point tensor, got {getattr(x, 'dtype', type(x).__name__)}")
    if x.ndim != 2 or x.shape[1] != dim:
        raise ValueError(f"x must have shape [batch, {dim}], got {list(x.shape)}")
    alpha, sigma = _scale("alpha", alpha, x), _scale("sigma", sigma, x)
    if bool(((alpha == 0) & (sigma == 0)).any()):
        raise ValueError("alpha and sigma are both 0: x_t would carry neither data nor noise")
    return x.double(), alpha, sigma


def _scale(name: str, value: Level, x: Tensor) -> Tensor:
    scale = torch.as_tensor(value, dtype=torch.float64, device=x.device)
    if scale.ndim > 1 or (scale.ndim == 1 and len(scale) != len(x)):
        raise ValueError(f"{name} must be a scalar or have shape [{len(x)}] (the batch), got {list(scale.shape)}")
    if not bool(((scale >= 0) & scale.isfinite()).all()):
        raise ValueError(f"{name} is a scale: finite and >= 0, got {scale.detach().flatten().tolist()[:4]}")
    return scale.reshape(-1, 1)
