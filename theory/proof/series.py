"""Taylor's theorem by truncated polynomials in h: what `up_to` is judged with.

A series is its lowest power v and coefficients c_0, c_1, ...: h^v (c_0 + c_1 h + ...), kept to n terms. Unspecified
functions contribute their jets, f(a + d) = sum over k of f^(k)(a) d^k / k!; an integral over [a, a + O(h)] is mapped to
[0, 1] and integrated term by term, exactly, because its integrand's coefficients are polynomials there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import factorial, prod
from typing import Any

import sympy as sp
from sympy import Add, Dummy, Expr, Integral, S, Symbol, exp, log
from sympy.core.function import AppliedUndef

from theory.proof.symbolic import is_zero, jet, jets
from theory.proof.vocabulary import Expect, Suppose


class NoSeries(ValueError):
    """The expression has no Laurent series in h at 0 that this module can form."""


@dataclass(frozen=True)
class Series:
    """h^low (c[0] + c[1] h + ...), known to len(c) terms."""

    low: int
    c: tuple[Expr, ...]

    def at(self, power: int) -> Expr:
        """The coefficient of h^power (0 below the lowest; an error beyond what is known)."""
        if power < self.low:
            return S.Zero
        if power - self.low >= len(self.c):
            raise NoSeries(f"the series is known up to h^{self.low + len(self.c) - 1}, h^{power} was asked for")
        return self.c[power - self.low]

    def trimmed(self) -> Series:
        """Without leading coefficients that vanish (needed before a division)."""
        c, low = list(self.c), self.low
        while c and is_zero(c[0]):
            c.pop(0)
            low += 1
        if not c:
            raise NoSeries("division by a series that vanishes to the order kept")
        return Series(low, tuple(c))


def _add(a: Series, b: Series) -> Series:
    low = min(a.low, b.low)
    top = min(a.low + len(a.c), b.low + len(b.c))
    return Series(low, tuple(a.at(k) + b.at(k) for k in range(low, top)))


def _mul(a: Series, b: Series) -> Series:
    n = min(len(a.c), len(b.c))
    return Series(a.low + b.low, tuple(Add(*(a.c[i] * b.c[k - i] for i in range(k + 1))) for k in range(n)))


@dataclass(frozen=True)
class _Expander:
    h: Symbol
    terms: int

    def constant(self, e: Expr) -> Series:
        return Series(0, (e, *[S.Zero] * (self.terms - 1)))

    def __call__(self, e: Expr) -> Series:
        if not e.has(self.h):
            return self.constant(e)
        if e == self.h:
            return Series(0, (S.Zero, S.One, *[S.Zero] * (self.terms - 2)))
        if e.is_Add or e.is_Mul:
            combine = _add if e.is_Add else _mul
            first, *others = (self(a) for a in e.args)
            for other in others:
                first = combine(first, other)
            return first
        if e.is_Pow and not isinstance(e, exp):
            return self._power(e.args[0], e.args[1])
        if isinstance(e, AppliedUndef):
            return self._compose(e.func, [self(a) for a in e.args])
        if isinstance(e, Integral):
            return self._integral(e)
        if isinstance(e, Expect):
            inner = self(e.args[0])
            return Series(inner.low, tuple(Expect(c, e.args[1]) for c in inner.c))  # type: ignore[arg-type]
        if isinstance(e, sp.Function) and len(e.args) == 1:
            return self._compose(e.func, [self(e.args[0])])
        raise NoSeries(f"no series in {self.h} for {type(e).__name__}: {e}")

    def _power(self, base: Expr, exponent: Expr) -> Series:
        if exponent.has(self.h):
            return self(exp(exponent * log(base)))
        s = self(base)
        if exponent.is_Integer and exponent > 0:
            out = self.constant(S.One)
            for _ in range(int(exponent)):
                out = _mul(out, s)
            return out
        s = s.trimmed()
        low = s.low * exponent
        if not low.is_Integer:
            raise NoSeries(f"({base})**({exponent}) has no series in whole powers of {self.h}")
        unit = self._compose(lambda u: u**exponent, [Series(0, s.c)])
        return Series(int(low), unit.c)

    def _compose(self, f: Any, arguments: list[Series]) -> Series:
        """f(a + d) by Taylor's theorem in every argument; d = O(h)."""
        if any(a.low < 0 and any(not is_zero(c) for c in a.c[: -a.low]) for a in arguments):
            raise NoSeries(f"an argument of {f} is unbounded as {self.h} -> 0")
        n = min(a.low + len(a.c) for a in arguments)
        at = [a.at(0) for a in arguments]
        steps = [Series(1, tuple(a.at(k) for k in range(1, n))) for a in arguments]
        powers = []
        for step in steps:
            row = [self.constant(S.One)]
            for _ in range(n - 1):
                row.append(_mul(row[-1], step) if step.c else Series(n, ()))
            powers.append(row)
        total = Series(0, (S.Zero,) * n)
        for order in product(range(n), repeat=len(arguments)):
            if sum(order) >= n:
                continue
            if any(k and all(c == 0 for c in step.c) for k, step in zip(order, steps, strict=True)):
                continue
            term = self.constant(_partial(f, at, order) / prod(factorial(k) for k in order))
            for row, k in zip(powers, order, strict=True):
                term = _mul(term, row[k])
            known = term.low + len(term.c)
            total = _add(total, Series(0, tuple(term.at(k) if k < known else S.Zero for k in range(n))))
        return total

    def _integral(self, e: Integral) -> Series:
        (u, a, b), *outer = e.limits
        if outer:
            raise NoSeries(f"{e} is an integral over more than one variable")
        if not (a.has(self.h) or b.has(self.h)):
            inner = self(e.function)
            return Series(inner.low, tuple(Integral(c, (u, a, b)) for c in inner.c))
        if not is_zero((b - a).subs(self.h, 0)):
            raise NoSeries(f"the interval of {e} moves with {self.h} and does not shrink to a point")
        w = Dummy("w", real=True)
        inner = self((b - a) * e.function.subs(u, a + w * (b - a)))
        return Series(inner.low, tuple(_over_unit_interval(c, w) for c in inner.c))


def _partial(f: Any, at: list[Expr], order: tuple[int, ...]) -> Expr:
    if isinstance(f, sp.core.function.UndefinedFunction):
        return jet(f, order)(*at)
    d = [Dummy(positive=True) for _ in at]
    value = f(*d)
    for v, k in zip(d, order, strict=True):
        value = value.diff(v, k) if k else value
    return value.xreplace(dict(zip(d, at, strict=True)))


def _over_unit_interval(e: Expr, w: Symbol) -> Expr:
    polynomial = sp.Poly(sp.expand(e), w)
    return Add(*(c / (k + 1) for (k,), c in polynomial.terms()))


def taylor(e: Expr, h: Symbol, n: int, suppose: tuple[Suppose, ...] = ()) -> list[Expr]:
    """Coefficients of h^0 ... h^n of e at h = 0; negative powers must vanish, or NoSeries is raised."""
    e = jets(e, suppose)
    for extra in (1, 3, 6):
        try:
            s = _Expander(h, n + 1 + extra)(e)
            bad = [k for k in range(s.low, 0) if not is_zero(s.at(k), suppose)]
            if bad:
                raise NoSeries(f"the expression grows like {h}**({bad[0]}) as {h} -> 0")
            return [jets(s.at(k), suppose) for k in range(n + 1)]
        except NoSeries as error:
            failure = error
    raise failure
