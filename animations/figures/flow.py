"""Figures of `theory/flow.py`."""

from __future__ import annotations

import math

import numpy as np
import torch

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, TRUTH, Page
from toy.couplings import GaussianPair

DRAWS = 100_000


def velocity_score_dependent() -> Page:
    """What -E[eps | x]/sigma says at one time, independent and coupled; what the two formulas err by at all times."""
    page = Page("flow.velocity_score_dependent", columns=2, panel=(5.4, 4.2))
    left, right = page.axes
    score_gap = curve("flow.velocity_score_dependent", "score_gap")
    velocity_gap = curve("flow.velocity_score_dependent", "velocity_gap")
    alpha, sigma = 0.8, 0.2
    x, edges = np.linspace(-2, 2, 50), torch.linspace(-1.8, 1.8, 10, dtype=torch.float64)
    for hue, r in ((DATA, 0.0), (NOISE, 0.8)):
        V = alpha**2 + sigma**2 + 2 * r * alpha * sigma
        name = "independent" if r == 0 else f"coupled, r = {r:g}"
        left.plot(x, -x / V, color=TRUTH, linestyle="--", linewidth=1.2, label="score, of either law" if r else None)
        left.plot(x, -x / V + score_gap(x=x, r=r, alpha=alpha, sigma=sigma), color=hue, alpha=0.5)
        x_0, eps = GaussianPair(0, 1, 0, 1, r).sample(DRAWS, torch.Generator().manual_seed(0))
        seen = alpha * x_0 + sigma * eps
        place = torch.bucketize(seen, edges)
        for k in range(1, len(edges)):
            said = -eps[place == k] / sigma
            left.errorbar(
                float(seen[place == k].mean()),
                float(said.mean()),
                yerr=2 * float(said.std()) / math.sqrt(len(said)),
                fmt="o",
                color=hue,
                markersize=4,
                capsize=2,
                label=rf"$-E[\epsilon|x]/\sigma$, {name}" if k == 1 else None,
            )
    t = np.linspace(0.02, 0.98, 200)
    for r, dashes in ((0.3, ":"), (0.8, "-")):
        spread = np.sqrt((1 - t) ** 2 + t**2 + 2 * r * t * (1 - t))
        missed = score_gap(x=spread, r=r, alpha=1 - t, sigma=t)
        right.plot(t, np.abs(missed) * spread, color=NOISE, linestyle=dashes, label=f"score, r = {r:g}")
        missed = velocity_gap(x=spread, r=r, alpha=1 - t, sigma=t, alpha_dot=-1.0, sigma_dot=1.0)
        right.plot(t, np.abs(missed), color=MODEL, linestyle=dashes, label=f"velocity, r = {r:g}")
    left.set(
        xlabel="x at t = 0.2: alpha = 0.8, sigma = 0.2", ylabel="score, and what eps says it is", title="At one time"
    )
    right.set(
        xlabel="time t", ylabel="size of the error", yscale="log", ylim=(0.05, 100), title="What the formulas err by"
    )
    left.legend(fontsize=9)
    right.legend(fontsize=9)
    return page.say(
        """Unit Gaussians x_0 and eps, of correlation r as after an optimal pairing or reflow. Left: the mean of
        -eps/sigma is the score of x_t (dashed) if they are independent, and steeper if they are not (dots: 100,000
        draws, two standard errors; lines: the claim). Right, on straight paths: root mean square of what eps errs by as
        the score, in units of the score's own size, and of what diffusion's formula errs by as the velocity."""
    )
