"""Formulas as static MathML, set by Typst: all of a page's in one run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

import typst

from theory.proof.export import Written

_MATH = re.compile(r"<math( display=\"block\")?>(.*?)</math>", re.S)
# Typst sets accents as combining characters, which by themselves are drawn to the left of the letter; these are not.
_SPACING = {"\u0304": "¯", "\u0302": "ˆ", "\u0303": "˜", "\u0307": "˙"}
_STYLE = re.compile(r"<style>(.*?)</style>", re.S)


class Formulas:
    """MathML of expressions by their Typst source; `style` is what MathML from Typst needs of a page's style sheet."""

    def __init__(self, written: Iterable[Written]) -> None:
        sources = {one.typst: one.text for one in written}
        page = typst.compile("\n\n".join(f"$ {source} $" for source in sources).encode(), format="html").decode()
        for combining, spacing in _SPACING.items():
            page = page.replace(f"<mo>{combining}</mo>", f"<mo>{spacing}</mo>")
        found = [inner for _, inner in _MATH.findall(page)]
        if len(found) != len(sources):
            raise ValueError(f"Typst set {len(found)} formulas of {len(sources)}")
        self._mathml = {
            source: f'<math display="block" alttext="{escape(text)}">{inner}</math>'
            for (source, text), inner in zip(sources.items(), found, strict=True)
        }
        (self.style,) = _STYLE.findall(page) or [""]

    def __call__(self, one: Written) -> str:
        """The formula as a <math> element; its plain text is what a screen reader says, and what is copied."""
        return self._mathml[one.typst]
