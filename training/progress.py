"""What a person watches while a run trains: a bar on a terminal, a line every ten seconds anywhere else, trackers."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from training.recipes import Recipe
from training.run_folder import RunFolder

Tracker = Literal["tensorboard", "wandb", "trackio"]
PROJECT = "diffusion-seminar"
EVERY = 10.0  # seconds between lines where there is no terminal
PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",)}

# a terminal's line: its parts as they stand in it, and those that follow the steps by what they are worth
ORDER = ("name", "bar", "steps", "left", "loss", "skipped", "smoothed", "rate", "memory", "mfu", "elapsed")
IMPORTANCE = ("loss", "left", "bar", "skipped", "name", "smoothed", "rate", "elapsed", "mfu", "memory")
STYLES = {"steps": "progress.download", "left": "progress.remaining", "elapsed": "progress.elapsed", "skipped": "red"}
GAP, SHORT, LONG = 2, 10, 30  # columns between parts, of the shortest bar, of the longest

Show = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def watched(recipe: Recipe, step: int, quiet: bool) -> Iterator[Show]:
    """A function that shows a line of the log to whoever watches."""
    console = Console(stderr=True)
    if quiet:
        yield lambda values: None
    elif console.is_terminal:
        with _bar(recipe, step, console) as show:
            yield show
    else:
        yield _Lines(recipe, step, console)


def in_words(values: Mapping[str, Any]) -> dict[str, str]:
    """A line of the log in words, each part by its name."""
    skipped = values["skipped"]
    parts = {
        "loss": f"loss {values['loss']:.5f}",
        "smoothed": f"smoothed {values['smoothed_loss']:.5f}",
        "rate": f"{values['samples_per_second']:.0f} samples/s",
        "memory": f"{values['memory_gb']:.2f} GB",
        "skipped": f"{skipped} step{'s' * (skipped > 1)} skipped" if skipped else "",
        "mfu": "" if values["mfu"] is None else f"MFU {values['mfu']:.0%}",
    }
    return {name: words for name, words in parts.items() if words}


@contextlib.contextmanager
def _bar(recipe: Recipe, step: int, console: Console) -> Iterator[Show]:
    with Progress(_Fitting(console), console=console) as progress:
        bar = progress.add_task(recipe.name, total=recipe.steps, completed=step, told={})
        yield lambda values: progress.update(bar, completed=values["step"], told=in_words(values))


class _Fitting(ProgressColumn):
    """The whole line, as wide as the terminal allows: what matters less leaves first, what is left fills the bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def render(self, task: Task) -> Table:
        parts = {name: Text(words, STYLES.get(name, "")) for name, words in _parts(task).items()}
        widths = {name: text.cell_len for name, text in parts.items()} | {"bar": SHORT}
        shown, room = ["steps"], self.console.width - widths["steps"]
        for name in IMPORTANCE:
            if name in widths:
                if room < GAP + widths[name]:
                    break
                shown.append(name)
                room -= GAP + widths[name]
        cells: dict[str, Any] = {**parts, "bar": ProgressBar(task.total, task.completed, min(SHORT + room, LONG))}
        line = Table.grid(padding=(0, GAP, 0, 0))
        line.add_row(*(cells[name] for name in ORDER if name in shown))
        for column in line.columns:
            column.no_wrap = True
        return line


def _parts(task: Task) -> dict[str, str]:
    """All that can be said, by name."""
    steps = f"{task.total:.0f}"
    return {
        "name": task.description,
        "steps": f"{task.completed:{len(steps)}.0f}/{steps}",
        "left": f"{_clock(task.time_remaining)} left",
        "elapsed": f"{_clock(task.elapsed)} gone",
        **task.fields["told"],
    }


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-:--:--"
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


class _Lines:
    """The same as lines of text, no more than one in ten seconds, and the last."""

    def __init__(self, recipe: Recipe, step: int, console: Console) -> None:
        self.recipe, self.console = recipe, console
        self.first, self.start = step, time.monotonic()
        self.due = self.start

    def __call__(self, values: Mapping[str, Any]) -> None:
        step, now = values["step"], time.monotonic()
        if now < self.due and step < self.recipe.steps:
            return
        self.due = now + EVERY
        left = (self.recipe.steps - step) * (now - self.start) / (step - self.first)
        told = (
            f"{self.recipe.name} {step}/{self.recipe.steps}  {'  '.join(in_words(values).values())}  {left:.0f} s left"
        )
        self.console.print(told, highlight=False, soft_wrap=True)


def refuse_untracked(track: str | None) -> None:
    """ValueError for a tracker that is unknown or not installed."""
    if track is None:
        return
    if track not in PACKAGES:
        raise ValueError(f"track = {track!r}: expected one of {', '.join(PACKAGES)}")
    if not any(importlib.util.find_spec(package) for package in PACKAGES[track]):
        raise ValueError(f"track = {track!r} needs a package that is not installed: pip install {PACKAGES[track][0]}")


@contextlib.contextmanager
def tracked(accelerator: Any, folder: RunFolder, track: str | None) -> Iterator[Show]:
    """A function that sends a line of the log to the tracker, through Accelerate."""
    if track is None:
        yield lambda values: None
        return
    settings = {
        k: v if isinstance(v, int | float | str) else str(v) for k, v in dataclasses.asdict(folder.recipe).items()
    }
    named = {} if track == "tensorboard" else {track: {"name": folder.path.name}}  # TensorBoard writes into the folder
    accelerator.init_trackers(PROJECT if named else track, config=settings | {"seed": folder.seed}, init_kwargs=named)
    try:
        yield lambda values: accelerator.log(
            {name: value for name, value in values.items() if name != "step" and value is not None}, step=values["step"]
        )
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()
