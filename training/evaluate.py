"""How far a trained model is from the exact law: in multiples of a perfect sampler's mean, and in nats.

    energy ratio   the energy distance of sets of `size` samples to the exact law, over a perfect sampler's exact mean
                   E|X - X'|/size: 1 is perfect. The mean over independent sets with its 95 % limits (toy/energy.py).
    sliced ratio   the same with the sliced Wasserstein distance (toy/sliced.py).
    NLL gap        E[log p(x) - log p_model(x)] >= 0 in nats, both densities at the same points, the model's by its
                   probability-flow ODE. For laws with sharp edges both are taken at the noise level of the time
                   `earliest`, at which the network was trained to begin: at lower noise no density is learned.

What a table does to the exact denoiser is no fault of training: `evaluate_run(..., exact=True)` gives the ratios of the
exact denoiser with the same tables, which no amount of training gets under.

A distilled run is judged by its own sampler, in the steps it was made for. It has no density to speak of: its network
is no denoiser but on one grid, and reflow's is the flow of other marginals.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffusion.likelihood import log_likelihood
from diffusion.schedules import Schedule
from diffusion.types import Denoiser
from toy import energy, sliced, worlds
from toy.estimate import Estimate, estimate
from toy.world import World
from training import runs, sampling
from training.recipes import ToyRecipe
from training.runs import Trained
from training.sampling import Sampler
from training.streams import Streams
from training.task import Distilled

Progress = Callable[[str, int, int], None]

DDIM_STEPS, DDPM_STEPS = 50, 200
OPTIONS = {"ddpm": {"variance": "beta"}}  # the larger variance: with few steps the smaller one shrinks the data


@dataclass(frozen=True)
class Sampled:
    """One sampler's distances to the exact law."""

    solver: str
    steps: int
    energy: Estimate
    sliced: Estimate


@dataclass(frozen=True)
class Report:
    """All figures of one run."""

    run: Path
    sampled: tuple[Sampled, ...]
    nll_gap: Estimate | None  # None for a distilled run


def evaluate_run(
    path: Path | str,
    sets: int = 20,
    size: int = 20_000,
    ddim_steps: int = DDIM_STEPS,
    ddpm_steps: int = DDPM_STEPS,
    points: int = 2_000,
    seed: int = 0,
    exact: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Distances of a finished run's DDIM and DDPM samples to the exact law, and its NLL gap; a distilled run's own.

    sets, size   independent sample sets, and samples in each; at least two sets, for the limits.
    points       fresh draws of the law at which the densities are compared.
    exact        put the law's own denoiser in the place of the trained one: what is left is the tables' doing. Not for
                 a distilled run.
    progress     progress(stage, done, total), at every call of the network: samples moved by a step, of all there are.
    """
    if min(sets, size, points) < 2:
        raise ValueError(f"sets = {sets}, size = {size}, points = {points}: expected at least 2 of each")
    trained, streams = runs.load(path), Streams(seed, 0)
    world = worlds.make(_toy(trained).world)
    distilled = isinstance(trained.task, Distilled)
    if exact and distilled:
        raise ValueError(f"exact: {path} is distilled, and its sampler is not one for the exact denoiser")
    if exact:
        trained = dataclasses.replace(trained, denoiser=exact_denoiser(world, trained.schedule))
    asked = [(None, None)] if distilled else [("ddim", ddim_steps), ("ddpm", ddpm_steps)]
    samplers = [_sampler(trained, solver, steps) for solver, steps in asked]
    told = _teller(progress, total=sets * size * sum(len(sampler.coefficients) for sampler in samplers))
    told("noise floor", 0)
    floor = sliced.noise_floor(world, size, sets, streams("floor"))
    sampled = []
    for (solver, _), sampler in zip(asked, samplers, strict=True):
        name = solver or sampler.coefficients.name
        generator = streams(name)
        drawn = []
        for i in range(sets):
            watched = _watched(trained, functools.partial(told, f"{name}, set {i + 1} of {sets}"))
            drawn.append(_draw(watched, sampler, size, generator))
        told(f"{name}, distances", 0)
        ratios = energy.energy_ratio(world, drawn), sliced.sliced_ratio(world, drawn, floor, streams("truth"))
        sampled.append(Sampled(sampler.coefficients.name, len(sampler.coefficients.grid) - 1, *ratios))
    if distilled:
        return Report(Path(path), tuple(sampled), None)
    trained = _watched(trained, lambda _: told("densities", 0))  # how many calls the solver will need, it does not know
    return Report(Path(path), tuple(sampled), nll_gap(trained, world, points, streams("points")))


def _teller(progress: Progress | None, total: int) -> Callable[[str, int], None]:
    """told(stage, n): n more of the total are done."""
    done = 0

    def told(stage: str, n: int) -> None:
        nonlocal done
        done += n
        if progress:
            progress(stage, done, total)

    return told


def _watched(trained: Trained, told: Callable[[int], None]) -> Trained:
    """The same, telling the number of samples at every call of its network."""
    return dataclasses.replace(trained, denoiser=sampling.watched(trained.denoiser, told))


def exact_denoiser(world: World, schedule: Schedule) -> Denoiser:
    """E[x_0 | x_t = x] itself."""
    return lambda x, t: world.denoiser(x, schedule.alpha(t), schedule.sigma(t))


def nll_gap(trained: Trained, world: World, points: int, generator: torch.Generator) -> Estimate:
    """E[log p - log p_model] in nats, over draws of x_t at t = `earliest`, with its 95 % limits."""
    t = torch.tensor(_toy(trained).earliest, dtype=torch.float64)
    alpha, sigma = trained.schedule.alpha(t), trained.schedule.sigma(t)
    _, x = world.noised(points, alpha, sigma, generator)
    learned = log_likelihood(trained.denoiser, trained.schedule, x.float(), start=t.item(), rtol=1e-4, atol=1e-4)
    return estimate((world.log_density(x, alpha, sigma) - learned.double()).tolist())


def _toy(trained: Trained) -> ToyRecipe:
    recipe = trained.task.data if isinstance(trained.task, Distilled) else trained.recipe
    if not isinstance(recipe, ToyRecipe):
        raise ValueError(f"{recipe.name} has no exact law to be compared with: only toy recipes have")
    return recipe


def _sampler(trained: Trained, solver: str | None, steps: int | None) -> Sampler:
    return trained.sampler(solver, steps, **(OPTIONS.get(solver, {}) if solver else {}))


def _draw(trained: Trained, sampler: Sampler, n: int, generator: torch.Generator) -> Tensor:
    return sampling.draw(trained.denoiser, sampler, trained.task.shape, n, generator)
