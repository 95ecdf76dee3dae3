"""The numeric judge: an interpreter over mpmath at 50 digits, on random points of the declared domains.

It shares nothing with the symbolic judge but the expression tree. Derivatives are `mp.diff`, integrals are quadrature,
an unspecified function is a random member of its kind (a density is a random mixture, and really decays). The residual
is measured against the size of the terms that cancel. Points come in antithetic pairs, x and -x (A and 1 - A in the
unit interval), because one-sided points believe sqrt(x^2) = x.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import sympy as sp
from mpmath import mp, mpf
from sympy import Expr, Symbol, oo
from sympy.core.function import AppliedUndef

from theory.proof.vocabulary import Expect, Recursion, Var, kind_of

DIGITS = 50
QUADRATURE_DIGITS = 20
EXACT, QUADRATURE = mpf("1e-25"), mpf("1e-9")  # residuals allowed, relative to the terms that cancel


class UndefinedHere(ArithmeticError):
    """The expression has no real value at this point."""


class NoConvergence(ArithmeticError):
    """An integral does not settle: it diverges, or its integrand does not decay."""


class Unsupported(TypeError):
    """The interpreter has no meaning for this node."""


# ----------------------------------------------------------------------------------------- random members of kinds


def _wave(rng: random.Random, arity: int) -> Callable[..., Any]:
    """A smooth function with no vanishing derivative: a constant and three waves of generic frequency and phase."""
    waves = [
        (mpf(rng.uniform(0.3, 0.9)), [mpf(rng.uniform(0.4, 1.3)) for _ in range(arity)], mpf(rng.uniform(0, 6.28)))
        for _ in range(3)
    ]
    level = mpf(rng.uniform(-0.8, 0.8))

    def wave(*x: Any) -> Any:
        return level + sum(c * mp.sin(phase + sum(w * a for w, a in zip(ws, x, strict=True))) for c, ws, phase in waves)

    return wave


def _positive(rng: random.Random, arity: int) -> Callable[..., Any]:
    wave = _wave(rng, arity)
    return lambda *x: mp.exp(wave(*x) / 2)


def _step(rng: random.Random, arity: int, sign: int) -> Callable[..., Any]:
    """Positive and strictly monotone in the first argument: two logistic steps over a floor of 0.05."""
    steps = [(mpf(rng.uniform(0.3, 1)), mpf(rng.uniform(0.8, 2)), mpf(rng.uniform(-1, 1))) for _ in range(2)]
    shift = _wave(rng, arity - 1)

    def step(t: Any, *rest: Any) -> Any:
        return mpf("0.05") + sum(a / (1 + mp.exp(-sign * b * (t - c) + shift(*rest) / 4)) for a, b, c in steps)

    return step


def _monotone(rng: random.Random, arity: int, sign: int) -> Callable[..., Any]:
    wave, slope = _step(rng, arity, 1), mpf(rng.uniform(0.3, 1))
    return lambda t, *rest: sign * (slope * t + wave(t, *rest))


def _density(rng: random.Random, arity: int) -> Callable[..., Any]:
    """A mixture of two Gaussians whose weight, means and widths depend smoothly on the other arguments."""
    weight, *means = (_wave(rng, arity - 1) for _ in range(3))
    widths = [_wave(rng, arity - 1) for _ in range(2)]
    with mp.workdps(4 * DIGITS):
        root = mp.sqrt(2 * mp.pi)

    @lru_cache(maxsize=8)
    def shape(digits: int, *rest: Any) -> list[tuple[Any, Any, Any]]:
        w = 1 / (1 + mp.exp(-weight(*rest)))
        s = [mp.exp(width(*rest) / 6) for width in widths]
        m = [means[0](*rest) - 1, means[1](*rest) / 2 + 1]
        return [(q / (b * root), c, -1 / (2 * b * b)) for q, c, b in zip((w, 1 - w), m, s, strict=True)]

    def density(x: Any, *rest: Any) -> Any:
        return sum(q * mp.exp(k * (x - c) ** 2) for q, c, k in shape(mp.prec, *rest))

    return density


def _sequence(rng: random.Random, low: float, high: float) -> Callable[..., Any]:
    seed = rng.random()

    def value(k: Any, *rest: Any) -> Any:
        return mpf(random.Random(f"{seed}{int(k)}{rest}").uniform(low, high))

    return value


MEMBERS: dict[str, Callable[[random.Random, int], Callable[..., Any]]] = {
    "smooth": _wave,
    "positive": _positive,
    "increasing": lambda rng, arity: _step(rng, arity, 1),
    "decreasing": lambda rng, arity: _step(rng, arity, -1),
    "monotone": lambda rng, arity: _monotone(rng, arity, 1),
    "falling": lambda rng, arity: _monotone(rng, arity, -1),
    "density": _density,
    "sequence_real": lambda rng, arity: _sequence(rng, -2, 2),
    "sequence_positive": lambda rng, arity: _sequence(rng, 0.2, 2),
    "sequence_unit": lambda rng, arity: _sequence(rng, 0.05, 0.95),
}

# domain -> (a random value, its antithetic partner)
DRAWS: dict[str, tuple[Callable[[random.Random], Any], Callable[[Any], Any]]] = {
    "real": (lambda rng: rng.choice((-1, 1)) * mp.exp(mpf(rng.uniform(-1.4, 0.9))), lambda v: -v),
    "nonzero": (lambda rng: rng.choice((-1, 1)) * mp.exp(mpf(rng.uniform(-1.4, 0.9))), lambda v: -v),
    "nonnegative": (lambda rng: mp.exp(mpf(rng.uniform(-1.4, 0.9))), lambda v: 1 / v),
    "positive": (lambda rng: mp.exp(mpf(rng.uniform(-1.2, 1.0))), lambda v: 1 / v),
    "unit": (lambda rng: mpf(rng.uniform(0.04, 0.96)), lambda v: 1 - v),
    "above_one": (lambda rng: 1 + mp.exp(mpf(rng.uniform(-1.2, 1.0))), lambda v: 1 + 1 / (v - 1)),
    "natural": (lambda rng: mpf(rng.randint(1, 4)), lambda v: 5 - v),
    "counting": (lambda rng: mpf(rng.randint(0, 4)), lambda v: 4 - v),
}


@dataclass
class Point:
    """One place at which both sides are evaluated: numbers for symbols, members for functions."""

    values: dict[Symbol, Any]
    functions: dict[Any, Callable[..., Any]]
    key: str = ""  # equal keys, equal values for every symbol and member

    def words(self) -> str:
        """Every symbol's value, once: an integrand's variable that has a free symbol's name is told from it."""
        free = {s.name for s in self.values if not isinstance(s, sp.Dummy)}

        def name(s: Symbol) -> str:
            return f"{s.name} under the integral" if isinstance(s, sp.Dummy) and s.name in free else s.name

        told = [f"{name(s)} = {mp.nstr(mpf(v), 5)}" for s, v in sorted(self.values.items(), key=lambda kv: name(kv[0]))]
        told += [f"{f.__name__} a random {kind_of(f)} function" for f in sorted(self.functions, key=str)]
        return ", ".join(told) or "every point"


