"""Figures of the score claims: `theory/score.py`, `theory/memorisation.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from animations.figures.page import DATA, MODEL, OTHER, TRUTH, Page
from diffusion import solvers
from diffusion.sampling import prior, sample
from diffusion.schedules import cosine
from toy.points import Points
from toy.world import World
from toy.worlds import make

# ------------------------------------------------------------------------------------------------------- memorisation

STEPS, DRAWS, SET = 80, 300, 40
LAST = 1e-4  # the last time before 0


def paths(world: World, x: Tensor) -> tuple[Tensor, Tensor]:
    """DDIM from x at t = 1 under the world's own denoiser: sigma/alpha of each state, and the states over alpha."""
    schedule = cosine()
    times = torch.logspace(0, torch.tensor(LAST).log10().item(), STEPS, dtype=torch.float64)
    table = solvers.ddim(schedule, times)
    states = sample(
        lambda y, t: world.denoiser(y, float(schedule.alpha(t)), float(schedule.sigma(t))), table, x, record=True
    )
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    return (sigma / alpha)[1:], (states / alpha[:, None, None])[1:]  # alpha = 0 at t = 1


def nearest(x: Tensor, points: Tensor) -> Tensor:
    """Distance from the nearest point, [...] for x [..., 2]."""
    return (x[..., None, :] - points).norm(dim=-1).amin(-1)


def memorisation() -> Page:
    """Where DDIM ends under the denoiser of 40 draws and under the law's own, and how far from the draws on the way."""
    page = Page("score.memorisation", columns=2, panel=(4.9, 4.4))
    plane, way = page.axes
    generator = torch.Generator().manual_seed(3)
    law = make("two_moons")
    points = law.sample(SET, generator)
    x = prior(cosine(), (DRAWS, 2), generator, dtype=torch.float64)
    runs = (
        (OTHER, 9, "the law's denoiser", law),
        (MODEL, 26, f"the denoiser of {SET} draws", Points("set", points)),
    )
    for hue, size, name, world in runs:
        sigma, states = paths(world, x)
        plane.scatter(states[-1, :, 0], states[-1, :, 1], s=size, color=hue, label=f"sampled with {name}", linewidths=0)
        far = nearest(states, points).quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), dim=1)
        way.loglog(sigma, far[1], color=hue, label=name)
        way.fill_between(sigma, far[0], far[2], color=hue, alpha=0.25, linewidth=0)
    plane.scatter(
        points[:, 0],
        points[:, 1],
        s=90,
        facecolors="none",
        edgecolors=DATA,
        linewidths=1.4,
        zorder=5,
        label="the draws",
    )
    way.loglog(sigma, sigma, color=TRUTH, linestyle="--", linewidth=1.2, label=r"$\sigma/\alpha$")
    plane.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal", ylim=(-2, 3))
    way.set(
        xlabel=r"noise left, $\sigma/\alpha$", ylabel="distance from the nearest draw", xlim=(5, 2e-4), ylim=(1e-4, 5)
    )
    plane.legend(loc="upper left", fontsize=8)
    way.legend(loc="lower left", fontsize=8)
    plane.set_title(f"{DRAWS} samples each, from the same noise")
    way.set_title("median; band: 10 % to 90 %")
    return page.say(
        """Train a denoiser to the least possible loss on 40 draws and it is their mean, weighted by a softmax. Below
        the draws' spacing one weight is all there is: the path heads for one draw, its distance falling with sigma,
        and every sample is a copy (left, filled dots in rings). The law's own denoiser, from the same noise, fills
        the law and stays away from the draws. What generalises is what a network fails to memorise."""
    )
