"""Figures of the SDE's claims (`theory/sde.py`, `theory/likelihood.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Generator, Tensor

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, OTHER, QUIET, TRUTH, Page
from animations.figures.transport import corrector_bias as corrector_bias
from animations.figures.transport import lambda_family as lambda_family
from animations.figures.transport import not_optimal_transport as not_optimal_transport
from animations.figures.transport import reverse_kernel_gaussian as reverse_kernel_gaussian
from animations.figures.transport import speciation as speciation
from animations.figures.transport import spectrum as spectrum
from diffusion import hutchinson
from diffusion.likelihood import log_likelihood
from diffusion.schedules import cosine, vp_linear
from toy import backward
from toy.field import Field
from toy.mixture import Mixture, gaussian
from toy.world import World
from toy.worlds import make

DOUBLE = torch.float64
UNIT = torch.ones(1, dtype=DOUBLE)  # the variance of N(0, 1)
WRONG = 0.1  # the share by which the score is too large
TAU = 10.05  # int beta dt of vp_linear


# --------------------------------------------------------------------------------------- two laws under one noise

MODES = Mixture("modes", torch.ones(2), torch.tensor([[0.9], [-0.9]]), 0.19)
PAIRS: tuple[tuple[str, str, World, World], ...] = (
    (DATA, "two modes and N(0, 1)", MODES, gaussian("normal", torch.zeros(1), 1.0)),
    (NOISE, "N(0, 1) and N(0, 1/10)", gaussian("normal", torch.zeros(1), 1.0), gaussian("narrow", torch.zeros(1), 0.1)),
    (MODEL, "N(0, 1) and N(1, 1)", gaussian("normal", torch.zeros(1), 1.0), gaussian("beside", torch.ones(1), 1.0)),
)
LINE = torch.linspace(-10, 10, 1_601, dtype=DOUBLE)[:, None]


def compared(p: World, q: World, alpha: float, sigma: float) -> tuple[float, float]:
    """KL(p_t || q_t) and E_p (score_p - score_q)^2, in one dimension, by the trapezoid rule."""
    log_p, log_q = (world.log_density(LINE, alpha, sigma) for world in (p, q))
    apart = (p.score(LINE, alpha, sigma) - q.score(LINE, alpha, sigma))[:, 0] ** 2
    means = (torch.trapezoid(log_p.exp() * value, LINE[:, 0]) for value in (log_p - log_q, apart))
    kl, fisher = (float(mean) for mean in means)
    return kl, fisher


def kl_derivative() -> Page:
    """KL of two laws noised by one SDE, and its rate: differences of KL against the claim's -(g^2/2) E (...)^2."""
    page = Page("sde.kl_derivative", columns=2, panel=(5.4, 4.2))
    left, right = page.axes
    schedule, t = vp_linear(), torch.linspace(0.001, 0.999, 121, dtype=DOUBLE)
    alpha, sigma, g2 = schedule.alpha(t), schedule.sigma(t), schedule.diffusion2(t)
    for hue, name, p, q in PAIRS:
        found = [compared(p, q, float(a), float(s)) for a, s in zip(alpha, sigma, strict=True)]
        nats, fisher = torch.tensor(found, dtype=DOUBLE).T
        left.plot(t, nats, color=hue, linewidth=2.5, label=name)
        right.plot(t, g2 / 2 * fisher, color=TRUTH, linestyle="--", linewidth=1.2)
        middle, fall = (t[1:] + t[:-1]) / 2, -nats.diff() / t.diff()
        right.plot(middle[::5], fall[::5], "o", color=hue, markersize=5)
    right.plot(
        [], [], color=TRUTH, linestyle="--", label=r"$\frac{g^2}{2}\, E_p (\mathrm{score}_p - \mathrm{score}_q)^2$"
    )
    right.plot([], [], "o", color=QUIET, label="fall of KL between two times")
    left.set(xlabel="t, data at 0, noise at 1", ylabel=r"KL($p_t\,||\,q_t$), nats", yscale="log", ylim=(1e-6, 20))
    right.set(xlabel="t, data at 0, noise at 1", ylabel="nats per unit of time", yscale="log", ylim=(1e-5, 100))
    left.legend(fontsize=9, loc="lower left")
    right.legend(fontsize=9, loc="lower left")
    return page.say(
        """Two laws, noised by the same VP-SDE, become alike: KL falls to nothing, at the rate of the squared distance
        of their scores, whatever the drift. Added up over all times that distance is the KL of the laws at t = 0, but
        for what is left at t = 1: hence score matching with the weight g^2."""
    )


