"""What a person watches while a run trains: a bar with loss, smoothed loss, speed and time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.recipes import Recipe
from training.run_folder import RunFolder


class Meter:
    """Steps a second between two calls, and seconds since the start; wall-clock time never reaches the state."""

    def __init__(self, step: int) -> None:
        self.start = self.last = time.perf_counter()
        self.step = step

    def rate(self, step: int) -> float:
        """Steps a second since the call before."""
        now = time.perf_counter()
        rate = (step - self.step) / (now - self.last)
        self.step, self.last = step, now
        return rate

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start


@contextlib.contextmanager
def progress_bar(folder: RunFolder, recipe: Recipe, step: int, quiet: bool) -> Iterator[Callable[..., None]]:
    """A function (step, loss, smoothed loss, steps a second) that moves the bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.5f}  smoothed {task.fields[smoothed]:.5f}"),
        TextColumn("{task.fields[rate]:.0f} steps/s, {task.fields[samples]:.0f} samples/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    numbers: dict[str, Any] = {"loss": float("nan"), "smoothed": float("nan"), "rate": 0.0, "samples": 0.0}
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as progress:
        bar = progress.add_task(recipe.name, total=recipe.steps, completed=step, **numbers)

        def show(step: int, loss: float, smoothed: float, rate: float) -> None:
            progress.update(bar, completed=step, loss=loss, smoothed=smoothed, rate=rate, samples=rate * recipe.batch)

        yield show
