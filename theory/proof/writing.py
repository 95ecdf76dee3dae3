"""How formulas are written: LaTeX, Typst and plain text from one description of names and shapes.

SymPy has no Typst printer, and its LaTeX prints the derivative of a product without brackets; both are mended here.
A printer walks the tree once; a `Style` says what a fraction, a root or an integral looks like. Subexpressions given
a label come out as `{{ expr : label }}` in Typst, which an animation can address.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy as sp
from sympy import Add, Derivative, Expr, Integral, Mul, Pow, Symbol, exp, log, oo
from sympy.core.function import AppliedUndef

from theory.proof.vocabulary import Expect, Recursion, kind_of

_LETTERS = """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau phi chi psi
omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"""
GREEK = frozenset(_LETTERS.split())
MARKS = {"bar", "hat", "tilde", "dot"}
SPELLED = {"eps": "epsilon", "lam": "lambda"}


@dataclass(frozen=True)
class Style:
    """One way of setting formulas; every entry is a template or a small function."""

    name: str
    fraction: Callable[[str, str], str]
    power: Callable[[str, str], str]
    root: Callable[[str, str], str]
    sub: Callable[[str, str], str]
    mark: Callable[[str, str], str]
    greek: Callable[[str], str]
    upright: Callable[[str], str]
    group: Callable[[str], str]
    function: Callable[[str, str], str]
    derivative: Callable[[list[tuple[str, int]], str, int], str]
    integral: Callable[[str, str, str, str], str]
    big: Callable[[str, str, str, str], str]
    expectation: Callable[[str, str], str]
    infinity: str
    dot: str
    exponential: Callable[[str], str]
    absolute: Callable[[str], str]


def _latex_derivative(variables: list[tuple[str, int]], body: str, order: int) -> str:
    top = r"\partial" + (f"^{{{order}}}" if order > 1 else "")
    bottom = r"\,".join(rf"\partial {v}" + (f"^{{{n}}}" if n > 1 else "") for v, n in variables)
    return rf"\frac{{{top}}}{{{bottom}}}{body}"


LATEX = Style(
    name="latex",
    fraction=lambda a, b: rf"\frac{{{a}}}{{{b}}}",
    power=lambda a, b: f"{a}^{{{b}}}",
    root=lambda a, n: rf"\sqrt{{{a}}}" if n == "2" else rf"\sqrt[{n}]{{{a}}}",
    sub=lambda a, b: f"{a}_{{{b}}}",
    mark=lambda a, m: rf"\{m}{{{a}}}",
    greek=lambda g: rf"\{g}",
    upright=lambda w: rf"\mathrm{{{w}}}",
    group=lambda a: rf"\left({a}\right)",
    function=lambda f, a: rf"{f}\left({a}\right)",
    derivative=_latex_derivative,
    integral=lambda f, x, a, b: rf"\int_{{{a}}}^{{{b}}} {f}\,\mathrm{{d}}{x}",
    big=lambda op, f, a, b: rf"\{'sum' if op == 'sum' else 'prod'}_{{{a}}}^{{{b}}} {f}",
    expectation=lambda f, u: rf"\mathbb{{E}}_{{{u}}}\!\left[{f}\right]",
    infinity=r"\infty",
    dot=r" ",
    exponential=lambda a: f"e^{{{a}}}",
    absolute=lambda a: rf"\left|{a}\right|",
)


def _typst_derivative(variables: list[tuple[str, int]], body: str, order: int) -> str:
    top = "partial" + (f"^{order}" if order > 1 else "")
    bottom = " ".join(f"partial {v}" + (f"^{n}" if n > 1 else "") for v, n in variables)
    return f"({top}) / ({bottom}) {body}"


TYPST = Style(
    name="typst",
    fraction=lambda a, b: f"frac({a}, {b})",
    power=lambda a, b: f"{a}^({b})",
    root=lambda a, n: f"sqrt({a})" if n == "2" else f"root({n}, {a})",
    sub=lambda a, b: f"{a}_({b})",
    mark=lambda a, m: f"{ {'bar': 'macron', 'hat': 'hat', 'tilde': 'tilde', 'dot': 'dot'}[m] }({a})",
    greek=lambda g: g,
    upright=lambda w: f'"{w}"',
    group=lambda a: f"lr(({a}))",
    function=lambda f, a: f"{f} lr(({a}))",
    derivative=_typst_derivative,
    integral=lambda f, x, a, b: f"integral_({a})^({b}) {f} dif {x}",
    big=lambda op, f, a, b: f"{'sum' if op == 'sum' else 'product'}_({a})^({b}) {f}",
    expectation=lambda f, u: f"bb(E)_({u}) lr([{f}])",
    infinity="oo",
    dot=" ",
    exponential=lambda a: f"e^({a})",
    absolute=lambda a: f"abs({a})",
)


def _plain_derivative(variables: list[tuple[str, int]], body: str, order: int) -> str:
    bottom = " d".join(f"{v}^{n}" if n > 1 else v for v, n in variables)
    return f"d{order if order > 1 else ''}/d{bottom} {body}"


PLAIN = Style(
    name="plain",
    fraction=lambda a, b: f"{a}/{b}",
    power=lambda a, b: f"{a}^{b}",
    root=lambda a, n: f"sqrt({a})" if n == "2" else f"({a})^(1/{n})",
    sub=lambda a, b: f"{a}_{b}",
    mark=lambda a, m: f"{a}_{m}",
    greek=lambda g: g,
    upright=lambda w: w,
    group=lambda a: f"({a})",
    function=lambda f, a: f"{f}({a})",
    derivative=_plain_derivative,
    integral=lambda f, x, a, b: f"int({f}, {x} = {a} .. {b})",
    big=lambda op, f, a, b: f"{op}({f}, {a} .. {b})",
    expectation=lambda f, u: f"E_{u}[{f}]",
    infinity="oo",
    dot=" * ",
    exponential=lambda a: f"exp({a})",
    absolute=lambda a: f"|{a}|",
)
STYLES = {s.name: s for s in (LATEX, TYPST, PLAIN)}

_ADD, _MUL, _POW, _ATOM = 1, 2, 3, 4  # how tightly what was written binds


@dataclass(frozen=True)
class Writer:
    """Writes one expression in one style; `labels` marks subexpressions (Typst only)."""

    style: Style
    labels: Mapping[Expr, str] = field(default_factory=dict)

    def __call__(self, e: Any) -> str:
        return self._write(sp.sympify(e))[0]

    def name(self, name: str, *indices: str) -> str:
        """alpha_bar_t -> the Greek letter with its mark and its subscript, to which a sequence's indices are added."""
        s = self.style
        if s.name == "plain":
            return name
        base, *rest = [part for part in name.lstrip("_").split("_") if part] or [name]
        base = SPELLED.get(base, base)
        digits = base[len(base.rstrip("0123456789")) :]
        if digits and base != digits:
            base, rest = base[: -len(digits)], [digits, *rest]
        out = s.greek(base) if base in GREEK else (base if len(base) == 1 else s.upright(base))
        for mark in [r for r in rest if r in MARKS]:
            out = s.mark(out, mark)
        below = [SPELLED.get(r, r) for r in rest if r not in MARKS]
        told = [s.greek(b) if b in GREEK else (b if len(b) == 1 or b.isdigit() else s.upright(b)) for b in below]
        return s.sub(out, ", ".join([*told, *indices])) if told or indices else out

    def _in(self, e: Expr, level: int) -> str:
        text, binds = self._write(e)
        return self.style.group(text) if binds < level else text

    def _write(self, e: Expr) -> tuple[str, int]:
        if e in self.labels and self.style.name == "typst":
            inner, binds = Writer(self.style, {k: v for k, v in self.labels.items() if k != e})._write(e)
            return f"{{{{ {inner} : {self.labels[e]} }}}}", binds
        for kind, write in self._table():
            if isinstance(e, kind):
                return write(e)
        if isinstance(e, sp.Function):
            return self.style.function(self._function_name(type(e).__name__), self._list(e.args)), _ATOM
        return str(e), _ATOM

    def _table(self) -> list[tuple[Any, Callable[[Any], tuple[str, int]]]]:
        s = self.style
        return [
            (Symbol, lambda e: (self.name(e.name), _ATOM)),
            (sp.Integer, lambda e: (str(e), _ATOM if e >= 0 else _ADD)),
            (sp.Rational, lambda e: self._rational(e)),
            (sp.core.numbers.Infinity, lambda e: (s.infinity, _ATOM)),
            (sp.core.numbers.NegativeInfinity, lambda e: (f"-{s.infinity}", _ADD)),
            (sp.core.numbers.Pi, lambda e: (s.greek("pi"), _ATOM)),
            (sp.core.numbers.Exp1, lambda e: ("e", _ATOM)),
            (Add, self._add),
            (exp, lambda e: (s.exponential(self(e.args[0])), _POW)),
            (Mul, self._mul),
            (Pow, self._pow),
            (log, lambda e: (s.function(self._function_name("log"), self(e.args[0])), _ATOM)),
            (AppliedUndef, self._applied),
            (Derivative, self._derivative),
            (sp.Subs, self._subs),
            (Integral, self._integral),
            (Expect, lambda e: (s.expectation(self(e.args[0]), self(e.args[1])), _ATOM)),
            (sp.Sum, lambda e: self._big("sum", e)),
            (sp.Product, lambda e: self._big("product", e)),
            (Recursion, self._recursion),
            (sp.Abs, lambda e: (s.absolute(self(e.args[0])), _ATOM)),
        ]

    def _function_name(self, name: str) -> str:
        known = {"log", "sin", "cos", "tan", "exp", "min", "max", "tanh", "sinh", "cosh"}
        if name.lower() in known:
            return {"latex": rf"\{name.lower()}", "typst": name.lower(), "plain": name.lower()}[self.style.name]
        return self.style.upright(name)

    def _list(self, args: Any) -> str:
        return ", ".join(self(a) for a in args)

    def _rational(self, e: sp.Rational) -> tuple[str, int]:
        sign = "-" if e < 0 else ""
        return sign + self.style.fraction(str(abs(e.p)), str(e.q)), (_ADD if sign else self._fraction_binds())

    def _fraction_binds(self) -> int:
        return _MUL if self.style.name == "plain" else _POW

    def _add(self, e: Add) -> tuple[str, int]:
        terms = sorted(e.as_ordered_terms(), key=lambda t: t.could_extract_minus_sign())
        out = ""
        for term in terms:
            minus = term.could_extract_minus_sign()
            text = self._in(-term if minus else term, _MUL)
            out += (f" - {text}" if out else f"-{text}") if minus else (f" + {text}" if out else text)
        return out, _ADD

    def _mul(self, e: Mul) -> tuple[str, int]:
        c, rest = e.as_coeff_Mul()
        if c.is_negative:
            return "-" + self._in(Mul(-c, rest), _MUL), _ADD
        above, below = [], []
        for factor in e.as_ordered_factors():
            power = factor.args[1] if factor.is_Pow and not isinstance(factor, exp) else None
            if factor.is_Rational:
                above += [sp.Integer(factor.p)] if factor.p != 1 else []
                below += [sp.Integer(factor.q)] if factor.q != 1 else []
            elif power is not None and (power.is_negative or power.could_extract_minus_sign()):
                below.append(factor.args[0] ** (-power))
            else:
                above.append(factor)
        if not below:
            return self._product(above), _MUL
        plain = self.style.name == "plain"
        top = self._product(above, outer=plain or len(above) > 1)
        bottom = self._product(below, outer=plain or len(below) > 1)
        if plain and len(below) > 1:
            bottom = f"({bottom})"
        return self.style.fraction(top, bottom), self._fraction_binds() if not plain else _MUL

    def _product(self, factors: list[Expr], outer: bool = True) -> str:
        if not factors:
            return "1"
        if len(factors) == 1:
            return self._in(factors[0], _MUL) if outer else self(factors[0])
        late = [f for f in factors if isinstance(f, Integral | sp.Sum | sp.Product)]
        ordered = [f for f in factors if f not in late] + late
        return self.style.dot.join(self._in(f, _POW if not f.is_Mul else _MUL) for f in ordered)

    def _pow(self, e: Pow) -> tuple[str, int]:
        base, power = e.args
        if power.is_negative or power.could_extract_minus_sign():
            bottom = base ** (-power)
            text = self._in(bottom, _POW) if self.style.name == "plain" else self(bottom)
            return self.style.fraction("1", text), self._fraction_binds()
        if power.is_Rational and not power.is_Integer:
            p, q = power.p, power.q  # type: ignore[attr-defined]
            root = self.style.root(self(base), str(q))
            return (root, _ATOM) if p == 1 else (self.style.power(root, str(p)), _POW)
        inner = self._in(base, _ATOM)
        exponent = self(power)
        if self.style.name == "plain" and not power.is_Atom:
            exponent = f"({exponent})"
        return self.style.power(inner, exponent), _POW

    def _applied(self, e: AppliedUndef) -> tuple[str, int]:
        if kind_of(e.func).startswith("sequence") and self.style.name != "plain":
            return self.name(e.func.__name__, *map(self, e.args)), _ATOM
        base, order = getattr(e.func, "base", None), getattr(e.func, "order", None)
        name = self.name((base or e.func).__name__)
        if order is not None and len(order) == 1:
            name += "'" * order[0]
        elif order is not None:
            name = self.style.sub(name, "".join(map(str, order)))
        return self.style.function(name, self._list(e.args)), _ATOM

    def _derivative(self, e: Derivative) -> tuple[str, int]:
        variables = [(self(v), int(n)) for v, n in e.variable_count]
        body = self._in(e.expr, _ATOM)  # brackets around a product: d(f g)/dx, never d f/dx g
        return self.style.derivative(variables, body, sum(n for _, n in variables)), _MUL

    def _subs(self, e: sp.Subs) -> tuple[str, int]:
        at = ", ".join(f"{self(v)} = {self(p)}" for v, p in zip(e.variables, e.point, strict=True))
        return self.style.sub(self.style.group(self(e.expr)), at), _ATOM

    def _integral(self, e: Integral) -> tuple[str, int]:
        text = self._in(e.function, _MUL)
        for x, *limits in e.limits:
            low, high = limits if len(limits) == 2 else (-oo, oo)
            text = self.style.integral(text, self(x), self(low), self(high))
        return text, _MUL

    def _big(self, op: str, e: Any) -> tuple[str, int]:
        text = self._in(e.function, _MUL)
        for i, low, high in e.limits:
            text = self.style.big(op, text, f"{self(i)} = {self(low)}", self(high))
        return text, _MUL

    def _recursion(self, e: Recursion) -> tuple[str, int]:
        step, y, k, start, n = e.args
        s = self.style
        rule = f"{s.sub(self(y), self(k) + '+1')} = {self(step.xreplace({y: Symbol(f'{y}_{k}')}))}"
        base = f"{s.sub(self(y), '0')} = {self(start)}"
        return f"{s.sub(self(y), self(n))}" + s.group(f"{base}, {rule}"), _ATOM


def write(e: Any, style: str = "plain", labels: Mapping[Expr, str] | None = None) -> str:
    """An expression in "latex", "typst" or "plain"."""
    if style not in STYLES:
        raise ValueError(f"write(..., style={style!r}): the styles are {', '.join(STYLES)}")
    return Writer(STYLES[style], labels or {})(e)
