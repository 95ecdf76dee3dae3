"""What a step owes: obligations, each put to the judges that its kind calls for.

| obligation      | symbolic judge                        | numeric judge                                       |
| --------------- | ------------------------------------- | --------------------------------------------------- |
| Equal           | the difference is zero                | equal at antithetic random points, 50 digits        |
| Agree           | -                                     | as Equal (the whole line, quadrature included)      |
| Order           | Taylor coefficients in h              | (difference - leading h^n) / h^n -> 0 as h -> 0     |
| Limit           | Taylor coefficient 0                  | difference -> 0 as h -> 0                           |
| Vanishes        | - (no twin: decay is a limit)         | the boundary term at +-10, 20, 40, far out          |
| Nonnegative     | read off the form (no twin)           | - (its line is put to AtLeast as well)              |
| AtLeast         | -                                     | left >= right at random points                      |
| Nonzero         | read off the form, or else:           | one sign over the whole sample, and not 0 at edges  |
| Within          | sign assumptions, or else:            | in the domain over the whole sample, and at edges   |

A verdict is proved, refuted (with the point that shows it) or undecided; undecided is a failure. `Checker` says how
strict the judges are; only the strict one makes theorems. The others exist to show that each strictness is needed.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from mpmath import mp, mpf
from sympy import Expr, S, Symbol, nan, oo, zoo

from theory.proof import numeric, symbolic
from theory.proof.numeric import NoConvergence, Point, UndefinedHere, Unsupported
from theory.proof.series import NoSeries, taylor
from theory.proof.vocabulary import Domain, Suppose

PROVED, REFUTED, UNDECIDED, ERROR, TIMEOUT = "proved", "refuted", "undecided", "error", "timeout"


@dataclass(frozen=True)
class Verdict:
    """What a judge says, and why: the sentence that a student reads."""

    status: str
    judge: str
    message: str = ""
    point: str = ""
    left: str = ""
    right: str = ""


@dataclass(frozen=True)
class Checker:
    """How strict the judges are. Every field's default is the strict one; `WEAKENED` lists one loosening of each."""

    symbolic: bool = True
    numeric: bool = True
    antithetic: bool = True
    exact: Any = field(default_factory=lambda: numeric.EXACT)
    quadrature: Any = field(default_factory=lambda: numeric.QUADRATURE)
    sharp: bool = True  # the leading term of up_to must not vanish, and must be the right one
    boundary: bool = True  # the boundary term of parts must vanish
    manifest: bool = True  # a witness must be nonnegative
    division: bool = True  # what is divided by must not vanish
    instances: bool = True  # what a citation puts in for a symbol must lie in its domain
    base_case: bool = True  # an induction must start
    count: int = 6
    seed: int = 0
    budget: float = 20.0  # seconds for one obligation

    @property
    def strict(self) -> bool:
        return replace(self, seed=0, count=6, budget=20.0) == Checker()


WEAKENED: dict[str, Checker] = {
    "no symbolic judge": Checker(symbolic=False),
    "no numeric judge": Checker(numeric=False),
    "no antithetic points, no symbolic judge": Checker(antithetic=False, symbolic=False),
    "tolerance 0.03, no symbolic judge": Checker(exact=mpf("0.03"), quadrature=mpf("0.03"), symbolic=False),
    "leading term not checked": Checker(sharp=False),
    "boundary term not checked": Checker(boundary=False, numeric=False),
    "witness sign not checked": Checker(manifest=False),
    "division by zero not checked": Checker(division=False),
    "instances not checked": Checker(instances=False),
    "induction without a start": Checker(base_case=False, numeric=False),
}


class OutOfTime(Exception):
    """An obligation used up its budget."""


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Interrupt the block after so many seconds (only the main thread of a process can be interrupted)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise OutOfTime

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


# ------------------------------------------------------------------------------------------------ obligations


