"""What leaves the engine: `export(claim)` gives a proved claim's id, hash, hypotheses, steps and parts, ready to show.

Books, animations, docstring checks and `seminar show` use this and nothing else, so that no formula is typed twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from sympy import Expr, Symbol

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
    next_order: Expr | None = None  # the h^(n+1) of it

    def shown(self, style: str) -> str:
        """The line with what it leaves out: without that, an approximation would read as an equality."""
        return write(self.expression, style) + self.left_out(style)

    def left_out(self, style: str) -> str:
        """ " + leading h^n + O(h^(n+1))" of `up_to`; "" of every other rule."""
        if self.error is None or self.next_order is None:
            return ""
        minus = self.error.could_extract_minus_sign() and not self.error.is_Add
        first = f" - {write(-self.error, style)}" if minus else f" + {write(self.error, style)}"
        return f"{first} + O({write(self.next_order, style)})"


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
    message: str = ""  # why it is not proved

    @property
    def formula(self) -> Written:
        """The last line."""
        return self.steps[-1]

    @property
    def latex(self) -> str:
        """The derivation, line by line with its reasons, as LaTeX that MathJax reads too."""
        rows = [] if self.status == "proved" else [rf"& \textbf{{{_words(f'{self.id}: {self.status}')}}}"]
        for step in self.steps:
            relation = _relation(step.relation) if step.words else ""
            why = rf" && \text{{{_words(step.words)}}}" if step.words else ""
            rows.append(f"{relation}& {step.shown('latex')}{why}")
        rows += [rf"& \text{{where }} {write(Symbol(n), 'latex')} := {e.latex}" for n, e in self.parts.items()]
        return "$$\\begin{aligned}\n" + " \\\\\n".join(rows) + "\n\\end{aligned}$$"

    @property
    def typst(self) -> str:
        rows = []
        for step in self.steps:
            relation = {"=": "=", ">=": ">=", "<=": "<=", "->": "->"}.get(step.relation, "=")
            why = f' quad & "{step.words}"' if step.words else ""
            rows.append(f"{relation if step.words else ''} & {step.shown('typst')}{why}")
        return "$ " + " \\\n".join(rows) + " $"

    @property
    def html(self) -> str:
        r"""The claim as a notebook shows it: statement, hypotheses, lines with their reasons; \( \) is MathJax's."""
        colour = "green" if self.status == "proved" else "#b3320b"
        status = f'<b style="color: {colour}">{self.status}</b>'
        told = [f"<p><code>{escape(self.id)}</code> {status}<br>{escape(self.title)}</p>"]
        told += [f"<p>Let {escape('; '.join(self.hypotheses))}.</p>"] if self.hypotheses else []
        told += [f"<p>Rests on {escape(name)}.</p>" for name in self.assumes]
        told += [f"<pre>{escape(self.message)}</pre>"] if self.message else []
        told += [f"<p>{_mathjax(statement)}</p>" for statement in self._long_statements()]
        told += ["<table>", *(row for step in self.steps for row in _html_rows(step)), "</table>"] if self.steps else []
        named = {write(Symbol(name), "latex"): part.latex for name, part in self.parts.items()}
        told += [f"<p>where {_mathjax(f'{name} := {part}')}</p>" for name, part in named.items()]
        return "\n".join(('<div class="claim">', *told, "</div>"))

    def _long_statements(self) -> list[str]:
        """What each chain of more than two lines proves, in LaTeX; a shorter one says it itself."""
        starts = [i for i, step in enumerate(self.steps) if not step.words]
        chains = [self.steps[i:j] for i, j in pairwise([*starts, len(self.steps)])]
        said = []
        for first, *rest in (chain for chain in chains if len(chain) > 2):
            relation = next((step.relation for step in rest if step.relation != "="), "=")
            left_out = "".join(step.left_out("latex") for step in rest)
            said.append(f"{first.latex} {_relation(relation)} {rest[-1].latex}{left_out}")
        return said


def _html_rows(step: Step) -> list[str]:
    """A line and its reason; below it what the reason carries."""
    cells = [(_mathjax(_relation(step.relation)) if step.words else "", step.shown("latex"), step.words)]
    cells += [("", one.latex, told) for told, one in step.details]
    left = '<td style="text-align: left">'
    return [f"<tr><td>{a}</td>{left}{_mathjax(line)}</td>{left}{escape(why)}</td></tr>" for a, line, why in cells]


def _mathjax(latex: str) -> str:
    return rf"\(\displaystyle {escape(latex)}\)"


_IN_TEXT = {
    **{c: rf"}}\{c}\text{{" for c in "_%#&{}$"},
    "^": r"}\hat{\ }\text{",
    "~": r"}\sim\text{",
    "<": r"}<\text{",
    ">": r"}>\text{",
    "\\": r"}\backslash\text{",
}


def _words(words: str) -> str:
    r"""Words for \text{}: MathJax reads no escapes there, TeX wants them, and both read them outside."""
    return "".join(_IN_TEXT.get(c, c) for c in words)


def _relation(relation: str) -> str:
    return {"=": "=", ">=": r"\ge", "<=": r"\le", "->": r"\to"}.get(relation, "=")


def export(claim: Claim | str, outcome: Outcome | None = None) -> Exported:
    """A claim with the status that verification gave it (without an outcome, a kept verdict is looked up)."""
    if isinstance(claim, str) and claim not in CLAIMS:
        for path in session.files():
            if claim in session.ids_in(path):
                session.load(path)
    found = find(claim)
    outcome = outcome or session.outcome(found)
    readable = outcome.status != "error"
    return Exported(
        id=found.id,
        hash=statement_hash(found) if readable else "",
        title=found.title,
        week=found.week,
        source=found.source,
        status=outcome.status,
        hypotheses=tuple(found.hypotheses) if readable else (),
        assumes=outcome.assumes,
        steps=tuple(_step(line) for line in found.derivation().lines) if readable else (),
        parts={label: Written(e) for label, e in found.parts.items()} if readable else {},
        message=outcome.message,
    )


def _step(line: Line) -> Step:
    rule = line.rule
    if rule is None:
        return Step(line.expression, "", "", ())
    cites, details = tuple(c.id for c in rule.cites), tuple((told, Written(e)) for told, e in rule.details)
    if isinstance(rule, UpTo):
        left_out, beyond = rule.leading * rule.h**rule.n, rule.h ** (rule.n + 1)
        return Step(line.expression, rule.words, "=", cites, details, left_out, f"O({rule.h}^{rule.n + 1})", beyond)
    return Step(line.expression, rule.words, rule.relation, cites, details)
