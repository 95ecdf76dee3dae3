"""What leaves the engine: `export(claim)` gives a proved claim's id, hash, hypotheses, steps and parts, ready to show.

Books, animations, docstring checks and `seminar show` use this and nothing else, so that no formula is typed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sympy import Expr

from theory.proof import session
from theory.proof.claims import CLAIMS, Claim, Line, find
from theory.proof.kernel import statement_hash
from theory.proof.rules import UpTo
from theory.proof.session import Outcome
from theory.proof.writing import write


@dataclass(frozen=True)
class Written:
    """One expression, in every style."""

    expression: Expr

    @property
    def latex(self) -> str:
        return write(self.expression, "latex")

    @property
    def typst(self) -> str:
        return write(self.expression, "typst")

    @property
    def text(self) -> str:
        return write(self.expression, "plain")

    def labelled(self, labels: Mapping[Expr, str]) -> str:
        """Typst with `{{ expr : label }}` around the subexpressions given."""
        return write(self.expression, "typst", labels)


@dataclass(frozen=True)
class Step(Written):
    """A line of the derivation: the rule in words ("" starts a chain), its relation to the line above, the line."""

    words: str
    relation: str
    cites: tuple[str, ...]
    details: tuple[tuple[str, Written], ...] = ()  # certificates, instances: what it is, and the expression
    error: Expr | None = None  # of `up_to`: leading h^n, the first term that the line leaves out
    beyond: str = ""  # and what comes after it, O(h^(n+1))


@dataclass(frozen=True)
class Exported:
    """A claim as it is shown."""

    id: str
    hash: str
    title: str
    week: int | None
    source: str
    status: str
    hypotheses: tuple[str, ...]
    assumes: tuple[str, ...]
    steps: tuple[Step, ...]
    parts: dict[str, Written]

    @property
    def formula(self) -> Written:
        """The last line."""
        return self.steps[-1]

    @property
    def latex(self) -> str:
        rows = []
        for step in self.steps:
            why = rf"&& \text{{{_escape(step.words)}}}" if step.words else ""
            rows.append(rf"{_relation(step.relation) if step.words else ''}& {step.latex} {why}")
        where = [rf"{name} := {part.latex}" for name, part in self.parts.items()]
        body = " \\\\\n".join(rows)
        note = "" if not where else "\n\\quad\\text{where } " + ",\\ ".join(where)
        return f"$$\\begin{{aligned}}\n{body}\n\\end{{aligned}}{note}$$"

    @property
    def typst(self) -> str:
        rows = []
        for step in self.steps:
            relation = {"=": "=", ">=": ">=", "<=": "<=", "->": "->"}.get(step.relation, "=")
            why = f' quad & "{step.words}"' if step.words else ""
            rows.append(f"{relation if step.words else ''} & {step.typst}{why}")
        return "$ " + " \\\n".join(rows) + " $"


def _escape(words: str) -> str:
    for a, b in (("_", r"\_"), ("^", r"\^{}"), ("~", r"$\sim$")):
        words = words.replace(a, b)
    return words


def _relation(relation: str) -> str:
    return {"=": "=", ">=": r"\ge", "<=": r"\le", "->": r"\to"}.get(relation, "=")


def export(claim: Claim | str, outcome: Outcome | None = None) -> Exported:
    """A claim with the status that verification gave it (without an outcome, a kept verdict is looked up)."""
    if isinstance(claim, str) and claim not in CLAIMS:
        for path in session.files():
            if claim in session.ids_in(path):
                session.load(path)
    found = find(claim)
    outcome = outcome or session.verify([Path(found.file)])[found.id]
    derivation = found.derivation()
    return Exported(
        id=found.id,
        hash=statement_hash(found),
        title=found.title,
        week=found.week,
        source=found.source,
        status=outcome.status,
        hypotheses=tuple(found.hypotheses),
        assumes=outcome.assumes,
        steps=tuple(_step(line) for line in derivation.lines),
        parts={label: Written(e) for label, e in found.parts.items()},
    )


def _step(line: Line) -> Step:
    rule = line.rule
    if rule is None:
        return Step(line.expression, "", "", ())
    cites, details = tuple(c.id for c in rule.cites), tuple((told, Written(e)) for told, e in rule.details)
    if isinstance(rule, UpTo):
        left_out, beyond = rule.leading * rule.h**rule.n, f"O({rule.h}^{rule.n + 1})"
        return Step(line.expression, rule.words, "=", cites, details, left_out, beyond)
    return Step(line.expression, rule.words, rule.relation, cites, details)
