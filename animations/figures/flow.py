"""Figures of `theory/flow.py`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, OTHER, QUIET, TRUTH, Page
from toy.couplings import GaussianPair, Interpolant, assigned
from toy.mixture import Mixture

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


# ------------------------------------------------------------------------------------------------------------- reflow

Velocity = Callable[[Tensor, float], Tensor]  # (x [batch, dim], t) -> [batch, dim]
PAIRS, PATHS, FLOW_STEPS, REACH = 2000, 800, 20, 0.15  # REACH: width of the regression's kernel


LEFT = Mixture("two blobs", torch.ones(2), torch.tensor([[-2.0, 1.3], [-2.0, -1.3]]), 0.12)
RIGHT = Mixture("three blobs", torch.ones(3), torch.tensor([[2.0, 1.7], [2.4, -0.2], [1.4, -1.7]]), 0.07)


def followed(velocity: Velocity, x: Tensor) -> tuple[Tensor, Tensor]:
    """Paths from x at t = 0 to t = 1 by Heun's method, and the velocities on them: [steps + 1, batch, dim] both."""
    h, v = 1 / FLOW_STEPS, velocity(x, 0.0)
    paths, velocities = [x], [v]
    for k in range(1, FLOW_STEPS + 1):
        x = x + h / 2 * (v + velocity(x + h * v, k * h))
        v = velocity(x, k * h)
        paths.append(x)
        velocities.append(v)
    return torch.stack(paths), torch.stack(velocities)


def regressed(x_0: Tensor, x_1: Tensor) -> Velocity:
    """E[x_1 - x_0 | x_t] of these pairs, by locally linear regression with a Gaussian kernel."""

    def velocity(x: Tensor, t: float) -> Tensor:
        at = (1 - t) * x_0 + t * x_1
        known = torch.cat((torch.ones(len(at), 1, dtype=at.dtype), at), 1)
        near = torch.exp(-(torch.cdist(x, at) ** 2) / (2 * REACH**2)) + 1e-12  # far from all pairs: a straight fit
        square, product = (
            (near @ (known[:, :, None] * value[:, None]).flatten(1)).unflatten(1, (3, -1))
            for value in (known, x_1 - x_0)
        )
        here = torch.cat((torch.ones(len(x), 1, dtype=x.dtype), x), 1)
        return torch.einsum("bi,bij->bj", here, torch.linalg.solve(square, product))

    return velocity


def measured(values: Tensor) -> tuple[float, float]:
    """A mean and two standard errors."""
    return float(values.mean()), 2 * float(values.std()) / math.sqrt(len(values))


def bent(paths: Tensor, velocities: Tensor) -> Tensor:
    """Mean over t of |v(Z_t, t) - (Z_1 - Z_0)|^2 of each path: 0 where it is straight (Liu et al. 2023, sec. 2.2)."""
    return torch.trapezoid((velocities - (paths[-1] - paths[0])).square().sum(-1), dx=1 / FLOW_STEPS, dim=0)


def reflow_cost() -> Page:
    """Pairs at random, their flow, and the flow of the pairs that it makes; cost and straightness of the three."""
    page = Page("flow.reflow_cost", columns=4, panel=(3.6, 3.9))
    generator = torch.Generator().manual_seed(0)
    mixed = Interpolant(LEFT, RIGHT, 0.0)

    def exact(x: Tensor, t: float) -> Tensor:
        x_0, x_1 = mixed.ends(x, t)
        return x_1 - x_0

    x_0, x_1 = (world.sample(PATHS, generator) for world in (LEFT, RIGHT))
    first, first_velocity = followed(exact, x_0)
    fresh, _ = followed(exact, LEFT.sample(PAIRS, generator))
    second, second_velocity = followed(regressed(fresh[0], fresh[-1]), x_0)

    t = torch.linspace(0, 1, FLOW_STEPS + 1, dtype=torch.float64)[:, None, None]
    straight = (1 - t) * x_0 + t * x_1
    shown = (
        ("pairs at random", straight, QUIET),
        ("their flow (exact velocity)", first, NOISE),
        ("reflow: the flow's own pairs", second, MODEL),
    )
    for axes, (title, paths, hue) in zip(page.axes, shown, strict=False):
        for i in range(40):
            axes.plot(*paths[:, i].T, color=hue, linewidth=0.8, alpha=0.8)
        axes.plot(*paths[0, :400].T, ".", color=OTHER, markersize=3, alpha=0.5)
        axes.plot(*paths[-1, :400].T, ".", color=DATA, markersize=3, alpha=0.5)
        axes.set(title=title, xlabel="first coordinate", ylabel="second coordinate", xlim=(-3.2, 3.2), ylim=(-2.6, 2.6))
    numbers = page.axes[-1]
    costs = [measured((paths[-1] - paths[0]).square().sum(-1)) for _, paths, _ in shown]
    least = float((assigned(x_0, x_1) - x_0).square().sum(-1).mean())
    numbers.axhline(least, color=TRUTH, linestyle="--", linewidth=1.2, label="least cost of any pairing")
    bends = [measured(bent(first, first_velocity)), measured(bent(second, second_velocity))]
    for at, found, marker, hue, label in (
        ((0, 1, 2), costs, "o-", DATA, r"cost $E|Z_1 - Z_0|^2$"),
        ((1, 2), bends, "s-", NOISE, r"bend $E|v - (Z_1 - Z_0)|^2$"),
    ):
        middles, bars = zip(*found, strict=True)
        numbers.errorbar(at, middles, yerr=bars, fmt=marker, color=hue, capsize=3, label=label)
    numbers.set(title="what it costs, how it bends", xlabel="how pairs are made", ylabel="squared length")
    numbers.set(xlim=(-0.4, 2.4), ylim=(-1, 28))
    numbers.set_xticks(range(3), ["random", "flow", "reflow"])
    numbers.legend(fontsize=8)
    return page.say(
        f"""Two blobs (green) are carried to three (blue). Pairs drawn at random cross. The flow of their mean velocity
        cannot cross, so it bends, and its own pairs cost less. Reflow, the flow of those pairs (its velocity regressed
        on {PAIRS:,} of them, which blurs the blobs a little), is all but straight, and its cost is no higher. No
        pairing costs less than the dashed line. Bars: two standard errors over {PATHS} paths."""
    )
