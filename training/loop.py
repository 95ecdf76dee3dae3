"""The training loop: one, on Accelerate, for every recipe, and stateless in (seed, step).

Step k draws its data, times and noise from streams keyed by (seed, k, purpose, rank), and its learning rate is a
function of k, so the state of a run is its tensors and k alone: a run killed anywhere and resumed from its last
checkpoint ends in the same bits as one that was never stopped.

A step whose gradient is not finite changes nothing: the optimizer's kernel skips it on the device, as it does for a
gradient scaler. The host reads the count of such steps when it logs and before it saves; a window with nothing but such
steps stops the run, its last checkpoint kept.

Accelerate gives launch, device, precision and gradient synchronisation. Its optimizer wrapper is left out (it would
cost a small network a quarter of the step), and so are its checkpoints (see checkpoint.py).
"""

from __future__ import annotations

import contextlib
import importlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import accelerate
import safetensors.torch
import torch
from torch import Tensor, nn

from diffusion.ema import EMA
from diffusion.model import Denoiser
from diffusion.schedules import Schedule
from training import checkpoint, draw, durable, recipes, run_folder
from training.progress import Meter, progress_bar
from training.recipes import Recipe
from training.run_folder import RunFolder
from training.streams import Streams, key

REHEARSAL = 30  # throwaway steps that warm up the machine before `--seconds` times it


class Task(Protocol):
    """What a family of recipes gives the loop: see training/toy.py."""

    schedule: Schedule
    std: float  # of the data, per coordinate

    def network(self) -> nn.Module: ...

    def loss(self, network: nn.Module, streams: Streams) -> Tensor: ...

    def denoiser(self, network: nn.Module) -> Denoiser: ...

    def preview(self, network: nn.Module, folder: RunFolder) -> Path: ...


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


def task(recipe: Recipe) -> Task:
    """The recipe's family at work: the class of that name (capitalised) in training/<family>.py."""
    return getattr(importlib.import_module(f"training.{recipe.family}"), recipe.family.capitalize())(recipe)


def learning_rate(step: int, recipe: Recipe) -> float:
    """lr at step 0 .. steps - 1: linear from lr/w to lr over the w = warmup * steps first ones, then a cosine to 0.

    The cosine's zero falls on `steps`, one past the last step, so that every step learns something.
    """
    rising = math.ceil(recipe.warmup * recipe.steps)
    if step < rising:
        return recipe.lr * (step + 1) / rising
    return recipe.lr * (1 + math.cos(math.pi * (step - rising) / max(1, recipe.steps - rising))) / 2


class State:
    """Everything that changes while a run goes on, all of it tensors: `tensors()` is what a checkpoint holds.

    The window (sum of losses, how many, how many were skipped, smoothed loss) is part of it, so that the log goes on
    as if nothing had happened, wherever between two lines the run was stopped.
    """

    def __init__(self, recipe: Recipe, seed: int, accelerator: accelerate.Accelerator, built: Task) -> None:
        self.recipe, self.accelerator = recipe, accelerator
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(key(seed, 0, "weights"))
            self.network = built.network().to(accelerator.device)
        self.prepared = accelerator.prepare(self.network)
        self.parameters = dict(self.network.named_parameters())
        self.optimizer = torch.optim.Adam(
            self.parameters.values(), lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), fused=True
        )
        self.ema = EMA(self.network, decay=1.0, gamma=power_of_width(recipe.ema))
        self.window = {
            name: torch.zeros((), device=accelerator.device) for name in ("loss", "steps", "skipped", "smoothed")
        }
        for parameter in self.parameters.values():
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device=accelerator.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, by name; they are the state itself, not copies."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        named |= {f"ema.{name}": tensor for name, tensor in self.ema.average.items()}
        for name, parameter in self.parameters.items():
            named |= {f"optimizer.{item}.{name}": tensor for item, tensor in self.optimizer.state[parameter].items()}
        return named | {f"window.{name}": tensor for name, tensor in self.window.items()}

    @torch.no_grad()
    def load(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Take the values of a checkpoint made at `step`."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self.ema.updates = step

    def advance(self, step: int, lr: float, loss_of: Callable[[nn.Module, Streams], Tensor], streams: Streams) -> None:
        """One optimizer step, without waiting for the device."""
        torch.default_generator.manual_seed(key(streams.seed, step, "layers", streams.rank))  # dropout and the like
        loss = loss_of(self.prepared, streams)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.clip, foreach=True)
        broken = (~torch.isfinite(norm + loss.detach())).float()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.found_inf = broken  # type: ignore[attr-defined]
        self.optimizer.step()
        self.ema.update(self.network)
        self._record(torch.where(broken > 0, 0.0, loss.detach()), broken)

    def _record(self, loss: Tensor, broken: Tensor) -> None:
        self.window["loss"] += loss
        self.window["steps"] += 1
        self.window["skipped"] += broken

    def close_window(self) -> tuple[float, float, int]:
        """(mean loss, smoothed loss, skipped steps) since the last call; the one place where the host waits."""
        total, steps, skipped, smoothed = torch.stack(list(self.window.values())).tolist()
        mean = total / (steps - skipped) if steps > skipped else math.nan
        smoothed = 0.9 * smoothed + 0.1 * mean if smoothed else mean
        for name, value in (("loss", 0.0), ("steps", 0.0), ("skipped", 0.0), ("smoothed", smoothed)):
            self.window[name].fill_(value)
        return mean, smoothed, int(skipped)


