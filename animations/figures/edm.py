"""Figures of `theory/edm.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, OTHER, QUIET, TRUTH, Page
from diffusion import edm
from diffusion.ema_profiles import combination, power_of
from toy.mixture import Mixture

UPDATES = 4000
STORED = (0.05, 0.10)  # relative widths


def profile(sigma_rel: float, end: float) -> Tensor:
    """Weights of the iterates 1 ... UPDATES in the average after `end` updates."""
    share = (torch.arange(UPDATES + 1, dtype=torch.float64) / end).clamp(max=1)
    return (share ** (power_of(sigma_rel) + 1)).diff()


def reconstructed(sigma_rel: float, times: Tensor) -> Tensor:
    """The nearest combination of both stored profiles at these times to the profile of sigma_rel at the end."""
    gamma = torch.tensor([power_of(width) for width in STORED], dtype=torch.float64).repeat_interleave(len(times))
    stored = torch.stack([profile(width, float(end)) for width in STORED for end in times])
    return combination(gamma, times.repeat(len(STORED)), power_of(sigma_rel), UPDATES) @ stored


def post_hoc_ema() -> Page:
    """A profile nobody stored, from the two stored at the end and from sixteen; the misfit over all widths."""
    page = Page("edm.post_hoc_ema", columns=2, panel=(5.6, 4.4))
    left, right = page.axes
    at_end = torch.tensor([UPDATES], dtype=torch.float64)
    on_the_way = torch.arange(1, 9, dtype=torch.float64) * UPDATES / 8
    when = np.arange(1, UPDATES + 1) / UPDATES
    wanted = 0.18
    for width, dashes in zip(STORED, (":", "-"), strict=True):
        look: dict[str, Any] = {"color": QUIET, "linestyle": dashes, "linewidth": 1.2}
        left.plot(when, UPDATES * profile(width, UPDATES), **look, label=f"stored, {width:.0%}")
        right.axvline(width, **look, label=f"stored, {width:.0%}")
    for hue, name, times in ((NOISE, "from 2 stored", at_end), (MODEL, "from 16 stored", on_the_way)):
        left.plot(when, UPDATES * reconstructed(wanted, times), color=hue, linewidth=2.4, label=f"{wanted:.0%} {name}")
    left.plot(
        when,
        UPDATES * profile(wanted, UPDATES),
        color=TRUTH,
        linestyle="--",
        linewidth=1.2,
        label=f"{wanted:.0%}: wanted",
    )

    missed = curve("edm.post_hoc_error", "missed")
    widths = np.linspace(0.025, 0.28, 400)
    powers = np.array([power_of(float(width)) for width in widths])
    theory = np.sqrt(missed(gamma=powers, gamma_1=power_of(STORED[0]), gamma_2=power_of(STORED[1])))
    right.plot(widths, theory, color=TRUTH, linestyle="--", linewidth=1.2, label="2 stored, closed form")
    tried = (0.03, 0.04, 0.06, 0.075, 0.085, 0.12, 0.15, 0.18, 0.22, 0.26)
    for hue, name, times in ((NOISE, "2 stored", at_end), (MODEL, "16 stored on the way", on_the_way)):
        truths = [profile(width, UPDATES) for width in tried]
        misfits = [float((reconstructed(w, times) - p).norm() / p.norm()) for w, p in zip(tried, truths, strict=True)]
        right.plot(tried, misfits, "o", color=hue, label=name)
    left.set(xlabel="share of the training", ylabel="weight per share of the training", title="Profiles", xlim=(0, 1))
    left.set_ylim(-0.4, 9)
    right.set(xlabel=r"wanted relative width $\sigma_{rel}$", ylabel="misfit, relative to the profile", title="Misfit")
    right.set(yscale="log", ylim=(1e-4, 2))
    left.legend(fontsize=9, loc="upper left")
    right.legend(fontsize=9, loc="lower right")
    return page.say(
        """Left: two averages are kept in training, of relative width 5 % and 10 %; afterwards their best combination
        stands in for 18 %. Right: with both as they stand at the end the misfit follows the closed form, nothing at
        the stored widths and much outside of them; eight snapshots of both on the way, every 1/8 of the training,
        bring it down everywhere. Dots: measured on the averages' own weights, iterate by iterate."""
    )


def churn() -> Page:
    """Variance after churn over that of the level it claims, against S_noise; the law on two modes."""
    page = Page("edm.churn", columns=2, panel=(5.6, 4.4))
    left, right = page.axes
    generator, n = torch.Generator().manual_seed(0), 20_000
    sigma = torch.tensor(0.3, dtype=torch.float64)
    added, raised = curve("edm.churn", "noise"), curve("edm.churn", "sigma_hat")
    S = np.linspace(0.7, 1.3, 100)
    tried = (0.75, 0.9, 1.0, 1.1, 1.25)
    for hue, gamma in ((DATA, 0.1), (OTHER, math.sqrt(2) - 1), (MODEL, 1.5)):
        level = raised(sigma=0.3, gamma=gamma) ** 2
        left.plot(
            S, (0.09 + added(sigma=0.3, gamma=gamma, S_noise=S) ** 2) / level, color=hue, label=f"gamma = {gamma:.2f}"
        )
        for S_noise in tried:
            x = sigma * torch.randn(n, 1, dtype=torch.float64, generator=generator)
            x, sigma_hat = edm.churn(x, sigma, gamma, generator, S_noise)
            ratio = float((x**2).mean() / sigma_hat**2)
            left.errorbar(
                S_noise, ratio, yerr=2 * ratio * math.sqrt(2 / n), fmt="o", color=hue, markersize=4, capsize=2
            )
    left.axhline(1, color=TRUTH, linestyle="--", linewidth=1.2)
    left.axvline(1, color=TRUTH, linestyle="--", linewidth=1.2)

    world, gamma = Mixture("two modes", torch.ones(2), torch.tensor([[0.97], [-0.97]]), 0.06), math.sqrt(2) - 1
    grid = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None]
    for hue, S_noise in ((MODEL, 1.0), (NOISE, 1.25)):
        _, x = world.noised(10 * n, 1.0, float(sigma), generator)
        x, sigma_hat = edm.churn(x, sigma, gamma, generator, S_noise)
        right.hist(
            x[:, 0].numpy(),
            bins=120,
            range=(-3, 3),
            density=True,
            histtype="step",
            color=hue,
            label=f"churned, S_noise = {S_noise:g}",
        )
    for at, dashes, name in ((float(sigma), ":", r"$p(\sigma)$"), (float(sigma_hat), "--", r"$p(\hat\sigma)$")):
        law = world.log_density(grid, 1.0, at).exp()
        right.plot(grid, law, color=TRUTH, linestyle=dashes, linewidth=1.2, label=name)
    left.set(xlabel="S_noise", ylabel=r"variance of the noise / $\hat\sigma^2$", title="How much noise there is")
    right.set(xlabel="x", ylabel="density", title="Two modes, gamma = 0.41", ylim=(0, 0.7))
    left.legend(fontsize=9)
    right.legend(fontsize=9, loc="upper center", ncols=2)
    return page.say(
        """Left: Gaussian noise of sigma on top of a point, churned to sigma_hat = (1 + gamma) sigma: its variance is
        sigma_hat^2 for S_noise = 1 alone, and the more churn, the more another S_noise misses (dots: 20,000 draws, two
        standard errors). Right: at S_noise = 1 churned data have the law of the next level, whatever the data are;
        at 1.25 the modes are blurred further than the denoiser will be told."""
    )
