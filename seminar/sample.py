"""`seminar sample RUN`: draws of a finished run, as a picture beside the truth and as an array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seminar.arguments import parse


@dataclass(frozen=True)
class Sample:
    """Draw samples from a finished run by its averaged weights."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    n: int | None = None
    """How many: 20000 points, or 64 images, when left out."""
    solver: str | None = None
    """A solver of `seminar list solvers`; ddim, or what a distilled run was made for, when left out."""
    steps: int | None = None
    """Steps of the solver; 50, or what a distilled run was made for, when left out."""
    grid: str | None = None
    """At which times: angle (our own, when left out), uniform, log_snr, karras; of a run that was trained on a chain
    also leading, linspace, trailing: with all its steps and --solver ddpm that is DDPM's own sampler."""
    seed: int = 0
    """Seed of the draws."""
    label: int | None = None
    """Draw this class alone, from a run that was told labels."""
    guidance: float = 1.0
    """Classifier-free guidance towards the label: 1 is the conditional model, 0 the unconditional one."""
    ema: float | None = None
    """By the average of this relative width, which `seminar ema` has made, instead of the run's own."""
    out: Path = Path("out/samples.png")
    """The picture; the draws go beside it as .npy."""


def main(args: Sequence[str]) -> int:
    options = parse(Sample, "sample", args)
    if options.out.suffix != ".png":
        raise ValueError(f"--out {options.out}: expected a name that ends in .png")
    import dataclasses

    import numpy as np
    from rich.console import Console

    from seminar.progress import bar
    from training import run_folder
    from training.runs import sample_run

    if run := run_folder.around(options.out):
        raise ValueError(f"--out {options.out}: {run} is a run, to which nothing is added: choose a place outside")
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name != "run"}
    with bar("sampling") as told:
        drawn = sample_run(options.run, **values, progress=told)
    array = options.out.with_suffix(".npy")
    np.save(array, drawn.numpy())
    samples = "1 sample" if len(drawn) == 1 else f"{len(drawn)} samples"
    Console().print(f"{samples}: {options.out}, {array}", highlight=False, soft_wrap=True)
    return 0
