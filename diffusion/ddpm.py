r"""DDPM: a chain of Gaussian steps, its exact reversal given the data, and the bound that trains a model of it.

    one step         q(x_t | x_s)      = N(sqrt(1 - beta_t) x_s, beta_t)
    from the data    q(x_t | x_0)      = N(sqrt(alpha_bar_t) x_0, 1 - alpha_bar_t)
    reversed         q(x_s | x_t, x_0) = N(posterior_mean, posterior_variance)
    model            p(x_s | x_t)      = N(posterior_mean with D for x_0, Sigma),    D = D(x_t, t) the prediction of x_0
    bound            -log p(x_0)      <= L_T + sum_t L_(t-1) + L_0                   nats

s is the grid point before t, and alpha_bar_t = (1 - beta_t) alpha_bar_s. On a grid that skips steps s is the *actual*
previous point, and beta_t = 1 - alpha_bar_t / alpha_bar_s the composed step. Every function takes (alpha_bar_s, beta_t)
because in them 1 - alpha_bar_t = (1 - alpha_bar_s) + alpha_bar_s beta_t is a sum of positive terms: nothing cancels
near the data. The first step has alpha_bar_s = 1: its posterior is the point x_0, and its term of the bound is L_0.

All functions act elementwise and per coordinate (sum over coordinates for a vector's nats): coefficients are 0-dim
tensors, or shaped like x by `shapes.per_sample`. Equation numbers are those of Ho et al. 2020 (arXiv 2006.11239) unless
another paper is named: Nichol & Dhariwal 2021 (2102.09672), Bao et al. 2022 (2201.06503, "Analytic-DPM").
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from numpy.polynomial.legendre import leggauss
from torch import Tensor

from diffusion import gaussian
from diffusion.binding import formula, unproved
from diffusion.phi import phi_2
from diffusion.shapes import same_rank
from diffusion.types import Real

# ------------------------------------------------------------------------------------------------ the forward chain


@formula("ddpm.forward.step_mean")
def step_mean(x_s: Real, beta_t: Real) -> Real:
    """Mean of q(x_t | x_s): sqrt(1 - beta_t) x_s (Ho et al., eq. 2); the variance is beta_t."""
    same_rank(x_s, beta_t)
    return torch.sqrt(1 - beta_t) * x_s


@formula("ddpm.forward.mean")
def forward_mean(x_0: Real, alpha_bar_s: Real, beta_t: Real) -> Real:
    """Mean of q(x_t | x_0): sqrt(alpha_bar_t) x_0, alpha_bar_t = (1 - beta_t) alpha_bar_s (eq. 4)."""
    same_rank(x_0, alpha_bar_s, beta_t)
    return torch.sqrt((1 - beta_t) * alpha_bar_s) * x_0


@formula("ddpm.forward.variance")
def forward_variance(alpha_bar_s: Real, beta_t: Real) -> Real:
    """Variance of q(x_t | x_0): 1 - alpha_bar_t, as the sum of what was there and what the step adds (eq. 4)."""
    return (1 - alpha_bar_s) + alpha_bar_s * beta_t


# ------------------------------------------------------------------------------------------------ the reversed chain


@formula("ddpm.posterior.mean", trained=True)
def posterior_mean(x_t: Real, x_0: Real, alpha_bar_s: Real, beta_t: Real) -> Real:
    """Mean of q(x_s | x_t, x_0), a weighted sum of both ends (eq. 7):

    (sqrt(alpha_bar_s) beta_t x_0 + sqrt(1 - beta_t) (1 - alpha_bar_s) x_t) / (1 - alpha_bar_t).
    """
    same_rank(x_t, x_0, alpha_bar_s, beta_t)
    towards_data = torch.sqrt(alpha_bar_s) * beta_t * x_0
    kept = torch.sqrt(1 - beta_t) * (1 - alpha_bar_s) * x_t
    return (towards_data + kept) / forward_variance(alpha_bar_s, beta_t)


@formula("ddpm.posterior_eps", trained=True)
def posterior_mean_eps(x_t: Real, eps: Real, alpha_bar_s: Real, beta_t: Real) -> Real:
    """The same mean, x_0 said by the noise: (x_t - beta_t eps / sqrt(1 - alpha_bar_t)) / sqrt(1 - beta_t) (eq. 11)."""
    same_rank(x_t, eps, alpha_bar_s, beta_t)
    return (x_t - beta_t * eps / torch.sqrt(forward_variance(alpha_bar_s, beta_t))) / torch.sqrt(1 - beta_t)


@formula("ddpm.posterior.variance")
def posterior_variance(alpha_bar_s: Real, beta_t: Real) -> Real:
    """Variance of q(x_s | x_t, x_0), beta_tilde: (1 - alpha_bar_s) beta_t / (1 - alpha_bar_t) (eq. 7)."""
    return (1 - alpha_bar_s) * beta_t / forward_variance(alpha_bar_s, beta_t)


@formula("ddpm.optimal_variance")
def optimal_variance(alpha_bar_s: Real, beta_t: Real, C: Real) -> Real:
    """The best constant Sigma for an exact prediction: beta_tilde + alpha_bar_s beta_t^2 / (1 - alpha_bar_t)^2 C.

    C = E Var(x_0 | x_t) per coordinate; C = 0 (point data) gives beta_tilde, its least value (Bao et al., theorem 1).
    """
    pull = torch.sqrt(alpha_bar_s) * beta_t / forward_variance(alpha_bar_s, beta_t)
    return posterior_variance(alpha_bar_s, beta_t) + pull**2 * C


@formula("ddpm.analytic_dpm")
def analytic_variance(beta_t: Real, S: Real) -> Real:
    """The same best Sigma from scores alone: beta_t (1 - beta_t S) / (1 - beta_t), S = E score(x_t)^2 per coordinate.

    Bao et al., eq. 8. S >= 0 gives the ceiling beta_t / (1 - beta_t); S >= 1 (data of variance at most 1) gives beta_t.
    """
    return beta_t * (1 - beta_t * S) / (1 - beta_t)


@formula("ddpm.learned_variance.log_variance", trained=True)
def learned_log_variance(v: Real, alpha_bar_s: Real, beta_t: Real) -> Real:
    """log Sigma = v log beta_t + (1 - v) log beta_tilde, v in [0, 1] the network's output (Nichol & Dhariwal, eq. 15).

    At the first step beta_tilde = 0: v = 1 still gives log beta_t, any other v gives -inf.
    """
    above_one = alpha_bar_s * beta_t / (1 - alpha_bar_s)  # beta_t / beta_tilde - 1
    return torch.log(beta_t) - torch.special.xlog1py(1 - v, above_one)


# ------------------------------------------------------------------------------------------- the terms of the bound


@formula("ddpm.prior_loss")
def prior_kl(x_0: Real, alpha_bar_T: Real) -> Real:
    """L_T = KL(q(x_T | x_0) || N(0, 1)) = (alpha_bar_T x_0^2 - alpha_bar_T - log(1 - alpha_bar_T)) / 2, nats.

    With l = log(1 - alpha_bar_T) the last two terms are e^l - 1 - l = l^2 phi_2(l), which keeps its digits as l -> 0.
    """
    same_rank(x_0, alpha_bar_T)
    log_variance = torch.log1p(-alpha_bar_T)
    return (alpha_bar_T * x_0**2 + log_variance**2 * phi_2(log_variance)) / 2


@formula("ddpm.transition.weight")
def weight_x0(alpha_bar_s: Real, beta_t: Real, Sigma: Real) -> Real:
    """L_(t-1) = weight (x_0 - D)^2 + variance_kl: weight = alpha_bar_s beta_t^2 / (2 Sigma (1 - alpha_bar_t)^2)."""
    return alpha_bar_s * (beta_t / forward_variance(alpha_bar_s, beta_t)) ** 2 / (2 * Sigma)


@formula("ddpm.loss_eps.weight")
def weight_eps(alpha_bar_s: Real, beta_t: Real, Sigma: Real) -> Real:
    """Weight of (eps - predicted eps)^2: beta_t^2 / (2 Sigma (1 - beta_t)(1 - alpha_bar_t)) (Ho et al., eq. 12)."""
    return beta_t**2 / (2 * Sigma * (1 - beta_t) * forward_variance(alpha_bar_s, beta_t))


@formula("ddpm.loss_v.weight")
def weight_v(alpha_bar_s: Real, beta_t: Real, Sigma: Real) -> Real:
    """Weight of (v - predicted v)^2, v = alpha eps - sigma x_0: alpha_bar_s beta_t^2/(2 Sigma (1 - alpha_bar_t))."""
    return alpha_bar_s * beta_t**2 / (2 * Sigma * forward_variance(alpha_bar_s, beta_t))


@formula("ddpm.loss_score.weight")
def weight_score(beta_t: Real, Sigma: Real) -> Real:
    """Weight of (score - predicted score)^2, score = -eps / sigma_t: beta_t^2 / (2 Sigma (1 - beta_t))."""
    return beta_t**2 / (2 * Sigma * (1 - beta_t))


@formula("ddpm.transition.variance_kl", trained=True)
def variance_kl(alpha_bar_s: Real, beta_t: Real, Sigma: Real) -> Real:
    """The part of L_(t-1) due to Sigma alone: (r - 1 - log r) / 2, r = beta_tilde / Sigma; 0 if Sigma = beta_tilde."""
    centre = torch.zeros_like(Sigma)
    return gaussian.kl(centre, posterior_variance(alpha_bar_s, beta_t), centre, Sigma)


@formula("ddpm.loss_simple.weight")
def simple_weight(alpha_bar_s: Real, beta_t: Real, Sigma: Real) -> Real:
    """What L_simple multiplies L_(t-1) by, 1/weight_eps: 2 Sigma (1 - beta_t)(1 - alpha_bar_t) / beta_t^2 (eq. 14)."""
    return 2 * Sigma * (1 - beta_t) * forward_variance(alpha_bar_s, beta_t) / beta_t**2


# ----------------------------------------------------------------------------------- L_0: the discretised decoder

_NODES, _WEIGHTS = (array[4:].tolist() for array in leggauss(8))  # the four positive nodes; the others mirror them


@formula("ddpm.discretised_decoder.bin", trained=True)
def log_bin(c: Real, w: Real) -> Real:
    """log(Phi(c + w/2) - Phi(c - w/2)): a standard normal's mass on the bin of centre c and width w > 0, in logs.

    A narrow bin by eight-point Gauss-Legendre quadrature of the density (a difference of two nearly equal Phi would
    lose every digit as w -> 0), any other by log Phi of its two edges, mirrored into the lower tail (exact at 100
    sigma). Either branch is fed only arguments of its own, so that gradients stay finite.
    """
    c, w = torch.broadcast_tensors(c, w)
    narrow = w * c.abs().clamp(min=1) <= 1

    one = torch.ones_like(c)
    c_in, w_in = torch.where(narrow, c, one), torch.where(narrow, w, one)
    pairs = [
        share * torch.cosh(c_in * w_in * node / 2) * torch.exp(-((w_in * node) ** 2) / 8)
        for node, share in zip(_NODES, _WEIGHTS, strict=True)
    ]
    quadrature = torch.log(w_in) + torch.log(torch.stack(pairs).sum(0)) - c_in**2 / 2 - math.log(2 * math.pi) / 2

    c_out, w_out = torch.where(narrow, one, c.abs()), torch.where(narrow, one, w)
    upper, lower = _log_tail(c_out - w_out / 2), _log_tail(c_out + w_out / 2)
    return torch.where(narrow, quadrature, upper + torch.log1p(-torch.exp(lower - upper)))


def _log_tail(x: Real) -> Real:
    """log(1 - Phi(x)). From 1 on -x^2/2 is split off, so that the gradient too keeps its digits in the far tail."""
    far = x > 1
    one = torch.ones_like(x)
    x_far = torch.where(far, x, one)
    tail = torch.log(torch.special.erfcx(x_far / math.sqrt(2)) / 2) - x_far**2 / 2
    return torch.where(far, tail, torch.special.log_ndtr(-torch.where(far, one, x)))


@unproved("chooses, level by level, among the bins of ddpm.discretised_decoder")
def decoder_log_prob(x_0: Real, mean: Real, std: Real, levels: int) -> Real:
    """log P(x_0) of the discretised Gaussian N(mean, std^2), nats per coordinate; L_0 is minus this (eq. 13).

    x_0 takes the `levels` values 2 k / (levels - 1) - 1; each owns the bin that reaches half-way to its neighbours, the
    first and the last own the tails, so the probabilities of all levels sum to one.
    Raises ValueError for fewer than two levels or an x_0 that is not a level.
    """
    if levels < 2:
        raise ValueError(f"decoder_log_prob: levels = {levels}; a discretised Gaussian needs at least 2")
    same_rank(x_0, mean, std)
    k = (x_0 + 1) * (levels - 1) / 2
    off_grid = (k - k.round()).abs().max().item() if k.numel() else 0.0
    if not (off_grid <= 1e-2 and k.min().item() > -0.5 and k.max().item() < levels - 0.5):
        raise ValueError(
            f"decoder_log_prob: x_0 in [{x_0.min().item():.4g}, {x_0.max().item():.4g}] is not on the {levels} levels "
            f"2 k / {levels - 1} - 1 of [-1, 1]; quantise the data and scale it to them first"
        )
    half = 1 / (levels - 1)
    lowest = _log_tail((mean - x_0 - half) / std)
    highest = _log_tail((x_0 - half - mean) / std)
    inner = log_bin((x_0 - mean) / std, 2 * half / std)
    return torch.where(k.round() == 0, lowest, torch.where(k.round() == levels - 1, highest, inner))


# ------------------------------------------------------------------------------------------------- the whole bound


@formula("ddpm.bits_per_dimension.bits")
def bits_per_dim(nll: Real, d: int) -> Real:
    """Bits per dimension of a negative log-likelihood in nats of a d-dimensional point: nll / (d log 2)."""
    return nll / (d * math.log(2))


@formula("ddpm.bits_per_dimension")
def data_bits_per_dim(nll: Real, d: int, n: int) -> Real:
    """Bits per dimension of n-level data k from a *density's* nats on x = 2 (k + u) / n - 1, u uniform in [0, 1):

    nll / (d log 2) + log2(n / 2), an offset of 7 for 256 levels. A likelihood of the levels themselves, as L_0's
    decoder gives, has no offset: that is `bits_per_dim`.
    """
    return bits_per_dim(nll, d) + torch.log2(torch.as_tensor(n, dtype=nll.dtype, device=nll.device) / 2)


@unproved("one Monte Carlo draw of the sum that ddpm.bound proves; its mean over the generator is the bound")
def variational_bound(
    denoiser: Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]],
    x_0: Float[Tensor, "batch dim"],
    betas: Float[Tensor, " T"],
    Sigma: Float[Tensor, " T"] | None,
    generator: torch.Generator,
    levels: int | None = None,
) -> Float[Tensor, "T+1 batch"]:
    """Terms L_0, L_1, ..., L_T of the bound, nats per point; summed over the first axis: one draw of a bound on -log p.

    `denoiser(x_t, t)` predicts x_0, t = k / T a 0-dim tensor. `betas[k - 1]`, `Sigma[k - 1]` belong to step k; Sigma[0]
    is the decoder's variance, > 0. With Sigma None the model says its own: it returns (D, Sigma), see `bound.learned`,
    for a variance that differs from point to point. Each term has its own independent x_t ~ q(x_t | x_0): T calls of
    the model. L_0 is the discretised decoder's when `levels` is given, and minus the Gaussian log-density of x_0 when
    it is not.
    """
    T = len(betas)
    if x_0.ndim != 2 or betas.ndim != 1 or T == 0 or (Sigma is not None and Sigma.shape != betas.shape):
        told = None if Sigma is None else tuple(Sigma.shape)
        raise ValueError(
            f"variational_bound: x_0 {tuple(x_0.shape)}, betas {tuple(betas.shape)}, Sigma {told}; "
            "expected [batch, dim], [T] and [T] with T >= 1"
        )
    alpha_bar = torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])
    terms = []
    for k in range(1, T + 1):
        alpha_bar_s, beta_t = alpha_bar[k - 1], betas[k - 1]
        noise = torch.randn(x_0.shape, dtype=x_0.dtype, device=x_0.device, generator=generator)
        x_t = forward_mean(x_0, alpha_bar_s, beta_t) + torch.sqrt(forward_variance(alpha_bar_s, beta_t)) * noise
        said = denoiser(x_t, betas.new_tensor(k / T))
        if isinstance(said, tuple) and Sigma is None:
            D, variance = said
        elif isinstance(said, Tensor) and Sigma is not None:
            D, variance = said, Sigma[k - 1]
        else:
            raise ValueError("variational_bound: give Sigma, or a model that returns (D, Sigma); one of the two")
        if k > 1:
            squared = weight_x0(alpha_bar_s, beta_t, variance) * (x_0 - D) ** 2
            term = squared + variance_kl(alpha_bar_s, beta_t, variance)
        elif levels is None:
            term = ((x_0 - D) ** 2 / variance + torch.log(2 * math.pi * variance)) / 2
        else:
            term = -decoder_log_prob(x_0, D, torch.sqrt(variance), levels)
        terms.append(term.sum(1))
    return torch.stack([*terms, prior_kl(x_0, alpha_bar[T]).sum(1)])
