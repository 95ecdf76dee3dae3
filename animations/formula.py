"""Formulas on the screen, and curves, from proved claims only.

A scene names a claim; what is typeset is the claim's own Typst export, and what is plotted is the claim's own
expression. A claim that is not proved, or only conditionally, is refused: nothing unproved is ever shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import sympy as sp
from theory.proof.export import Exported, Written, export
from theory.proof.writing import write

from animations import style
from animations.text import Typeset

HUES = {"x_0": style.DATA, "eps": style.NOISE, "D": style.MODEL}  # what a symbol is, in every scene


@cache
def proved(claim: str) -> Exported:
    """The claim's export; ValueError unless it is proved."""
    exported = export(claim)
    if exported.status != "proved":
        raise ValueError(f"{claim} is {exported.status}: scenes show proved claims only; see `seminar verify {claim}`")
    return exported


def written(claim: str, part: str | None = None, line: int = -1) -> Written:
    """A part of a proved claim, or a line of its derivation (by default the last)."""
    exported = proved(claim)
    if part is None:
        return exported.steps[line]
    if part not in exported.parts:
        raise ValueError(f"{claim} has no part {part!r}; it has {', '.join(exported.parts) or 'none'}")
    return exported.parts[part]


class Formula(Typeset):
    """Typeset mathematics; `claim` says whose."""

    def __init__(self, typst: str, claim: str, size: float = style.FORMULA, hue: str = style.INK) -> None:
        self.claim = claim
        super().__init__(f"$ {_coloured(typst)} $", size, hue)


def formula(claim: str, part: str | None = None, line: int = -1, size: float = style.FORMULA) -> Formula:
    """A part or a line of a proved claim."""
    return Formula(written(claim, part, line).typst, claim, size)


def equation(claim: str, size: float = style.FORMULA) -> Formula:
    """What the claim says: its first line = its last."""
    return Formula(f"{written(claim, line=0).typst} = {written(claim).typst}", claim, size)


def quantity(claim: str, expression: str, size: float = style.LABEL, hue: str = style.QUIET) -> Formula:
    """A subexpression of the claim (up to its sign), by its plain form ("sigma_t/alpha_t"): a label for what is plotted."""
    for node in sp.preorder_traversal(written(claim).expression):
        for signed in (node, -node):
            if write(signed) == expression:
                return Formula(write(signed, "typst"), claim, size, hue)
    raise ValueError(f"{claim} does not contain {expression}")


def evaluate(claim: str, part: str | None = None) -> Callable[..., np.ndarray]:
    """A part of the claim, or its last line, as a numpy function of its symbols by name."""
    expression = written(claim, part).expression
    symbols = sorted(expression.free_symbols, key=str)
    compiled, names = sp.lambdify(symbols, expression, "numpy"), [str(symbol) for symbol in symbols]

    def function(**values: np.ndarray | float) -> np.ndarray:
        if set(values) != set(names):
            raise ValueError(f"{claim} is a function of {', '.join(names)}; got {', '.join(values)}")
        return compiled(*(values[name] for name in names))

    return function


def order(claim: str) -> int:
    """n of the claim's sharp `up to O(h^n)`: the power of the first term it leaves out."""
    for step in proved(claim).steps:
        if step.error is not None:
            return int(re.search(r"\^(\d+)\)$", step.beyond)[1]) - 1  # what comes after it is O(h^(n+1))
    raise ValueError(f"{claim} holds exactly, not up to a power of the step")


def _coloured(typst: str, symbols: Iterable[tuple[str, str]] = tuple(HUES.items())) -> str:
    """Typst source with whole symbols in their hue; a longer name that contains one is left alone."""
    for symbol, hue in symbols:
        name = rf"(?<![\w._\"]){re.escape(write(sp.Symbol(symbol), 'typst'))}(?![\w._(\"])"
        typst = re.sub(name, lambda found, hue=hue: f'text(fill: #rgb("{hue}"), {found[0]})', typst)
    return typst
