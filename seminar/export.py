"""`seminar export RUN --to diffusers`: a finished run's model as a folder that stock diffusers loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from seminar.arguments import parse


@dataclass(frozen=True)
class Export:
    """Write the model of a finished run for another library, its averaged weights in safetensors."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    to: Literal["diffusers"] = "diffusers"
    """The library."""
    out: Path | None = None
    """The new folder; RUN-diffusers when left out."""
    weights: Literal["ema", "last"] = "ema"
    """The averaged weights, or those of the last step."""


def main(args: Sequence[str]) -> int:
    options = parse(Export, "export", args)
    from rich.console import Console

    from training.interop.export import export

    exported = export(options.run, options.out, options.weights)
    loaded = f"{exported.pipeline}.from_pretrained" if exported.pipeline else "no pipeline, load part by part"
    for line in (f"{exported.folder}: {', '.join(exported.parts)}; {loaded}", *exported.notes):
        Console().print(line, highlight=False, soft_wrap=True)
    return 0
