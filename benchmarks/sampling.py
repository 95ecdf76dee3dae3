"""Cost of a sampling step beside the model: python -m benchmarks.sampling

The denoiser does nothing (it returns one tensor every time), so what is timed is the sampler: building its table and
running the loop, per call of the denoiser. The unit is one fused in-place update of the state, `lerp_`, timed back to
back with each repetition. Times are processor time of one thread, so that what else runs on the machine counts little;
medians. The floor is the row's arithmetic alone, in place: scale the state, add each prediction, add fresh noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table as RichTable
from torch import Generator, Tensor

from diffusion import grids
from diffusion.sampling import sample
from diffusion.schedules import vp_linear
from diffusion.solvers import SOLVERS, Table

Run = Callable[[], object]
SHAPES = {(256, 2): 400, (16, 3, 256, 256): 8}  # state: how many unit operations are timed at once


def seconds(run: Run) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def in_units(run: Run, unit: Run, repeats: int) -> list[float]:
    """Quartiles of run's time over unit's."""
    run(), unit()
    return statistics.quantiles([seconds(run) / seconds(unit) for _ in range(repeats)], n=4)


def floor(table: Table, x: Tensor, D: Tensor, generator: Generator) -> None:
    """The arithmetic of the table's rows, in place."""
    noise = torch.empty_like(x)
    for row in table.rows:
        x.mul_(row.state)
        for _, coefficient in row.denoised:
            x.add_(D, alpha=coefficient)
        if row.noise:
            x.add_(noise.normal_(generator=generator), alpha=row.noise)


def measure(name: str, shape: tuple[int, ...], steps: int, repeats: int) -> tuple[str, ...]:
    """One line of the printed table."""
    schedule, generator, count = vp_linear(), Generator().manual_seed(0), SHAPES[shape]
    x, D, target = (torch.randn(shape, generator=generator) for _ in range(3))

    def build() -> Table:
        return SOLVERS[name](schedule, grids.uniform(steps))

    def unit() -> None:
        for _ in range(count):
            target.lerp_(D, 0.5)

    table = build()
    per_call = count / len(table)
    whole = in_units(lambda: sample(lambda x, t: D, build(), x, generator), unit, repeats)
    alone = in_units(build, unit, repeats)
    least = in_units(lambda: floor(table, target, D, generator), unit, repeats)
    low, middle, high = (per_call * value for value in whole)
    spread = f"{low:.1f} - {high:.1f}"
    return str(shape), name, f"{middle:.1f}", spread, f"{per_call * alone[1]:.2f}", f"{per_call * least[1]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of a sampling step beside the model.")
    parser.add_argument("--steps", type=int, default=50, help="sampling steps a run (default 50)")
    parser.add_argument("--repeats", type=int, default=15, help="timings, of which the median is shown (default 15)")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.repeats < 2:
        parser.error("--steps must be at least 1 and --repeats at least 2")
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    shown = RichTable(title=f"one call of the denoiser in units of one lerp_ (torch {torch.__version__}, 1 thread)")
    for heading in ("state", "solver", "table + loop", "quartiles", "of that, table", "floor"):
        shown.add_column(heading, justify="left" if heading in ("state", "solver") else "right")
    for shape in SHAPES:
        for name in SOLVERS:
            shown.add_row(*measure(name, shape, arguments.steps, arguments.repeats))
        shown.add_section()
    Console().print(shown)


if __name__ == "__main__":
    main()