def points(expressions: list[Expr], count: int, seed: int, antithetic: bool = True) -> Iterator[Point]:
    """`count` random points of the domains met in the expressions, as antithetic pairs; stable for a given seed."""
    symbols = sorted({s for e in expressions for s in e.free_symbols}, key=str)
    applied = {f for e in expressions for f in e.atoms(AppliedUndef)}
    functions = sorted({(getattr(f.func, "base", None) or f.func, len(f.args)) for f in applied}, key=str)
    for i in range(count):
        pair, mirrored = divmod(i, 2) if antithetic else (i, 0)
        values = {}
        with mp.workdps(DIGITS):  # not around the yield: that would set the caller's precision too
            for s in symbols:
                draw, partner = DRAWS[s.domain.name if isinstance(s, Var) else "real"]
                value = draw(random.Random(f"{seed} {pair} {s}"))
                if not antithetic and isinstance(value, mp.mpf):
                    value = abs(value)
                values[s] = partner(value) if mirrored else value
            members = {f: MEMBERS[kind_of(f)](random.Random(f"{seed} {i} {f}"), n) for f, n in functions}
        yield Point(values, members, f"{seed} {i} {antithetic}")


def edges(e: Expr, seed: int) -> Iterator[Point]:
    """Points that a random draw never meets: one symbol at 0, all at 0, where the domain has 0; two of a kind equal."""
    places = {s: s.domain.name if isinstance(s, Var) else "real" for s in sorted(e.free_symbols, key=str)}
    zero = [s for s, name in places.items() if name in ("real", "nonnegative", "counting")]
    for point in points([e], 1, seed):
        v = point.values
        moves = [{s: mpf(0)} for s in zero] + [dict.fromkeys(zero, mpf(0))]
        moves += [{s: v[t]} for s in places for t in places if str(s) < str(t) and places[s] == places[t]]
        for i, move in enumerate(moves):
            yield Point({**v, **move}, point.functions, f"{point.key} edge {i}")


