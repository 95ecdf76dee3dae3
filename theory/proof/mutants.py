"""Trust is measured: break every line of every claim, and see a judge refute it.

A mutant is one small change of one expression: in a line, in a named part, or in what a rule carries (a certificate, a
leading term, a witness, the instance of a citation). Every operator is tried at every node.

killed      a judge refutes a step that the change touches
equivalent  the changed expression equals the old one, shown by both judges, or differs from it by a higher order than
            the claim speaks of, or is a positive number times one that is claimed to be >= 0
undecided   no judge refutes it and nothing shows it equivalent: time-outs and errors are counted here too
survived    the changed claim passes all judges and is not shown equivalent: a hole in the check
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp
from sympy import Derivative, Expr, Integral, Pow, Symbol
from sympy.core.function import AppliedUndef

from theory.proof.claims import Claim, Derivation, Line, renamed
from theory.proof.judges import PROVED, REFUTED, Agree, Checker, Equal, Verdict
from theory.proof.rules import Assume, Rule, TendsTo, UpTo
from theory.proof.series import NoSeries, taylor
from theory.proof.symbolic import is_zero
from theory.proof.vocabulary import DOMAINS, KINDS, Expect, Recursion, Var, function, kind_of

QUICK = Checker(count=2, budget=5.0)
FULL = Checker(count=8, seed=1, budget=10.0)  # other points than those the mutant was judged at

# ------------------------------------------------------------------------------------------------- operators


def _partner(symbol: Symbol, others: list[Symbol]) -> Symbol | None:
    """The symbol most easily mistaken for this one: index s for t, else the next of the same domain."""
    for a, b in (("_s", "_t"), ("_t", "_s")):
        if symbol.name.endswith(a):
            twin = next((o for o in others if o.name == symbol.name[:-2] + b), None)
            if twin is not None:
                return twin
    same = [o for o in others if o != symbol and getattr(o, "domain", 0) == getattr(symbol, "domain", 1)]
    later = [o for o in same if o.name > symbol.name]
    return (later or same or [None])[0]  # type: ignore[list-item]


def _at_node(e: Expr, symbols: list[Symbol]) -> Iterator[tuple[str, Expr]]:
    yield "sign", -e
    yield "coefficient", 2 * e
    if e.is_Symbol:
        yield "exponent", e**2
        twin = _partner(e, symbols)  # type: ignore[arg-type]
        if twin is not None:
            yield f"{e} for {twin}", twin
    if e.is_Rational and e not in (0, 1, -1):
        yield "number", e + 1
    if isinstance(e, Pow) and not isinstance(e, sp.exp):
        yield "exponent", e.args[0] ** (e.args[1] + 1)
        yield "exponent dropped", e.args[0]
    if e.is_Add or e.is_Mul:
        for i in range(len(e.args)):
            yield "dropped", e.func(*e.args[:i], *e.args[i + 1 :])
    if isinstance(e, AppliedUndef) and len(e.args) == 2:
        yield "arguments swapped", e.func(e.args[1], e.args[0])


def _children(e: Expr) -> Iterator[tuple[Any, Any]]:
    """(child, how to put another one in its place); bound variables and differentiation variables stay."""
    if isinstance(e, Integral):
        yield e.function, lambda new: Integral(new, *e.limits)
        (x, a, b), *outer = e.limits
        if a.is_finite and not a.is_number:
            yield a, lambda new: Integral(e.function, (x, new, b), *outer)
        if b.is_finite and not b.is_number:
            yield b, lambda new: Integral(e.function, (x, a, new), *outer)
    elif isinstance(e, Derivative):
        yield e.expr, lambda new: Derivative(new, *e.variable_count)
    elif isinstance(e, Expect):
        yield e.args[0], lambda new: Expect(new, e.args[1])  # type: ignore[arg-type]
    elif isinstance(e, Recursion):
        step, y, k, start, n = e.args
        yield step, lambda new: Recursion(new, y, k, start, n)  # type: ignore[arg-type]
        yield start, lambda new: Recursion(step, y, k, new, n)  # type: ignore[arg-type]
    elif isinstance(e, sp.Sum | sp.Product):
        yield e.function, lambda new: e.func(new, *e.limits)
    elif isinstance(e, sp.Subs):
        return
    else:
        for i, a in enumerate(e.args):
            yield a, lambda new, i=i: e.func(*e.args[:i], new, *e.args[i + 1 :])


def mutations(e: Expr, symbols: list[Symbol]) -> dict[Expr, str]:
    """Every one-node change of an expression, by the changed tree (so that each tree is tried once)."""
    found: dict[Expr, str] = {}

    def visit(node: Expr, rebuild: Any) -> None:
        for name, new in _at_node(node, symbols):
            try:
                whole = rebuild(new)
            except (TypeError, ValueError, ZeroDivisionError, AttributeError):
                continue
            if whole != e:
                found.setdefault(whole, f"{name}: {node} -> {new}")
        for child, put in _children(node):
            if isinstance(child, Expr):
                visit(child, lambda new, put=put: rebuild(put(new)))

    visit(e, lambda new: new)
    return found


# ------------------------------------------------------------------------------------------------- one claim


@dataclass
class Tally:
    """What became of the mutants of one layer."""

    killed: int = 0
    equivalent: int = 0
    undecided: int = 0
    survived: int = 0
    survivors: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)

    def add(self, fate: str, told: str) -> None:
        setattr(self, fate, getattr(self, fate) + 1)
        if fate == "survived":
            self.survivors.append(told)
        if fate == "undecided":
            self.unclear.append(told)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.killed + other.killed,
            self.equivalent + other.equivalent,
            self.undecided + other.undecided,
            self.survived + other.survived,
            self.survivors + other.survivors,
            self.unclear + other.unclear,
        )

    @property
    def total(self) -> int:
        return self.killed + self.equivalent + self.undecided + self.survived

    def counts(self) -> dict[str, int]:
        return {k: getattr(self, k) for k in ("killed", "equivalent", "undecided", "survived")}


def _changed(d: Derivation) -> Iterator[tuple[str, str, Derivation, Expr, Expr]]:
    """(layer, what, changed derivation, old expression, new expression) for every mutant of a derivation."""
    symbols = sorted((s for s in d.symbols() | {s for s, _ in d.lets} if isinstance(s, Var)), key=str)
    for i, line in enumerate(d.lines):
        for new, told in mutations(line.expression, symbols).items():
            lines = (*d.lines[:i], Line(line.rule, new), *d.lines[i + 1 :])
            yield "expressions", f"line {i + 1}: {told}", replace(d, lines=lines), line.expression, new
    for i, (symbol, e) in enumerate(d.lets):
        unnamed = {s for s, _ in d.lets[i:]}  # a part made of itself, or of a later one, is no definition
        for new, told in mutations(e, [s for s in symbols if s not in unnamed]).items():
            lets = (*d.lets[:i], (symbol, new), *d.lets[i + 1 :])
            yield "expressions", f"part {symbol}: {told}", replace(d, lets=lets), e, new
    for i, line in enumerate(d.lines):
        carried = line.rule.expressions() if line.rule else ()
        for j, e in enumerate(carried):
            for new, told in mutations(e, symbols).items():
                assert line.rule is not None
                rule = line.rule.with_expressions((*carried[:j], new, *carried[j + 1 :]))
                lines = (*d.lines[:i], Line(rule, line.expression), *d.lines[i + 1 :])
                yield "certificates", f"line {i + 1}, the rule's: {told}", replace(d, lines=lines), e, new


Steps = list[tuple[Rule, Expr, Expr]]


def changed_steps(old: Derivation, new: Derivation) -> Steps | None:
    """The steps of `new` that differ from those of `old`; None when there are more or fewer of them."""
    before = [(rule.key, above, line) for _, rule, above, line in old.steps()]
    steps = [(rule, above, line) for _, rule, above, line in new.steps()]
    if len(before) != len(steps):
        return None
    return [s for s, b in zip(steps, before, strict=True) if (s[0].key, s[1], s[2]) != b]


def refuted(claim: Claim, steps: Steps) -> bool:
    """Whether a judge refutes one of the steps."""
    return any(v.status == REFUTED for rule, above, line in steps for v in _verdicts(claim, rule, above, line, QUICK))


def _verdicts(claim: Claim, rule: Rule, above: Expr, line: Expr, checker: Checker) -> list[Verdict]:
    if rule.relation == "=" and not isinstance(rule, Assume) and not claim.suppose:
        first = Agree("the line equals the one above", above, line).judge(replace(checker, symbolic=False))
        if any(v.status == REFUTED for v in first):
            return first
    verdicts: list[Verdict] = []
    for obligation in rule.obligations(above, line, claim.suppose):
        verdicts += obligation.judge(checker)
        if any(v.status == REFUTED for v in verdicts):
            break
    return verdicts


def fate(claim: Claim, changed: Derivation, old: Expr, new: Expr) -> str:
    """What becomes of one mutant of a proved claim."""
    steps = changed_steps(claim.derivation(), changed)
    if not steps:
        return "equivalent"
    statuses: list[str] = []
    for rule, above, line in steps:
        statuses += [v.status for v in _verdicts(claim, rule, above, line, QUICK)]
        if REFUTED in statuses:
            return "killed"
    d = claim.derivation()
    old, new = d.expand(old), changed.expand(new)
    if _equivalent(claim, steps, old, new) or _of_one_sign(claim, changed):
        return "equivalent"
    return "survived" if all(s == PROVED for s in statuses) else "undecided"


def _equivalent(claim: Claim, steps: Steps, old: Expr, new: Expr) -> bool:
    densities = frozenset(f.func for e in (old, new) for f in e.atoms(AppliedUndef) if kind_of(f.func) == "density")
    for variant in (new, *_reflected(new)):
        same = Equal("the changed expression equals the old one", old, variant, claim.suppose, normalised=densities)
        if _proved(same.judge(FULL)):
            return True
    if any(
        _proved([v for o in rule.obligations(old, new, claim.suppose) for v in o.judge(FULL)])
        for rule, _, _ in steps
        if rule.relation == "="
    ):
        return True  # an equal law: E f(u) and E f(-u), one more step by the same rule
    orders = [(rule.h, rule.n) for rule, _, _ in steps if isinstance(rule, UpTo)]
    orders += [(rule.h, 0) for rule, _, _ in steps if isinstance(rule, TendsTo)]
    if not orders or len(orders) != len(steps):
        return False
    try:
        return all(is_zero(c, claim.suppose) for h, n in orders for c in taylor(old - new, h, n, claim.suppose))
    except NoSeries:
        return False


def _of_one_sign(claim: Claim, changed: Derivation) -> bool:
    """Whether each changed step says a >= 0 (or a <= 0) of c a, c a positive number, and so what it said of a."""
    for (_, old, a, b), (_, new, c, d) in zip(claim.derivation().steps(), changed.steps(), strict=True):
        if (old.key, a, b) == (new.key, c, d):
            continue
        against_0 = old.key == new.key and old.relation in (">=", "<=") and (a == c == 0 or b == d == 0)
        if not (against_0 and _proportional(a + b, c + d)):
            return False
    return True


def _proportional(old: Expr, new: Expr) -> bool:
    """Whether new = c old, c a positive number."""
    c = sp.cancel(new / old)
    return bool(c.is_Rational and c.is_positive and is_zero(new - c * old))


def _reflected(e: Expr) -> Iterator[Expr]:
    """The same values again: one integral over the line (or expectation) at a time, with x for -x."""
    for node in e.atoms(Integral, Expect):
        if isinstance(node, Expect):
            f, u = node.args
            yield e.xreplace({node: Expect(f.subs(u, -u), u)})  # type: ignore[arg-type]
        elif node.limits[0][1:] == (-sp.oo, sp.oo):
            x = node.limits[0][0]
            yield e.xreplace({node: Integral(node.function.subs(x, -x), *node.limits)})


def _proved(verdicts: list[Verdict]) -> bool:
    return bool(verdicts) and all(v.status == PROVED for v in verdicts)


def mutate(claim: Claim) -> dict[str, Tally]:
    """All mutants of one proved claim, by layer."""
    tallies = {"expressions": Tally(), "certificates": Tally()}
    for layer, told, changed, old, new in _changed(claim.derivation()):
        try:
            result = fate(claim, changed, old, new)
        except (ArithmeticError, ValueError, TypeError, AttributeError, RecursionError, NotImplementedError) as error:
            result, told = "undecided", f"{told} ({type(error).__name__}: {error})"
        tallies[layer].add(result, f"{claim.id}, {told}")
    return tallies


# ------------------------------------------------------------------------------------------------ hypotheses


def weakened(claim: Claim) -> Iterator[tuple[str, Claim]]:
    """(hypothesis in words, the claim without it) for every domain, kind and evolution equation of a claim."""
    d = claim.derivation()
    symbols = sorted(d.symbols() - {s for s, _ in d.lets}, key=str)
    for s in symbols:
        if isinstance(s, Var) and s.domain.weaker:
            loose = Var(s.name, DOMAINS[s.domain.weaker])
            yield s.domain.words.format(s.name), _rewritten(claim, lambda e, s=s, loose=loose: e.xreplace({s: loose}))
        elif not isinstance(s, Symbol) and KINDS[kind_of(s)].weaker:
            loose = function(s.__name__, KINDS[kind_of(s)].weaker or "smooth")

            def swap(e: Expr, s: Any = s, loose: Any = loose) -> Expr:
                return e.replace(lambda n: isinstance(n, AppliedUndef) and n.func == s, lambda n: loose(*n.args))

            yield KINDS[kind_of(s)].words.format(s.__name__), _rewritten(claim, swap)
    for known in claim.suppose:
        rest = tuple(k for k in claim.suppose if k != known)
        yield known.words(), replace(claim, suppose=rest, _memo={"derivation": d})


def _rewritten(claim: Claim, change: Any) -> Claim:
    d = claim.derivation()
    lines = tuple(
        Line(
            line.rule and line.rule.with_expressions(tuple(change(e) for e in line.rule.expressions())),
            change(line.expression),
        )
        for line in d.lines
    )
    return renamed(claim, Derivation(lines, tuple((s, change(e)) for s, e in d.lets)))


def untested(claim: Claim) -> list[str]:
    """Hypotheses without which every judge still accepts the claim: stated, and not shown to be needed."""
    from theory.proof.kernel import check

    idle = []
    for words, loose in weakened(claim):
        try:
            status = check(loose, replace(FULL, seed=0, count=6)).status
        except (ArithmeticError, ValueError, TypeError, AttributeError):
            status = "error"
        if status == PROVED:
            idle.append(words)
    return idle
