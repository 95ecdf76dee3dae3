"""Words and formulas on the screen, set by Typst in fonts that come with it.

Captions are plain words; `<data>...</data>`, `<noise>...</noise>`, `<model>...</model>` give a phrase its hue, on the
screen only: subtitles drop the marks.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
from manim import Typst, VGroup, VMobject

from animations import style

_HUES = {"data": style.DATA, "noise": style.NOISE, "model": style.MODEL}
_MARK = re.compile(r"<(data|noise|model)>(.*?)</\1>")
_SPECIAL = re.compile(r"([\\#$*_`@<>\[\]~=/-])")  # what Typst would take for markup

Look = tuple[str, float, str, float]  # fill, its opacity, stroke, its width


class Typeset(VGroup):
    """What Typst makes of `source`, centred. Glyphs of one look are one path: a text moves as fast as a line."""

    def __init__(self, source: str, size: float, hue: str = style.INK) -> None:
        super().__init__()
        for (fill, opacity, stroke, width), points in _paths(source, size, hue):
            path = VMobject(fill_color=fill, fill_opacity=opacity, stroke_color=stroke, stroke_width=width)
            self.add(path.set_points(points))
        self.source, self._size, self._set_at = source, size, self.height

    @property
    def em(self) -> float:
        """Size of the type in scene units."""
        return self._size * style.EM * self.height / self._set_at


@cache
def _paths(source: str, size: float, hue: str) -> tuple[tuple[Look, np.ndarray], ...]:
    """Points of all glyphs, fraction bars and roots, joined where neighbours have one look.

    manim takes an imported stroke's width for pixels, so bars would grow with the resolution; it is a length, and
    manim's stroke widths are hundredths of a scene unit.
    """
    typst = Typst(source, font_size=size, color=hue, use_svg_cache=False)
    widths: dict[int, float] = {}
    line: Any
    for line in typst._stroke_width_tracked_submobjects:
        scale = max(line.width, line.height) / line._typst_reference_size
        widths[id(line)] = 100 * scale * line._typst_source_stroke_width

    def look(glyph: Any) -> Look:
        fill, stroke = glyph.get_fill_color().to_hex(), glyph.get_stroke_color().to_hex()
        return fill, glyph.get_fill_opacity(), stroke, widths.get(id(glyph), 0.0)

    glyphs = [glyph for glyph in typst.get_family() if len(glyph.points)]
    return tuple((key, np.concatenate([g.points for g in group])) for key, group in groupby(glyphs, look))


def words(text: str, size: float = style.LABEL, hue: str = style.INK, width: float | None = None) -> Typeset:
    """Plain words, hues marked; broken into centred lines of at most `width` scene units if one is given."""
    body = f'#set text(font: "{style.TEXT_FONT}")\n{_coloured(text)}'
    if width is not None:
        body = f"#set par(leading: 0.5em)\n#block(width: {width / (size * style.EM):.3f}em, align(center)[{body}])"
    return Typeset(body, size, hue)


def code(text: str, size: float = style.STAMP, hue: str = style.QUIET) -> Typeset:
    """Ids and hashes."""
    return Typeset(f'#set text(font: "{style.CODE_FONT}")\n{_escaped(text)}', size, hue)


def plain(text: str) -> str:
    """The words without their hues."""
    return _MARK.sub(r"\2", text)


def _coloured(text: str) -> str:
    pieces, at = [], 0
    for mark in _MARK.finditer(text):
        hue = _HUES[mark[1]]
        pieces += [_escaped(text[at : mark.start()]), f'#text(fill: rgb("{hue}"))[{_escaped(mark[2])}]']
        at = mark.end()
    return "".join([*pieces, _escaped(text[at:])])


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)
