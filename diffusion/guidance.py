r"""Guidance: steering a denoiser towards a class, a measurement or known pixels without training it again.

    guided = uncond + w (cond - uncond)          w = 1: the conditional model; w = 0: the unconditional one

Papers write 1 + w for this w (Ho & Salimans 2022). Coefficients sum to 1, so x0, eps, v and scores are guided alike,
each with the same w. All functions act elementwise. Denoisers are functions (x, t) -> x0_hat, of x [batch, ...] and t
scalar or [batch]; what guides them is made from such functions and is one again.

What these draw from is in `theory/guidance.py`: CFG does not sample p(x|c)^w p(x)^(1-w), replacement does not sample
the conditional law, DPS does not sample the posterior. `tilted_gaussian` and the closed forms at the end say by how
much, for Gaussians.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffusion.binding import formula, unproved
from diffusion.schedules import Schedule, number
from diffusion.shapes import per_sample, same_rank, same_shape
from diffusion.types import Denoiser, Real

# ------------------------------------------------------------------------------------------------ predictions


@formula("guidance.cfg_conventions.guided", trained=True)
def guided(cond: Real, uncond: Real, w: Real) -> Real:
    """uncond + w (cond - uncond) (Ho & Salimans 2022, eq. 6, whose 1 + w is this w)."""
    same_rank(cond, uncond, w)
    return uncond + w * (cond - uncond)


@formula("guidance.cfg_rescaled.rescaled", trained=True)
def rescale(guided: Real, std_cond: Real, std_guided: Real, phi: Real) -> Real:
    """(phi std_cond/std_guided + 1 - phi) guided: phi = 1 has the conditional's std (Lin et al. 2024, eq. 15-16)."""
    same_rank(guided, std_cond, std_guided, phi)
    return guided * (phi * (std_cond / std_guided) + (1 - phi))


@formula("guidance.interval.guided", trained=True)
def guided_inside(cond: Real, uncond: Real, w: Real, inside: Real) -> Real:
    """CFG where inside = 1, cond where inside = 0 (Kynkaanniemi et al. 2024)."""
    same_rank(cond, uncond, w, inside)
    return (1 - inside) * cond + inside * (uncond + w * (cond - uncond))  # each exact where it stands alone


@formula("guidance.autoguidance.guided", trained=True)
def autoguided(D_1: Real, D_0: Real, w: Real) -> Real:
    """D_1 + (w - 1)(D_1 - D_0), D_0 a degraded model (Karras et al. 2024, eq. 3)."""
    same_rank(D_1, D_0, w)
    return D_0 + w * (D_1 - D_0)  # the same, and stable near w = 0


@formula("guidance.dps.exact", trained=True)
def likelihood_score(y: Real, x0_hat: Real, J: Real, V: Real, a: Real, s_y: Real) -> Real:
    """a J (y - a x0_hat)/(s_y^2 + a^2 V): d/dx_t log p(y | x_t) for y = a x_0 + s_y n, V = Var[x_0 | x_t].

    J = dx0_hat/dx_t. With a scalar in V's place this is PiGDM (Song et al. 2023).
    """
    same_rank(y, x0_hat, J, V, a, s_y)
    return a * J * (y - a * x0_hat) / (s_y**2 + a**2 * V)


@formula("guidance.dps.dps", trained=True)
def dps_score(y: Real, x0_hat: Real, J: Real, a: Real, s_y: Real) -> Real:
    """a J (y - a x0_hat)/s_y^2: the same with V = 0 (Chung et al. 2023, thm 1)."""
    same_rank(y, x0_hat, J, a, s_y)
    return (a / s_y) * J * ((y - a * x0_hat) / s_y)


# ------------------------------------------------------------------------------------------------ denoisers


def classifier_free(cond: Denoiser, uncond: Denoiser, w: float) -> Denoiser:
    """CFG of two denoisers; at w = 1 `uncond` is not called. Autoguidance is this with a worse model for `uncond`."""
    return interval(cond, uncond, w, lambda t: torch.ones_like(t, dtype=torch.bool))


