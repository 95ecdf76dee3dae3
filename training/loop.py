"""The training loop: one, on Accelerate, for every recipe, and stateless in (seed, step).

Step k draws its data, times and noise from streams keyed by (seed, k, purpose, share), and its learning rate is a
function of k, so the state of a run is its tensors and k alone: a run killed anywhere and resumed from its last
checkpoint ends in the same bits as one that was never stopped.

The host waits for the device when it logs and before it saves, and at no other time; a window with nothing but skipped
steps (see state.py) stops the run, its last checkpoint kept. Accelerate gives launch, device and precision; its
checkpoints are left out (see checkpoint.py).
"""

from __future__ import annotations

import contextlib
import math
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import safetensors.torch

from training import checkpoint, draw, durable, recipes, run_folder
from training.progress import Meter, progress_bar
from training.recipes import Recipe
from training.run_folder import RunFolder
from training.state import State, facts, learning_rate
from training.streams import Streams
from training.task import Batch, Prepared, Task, build

REHEARSAL = 30  # throwaway steps that warm up the machine before `--seconds` times it


@dataclass(frozen=True)
class Outcome:
    """Where a call of `train` or `resume` left the run."""

    folder: Path
    start: int  # the step it went on from
    step: int
    steps: int
    loss: float
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
) -> Outcome:
    """Train a recipe in a new run folder (`out`, or runs/<recipe>-<hash8>-s<seed>) and return where it ended.

    steps    replaces the recipe's; `seconds` chooses it, by timing throwaway steps on this machine, to fill that much
             time; the number goes into config.toml, and the seconds are forgotten.
    quiet    no progress bar.

    ValueError or TypeError, before the first step, for a folder that is taken or an argument that makes no sense.
    Ctrl-C (or SIGTERM) ends the step, saves and returns; a second one aborts.
    """
    if steps is not None and seconds is not None:
        raise ValueError(f"steps = {steps} and seconds = {seconds}: give one of them")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed = {seed!r}: expected an integer >= 0")
    if out is not None:
        run_folder.refuse_existing(Path(out))
    if steps is not None:
        recipe = recipes.change(recipe, steps=steps)
    if seconds is not None:
        recipe = recipes.change(recipe, steps=steps_in(recipe, seconds, seed))
    built = build(recipe)  # before the folder: a recipe that can't be built leaves nothing behind
    folder = run_folder.create(Path(out) if out else run_folder.default_path(recipe, seed), recipe, seed)
    return _run(folder, built, quiet)


def resume(path: Path | str, quiet: bool = False, allow_inexact: bool = False) -> Outcome:
    """Go on with the run in a folder, from its newest checkpoint, to the steps it was made for.

    The outcome equals that of an uninterrupted run bit for bit, on the same hardware with the same torch and threads;
    a checkpoint made with others is refused, in one line that says what differs, unless `allow_inexact`. A finished run
    is left as it is.
    """
    folder = run_folder.open_run(Path(path))
    return _run(folder, build(folder.recipe), quiet, allow_inexact)


