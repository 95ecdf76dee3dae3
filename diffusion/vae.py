r"""Linear-Gaussian VAEs of one latent, weight beta on the divergence: what the objective is, and what its optimum does.

    data       x ~ N(0, l) along one direction        prior     z ~ N(0, 1)
    decoder    x | z ~ N(w z, v)                      encoder   z | x ~ N(a x, c)

    bound      E[log N(x; w z, v)] - beta KL(N(a x, c) || N(0, 1)), averaged over x
               = -(log(2 pi v) + ((1 - w a)^2 l + w^2 c)/v)/2 - beta (a^2 l + c - 1 - log c)/2
    encoder    a = w/(w^2 + beta v),  c = beta v/(w^2 + beta v)                            the best for a given w
    decoder    w^2 = max(l - beta v, 0)                                                    the best of all: PPCA's
    rate       E KL = log(1 + w^2/(beta v))/2 nats, at the optimum log(l/(beta v))/2, and 0 once l <= beta v

A direction whose variance l is no more than beta v dies: w = 0, and its encoder is the prior. Directions are those of
the data covariance; nats of independent directions add. The last two functions are about encoders that leave something
out: a diagonal one, and one that is drawn from K times.

Symbols: l, v, c variances; w, a slopes; beta a weight. All functions act elementwise: each argument has the common
shape or is a 0-dim tensor.

Source: Lucas et al. 2019, sec. 4; Higgins et al. 2017; Burda et al. 2016; Tipping & Bishop 1999.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusion.binding import formula, unproved
from diffusion.gaussian import Real, kl
from diffusion.shapes import same_rank


@formula("vae.beta_bound.bound", trained=True)
def beta_bound(a: Real, c: Real, w: Real, l: Real, v: Real, beta: Real) -> Real:
    """The objective, averaged over data of variance l, nats (Lucas et al. 2019, eq. 7); beta = 1: the ELBO."""
    same_rank(a, c, w, l, v, beta)
    reconstruction = -(torch.log(2 * math.pi * v) + ((1 - w * a) ** 2 * l + w**2 * c) / v) / 2
    return reconstruction - beta * kl(a * l.sqrt(), c, torch.zeros_like(c), torch.ones_like(c))


@formula("vae.beta_encoder.slope", trained=True)
def encoder_slope(w: Real, v: Real, beta: Real) -> Real:
    """a = w/(w^2 + beta v): the slope of the best encoder, the posterior's under noise of variance beta v."""
    same_rank(w, v, beta)
    return w / (w**2 + beta * v)


@formula("vae.beta_encoder.variance", trained=True)
def encoder_variance(w: Real, v: Real, beta: Real) -> Real:
    """c = beta v/(w^2 + beta v): the variance of the best encoder."""
    same_rank(w, v, beta)
    return beta * v / (w**2 + beta * v)


@formula("vae.beta_encoder.best", trained=True)
def best_bound(w: Real, l: Real, v: Real, beta: Real) -> Real:
    """The objective with the best encoder: -(log(2 pi v) + beta (l/(w^2 + beta v) + log(1 + w^2/(beta v))))/2, nats."""
    same_rank(w, l, v, beta)
    log_ratio = torch.log1p(w**2 / (beta * v))
    return -(torch.log(2 * math.pi * v) + beta * (l / (w**2 + beta * v) + log_ratio)) / 2


@formula("vae.latent_rate.rate", trained=True)
def latent_rate(w: Real, v: Real, beta: Real) -> Real:
    """E KL = log(1 + w^2/(beta v))/2, nats: what the latent tells about x once l = w^2 + beta v."""
    same_rank(w, v, beta)
    return torch.log1p(w**2 / (beta * v)) / 2


@unproved("max(0, .): vae.beta_ppca above the threshold beta v, vae.posterior_collapse_beta up to it")
def best_slope(l: Real, v: Real, beta: Real) -> Real:
    """w = sqrt(max(l - beta v, 0)): the best decoder for data of variance l; 0 once l <= beta v."""
    same_rank(l, v, beta)
    return (l - beta * v).clamp(min=0).sqrt()


@formula("vae.diagonal_encoder.gap", trained=True)
def diagonal_gap(rho: Real) -> Real:
    """-log(1 - rho^2)/2, nats: what a diagonal encoder misses at least of a Gaussian posterior of correlation rho."""
    return -torch.log1p(-(rho**2)) / 2


@unproved("a mean of exponentials over draws; vae.iwae_monotone and vae.iwae_bound are about its expectation")
def importance_weighted(log_w: Tensor) -> Tensor:
    """log((1/K) sum_k w_k), over the last axis of log_w [..., K] -> [...]; its expectation is the bound L_K, nats."""
    if log_w.ndim == 0 or log_w.shape[-1] == 0:
        raise ValueError(f"log_w: expected log-weights [..., K] with K >= 1, got shape {list(log_w.shape)}")
    return torch.logsumexp(log_w, -1) - math.log(log_w.shape[-1])
