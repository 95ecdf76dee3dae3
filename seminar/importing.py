"""`seminar import FOLDER`: a checkpoint of diffusers as a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seminar.arguments import parse


@dataclass(frozen=True)
class Import:
    """Make a run folder of a diffusers checkpoint of pixels: JSON and safetensors, no code."""

    folder: Annotated[Path, tyro.conf.Positional]
    """A pipeline's folder (unet/ or transformer/, scheduler/), or a model's own."""
    out: Path | None = None
    """The new run; runs/imported-FOLDER when left out."""
    scheduler: Path | None = None
    """Folder of the scheduler's config, for a model that lies alone."""
    data: str | None = None
    """What it was trained on, as recipes name it: its students learn from it."""
    path: str = ""
    """Where these data lie."""
    classes: int | None = None
    """Labels it was told; the next in its table, if there is one, says "not told"."""
    std: float | None = None
    """Standard deviation of the data, for the samplers' grids: that of the recipes of such data, or 0.5."""


def main(args: Sequence[str]) -> int:
    options = parse(Import, "import", args)
    import dataclasses

    from rich.console import Console

    from training.interop.importing import import_folder

    run = import_folder(**{f.name: getattr(options, f.name) for f in dataclasses.fields(options)})
    told = f"{run.path}: {run.recipe.name}; go on with: seminar sample {run.path}"
    Console().print(told, highlight=False, soft_wrap=True)
    return 0
