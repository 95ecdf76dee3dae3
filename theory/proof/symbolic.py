"""The symbolic judge: an expression is zero when the numerator of its normal form expands to 0. Never `simplify`.

The road to the normal form:

1. charts          0 < A < 1 becomes A = w/(1 + w), w > 0: signs are all that SymPy knows
2. derivatives     are carried out; those of unspecified functions become jets, f' a function of its own
3. hypotheses      an evolution equation replaces the jets it speaks of
4. integrals       are split by linearity, constants pulled out, bound variables renamed
5. generators      roots, exponentials, logarithms, jets, integrals become independent symbols with their relations
                   (r^2 = b, sin^2 + cos^2 = 1), and what is left is a rational function over the rationals

An answer of "zero" is a proof. An answer of "not shown" is not a refutation: that is the numeric judge's to give.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sympy as sp
from sympy import Add, Derivative, Dummy, Expr, Integral, Mul, Pow, S, Symbol, exp, log
from sympy.core.function import AppliedUndef

from theory.proof.vocabulary import DOMAINS, Expect, Recursion, Suppose, Var, kind_of

# ------------------------------------------------------------------------------------------------- 1. charts


@lru_cache(maxsize=4096)
def _chart(symbol: Var) -> Expr:
    chart = symbol.domain.chart
    return symbol if chart is None else chart(Dummy(f"w_{symbol}", positive=True))


@lru_cache(maxsize=4096)
def _index(symbol: Symbol, **known: bool) -> Symbol:
    return Dummy(symbol.name, **known)


def _ranged(e: Expr) -> Expr:
    """Every index of a sum or product as a number no smaller than its start, whatever its symbol was declared."""
    if not e.has(sp.Sum, sp.Product):
        return e
    e = e.func(*(_ranged(a) for a in e.args))
    if not isinstance(e, sp.Sum | sp.Product):
        return e
    scope, limits = e.function, list(e.limits)
    for j, (i, low, high) in enumerate(limits):  # the first is the innermost: its ends may know the later ones
        sign = "positive" if low.is_positive else "nonnegative" if low.is_nonnegative else "real"
        index = {i: _index(i, **{sign: True}, **({"integer": True} if low.is_integer else {}))}
        scope = scope.xreplace(index)
        limits[:j] = [(inner, *(end.xreplace(index) for end in ends)) for inner, *ends in limits[:j]]
        limits[j] = (index[i], low, high)
    return e.func(scope, *limits)


def charted(e: Expr) -> Expr:
    """Every symbol of a bounded domain replaced by its chart over w > 0, every index by one that its range allows."""
    e = _ranged(e)
    return e.xreplace({s: _chart(s) for s in e.free_symbols if isinstance(s, Var) and s.domain.chart is not None})


# ------------------------------------------------------------------------------- 2, 3. derivatives and jets


def jet(f: Any, order: tuple[int, ...]) -> Any:
    """The partial derivative of f of the given order in each argument, as a function of its own."""
    base, old = getattr(f, "base", None) or f, getattr(f, "order", None) or (0,) * len(order)
    total = tuple(a + b for a, b in zip(old, order, strict=True))
    if not any(total):
        return base
    # one monotone argument, differentiated once, keeps its sign
    positive = total == (1,) and kind_of(base) in ("increasing", "monotone")
    name = f"{base.__name__}_{''.join(map(str, total))}"
    return sp.Function(
        name, real=True, base=base, order=total, kind="smooth", **({"positive": True} if positive else {})
    )


def _holds_integral(e: Expr) -> bool:
    return e.has(Integral, Expect, Recursion, sp.Sum, sp.Product)


def _through(e: Expr, v: Symbol) -> Expr:
    """d e / dv, stopping at integrals: carrying a derivative under an integral is a rule of its own (leibniz)."""
    if not e.has(v):
        return S.Zero
    if not _holds_integral(e):
        return e.diff(v)
    if e.is_Add:
        return Add(*(_through(a, v) for a in e.args))
    if e.is_Mul:
        return Add(*(Mul(*e.args[:i], _through(a, v), *e.args[i + 1 :]) for i, a in enumerate(e.args)))
    if e.is_Pow and not e.args[1].has(v):
        return e.args[1] * e.args[0] ** (e.args[1] - 1) * _through(e.args[0], v)
    return Derivative(e, v)


def settle(e: Expr) -> Expr:
    """Carry out every derivative that can be, without entering integrals."""
    if not e.args or not e.has(Derivative, sp.Subs):
        return e
    if isinstance(e, sp.Subs):
        inner = settle(e.expr)
        if inner == e.expr and isinstance(inner, Derivative):
            return e
        return inner.subs(dict(zip(e.variables, e.point, strict=True)))
    if isinstance(e, Derivative) and not (isinstance(e.expr, AppliedUndef) and _plain(e)):
        inner = settle(e.expr)
        for v, n in e.variable_count:
            for _ in range(int(n)):
                inner = _through(inner, v)
        return inner
    return e.func(*(settle(a) for a in e.args))


def _plain(e: Derivative) -> bool:
    return all(isinstance(a, Symbol) for a in e.expr.args) and len(set(e.expr.args)) == len(e.expr.args)


def jets(e: Expr, suppose: tuple[Suppose, ...] = ()) -> Expr:
    """Derivatives of unspecified functions as functions of their own; hypotheses applied to the jets they name."""
    e = settle(e)
    for _ in range(12):
        new = _hypotheses(_jets(e), suppose)
        if new == e:
            return e
        e = settle(new)
    return e


def _jets(e: Expr) -> Expr:
    if not e.args:
        return e
    if isinstance(e, sp.Subs):
        inner = _jets(e.expr)
        return inner.subs(dict(zip(e.variables, (_jets(p) for p in e.point), strict=True)))
    if isinstance(e, Derivative) and isinstance(e.expr, AppliedUndef):
        f, args = e.expr.func, e.expr.args
        order = [0] * len(args)
        for v, n in e.variable_count:
            if args.count(v) != 1:
                return e
            order[args.index(v)] += int(n)
        return jet(f, tuple(order))(*args)
    return e.func(*(_jets(a) for a in e.args))


def _hypotheses(e: Expr, suppose: tuple[Suppose, ...]) -> Expr:
    for known in suppose:
        f, places = known.left.expr.func, known.left.expr.args
        at = places.index(known.left.variable_count[0][0])
        for node in e.atoms(AppliedUndef):
            if getattr(node.func, "base", None) != f or node.func.order[at] == 0:
                continue
            rest = list(node.func.order)
            rest[at] -= 1
            right = known.right
            for place, n in zip(places, rest, strict=True):
                right = right.diff(place, n) if n else right
            right = jets(right)
            fresh = {p: Dummy(str(p), real=True) for p in places}
            right = right.xreplace(fresh).xreplace(dict(zip(fresh.values(), node.args, strict=True)))
            e = e.xreplace({node: right})
    return e


# ---------------------------------------------------------------------------------------------- 4. integrals


def canonical(e: Expr, normalised: frozenset[Any] = frozenset()) -> Expr:
    """Integrals and expectations split by linearity, with constants outside and canonical bound variables."""
    if not e.args or not _holds_integral(e):
        return e
    if isinstance(e, Integral):
        inner = canonical(e.function, normalised)
        for x, *limits in e.limits:
            inner = _linear(inner, x, tuple(canonical(v) for v in limits), normalised)
        return inner
    if isinstance(e, Expect):
        return _linear(canonical(e.args[0], normalised), e.args[1], (), normalised)
    if isinstance(e, sp.Product | sp.Sum):
        return _peel(e)
    if isinstance(e, Recursion):
        return e
    e = e.func(*(canonical(a, normalised) for a in e.args))
    return jets(e) if isinstance(e, Derivative) else e  # an integral that has become 1 has a derivative


def _linear(inner: Expr, x: Any, limits: tuple[Expr, ...], normalised: frozenset[Any]) -> Expr:
    """The integral (without limits, the expectation) of a canonical expression, term by term."""
    total = S.Zero
    for term in Add.make_args(_expand(inner)):
        outside, inside = term.as_independent(x, as_Add=False)
        bound = Symbol(_fresh("_b", inside), real=True)
        inside = inside.xreplace({x: bound})
        if not limits:
            total += outside * (inside if inside == 1 else Expect(inside, bound))
        elif _is_density(inside, bound, normalised):
            total += outside
        else:
            total += outside * Integral(inside, (bound, *limits))
    return total


def _fresh(prefix: str, inside: Expr) -> str:
    """A bound variable's canonical name: numbered by depth, so that what stands inside keeps its own."""
    depths = (int(s.name[2:]) + 1 for s in inside.atoms(Symbol) if s.name[:2] == prefix and s.name[2:].isdigit())
    return f"{prefix}{max(depths, default=0)}"


