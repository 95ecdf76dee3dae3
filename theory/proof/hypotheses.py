"""Whether what a claim supposes can hold: a theorem about nothing is true, and worthless.

A supposition f_v = R is an equation of motion: it is obeyed if a random state of f's kind can be moved by it. So

solved     R does not speak of f_v, nor of a derivative that another supposition makes of f_v
defined    R has a value at one random point at least
one law    f_v = R and f_w = S give f_vw one value, R_w = S_v (two suppositions on one f_v: R = S)
mass       of a density, moved by another argument than its first: int R dx = 0, as int f dx = 1 always
tails      of a density, in its first argument x: the score R/f, where f is not in it, takes f to less than half from
           x = L to 2 L and from -L to -2 L, L one of 10 .. 10^4 (far out that has to be so: f has an integral)
slope      of a monotone function, in its first argument: R has the sign that its kind has, at one point at least

Each is necessary: where no random world has it, `hypotheses cannot be met`. They are not sufficient: the motion is not
followed, and need not last. (V' = g^2 has no positive solution on the whole line either: it begins somewhere.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import sympy as sp
from sympy import Expr, Integral, S, Symbol
from sympy.core.function import AppliedUndef

from theory.proof import numeric, symbolic
from theory.proof.judges import PROVED, REFUTED, Checker, Obligation, Refused, Verdict
from theory.proof.numeric import NoConvergence, UndefinedHere
from theory.proof.vocabulary import Suppose, kind_of, natural

_FAR = 10 ** natural("k")
_SLOPES = {"increasing": 1, "monotone": 1, "decreasing": -1, "falling": -1}


@dataclass(frozen=True)
class Somewhere(Obligation):
    """At one random point at least the expression has a value, of the sign given (0: it vanishes; None: any)."""

    expression: Expr
    sign: int | None = None

    def numeric(self, checker: Checker) -> Verdict | None:
        at, found = "", ""
        allowed = checker.quadrature if numeric.is_quadrature(self.expression) else checker.exact
        for point in numeric.points([self.expression], 2 * checker.count, checker.seed, checker.antithetic):
            at = point.words()
            try:
                value, size = numeric.terms(self.expression, point.values, point.functions)
            except (UndefinedHere, NoConvergence) as error:
                found = found or str(error)
                continue
            zero = abs(value) <= allowed * size
            if self.sign is None or (zero if self.sign == 0 else value * self.sign > 0 and not zero):
                return Verdict(PROVED, "numeric", f"{self.why}: in one world")
            found = f"it is {sp.Float(value, 5)}"
        return Verdict(REFUTED, "numeric", f"{self.why}, and nowhere it was tried is it so ({found} at {at})")


def obligations(suppose: tuple[Suppose, ...]) -> Iterator[Obligation]:
    """What the suppositions of a claim owe, so that something obeys them all."""
    if circle := _circle(suppose):
        told = "; ".join(known.words() for known in circle)
        yield Refused(f"{told}: solve for the left, which comes back on the right")
        return  # put in for one another they would never end
    for known in suppose:
        yield from _alone(known, suppose)
    for one, other in combinations(suppose, 2):
        if one.left.expr.func == other.left.expr.func:
            yield _one_law(one, other, suppose)


def _circle(suppose: tuple[Suppose, ...]) -> list[Suppose]:
    """The suppositions that cannot be put in one after another: each speaks of a derivative that one explains."""
    left = list(suppose)
    while free := [known for known in left if not any(_explained_by(other, known.right) for other in left)]:
        left = [known for known in left if known not in free]
    return left


def _explained_by(known: Suppose, e: Expr) -> bool:
    """Whether e holds a derivative that the supposition speaks of."""
    f, _, _, at = _parts(known)
    found = symbolic.jets(e).atoms(AppliedUndef)
    return any(getattr(jet.func, "base", None) == f and jet.func.order[at] > 0 for jet in found)


def _parts(known: Suppose) -> tuple[Any, tuple[Symbol, ...], Symbol, int]:
    """(f, its arguments, v, the place of v among them) of f_v = R."""
    applied, v = known.left.expr, known.left.variable_count[0][0]
    return applied.func, applied.args, v, applied.args.index(v)


def _alone(known: Suppose, suppose: tuple[Suppose, ...]) -> Iterator[Obligation]:
    f, places, _, at = _parts(known)
    kind, right = kind_of(f), symbolic.jets(known.right, suppose)
    if kind.startswith("sequence"):
        yield Refused(f"{known.words()}: {f} is a sequence, which has no derivative")
    elif kind == "density" and at > 0:
        mass = Integral(right, (places[0], -sp.oo, sp.oo))
        yield Somewhere(f"{known.words()}: the integral over {places[0]} is 0, since that of the density is 1", mass, 0)
    elif kind == "density" and not (score := sp.cancel(right / known.left.expr)).has(f):
        for side in (1, -1):
            fall = Integral(score, (places[0], side * _FAR, 2 * side * _FAR)) + sp.log(2)
            yield Somewhere(
                f"{known.words()}: {f} falls towards {places[0]} = {side * sp.oo}, as densities do", fall, -1
            )
    else:
        sign = _SLOPES.get(kind) if at == 0 else None
        wanted = {None: "has a value", 1: "is positive", -1: "is negative"}[sign]
        yield Somewhere(f"{known.words()}: the right side {wanted}{f', as {f} is {kind}' if sign else ''}", right, sign)


def _one_law(one: Suppose, other: Suppose, suppose: tuple[Suppose, ...]) -> Obligation:
    """f_v = R and f_w = S: R_w = S_v, or R = S where v is w."""
    (_, places, v, at), (_, others, _, at_other) = _parts(one), _parts(other)
    right, left = one.right, other.right.xreplace(dict(zip(others, places, strict=True)))
    if at != at_other:
        right, left = right.diff(places[at_other]), left.diff(v)
    gap = symbolic.jets(right - left, suppose)
    gap = S.Zero if symbolic.is_zero(gap) else gap
    return Somewhere(f"{one.words()} and {other.words()} are one law: their difference is 0", gap, 0)
