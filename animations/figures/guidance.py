"""Figures of `theory/guidance.py`: what guided samplers draw, beside the laws they were meant to draw from."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, QUIET, TRUTH, Page
from diffusion import ddim, guidance
from toy.inverse import replaced_pair
from toy.mixture import Mixture, gaussian
from toy.worlds import unequal_pair

CHAINS, STEPS, HIGH, LOW = 2_000, 600, 80.0, 1e-3
LEVELS = torch.logspace(math.log10(HIGH), math.log10(LOW), STEPS + 1, dtype=torch.float64)


def normal(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    """The density of N(mean, variance)."""
    return np.asarray(np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance))


def draws(seed: int) -> tuple[Generator, Tensor]:
    """Where chains begin, in pure noise."""
    generator = Generator().manual_seed(seed)
    return generator, HIGH * torch.randn(CHAINS, generator=generator, dtype=torch.float64)


def ancestral(x: Tensor, x0_hat: Tensor, high: Tensor, low: Tensor, generator: Generator) -> Tensor:
    """A step of the reverse SDE at alpha = 1."""
    one, kappa = torch.ones((), dtype=torch.float64), low / high
    z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    return ddim.mean(x, x0_hat, one, high, one, low, kappa, one) + ddim.std(low, kappa, one) * z


# ------------------------------------------------------------------------------------------------ classifier-free


def cfg_sample(pair: Mixture, w: float, seed: int) -> Tensor:
    """CFG's probability flow from pure noise, by Heun's method, whose own error does not show here."""
    _, x = draws(seed)
    models = [lambda x, t, label=label: pair.denoiser(x, 1.0, float(t), label) for label in (0, 1)]
    guided = guidance.classifier_free(models[0], models[1], w)
    for high, low in pairwise(LEVELS[::3]):
        slope = (x - guided(x[:, None], high)[:, 0]) / high
        trial = x + (low - high) * slope
        x = x + (low - high) / 2 * (slope + (trial - guided(trial[:, None], low)[:, 0]) / low)
    return x


def spread(values: Tensor) -> tuple[float, float]:
    """A sample's variance and twice its standard error."""
    variance = float(values.var())
    return variance, 2 * variance * math.sqrt(2 / len(values))


def cfg_discrepancy() -> Page:
    """Histograms of CFG's samples against the tilt, variances against w, and the pair that has no tilt."""
    page = Page("guidance.cfg_discrepancy", columns=3, panel=(4.6, 3.9))
    laws, against, absent = page.axes
    pair, grid = unequal_pair(), np.linspace(-2, 4, 400)
    (mu_c, mu_u), (c, u) = pair.means[:, 0].tolist(), pair.variances[:, 0].tolist()
    sampled = curve("guidance.cfg_flow", "sampled")
    w = 4.0
    mean, variance = (
        float(part) for part in guidance.tilted_gaussian(*(torch.tensor(v) for v in (mu_c, c, mu_u, u, w)))
    )
    laws.plot(grid, normal(grid, mu_u, u), color=QUIET, label="unconditional")
    laws.plot(grid, normal(grid, mu_c, c), color=DATA, label="conditional")
    laws.plot(grid, normal(grid, mean, variance), color=TRUTH, linestyle="--", label=f"the tilt, w = {w:g}")
    laws.hist(cfg_sample(pair, w, 10).numpy(), 25, density=True, color=MODEL, alpha=0.6, label="CFG draws")
    laws.set(title="what CFG draws", xlabel="x", ylabel="density", xlim=(-2, 4))
    laws.legend(fontsize=8)

    scales, shown = np.linspace(0, 8, 200), np.array([0.0, 0.5, 1, 2, 3, 4, 6, 8])
    for axes, s_c2, s_u2, world in (
        (against, c, u, pair),
        (absent, u, c, Mixture("swapped", pair.weights, pair.means, pair.variances.flip(0)[:, 0], pair.labels)),
    ):
        precision = scales / s_c2 + (1 - scales) / s_u2
        tilt = np.where(precision > 0, 1 / np.where(precision > 0, precision, 1), np.nan)
        axes.plot(scales, tilt, color=TRUTH, linestyle="--", label="the tilt's variance")
        path = sampled(s_c=math.sqrt(s_c2), s_u=math.sqrt(s_u2), w=scales)
        axes.plot(scales, path, color=MODEL, label=r"$s_c^{2w} s_u^{2(1-w)}$")
        found = np.array([spread(cfg_sample(world, float(at), seed)) for seed, at in enumerate(shown)])
        axes.errorbar(
            shown, found[:, 0], yerr=found[:, 1], fmt="o", color=NOISE, ms=4, label=f"CFG, {CHAINS:,} samples"
        )
        axes.set(xlabel="guidance scale w", ylabel="variance", yscale="log")
        axes.legend(fontsize=8)
    against.set(title=r"variances, $s_c < s_u$")
    limit = u / (u - c)
    absent.axvspan(limit, 8, color=QUIET, alpha=0.15)
    absent.text(limit + 0.3, 0.4, "no tilt: its precision\nis not positive", fontsize=9, color=QUIET)
    absent.set(title=r"$s_u < s_c$: beyond a scale no tilt exists")
    return page.say(
        """p(x|c) = N(1, 0.36) guided away from N(0, 1). CFG's flow draws neither p(x|c)^w p(x)^(1-w) nor any
        diffusion of it: its variance is their geometric mean
        of weights w and 1-w, the tilt's the harmonic one. For w > 1 CFG is
        too narrow; at w = 0 and 1 both agree. Right, variances exchanged: where w/s_c^2 + (1-w)/s_u^2 <= 0 (grey)
        there is no law to draw from, and CFG draws something all the same. Bars: two standard errors."""
    )


