"""Do the world checks ever fail for nothing? All of them, on many seeds: python -m benchmarks.varied_seeds --runs 100

A check that holds is run on other draws each time; every failure is a flake or a finding, and its seed sees it again
with `seminar verify --seed N`. For each check: how often it was looked at, how near it came to failing (value over
limit, at most 1), its false-fail rate as stated, and the smallest error that it is sure to see (MISS in
`verify/statistics.py`). Exit code 1 if anything failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from rich.console import Console
from rich.progress import track
from rich.table import Table

from verify.worlds import SUITE_FALSE_FAIL, Row, checks, run, suite_false_fail

Rows = dict[int, list[Row]]


def look(seed: int, only: Sequence[str]) -> tuple[int, list[Row]]:
    """Every check (of the files named, or of all) on every one of its worlds, with the draws of one seed."""
    import torch

    torch.set_num_threads(1)
    asked = [check for check in checks() if not only or check.function.__module__.rpartition(".")[2] in only]
    return seed, [row for check in asked for world in check.worlds for row in run(check, world, seed)]


def gather(seeds: Sequence[int], jobs: int, only: Sequence[str]) -> Rows:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(look, seed, only) for seed in seeds]
        done = track(as_completed(futures), "runs", total=len(futures), console=Console(stderr=True))
        return dict(future.result() for future in done)


def table(runs: Rows) -> Table:
    """A row for each check: its worst over all runs and worlds."""
    by_check: dict[str, list[Row]] = defaultdict(list)
    for rows in runs.values():
        for row in rows:
            by_check[row.check.split(":")[0]].append(row)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("check")
    for name in ("looked at", "failed", "nearest value/limit", "false-fail rate", "effect seen", "unit"):
        shown.add_column(name, justify="left" if name == "unit" else "right")
    for check, rows in sorted(by_check.items()):
        verdicts = [row.verdict for row in rows]
        nearest = max((v.value / v.limit for v in verdicts if v.limit), default=0.0)
        widest = max(verdicts, key=lambda v: v.detectable_effect)
        failed = sum(not row.holds for row in rows)
        rate = max(v.false_fail for v in verdicts)
        shown.add_row(
            check, str(len(rows)), str(failed), f"{nearest:.3f}", f"{rate:.0e}" if rate else "exact",
            f"{widest.detectable_effect:.2g}", widest.unit,
        )  # fmt: skip
    return shown


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    options.add_argument("--runs", type=int, default=100)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--only", nargs="*", default=[], help="files of verify/checks, without .py")
    given = options.parse_args()
    if given.runs < 1 or given.jobs < 1:
        options.error(f"--runs {given.runs} --jobs {given.jobs}: expected at least 1 of each")
    known = {check.function.__module__.rpartition(".")[2] for check in checks()}
    if unknown := set(given.only) - known:
        options.error(f"--only {' '.join(sorted(unknown))}: expected some of {', '.join(sorted(known))}")
    began = time.perf_counter()
    runs = gather(range(1, given.runs + 1), given.jobs, given.only)
    console = Console()
    console.print(table(runs))
    failures = [(seed, row) for seed, rows in sorted(runs.items()) for row in rows if not row.holds]
    for seed, row in failures:
        console.print(f"seed {seed}: {row.world}: {row.check}: {row.verdict.value:.4g} > {row.verdict.limit:.4g}")
    looked = sum(map(len, runs.values()))
    rate = max(suite_false_fail(rows) for rows in runs.values())
    console.print(
        f"{len(runs)} runs, {looked} verdicts, {len(failures)} failed; a run fails for nothing at rate {rate:.1e} at "
        f"most (allowed {SUITE_FALSE_FAIL:.0e}); {time.perf_counter() - began:.0f} s"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
