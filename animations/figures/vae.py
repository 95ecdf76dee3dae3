"""Figures of `theory/vae.py`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, OTHER, QUIET, TRUTH, Page
from diffusion import vae
from toy.ppca import LinearGaussian, mean_bound, mean_rates, ppca

# ------------------------------------------------------------------------------------------------ posterior collapse

NOISE_VARIANCE = 1.0  # v, fixed
VARIANCES = torch.logspace(-0.7, 2, 18, dtype=torch.float64)  # l of 18 directions
DRAWS = 4_000
BETAS = ((DATA, 0.5), (MODEL, 2.0), (NOISE, 8.0))


def trained_rates(covariance: Tensor, beta: float, generator: Generator) -> Tensor:
    """What each latent of a trained linear VAE tells, in nats, largest first: one latent for every direction.

    A rotation of z changes nothing in the bound: after training z is turned so that W's columns are orthogonal.
    """
    n = len(covariance)
    W, A = (0.3 * torch.randn(n, n, generator=generator, dtype=torch.float64) for _ in range(2))
    root = torch.eye(n, dtype=torch.float64)  # of the encoder's covariance
    free = [part.requires_grad_() for part in (W, A, root)]
    optimizer = torch.optim.LBFGS(free, max_iter=300, history_size=40, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -mean_bound(W, A, root @ root.T, NOISE_VARIANCE, covariance, beta)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        turn = torch.linalg.svd(W).Vh
        rates = mean_rates(turn @ A, turn @ root @ root.T @ turn.T, covariance)
    return rates.sort(descending=True).values


def posterior_collapse_beta() -> Page:
    """Nats of each latent of linear beta-VAEs trained on one data set, against the variance of its direction."""
    page = Page("vae.posterior_collapse_beta", panel=(8, 4.4))
    (axes,) = page.axes
    generator = Generator().manual_seed(0)
    x = VARIANCES.sqrt() * torch.randn(DRAWS, len(VARIANCES), generator=generator, dtype=torch.float64)
    covariance = x.T @ x / DRAWS
    seen = torch.linalg.eigvalsh(covariance).flip(0)
    l, rate = np.logspace(-0.8, 2.1, 400), curve("vae.latent_rate", "rate")
    for hue, beta in BETAS:
        threshold = beta * NOISE_VARIANCE
        w = np.sqrt(np.maximum(l - threshold, 0))
        axes.plot(l, rate(w=w, v=NOISE_VARIANCE, beta=beta), color=TRUTH, linestyle="--", linewidth=1.2)
        told = trained_rates(covariance, beta, generator)
        axes.plot(seen, told, "o", color=hue, markersize=6, label=rf"trained, $\beta$ = {beta:g}")
        axes.axvline(threshold, ymax=0.06, color=hue, linewidth=2.5)
        axes.text(threshold * 1.06, -0.16, rf"$\beta v$ = {threshold:g}", color=hue, fontsize=9, va="top")
    axes.plot([], [], color=TRUTH, linestyle="--", linewidth=1.2, label=r"$\frac{1}{2}\log(l/\beta v)$, or 0")
    axes.set(xscale="log", ylim=(-0.35, 2.9), xlabel="l, variance of the data along the direction (noise v = 1)")
    axes.set(ylabel="KL of the latent from its prior, nats")
    axes.axhline(0, color=QUIET, linewidth=0.6)
    axes.legend(loc="upper left")
    return page.say(
        """A direction of the data gets a latent only if its variance is more than beta v; below, the encoder is the
        prior and tells nothing. Points: three linear VAEs with 18 latents, trained by gradient ascent on 4,000 draws.
        No optimiser is at fault: this is the best there is. Raising beta kills the weak directions first."""
    )


# ------------------------------------------------------------------------------------------------ diagonal encoders


def columns(angle: float, signal: float) -> LinearGaussian:
    """Two columns of W at this angle (degrees), |w|^2/v = signal, in the plane; v = 1."""
    t = math.radians(angle)
    W = math.sqrt(signal) * torch.tensor([[1.0, math.cos(t)], [0.0, math.sin(t)]], dtype=torch.float64)
    return LinearGaussian(f"angle {angle:g}", W, torch.zeros(2, dtype=torch.float64), 1.0)


def best_diagonal(world: LinearGaussian, x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean, variances and bound at x [1, dim] of the best diagonal encoder, by gradient ascent."""
    m, log_c = (torch.zeros(world.latents, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.LBFGS([m, log_c], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -world.bound(x, m[None], log_c.exp().diag())[0]
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return m.detach(), log_c.detach().exp(), -loss().item()


def ellipse(mean: Tensor, covariance: Tensor, radius: float = 2.0) -> Tensor:
    """The points at that many standard deviations, [n, 2]."""
    turn = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    return mean + radius * torch.stack((turn.cos(), turn.sin()), -1) @ torch.linalg.cholesky(covariance).T


def diagonal_encoder() -> Page:
    """A posterior and its best diagonal encoder; what that misses, against the angle between W's columns."""
    page = Page("vae.diagonal_encoder", columns=2, panel=(4.9, 4.2))
    left, right = page.axes
    world, x = columns(45, 8.0), torch.tensor([[2.0, 1.5]], dtype=torch.float64)
    (mean, S), (m, c, _) = world.encoder(x), best_diagonal(world, x)
    left.plot(*ellipse(mean[0], S).T, color=TRUTH, linestyle="--", label="posterior")
    left.plot(*ellipse(m, c.diag()).T, color=NOISE, label="best diagonal encoder")
    left.set(xlabel=r"$z_1$", ylabel=r"$z_2$", title=r"columns 45° apart, $|w|^2 = 8 v$; 2 standard deviations")
    left.set(aspect="equal", xlim=(-1.1, 1.7), ylim=(-0.6, 2.1))
    left.legend(loc="upper right", fontsize=9)

    angles, gap = np.linspace(1, 179, 200), curve("vae.diagonal_encoder", "gap")
    for hue, signal in ((NOISE, 32.0), (MODEL, 8.0), (DATA, 2.0)):
        rho = np.abs(np.cos(np.radians(angles))) * signal / (1 + signal)  # of the precision I + W^T W/v
        right.plot(angles, gap(rho=rho), color=TRUTH, linestyle="--", linewidth=1.2)
        for angle in range(10, 180, 10):
            law = columns(angle, signal)
            missed = float(law.log_density(x)[0]) - best_diagonal(law, x)[2]
            right.plot(angle, missed, "o", color=hue, label=rf"$|w|^2 = {signal:g} v$" if angle == 10 else None)
    right.plot([], [], color=TRUTH, linestyle="--", linewidth=1.2, label=r"$-\frac{1}{2}\log(1 - \rho^2)$")
    right.set(xlabel="angle between the columns of W, degrees", ylabel="nats missed: evidence less best bound")
    right.set(xticks=range(0, 181, 45), ylim=(-0.05, 1.75))
    right.legend(loc="upper center", fontsize=9)
    return page.say(
        """An encoder with independent coordinates cannot follow a tilted posterior: its best is too narrow. It is tight
        only where two columns of W are at right angles. Points: best diagonal encoders found by gradient ascent, at one
        x (what they miss is the same at all). The less the noise, the more is missed: latents that share a direction of
        the data explain each other away."""
    )


# ------------------------------------------------------------------------------------------------ several samples

COUNTS = 2 ** np.arange(0, 9)
REPEATS = 20_000


def importance_bounds(world: LinearGaussian, x: Tensor, m: Tensor, S: Tensor, generator: Generator) -> list[Tensor]:
    """For K = 1, 2, 4 ..: log mean weights of independent sets of K draws of N(m, S), fewer sets for larger K."""
    encoder = torch.distributions.MultivariateNormal(m, S)
    found = []
    for K in COUNTS.tolist():
        sets = max(REPEATS // K, 1_000)
        z = m + torch.randn(sets * K, len(m), generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(S).T
        log_w = world.log_joint(x.expand(len(z), -1), z) - encoder.log_prob(z)
        found.append(vae.importance_weighted(log_w.reshape(sets, K)))
    return found


def iwae_monotone() -> Page:
    """L_K against K at one x, for three encoders: bounds rise to the evidence, from wherever the ELBO is."""
    page = Page("vae.iwae_monotone", panel=(8, 4.4))
    (axes,) = page.axes
    world, generator = ppca(), Generator().manual_seed(0)
    x = world.sample(1, generator)
    mean, S = (part.squeeze(0) for part in world.encoder(x))
    narrow = (1 / world.precision().diagonal()).diag()
    encoders = (
        (DATA, "best diagonal encoder", mean, narrow),
        (OTHER, "posterior's covariance, mean off by a standard deviation", mean + S.diagonal().sqrt(), S),
        (NOISE, "prior", torch.zeros_like(mean), torch.eye(len(mean), dtype=torch.float64)),
    )
    evidence = float(world.log_density(x)[0])
    axes.axhline(evidence, color=TRUTH, linestyle="--", linewidth=1.2, label=r"evidence $\log p(x)$")
    for hue, name, m, covariance in encoders:
        drawn = importance_bounds(world, x, m, covariance, generator)
        middle = np.array([float(d.mean()) for d in drawn])
        error = np.array([1.96 * float(d.std()) / math.sqrt(len(d)) for d in drawn])
        axes.errorbar(COUNTS, middle, error, color=hue, marker="o", capsize=3, label=name)
        elbo = float(world.bound(x, m[None], covariance)[0])
        axes.plot(0.8, elbo, ">", color=hue, markersize=8)
    axes.plot([], [], ">", color=QUIET, label="ELBO, in closed form")
    axes.set(xscale="log", xticks=COUNTS, xticklabels=COUNTS, xlim=(0.7, 300))
    axes.minorticks_off()
    axes.set(xlabel="K, draws of the encoder", ylabel=r"$L_K$, nats")
    axes.legend(loc="lower right", fontsize=9)
    return page.say(
        """The logarithm of a mean of K weights, on average: the ELBO for K = 1, never less for more draws, never above
        the evidence. Each step up is a divergence, and zero only for a perfect encoder. With 95 % limits. Draws make up
        for a poor encoder, slowly: the prior needs hundreds where a good one needs a few."""
    )