@dataclass(frozen=True)
class Obligation:
    """Something that must hold for a step to stand; `why` says it in the words of the error message."""

    why: str

    def symbolic(self, checker: Checker) -> Verdict | None:
        return None

    def numeric(self, checker: Checker) -> Verdict | None:
        return None

    def judge(self, checker: Checker) -> list[Verdict]:
        """Both judges' verdicts, the cheap one that can refute first; a refutation ends it."""
        verdicts: list[Verdict] = []
        for wanted, judge in ((checker.numeric, self.numeric), (checker.symbolic, self.symbolic)):
            if wanted and not any(v.status == REFUTED for v in verdicts):
                verdict = self._call(judge, checker)
                if verdict is not None:
                    verdicts.append(verdict)
        return verdicts

    def _call(self, judge: Callable[[Checker], Verdict | None], checker: Checker) -> Verdict | None:
        name = judge.__name__
        try:
            with budget(checker.budget):
                return judge(checker)
        except OutOfTime:
            return Verdict(TIMEOUT, name, f"{self.why}: no answer within {checker.budget:g} s")
        except UndefinedHere as error:
            return Verdict(REFUTED, name, f"{self.why}: an expression has no value in its domain: {error}")
        except (NoSeries, Unsupported, NoConvergence) as error:
            return Verdict(UNDECIDED, name, f"{self.why}: {error}")
        except RecursionError:
            return Verdict(ERROR, name, f"{self.why}: the expression is nested too deeply")
        except (ArithmeticError, ValueError, TypeError, AttributeError, NotImplementedError, KeyError) as error:
            return Verdict(ERROR, name, f"{self.why}: {type(error).__name__}: {error}")


def _ill_formed(*sides: Expr) -> bool:
    return any(e.has(nan, zoo, oo, -oo) and not _only_in_limits(e) for e in sides)


def _only_in_limits(e: Expr) -> bool:
    from sympy import Integral, preorder_traversal

    limits = {node for i in e.atoms(Integral) for lim in i.limits for node in lim[1:]}
    bad = {n for n in preorder_traversal(e) if n in (nan, zoo, oo, -oo)}
    return bad <= limits and not (bad & {nan, zoo})


def _value(e: Expr, point: Point) -> tuple[Any, str]:
    value, _, problem = _sized(e, point)
    return value, problem


def _sized(e: Expr, point: Point) -> tuple[Any, Any, str]:
    """(value, sum of |term|, ""), or (None, 0, why there is no value here)."""
    try:
        return *_remembered(e, _At(point.key, point)), ""
    except (UndefinedHere, NoConvergence) as error:
        return None, 0, str(error)


@dataclass(frozen=True)
class _At:
    """A point for the memo below: equal when the keys are."""

    key: str
    point: Point = field(compare=False)


@lru_cache(maxsize=512)
def _remembered(e: Expr, at: _At) -> tuple[Any, Any]:
    return numeric.terms(e, at.point.values, at.point.functions)


def _shown(value: Any, problem: str) -> str:
    return f"no value ({problem})" if value is None else str(mp.nstr(value, 12))


