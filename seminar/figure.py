"""`seminar figure [ID ...]`: still pictures of claims, as PNG."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seminar.arguments import parse


@dataclass(frozen=True)
class Figure:
    """Draw figures."""

    ids: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Claims, as topic.name, or whole topics; every figure when left out."""
    out: Path = Path("out/figures")
    """Where the files go."""
    list: bool = False
    """Name the figures and stop."""


def main(args: Sequence[str]) -> int:
    options = parse(Figure, "figure", args)
    from rich.console import Console

    from animations import catalog
    from seminar.progress import bar

    console = Console()
    rows = catalog.figures(options.ids)
    if options.list:
        for row in rows:
            console.print(f"{row.name:34} {row.title}", highlight=False, soft_wrap=True)
        return 0
    if options.out.exists() and not options.out.is_dir():
        raise ValueError(f"--out {options.out}: that is a file; name a folder")
    from animations.figures.page import draw

    with bar("drawing") as told:
        for done, row in enumerate(rows):
            told(row.name, done, len(rows))
            began = time.perf_counter()
            path = draw(row).save(options.out)
            took = time.perf_counter() - began
            console.print(f"{row.name:34} {took:5.1f} s  {path}", highlight=False, soft_wrap=True)
    return 0