def steps_in(recipe: Recipe, seconds: float, seed: int = 0) -> int:
    """How many steps of the recipe fill `seconds` here: throwaway steps are timed for a twentieth of it."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds = {seconds}: expected a positive number")
    accelerator, built = accelerate.Accelerator(), build(recipe)
    if isinstance(built, Prepared):
        with tempfile.TemporaryDirectory() as folder:
            built.prepare(RunFolder(Path(folder), recipe, seed))
    state = State(recipe, seed, accelerator, built)
    done = 0

    def rehearse(enough: Callable[[], bool]) -> None:
        nonlocal done
        while not enough():
            state.advance(done, recipe.lr, shares(built, recipe, seed, done, accelerator))
            done += 1
        state.close_window()

    rehearse(lambda: done >= REHEARSAL)
    start, first = time.perf_counter(), done
    rehearse(lambda: done > first and time.perf_counter() - start > seconds / 20)
    return max(1, round(seconds * (done - first) / (time.perf_counter() - start)))


def shares(
    built: Task, recipe: Recipe, seed: int, step: int, accelerator: accelerate.Accelerator
) -> Iterator[tuple[Batch, Streams]]:
    """This process's shares of the batch of a step, on its device, one for each micro-batch."""
    number = accelerator.num_processes * recipe.accumulate
    for micro in range(recipe.accumulate):
        share = micro * accelerator.num_processes + accelerator.process_index
        streams = Streams(seed, step, share, number, accelerator.device)
        batch = built.batch(recipe.batch // number, streams)
        yield tuple(tensor.to(accelerator.device, non_blocking=True) for tensor in batch), streams


def _run(folder: RunFolder, built: Task, quiet: bool, allow_inexact: bool = False) -> Outcome:
    recipe, seed = folder.recipe, folder.seed
    with run_folder.locked(folder), _interruptible() as interrupted:
        accelerator = accelerate.Accelerator()
        if isinstance(built, Prepared):
            with accelerator.main_process_first():
                built.prepare(folder)
        state = State(recipe, seed, accelerator, built)
        run = _Run(folder, state, facts(recipe, seed, accelerator) | built.facts(), built)
        start = step = run.restore(allow_inexact)
        meter = Meter(step)
        with progress_bar(folder, recipe, step, quiet) as show:
            while step < recipe.steps and not interrupted():
                state.advance(step, learning_rate(step, recipe), shares(built, recipe, seed, step, accelerator))
                step += 1
                if step % recipe.log_every == 0 or step == recipe.steps:
                    run.log(step, meter, show)
                if step % recipe.save_every == 0 or step == recipe.steps or interrupted():
                    run.save(step)
        if step == recipe.steps:
            run.finish()
        return Outcome(folder.path, start, step, recipe.steps, run.loss, meter.seconds)


class _Run:
    """A run folder with a state that is saved to and restored from it."""

    def __init__(self, folder: RunFolder, state: State, facts: dict[str, Any], built: Task) -> None:
        self.folder, self.state, self.facts, self.built = folder, state, facts, built
        self.main = state.accelerator.is_main_process
        self.loss = math.nan

    def restore(self, allow_inexact: bool) -> int:
        """The newest checkpoint's state and step, or step 0; the log is cut to that step."""
        step, found = 0, checkpoint.saved(self.folder.checkpoints)
        if found:
            inexact = self.facts.keys() - {"recipe", "seed"} if allow_inexact else ()
            needed = {name: fact for name, fact in self.facts.items() if name not in inexact}
            step, tensors = checkpoint.load(found[-1], self.state.tensors(), needed)
            self.state.load(step, tensors)
        if self.main:
            durable.sweep(self.folder.path)
            durable.sweep(self.folder.checkpoints)
            run_folder.cut_log(self.folder.metrics, step)
        return step

    def log(self, step: int, meter: Meter, show: Callable[..., None]) -> None:
        """One line of metrics.jsonl; ValueError when not one step of the window could be used."""
        self.loss, smoothed, skipped = self.state.close_window()
        rate = meter.rate(step)
        if self.main:
            values = {"step": step, "loss": self.loss, "smoothed_loss": smoothed, "skipped": skipped}
            values |= {"lr": learning_rate(step - 1, self.state.recipe), "steps_per_second": round(rate, 2)}
            with open(self.folder.metrics, "a") as file:
                file.write(run_folder.log_line(values))
        if math.isnan(self.loss):
            found = checkpoint.saved(self.folder.checkpoints)
            kept = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
            raise ValueError(f"no step up to {step} had a finite loss and gradient since the last log line: {kept}")
        show(step, self.loss, smoothed, rate)

    def save(self, step: int) -> None:
        self.state.accelerator.wait_for_everyone()
        if self.main:
            checkpoint.save(self.folder.checkpoints, step, self.state.tensors(), self.facts)
        self.state.accelerator.wait_for_everyone()

    def finish(self) -> None:
        """Write the weights and draw the run, unless that was done before."""
        if not self.main or self.folder.finished:
            return
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.state.network.state_dict().items()}
        durable.replace(self.folder.weights, safetensors.torch.save(tensors))
        ema = self.state.averages[self.state.recipe.ema[0]]
        average = {name: tensor.contiguous() for name, tensor in ema.average.items()}
        draw.curves(self.folder)
        ema.copy_to(self.state.network)
        self.built.preview(self.state.network, self.folder)
        durable.replace(self.folder.ema, safetensors.torch.save(average))


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """The first SIGINT or SIGTERM asks the loop to stop after its step; the second acts as it always did."""
    asked = False
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        for which, handler in before.items():
            signal.signal(which, handler)

    with contextlib.suppress(ValueError):  # not the main thread: signals are somebody else's
        before = {which: signal.signal(which, ask) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