@dataclass(frozen=True)
class Agree(Obligation):
    """left = right at random points: the numeric judge alone.

    What holds of all functions holds of those that obey the suppositions. Else these are put in; the random functions
    still do not obey them, so what relies on that in two ways at once (X(1) - X(0) for the integral of X') is refuted.
    """

    left: Expr
    right: Expr
    suppose: tuple[Suppose, ...] = ()
    optional: bool = False  # a line that cannot be evaluated is let pass (a named theorem carries it)

    def numeric(self, checker: Checker) -> Verdict | None:
        left, right = self.left, self.right
        if _ill_formed(left, right):
            return Verdict(REFUTED, "numeric", f"{self.why}: an expression is undefined", "", str(left), str(right))
        unsupposed = self._at_points(left, right, checker)
        if not self.suppose or (unsupposed is not None and unsupposed.status == PROVED):
            return unsupposed
        return self._at_points(symbolic.jets(left, self.suppose), symbolic.jets(right, self.suppose), checker)

    def _at_points(self, left: Expr, right: Expr, checker: Checker) -> Verdict | None:
        by_quadrature = numeric.is_quadrature(left, right)
        tolerance = checker.quadrature if by_quadrature else checker.exact
        count = max(2, checker.count // 3) if by_quadrature else checker.count
        agreed = 0
        for point in numeric.points([left, right], count, checker.seed, checker.antithetic):
            try:
                (a, size_a, no_a), (b, size_b, no_b) = _sized(left, point), _sized(right, point)
            except Unsupported as error:
                return None if self.optional else Verdict(UNDECIDED, "numeric", f"{self.why}: {error}")
            if a is None and b is None:
                continue
            if a is not None and b is not None and abs(a - b) <= tolerance * (size_a + size_b):
                agreed += 1
                continue
            return Verdict(REFUTED, "numeric", self.why, point.words(), _shown(a, no_a), _shown(b, no_b))
        if not agreed:
            return Verdict(UNDECIDED, "numeric", f"{self.why}: neither side has a value anywhere it was tried")
        return Verdict(PROVED, "numeric", f"{self.why}: equal at {agreed} points")


@dataclass(frozen=True)
class Equal(Agree):
    """left = right, by both judges."""

    normalised: frozenset[Any] = frozenset()

    def symbolic(self, checker: Checker) -> Verdict | None:
        if symbolic.is_zero(self.left - self.right, self.suppose, self.normalised):
            return Verdict(PROVED, "symbolic", f"{self.why}: the difference is 0")
        return Verdict(UNDECIDED, "symbolic", f"{self.why}: the difference does not reduce to 0")


@dataclass(frozen=True)
class Follows(Equal):
    """left = right by what a rule has put in (a citation, a change of variable, a witness), integrals left as they are.

    Where the rule is a true one both sides have equal values however wrongly it was used, so values say nothing about
    its use. What refutes it: the two differ with every integral taken as an unknown number, and their integrands
    differ at a point as well.
    """

    def symbolic(self, checker: Checker) -> Verdict | None:
        proved = super().symbolic(checker)
        if proved is None or proved.status == PROVED or not checker.numeric:
            return proved
        readings = [symbolic.opaque(self.left, self.right, self.suppose)]
        rest, groups = symbolic.integrands(symbolic.jets(self.left - self.right, self.suppose))
        merged = [(g, S.Zero) for _, g in groups.values()] + ([(rest, S.Zero)] if rest != 0 else [])
        first, *others = (Agree(self.why, a, b).numeric(checker) for a, b in [*readings, *merged])
        wrong = [v for v in others if v is not None and v.status == REFUTED]
        if first is not None and first.status == REFUTED and (wrong or not groups):
            return wrong[0] if wrong else first
        return proved

    def numeric(self, checker: Checker) -> Verdict | None:
        return None


@dataclass(frozen=True)
class Shown(Equal):
    """left = right by the symbolic judge alone (its numeric twin is an Agree of the whole line)."""

    def numeric(self, checker: Checker) -> Verdict | None:
        return None


@dataclass(frozen=True)
class Order(Obligation):
    """left = right + leading h^n + O(h^(n+1)), with leading != 0: a sharp error term."""

    left: Expr
    right: Expr
    h: Symbol
    n: int
    leading: Expr
    suppose: tuple[Suppose, ...] = ()

    def symbolic(self, checker: Checker) -> Verdict | None:
        coefficients = taylor(self.left - self.right, self.h, self.n, self.suppose)
        for k, c in enumerate(coefficients):
            expected = self.leading if k == self.n else 0
            if k == self.n and not checker.sharp:
                break
            if not symbolic.is_zero(c - expected, self.suppose):
                return Verdict(
                    UNDECIDED, "symbolic", f"{self.why}: the coefficient of {self.h}^{k} is not {expected}, but {c}"
                )
        if checker.sharp and symbolic.is_zero(self.leading, self.suppose):
            return Verdict(REFUTED, "symbolic", f"{self.why}: the leading term is 0, so the order is not sharp")
        return Verdict(PROVED, "symbolic", f"{self.why}: Taylor coefficients agree")

    def numeric(self, checker: Checker) -> Verdict | None:
        difference, leading = (symbolic.jets(e, self.suppose) for e in (self.left - self.right, self.leading))
        if _ill_formed(difference, leading):
            return Verdict(REFUTED, "numeric", f"{self.why}: an expression is undefined")
        wanted = 0
        with mp.workdps(numeric.DIGITS + 12 * (self.n + 1)):
            for point in numeric.points([difference, leading], checker.count // 2, checker.seed, checker.antithetic):
                c = numeric.evaluate(leading, {**point.values, self.h: mpf(1)}, point.functions)
                ratios = []
                for small in (mpf("1e-6"), mpf("1e-9"), *(() if self.h.is_positive else (-mpf("1e-9"),))):
                    at = {**point.values, self.h: small}
                    ratios.append(numeric.evaluate(difference, at, point.functions) / small**self.n)
                size = abs(c) + mpf("1e-6")
                if not checker.sharp:
                    good = abs(ratios[1]) <= 10 * abs(ratios[0]) + size
                else:
                    good = all(abs(ratio - c) <= mpf("1e-5") * size for ratio in ratios[1:])
                if not good:
                    shown = Point({s: v for s, v in point.values.items() if s != self.h}, point.functions)
                    return Verdict(
                        REFUTED,
                        "numeric",
                        f"{self.why}: (left - right)/{self.h}^{self.n} near {self.h} = 0 against the leading term",
                        shown.words(),
                        mp.nstr(ratios[-1], 12),
                        mp.nstr(c, 12),
                    )
                wanted += abs(c) > mpf("1e-12")
        if checker.sharp and not wanted:
            return Verdict(REFUTED, "numeric", f"{self.why}: the leading term is 0, so the order is not sharp")
        return Verdict(PROVED, "numeric", f"{self.why}: the ratio tends to the leading term")


@dataclass(frozen=True)
class Limit(Obligation):
    """left -> right as h -> 0."""

    left: Expr
    right: Expr
    h: Symbol
    suppose: tuple[Suppose, ...] = ()

    def symbolic(self, checker: Checker) -> Verdict | None:
        value = taylor(self.left, self.h, 0, self.suppose)[0]
        if symbolic.is_zero(value - self.right, self.suppose):
            return Verdict(PROVED, "symbolic", f"{self.why}: the coefficient of {self.h}^0")
        return Verdict(UNDECIDED, "symbolic", f"{self.why}: the limit is {value}")

    def numeric(self, checker: Checker) -> Verdict | None:
        """From h = 1e-8 to h = 1e-12 the distance to the limit shrinks 1000 times (a power series': 10^4 times)."""
        left, right = (symbolic.jets(e, self.suppose) for e in (self.left, self.right))
        rounding = checker.quadrature if numeric.is_quadrature(left, right) else checker.exact
        with mp.workdps(2 * numeric.DIGITS):
            for point in numeric.points([left, right], checker.count // 2, checker.seed, checker.antithetic):
                end = numeric.evaluate(right, {**point.values, self.h: mpf(1)}, point.functions)
                early, late = (
                    numeric.evaluate(left, {**point.values, self.h: small}, point.functions)
                    for small in (mpf("1e-8"), mpf("1e-12"))
                )
                if abs(late - end) > abs(early - end) / 1000 + rounding * (abs(end) + abs(early)):
                    return Verdict(REFUTED, "numeric", self.why, point.words(), mp.nstr(late, 12), mp.nstr(end, 12))
        return Verdict(PROVED, "numeric", f"{self.why}: the values converge")


@dataclass(frozen=True)
class Vanishes(Obligation):
    """A boundary term tends to 0 as x -> +-oo."""

    term: Expr
    x: Symbol

    def numeric(self, checker: Checker) -> Verdict | None:
        if not checker.boundary:
            return None
        for point in numeric.points([self.term], 4, checker.seed, checker.antithetic):
            for sign in (1, -1):
                ends = [
                    abs(numeric.evaluate(self.term, {**point.values, self.x: mpf(sign * r)}, point.functions))
                    for r in (10, 20, 40, 10**6, 2 * 10**6)  # so far out that a small constant shows
                ]
                near = ends[2] <= mpf("1e-9") and ends[2] <= ends[1] <= ends[0] + mpf("1e-9")
                if not (near and ends[4] <= ends[3] / 2 <= ends[2]):
                    return Verdict(
                        REFUTED,
                        "numeric",
                        self.why,
                        f"{point.words()}, {self.x} = {sign * (2 * 10**6 if near else 40)}",
                        mp.nstr(ends[4 if near else 2], 6),
                        "0",
                    )
        return Verdict(PROVED, "numeric", f"{self.why}: it vanishes")

    def symbolic(self, checker: Checker) -> Verdict | None:
        return None


@dataclass(frozen=True)
class Nonnegative(Obligation):
    """A witness whose sign can be read off its form."""

    witness: Expr

    def symbolic(self, checker: Checker) -> Verdict | None:
        if not checker.manifest or symbolic.is_nonnegative(self.witness):
            return Verdict(PROVED, "symbolic", f"{self.why}: sums and products of nonnegative terms")
        return Verdict(UNDECIDED, "symbolic", f"{self.why}: the sign of {self.witness} cannot be read off its form")


@dataclass(frozen=True)
class AtLeast(Obligation):
    """left >= right at random points."""

    left: Expr
    right: Expr
    suppose: tuple[Suppose, ...] = ()

    def numeric(self, checker: Checker) -> Verdict | None:
        if not checker.manifest:
            return None
        left, right = (symbolic.jets(e, self.suppose) for e in (self.left, self.right))
        slack = checker.quadrature if numeric.is_quadrature(left, right) else checker.exact
        count = 2 if numeric.is_quadrature(left, right) else 4 * checker.count
        for point in numeric.points([left, right], count, checker.seed, checker.antithetic):
            (a, no_a), (b, no_b) = _value(left, point), _value(right, point)
            if a is None or b is None or b - a > slack * (abs(a) + abs(b)):  # b - a first: the digits are in it
                return Verdict(REFUTED, "numeric", self.why, point.words(), _shown(a, no_a), _shown(b, no_b))
        return Verdict(PROVED, "numeric", f"{self.why}: it holds at {count} points")


@dataclass(frozen=True)
class Nonzero(Obligation):
    """What a line divides by keeps one sign over its domain."""

    expression: Expr

    def numeric(self, checker: Checker) -> Verdict | None:
        if not checker.division or symbolic.is_nonzero(self.expression):
            return None
        signs: dict[int, Point] = {}
        for point in numeric.points([self.expression], 16, checker.seed, checker.antithetic):
            value, problem = _value(self.expression, point)
            if value is None:
                return Verdict(REFUTED, "numeric", self.why, point.words(), problem, "")
            signs[int(mp.sign(value))] = point
            if len(signs) > 1:
                return Verdict(
                    REFUTED,
                    "numeric",
                    f"{self.why}, and {self.expression} has both signs (declare its domain: positive, nonzero, ...)",
                    point.words(),
                    mp.nstr(value, 6),
                    "a divisor that keeps one sign",
                )
        for point in numeric.edges(self.expression, checker.seed):
            value, problem = _value(self.expression, point)
            if not value:
                return Verdict(REFUTED, "numeric", self.why, point.words(), _shown(value, problem), "not 0")
        return Verdict(PROVED, "numeric", f"{self.why}: it keeps one sign")


@dataclass(frozen=True)
class Within(Obligation):
    """What a citation puts in for a symbol lies in that symbol's domain."""

    expression: Expr
    domain: Domain

    def numeric(self, checker: Checker) -> Verdict | None:
        known = getattr(self.expression, "domain", None)
        if not checker.instances or self.domain.name == "real" or known == self.domain:
            return None
        lies: Callable[[Any], bool] = {
            "nonzero": lambda v: v != 0,
            "nonnegative": lambda v: v >= 0,
            "positive": lambda v: v > 0,
            "unit": lambda v: 0 < v < 1,
            "above_one": lambda v: v > 1,
            "natural": lambda v: v >= 1 and v == int(v),
            "counting": lambda v: v >= 0 and v == int(v),
        }[self.domain.name]
        tried = numeric.points([self.expression], 12, checker.seed, checker.antithetic)
        for point in (*tried, *numeric.edges(self.expression, checker.seed)):
            value, problem = _value(self.expression, point)
            if value is None or not lies(value):
                told = self.domain.words.format(self.expression)
                return Verdict(REFUTED, "numeric", self.why, point.words(), _shown(value, problem), told)
        return Verdict(PROVED, "numeric", f"{self.why}: it lies in the domain")


@dataclass(frozen=True)
class Refused(Obligation):
    """A rule that does not fit the lines it was given."""

    def symbolic(self, checker: Checker) -> Verdict | None:
        return Verdict(REFUTED, "rule", self.why)

    def judge(self, checker: Checker) -> list[Verdict]:
        return [Verdict(REFUTED, "rule", self.why)]
