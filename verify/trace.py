"""Torch functions run on SymPy symbols: what does this code compute, as an expression?

A `Traced` stands where a tensor would. Arithmetic, torch functions and tensor methods on it build the expression; an
operation it does not know raises `UntraceableError`. Only elementwise code without branches on data traces.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import sympy as sp
import torch


class UntraceableError(TypeError):
    """The code does something that has no expression here."""


_CALLS: dict[str, Callable[..., Any]] = {
    "sqrt": sp.sqrt,
    "square": lambda x: x**2,
    "rsqrt": lambda x: 1 / sp.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "exp": sp.exp,
    "expm1": lambda x: sp.exp(x) - 1,
    "log": sp.log,
    "log1p": lambda x: sp.log(1 + x),
    "sin": sp.sin,
    "cos": sp.cos,
    "tan": sp.tan,
    "atan": sp.atan,
    "sinh": sp.sinh,
    "cosh": sp.cosh,
    "tanh": sp.tanh,
    "asinh": sp.asinh,
    "sigmoid": lambda x: 1 / (1 + sp.exp(-x)),
    "abs": sp.Abs,
    "neg": lambda x: -x,
    "hypot": lambda x, y: sp.sqrt(x**2 + y**2),
    "pow": lambda x, y: x**y,
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "rsub": lambda x, y: y - x,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / y,
    "true_divide": lambda x, y: x / y,
    "maximum": sp.Max,
    "minimum": sp.Min,
    "clamp": lambda x, min=-sp.oo, max=sp.oo: sp.Min(sp.Max(x, min), max),
    "zeros_like": lambda x: sp.S.Zero,
    "ones_like": lambda x: sp.S.One,
    "full_like": lambda x, value: sp.nsimplify(value),
    "where": lambda c, a, b: sp.Piecewise((a, c), (b, True)),
}


def _plain(x: Any) -> Any:
    """The expression behind a stand-in; exact numbers for constants, simple multiples of pi among them."""
    if isinstance(x, Traced):
        return x.expression
    if not isinstance(x, float):
        return sp.sympify(x)
    turns = Fraction(x / math.pi).limit_denominator(64)
    if turns and abs(x / math.pi - turns) < 1e-15 * abs(turns):
        return sp.Rational(turns.numerator, turns.denominator) * sp.pi
    return sp.nsimplify(x, rational=True)


class Traced:
    """A stand-in for a tensor: an expression that grows with each operation."""

    def __init__(self, expression: Any) -> None:
        self.expression = expression

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func.__name__, *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name in _CALLS:
            return lambda *args, **kwargs: _call(name, self, *args, **kwargs)
        if name in ("dtype", "device", "shape", "ndim"):
            return {"dtype": torch.float64, "device": torch.device("cpu"), "shape": torch.Size([1]), "ndim": 1}[name]
        if name == "is_floating_point":
            return lambda: True
        raise AttributeError(name)

    def __neg__(self) -> Traced:
        return Traced(-self.expression)


def _call(name: str, *args: Any, **kwargs: Any) -> Traced:
    if name not in _CALLS:
        raise UntraceableError(f"{name} has no expression: add one to verify/trace.py, or leave the function untraced")
    return Traced(_CALLS[name](*map(_plain, args), **{k: _plain(v) for k, v in kwargs.items() if v is not None}))


def _operator(build: Callable[[Any, Any], Any], reverse: bool = False) -> Callable[[Traced, Any], Traced]:
    def operate(self: Traced, other: Any) -> Traced:
        a, b = _plain(self), _plain(other)
        return Traced(build(b, a) if reverse else build(a, b))

    return operate


for _name, _build in (("add", "add"), ("sub", "sub"), ("mul", "mul"), ("truediv", "div"), ("pow", "pow")):
    setattr(Traced, f"__{_name}__", _operator(_CALLS[_build]))
    setattr(Traced, f"__r{_name}__", _operator(_CALLS[_build], reverse=True))
_RELATIONS = (("lt", sp.Lt), ("le", sp.Le), ("gt", sp.Gt), ("ge", sp.Ge), ("and", sp.And), ("or", sp.Or))
for _name, _relation in _RELATIONS:
    setattr(Traced, f"__{_name}__", _operator(_relation))


def traced(function: Callable[..., Any], symbols: Mapping[str, sp.Symbol]) -> sp.Expr:
    """The expression a function computes when its parameters are these symbols."""
    out = function(**{name: Traced(symbol) for name, symbol in symbols.items()})
    if not isinstance(out, Traced):
        raise UntraceableError(f"{function} returned {type(out).__name__}, no expression")
    return out.expression