# ------------------------------------------------------------------------------------------ what the loss bounds


def drawn_by_steps(noise: float, n: int = 20_000, steps: int = 1_000) -> Tensor:
    """n draws of the model, its noise lambda g: Euler-Maruyama from N(0, 1) in equal steps of w = int beta dt."""
    generator, h = Generator().manual_seed(0), TAU / steps
    x = torch.randn(n, generator=generator, dtype=DOUBLE)
    for _ in range(steps):
        drift = x / 2 - (1 + noise**2) / 2 * (1 + WRONG) * x
        x = x + h * drift + noise * math.sqrt(h) * torch.randn(n, generator=generator, dtype=DOUBLE)
    return x


def drawn_nats(noises: Sequence[float]) -> Tensor:
    """KL(data || model) by the variance of draws, between its 95 % limits: [3, noises]."""
    drawn = [drawn_by_steps(noise) for noise in noises]
    off = 1.96 * math.sqrt(2 / len(drawn[0]))  # of a Gaussian sample's variance, relative
    variances = torch.stack([x.var() for x in drawn]) * torch.tensor([[1 - off], [1.0], [1 + off]], dtype=DOUBLE)
    nats = backward.kl(UNIT.expand(variances.numel(), 1), variances.reshape(-1, 1)).reshape(variances.shape)
    return torch.stack([nats.amin(0), nats[1], nats.amax(0)])


def flow_nats(n: int = 4_000) -> tuple[float, float]:
    """E[log p - log q] and its 95 % limits, q the density of the ODE with the wrong score, by `log_likelihood`."""
    schedule, world = vp_linear(), gaussian("normal", torch.zeros(1), 1.0)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return (1 - schedule.sigma(t) ** 2 * (1 + WRONG)) / schedule.alpha(t) * x

    x = world.sample(n, Generator().manual_seed(1))
    lost = world.log_density(x) - log_likelihood(denoiser, schedule, x, rtol=1e-6, atol=1e-6)
    return float(lost.mean()), 1.96 * float(lost.std()) / math.sqrt(n)


def likelihood_weighting() -> Page:
    """KL(data || model) against the model's noise, the score 10 % too large; and how it gathers on the way."""
    page = Page("sde.likelihood_weighting", columns=2, panel=(5.4, 4.2))
    left, right = page.axes
    schedule, loss = vp_linear(), backward.weighted_loss(UNIT, vp_linear(), WRONG)
    noises = np.linspace(0, 2.2, 45)
    ends = [backward.drawn_back(UNIT, schedule, float(noise), WRONG, steps=200)[1][-1] for noise in noises]
    nats = np.array([float(backward.kl(UNIT, V)) for V in ends])
    bound = loss * curve("sde.kl_model", "factor")(**{"lambda": noises[1:]})
    left.plot(noises[1:], bound, color=TRUTH, linestyle="--", label=r"its bound, loss $(\lambda + 1/\lambda)^2/4$")
    left.axhline(loss, color=QUIET, linewidth=1.2, label="the loss, weight $g^2$")
    left.plot(noises, nats, color=MODEL, linewidth=2.5, label="KL(data || model)")
    left.fill_between(noises, loss, nats, where=list(nats > loss), color=NOISE, alpha=0.25, linewidth=0)
    left.text(0.04, 0.066, "above\nthe loss", color=NOISE, fontsize=9)
    at = (0.25, 0.5, 1.0, 1.5, 2.0)
    low, drawn, high = drawn_nats(at)
    bars = (drawn - low, high - drawn)
    left.errorbar(at, drawn, bars, fmt="o", color=MODEL, capsize=3, label="the same, of 20,000 draws, 95 % limits")
    value, error = flow_nats()
    left.errorbar([0], [value], [error], fmt="D", color=NOISE, label="the ODE's density, 95 % limits", clip_on=False)
    left.set(
        xlabel=r"the model's noise $\lambda$ (ODE 0, SDE 1)", ylabel="nats", yscale="log", ylim=(2e-3, 2), xlim=(0, 2.2)
    )
    left.legend(fontsize=8.5)

    w = np.linspace(1e-3, TAU, 200)
    right.plot(w, loss * w / TAU, color=QUIET, linewidth=1.2)
    right.text(TAU, 1.3 * loss, " the loss", color=QUIET, fontsize=9, va="center")
    closed = curve("sde.ode_exceeds", line=3)
    for noise, hue, name, lift in (
        (0.0, NOISE, "ODE", 1),
        (0.5, OTHER, r"$\lambda = 1/2$", 0.8),
        (1.0, MODEL, "SDE", 1),
    ):
        t, V = backward.drawn_back(UNIT, schedule, noise, WRONG)
        gone = TAU - (0.1 * t + 19.9 * t**2 / 2)
        right.plot(gone, backward.kl(UNIT.expand_as(V), V), color=hue, linewidth=2.5)
        right.text(TAU, lift * float(backward.kl(UNIT, V[-1])), f" {name}", color=hue, fontsize=9, va="center")
    right.plot(w, closed(epsilon=WRONG, tau=w), color=TRUTH, linestyle="--", linewidth=1.2)
    right.set(
        xlabel=r"$\int \beta\,dt$ from the noise to the data",
        ylabel="nats so far",
        yscale="log",
        ylim=(2e-4, 2),
        xlim=(0, 11.8),
    )
    return page.say(
        """Data N(0, 1) under VP, and a score that is 10 % too large everywhere. The loss with weight g^2 bounds the KL
        of the reversed SDE (noise 1), times (lambda + 1/lambda)^2/4 that of the family between. It does not bound the
        ODE's: there nothing pulls the law back, errors add up, and after two units of int beta dt (dashed: the closed
        form) KL is above the loss; at the data it is seven times the loss."""
    )