# ------------------------------------------------------------------------------------------------ quadrature


def _trapezoid(f: Callable[[Any], Any], h: Any, offset: Any, reach: float, minimum: float) -> tuple[Any, Any]:
    """Sum of f(offset + k h) over k until terms vanish (|f| < 1e-17 of the sum); the sum, and the sum of |f|."""
    total, size = mpf(0), mpf(0)
    negligible = mpf("1e-17")
    for sign in (1, -1):
        k, quiet = (0 if sign == 1 else 1), 0
        while quiet < 4:
            u = offset + sign * k * h
            if abs(u) > reach:
                raise NoConvergence("the integrand does not decay")
            term = f(u)
            total, size = total + term, size + abs(term)
            quiet = quiet + 1 if abs(term) <= negligible * size and abs(u) >= minimum else 0
            k += 1
    return total, size


Quadrature = tuple[Any, Any]  # the integral of f, and that of |f|: what its error has to be small against


def _line(f: Callable[[Any], Any]) -> Quadrature:
    """Integral over the real line: x = sinh(u), trapezoid in u (geometric convergence), halved until it settles."""

    def g(u: Any) -> Any:
        return f(mp.sinh(u)) * mp.cosh(u)

    return _halve(g, reach=60, minimum=3.2)


def _half_line(f: Callable[[Any], Any], a: Any) -> Quadrature:
    """Integral over [a, oo): x = a + exp(u - exp(-u)), trapezoid in u."""

    def g(u: Any) -> Any:
        x = mp.exp(u - mp.exp(-u))
        return f(a + x) * x * (1 + mp.exp(-u))

    return _halve(g, reach=60, minimum=3.2)


def _halve(g: Callable[[Any], Any], reach: float, minimum: float) -> Quadrature:
    h = mpf(1) / 4
    total, size = _trapezoid(g, h, mpf(0), reach, minimum)
    old = total * h
    for _ in range(8):
        more, more_size = _trapezoid(g, h, h / 2, reach, minimum)
        total, size, h = total + more, size + more_size, h / 2
        new = total * h
        if abs(new - old) <= mpf("1e-9") * size * h:
            return new, size * h  # halving h squares the relative error: what is left is about 1e-18
        old = new
    raise NoConvergence("the integral does not settle")


@lru_cache
def _legendre(n: int) -> list[tuple[Any, Any]]:
    with mp.workdps(60):
        nodes, weights = mp.gauss_quadrature(n, "legendre")
        return list(zip(nodes, weights, strict=True))


def _interval(f: Callable[[Any], Any], a: Any, b: Any) -> Quadrature:
    """Integral over [a, b] of a smooth function: Gauss-Legendre, 40 nodes; 28 nodes must agree."""
    middle, half = (a + b) / 2, (b - a) / 2
    fine, coarse = ([w * f(middle + half * x) * half for x, w in _legendre(n)] for n in (40, 28))
    if abs(sum(fine) - sum(coarse)) > mpf("1e-9") * (abs(sum(fine)) + abs(half)):
        raise NoConvergence("the integral does not settle")
    return sum(fine), sum(map(abs, fine))


