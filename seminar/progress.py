"""Progress on stderr for work of known length: a bar on a terminal, a line every few seconds anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 5.0  # seconds between lines


@contextmanager
def bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """`with bar("proving") as told: told(name, done, total)`."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, console)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[name]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, name="", visible=False)

        def told(name: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, name=name, visible=True)

        yield told


class _Lines:
    """`told` where there is no terminal: work that is over within EVERY seconds says nothing."""

    def __init__(self, title: str, console: Console) -> None:
        self.title, self.console = title, console
        self.began = self.last = time.monotonic()

    def __call__(self, name: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last < EVERY:
            return
        self.last, elapsed = now, now - self.began
        left = f", about {elapsed * (total / done - 1):.0f} s left" if done else ""
        told = f"{self.title}: {done / total:.0%} after {elapsed:.0f} s{left}: {name}"
        self.console.print(told, highlight=False, markup=False, soft_wrap=True)
