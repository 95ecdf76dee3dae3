"""Formulas on the screen, and curves, from proved claims only.

A scene names a claim; what is typeset is the claim's own Typst export, and what is plotted is the claim's own
expression. A claim that is not proved, or only conditionally, is refused: nothing unproved is ever shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import sympy as sp
from sympy import Expr

from animations import style
from animations.claims import compiled, expression, proved
from animations.text import Typeset
from theory.proof.writing import write

HUES = {"x_0": style.DATA, "x_t": style.NOISE, "eps": style.NOISE, "mean": style.MODEL, "variance": style.MODEL}


class Formula(Typeset):
    """Typeset mathematics; `claim` says whose."""

    def __init__(self, typst: str, claim: str, size: float = style.FORMULA, hue: str = style.INK) -> None:
        self.claim = claim
        super().__init__(f"$ {typst} $", size, hue)


@dataclass(frozen=True)
class Said:
    """An expression that a proved claim says: a line of it, a part, or a piece of these."""

    claim: str
    expression: Expr

    def formula(self, size: float = style.FORMULA, hue: str = style.INK) -> Formula:
        """On the screen; symbols have their hue, unless all is in another hue than ink."""
        typst = write(self.expression, "typst")
        return Formula(_coloured(typst) if hue == style.INK else typst, self.claim, size, hue)

    def function(self) -> Callable[..., np.ndarray]:
        """As a numpy function of its symbols by name."""
        return compiled(self.expression, self.claim)

    def piece(self, plain: str) -> Said:
        """A subexpression, up to its sign, by its plain form: "sigma_t/alpha_t"."""
        for node in sp.preorder_traversal(self.expression):
            for signed in (node, -node):
                if write(signed) == plain:
                    return Said(self.claim, signed)
        raise ValueError(f"{self.claim} does not contain {plain}")

    def terms(self, *symbols: str) -> Said:
        """The sum of those of its summands that contain all these symbols."""
        chosen = [a for a in sp.Add.make_args(self.expression) if set(symbols) <= {s.name for s in a.free_symbols}]
        if not chosen:
            raise ValueError(f"{self.claim}: no summand of {write(self.expression)} contains {', '.join(symbols)}")
        return Said(self.claim, sp.Add(*chosen))

    def coefficient(self, symbol: str, power: int) -> Said:
        """Of symbol^power in a polynomial, written with factors that are positive for symbols near 1/2."""
        (x,) = [s for s in self.expression.free_symbols if s.name == symbol]
        coefficient, sign = sp.factor(sp.Poly(sp.expand(self.expression), x).coeff_monomial(x**power)), 1
        factors = []
        for factor in sp.Mul.make_args(coefficient):
            base, exponent = factor.as_base_exp()
            if base.is_Add and exponent.is_odd and base.subs(dict.fromkeys(base.free_symbols, sp.Rational(1, 2))) < 0:
                base, sign = -base, -sign
            factors.append(base**exponent)
        return Said(self.claim, sign * sp.Mul(*factors))


def said(claim: str, part: str | None = None, line: int = -1) -> Said:
    """A part of a proved claim, or a line of its derivation (by default the last)."""
    return Said(claim, expression(claim, part, line))


def equation(left: Said, right: Said, size: float = style.FORMULA) -> Formula:
    """Two lines of one chain, or a name and what it stands for."""
    return Formula(
        _coloured(f"{write(left.expression, 'typst')} = {write(right.expression, 'typst')}"), right.claim, size
    )


def definition(claim: str, part: str, size: float = style.FORMULA) -> Formula:
    """part = its expression."""
    return equation(Said(claim, sp.Symbol(part)), said(claim, part), size)


def balance(terms: Sequence[tuple[Said, str]], total: tuple[Said, str], size: float = style.FORMULA) -> Formula:
    """a + b = c, each in its own hue: what several terms give, and what the result must have."""
    left = ""
    for term, hue in terms:
        minus = term.expression.could_extract_minus_sign()
        sign = "-" if minus else "+" if left else ""
        left += f"{sign} {_in_hue(write(-term.expression if minus else term.expression, 'typst'), hue)} "
    return Formula(f"{left} = {_in_hue(write(total[0].expression, 'typst'), total[1])}", total[0].claim, size)


def orders(claim: str) -> tuple[int, ...]:
    """n of each sharp `up to O(h^n)` in the claim: the power of the first term that the line leaves out."""
    found = tuple(_power_beyond(step.beyond) - 1 for step in proved(claim).steps if step.error is not None)
    if not found:
        raise ValueError(f"{claim} holds exactly, not up to a power of the step")
    return found


def _power_beyond(beyond: str) -> int:
    """ "O(h^3)" -> 3."""
    return int(beyond.rpartition("^")[2].rstrip(")"))


def _coloured(typst: str) -> str:
    """Typst source with whole symbols in their hue; a longer name that contains one is left alone."""
    for symbol, hue in HUES.items():
        name = rf"(?<![\w.\"]){re.escape(write(sp.Symbol(symbol), 'typst'))}(?![\w.\"])"
        typst = re.sub(name, _in_hue(r"\g<0>", hue), typst)
    return typst


def _in_hue(typst: str, hue: str) -> str:
    return f'text(fill: #rgb("{hue}"), {typst})'