def interval(cond: Denoiser, uncond: Denoiser, w: float, inside: Callable[[Tensor], Tensor]) -> Denoiser:
    """CFG at the times where `inside(t)` is true, `cond` elsewhere; `uncond` is called only if some t is inside."""

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        within = inside(t)
        if w == 1 or not bool(within.any()):
            return cond(x, t)
        scale = number(w, x)
        return guided_inside(cond(x, t), uncond(x, t), scale, per_sample(within, x))

    return denoiser


def rescaled(cond: Denoiser, uncond: Denoiser, w: float, phi: float) -> Denoiser:
    """Rescaled CFG: sample standard deviations over all coordinates of each sample (at least two of them)."""
    if not 0 <= phi <= 1:
        raise ValueError(f"rescaled: phi is {phi}, expected a number in [0, 1]")

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        kept = cond(x, t)
        if x.ndim < 2 or x[0].numel() < 2:
            raise ValueError(f"rescaled: x has shape {tuple(x.shape)}, expected at least two coordinates a sample")
        free = guided(kept, uncond(x, t), number(w, x))
        std_cond, std_guided = (per_sample(part.flatten(1).std(1), x) for part in (kept, free))
        return rescale(free, std_cond, std_guided, number(phi, x))

    return denoiser


def classifier_guided(
    denoiser: Denoiser, log_classifier: Callable[[Tensor, Tensor], Tensor], schedule: Schedule, w: float
) -> Denoiser:
    """x0_hat + w sigma^2/alpha d/dx log p(c | x_t): the score moved by w times the classifier's gradient, at x_t.

    log_classifier(x, t): [batch], of the *noised* x; w = 1 is Bayes' rule. Needs alpha > 0. The samples may not depend
    on one another, as they do through batch normalisation in training mode.
    """

    def guided_denoiser(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma, _, _ = schedule.kernel(t)
        return denoiser(x, t) + per_sample(w * sigma**2 / alpha, x) * gradient(lambda z: log_classifier(z, t), x)

    return guided_denoiser


def dps(
    denoiser: Denoiser, residual: Callable[[Tensor], Tensor], s_y: float, schedule: Schedule, w: float = 1.0
) -> Denoiser:
    """DPS: guides by log N(y; A x0_hat(x_t), s_y^2), with residual(x0_hat) = y - A x0_hat [batch, ...].

    w = 1 is theorem 1 of Chung et al. 2023; its algorithm 1 takes another step length, |residual| in s_y^2's place.
    """
    if not s_y > 0:
        raise ValueError(f"dps: s_y is {s_y}, expected the standard deviation of the measurement's noise, > 0")

    def log_likelihood(x: Tensor, t: Tensor) -> Tensor:
        return -residual(denoiser(x, t)).flatten(1).square().sum(1) / (2 * s_y**2)

    return classifier_guided(denoiser, log_likelihood, schedule, w)


@unproved("automatic differentiation")
def gradient(log_density: Callable[[Tensor], Float[Tensor, " batch"]], x: Float[Tensor, "batch ..."]) -> Tensor:
    """d log_density / dx for each sample, detached; ValueError unless there is one number a sample."""
    with torch.enable_grad():
        z = x.detach().requires_grad_()
        values = log_density(z)
        if values.shape != x.shape[:1]:
            raise ValueError(f"gradient: log density of shape {tuple(values.shape)}, expected ({len(x)},)")
        (slope,) = torch.autograd.grad(values.sum(), z)
    return slope


# ------------------------------------------------------------------------------------------------ inpainting


@unproved("a selection; what it draws is guidance.inpainting_bias")
def replace(
    x: Float[Tensor, "batch ..."],
    known: Float[Tensor, "batch ..."],
    mask: Bool[Tensor, "batch ..."],
    alpha: Tensor,
    sigma: Tensor,
    noise: Float[Tensor, "batch ..."],
) -> Float[Tensor, "batch ..."]:
    """x_t with the masked coordinates replaced by alpha known + sigma noise (Lugmayr et al. 2022, alg. 1, U = 1).

    noise is drawn anew each step. Biased, for any number of steps, wherever what is known tells of what is not.
    """
    same_shape(x=x, known=known, mask=mask, noise=noise)
    return torch.where(mask, per_sample(alpha, x) * known + per_sample(sigma, x) * noise, x)


# ------------------------------------------------------------------------------------- what they draw, for Gaussians


@formula("guidance.cfg_discrepancy.variance")
def tilted_variance(c: Real, u: Real, P: Real) -> Real:
    """c u/P, the variance of N(mu_c, c)^w N(mu_u, u)^(1-w), with P = w u + (1 - w) c > 0."""
    return c * u / P


@formula("guidance.cfg_discrepancy.mean")
def tilted_mean(mu_c: Real, mu_u: Real, c: Real, u: Real, P: Real, w: Real) -> Real:
    """(w mu_c u + (1 - w) mu_u c)/P, its mean."""
    return (w * mu_c * u + (1 - w) * mu_u * c) / P


@formula("guidance.cfg_discrepancy.gap")
def tilted_gap(w: Real, d: Real, P: Real, s: Real) -> Real:
    """w (1 - w) d^2 s/(P (P + s)): variance of the tilt at noise s, less that of the tilt of clean data plus s.

    d = |s_c^2 - s_u^2|, P = w s_u^2 + (1 - w) s_c^2 of clean data, s = sigma^2.
    """
    return w * (1 - w) * d**2 * s / (P * (P + s))


def tilted_gaussian(mu_c: Tensor, c: Tensor, mu_u: Tensor, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of N(mu_c, c)^w N(mu_u, u)^(1-w); ValueError where that is no law: w/c + (1 - w)/u <= 0."""
    P = w * u + (1 - w) * c
    if not bool((P > 0).all()):
        raise ValueError(f"tilted_gaussian: w u + (1 - w) c is {float(P.min()):g}, must be > 0: no such law, lower w")
    return tilted_mean(mu_c, mu_u, c, u, P, w), tilted_variance(c, u, P)


@formula("guidance.cfg_flow.sampled")
def cfg_sampled_variance(s_c: Real, s_u: Real, w: Real) -> Real:
    """s_c^(2 w) s_u^(2 (1 - w)): what CFG's probability flow draws from pure noise."""
    return (s_u * (s_c / s_u) ** w) ** 2  # squared last: (s_c / s_u)^(2 w) alone may overflow


@formula("guidance.inpainting_mean.mean")
def replaced_mean(y_0: Real, rho: Real) -> Real:
    """rho y_0/(1 + sqrt(1 - rho^2)): the mean that replacement draws; the exact one is rho y_0."""
    return rho * y_0 / (1 + torch.sqrt((1 - rho) * (1 + rho)))


@formula("guidance.inpainting_bias.variance")
def replaced_variance(rho: Real) -> Real:
    """(1 - rho^2) artanh(rho)/rho: its variance, for 0 < rho < 1; the exact one is 1 - rho^2."""
    return (1 - rho) * (1 + rho) * torch.log1p(2 * rho / (1 - rho)) / (2 * rho)


@formula("guidance.dps_mean.mean")
def dps_mean(y: Real, kappa: Real) -> Real:
    """(1 - exp(-kappa)) y: the mean that DPS draws; the exact one is kappa/(1 + kappa) y. kappa = a^2 v/s_y^2."""
    return -torch.expm1(-kappa) * y


@formula("guidance.dps_variance.variance")
def dps_variance(v: Real, kappa: Real) -> Real:
    """v (1 - exp(-2 kappa))/(2 kappa): its variance; the exact one is v/(1 + kappa)."""
    return -v * torch.expm1(-2 * kappa) / (2 * kappa)
