"""The look of all weeks: one palette, one set of sizes, one easing.

Meaning of the hues, the same in every scene:

    DATA  sky blue    x_0, and whatever is still data
    NOISE vermillion  eps, and whatever is already noise
    MODEL yellow      what a network, or a sampler's step, says
    TRUTH white       closed-form truth, always dashed

The hues are told apart under protan-, deuter- and tritanopia, and stand out from the background
(tests/animations/test_style.py measures both). Lengths are in scene units: the frame is 14.22 wide and 8 high.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from manim import rate_functions

BACKGROUND = "#10141C"
PANEL = "#171D29"  # a plot's ground, a shade above the background
INK = "#F2F4F8"
QUIET = "#98A2B3"  # axes, stamps, everything that must not compete
DATA = "#56B4E9"
NOISE = "#E8651A"
MODEL = "#F0E442"
TRUTH = INK

FRAME_HEIGHT = 8.0
EM = 1 / 96  # scene units of one em, for one unit of font size (manim imports Typst's 10 pt em at 10/960)
SCRIPT = 0.7  # a subscript's size relative to its base, in Typst's mathematics
LEAST_TEXT = FRAME_HEIGHT / 30  # nobody in the last row reads less, at 480p it is 16 pixels

# Font sizes. TICK and STAMP are near the least allowed; formulas leave their subscripts readable too.
TITLE, HEADING, CAPTION, FORMULA, SMALL_FORMULA, LABEL, TICK, STAMP = 60, 40, 34, 44, 39, 34, 28, 26

TEXT_FONT = "Libertinus Serif"  # both are embedded in Typst: a frame does not depend on the machine's fonts
CODE_FONT = "DejaVu Sans Mono"

LINE, THIN, DASH = 4.0, 2.0, 0.12
DOT = 0.09

EASE = rate_functions.smooth
STEADY = rate_functions.linear  # for time itself: a clock does not ease
QUICK, NORMAL, SLOW = 0.6, 1.2, 2.4  # seconds
READING_SPEED = 16.0  # characters a second a listener reads while looking at a picture
LINGER = 1.0  # seconds added for looking at the picture


Point = tuple[float, float, float]  # of the frame; the third is 0


@dataclass(frozen=True)
class Box:
    """A rectangle of the frame, in scene units."""

    left: float
    right: float
    bottom: float
    top: float

    @property
    def centre(self) -> Point:
        return ((self.left + self.right) / 2, (self.bottom + self.top) / 2, 0.0)

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.top - self.bottom


HEAD = Box(-6.8, 6.8, 3.2, 3.8)  # title on the left, the claim's stamp on the right
STAGE = Box(-6.8, 6.8, -2.5, 3.05)  # the picture
FOOT = Box(-6.8, 6.8, -3.8, -2.6)  # captions, two lines


def late(t: float) -> float:
    """Easing for what comes when something else has left: nothing in the first half."""
    return float(EASE(max(0.0, 2 * t - 1)))


def rgb(hue: str) -> np.ndarray:
    """'#RRGGBB' -> three numbers in [0, 1]."""
    return np.array([int(hue[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def mixed(first: str, second: str, weight: float) -> np.ndarray:
    """The hue on the way from `first` (weight 0) to `second` (weight 1), mixed as light: linear in squared sRGB."""
    if not 0 <= weight <= 1:
        raise ValueError(f"mixed: weight is {weight}, expected a number in [0, 1]")
    return np.sqrt((1 - weight) * rgb(first) ** 2 + weight * rgb(second) ** 2)
