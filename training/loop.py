"""The training loop: one, on Accelerate, for every recipe, and stateless in (seed, step).

Step k draws its data, times and noise from streams keyed by (seed, k, purpose, share), and its learning rate is a
function of k, so the state of a run is its tensors and k alone: a run killed anywhere and resumed from its last
checkpoint ends in the same bits as one that was never stopped.

The host waits for the device when it logs and before it saves, and at no other time; a window with nothing but skipped
steps (see state.py) stops the run, its last checkpoint kept. Accelerate gives launch, device and precision; its
checkpoints are left out (see checkpoint.py). Process 0 writes, and decides what is written (see launch.py).
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from dataclasses import dataclass
from pathlib import Path

from training import launch, prepared, progress, recipes, run_folder
from training.feed import Feed, refuse_no_number
from training.keeper import Keeper
from training.launch import Processes
from training.optimization import learning_rate
from training.recipes import Recipe
from training.run_folder import RunFolder
from training.speed import Meter, utilisation
from training.state import State
from training.task import Task, build


@dataclass(frozen=True)
class Outcome:
    """Where a call of `train` or `resume` left the run."""

    folder: Path
    start: int  # the step it went on from
    step: int
    steps: int
    loss: float | None  # the log's last; none before its first line
    seconds: float

    @property
    def finished(self) -> bool:
        return self.step == self.steps


def train(
    recipe: Recipe,
    out: Path | str | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    quiet: bool = False,
    workers: int = 0,
    track: str | None = None,
) -> Outcome:
    """Train a recipe in a new run folder (`out`, or runs/<recipe>-<hash8>-s<seed>) and return where it ended.

    steps    replaces the recipe's; `seconds` chooses it, by timing throwaway steps on this machine, to fill that much
             time; the number goes into config.toml, and the seconds are forgotten.
    quiet    no progress bar.
    workers  threads that make the batches of coming steps ahead of time; the bits are the same with any number.
    track    tensorboard, wandb or trackio: where the log goes besides the run folder.

    ValueError or TypeError, before the first step, for a folder that is taken or an argument that makes no sense.
    Ctrl-C (or SIGTERM) ends the step, saves and returns; a second one aborts.
    """
    processes = launch.join()

    def chosen() -> Recipe:
        if steps is not None and seconds is not None:
            raise ValueError(f"steps = {steps} and seconds = {seconds}: give one of them")
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            raise ValueError(f"seconds = {seconds}: expected a positive number")
        if type(seed) is not int or seed < 0:
            raise ValueError(f"seed = {seed!r}: expected an integer >= 0")
        if out is not None:
            run_folder.refuse_existing(Path(out))
        refuse_no_number(workers)
        progress.refuse_untracked(track)
        processes.share(recipe)
        return recipe if steps is None else recipes.change(recipe, steps=steps)

    recipe = processes.decide(chosen)
    if seconds is not None:
        recipe = recipes.change(recipe, steps=steps_in(recipe, seconds, seed))
    built = build(recipe)  # before the folder: what can't be built, or has no data, leaves nothing behind
    prepared.tried(built, seed)
    built.facts()
    path = Path(out) if out else run_folder.default_path(recipe, seed)
    folder = processes.decide(lambda: run_folder.create(path, recipe, seed))
    return _run(folder, built, processes, quiet, workers, track)


def resume(
    path: Path | str,
    quiet: bool = False,
    allow_inexact: bool = False,
    workers: int = 0,
    track: str | None = None,
) -> Outcome:
    """Go on with the run in a folder, from its newest checkpoint, to the steps it was made for.

    The outcome equals that of an uninterrupted run bit for bit, on the same hardware with the same torch, threads and
    number of processes; a checkpoint made with others is refused, in one line that says what differs, unless
    `allow_inexact`. A finished run is left as it is.
    """
    processes = launch.join()

    def opened() -> RunFolder:
        refuse_no_number(workers)
        progress.refuse_untracked(track)
        folder = run_folder.open_run(Path(path))
        processes.share(folder.recipe)
        return folder

    folder = processes.decide(opened)
    return _run(folder, build(folder.recipe), processes, quiet, workers, track, allow_inexact)


def steps_in(recipe: Recipe, seconds: float, seed: int = 0) -> int:
    """How many steps of the recipe fill `seconds` here: throwaway steps are timed for about a twentieth of it."""
    processes, built = launch.join(), build(recipe)
    prepared.tried(built, seed)
    state = State(recipe, seed, processes, processes.accelerator(recipe), built)
    feed, steps = Feed(built, recipe, seed, processes), itertools.count()

    def timed(n: int) -> float:
        """Seconds that the next n steps take on process 0."""
        start = time.perf_counter()
        for step in itertools.islice(steps, n):
            state.advance(step, recipe.lr, feed(step))
        state.close_window(step + 1)  # wait for the device
        seconds = time.perf_counter() - start
        return processes.decide(lambda: seconds)

    n, spent = 1, timed(1)  # the first one warms up
    while True:
        took = timed(n)
        spent += took
        if spent > seconds / 20:
            return max(1, round(seconds * n / took))
        n *= 2


def _run(
    folder: RunFolder,
    built: Task,
    processes: Processes,
    quiet: bool,
    workers: int,
    track: str | None,
    allow_inexact: bool = False,
) -> Outcome:
    recipe, seed, quiet = folder.recipe, folder.seed, quiet or not processes.main
    with (
        launch.one_ending(processes, folder.advice),
        contextlib.ExitStack() as held,
        launch.interruptible() as interrupted,
        Feed(built, recipe, seed, processes, workers) as feed,
    ):
        processes.decide(lambda: held.enter_context(run_folder.locked(folder)))
        prepared.ready(built, folder)
        accelerator = processes.accelerator(recipe, track, folder.path)
        state = State(recipe, seed, processes, accelerator, built)
        run = Keeper(folder, state, built)
        start = step = run.restore(allow_inexact)
        vote, stop = launch.Vote(processes), False
        meter = Meter(step)
        with progress.watched(recipe, step, quiet) as show, progress.tracked(accelerator, folder, track) as send:
            while step < recipe.steps and not stop:
                state.advance(step, learning_rate(step, recipe), feed(step))
                step += 1
                stop = vote(interrupted())
                if step == start + 1 and not quiet:
                    meter.arithmetic = utilisation(state)
                if step % recipe.log_every == 0 or step == recipe.steps:
                    line = run.log(step, meter)
                    show(line)
                    send(line)
                run.keep(step, stop)
        if step == recipe.steps:
            run.finish()
        return Outcome(folder.path, start, step, recipe.steps, run.loss, meter.seconds)
