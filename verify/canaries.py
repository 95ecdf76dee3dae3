"""Canaries: false claims, each one edit away from a proved one, that the judges have to refuse.

A canary names a proved claim, what is changed in it, and where the lie comes from (a published erratum, a shipped bug,
a student's classic). `refused` puts it to a checker. The strict checker refuses every one; each weakened checker of
`theory.proof.WEAKENED` lets at least one through, which is how we know that each of its strictnesses does something.
The matrix canary x weakening is part of the report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sympy import Expr
from sympy.core.function import AppliedUndef

from theory.proof import WEAKENED, Checker, Claim, Derivation, Line, check, find, session
from theory.proof.claims import renamed
from theory.proof.rules import Inequality, Rule, UpTo
from theory.proof.vocabulary import DOMAINS, Var, function

Edit = Callable[[Claim, Derivation], tuple[Claim, Derivation]]


@dataclass(frozen=True)
class Canary:
    """A lie: the claim it is near to, the one edit that makes it, what it says, and who has said it."""

    name: str
    claim: str
    edit: Edit
    lie: str
    source: str

    @property
    def true_claim(self) -> Claim:
        """The proved claim that it is near to."""
        for path in session.files():
            if self.claim in session.ids_in(path):
                session.load(path)
        return find(self.claim)

    def false_claim(self) -> Claim:
        """What the canary says."""
        true = self.true_claim
        claim, derivation = self.edit(true, true.derivation())
        if claim is true and derivation == true.derivation():
            raise ValueError(f"canary {self.name}: its edit changes nothing in {self.claim}")
        return renamed(claim, derivation)


# ---------------------------------------------------------------------------------------------------- edits


def in_line(number: int, old: Expr, new: Expr) -> Edit:
    """In line `number` (from 1), `old` becomes `new`, wherever it stands."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        line = d.lines[number - 1]
        changed = line.expression.xreplace({old: new})
        return claim, _with_line(d, number, Line(line.rule, changed))

    return edit


def line_is(number: int, expression: Any) -> Edit:
    """Line `number` (from 1) becomes the expression, or what a function makes of the old one."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        line = d.lines[number - 1]
        new = expression(line.expression) if callable(expression) else expression
        return claim, _with_line(d, number, Line(line.rule, new))

    return edit


def rule_is(number: int, rule: Rule) -> Edit:
    """Line `number` (from 1) is justified by another rule, or by the same with another certificate."""
    return lambda claim, d: (claim, _with_line(d, number, Line(rule, d.lines[number - 1].expression)))


def certificate_is(number: int, change: Callable[[Expr], Expr]) -> Edit:
    """The certificate of line `number` (a boundary term, a witness, a leading term, what a citation puts in)."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        line = d.lines[number - 1]
        assert line.rule is not None
        rule = line.rule.with_expressions(tuple(change(e) for e in line.rule.expressions()))
        return claim, _with_line(d, number, Line(rule, line.expression))

    return edit


def raised(number: int) -> Edit:
    """The `up_to` of line `number` claims one order more, with the leading term it has."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        line = d.lines[number - 1]
        assert isinstance(line.rule, UpTo)
        return claim, _with_line(d, number, Line(replace(line.rule, n=line.rule.n + 1), line.expression))

    return edit


def exchanged(first: int, second: int) -> Edit:
    """The expressions of two lines change places; their rules stay."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        one, other = d.lines[first - 1], d.lines[second - 1]
        d = _with_line(d, first, Line(one.rule, other.expression))
        return claim, _with_line(d, second, Line(other.rule, one.expression))

    return edit


def turned(number: int) -> Edit:
    """The inequality of line `number` (its witness an expression) is turned round."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        line = d.lines[number - 1]
        assert isinstance(line.rule, Inequality)
        rule = replace(line.rule, witness=-line.rule.witness, up=not line.rule.up)
        return claim, _with_line(d, number, Line(rule, line.expression))

    return edit


def part_is(label: str, change: Callable[[Expr], Expr]) -> Edit:
    """The part `label` is defined otherwise."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        lets = tuple((s, change(e) if s.name == label else e) for s, e in d.lets)
        return claim, replace(d, lets=lets)

    return edit


def wider(symbol: str, domain: str) -> Edit:
    """The hypothesis on a symbol is weakened: it ranges over a larger domain."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        old = {s for s in d.symbols() if isinstance(s, Var) and s.name == symbol}
        return claim, _mapped(d, lambda e: e.xreplace({s: Var(symbol, DOMAINS[domain]) for s in old}))

    return edit


def throughout(old: Expr, new: Expr) -> Edit:
    """A symbol stands for something else, in every line, part and certificate."""
    return lambda claim, d: (claim, _mapped(d, lambda e: e.subs(old, new)))


def looser(name: str, kind: str) -> Edit:
    """The hypothesis on a function is weakened: a density that need not decay, a schedule that need not be monotone."""

    def edit(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
        new = function(name, kind)

        def change(e: Expr) -> Expr:
            return e.replace(lambda n: isinstance(n, AppliedUndef) and n.func.__name__ == name, lambda n: new(*n.args))

        return claim, _mapped(d, change)

    return edit


def unsupposed(claim: Claim, d: Derivation) -> tuple[Claim, Derivation]:
    """The evolution equations that the claim supposes are dropped."""
    return replace(claim, suppose=()), d


def named(e: Expr, name: str) -> Expr:
    """The symbol of that name in the expression."""
    (symbol,) = {s for s in e.free_symbols if s.name == name}
    return symbol


def _with_line(d: Derivation, number: int, line: Line) -> Derivation:
    return replace(d, lines=(*d.lines[: number - 1], line, *d.lines[number:]))


def _mapped(d: Derivation, change: Callable[[Expr], Expr]) -> Derivation:
    lines = []
    for line in d.lines:
        rule = line.rule and line.rule.with_expressions(tuple(change(e) for e in line.rule.expressions()))
        lines.append(Line(rule, change(line.expression)))
    return Derivation(tuple(lines), tuple((s, change(e)) for s, e in d.lets))


# --------------------------------------------------------------------------------------------------- judging


def refused(canary: Canary, checker: Checker | None = None) -> bool:
    """Whether a checker (default: the strict one) does not accept the false claim."""
    return check(canary.false_claim(), checker or Checker()).status != "proved"


def matrix(canaries: Mapping[str, Canary]) -> dict[str, dict[str, bool]]:
    """canary -> {"strict" or the weakening's name -> refused?}."""
    checkers = {"strict": Checker(), **WEAKENED}
    return {name: {c: refused(canary, checker) for c, checker in checkers.items()} for name, canary in canaries.items()}
