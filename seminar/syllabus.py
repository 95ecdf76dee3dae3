"""`seminar syllabus`: the matrix of what is done, from what it finds in the code and never from a list of ticks.

For each topic of the ledger: rows covered by proved claims, bound functions, world checks, scenes and figures.
Then the recipes.
"""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from seminar.arguments import parse
from seminar.progress import bar
from theory.proof import cache, session
from theory.proof.session import Outcome


@dataclass(frozen=True)
class Syllabus:
    """Rows of the ledger and what covers them."""

    open: bool = False
    """Name the rows that no proved claim covers."""


def ledger() -> dict[str, dict[str, object]]:
    """The rows of theory/ledger.toml, by key."""
    with (cache.ROOT / "theory" / "ledger.toml").open("rb") as file:
        return tomllib.load(file)


def covered(outcomes: dict[str, Outcome]) -> dict[str, list[str]]:
    """Ledger key -> the proved claims that cover it; ValueError for a claim that names no row."""
    rows, found = ledger(), defaultdict(list)
    for o in outcomes.values():
        for key in o.covers:
            if key not in rows:
                raise ValueError(f"{o.id} covers {key!r}, which is no row of theory/ledger.toml")
            if o.status == "proved":
                found[key].append(o.id)
    return dict(found)


def decorated(folder: str, decorator: str) -> list[str]:
    """The ids given to a decorator in a room's files, read from their text."""
    ids = []
    for path in sorted((cache.ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            for d in getattr(node, "decorator_list", ()):
                if isinstance(d, ast.Call) and getattr(d.func, "id", "") == decorator:
                    ids += [a.value for a in d.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return ids


def main(args: Sequence[str]) -> int:
    options = parse(Syllabus, "syllabus", args)
    from rich.console import Console
    from rich.table import Table

    from animations.catalog import FIGURES, SCENES
    from training.recipes import RECIPES

    with bar("proving") as told:
        outcomes = session.verify(jobs=2, progress=told)
    rows, done = ledger(), covered(outcomes)
    topics = list(dict.fromkeys(key.split(".")[0] for key in rows))
    code, worlds = decorated("diffusion", "formula"), decorated("verify", "world_check")
    shown = [f"{topic}.{row.name}" for row in SCENES for topic in row.topics]
    drawn = [row.name for row in FIGURES]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("topic", no_wrap=True)
    for name in ("rows", "claims", "code", "worlds", "scenes", "figures"):
        table.add_column(name, justify="right")
    for topic in topics:
        of = [key for key in rows if key.split(".")[0] == topic]
        ready = sum(key in done for key in of)
        counts = [sum(id.split(".")[0] == topic for id in ids) for ids in (outcomes, code, worlds, shown, drawn)]
        style = "green" if ready == len(of) else ("yellow" if ready else "dim")
        table.add_row(topic, f"[{style}]{ready}/{len(of)}", *(str(c or "·") for c in counts))
    table.add_section()
    table.add_row(
        "all",
        f"{len(done)}/{len(rows)}",
        *(str(n) for n in (len(outcomes), len(code), len(worlds), len(SCENES), len(drawn))),
    )
    console = Console()
    console.print(table)
    console.print(f"recipes: {', '.join(RECIPES)}")
    if options.open:
        for key in rows:
            if key not in done:
                console.print(f"  open: {key}: {rows[key]['statement']}", highlight=False, markup=False, soft_wrap=True)
    return 0