def power_of_width(width: float) -> float:
    """The power gamma of an average whose profile (k/n)^gamma has a standard deviation of `width` times n.

    width^2 = (gamma + 1) (gamma + 2)^-2 (gamma + 3)^-1 (Karras et al. 2024, eq. 126), solved for gamma by bisection; a
    width of 0 is an average of almost nothing but the last iterate.
    """
    low, high = 0.0, 1e6
    for _ in range(100):
        gamma = (low + high) / 2
        wider = (gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)) > width**2
        low, high = (gamma, high) if wider else (low, gamma)
    return low


def facts(recipe: Recipe, seed: int, accelerator: accelerate.Accelerator) -> dict[str, Any]:
    """What must be the same for two runs to agree bit for bit: a checkpoint says it, and resuming compares."""
    cuda = accelerator.device.type == "cuda"
    return {
        "recipe": recipes.fingerprint(recipe),
        "seed": seed,
        "optimizer": "adam",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
    }


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
    folder = run_folder.create(Path(out) if out else run_folder.default_path(recipe, seed), recipe, seed)
    return _run(folder, quiet)


def resume(path: Path | str, quiet: bool = False, allow_inexact: bool = False) -> Outcome:
    """Go on with the run in a folder, from its newest checkpoint, to the steps it was made for.

    The outcome equals that of an uninterrupted run bit for bit, on the same hardware with the same torch and threads;
    a checkpoint made with others is refused, in one line that says what differs, unless `allow_inexact`. A finished run
    is left as it is.
    """
    return _run(run_folder.open_run(Path(path)), quiet, allow_inexact)


def steps_in(recipe: Recipe, seconds: float, seed: int = 0) -> int:
    """How many steps of the recipe fill `seconds` here: throwaway steps are timed for a twentieth of it."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds = {seconds}: expected a positive number")
    accelerator, built = accelerate.Accelerator(), task(recipe)
    state = State(recipe, seed, accelerator, built)
    done = 0

    def rehearse(enough: Callable[[], bool]) -> None:
        nonlocal done
        while not enough():
            state.advance(done, recipe.lr, built.loss, Streams(seed, done))
            done += 1
        state.close_window()

    rehearse(lambda: done >= REHEARSAL)
    start, first = time.perf_counter(), done
    rehearse(lambda: done > first and time.perf_counter() - start > seconds / 20)
    return max(1, round(seconds * (done - first) / (time.perf_counter() - start)))


def _run(folder: RunFolder, quiet: bool, allow_inexact: bool = False) -> Outcome:
    recipe, seed = folder.recipe, folder.seed
    with run_folder.locked(folder), _interruptible() as interrupted:
        accelerator, built = accelerate.Accelerator(), task(recipe)
        state = State(recipe, seed, accelerator, built)
        run = _Run(folder, state, facts(recipe, seed, accelerator), built)
        start = step = run.restore(allow_inexact)
        meter = Meter(step)
        with progress_bar(folder, recipe, step, quiet) as show:
            while step < recipe.steps and not interrupted():
                streams = Streams(seed, step, accelerator.process_index, accelerator.device)
                state.advance(step, learning_rate(step, recipe), built.loss, streams)
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
        average = {name: tensor.contiguous() for name, tensor in self.state.ema.average.items()}
        draw.curves(self.folder)
        self.state.ema.copy_to(self.state.network)
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