# ------------------------------------------------------------------------------------------------ inpainting


def replaced(rho: float, y_0: float, seed: int) -> Tensor:
    """Inpainting by replacement, the known coordinate noised anew each step."""
    generator, x = draws(seed)
    pair, one = replaced_pair(rho), torch.ones((), dtype=torch.float64)
    known = torch.tensor([0.0, y_0], dtype=torch.float64).expand(CHAINS, 2)
    mask = torch.tensor([False, True]).expand(CHAINS, 2)
    for high, low in pairwise(LEVELS):
        noise = torch.randn(CHAINS, 2, generator=generator, dtype=torch.float64)
        state = guidance.replace(torch.stack([x, x], -1), known, mask, one, high, noise)
        x = ancestral(x, pair.denoiser(state, 1.0, float(high))[:, 0], high, low, generator)
    return x


def inpainting_bias() -> Page:
    """A histogram against the conditional law; mean and variance over the correlation."""
    page = Page("guidance.inpainting_bias", columns=3, panel=(4.6, 3.9))
    laws, means, variances = page.axes
    y_0, rho, grid = 1.5, 0.8, np.linspace(-2, 4, 400)
    laws.plot(grid, normal(grid, rho * y_0, 1 - rho**2), color=TRUTH, linestyle="--", label="exact conditional")
    label = "replacement draws"
    laws.hist(replaced(rho, y_0, 10).numpy(), 25, density=True, color=MODEL, alpha=0.6, label=label)
    laws.set(title=rf"x given y = {y_0}, $\rho$ = {rho}", xlabel="x", ylabel="density", xlim=(-2, 4))
    laws.legend(fontsize=8)
    at, shown = np.linspace(0.01, 0.99, 200), np.array([0.1, 0.3, 0.5, 0.7, 0.9, 0.97])
    found = [replaced(float(r), 1.0, seed) for seed, r in enumerate(shown)]
    means.plot(at, at, color=TRUTH, linestyle="--", label=r"exact: $\rho$")
    means.plot(at, curve("guidance.inpainting_mean", "mean")(rho=at, y_0=1.0), color=MODEL, label="claim")
    errors = [2 * float(x.std()) / math.sqrt(CHAINS) for x in found]
    means.errorbar(shown, [float(x.mean()) for x in found], errors, fmt="o", ms=4, color=NOISE, label="drawn")
    means.set(title="mean, y = 1", xlabel=r"correlation $\rho$", ylabel="mean of x")
    variances.plot(at, 1 - at**2, color=TRUTH, linestyle="--", label=r"exact: $1 - \rho^2$")
    variances.plot(at, curve("guidance.inpainting_bias", "variance")(rho=at), color=MODEL, label="claim")
    bars = np.array([spread(x) for x in found]).T
    variances.errorbar(shown, bars[0], yerr=bars[1], fmt="o", ms=4, color=NOISE, label="drawn")
    variances.set(title="variance", xlabel=r"correlation $\rho$", ylabel="variance of x")
    for axes in (means, variances):
        axes.legend(fontsize=8)
    return page.say(
        f"""Two unit Gaussians of correlation rho; y is known, x is to be drawn given it, with the exact joint score.
        Replacement puts y, noised anew, into each step of the reverse SDE (no resampling). While there is noise the
        joint score trusts y_t too little: x stays too near 0 and too wide, the mean short by up to a half. No number
        of steps mends it. {STEPS} steps, {CHAINS:,} chains, bars of two standard errors."""
    )


