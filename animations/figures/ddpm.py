"""Figures of `theory/ddpm.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from animations.figures.page import DATA, MODEL, NOISE, OTHER, TRUTH, Page
from diffusion import ddpm
from diffusion.schedules import alpha_bars, linear_betas
from toy.mixture import Mixture, gaussian
from toy.points import Points
from toy.world import World

STEPS = 50
LAWS: tuple[tuple[str, str, World], ...] = (
    (DATA, "two points, variance 1", Points("points", torch.tensor([[1.0], [-1.0]]))),
    (OTHER, "two modes, variance 1", Mixture("near", torch.ones(2), torch.tensor([[0.9], [-0.9]]), 0.19)),
    (MODEL, "N(0, 1)", gaussian("normal", torch.zeros(1), 1.0)),
    (NOISE, "two modes, variance 4", Mixture("far", torch.ones(2), torch.tensor([[1.8], [-1.8]]), 0.76)),
)


def mean_square_score(world: World, alpha: Tensor, sigma: Tensor) -> float:
    """S = E score(x_t)^2 in one dimension, by quadrature over x_t."""
    x = torch.linspace(-9, 9, 20_001, dtype=torch.float64)[:, None]
    density = world.log_density(x, alpha, sigma).exp()
    return float(torch.trapezoid(density * world.score(x, alpha, sigma)[:, 0] ** 2, x[:, 0]))


def best_variances(world: World, alpha_bar: Tensor, betas: Tensor) -> Tensor:
    """The best reverse variance of each step, from the law's scores."""
    S = [mean_square_score(world, a.sqrt(), (1 - a).sqrt()) for a in alpha_bar[1:]]
    return ddpm.analytic_variance(betas, torch.tensor(S, dtype=torch.float64))


def analytic_dpm() -> Page:
    """Best reverse variance over beta_t along a chain of 50 steps, for four laws in one dimension, and its bounds."""
    page = Page("ddpm.analytic_dpm", panel=(8, 4.4))
    (axes,) = page.axes
    betas = linear_betas(STEPS)
    alpha_bar, k = alpha_bars(betas), range(1, STEPS + 1)
    tilde = ddpm.posterior_variance(alpha_bar[:-1], betas)
    for hue, name, world in LAWS:
        axes.plot(k, best_variances(world, alpha_bar, betas) / betas, color=hue, linewidth=2.5, label=name)
    bounds = (
        (":", r"$\tilde\beta_t$, below every law", tilde),
        ("--", r"$\beta_t$, if the variance is at most 1", betas),
        ("-.", r"$\beta_t/(1-\beta_t)$, above every law", betas / (1 - betas)),
    )
    for dashes, name, bound in bounds:
        axes.plot(k, bound / betas, color=TRUTH, linestyle=dashes, linewidth=1.2, label=name)
    axes.set(xlabel="step k, data at k = 0", ylabel=r"variance / $\beta_t$", ylim=(0, 1.35))
    axes.legend(loc="lower right", ncols=2, fontsize=9)
    return page.say(
        """The variance that makes a reverse step most likely, from the scores alone. Ho et al. call beta_tilde and
        beta its extremes; the upper one is so only for data of variance at most 1: the law of variance 4 rises above
        it. N(0, 1) attains beta at every step, two points beta_tilde while x_t tells which of them it came from."""
    )
