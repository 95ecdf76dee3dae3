"""The page: claims by topic, as the ledger orders them, each with all that the report knows of it."""

from __future__ import annotations

import inspect
import os
import tomllib
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from theory.proof import session
from theory.proof.cache import ROOT
from theory.proof.export import Exported, Written, export
from verify.page.formulas import Formulas
from verify.report import FATES, Entry, Report

HERE = Path(__file__).parent
RELATIONS = {"=": "=", "<=": "≤", ">=": "≥", "->": "→"}


@dataclass(frozen=True)
class Code:
    """A bound function: where it is, its text, and how it fared in each dtype."""

    name: str
    place: str  # path:line from the checkout's root
    link: str  # from the page to the file; "" for a page outside the checkout, which may be sent anywhere
    source: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """One claim on the page."""

    entry: Entry
    exported: Exported
    code: list[Code]

    @property
    def outcome(self) -> session.Outcome:
        return self.entry.outcome

    @property
    def words(self) -> str:
        """What the search box looks through."""
        o, x = self.outcome, self.exported
        said = (o.id, o.title, o.source, o.status, f"week {o.week}", *o.hypotheses, *o.covers)
        functions = (c.name for c in self.code)
        worlds = (f"{w['world']} {w['check']}" for w in self.entry.worlds)
        return " ".join((*said, *functions, *worlds, *(step.words for step in x.steps))).lower()


@dataclass(frozen=True)
class Topic:
    """A heading of the ledger: its claims, and the rows that no proved claim covers yet."""

    name: str
    sections: list[Section]
    rows: int
    open: dict[str, str]


def build(report: Report, path: Path) -> None:
    """Write the page of a report to the path."""
    for file in {Path(entry.outcome.file) for entry in report.entries if entry.outcome.status != "error"}:
        session.load(file)
    sections = [_section(entry, path) for entry in report.entries]
    formulas = Formulas(one for section in sections for one in _written(section.exported))
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "math": lambda one: Markup(formulas(one)),
        "relation": lambda relation: RELATIONS.get(relation, relation),
        "figure": lambda value: f"{value:.3g}" if isinstance(value, float) else ("" if value is None else str(value)),
    }
    page = environment.get_template("page.html.j2").render(
        topics=list(_topics(sections)),
        report=report,
        layers=report.layers(),
        fates=FATES,
        broken=sum(bool(entry.mutants) for entry in report.entries),
        written=Written,
        known={section.outcome.id for section in sections},
        font=b64encode((HERE / "math.woff2").read_bytes()).decode(),
        style=Markup(formulas.style + (HERE / "page.css").read_text()),
        script=Markup((HERE / "page.js").read_text()),
    )
    path.write_text(page, encoding="utf-8")


def _section(entry: Entry, page: Path) -> Section:
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in entry.bindings:
        by_name.setdefault(row["function"], []).append(row)
    code = [_code(name, rows, page) for name, rows in by_name.items()]
    return Section(entry, _exported(entry.outcome), code)


def _exported(outcome: session.Outcome) -> Exported:
    """The claim's lines; none for one that cannot be read, which is what its message says."""
    try:
        return export(outcome.id, outcome)
    except Exception:
        if outcome.status == "proved":
            raise
        return Exported(
            outcome.id, outcome.hash, outcome.title, outcome.week, outcome.source, outcome.status,
            outcome.hypotheses, outcome.assumes, steps=(), parts={},
        )  # fmt: skip


def _code(name: str, rows: list[dict[str, Any]], page: Path) -> Code:
    module, function = name.rsplit(".", 1)
    found = inspect.unwrap(getattr(import_module(module), function))
    lines, first = inspect.getsourcelines(found)
    file = Path(inspect.getsourcefile(found) or "").resolve().relative_to(ROOT)
    link = Path(os.path.relpath(ROOT / file, page.resolve().parent)).as_posix()
    inside = page.resolve().is_relative_to(ROOT)
    return Code(name, f"{file}:{first}", link if inside else "", "".join(lines), rows)


def _written(exported: Exported) -> Iterator[Written]:
    yield from exported.parts.values()
    for step in exported.steps:
        yield step
        yield from (one for _, one in step.details)
        if step.error is not None:
            yield Written(step.error)


def _topics(sections: list[Section]) -> Iterator[Topic]:
    """In the ledger's order, then what is no topic of the ledger (a reader's own notes)."""
    rows = tomllib.loads((ROOT / "theory" / "ledger.toml").read_text())
    covered = {key for s in sections if s.outcome.status == "proved" for key in s.outcome.covers}
    names = dict.fromkeys([*(key.split(".")[0] for key in rows), *(s.outcome.topic for s in sections)])
    for name in names:
        of = {key: str(row["statement"]) for key, row in rows.items() if key.split(".")[0] == name}
        inside = [s for s in sections if s.outcome.topic == name]
        if inside:
            yield Topic(name, inside, len(of), {key: told for key, told in of.items() if key not in covered})