def _frozen_line(n: int, f: Callable[[Any], Any]) -> Quadrature:
    """The same rule on fixed nodes, n to a unit of asinh(x): a smooth function of any parameter."""
    values = [f(mp.sinh(mpf(k) / n)) * mp.cosh(mpf(k) / n) / n for k in range(-6 * n, 6 * n + 1)]
    return sum(values), sum(map(abs, values))


# ----------------------------------------------------------------------------------------------- interpreter

_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    sp.exp: mp.exp,
    sp.log: mp.log,
    sp.sin: mp.sin,
    sp.cos: mp.cos,
    sp.tan: mp.tan,
    sp.atan: mp.atan,
    sp.asin: mp.asin,
    sp.acos: mp.acos,
    sp.sinh: mp.sinh,
    sp.cosh: mp.cosh,
    sp.tanh: mp.tanh,
    sp.asinh: mp.asinh,
    sp.acosh: mp.acosh,
    sp.atanh: mp.atanh,
    sp.erf: mp.erf,
    sp.erfc: mp.erfc,
    sp.gamma: mp.gamma,
    sp.factorial: mp.factorial,
    sp.factorial2: mp.fac2,
    sp.binomial: mp.binomial,
    sp.Abs: abs,
    sp.sign: mp.sign,
    sp.floor: mp.floor,
    sp.ceiling: mp.ceil,
    sp.Min: min,
    sp.Max: max,
}


Env = dict[Symbol, Any]
Code = Callable[[Env], Any]


