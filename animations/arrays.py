"""What particles and curves of the scenes are made of: arrays computed once, from the worlds, and kept.

A scene asks for arrays by a recipe. The recipe's parameters, the project's sources behind it and the libraries'
versions name the file under `.cache/seminar/arrays`, so arrays are never stale and never computed twice. All
randomness comes from the recipe's seed; nothing is drawn or evaluated while frames are rendered.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffusion.ddpm import step_mean
from diffusion.sampling import sample
from diffusion.schedules import Schedule, cosine, discrete, linear_betas
from diffusion.solvers import ddim
from theory.proof import cache
from toy.mixture import Mixture
from toy.worlds import make

Arrays = dict[str, np.ndarray]


def kept(recipe: Callable[..., Arrays]) -> Callable[..., Arrays]:
    """The recipe, computed at most once for given parameters, sources and library versions."""

    @wraps(recipe)
    def arrays(**parameters: Any) -> Arrays:
        spec = inspect.signature(recipe).bind(**parameters)
        spec.apply_defaults()
        key = cache.key([Path(__file__)], *cache.versions("numpy", "torch"), json.dumps(spec.arguments, sort_keys=True))
        path = cache.home() / "arrays" / f"{recipe.__name__}-{key[:16]}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(f".{os.getpid()}.npz")
            np.savez(unfinished, **recipe(**parameters))  # type: ignore[arg-type]
            unfinished.replace(path)  # a file that is there is whole
        with np.load(path) as file:
            return dict(file)

    return arrays


@kept
def forward_chain(
    world: str = "ring",
    particles: int = 2000,
    steps: int = 1000,
    frames: int = 125,
    cells: int = 96,
    reach: float = 4.0,
    seed: int = 0,
) -> Arrays:
    """DDPM's forward chain, x_t = sqrt(1 - beta_t) x_s + sqrt(beta_t) eps, every steps / frames steps, and its law.

    t, alpha, sigma [frames + 1]; x [frames + 1, particles, 2]; density [frames + 1, cells, cells] on the square of
    half-width `reach`, at cell centres, first row lowest, in units of each frame's maximum.
    """
    if steps % frames:
        raise ValueError(f"forward_chain: {steps} steps do not divide into {frames} frames")
    truth, betas, generator = make(world), linear_betas(steps), torch.Generator().manual_seed(seed)
    x, states = truth.sample(particles, generator), []
    for beta_t in betas:
        states.append(x)
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = step_mean(x, beta_t) + torch.sqrt(beta_t) * noise
    states.append(x)
    t = torch.linspace(0, 1, frames + 1, dtype=torch.float64)
    schedule = discrete(betas)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    axis = reach * (2 * (torch.arange(cells, dtype=torch.float64) + 0.5) / cells - 1)
    points = torch.cartesian_prod(axis, axis).flip(-1)  # rows are y
    log_density = torch.stack(
        [truth.log_density(points, float(a), float(s)) for a, s in zip(alpha, sigma, strict=True)]
    )
    density = (log_density - log_density.amax(1, keepdim=True)).exp().reshape(-1, cells, cells)
    x = torch.stack(states[:: steps // frames])
    return _arrays(t=t, alpha=alpha, sigma=sigma, x=x.float(), density=density.float())


@kept
def posterior_example(steps: int = 12, step: int = 5, x_0: float = 1.4, x_t: float = -0.5) -> Arrays:
    """One reverse step of a short DDPM chain, in which all parts of the posterior are wide enough to be seen."""
    betas = linear_betas(steps, beta_max=float(steps) / 2)
    s = torch.tensor((step - 1) / steps, dtype=torch.float64)
    return _arrays(
        alpha_bar_s=discrete(betas).alpha(s) ** 2, beta_t=betas[step - 1],
        x_0=torch.tensor(x_0), x_t=torch.tensor(x_t),
    )  # fmt: skip


@kept
def ddim_paths(
    steps: int, x_T: tuple[float, ...] = (0.15, 0.5, 1.2, 2.0), start: float = 3.0, fine: int = 240
) -> Arrays:
    """DDIM on two modes, from x_T where sigma/alpha = start to the data in equal steps of time, beside the exact paths.

    t, alpha, sigma [steps + 1]; x [steps + 1, paths]; eps [steps, paths], the noise predicted at each step's start; and
    the truth on `fine` steps, fine_t, fine_alpha, fine_sigma [fine + 1], truth [fine + 1, paths].
    """
    schedule, world = cosine(), _two_modes()
    grid, noise = _grid(schedule, start, steps), torch.tensor(x_T, dtype=torch.float64)
    x, denoised = _ddim(world, schedule, grid, noise)
    alpha, sigma, fine_t = schedule.alpha(grid), schedule.sigma(grid), _grid(schedule, start, fine)
    eps = (x[:-1] - alpha[:-1, None] * denoised) / sigma[:-1, None]
    return _arrays(
        t=grid, alpha=alpha, sigma=sigma, x=x, eps=eps,
        fine_t=fine_t, fine_alpha=schedule.alpha(fine_t), fine_sigma=schedule.sigma(fine_t),
        truth=_transport(world, schedule, noise, fine_t),
    )  # fmt: skip


@kept
def ddim_errors(steps: tuple[int, ...], paths: int = 512, start: float = 3.0) -> Arrays:
    """Root mean square error of DDIM at the data end against the exact map, for each number of steps.

    Over `paths` evenly spaced quantiles of the law it starts from, N(0, 1) to within the modes' share at the start.
    """
    schedule, world = cosine(), _two_modes()
    x_T = torch.special.ndtri((torch.arange(paths, dtype=torch.float64) + 0.5) / paths)
    exact = _transport(world, schedule, x_T, _grid(schedule, start, 1))[-1]
    ends = torch.stack([_ddim(world, schedule, _grid(schedule, start, n), x_T)[0][-1] for n in steps])
    return _arrays(steps=torch.tensor(steps), error=(ends - exact).square().mean(1).sqrt())


def _two_modes() -> Mixture:
    means = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    return Mixture("two_modes", torch.ones(2), means, 0.04)


def _grid(schedule: Schedule, start: float, steps: int) -> Tensor:
    """Equal steps of time from where sigma/alpha = start to the data."""
    first = float(schedule.time_of(-torch.tensor(start, dtype=torch.float64).log()))
    return torch.linspace(first, 0, steps + 1, dtype=torch.float64)


def _ddim(world: Mixture, schedule: Schedule, grid: Tensor, x_T: Tensor) -> tuple[Tensor, Tensor]:
    """States [steps + 1, paths] and predictions [steps, paths] of DDIM with the exact denoiser."""
    predictions: list[Tensor] = []

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return world.denoiser(x, schedule.alpha(t), schedule.sigma(t))

    states = sample(
        denoiser, ddim(schedule, grid), x_T[:, None], callback=lambda i, x, D: predictions.append(D), record=True
    )
    return states[..., 0], torch.stack(predictions)[..., 0]


def _transport(world: Mixture, schedule: Schedule, x_T: Tensor, t: Tensor) -> Tensor:
    """Exact paths [len(t), paths] of the probability-flow ODE in one dimension, from x_T at t[0].

    The flow keeps order, so it keeps quantiles: F_t(x_t) is constant along a path. Bisection to 2^-60 of the bracket.
    """

    alpha, sigma = schedule.alpha(t)[:, None, None], schedule.sigma(t)[:, None, None]
    scale = (alpha**2 * world.variances[:, 0] + sigma**2).sqrt()

    def below(x: Tensor) -> Tensor:
        """F_t(x) at each time, [times, paths]."""
        return (world.weights * torch.special.ndtr((x[..., None] - alpha * world.means[:, 0]) / scale)).sum(-1)

    quantile = below(x_T[None].expand(len(t), -1))[:1]
    low, high = torch.full((2, len(t), len(x_T)), 8.0, dtype=torch.float64) * torch.tensor([-1.0, 1.0])[:, None, None]
    for _ in range(60):
        middle = (low + high) / 2
        left = below(middle) < quantile
        low, high = torch.where(left, middle, low), torch.where(left, high, middle)
    return (low + high) / 2


def _arrays(**tensors: Tensor) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}