def _is_density(e: Expr, x: Symbol, normalised: frozenset[Any]) -> bool:
    """Whether e is p(x, ...) or p(-x, ...) of a density p, with x nowhere else."""
    applied = isinstance(e, AppliedUndef) and e.func in normalised and e.args[0] in (x, -x)
    return applied and not any(a.has(x) for a in e.args[1:])


def _peel(e: Any) -> Expr:
    """A product (sum) up to n + c, c a positive whole number, is the one up to n times (plus) c more factors.

    Where the one up to n may be over no factor at all, it is over none, not over fewer: n + 1 is not below the start.
    """
    (i, low, high), *rest = e.limits
    function = canonical(e.function)
    if rest:
        return e
    join: Any = Mul if isinstance(e, sp.Product) else Add
    if (high - low).is_Integer:
        return join(*(function.subs(i, low + j) for j in range(int(high - low) + 1)))
    c, n = high.as_coeff_Add()
    peels = c.is_Integer and c > 0 and (n + 1 - low).is_nonnegative
    extra = [function.subs(i, n + j) for j in range(1, int(c) + 1)] if peels else []
    top = n if extra else high
    terms = Add.make_args(_expand(function)) if join is Add else Mul.make_args(function)
    return join(*(_over_range(e.func, t, i, low, top) for t in terms), *extra)