# ------------------------------------------------------------------------------------------------ measurements


def dps_sample(kappa: float, seed: int) -> Tensor:
    """DPS by the reverse SDE: prior N(0, 1), measurement x_0 + noise of variance 1/kappa, seen as 1."""
    generator, x = draws(seed)
    prior, one = gaussian("line", torch.zeros(1), 1.0), torch.ones((), dtype=torch.float64)
    s_y = torch.tensor(kappa, dtype=torch.float64) ** -0.5
    for high, low in pairwise(LEVELS):
        hat, J = prior.denoiser(x[:, None], 1.0, float(high))[:, 0], 1 / (1 + high**2)
        x = ancestral(x, hat + high**2 * guidance.dps_score(one, hat, J, one, s_y), high, low, generator)
    return x


def dps() -> Page:
    """The two scores over the noise levels; mean and variance of what DPS draws, over the measurement's quality."""
    page = Page("guidance.dps", columns=3, panel=(4.6, 3.9))
    pull, means, variances = page.axes
    sigma = np.geomspace(0.02, 20, 200)
    J, kappa = 1 / (1 + sigma**2), 5.0
    state = {"a": 1.0, "J": J, "y": 1.0, "x0_hat": 0.0, "s_y": kappa**-0.5}
    pull.loglog(sigma, curve("guidance.dps", "exact")(V=sigma**2 * J, **state), color=TRUTH, ls="--", label="exact")
    pull.loglog(sigma, curve("guidance.dps", "dps")(**state), color=NOISE, label=r"DPS: $s^2$ alone")
    pull.set(title=rf"pull of the measurement, $\kappa$ = {kappa:g}", xlabel=r"noise $\sigma$", ylabel="score")
    at, shown = np.geomspace(0.1, 30, 200), np.array([0.1, 0.3, 1, 3, 10, 30])
    found = [dps_sample(float(value), seed) for seed, value in enumerate(shown)]
    means.plot(at, at / (1 + at), color=TRUTH, linestyle="--", label=r"posterior: $\kappa/(1 + \kappa)$")
    means.plot(at, curve("guidance.dps_mean", "mean")(kappa=at, y=1.0), color=MODEL, label="claim")
    errors = [2 * float(x.std()) / math.sqrt(CHAINS) for x in found]
    means.errorbar(shown, [float(x.mean()) for x in found], errors, fmt="o", ms=4, color=NOISE, label="drawn")
    means.set(title="mean, measured: 1", ylabel="mean")
    variances.plot(at, 1 / (1 + at), color=TRUTH, linestyle="--", label=r"posterior: $1/(1 + \kappa)$")
    variances.plot(at, curve("guidance.dps_variance", "variance")(kappa=at, v=1.0), color=MODEL, label="claim")
    bars = np.array([spread(x) for x in found]).T
    variances.errorbar(shown, bars[0], yerr=bars[1], fmt="o", ms=4, color=NOISE, label="drawn")
    variances.set(title="variance, of a prior of 1", ylabel="variance", yscale="log")
    for axes in (means, variances):
        axes.set(xlabel=r"$\kappa = a^2 v/s^2$ of the measurement", xscale="log")
    for axes in page.axes:
        axes.legend(fontsize=8)
    return page.say(
        f"""A Gaussian prior, one noisy linear measurement, exact denoisers. DPS leaves Var[x_0 | x_t] out of the
        likelihood's variance: while there is noise it pulls too hard (left). Sampled by the reverse SDE it moves
        1 - exp(-kappa) of the way to the measurement, too far, and is too sure of it: half the posterior's variance
        for large kappa. {STEPS} steps, {CHAINS:,} chains, bars of two standard errors."""
    )
