"""What a run leaves on the disk while it goes on and when it ends: log, checkpoints, snapshots, pictures, weights.

Process 0 writes, the others wait for it and hear whether it went well. A disk that is full or read-only stops the run
in one line, with everything written before as it was: the run goes on from its last checkpoint when there is room.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from training import averages, checkpoint, draw, durable, run_folder, tensor_file
from training.optimization import learning_rate
from training.run_folder import RunFolder
from training.speed import Meter, memory
from training.state import State, whole
from training.task import Task

MACHINE = ("torch", "device", "threads", "processes", "distribution")  # facts that `--allow-inexact` lets differ


class Keeper:
    """A run folder with a state that is saved to and restored from it; all processes call alike."""

    def __init__(self, folder: RunFolder, state: State, built: Task) -> None:
        self.folder, self.state, self.built, self.recipe = folder, state, built, folder.recipe
        self.processes = state.processes
        self.facts = state.facts(folder.seed)
        self.loss: float | None = None  # the log's last

    def restore(self, allow_inexact: bool) -> int:
        """The newest checkpoint's state and step, or step 0; the log is cut to that step."""
        tensors: dict[str, Any] = {}
        like = self.state.tensors()

        def newest() -> tuple[int, float | None]:
            nonlocal tensors
            step, found = 0, checkpoint.saved(self.folder.checkpoints)
            if found:
                forgiven = MACHINE if allow_inexact else ()
                needed = {name: fact for name, fact in self.facts.items() if name not in forgiven}
                step, tensors = checkpoint.load(found[-1], like, needed)
            durable.sweep(self.folder.path)
            durable.sweep(self.folder.checkpoints)
            durable.sweep(self.folder.averages)
            run_folder.cut_log(self.folder.metrics, step)
            log = run_folder.read_log(self.folder.metrics)
            return step, log[-1]["loss"] if log else None

        step, self.loss = self.processes.decide(newest)
        if step:
            self.state.load(step, tensors)
        return step

    def log(self, step: int, meter: Meter) -> dict[str, Any]:
        """One line of metrics.jsonl; ValueError when not one step of the window could be used."""
        self.loss, smoothed, skipped = self.state.close_window(step)
        rate = meter.rate(step)
        line = {
            "step": step,
            "loss": self.loss,
            "smoothed_loss": smoothed,
            "skipped": skipped,
            "lr": learning_rate(step - 1, self.recipe),
            "steps_per_second": round(rate, 2),
            "samples_per_second": round(rate * self.recipe.batch, 1),
            "memory_gb": round(memory(self.processes.device), 3),
            "mfu": None if meter.arithmetic is None else round(meter.arithmetic * rate, 4),
        }

        def append() -> None:
            with open(self.folder.metrics, "a") as file:
                file.write(run_folder.log_line(line))

        self._write("its log", append)
        if math.isnan(self.loss) and not self.state.optimization.searching():
            raise ValueError(
                f"no step up to {step} had a finite loss and gradient since the log's last line, nor would one if it "
                f"were resumed: train anew with less than lr = {self.recipe.lr:g}, or more warmup; {self.folder.kept()}"
            )
        return line

    def keep(self, step: int, stop: bool) -> None:
        """Whatever is due after `step` steps: a snapshot of the averages, a picture, a checkpoint."""
        last = step == self.recipe.steps
        if averages.stored_at(step, self.recipe):
            stored = whole(self.state.averages.tensors(), self.processes.main)
            self._write("a snapshot of its averages", lambda: averages.store(self.folder, step, stored))
        if step % self.recipe.save_every == 0 or last or stop:
            self.save(step)
        if self.recipe.sample_every and step % self.recipe.sample_every == 0 and not last:
            average = self._average()
            self._write("a picture", lambda: self._preview(average))

    def save(self, step: int) -> None:
        tensors = whole(self.state.tensors(), self.processes.main)
        folder = self.folder.checkpoints
        self._write(f"the checkpoint of step {step}", lambda: checkpoint.save(folder, step, tensors, self.facts))

    def finish(self) -> None:
        """Write the weights and draw the run, unless that was done before."""
        if self.processes.decide(lambda: self.folder.finished):
            return
        weights = whole(self.state.network.state_dict(), self.processes.main)
        average = self._average()

        def write() -> None:
            tensor_file.write(self.folder.weights, weights)
            draw.curves(self.folder)
            self._preview(average)
            tensor_file.write(self.folder.ema, average)

        self._write("its weights and pictures", write)

    def _average(self) -> dict[str, Any]:
        """The average to sample with, the first of the recipe's."""
        return whole(self.state.averages.by_width[self.recipe.ema[0]].average, self.processes.main)

    def _preview(self, average: dict[str, Any]) -> None:
        self.built.preview(self.state.shown(average), self.folder)

    def _write(self, what: str, write: Callable[[], object]) -> None:
        """Have process 0 write something; OSError, one line, when the disk won't take it."""

        def written() -> None:
            try:
                write()
            except OSError as error:
                reason = error.strerror or str(error)
                raise OSError(
                    f"{self.folder.path}: {what} could not be written ({reason}): {self.folder.advice()}"
                ) from error

        self.processes.decide(written)