# ----------------------------------------------------------------------------------------- what a probe costs

PIXELS = Field("field", (1, 8, 8))
KINDS: tuple[tuple[hutchinson.Kind, str], ...] = (("gaussian", NOISE), ("rademacher", DATA))


def measured_variance(A: Tensor, kind: hutchinson.Kind, n: int = 20_000) -> tuple[float, float]:
    """Mean of (v^T A v - tr A)^2 over n probes, and its 95 % limits."""
    v = hutchinson.probes(kind, n, A[0], Generator().manual_seed(0))
    square = (torch.einsum("ni,ij,nj->n", v, A, v) - A.trace()) ** 2
    return float(square.mean()), 1.96 * float(square.std()) / math.sqrt(n)


def jacobians() -> list[tuple[str, Tensor]]:
    """d D/dx of exact denoisers, with names: a ring's, between two components and on one; images at three noises."""
    ring = make("ring")
    between = torch.tensor([[0.9, 0.5]], dtype=DOUBLE)
    found = [("ring", 0.6 / 0.64 * ring.posterior_covariance(between, 0.6, 0.8)[0])]
    for sigma in (0.2, 0.8, 3.0):
        covariance = PIXELS.posterior_covariance(torch.zeros(1, 64, dtype=DOUBLE), 1.0, sigma)[0]
        found.append((rf"8x8 images, $\sigma$ = {sigma:g}", covariance / sigma**2))
    return found


def gathered(start: float) -> Tensor:
    """M with log p - estimate = v^T M v - tr M for images at t = start, cosine: int b dD/dx dt, D being linear."""
    schedule, S = cosine(), PIXELS.spectrum

    def rate(t: Tensor) -> Tensor:
        alpha, sigma, alpha_dot, sigma_dot = (value[:, None] for value in schedule.kernel(t))
        return (alpha_dot - alpha * sigma_dot / sigma) * alpha * S / (alpha**2 * S + sigma**2)

    basis = PIXELS.hartley(torch.eye(64, dtype=DOUBLE))
    return (basis * backward.over(rate, start, 1.0)) @ basis


def likelihood_errors(axes: Axes, start: float = 0.05, n: int = 200) -> None:
    """Standard deviation of the estimate of log p against the number of probes, both kinds."""
    schedule, M, k = cosine(), gathered(start), np.array([1, 4, 16, 64])
    alpha, sigma = schedule.alpha(torch.tensor(start, dtype=DOUBLE)), schedule.sigma(torch.tensor(start, dtype=DOUBLE))
    x = PIXELS.noised(1, alpha, sigma, Generator().manual_seed(2))[1].expand(n, -1)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return PIXELS.denoiser(x, schedule.alpha(t), schedule.sigma(t))

    for kind, hue in KINDS:
        axes.plot(k, np.sqrt(float(hutchinson.variance(M, kind)) / k), color=TRUTH, linestyle="--", linewidth=1.4)
        for probes in k:
            found = log_likelihood(
                denoiser, schedule, x, start=start, probes=int(probes), kind=kind, rtol=1e-3, atol=1e-3,
                generator=Generator().manual_seed(3),
            )  # fmt: skip
            spread = float(found.std())
            axes.errorbar([probes], [spread], [1.96 * spread / math.sqrt(2 * n)], fmt="o", color=hue, capsize=3)
    axes.set(xlabel="probes", ylabel="standard deviation of log p, nats", xscale="log", yscale="log", xticks=k)
    axes.set_xticks(k, [str(value) for value in k])
    axes.minorticks_off()
    axes.set_title("log p of an 8 x 8 image")


