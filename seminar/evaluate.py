"""`seminar evaluate RUN`: how far a run's samples are from the exact law, in units that mean something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from seminar.arguments import parse
from seminar.progress import bar


@dataclass(frozen=True)
class Evaluate:
    """Energy distance to the exact law, sliced Wasserstein, and the gap in nats to the law's own density."""

    run: Annotated[Path, tyro.conf.Positional]
    """The run's folder."""
    sets: int = 20
    """Independent sample sets (their spread gives the 95 % limits)."""
    size: int = 20_000
    """Samples in each set."""
    ddim_steps: int = 50
    """Steps of DDIM; a distilled run has its own sampler and steps."""
    ddpm_steps: int = 200
    """Steps of DDPM."""
    points: int = 2_000
    """Points at which densities are compared."""
    seed: int = 0
    """Seed of the draws."""
    exact: bool = False
    """Put the law's own denoiser in the place of the trained one: what is left is the sampler's doing."""


def main(args: Sequence[str]) -> int:
    import dataclasses

    options = parse(Evaluate, "evaluate", args)
    from rich.console import Console

    from training.evaluate import evaluate_run

    console = Console()
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name != "run"}
    with bar("evaluating") as told:

        def progress(stage: str, done: int, total: int) -> None:
            if not done:  # the run and the settings are in order
                Console(stderr=True).print(plan(options, total), highlight=False, soft_wrap=True)
            told(stage, done, total)

        report = evaluate_run(options.run, **values, progress=progress)
    console.print(table(report))
    return 0


RATE = 3e5  # samples that a toy's network moves one step in a second on a few cores, within a factor of three


def plan(options: Evaluate, total: int) -> str:
    """What it will do, and roughly how long that takes; total: samples moved by a step."""
    minutes = total / RATE / 60
    span = f"{minutes:.0f} minutes" if minutes > 1.5 else "a minute or less"
    return (
        f"{options.sets} sets of {options.size:,} samples by each sampler, {total // options.size:,} calls of the "
        f"network; then their distances to the exact law, and densities at {options.points:,} points. Roughly {span} "
        f"on a processor."
    )


def table(report: Any) -> Any:
    """The report's figures, one line a sampler."""
    from rich.table import Table

    out = Table(box=None, pad_edge=False, header_style="bold", title=str(report.run), title_justify="left")
    for name in ("sampler", "steps", "energy distance / perfect sampler's", "sliced Wasserstein / noise floor"):
        out.add_column(name)
    for s in report.sampled:
        out.add_row(s.solver, str(s.steps), str(s.energy), str(s.sliced))
    if report.nll_gap is not None:
        out.add_row("NLL gap", "", f"{report.nll_gap} nats", "")
    return out