@dataclass
class Interpreter:
    """Turns a tree into nested closures over an environment; `frozen` fixes integration nodes (for derivatives)."""

    functions: Mapping[Any, Callable[..., Any]] = field(default_factory=dict)
    frozen: int = 0  # nodes to a unit of asinh(x), when they are fixed
    gross: dict[Expr, Any] = field(default_factory=dict)  # an integral, as last evaluated, with its integrand's size

    def compile(self, e: Expr) -> Code:
        if e.is_Symbol:
            return lambda env: env[e]
        if e.is_Rational:
            p, q = int(e.p), int(e.q)  # type: ignore[attr-defined]
            return (lambda env: mpf(p)) if q == 1 else (lambda env: mpf(p) / q)
        if isinstance(e, AppliedUndef):
            return self._applied(e)
        if e.is_Add or e.is_Mul or e.func in _FUNCTIONS:
            return self._call(e)
        if e.is_Pow:
            return self._power(e)
        special = getattr(self, f"_{type(e).__name__.lower()}", None)
        if special is not None:
            return special(e)
        if e.is_number and e.is_Atom and e.is_finite:
            return lambda env: mp.mpmathify(e.evalf(mp.dps + 5))
        if e in (sp.zoo, sp.nan, oo, -oo):
            raise UndefinedHere(f"the expression contains {e}")
        raise Unsupported(f"the numeric judge does not know {type(e).__name__}: {e}")

    def _call(self, e: Expr) -> Code:
        codes = [self.compile(a) for a in e.args]
        if e.is_Add:
            return lambda env: sum(c(env) for c in codes)
        if e.is_Mul:

            def multiply(env: Env) -> Any:
                value = codes[0](env)
                for c in codes[1:]:
                    value = value * c(env)
                return value

            return multiply
        f = _FUNCTIONS[e.func]
        return lambda env: f(*(c(env) for c in codes))

    def _applied(self, e: AppliedUndef) -> Code:
        f = e.func
        base, order = getattr(f, "base", None) or f, getattr(f, "order", None)
        if base not in self.functions:
            raise Unsupported(f"no member drawn for {f}")
        member, codes = self.functions[base], [self.compile(a) for a in e.args]
        if order is None:
            return lambda env: member(*(c(env) for c in codes))

        def derived(env: Env) -> Any:
            at = [c(env) for c in codes]
            return mp.diff(member, at[0], order[0]) if len(at) == 1 else mp.diff(member, tuple(at), order)

        return derived

    def _power(self, e: Expr) -> Code:
        base, exponent = self.compile(e.args[0]), e.args[1]
        power = self.compile(exponent)
        whole = int(exponent) if exponent.is_Integer else None  # type: ignore[arg-type]
        root = exponent == sp.S.Half

        def raised(env: Env) -> Any:
            b = base(env)
            if b == 0 and exponent.is_negative:
                raise UndefinedHere(f"division by zero: {e.args[0]} = 0")
            if whole is not None:
                return b**whole
            return mp.sqrt(b) if root else mp.power(b, power(env))

        return raised

    def _derivative(self, e: sp.Derivative) -> Code:
        variables = [v for v, _ in e.variable_count]
        orders = [int(n) for _, n in e.variable_count]
        if not e.expr.free_symbols.issuperset(variables):  # constant in one of them, which then has no value here
            return lambda env: mpf(0)
        finer = (self.frozen,) if self.frozen else ((16, 32, 64, 128, 256) if is_quadrature(e.expr) else (1,))
        codes = [Interpreter(self.functions, frozen=n).compile(e.expr) for n in finer]

        def at_nodes(inner: Code, env: Env) -> Any:
            def f(*at: Any) -> Any:
                return inner({**env, **dict(zip(variables, at, strict=True))})

            at = [env[v] for v in variables]
            return mp.diff(f, at[0], orders[0]) if len(at) == 1 else mp.diff(f, tuple(at), tuple(orders))

        def derived(env: Env) -> Any:
            value = at_nodes(codes[0], env)
            for inner in codes[1:]:
                self.gross[e] = abs(value) + abs(inner(env))  # differences are exact to the size of what they are of
                old, value = value, at_nodes(inner, env)
                if abs(value - old) <= mpf("1e-7") * abs(value) + mpf("1e-20"):
                    return value  # twice the nodes square the relative error: what is left is about 1e-14
            if len(codes) > 1:
                raise NoConvergence("the derivative of an integral does not settle")
            return value

        return derived

    def _subs(self, e: sp.Subs) -> Code:
        inner, places = self.compile(e.expr), [self.compile(p) for p in e.point]
        return lambda env: inner({**env, **{v: c(env) for v, c in zip(e.variables, places, strict=True)}})

    def _integral(self, e: sp.Integral) -> Code:
        code = self.compile(e.function)
        for limits in e.limits:  # the first is the innermost
            code = self._summed(e, self._over(code, *limits))
        return code

    def _summed(self, e: Expr, quadrature: Callable[[Env], Quadrature]) -> Code:
        """The integral alone; that of the integrand's size is left in `gross`."""

        def value(env: Env) -> Any:
            total, self.gross[e] = quadrature(env)
            return total

        return value

    def _over(self, inner: Code, x: Symbol, a: Expr, b: Expr) -> Callable[[Env], Quadrature]:
        low, high = (None if end in (oo, -oo) else self.compile(end) for end in (a, b))
        if low is None and high is None:
            rule = partial(_frozen_line, self.frozen) if self.frozen else _line
            return lambda env: rule(lambda value: inner({**env, x: value}))
        if high is None and low is not None:
            return lambda env: _half_line(lambda value: inner({**env, x: value}), low(env))
        if low is None and high is not None:
            return lambda env: _half_line(lambda value: inner({**env, x: -value}), -high(env))
        assert low is not None and high is not None
        return lambda env: _interval(lambda value: inner({**env, x: value}), low(env), high(env))

    def _expect(self, e: Expect) -> Code:
        u = e.args[1]
        inner, rule = self.compile(e.args[0]), partial(_frozen_line, self.frozen) if self.frozen else _line

        def mean(env: Env) -> Quadrature:
            root = mp.sqrt(2 * mp.pi)
            return rule(lambda value: inner({**env, u: value}) * mp.exp(-(value**2) / 2) / root)

        return self._summed(e, mean)

    def _recursion(self, e: Recursion) -> Code:
        step, y, k, start, n = e.args
        step_code, start_code, n_code = self.compile(step), self.compile(start), self.compile(n)

        def run(env: Env) -> Any:
            value = start_code(env)
            for i in range(int(n_code(env))):
                value = step_code({**env, y: value, k: mpf(i)})
            return value

        return run

    def _range(self, e: Any) -> Callable[[Env], list[Any]]:
        (i, low, high), *outer = e.limits
        if outer or high == oo:
            raise Unsupported(f"only finite single sums and products are evaluated, got {e}")
        inner, first, last = self.compile(e.function), self.compile(low), self.compile(high)
        return lambda env: [inner({**env, i: mpf(v)}) for v in range(int(first(env)), int(last(env)) + 1)]

    def _sum(self, e: sp.Sum) -> Code:
        terms = self._range(e)
        return lambda env: mp.fsum(terms(env))

    def _product(self, e: sp.Product) -> Code:
        factors = self._range(e)
        return lambda env: mp.fprod(factors(env))

    def _piecewise(self, e: sp.Piecewise) -> Code:
        branches = [(self.compile(value), self._condition(condition)) for value, condition in e.args]

        def choose(env: Env) -> Any:
            for value, holds in branches:
                if holds(env):
                    return value(env)
            raise UndefinedHere(f"no branch of {e} applies")

        return choose

    def _condition(self, condition: Any) -> Callable[[Env], bool]:
        if condition in (sp.true, sp.false):
            return lambda env: condition == sp.true
        left, right = (self.compile(a) for a in condition.args)
        order = {sp.Eq: "eq", sp.Ne: "ne", sp.Lt: "lt", sp.Le: "le", sp.Gt: "gt", sp.Ge: "ge"}
        if condition.func not in order:
            raise Unsupported(f"the numeric judge does not know the condition {condition}")
        compare = getattr(operator, order[condition.func])
        return lambda env: bool(compare(left(env), right(env)))