def hutchinson_variance_rademacher() -> Page:
    """Variance of v^T A v for both probes against the diagonal's share; and the error of log p it makes in images."""
    page = Page("sde.hutchinson_variance_rademacher", columns=2, panel=(5.4, 4.2))
    left, right = page.axes
    share = np.linspace(0, 1, 101)
    own, mixed = np.sqrt(share / 2), np.sqrt((1 - share) / 2)  # ||sym A||_F = 1
    off = {"A_12": mixed, "A_21": mixed}
    exact = curve("sde.hutchinson_variance_gaussian")(A_11=own, A_22=own, **off)
    left.plot(share, exact, color=TRUTH, linestyle="--", linewidth=1.4)
    left.plot(share, curve("sde.hutchinson_variance_rademacher")(**off), color=TRUTH, linestyle="--", linewidth=1.4)
    marks = ("s", "v", "o", "^")
    for mark, (name, A) in zip(marks, jacobians(), strict=True):
        norm = float((((A + A.T) / 2) ** 2).sum())
        at = float((A.diagonal() ** 2).sum()) / norm
        left.plot([], [], mark, color=QUIET, label=name)
        for kind, hue in KINDS:
            value, error = measured_variance(A, kind)
            left.errorbar([at], [value / norm], [error / norm], fmt=mark, color=hue, markersize=7, capsize=3)
    left.text(0.03, 2.1, "Gaussian probes", color=NOISE, fontsize=10)
    left.text(0.36, 1.36, "random signs", color=DATA, fontsize=10)
    left.set(
        xlabel=r"share of the diagonal, $\sum_i A_{ii}^2 \,/\, \|\mathrm{sym}\,A\|_F^2$",
        ylabel=r"Var $v^T A v \,/\, \|\mathrm{sym}\,A\|_F^2$",
        ylim=(0, 2.5),
        xlim=(0, 1.02),
    )
    left.legend(fontsize=8.5, loc="lower left")
    left.set_title("one probe")
    likelihood_errors(right)
    return page.say(
        """One probe's variance, with the Jacobian's norm as the unit: Gaussian probes pay for the whole matrix, random
        signs only for what is off the diagonal. Marks: denoisers' Jacobians, 20,000 probes, 95 % limits. On the right
        what it makes of log p of an 8 x 8 image, by the probability-flow ODE: lines from the claims, marks the spread
        of estimates; the exact trace would take 64 passes."""
    )


# ------------------------------------------------------------------------------------------- what a sampler errs by


def sampler_error() -> Page:
    """KL(data || sampler) against its three-term bound, for the exact score and one that is 10 % too small."""
    page = Page("sde.sampler_error", columns=2, panel=(5.4, 4.2))
    schedule, data = vp_linear(), torch.tensor([0.25], dtype=DOUBLE)
    counts = (25, 50, 100, 200, 400, 800)
    for axes, wrong, title in zip(page.axes, (0.0, -WRONG), ("the exact score", "a score 10 % too small"), strict=True):
        found = [backward.sampled(data, schedule, steps, wrong) for steps in counts]
        axes.plot(counts, [f.discretisation for f in found], color=OTHER, linewidth=2.5, label="discretisation")
        if wrong:
            axes.plot(counts, [f.score for f in found], color=NOISE, linewidth=2.5, label="score error")
        axes.plot(counts, [f.bound for f in found], color=TRUTH, linestyle="--", label="bound: the sum of the terms")
        axes.plot(counts, [f.nats for f in found], "o-", color=MODEL, linewidth=2.5, label="KL(data || sampler)")
        axes.set(xscale="log", yscale="log", xlabel="steps", ylabel="nats", title=title, ylim=(1e-6, 20))
        axes.set_xticks(counts, [str(steps) for steps in counts])
        axes.minorticks_off()
        axes.legend(fontsize=8.5, loc="lower left")
    prior = backward.sampled(data, schedule, 25, 0.0).prior
    return page.say(
        f"""Data N(0, 1/4) under VP, the reversed SDE with its score kept over each step, all exact. The bound holds and
        is loose: it bounds whole paths, and counts each error twice. Its discretisation falls like 1/steps, the KL of
        what is drawn like 1/steps^2; with a wrong score both end on a floor, the bound's far above. The third term, the
        prior's mismatch, is {prior:.0e} nats here."""
    )
