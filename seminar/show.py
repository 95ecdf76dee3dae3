"""`seminar show ID` or `FILE.py[::name]`: claims line by line, with hypotheses, code, and what worlds say of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from seminar.arguments import parse

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from theory.proof import Exported, session


@dataclass(frozen=True)
class Show:
    """Show one claim, or those of a file."""

    what: Annotated[str, tyro.conf.Positional]
    """The claim, as topic.name; or a file of your own, as notes.py or notes.py::name."""
    latex: bool = False
    """The derivation as LaTeX, to paste."""
    typst: bool = False
    """The derivation as Typst, to paste."""
    every_world: bool = False
    """Each check on each world; without it, each check where it came nearest to failing."""


def main(args: Sequence[str]) -> int:
    options = parse(Show, "show", args)
    if options.latex and options.typst:
        raise ValueError("--latex and --typst: choose one")
    from rich.console import Console

    from theory.proof import export

    outcomes = chosen(options.what)
    console = Console()
    for i, outcome in enumerate(outcomes):
        if outcome.status == "error":
            console.print(f"{outcome.id}  error", style="red", highlight=False)
            console.print(outcome.message, highlight=False, markup=False, soft_wrap=True)
        elif options.latex or options.typst:
            exported = export(outcome.id, outcome)
            print(exported.latex if options.latex else exported.typst)
        else:
            console.print("\n" if i else "", end="")
            for shown in _shown(export(outcome.id, outcome), outcome, options.every_world):
                console.print(shown, highlight=False)
    return 0 if all(outcome.status == "proved" for outcome in outcomes) else 1


def chosen(word: str) -> list[session.Outcome]:
    """The outcome of the claim that the word names, or of those of the file; ValueError for a topic."""
    from seminar.selection import select
    from theory.proof import session

    files, wanted = select([word])
    assert wanted is not None
    if word not in wanted and files[0] in session.files():
        raise ValueError(f"{word!r} is not one claim; the claims there are {', '.join(sorted(wanted))}")
    outcomes = [outcome for id, outcome in session.verify(files).items() if id in wanted]
    return sorted(outcomes, key=lambda outcome: outcome.line)


def _shown(exported: Exported, outcome: session.Outcome, every_world: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    style = "green" if exported.status == "proved" else "red"
    yield Text.assemble((exported.id, "bold"), "  ", (exported.status, style), f"  {exported.hash}")
    yield Text(exported.title)
    if exported.message:
        yield Text(exported.message, style="red")
    if exported.source:
        yield Text(f"source: {exported.source}", style="dim")
    yield from (Text(f"let {words}", style="cyan") for words in exported.hypotheses)
    yield from (Text(f"rests on {name}", style="yellow") for name in exported.assumes)
    yield _derivation(exported)
    yield from (Text(f"  {exported.id}.{label} = {part.text}") for label, part in exported.parts.items())
    yield from _code_and_worlds(outcome, every_world)


def _derivation(exported: Exported) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(ratio=2)
    table.add_column(ratio=1, style="dim")
    for step in exported.steps:
        table.add_row(step.relation if step.words else "", Text(step.shown("plain")), Text(step.words))
    return table


def _code_and_worlds(outcome: session.Outcome, every_world: bool) -> Iterator[RenderableType]:
    """Where the formula runs and how far it strays from 50 digits; and what was seen of it in worlds."""
    from rich.text import Text

    from verify import report

    (entry,) = report.verify({outcome.id: outcome}, everything=False).entries
    if entry.bindings:
        table = _table("code", "dtype", "error / bound", "error / 8u(cond + 1)", "gradient")
        for b in entry.bindings:
            table.add_row(
                b["function"].removeprefix("diffusion."),
                b["dtype"],
                *(figure(b[k]) for k in ("worst_bound", "worst_condition", "gradient")),
            )
        yield Text("")
        yield table
    if entry.worlds:
        yield Text("")
        yield _worlds(entry.worlds, every_world)


def _worlds(rows: Sequence[dict[str, Any]], every: bool) -> Table:
    """One line a check: where it came nearest to its limit (of the test's statistic), and what error it would see."""
    from rich.text import Text

    table = _table("check", "value of limit", "on", "sees an error of")
    by_check: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_check.setdefault(row["check"], []).append(row)
    for check, group in by_check.items():
        nearest = max(group, key=_nearness)
        for row in group if every else [nearest]:
            told = [r["status"] == "holds" for r in ([row] if every else group)]
            table.add_row(
                check,
                f"{figure(row['value'])} of {figure(row['limit'])}",
                Text(
                    row["world"] + ("" if every else f", {sum(told)}/{len(told)} hold"),
                    style="" if all(told) else "red",
                ),
                f"{row['detectable_effect']:.2g} ({row['unit']})",
            )
    table.caption = f"together they fail for nothing at rate {sum(row['false_fail'] for row in rows):.1g} at most"
    table.caption_justify = "left"
    return table


def _nearness(row: dict[str, Any]) -> float:
    """Value over limit; infinite for what fails, so that it is seen first."""
    return float("inf") if row["status"] != "holds" or row["value"] is None else row["value"] / (row["limit"] or 1.0)


def _table(first: str, *others: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (first, *others):
        table.add_column(name)
    return table


def figure(value: object) -> str:
    """Three digits of a measured number."""
    return f"{value:.3g}" if isinstance(value, float) else ("" if value is None else str(value))
