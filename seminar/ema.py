"""`seminar ema RUN --width 0.13`: the average of another width, made of what a run stored along the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seminar.arguments import parse


@dataclass(frozen=True)
class Reconstruct:
    """Write the weight average of a width that the run did not keep, from the averages that it stored."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder; it was trained with --snapshots N."""
    width: float
    """The average's relative width: the standard deviation of its weights over the run's length."""
    step: int | None = None
    """The step at which the average ends; the last stored when left out."""


def main(args: Sequence[str]) -> int:
    options = parse(Reconstruct, "ema", args)
    from rich.console import Console

    from training.averages import reconstruct

    path = reconstruct(options.run, options.width, options.step)
    told = f"{path} (to see it: seminar sample {options.run} --ema {options.width:g})"
    Console().print(told, highlight=False, soft_wrap=True)
    return 0
