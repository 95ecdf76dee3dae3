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
    n: int = 20_000
    """How many."""
    solver: str = "ddim"
    """A solver of `seminar list solvers`."""
    steps: int = 50
    """Steps of the solver."""
    seed: int = 0
    """Seed of the draws."""
    out: Path = Path("out/samples.png")
    """The picture; the draws go beside it as .npy."""


def main(args: Sequence[str]) -> int:
    options = parse(Sample, "sample", args)
    from diffusion.solvers import SOLVERS

    if options.solver not in SOLVERS:
        raise ValueError(f"--solver {options.solver}: expected one of {', '.join(SOLVERS)}")
    if options.n < 1 or options.steps < 1:
        raise ValueError(f"--n {options.n} --steps {options.steps}: expected at least 1 of each")
    import numpy as np
    from rich.console import Console

    from training.evaluate import sample_run

    options.out.parent.mkdir(parents=True, exist_ok=True)
    drawn = sample_run(options.run, options.n, options.solver, options.steps, options.seed, options.out)
    array = options.out.with_suffix(".npy")
    np.save(array, drawn.numpy())
    Console().print(f"{options.n} samples: {options.out}, {array}", highlight=False, soft_wrap=True)
    return 0