def _over_range(kind: Any, term: Expr, i: Symbol, low: Expr, high: Expr) -> Expr:
    """The sum (product) of one canonical term, its index renamed."""
    bound = Symbol(_fresh("_k", term), integer=True)
    return kind(term.xreplace({i: bound}), (bound, low, high))


# --------------------------------------------------------------------------------------------- 5. generators


def _split_log(e: Expr) -> Expr:
    def split(argument: Expr) -> Expr:
        return sp.expand_log(log(sp.factor(sp.together(argument))), force=False)

    return e.replace(lambda n: isinstance(n, log), lambda n: split(n.args[0]))


def _expand(e: Expr) -> Expr:
    return sp.expand(_split_log(e))


@dataclass
class Generators:
    """Independent symbols standing for all that is not rational, with the relations among them."""

    known: dict[Any, Symbol] = field(default_factory=dict)
    relations: dict[Symbol, tuple[int, Expr]] = field(default_factory=dict)  # g -> (q, b): g^q = b
    circles: dict[Symbol, Symbol] = field(default_factory=dict)  # s -> c: s^2 = 1 - c^2
    roots: dict[Expr, int] = field(default_factory=dict)  # monomial m -> L: exp(m / (L divisor)) is the generator
    divisor: Expr = S.One  # of all exponents: over it they are polynomials, whose monomials are independent

    def new(self, key: Any, positive: bool = False) -> Symbol:
        if key not in self.known:
            self.known[key] = Dummy(f"g{len(self.known)}", **({"positive": True} if positive else {"real": True}))
        return self.known[key]

    def rational(self, e: Expr) -> Expr:
        if e.is_Rational:
            return e
        if e.is_Symbol:
            return e
        if e.is_Add or e.is_Mul:
            return e.func(*(self.rational(a) for a in e.args))
        if isinstance(e, exp):
            return self._exponential(e.args[0])
        if e.is_Pow:
            return self._power(e.args[0], e.args[1])
        if isinstance(e, sp.sin | sp.cos):
            angle = sp.expand(e.args[0])
            sine, cosine = self.new(("sin", angle)), self.new(("cos", angle))
            self.circles[sine] = cosine
            return sine if isinstance(e, sp.sin) else cosine
        if isinstance(e, AppliedUndef):
            return self.new((e.func, tuple(sp.cancel(sp.together(a)) for a in e.args)), bool(e.is_positive))
        return self.new(e, bool(e.is_positive))

    def _power(self, base: Expr, exponent: Expr) -> Expr:
        if exponent.is_Integer:
            return self.rational(base) ** exponent
        if not exponent.is_Rational:
            return self._exponential(exponent * log(base))
        q, p = exponent.q, exponent.p  # type: ignore[attr-defined]
        out, rest = S.One, S.One  # sqrt(a b) = sqrt(a) sqrt(b) where one of them is not negative, and else left whole
        for factor in Mul.make_args(sp.factor(sp.together(base))):
            b, k = factor.as_base_exp()
            if not (k.is_Integer and b.is_positive):
                b, k = factor, S.One
            if b.is_nonnegative:
                out *= self._root(b, q) ** (p * k)
            else:
                rest *= b
        return out if rest == 1 else out * self._root(rest, q) ** p

    def _root(self, b: Expr, q: Any) -> Symbol:
        root = self.new(("root", b, q), bool(b.is_positive))
        self.relations.setdefault(root, (int(q), self.rational(b)))
        return root

    def _exponential(self, exponent: Expr) -> Expr:
        out = S.One
        terms = Add.make_args(_expand(exponent))
        logs = [t for t in terms if isinstance(t.as_coeff_Mul()[1], log)]
        for c, m in (t.as_coeff_Mul() for t in logs):
            out *= self._power(m.args[0], c)
        rest = Add(*(t for t in terms if t not in logs))
        for term in Add.make_args(_expand(sp.cancel(rest * self.divisor) if self.divisor != 1 else rest)):
            c, m = term.as_coeff_Mul()
            if not c.is_Rational:
                c, m = S.One, term
            bottom = self.roots.setdefault(m, int(c.q))  # type: ignore[attr-defined]
            if (c * bottom).is_Integer:
                out *= self.new(("exp", m, bottom), True) ** (c * bottom)
            else:  # a finer root is needed: e^(m/L) with the common denominator, tied to the coarser one
                finer = int(sp.ilcm(bottom, c.q))  # type: ignore[attr-defined]
                coarse, fine = self.new(("exp", m, bottom), True), self.new(("exp", m, finer), True)
                self.relations[coarse] = (1, fine ** (finer // bottom))
                self.roots[m] = finer
                out *= fine ** (c * finer)
        return out

    def reduce(self, e: Expr) -> Expr:
        """The numerator of a rational expression, reduced by all relations until nothing changes."""
        numerator = sp.expand(sp.fraction(sp.together(e))[0])
        for _ in range(8):
            before = numerator
            for g, (q, b) in list(self.relations.items()):
                if numerator.has(g):
                    terms = sp.Poly(numerator, g).terms()
                    numerator = Add(*(c * g ** (k % q) * b ** (k // q) for (k,), c in terms))
                    numerator = sp.expand(sp.fraction(sp.together(numerator))[0])
            for s, c in self.circles.items():
                if numerator.has(s):
                    terms = sp.Poly(numerator, s).terms()
                    numerator = sp.expand(Add(*(a * s ** (k % 2) * (1 - c**2) ** (k // 2) for (k,), a in terms)))
            if numerator == before:
                return numerator
        return numerator


_TO_EXP = (sp.sinh, sp.cosh, sp.tanh)


def _opaque(e: Expr, generators: Generators) -> Expr:
    """Whole integrals, recursions and products become symbols of their own."""
    if isinstance(e, Integral | Expect | Recursion | sp.Sum | sp.Product | Derivative):
        return generators.new(("whole", e), bool(e.is_positive))
    if not e.args or not _holds_integral(e):
        return e
    return e.func(*(_opaque(a, generators) for a in e.args))


def _divisor(e: Expr) -> Expr:
    """The least common multiple of what the exponents in e divide by."""
    exponents = (Add(*(t for t in Add.make_args(n.args[0]) if not t.has(log))) for n in e.atoms(exp))
    return sp.lcm_list([sp.fraction(sp.together(x))[1] for x in exponents] or [S.One])


def _rationally_zero(e: Expr) -> bool:
    generators = Generators()
    e = _opaque(e, generators)
    for f in _TO_EXP:
        e = e.replace(f, lambda a, f=f: f(a).rewrite(exp))
    e = e.replace(sp.tan, lambda a: sp.sin(a) / sp.cos(a))
    e = _split_log(e)
    generators.divisor = _divisor(e)
    return generators.reduce(generators.rational(e)) == 0


def is_zero(e: Expr, suppose: tuple[Suppose, ...] = (), normalised: frozenset[Any] = frozenset()) -> bool:
    """Whether the expression vanishes identically on its domain. True is a proof, False is "not shown"."""
    e = charted(jets(sp.sympify(e), suppose))
    if e == 0:
        return True
    if not _holds_integral(e):
        return _rationally_zero(e)
    if _rationally_zero(canonical(e, normalised)):
        return True
    rest, groups = integrands(e)
    return (
        bool(groups)
        and _rationally_zero(canonical(rest, normalised))
        and all(is_zero(g, suppose, normalised) for _, g in groups.values())
    )


def integrands(e: Expr) -> tuple[Expr, dict[Any, tuple[Symbol, Expr]]]:
    """Write e = rest + sum over (kind, limits) of one integral each: its variable and its merged integrand.

    Sufficient for e = 0: rest = 0 and every merged integrand = 0 (linearity of the integral, read backwards).
    """
    groups: dict[Any, tuple[Symbol, Expr]] = {}
    rest = S.Zero
    for term in Add.make_args(sp.expand(e, deep=False)):
        factors = Mul.make_args(term)
        whole = [f for f in factors if isinstance(f, Integral | Expect)]
        others = Mul(*(f for f in factors if not isinstance(f, Integral | Expect)))
        if len(whole) != 1 or _holds_integral(others):
            rest += term
            continue
        node: Any = whole[0]
        if isinstance(node, Integral):
            (x, a, b), *outer = node.limits
            inner: Expr = node.function
            if outer:  # the outermost limits are merged over, the inner integral stays in the integrand
                (x, a, b) = outer[-1]
                inner = Integral(node.function, *node.limits[:-1])
            key = ("integral", a, b)
        else:
            inner, x = node.args
            key = ("expect", None, None)
        merged, sum_so_far = groups.get(key, (Dummy(x.name, real=True), S.Zero))
        groups[key] = merged, sum_so_far + others * inner.xreplace({x: merged})
    return rest, groups


def opaque(left: Expr, right: Expr, suppose: tuple[Suppose, ...] = ()) -> tuple[Expr, Expr]:
    """Both sides with each integral, expectation, recursion (in canonical form) replaced by one unknown number."""
    unknown: dict[Expr, Symbol] = {}

    def hide(e: Expr) -> Expr:
        if isinstance(e, Integral | Expect | Recursion | sp.Sum | sp.Product | Derivative):
            return unknown.setdefault(e, Var(f"I_{len(unknown)}", DOMAINS["real"]))
        return e.func(*(hide(a) for a in e.args)) if e.args and _holds_integral(e) else e

    sides = [jets(e, suppose) for e in (left, right)]
    if not any(_holds_integral(e) for e in sides):
        return sides[0], sides[1]
    hidden = [hide(canonical(e)) for e in sides]
    return hidden[0], hidden[1]


# ------------------------------------------------------------------------------------------------------ signs


def is_nonnegative(e: Expr) -> bool:
    """Whether e >= 0 can be read off its form: sums and products of squares and positives, and sums over them."""
    e = charted(jets(e))
    return _reads_nonnegative(e) or _reads_nonnegative(sp.factor(sp.together(e)))


def _reads_nonnegative(e: Expr) -> bool:
    if e.is_nonnegative:
        return True
    if e.is_Add:
        return all(_reads_nonnegative(a) for a in e.args)
    if e.is_Mul:
        return all(_reads_nonnegative(a) for a in e.args) or (-e).is_nonpositive is True
    if e.is_Pow:
        return bool(e.args[1].is_even and _is_real(e.args[0])) or _reads_nonnegative(e.args[0])
    if isinstance(e, Integral):
        ordered = all(a == -sp.oo or b == sp.oo or (b - a).is_nonnegative for _, a, b in e.limits)
        return ordered and _reads_nonnegative(_over_all(e.function, {x: a for x, a, _ in e.limits}))
    if isinstance(e, Expect):
        return _reads_nonnegative(_over_all(e.args[0], {e.args[1]: -sp.oo}))
    if isinstance(e, sp.Sum):
        return all((b + 1 - a).is_nonnegative for _, a, b in e.limits) and _reads_nonnegative(e.function)
    return isinstance(e, exp)


def _over_all(e: Expr, starts: dict[Any, Expr]) -> Expr:
    """e for any value of its bound variables, whatever their symbols were declared; each runs from its start."""
    return e.xreplace(
        {x: Dummy(**({"positive": True} if a.is_nonnegative else {"real": True})) for x, a in starts.items()}
    )


def _is_real(e: Expr) -> bool:
    """SymPy does not say that an integral of real functions is real."""
    return bool(e.xreplace({i: Dummy(real=True) for i in e.atoms(Integral, Expect)}).is_real)


def is_nonzero(e: Expr) -> bool:
    """Whether e != 0 can be read off its form."""
    e = charted(jets(e))
    return bool(e.is_nonzero or e.is_positive or e.is_negative or sp.factor(sp.together(e)).is_nonzero)


def denominators(expressions: Iterable[Expr]) -> list[Expr]:
    """What the expressions divide by, once each."""
    found: dict[Expr, None] = {}
    for e in expressions:
        for power in e.atoms(Pow):
            exponent = power.args[1]
            if exponent.is_negative or (exponent.could_extract_minus_sign() and not exponent.is_positive):
                found[power.args[0]] = None
    return list(found)
