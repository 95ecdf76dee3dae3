r"""What a GAN's two players want, from the discriminator's logit l: D = 1/(1 + exp(-l)) is its belief in "data".

    best discriminator   D* = p/(p + q)                              p the data's density, q the generator's
    saturating loss      log(1 - D),  of slope -D in l               nothing to learn from where D = 0
    non-saturating       -log D,      of slope D - 1                 the same sign, (1 - D)/D times as large

At D*, held while the generator moves, the saturating loss has the gradient of 2 JS(p, q), the other one that of
KL(q || p) - 2 JS(p, q). Differentiating through D* changes both: detach the discriminator.

Source: Goodfellow et al. 2014; Arjovsky & Bottou 2017.
"""

from __future__ import annotations

import torch

from diffusion.binding import formula
from diffusion.shapes import same_rank
from diffusion.types import Real


@formula("generative.optimal_discriminator.discriminator")
def optimal_discriminator(p: Real, q: Real) -> Real:
    """D* = p/(p + q), of the densities p of the data and q of the generator at one point (Goodfellow et al., eq. 2)."""
    same_rank(p, q)
    return p / (p + q)


@formula("generative.non_saturating_sign.non_saturating", trained=True)
def non_saturating_loss(l: Real) -> Real:
    """-log D of a drawn sample whose logit is l (Goodfellow et al., sec. 3)."""
    return _softplus(-l)


@formula("generative.non_saturating_sign.saturating", trained=True)
def saturating_loss(l: Real) -> Real:
    """log(1 - D) of a drawn sample whose logit is l (Goodfellow et al., eq. 1)."""
    return -_softplus(l)


def _softplus(l: Real) -> Real:
    """log(1 + exp(l)), where exp(l) may overflow. No |l|: autograd has no slope for it at 0, where D = 1/2."""
    high = l > 0
    return torch.where(high, l, 0) + torch.log1p(torch.exp(torch.where(high, -l, l)))
