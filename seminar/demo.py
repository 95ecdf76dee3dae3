"""`seminar demo`: prove the ledger, train a toy, draw it against truth, render a scene; ends with what to look at.

Doing it twice costs nothing: kept verdicts, a finished run (found by the hash of its settings) and a rendered scene are
used again, and nothing is overwritten.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from seminar.arguments import parse

RECIPE, STEPS = "toy.ring", 2500
SCENE = "week5/ddim_is_euler"


@dataclass(frozen=True)
class Demo:
    """See the whole suite at work, in a few minutes."""


@dataclass(frozen=True)
class Done:
    """One stage: what it gave, and what to open."""

    told: str
    look: str = ""


def main(args: Sequence[str]) -> int:
    parse(Demo, "demo", args)
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "seconds", "result", "look at"):
        table.add_column(name, overflow="fold")
    stages: dict[str, Callable[[], Done]] = {
        "verify the ledger": _verify,
        f"train {RECIPE}": _train,
        "draw it against truth": _draw,
        f"render {SCENE}": _render,
    }
    start = time.perf_counter()
    for name, stage in stages.items():
        console.rule(name, align="left")
        began = time.perf_counter()
        done = stage()
        table.add_row(name, f"{time.perf_counter() - began:.1f}", done.told, done.look)
    table.add_section()
    table.add_row("all", f"{time.perf_counter() - start:.1f}", "", "")
    console.rule("done", align="left")
    console.print(table)
    console.print("next: seminar list; seminar show ddim.euler_exact; seminar render --list; the README has the rest")
    return 0


def _verify() -> Done:
    from seminar.progress import bar
    from seminar.selection import select
    from seminar.verify import Verify, report
    from theory.proof import session

    files, _ = select(())
    options = Verify(json=Path("out/verify.json"))
    Path("out").mkdir(exist_ok=True)
    with bar("proving") as told:
        outcomes = session.verify(files, jobs=options.jobs, progress=told)
    if report(outcomes, options, seed=0, keep=True, everything=True):
        raise ValueError("the ledger does not hold: see above")
    return Done(f"{len(outcomes)} claims proved", "out/verify.json")


def _run() -> Path:
    from training import recipes, run_folder

    return run_folder.default_path(recipes.change(recipes.find(RECIPE), steps=STEPS), 0)


def _train() -> Done:
    from training import recipes
    from training.loop import resume, train

    path = _run()
    outcome = resume(path) if path.exists() else train(recipes.find(RECIPE), steps=STEPS)
    return Done(f"{outcome.steps} steps, loss {outcome.loss:.3f}", f"{path}/curves.png")


def _draw() -> Done:
    from training.evaluate import evaluate_run
    from training.runs import sample_run

    picture = Path("out/demo-samples.png")
    sample_run(_run(), out=picture)
    ddim, _ = evaluate_run(_run(), sets=4, ddpm_steps=20, points=200).sampled
    return Done(f"energy distance to the exact law by {ddim.solver}, perfect sampler = 1: {ddim.energy}", str(picture))


def _render() -> Done:
    from animations import catalog
    from animations.render import render

    (outcome,) = render(catalog.select(scene=SCENE), "preview", "video", Path("out/videos"), os.cpu_count() or 1)
    if not outcome.ok:
        raise ValueError(f"the scene failed: {outcome.error}")
    return Done(outcome.status, ", ".join(os.path.relpath(f) for f in outcome.files))
