"""Plane: a plot's ground, axes and labels, and the map from data to the frame. No numbers are typed, ticks are given.

A linear axis maps value v to the frame by (v - low) / (high - low); a logarithmic one maps log v. An axis may run
backwards (low > high), as time does while sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from manim import DOWN, LEFT, UP, Line, Rectangle, VGroup, VMobject

from animations import style
from animations.style import Box
from animations.text import words


@dataclass(frozen=True)
class Axis:
    """Values from low (left, bottom) to high (right, top); ticks are (value, text)."""

    low: float
    high: float
    label: VMobject | str = ""
    ticks: Sequence[tuple[float, VMobject | str]] = ()
    log: bool = False

    def place(self, values: np.ndarray) -> np.ndarray:
        """0 at low, 1 at high."""
        low, high, values = (
            np.log(v) if self.log else np.asarray(v, dtype=float) for v in (self.low, self.high, values)
        )
        return (values - low) / (high - low)


class Plane(VGroup):
    """The ground of a plot in `box`: axis lines at the left and below, ticks and labels outside the box."""

    def __init__(self, box: Box, x: Axis, y: Axis) -> None:
        self.box, self.x, self.y = box, x, y
        ground = Rectangle(width=box.width, height=box.height, stroke_width=0, fill_color=style.PANEL, fill_opacity=1)
        corner = (box.left, box.bottom, 0.0)
        lines = [Line(corner, (box.right, box.bottom, 0.0)), Line(corner, (box.left, box.top, 0.0))]
        axes = VGroup(*lines).set_stroke(style.QUIET, style.THIN)
        super().__init__(ground.move_to(box.centre), axes)
        self.labels = VGroup(*self._ticks(x, 0), *self._ticks(y, 1))
        if label := _label(x.label):
            crowded = any(
                0.2 < x.place(np.array(value)) < 0.8 for value, _ in x.ticks
            )  # ticks leave no room beside them
            bottom = self.labels.get_bottom()[1] if crowded else box.bottom
            self.labels.add(label.next_to((box.centre[0], bottom, 0.0), DOWN, buff=0.12))
        if label := _label(y.label):
            self.labels.add(label.next_to((box.left, box.top, 0.0), UP, buff=0.12, aligned_edge=LEFT))
        self.add(self.labels).set_z_index(-1)  # below whatever is drawn on it, whichever comes first

    def at(self, values: np.ndarray) -> np.ndarray:
        """[..., 2] in the plot's own units -> [..., 3] in the frame."""
        values = np.asarray(values, dtype=float)
        across = self.box.left + self.box.width * self.x.place(values[..., 0])
        up = self.box.bottom + self.box.height * self.y.place(values[..., 1])
        return np.stack([across, up, np.zeros_like(up)], axis=-1)

    def path(self, values: np.ndarray, hue: str, width: float = style.LINE) -> VMobject:
        """The line through values [n, 2]."""
        return VMobject(stroke_color=hue, stroke_width=width).set_points_as_corners(self.at(values))

    def truth(self, values: np.ndarray, dashes: int = 40, width: float = style.LINE) -> VMobject:
        """The same, dashed: closed-form truth, or a proved law.

        Dashes have equal numbers of samples, not equal lengths: the dashes of one curve on two planes are the same
        pieces of it, and morph into each other.
        """
        line, samples = self.at(values), np.arange(len(values))
        dashed = VMobject(stroke_color=style.TRUTH, stroke_width=width)
        for start in np.linspace(0, len(values) - 1, dashes + 1)[:-1]:
            piece = np.linspace(start, start + (len(values) - 1) / (2 * dashes), 5)
            corners = np.stack([np.interp(piece, samples, column) for column in line.T], axis=-1)
            dashed.append_points(VMobject().set_points_as_corners(corners).points)
        return dashed

    def _ticks(self, axis: Axis, which: int) -> list[VMobject]:
        marks: list[VMobject] = []
        for value, text in axis.ticks:
            place = float(axis.place(np.array(value)))
            across, up = (self.box.width * place, 0) if which == 0 else (0, self.box.height * place)
            mark = words(text, style.TICK, style.QUIET) if isinstance(text, str) else text
            side = DOWN if which == 0 else LEFT
            marks.append(mark.next_to((self.box.left + across, self.box.bottom + up, 0.0), side, buff=0.16))
        return marks


def _label(label: VMobject | str) -> VMobject | None:
    return words(label, style.LABEL, style.QUIET) if isinstance(label, str) and label else label or None
