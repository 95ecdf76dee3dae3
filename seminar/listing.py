"""`seminar list`: what there is to prove, train, sample and show."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.markup import escape

from seminar.arguments import near, parse

if TYPE_CHECKING:
    from rich.console import Console

Row = tuple[str, str]  # a name, and what it is in a line


@dataclass(frozen=True)
class List:
    """List what there is."""

    what: Annotated[
        Literal["claims", "topics", "recipes", "scenes", "figures", "worlds", "solvers", "all"], tyro.conf.Positional
    ] = "all"
    """claims, topics, recipes, scenes, figures, worlds, solvers, or all."""
    topic: Annotated[str, tyro.conf.Positional] = ""
    """With claims: those of one topic."""


def main(args: Sequence[str]) -> int:
    options = parse(List, "list", args)
    if options.topic and options.what != "claims":
        raise ValueError(f"list {options.what} {options.topic}: only claims have a topic; seminar list claims TOPIC")
    from rich.console import Console

    console = Console()
    for name, (title, rows) in _tables(options.topic).items():
        if options.what in (name, "all"):
            found = rows()
            console.print(f"[bold]{title}[/bold]")
            _print(console, found)
    return 0


def _print(console: Console, rows: list[Row]) -> None:
    """Names, and beside them what they are: in columns for a reader, one line each for a program."""
    from rich.table import Table

    if not console.is_terminal:
        width = max(len(name) for name, _ in rows)
        for name, told in rows:
            console.print(f"  {name:{width}}  {told}".rstrip(), highlight=False, markup=False, soft_wrap=True)
        return
    table = Table(box=None, show_header=False, padding=(0, 0, 0, 2), highlight=False)
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table, highlight=False)


def claimed(path: Path) -> list[Row]:
    """Ids and titles (the docstrings' first lines) of a file's claims, read from its text: nothing is imported."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        for d in getattr(node, "decorator_list", ()):
            if isinstance(node, ast.FunctionDef) and isinstance(d, ast.Call) and getattr(d.func, "id", "") == "claim":
                title = (ast.get_docstring(node) or "").split("\n")[0]
                found += [(a.value, title) for a in d.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    return found


def _tables(topic: str) -> dict[str, tuple[str, Callable[[], list[Row]]]]:
    from theory.proof import session

    def claims() -> list[Row]:
        found = [row for path in session.files() for row in claimed(path)]
        if not topic:
            return found
        if topic not in (known := {id.split(".")[0] for id, _ in found}):
            raise ValueError(f"{topic!r} is no topic; {near(topic, sorted(known), 'seminar list topics')}")
        return [(id, title) for id, title in found if id.split(".")[0] == topic]

    def topics() -> list[Row]:
        counts = Counter(id.split(".")[0] for path in session.files() for id in session.ids_in(path))
        return [(name, f"{counts[name]} claims") for name in sorted(counts)]

    def recipes() -> list[Row]:
        from training.recipes import RECIPES

        return [(name, "") for name in RECIPES]

    def scenes() -> list[Row]:
        from animations.catalog import SCENES

        return [(row.name, f"{row.title} ({', '.join(row.claims)})") for row in SCENES]

    def figures() -> list[Row]:
        from animations.catalog import FIGURES

        return [(row.name, row.title) for row in FIGURES]

    def worlds() -> list[Row]:
        from toy.worlds import ELSEWHERE, WORLDS

        return [(name, "") for name in (*WORLDS, *ELSEWHERE)]

    def solvers() -> list[Row]:
        from diffusion.solvers import SOLVERS

        return [(name, "") for name in SOLVERS]

    return {f.__name__: (f.__name__, f) for f in (claims, topics, recipes, scenes, figures, worlds, solvers)}
