r"""Frequencies and noise: data of a power-law spectrum S(k) = k^-a rise above white noise from coarse to fine.

    snr         (alpha^2/sigma^2) k^-a             of frequency k at the level (alpha, sigma)
    crossing    sigma/alpha = k^(-a/2)             where it is 1; there the best linear denoiser keeps half

Photographs have a near 2: each octave then takes log 2 of half log-SNR. Elementwise. Sources: Rissanen et al. 2023
(arXiv 2206.13397); Dieleman 2024, "Diffusion is spectral autoregression".
"""

from __future__ import annotations

import torch

from diffusion.binding import formula
from diffusion.shapes import same_rank
from diffusion.types import Real


@formula("sde.spectrum.snr")
def snr(alpha: Real, sigma: Real, k: Real, a: Real) -> Real:
    """(alpha/sigma)^2 k^-a: power of the data over that of the noise, at frequency k."""
    same_rank(alpha, sigma, k, a)
    return (alpha / sigma) ** 2 * torch.exp(-a * torch.log(k))


@formula("sde.spectrum.crossing")
def crossing(k: Real, a: Real) -> Real:
    """k^(-a/2): sigma/alpha at which frequency k has the power of the noise."""
    same_rank(k, a)
    return torch.exp(-a * torch.log(k) / 2)
