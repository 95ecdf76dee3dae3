r"""Gaussians in one coordinate: the formulas that every diffusion stands on.

    density        log N(x; mu, v) = -(x - mu)^2 / (2 v) - log(2 pi v) / 2                     v is a variance; nats
    divergence     KL(N(mu, v) || N(nu, w)) = (v/w - 1 - log(v/w) + (mu - nu)^2 / w) / 2
    product        N(x; mu, v) N(x; nu, w) = N(mu; nu, v + w) N(x; (mu w + nu v)/(v + w), v w/(v + w))
    Bayes          x ~ N(mu, v), y | x ~ N(a x + b, w)  =>  x | y ~ N(posterior_mean, posterior_variance)
    joint          x_1 | x_2 ~ N(mu_1 + S_12/S_22 (x_2 - mu_2), S_11 - S_12^2/S_22)
    mixture        score of q N(mu, v) + (1 - q) N(nu, w) = r (mu - x)/v + (1 - r) (nu - x)/w,   r the responsibility

The law of a vector with independent coordinates is the product of these: sum nats over coordinates. All functions act
elementwise: each argument has the common shape or is a 0-dim tensor, and anything else is refused. Each sum is arranged
so that nothing cancels that the problem itself does not: KL near v = w, Bayes for a nearly exact measurement (w -> 0,
where the posterior is the point (y - b)/a) and for a useless one (v -> 0, where it is the prior).

Source: Bishop 2006, Pattern Recognition and Machine Learning, sec. 2.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffusion.binding import formula
from diffusion.types import Real


def _fitting(*arguments: Tensor) -> None:
    """Refuse two different shapes: [batch] against [batch, 1] would broadcast to a square in silence."""
    shapes = {tuple(argument.shape) for argument in arguments if argument.ndim}
    if len(shapes) > 1:
        raise ValueError(f"arguments of shapes {sorted(shapes)}: expected one common shape, or 0-dim tensors beside it")


# ------------------------------------------------------------------------------------------------- one Gaussian


@formula("gaussian.density", trained=True)
def log_normal(x: Real, mu: Real, v: Real) -> Real:
    """log N(x; mu, v) = -(x - mu)^2 / (2 v) - log(2 pi v) / 2, nats (eq. 1.46)."""
    _fitting(x, mu, v)
    return -((x - mu) ** 2 / v + torch.log(2 * math.pi * v)) / 2


@formula("gaussian.score", trained=True)
def score(x: Real, mu: Real, v: Real) -> Real:
    """d/dx log N(x; mu, v) = -(x - mu) / v."""
    _fitting(x, mu, v)
    return (mu - x) / v


@formula("gaussian.entropy", trained=True)
def entropy(v: Real) -> Real:
    """-E log N(x; mu, v) = (1 + log(2 pi v)) / 2, nats (eq. 1.110)."""
    return (1 + torch.log(2 * math.pi * v)) / 2


@formula("gaussian.kl", trained=True)
def kl(mu: Real, v: Real, nu: Real, w: Real) -> Real:
    """KL(N(mu, v) || N(nu, w)) = (v/w - 1 - log(v/w) + (mu - nu)^2 / w) / 2, nats; 0 only for equal laws."""
    _fitting(mu, v, nu, w)
    return (_excess(v, w) + (mu - nu) ** 2 / w) / 2


@formula("vae.kl_standard_normal", trained=True)
def kl_standard_normal(mu: Real, s: Real) -> Real:
    """KL(N(mu, s^2) || N(0, 1)) = (mu^2 + s^2 - 1 - log s^2) / 2, nats; s a standard deviation (Kingma & Welling)."""
    _fitting(mu, s)
    return (mu**2 + _excess(s**2, torch.ones_like(s))) / 2


def _excess(v: Real, w: Real) -> Real:
    """r - 1 - log r at r = v/w. Near r = 1 it is about (r - 1)^2 / 2, so r - 1 must not be a rounded r minus 1."""
    d = (v - w) / w
    near = d.abs() < 0.5
    log_ratio = torch.where(near, torch.log1p(torch.where(near, d, 0)), torch.log(v / w))
    return d - log_ratio


# --------------------------------------------------------------------------------------------- products and Bayes


@formula("gaussian.product.mean", trained=True)
def product_mean(mu: Real, v: Real, nu: Real, w: Real) -> Real:
    """Mean of the product of N(x; mu, v) and N(x; nu, w), renormalised: (mu w + nu v) / (v + w)."""
    _fitting(mu, v, nu, w)
    return (mu * w + nu * v) / (v + w)


@formula("gaussian.product.variance", trained=True)
def product_variance(v: Real, w: Real) -> Real:
    """Variance of that product: v w / (v + w), less than either; its mass is N(mu; nu, v + w)."""
    _fitting(v, w)
    return v * (w / (v + w))


@formula("gaussian.conditioning.mean", trained=True)
def posterior_mean(y: Real, mu: Real, v: Real, a: Real, b: Real, w: Real) -> Real:
    """Mean of x given y = a x + b + N(0, w), x ~ N(mu, v): (w mu + a v (y - b)) / (a^2 v + w) (eq. 2.116).

    A weighted mean, not mu + gain (y - a mu - b): the latter cancels when the measurement is nearly exact.
    """
    _fitting(y, mu, v, a, b, w)
    return (w * mu + a * v * (y - b)) / (a**2 * v + w)


@formula("gaussian.conditioning.variance", trained=True)
def posterior_variance(v: Real, a: Real, w: Real) -> Real:
    """Variance of x given y = a x + b + N(0, w), x ~ N(mu, v): v w / (a^2 v + w), whatever y is (eq. 2.117)."""
    _fitting(v, a, w)
    return v * (w / (a**2 * v + w))


@formula("gaussian.conditioning_block.mean", trained=True)
def conditional_mean(x_2: Real, mu_1: Real, mu_2: Real, S_12: Real, S_22: Real) -> Real:
    """Mean of x_1 given x_2 under a joint Gaussian: mu_1 + S_12/S_22 (x_2 - mu_2) (eq. 2.81)."""
    _fitting(x_2, mu_1, mu_2, S_12, S_22)
    return mu_1 + S_12 / S_22 * (x_2 - mu_2)


@formula("gaussian.schur", trained=True)
def conditional_variance(S_11: Real, S_12: Real, S_22: Real) -> Real:
    """Variance of x_1 given x_2 under a joint Gaussian: S_11 - S_12^2/S_22, the Schur complement (eq. 2.82)."""
    _fitting(S_11, S_12, S_22)
    return S_11 - S_12 / S_22 * S_12


# ------------------------------------------------------------------------------------------------------- mixtures


@formula("gaussian.mixture_score.responsibility")
def responsibility(x: Real, q: Real, mu: Real, v: Real, nu: Real, w: Real) -> Real:
    """Probability that x ~ q N(mu, v) + (1 - q) N(nu, w) came from the first: q N(x; mu, v) / (sum of both)."""
    return torch.sigmoid(_log_odds(x, q, mu, v, nu, w))


@formula("gaussian.mixture_score")
def mixture_score(x: Real, q: Real, mu: Real, v: Real, nu: Real, w: Real) -> Real:
    """d/dx log(q N(x; mu, v) + (1 - q) N(x; nu, w)) = r (mu - x)/v + (1 - r) (nu - x)/w, r the responsibility."""
    log_odds = _log_odds(x, q, mu, v, nu, w)
    return torch.sigmoid(log_odds) * score(x, mu, v) + torch.sigmoid(-log_odds) * score(x, nu, w)


def _log_odds(x: Real, q: Real, mu: Real, v: Real, nu: Real, w: Real) -> Real:
    """log of the odds r/(1 - r); 1 - r is then sigmoid(-log_odds), with all its digits however small it is.

    The squares are taken as a product, (b - a) (b + a): far from two like components they are huge, and cancel.
    """
    _fitting(x, q, mu, v, nu, w)
    a, b = (x - mu) / torch.sqrt(v), (x - nu) / torch.sqrt(w)
    return torch.log(q) - torch.log1p(-q) + (torch.log(w / v) + (b - a) * (b + a)) / 2
