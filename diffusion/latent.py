r"""Latent diffusion: the scale of the latents, what the bound adds up to, and gradients through a codebook.

    scale      k = 1/std(z): k z has variance 1, so that its SNR is alpha^2/sigma^2, the schedule's
    bound      for x ~ N(0, l), decoder N(w z, v), encoder N(a x, c), diffusion prior N(0, tau) of z:
               (log(2 pi v) + ((1 - w a)^2 l + w^2 c)/v - log c - 1 + log tau + (a^2 l + c)/tau)/2 nats >= entropy of x
    codebook   y = z + stop(q - z): forward q, backward the identity;   (1 + beta) (z - e)^2 with stopped arguments

c, l, v, tau, V are variances. Elementwise: each argument has the common shape or is a 0-dim tensor. Sources: Rombach et
al. 2022, app. G; Vahdat et al. 2021, eq. 3; van den Oord et al. 2017, eq. 3.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion.binding import formula, unproved
from diffusion.shapes import same_rank, same_shape
from diffusion.types import Real

# --------------------------------------------------------------------------------------------------- the scale factor


@formula("latent.scale_factor.factor")
def scale_factor(V: Real) -> Real:
    """k = 1/sqrt(V): what latents of variance V are multiplied by before they are noised."""
    return torch.rsqrt(V)


@formula("latent.scale_factor.snr")
def snr(k: Real, V: Real, alpha: Real, sigma: Real) -> Real:
    """k^2 V alpha^2/sigma^2: the SNR of alpha k z + sigma eps, z of variance V; the schedule's if k = 1/sqrt(V)."""
    same_rank(k, V, alpha, sigma)
    return k**2 * V * alpha**2 / sigma**2


# ------------------------------------------------------------------------------------------------------- the bound


@formula("latent.ppca_bound.bound", trained=True)
def linear_bound(a: Real, c: Real, w: Real, v: Real, tau: Real, l: Real) -> Real:
    """The latent bound of a linear-Gaussian model in nats, averaged over data of variance l; at least their entropy."""
    same_rank(a, c, w, v, tau, l)
    reconstruction = torch.log(2 * math.pi * v) + ((1 - w * a) ** 2 * l + w**2 * c) / v
    return (reconstruction - torch.log(c) - 1 + torch.log(tau) + (a**2 * l + c) / tau) / 2


@formula("latent.ppca.slope", trained=True)
def encoder_slope(w: Real, v: Real, tau: Real) -> Real:
    """a = w tau/(w^2 tau + v): the slope of the posterior of z ~ N(0, tau), and so of the best encoder."""
    same_rank(w, v, tau)
    return w * tau / (w**2 * tau + v)


@formula("latent.ppca.variance", trained=True)
def encoder_variance(w: Real, v: Real, tau: Real) -> Real:
    """c = v tau/(w^2 tau + v): its variance, whatever x is."""
    same_rank(w, v, tau)
    return v * tau / (w**2 * tau + v)


# --------------------------------------------------------------------------------------------------------- codebooks


@unproved("its value is q; its gradient, the identity's, is latent.straight_through")
def straight_through(z: Real, q: Real) -> Real:
    """The code q, with the gradient of z: z + stop(q - z), but rounded as q is."""
    same_shape(z=z, q=q)
    return q.detach() + (z - z.detach())


@formula("latent.commitment.loss")
def commitment_loss(z: Real, e: Real, beta: Real) -> Real:
    """(stop(z) - e)^2 + beta (z - stop(e))^2, elementwise: beta times the pull on z that it has on the code e."""
    same_rank(z, e, beta)
    return (z.detach() - e) ** 2 + beta * (z - e.detach()) ** 2


@unproved("a search; it computes nothing")
def nearest_code(z: Float[Tensor, "batch dim"], codebook: Float[Tensor, "K dim"]) -> Float[Tensor, "batch dim"]:
    """The code nearest to each z, the first of those equally near."""
    if z.ndim != 2 or codebook.ndim != 2 or z.shape[1] != codebook.shape[1] or len(codebook) == 0:
        raise ValueError(
            f"z {list(z.shape)} and codebook {list(codebook.shape)}: expected [batch, dim] and [K, dim], K >= 1"
        )
    return codebook[torch.cdist(z, codebook).argmin(1)]
