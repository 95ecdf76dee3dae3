"""`seminar show ID`: one claim, line by line, with its hypotheses, its code and its worst error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from seminar.arguments import parse


@dataclass(frozen=True)
class Show:
    """Show one claim."""

    id: Annotated[str, tyro.conf.Positional]
    """The claim, as topic.name."""
    latex: bool = False
    """The derivation as LaTeX, to paste."""
    typst: bool = False
    """The derivation as Typst, to paste."""


def main(args: Sequence[str]) -> int:
    options = parse(Show, "show", args)
    if options.latex and options.typst:
        raise ValueError("--latex and --typst: choose one")
    from seminar.verify import select
    from theory.proof import export

    _, wanted = select([options.id])
    if wanted != {options.id}:
        raise ValueError(f"{options.id!r} is not one claim; the claims there are {', '.join(sorted(wanted or ()))}")
    exported = export(options.id)
    if options.latex or options.typst:
        print(exported.latex if options.latex else exported.typst)
        return 0
    _print(exported)
    return 0 if exported.status == "proved" else 1


def _print(exported: object) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from theory.proof import Exported

    assert isinstance(exported, Exported)
    console = Console()
    good = exported.status == "proved"
    console.print(
        Text.assemble((exported.id, "bold"), "  ", (exported.status, "green" if good else "red"), f"  {exported.hash}")
    )
    console.print(Text(exported.title))
    if exported.source:
        console.print(Text(f"source: {exported.source}", style="dim"))
    for words in exported.hypotheses:
        console.print(Text(f"let {words}", style="cyan"))
    for name in exported.assumes:
        console.print(Text(f"rests on {name}", style="yellow"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for step in exported.steps:
        table.add_row(step.relation if step.words else "", step.shown("plain"), Text(step.words, style="dim"))
    console.print(table)
    for label, part in exported.parts.items():
        console.print(f"  {exported.id}.{label} = {part.text}")
    _code(console, exported.id)


def _code(console: object, id: str) -> None:
    """Where the formula runs, and how far it strays from 50 digits."""
    from rich.console import Console
    from rich.table import Table

    from theory.proof import session
    from verify import report

    assert isinstance(console, Console)
    outcomes = {id: session.verify([p for p in session.files() if id in session.ids_in(p)])[id]} if any(
        id in session.ids_in(p) for p in session.files()
    ) else {}  # fmt: skip
    if not outcomes:
        return
    (entry,) = report.verify(outcomes, everything=False).entries
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("code", "dtype", "worst error / bound", "error / 8u(cond + 1)", "gradient"):
        table.add_column(name, overflow="fold")
    for b in entry.bindings:
        table.add_row(
            b["function"], b["dtype"], *(_figure(b[k]) for k in ("worst_bound", "worst_condition", "gradient"))
        )
    if entry.bindings:
        console.print(table)
    for w in entry.worlds:
        rate = f"fails for nothing at {w['false_fail']:.0e}, " if w["false_fail"] else ""
        sees = f"{rate}sees an error of {w['detectable_effect']:.2g}"
        console.print(f"world {w['world']}: {w['check']}: {_figure(w['value'])} ({w['status']}; {sees})")


def _figure(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else ("" if value is None else str(value))
