"""What pictures may say: proved claims, and curves that are a claim's own expression."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import sympy as sp
from sympy import Expr

from theory.proof.export import Exported, export


@cache
def proved(claim: str) -> Exported:
    """The claim's export; ValueError unless it is proved."""
    exported = export(claim)
    if exported.status != "proved":
        raise ValueError(f"{claim} is {exported.status}: only proved claims are shown; see `seminar verify {claim}`")
    return exported


def expression(claim: str, part: str | None = None, line: int = -1) -> Expr:
    """A part of a proved claim, or a line of its derivation (by default the last)."""
    exported = proved(claim)
    if part is None:
        return exported.steps[line].expression
    if part not in exported.parts:
        raise ValueError(f"{claim} has no part {part!r}; it has {', '.join(exported.parts) or 'none'}")
    return exported.parts[part].expression


def curve(claim: str, part: str | None = None, line: int = -1) -> Callable[..., np.ndarray]:
    """The same as a numpy function of its symbols by name."""
    return compiled(expression(claim, part, line), claim)


def compiled(expression: Expr, claim: str) -> Callable[..., np.ndarray]:
    """An expression of the claim as a numpy function of its symbols by name."""
    symbols = sorted(expression.free_symbols, key=str)
    lambdified, names = sp.lambdify(symbols, expression, ["scipy", "numpy"]), [str(symbol) for symbol in symbols]

    def function(**values: np.ndarray | float) -> np.ndarray:
        if set(values) != set(names):
            raise ValueError(f"{claim}: a function of {', '.join(names)}; got {', '.join(values)}")
        return lambdified(*(values[name] for name in names))

    return function
