"""`seminar render [WEEK]`: lecture scenes as videos, stills or GIFs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seminar.arguments import parse


@dataclass(frozen=True)
class Render:
    """Render scenes; those already rendered from the same sources are kept."""

    week: Annotated[str | None, tyro.conf.Positional] = None
    """week4 or 4; every week when left out."""
    scene: str | None = None
    """One scene, by name."""
    quality: Literal["preview", "lecture", "4k"] = "preview"
    """480p, 1080p or 2160p."""
    still: bool = False
    """The last frame as PNG."""
    gif: bool = False
    """A GIF."""
    out: Path = Path("out/videos")
    """Where the files go."""
    jobs: int = os.cpu_count() or 1
    """Processes to work in."""
    list: bool = False
    """Name the scenes and stop."""


def main(args: Sequence[str]) -> int:
    options = parse(Render, "render", args)
    if options.still and options.gif:
        raise ValueError("--still and --gif: choose one")
    from rich.console import Console

    from animations import catalog

    console = Console()
    rows = catalog.select(options.week, options.scene)
    if options.list:
        for row in rows:
            console.print(f"{row.name:28} {row.title}  ({', '.join(row.claims)})", highlight=False)
        return 0
    from animations.render import render

    form = "still" if options.still else "gif" if options.gif else "video"
    outcomes = render(rows, options.quality, form, options.out, options.jobs)
    for o in outcomes:
        where = ", ".join(map(str, o.files)) or o.error
        console.print(f"{o.row.name:28} {o.status:9} {o.seconds:6.1f} s  {where}", highlight=False, soft_wrap=True)
    return 0 if all(o.ok for o in outcomes) else 1
