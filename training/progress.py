"""What a person watches while a run trains: a bar on a terminal, a line every ten seconds anywhere else, trackers."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from training.recipes import Recipe
from training.run_folder import RunFolder

Tracker = Literal["tensorboard", "wandb", "trackio"]
PROJECT = "diffusion-seminar"
EVERY = 10.0  # seconds between lines where there is no terminal
PACKAGES = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",), "trackio": ("trackio",)}

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


def words(values: Mapping[str, Any]) -> str:
    """A line of the log in words."""
    told = f"loss {values['loss']:.5f}  smoothed {values['smoothed_loss']:.5f}  "
    told += f"{values['samples_per_second']:.0f} samples/s  {values['memory_gb']:.2f} GB"
    if values["skipped"]:
        told += f"  {values['skipped']} steps skipped"
    return told + (f"  MFU {values['mfu']:.0%}" if values["mfu"] is not None else "")


@contextlib.contextmanager
def _bar(recipe: Recipe, step: int, console: Console) -> Iterator[Show]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(recipe.name, total=recipe.steps, completed=step, words="")
        yield lambda values: progress.update(bar, completed=values["step"], words=words(values))


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
        told = f"{self.recipe.name} {step}/{self.recipe.steps}  {words(values)}  {left:.0f} s left"
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
