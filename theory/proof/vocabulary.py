"""The words of a derivation: symbols with domains, unspecified functions with kinds, densities and integrals.

A symbol carries the set it ranges over, a function the kind of function it stands for. Both are hypotheses: they are
printed with every claim, the numeric judge draws from them, and weakening one is a mutant that has to be noticed.

    x = real("x");  sigma = positive("sigma");  A = unit("A")       # -oo < x < oo,  sigma > 0,  0 < A < 1
    p = function("p", kind="density")                       # p(x, ...): smooth, positive, integrates to 1 over x
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sympy as sp
from sympy import Dummy, Expr, Integral, Symbol, exp, log, oo, pi
from sympy.core.function import AppliedUndef, UndefinedFunction

# ---------------------------------------------------------------------------------------------------- symbols


@dataclass(frozen=True)
class Domain:
    """A set of numbers: its words ("0 < {} < 1"), SymPy's assumptions, and the next weaker set (None: no weaker one).

    `chart` says the set to the symbolic judge, which knows signs and nothing else: w > 0 -> w / (1 + w) is (0, 1).
    """

    name: str
    words: str
    assumptions: tuple[tuple[str, bool], ...]
    weaker: str | None = None
    chart: Callable[[Expr], Expr] | None = None


_REAL, _POSITIVE = (("real", True),), (("positive", True),)
DOMAINS = {
    d.name: d
    for d in (
        Domain("real", "{} real", _REAL),
        Domain("nonzero", "{} != 0", (("real", True), ("nonzero", True)), "real"),
        Domain("nonnegative", "{} >= 0", (("nonnegative", True),), "real"),
        Domain("positive", "{} > 0", _POSITIVE, "real"),
        Domain("unit", "0 < {} < 1", _POSITIVE, "positive", lambda w: w / (1 + w)),
        Domain("above_one", "{} > 1", _POSITIVE, "positive", lambda w: 1 + w),
        Domain("natural", "{} in 1, 2, 3, ...", (("integer", True), ("positive", True))),
        Domain("counting", "{} in 0, 1, 2, ...", (("integer", True), ("nonnegative", True))),
    )
}


class Var(Symbol):
    """A symbol that knows its domain; two symbols of one name and different domains are different symbols."""

    __slots__ = ("domain",)
    domain: Domain

    def __new__(cls, name: str, domain: Domain) -> Var:  # type: ignore[misc]
        new = Symbol.__xnew__(cls, name, **dict(domain.assumptions))
        new.domain = domain
        return new

    def _hashable_content(self) -> tuple[Any, ...]:
        return (*super()._hashable_content(), self.domain.name)

    def __getnewargs_ex__(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (self.name, self.domain), {}


def _symbols(names: str, domain: str) -> Any:
    made = tuple(Var(name, DOMAINS[domain]) for name in names.replace(",", " ").split())
    if not made:
        raise ValueError(f"a symbol needs a name, got {names!r}")
    return made[0] if len(made) == 1 else made


def real(names: str) -> Any:
    """Real numbers."""
    return _symbols(names, "real")


def nonzero(names: str) -> Any:
    """Real numbers other than 0."""
    return _symbols(names, "nonzero")


def nonnegative(names: str) -> Any:
    """Numbers >= 0."""
    return _symbols(names, "nonnegative")


def positive(names: str) -> Any:
    """Numbers > 0: scales, variances, step sizes."""
    return _symbols(names, "positive")


def unit(names: str) -> Any:
    """Numbers strictly between 0 and 1: alpha_bar, correlations, probabilities."""
    return _symbols(names, "unit")


def above_one(names: str) -> Any:
    """Numbers > 1."""
    return _symbols(names, "above_one")


def natural(names: str) -> Any:
    """Whole numbers from 1."""
    return _symbols(names, "natural")


def counting(names: str) -> Any:
    """Whole numbers from 0."""
    return _symbols(names, "counting")


# ---------------------------------------------------------------------------------------------------- functions


@dataclass(frozen=True)
class Kind:
    """What an unspecified function may be; `weaker` is the kind left when the hypothesis is dropped."""

    name: str
    words: str
    positive: bool
    weaker: str | None = None


KINDS = {
    k.name: k
    for k in (
        Kind("smooth", "{} smooth", False),
        Kind("positive", "{} smooth and positive", True, "smooth"),
        Kind("decreasing", "{} smooth, positive and strictly decreasing", True, "positive"),
        Kind("increasing", "{} smooth, positive and strictly increasing", True, "positive"),
        Kind("monotone", "{} smooth and strictly increasing", False, "smooth"),
        Kind("falling", "{} smooth and strictly decreasing", False, "smooth"),
        Kind(
            "density",
            "{} a smooth positive density in its first argument, decaying with its derivatives, of integral 1",
            True,
            "positive",
        ),
        Kind("sequence_real", "{} a sequence of real numbers", False),
        Kind("sequence_positive", "{} a sequence of positive numbers", True, "sequence_real"),
        Kind("sequence_unit", "{} a sequence of numbers in (0, 1)", True, "sequence_positive"),
    )
}


def function(name: str, kind: str = "smooth") -> UndefinedFunction:
    """An unspecified function of the given kind; of several arguments, the first is the one the kind speaks of."""
    if kind not in KINDS:
        raise ValueError(f"function({name!r}, kind={kind!r}): kind is one of {', '.join(KINDS)}")
    return sp.Function(name, real=True, kind=kind, **({"positive": True} if KINDS[kind].positive else {}))


def sequence(name: str, kind: str = "unit") -> UndefinedFunction:
    """An unspecified sequence c(1), c(2), ...; kind is "real", "positive" or "unit"."""
    return function(name, f"sequence_{kind}")


def kind_of(applied: UndefinedFunction) -> str:
    """The kind a function was declared with (SymPy's own functions have a `kind` too, which is no word)."""
    kind = getattr(applied, "kind", None)
    return kind if isinstance(kind, str) else "smooth"


# ------------------------------------------------------------------------------------------ integrals and laws


def integral(expression: Expr, *variables: Symbol) -> Expr:
    """The integral over the whole real line in each variable, kept unevaluated."""
    return Integral(expression, *[(v, -oo, oo) for v in variables])


class Expect(Expr):
    """E over u ~ N(0, 1) of an expression in u: `E(u**2, u)` is 1 after `gaussian_expectation(u)`."""

    def __new__(cls, expression: Any, u: Symbol) -> Expr:
        if not isinstance(u, Symbol):
            raise TypeError(f"E(expression, u): u is a symbol, got {u!r}")
        return Expr.__new__(cls, sp.sympify(expression), u)

    @property
    def bound_symbols(self) -> list[Symbol]:
        return [self.args[1]]  # type: ignore[list-item]

    @property
    def free_symbols(self) -> set[Any]:
        return self.args[0].free_symbols - {self.args[1]}

    @property
    def is_commutative(self) -> bool:
        return True

    def _eval_is_real(self) -> bool | None:
        return self.args[0].is_real

    def _eval_subs(self, old: Any, new: Any) -> Any:
        expression, u = self.args
        if old == u:
            return self
        if u in getattr(new, "free_symbols", ()):
            fresh = Dummy(u.name, real=True)  # type: ignore[attr-defined]
            expression, u = expression.xreplace({u: fresh}), fresh
        return Expect(expression._subs(old, new), u)

    def _eval_derivative(self, s: Symbol) -> Expr:
        return Expect(self.args[0].diff(s), self.args[1])


def E(expression: Any, u: Symbol) -> Expr:
    """E over u ~ N(0, 1) of `expression`."""
    return Expect(expression, u)


class Recursion(Expr):
    """y_n of the recursion y_0 = start, y_{k+1} = step(y_k, k), kept unevaluated: what `induction` closes."""

    def __new__(cls, step: Any, y: Symbol, k: Symbol, start: Any, n: Any) -> Expr:
        return Expr.__new__(cls, sp.sympify(step), y, k, sp.sympify(start), sp.sympify(n))

    @property
    def free_symbols(self) -> set[Any]:
        step, y, k, start, n = self.args
        return (step.free_symbols - {y, k}) | start.free_symbols | n.free_symbols

    @property
    def is_commutative(self) -> bool:
        return True


def recursion(step: Any, y: Symbol, k: Symbol, start: Any, n: Any) -> Expr:
    """y_n where y_0 = start and y_{k+1} = step, an expression in y (for y_k) and k."""
    return Recursion(step, y, k, start, n)


def log_normal(x: Any, mean: Any, variance: Any) -> Expr:
    """log N(x; mean, variance) = -(x - mean)^2 / (2 variance) - log(2 pi variance) / 2, in nats."""
    return -((x - mean) ** 2) / (2 * variance) - log(2 * pi * variance) / 2


def normal(x: Any, mean: Any, variance: Any) -> Expr:
    """N(x; mean, variance) = exp(-(x - mean)^2 / (2 variance)) / sqrt(2 pi variance)."""
    return exp(-((x - mean) ** 2) / (2 * variance)) / sp.sqrt(2 * pi * variance)


# ------------------------------------------------------------------------------------------------- hypotheses


@dataclass(frozen=True)
class Suppose:
    """An equational hypothesis: the derivative on the left is, by assumption, the expression on the right."""

    left: Expr
    right: Expr

    def words(self) -> str:
        return f"{self.left} = {self.right}"


def suppose(left: Expr, right: Expr) -> Suppose:
    """`suppose(Derivative(p(x, t), t), ...)`: an evolution equation a claim is about (not a fact about all p)."""
    derivative = isinstance(left, sp.Derivative) and isinstance(left.expr, AppliedUndef)
    if not derivative or not all(isinstance(a, Symbol) for a in left.expr.args):
        raise ValueError(f"suppose({left}, ...): the left side is a derivative of an unspecified function of symbols")
    if len(left.variable_count) != 1 or left.variable_count[0][1] != 1:
        raise ValueError(f"suppose({left}, ...): the left side is a first derivative in one symbol")
    return Suppose(left, sp.sympify(right))


def hypotheses_of(expressions: list[Expr]) -> list[str]:
    """In words, the domains and kinds of all symbols and functions met (real symbols say nothing and are left out)."""
    symbols = {s for e in expressions for s in e.free_symbols if isinstance(s, Var)}
    functions = {f.func for e in expressions for f in e.atoms(AppliedUndef)}
    told = [s.domain.words.format(s.name) for s in sorted(symbols, key=str) if s.domain.name != "real"]
    return told + [KINDS[kind_of(f)].words.format(f.__name__) for f in sorted(functions, key=str)]


def fingerprint(expression: Any) -> str:
    """A text that two expressions share just when they are the same tree over the same domains and kinds."""
    if isinstance(expression, Var):
        return f"{expression.name}:{expression.domain.name}"
    if isinstance(expression, Symbol):
        return f"{expression.name}:{sorted(expression.assumptions0.items())}"
    if not getattr(expression, "args", ()):
        return sp.srepr(expression)
    head = expression.func.__name__
    if isinstance(expression, AppliedUndef):
        head += f":{kind_of(expression.func)}"
    parts = [fingerprint(a) for a in expression.args]
    if isinstance(expression, sp.Add | sp.Mul):
        parts.sort()  # SymPy's argument order depends on assumptions met earlier; a fingerprint must not
    return f"{head}({','.join(parts)})"
