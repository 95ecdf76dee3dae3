"""Is a model trained for a minute as good as a perfect sampler? Ring and checkerboard, three seeds, all printed.

    python benchmarks/toy_training.py [--seconds 60 | --steps N] [--seeds 0 1 2] [--sets 20] [--threads 2] [--out DIR]

For each world and seed: train the recipe (its step count chosen to fill the seconds on this machine, or given), draw
`sets` sets of 20,000 samples with DDIM (50 steps) and DDPM (200 steps), and print their energy distance to the exact
law in multiples of a perfect sampler's exact mean, with 95 % limits; the sliced Wasserstein ratio; and the NLL gap in
nats. The row `exact` has the law's own denoiser in the trained one's place: what the sampler alone does. The verdict is
on the median over seeds of the upper limit, which is to be at most 1.3. Finished runs in the folder are used again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from pathlib import Path

WORLDS = ("ring", "checkerboard")
LIMIT = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, help="instead of --seconds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/toy"))
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)

    import torch
    from rich.console import Console
    from rich.table import Table

    from training import evaluate, loop, recipes, run_folder

    torch.set_num_threads(options.threads)
    console = Console(width=150)
    table = Table(
        "world", "seed", "steps", "steps/s", "DDIM-50", "DDPM-200", "sliced DDIM", "sliced DDPM", "NLL gap, nats"
    )
    uppers: dict[tuple[str, str], list[float]] = {}

    def row(world: str, seed: str, steps: str, speed: str, report: evaluate.Report) -> None:
        ddim, ddpm = report.sampled
        cells = (ddim.energy, ddpm.energy, ddim.sliced, ddpm.sliced, report.nll_gap)
        table.add_row(world, seed, steps, speed, *(str(cell) for cell in cells))
        console.print(world, seed, *(str(cell) for cell in cells))
        with open(options.out / "results.jsonl", "a") as file:
            file.write(
                json.dumps({"world": world, "seed": seed, "steps": steps, "cells": [vars(c) for c in cells]}) + "\n"
            )

    for world in WORLDS:
        for seed in options.seeds:
            folder = options.out / f"{world}-s{seed}"
            if not folder.exists():
                length = {"steps": options.steps} if options.steps else {"seconds": options.seconds}
                loop.train(recipes.find(f"toy.{world}"), folder, seed=seed, **length)
            outcome = loop.resume(folder)
            rates = [line["steps_per_second"] for line in run_folder.read_log(folder / "metrics.jsonl")]
            report = evaluate.evaluate_run(folder, sets=options.sets, seed=seed)
            row(world, str(seed), str(outcome.steps), f"{statistics.median(rates):.0f}", report)
            for sampled in report.sampled:
                uppers.setdefault((world, sampled.solver), []).append(sampled.energy.upper)
        row(world, "exact", "", "", evaluate.evaluate_run(folder, sets=options.sets, exact=True))
    console.print(table)
    for (world, solver), values in uppers.items():
        median = statistics.median(values)
        verdict = "met" if median <= LIMIT else "MISSED"
        console.print(f"{world}, {solver}: median upper limit {median:.3f}, wanted at most {LIMIT}: {verdict}")


if __name__ == "__main__":
    main()
