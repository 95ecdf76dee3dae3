"""Open a finished run: from its folder to a denoiser any sampler, judge or scene can call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from diffusion.schedules import Schedule
from diffusion.types import Denoiser
from training import run_folder, sampling, tensor_file
from training.recipes import Recipe
from training.recipes.settings import Width, checked
from training.run_folder import RunFolder
from training.sampling import Sampler
from training.streams import Streams
from training.task import Conditional, Distilled, Generative, Task, build
from training.times import Span

DEFAULT_SOLVER, DEFAULT_STEPS = "ddim", 50
NOISE_ONLY = ("eps", "score")  # predictions that say nothing of the data where x_t is all noise
POINTS, IMAGES = 20_000, 64  # drawn if nothing is said


@dataclass(frozen=True)
class Trained:
    """A trained run: `denoiser(x, t)` is its estimate of E[x_0 | x_t = x] under `schedule`."""

    denoiser: Denoiser
    schedule: Schedule
    recipe: Recipe
    std: float  # of the data, per coordinate
    folder: RunFolder
    task: Generative
    network: nn.Module

    @property
    def span(self) -> Span:
        """The times at which the network was trained; its samplers start at the latest. ValueError for a student."""
        span = getattr(self.task, "span", None)
        if not isinstance(span, Span):
            raise ValueError(f"{self.recipe.name} does not say at which times its network was trained")
        return span

    @property
    def earliest(self) -> float:
        return self.span.earliest

    @property
    def latest(self) -> float:
        return self.span.latest

    def draw(
        self, sampler: Sampler, n: int, generator: Generator, label: int | None = None, guidance: float = 1.0
    ) -> Tensor:
        """n samples [n, *shape], of one class if a label is given; ValueError if the run knows no labels."""
        sampling.check_number(n, self.task.shape)
        if label is None and guidance == 1:
            return sampling.draw(self.denoiser, sampler, self.task.shape, n, generator)
        if not isinstance(self.task, Conditional):
            raise ValueError(f"{self.recipe.name} knows no labels: leave out label and guidance")
        labels = None if label is None else torch.full((n,), label, device=generator.device)
        return self.task.draw(self.network, sampler, n, generator, labels, guidance)

    def sampler(
        self, solver: str | None = None, steps: int | None = None, grid: str | None = None, **options: Any
    ) -> Sampler:
        """The table of a solver on a grid (training/sampling.py), and where to start it: DDIM in 50 steps, on our grid.

        A distilled run has its own, in its own number of steps; ValueError when another is asked for.
        """
        if not isinstance(self.task, Distilled):
            wanted = DEFAULT_SOLVER if solver is None else solver, DEFAULT_STEPS if steps is None else steps
            chosen = sampling.OURS if grid is None else grid
            sampler = sampling.sampler(self.schedule, *wanted, self.span, self.std, chosen, **options)
            self._refuse_a_blind_start(sampler)
            return sampler
        sampler = self.task.sampler(steps)
        if solver not in (None, sampler.coefficients.name):
            raise ValueError(f"solver {solver!r}: {self.folder.path} was distilled for {sampler.coefficients.name!r}")
        if grid is not None:
            raise ValueError(f"grid {grid!r}: {self.folder.path} was distilled for a grid of its own")
        return sampler

    def _refuse_a_blind_start(self, sampler: Sampler) -> None:
        """ValueError for a grid that starts where nothing is left of the data, with a network that predicts noise."""
        start, kind = sampler.coefficients.times[0], getattr(self.recipe, "parameterization", None)
        if kind in NOISE_ONLY and self.schedule.alpha(start) == 0:
            raise ValueError(f"this grid starts at pure noise, t = {start:g}, where {kind} says nothing of the data")


Weights = Literal["ema", "last"] | float  # a number: the average of that width, which `averages.reconstruct` has made


def load(path: Path | str, weights: Weights = "ema") -> Trained:
    """The run in a folder, with its averaged weights or its last; ValueError if it isn't finished or fits no model."""
    folder = finished(path)
    built = build(folder.recipe)
    if not isinstance(built, Generative):
        raise ValueError(f"{path} is a run of {folder.recipe.name}, which is no generative model")
    network = trained_network(folder, built, weights)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        """Asked for when it is called: a network that was always told a label has none without."""
        return built.denoiser(network)(x, t)

    return Trained(denoiser, built.schedule, folder.recipe, built.std, folder, built, network)


def finished(path: Path | str) -> RunFolder:
    """The run in a folder; ValueError if it has steps to do yet."""
    folder = run_folder.open_run(Path(path))
    if not folder.finished:
        raise ValueError(f"{path} is not finished: resume it first (its weights are written at the last step)")
    return folder


def trained_network(folder: RunFolder, built: Task, weights: Weights = "ema") -> nn.Module:
    """The network of a finished run, as its task has built it; ValueError if the weights are another network's."""
    file, network = _file(folder, weights), built.network()
    try:
        network.load_state_dict(tensor_file.read(file))
    except RuntimeError:
        raise ValueError(
            f"{file} does not fit {folder.recipe.name}: it holds another network's weights; put back the file that was "
            f"written"
        ) from None
    return network.eval().requires_grad_(False)


def _file(folder: RunFolder, weights: Weights) -> Path:
    """Where the weights lie; ValueError for an average that was not made."""
    if not isinstance(weights, float):
        return folder.weights if weights == "last" else folder.ema
    file = folder.ema_of(checked("ema", weights, Width))
    if not file.exists() and weights != folder.recipe.ema[0]:
        make = f"seminar ema {folder.path} --width {weights:g}"
        raise ValueError(f"{folder.path} has no average of width {weights:g}: make it with {make}")
    return file if file.exists() else folder.ema


def sample_run(
    path: Path | str,
    n: int | None = None,
    solver: str | None = None,
    steps: int | None = None,
    grid: str | None = None,
    seed: int = 0,
    label: int | None = None,
    guidance: float = 1.0,
    ema: float | None = None,
    out: Path | str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Tensor:
    """n samples of a finished run by its averaged weights, as its data are given; shown in a PNG if `out` names one.

    ema        a relative width: by that average, which `averages.reconstruct` has made, instead of the run's own.
    progress   progress(stage, done, total), in calls of the network for one sample.
    """
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed = {seed!r}: expected an integer >= 0")
    trained, streams = load(path, "ema" if ema is None else ema), Streams(seed, 0)
    sampler = trained.sampler(solver, steps, grid)
    n = (POINTS if len(trained.task.shape) == 1 else IMAGES) if n is None else n
    watched = dataclasses.replace(sampler, told=_counted(progress, n * len(sampler.coefficients)))
    drawn = trained.draw(watched, n, streams("samples"), label, guidance)
    if out is not None:
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        on = "" if grid is None else f" of the {grid} grid"
        title = f"{trained.recipe.name}, {sampler.coefficients.name}, {len(sampler.coefficients)} steps{on}"
        trained.task.picture(drawn, Path(out), title, streams("truth"))
    return trained.task.as_data(drawn)


def _counted(progress: Callable[[str, int, int], None] | None, total: int) -> sampling.Told | None:
    """What tells how much is done of the total."""
    done = 0

    def told(samples: int) -> None:
        nonlocal done
        done += samples
        if progress:
            progress("samples", done, total)

    return told if progress else None
