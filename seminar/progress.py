"""A progress bar on stderr for work of known length; silent where nobody is watching."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """`with bar("proving") as told: told(name, done, total)`."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[name]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, name="", visible=False)

        def told(name: str, done: int, total: int) -> None:
            progress.update(task, completed=done, total=total, name=name, visible=True)

        yield told
