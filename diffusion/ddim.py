r"""DDIM: a family of reverse steps with DDPM's marginals, from ancestral (eta = 1) to deterministic (eta = 0).

    q(x_s | x_t, x_0) = N(alpha_s x_0 + kept (x_t - alpha_t x_0) / sigma_t, std^2),     kept^2 + std^2 = sigma_s^2
    std = eta sigma_s sqrt(1 - kappa^2),     kappa = (alpha_t / sigma_t) / (alpha_s / sigma_s),  0 <= kappa < 1

(x_t - alpha_t x_0) / sigma_t is the noise in x_t: the step keeps a part of it and draws the rest anew. A sampler puts
the prediction D in place of x_0. The deterministic step,

    x_s = (sigma_s / sigma_t) x_t + (alpha_s - alpha_t sigma_s / sigma_t) D,

is exactly one explicit Euler step of the probability-flow ODE in the coordinates y = x / alpha, w = sigma / alpha,
where that ODE is dy/dw = eps(y, w) and its paths are nearly straight. Its inversion walks the formula from s up to t.

s is the *actual* previous grid point, however many steps were skipped. The ends are ordinary: pure noise (alpha_t = 0)
and clean data (sigma_s = 0) both have kappa = 0. All functions act elementwise; coefficients are 0-dim tensors, or
shaped like x by `shapes.per_sample`. Source: Song, Meng & Ermon 2021 (arXiv 2010.02502), here for any alpha, sigma.
"""

from __future__ import annotations

import torch

from diffusion.binding import formula
from diffusion.shapes import same_rank
from diffusion.types import Real


@formula("ddim.eta.std")
def std(sigma_s: Real, kappa: Real, eta: Real) -> Real:
    """Standard deviation of q(x_s | x_t, x_0): eta sigma_s sqrt(1 - kappa^2) (eq. 16)."""
    return eta * sigma_s * torch.sqrt((1 - kappa) * (1 + kappa))


@formula("ddim.eta.kept")
def kept(sigma_s: Real, kappa: Real, eta: Real) -> Real:
    """What stays of the old noise, sqrt(sigma_s^2 - std^2) = sigma_s sqrt(1 - eta^2 + (eta kappa)^2) (eq. 12)."""
    return sigma_s * torch.sqrt((1 - eta) * (1 + eta) + (eta * kappa) ** 2)


@formula("ddim.eta.mean", trained=True)
def mean(
    x_t: Real, x_0: Real, alpha_t: Real, sigma_t: Real, alpha_s: Real, sigma_s: Real, kappa: Real, eta: Real
) -> Real:
    """Mean of q(x_s | x_t, x_0): alpha_s x_0 + kept (x_t - alpha_t x_0) / sigma_t (eq. 7, 12)."""
    same_rank(x_t, x_0, alpha_t, sigma_t, alpha_s, sigma_s, kappa, eta)
    return alpha_s * x_0 + kept(sigma_s, kappa, eta) * (x_t - alpha_t * x_0) / sigma_t


@formula("ddim.eta_zero", trained=True)
def step(x_t: Real, D: Real, alpha_t: Real, sigma_t: Real, alpha_s: Real, sigma_s: Real) -> Real:
    """The deterministic step (eta = 0): (sigma_s / sigma_t) x_t + (alpha_s - alpha_t sigma_s / sigma_t) D (eq. 12).

    Finite at both ends: at alpha_t = 0 it is (sigma_s / sigma_t) x_t + alpha_s D, at sigma_s = 0 it is alpha_s D.
    """
    same_rank(x_t, D, alpha_t, sigma_t, alpha_s, sigma_s)
    ratio = sigma_s / sigma_t
    return ratio * x_t + (alpha_s - alpha_t * ratio) * D


@formula("ddim.inversion.step")
def invert(x_s: Real, D: Real, alpha_t: Real, sigma_t: Real, alpha_s: Real, sigma_s: Real) -> Real:
    """The step walked back from s to t with the prediction D made at s: returns x_t up to O(h^2). Needs sigma_s > 0."""
    return step(x_s, D, alpha_s, sigma_s, alpha_t, sigma_t)


@formula("ddim.euler_exact")
def euler_step(x_t: Real, eps: Real, alpha_t: Real, sigma_t: Real, alpha_s: Real, sigma_s: Real) -> Real:
    """The same step from the noise prediction: alpha_s (x_t / alpha_t + (sigma_s / alpha_s - sigma_t / alpha_t) eps).

    Explicit Euler in (x / alpha, sigma / alpha), eq. 13-14. Needs alpha_t > 0; `step` does not.
    """
    same_rank(x_t, eps, alpha_t, sigma_t, alpha_s, sigma_s)
    return alpha_s * (x_t / alpha_t + (sigma_s / alpha_s - sigma_t / alpha_t) * eps)