def _defined(code: Code, env: Env) -> Any:
    try:
        return code(env)
    except (ZeroDivisionError, ValueError) as error:
        raise UndefinedHere(str(error)) from error


def _real(value: Any) -> Any:
    if isinstance(value, mp.mpc):
        if abs(value.imag) > mpf("1e-30") * (1 + abs(value.real)):
            raise UndefinedHere("the value is not real")
        value = value.real
    if not mp.isfinite(value):
        raise UndefinedHere("the value is not finite")
    return mpf(value)


def evaluate(expression: Expr, values: Mapping[Symbol, Any], functions: Mapping[Any, Any] | None = None) -> Any:
    """The value of an expression at 50 digits (or the caller's precision, where that is higher); real or refused."""
    return terms(expression, values, functions)[0]


def terms(
    expression: Expr, values: Mapping[Symbol, Any], functions: Mapping[Any, Any] | None = None
) -> tuple[Any, Any]:
    """The value, and the sum of |term| over the terms of the sum: what a residual has to be small against.

    In an integral everything under it counts: one that cancels to 0 does so up to the size of its integrand.
    """
    free = {s for s in expression.free_symbols if s not in values}
    if free:
        raise Unsupported(f"no value for {', '.join(sorted(map(str, free)))}")
    usual = QUADRATURE_DIGITS if is_quadrature(expression) else DIGITS
    digits = mp.dps if mp.dps > DIGITS else usual
    with mp.workdps(digits):
        machine, env = Interpreter(functions or {}), dict(values)
        value, size = mpf(0), mpf(0)
        for term in sp.Add.make_args(expression):
            factors = sp.Mul.make_args(term)
            found = [_defined(machine.compile(factor), env) for factor in factors]
            value += _real(mp.fprod(found))
            size += mp.fprod(machine.gross.get(f, abs(v)) for f, v in zip(factors, found, strict=True))
        return value, size


def is_quadrature(*expressions: Expr) -> bool:
    """Whether a value here comes from quadrature (good to about 1e-16, not to 50 digits)."""
    return any(e.has(sp.Integral, Expect) for e in expressions)
