r"""Gaussian random fields: images whose law is known exactly, at any size.

A stationary Gaussian image of mean 0 on a torus has a covariance that shifts leave as it is, so the Fourier basis
diagonalises it; in real numbers that is Hartley's, H = Re F - Im F of the orthonormal transform F, with H = H^T = H^-1:

    C = H diag(S) H,      S(k) = c k^-a,      k = |frequency| in cycles an image side, at least 1,

c such that pixels have the variance asked for; channels are independent. Photographs have a near 2 (Field 1987). With
z = H x and v = alpha^2 S + sigma^2 every frequency is a Gaussian of its own,

    log p_t(x)      = -sum (z^2 / v + log(2 pi v)) / 2
    E[x_0 | x]      = H (alpha S / v  z)                 the Wiener filter: low frequencies kept, high ones dropped
    Cov[x_0 | x]    = H diag(sigma^2 S / v) H

at the cost of a fast Fourier transform, O(n log n) for n pixels (the covariance matrix, n^2 numbers, apart).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from toy.world import Level, World, at_level


class Field(World):
    """Images of `shape` (channels, height, width) with power spectrum k^-exponent; rows of [batch, dim], dim pixels.

    `image(x)` and `flat(x)` go between rows and images. exponent = 0 is white noise.
    """

    def __init__(self, name: str, shape: tuple[int, int, int], exponent: float = 2.0, variance: float = 1.0) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"shape must be (channels, height, width), each at least 1, got {tuple(shape)}")
        if not (math.isfinite(exponent) and 0 < variance < math.inf):
            raise ValueError(f"exponent must be finite and variance > 0, got {exponent} and {variance}")
        self.name, self.shape, self.dim = name, shape, math.prod(shape)
        channels, height, width = shape
        down, across = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
        k = (max(height, width) * torch.hypot(down[:, None], across)).clamp(min=1)
        power = k**-exponent
        self.frequency = k.flatten().repeat(channels)  # of each entry of H x
        self.spectrum = (variance / power.mean() * power).flatten().repeat(channels)  # its variance, S

    def image(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch channels height width"]:
        """Rows as images."""
        return x.reshape(-1, *self.shape)

    def flat(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim"]:
        """Images as rows."""
        return x.reshape(-1, self.dim)

    def hartley(self, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        """H x, each channel by itself; its own inverse."""
        waves = torch.fft.fft2(self.image(x), norm="ortho")
        return self.flat(waves.real - waves.imag)

    def sample(self, n: int, generator: Generator) -> Tensor:
        noise = torch.randn(n, self.dim, generator=generator, dtype=torch.float64, device=generator.device)
        return self.hartley(self.spectrum.to(noise).sqrt() * noise)

    def log_density(self, x: Tensor, alpha: Level = 1.0, sigma: Level = 0.0) -> Tensor:
        z, _, _, v = self._modes(x, alpha, sigma)
        return -0.5 * (z**2 / v + (2 * math.pi * v).log()).sum(-1).to(x.dtype)

    def score(self, x: Tensor, alpha: Level = 1.0, sigma: Level = 0.0) -> Tensor:
        z, _, _, v = self._modes(x, alpha, sigma)
        return -self.hartley(z / v).to(x.dtype)

    def denoiser(self, x: Tensor, alpha: Level, sigma: Level) -> Tensor:
        z, kept, _, _ = self._modes(x, alpha, sigma)
        return self.hartley(kept * z).to(x.dtype)

    def posterior_covariance(self, x: Tensor, alpha: Level, sigma: Level) -> Tensor:
        _, _, left, _ = self._modes(x, alpha, sigma)
        basis = self.hartley(torch.eye(self.dim, dtype=left.dtype, device=left.device))
        return ((basis * left[:, None]) @ basis).expand(len(x), -1, -1).to(x.dtype)

    def posterior_sample(self, x: Tensor, alpha: Level, sigma: Level, generator: Generator) -> Tensor:
        z, kept, left, _ = self._modes(x, alpha, sigma)
        noise = torch.randn(z.shape, generator=generator, dtype=z.dtype, device=z.device)
        return self.hartley(kept * z + left.sqrt() * noise).to(x.dtype)

    def entropy(self) -> float:
        """sum log(2 pi e S) / 2."""
        return 0.5 * float((2 * math.pi * math.e * self.spectrum).log().sum())

    def _modes(self, x: Tensor, alpha: Level, sigma: Level) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """z [batch, dim]; alpha S/v, sigma^2 S/v and v, [batch or 1, dim]."""
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        S = self.spectrum.to(x64)
        v = alpha**2 * S + sigma**2
        return self.hartley(x64), alpha * S / v, sigma**2 * S / v, v


def field() -> Field:
    """8 x 8 pixels of unit variance, one channel, spectrum k^-2."""
    return Field("field", (1, 8, 8))
