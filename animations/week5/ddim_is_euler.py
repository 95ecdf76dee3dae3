"""DDIM is an Euler step: arcs in x, straight segments in (x / alpha, sigma / alpha), and the error they leave.

The exact paths of the probability-flow ODE are dashed; DDIM's steps, with its predicted noise held fixed along
each step, are drawn over them by the proved formula itself. Changing the axes turns every arc into a straight line.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from manim import (
    RIGHT,
    UP,
    Animation,
    AnimationGroup,
    Create,
    Dot,
    FadeIn,
    FadeOut,
    LaggedStart,
    ReplacementTransform,
    Succession,
    VGroup,
    VMobject,
)

from animations import arrays, style
from animations.arrays import Arrays
from animations.formula import orders, said
from animations.plot import Axis, Plane
from animations.stage import Stage
from animations.style import Box
from animations.text import words

STEPS = 3  # of the paths that are drawn: few, so that one sees the arcs and what they miss
DOUBLINGS = tuple(2**k for k in range(2, 9))  # step counts of the error plot
TALL, LOW = Box(-5.5, 5.5, -1.5, 2.5), Box(-5.5, 5.5, -1.5, 1.35)
LEFT_HALF, RIGHT_HALF = Box(-6.1, -0.5, -1.5, 1.35), Box(1.4, 6.5, -1.5, 1.35)
ABOVE = (0.0, 2.5, 0.0)
STEP, ERROR = "ddim.euler_exact", "solver.ddim_error"

Coordinates = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # (t, x, alpha, sigma) -> [..., 2]


class DdimIsEuler(Stage):
    def lecture(self) -> None:
        paths = arrays.ddim_paths(steps=STEPS)
        in_time, in_ratio = self.in_time(paths, TALL), self.in_ratio(paths, LOW)
        truth, arcs, dots = (draw(in_time, paths, _time) for draw in (self.truth, self.arcs, self.dots))
        straight_truth, segments, straight_dots = (
            draw(in_ratio, paths, _ratio) for draw in (self.truth, self.arcs, self.dots)
        )

        self.say(
            "From noise on the left to data on the right: the exact paths of the probability-flow ODE, dashed, bend.",
            FadeIn(in_time), LaggedStart(*map(Create, truth), lag_ratio=0.05, run_time=style.SLOW),
        )  # fmt: skip
        self.say(
            "DDIM asks the model for the noise in a point, holds that answer fixed, and moves on: "
            "<model>each step draws an arc</model>.",
            Succession(*(self.stepped(a, d) for a, d in zip(arcs, dots, strict=True)), run_time=2 * style.SLOW),
        )
        pairs = ((truth, straight_truth), (arcs, segments), (dots, straight_dots))
        self.say(
            "Now the same steps on other axes: divide by the scale of the data, and every arc becomes "
            "a <model>straight line</model>.",
            FadeOut(in_time), FadeIn(in_ratio, run_time=2 * style.SLOW, rate_func=style.late),
            *(ReplacementTransform(before, after, run_time=2 * style.SLOW) for before, after in pairs),
        )  # fmt: skip
        law = VGroup(words("one DDIM step", style.LABEL, style.QUIET), said(STEP).formula()).arrange(RIGHT, buff=0.5)
        self.say(
            "A straight line along the slope at its start, as long as the step in noise over data scale: "
            "exactly Euler's method.",
            FadeIn(law.move_to(ABOVE)),
        )
        self.errors(VGroup(in_ratio, straight_truth, segments, straight_dots))

    def errors(self, before: VGroup) -> None:
        """Paths of more and more steps, and the error they make, against the proved slope."""
        measured = arrays.ddim_errors(steps=DOUBLINGS)
        steps, error = measured["steps"].astype(float), measured["error"]
        plane = Plane(
            RIGHT_HALF,
            Axis(steps[0] / 1.5, steps[-1] * 1.5, "number of steps", [(n, f"{n:.0f}") for n in steps], log=True),
            Axis(error[-1] / 2, error[0] * 2, "error", _decades(error), log=True),
        )
        points = VGroup(*(Dot(plane.at(p), radius=style.DOT, color=style.MODEL) for p in np.stack([steps, error], -1)))
        every = [arrays.ddim_paths(steps=n) for n in DOUBLINGS]
        chart = self.in_ratio(every[0], LEFT_HALF)
        truth, shown = self.truth(chart, every[0], _ratio), self.polygons(chart, every[0])
        self.say(
            "Where the exact path bends, a straight line misses it. Take shorter lines: twice as many, half the error.",
            FadeOut(before), FadeIn(chart, truth, shown, plane, points[0]),
        )  # fmt: skip
        for paths, point in zip(every[1:], points[1:], strict=True):
            self.remove(shown)
            shown = self.polygons(chart, paths)
            self.add(shown)
            self.play(FadeIn(point, scale=3), run_time=style.NORMAL)
        slope = -orders(ERROR)[-1]
        line = np.stack([steps, error[-1] * (steps / steps[-1]) ** slope], axis=-1)[[0, -1]]
        label = words(f"slope {slope}".replace("-", "−"), style.LABEL).next_to(
            plane.at(line).mean(0), UP + RIGHT, buff=0.15
        )
        self.say(
            "One step is proved to be off by the square of its length, the whole path by one power less: "
            "dashed, the proved slope.",
            Create(plane.truth(line)), FadeIn(label),
        )  # fmt: skip

    def in_time(self, paths: Arrays, box: Box) -> Plane:
        """(time, x), noise on the left, data on the right."""
        start = paths["fine_t"][0]
        return Plane(box, Axis(start, 0, "time", _ends(start)), Axis(0, 1.1 * paths["truth"].max(), self.symbol("x_t")))

    def in_ratio(self, paths: Arrays, box: Box) -> Plane:
        """(sigma / alpha, x / alpha), noise on the left, data on the right."""
        start = (paths["fine_sigma"] / paths["fine_alpha"])[0]
        top = 1.1 * (paths["truth"] / paths["fine_alpha"][:, None]).max()
        return Plane(
            box, Axis(start, 0, self.symbol("sigma_t/alpha_t"), _ends(start)), Axis(0, top, self.symbol("x_t/alpha_t"))
        )

    def truth(self, plane: Plane, paths: Arrays, coordinates: Coordinates) -> VGroup:
        """The exact paths, dashed."""
        values = coordinates(paths["fine_t"], paths["truth"], paths["fine_alpha"], paths["fine_sigma"])
        return VGroup(*(plane.truth(path, width=style.THIN) for path in values.swapaxes(0, 1)))

    def arcs(self, plane: Plane, paths: Arrays, coordinates: Coordinates) -> VGroup:
        """A group for each DDIM step, a curve for each path: the proved step, stopped at every time on the way."""
        step, groups = said(STEP).function(), VGroup()
        samples = np.arange(len(paths["fine_t"]))
        turns = np.linspace(0, samples[-1], len(paths["t"]))
        for i, x_t in enumerate(paths["x"][:-1]):
            at = np.linspace(turns[i], turns[i + 1], 20)
            t, alpha_s, sigma_s = (
                np.interp(at, samples, paths[f"fine_{name}"])[:, None] for name in ("t", "alpha", "sigma")
            )
            start = {"x_t": x_t, "alpha_t": paths["alpha"][i], "sigma_t": paths["sigma"][i], "eps": paths["eps"][i]}
            curves = coordinates(t[:, 0], step(**start, alpha_s=alpha_s, sigma_s=sigma_s), alpha_s[:, 0], sigma_s[:, 0])
            groups.add(VGroup(*(plane.path(curve, style.MODEL) for curve in curves.swapaxes(0, 1))))
        return groups

    def dots(self, plane: Plane, paths: Arrays, coordinates: Coordinates, radius: float = style.DOT) -> VGroup:
        """A group for each step: where it ends."""
        values = coordinates(paths["t"], paths["x"], paths["alpha"], paths["sigma"])[1:]
        return VGroup(*(VGroup(*(Dot(plane.at(p), radius=radius, color=style.MODEL) for p in row)) for row in values))

    def polygons(self, plane: Plane, paths: Arrays) -> VGroup:
        """DDIM's paths in (sigma / alpha, x / alpha); many steps are a line, not a row of dots."""
        values = _ratio(paths["t"], paths["x"], paths["alpha"], paths["sigma"])
        lines = VGroup(*(plane.path(path, style.MODEL) for path in values.swapaxes(0, 1)))
        few = len(values) < 20
        return VGroup(lines, self.dots(plane, paths, _ratio, radius=0.6 * style.DOT)) if few else VGroup(lines)

    def symbol(self, plain: str) -> VMobject:
        """A quantity of the proved step, as an axis label."""
        return said(STEP).piece(plain).formula(style.SMALL_FORMULA, style.QUIET)

    def stepped(self, arcs: VMobject, dots: VMobject) -> Animation:
        return AnimationGroup(*map(Create, arcs), FadeIn(dots, rate_func=lambda t: max(0.0, 5 * t - 4)))


def _time(t: np.ndarray, x: np.ndarray, alpha: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """(t, x), [times, paths, 2]."""
    return np.stack([np.broadcast_to(t[:, None], x.shape), x], axis=-1)


def _ratio(t: np.ndarray, x: np.ndarray, alpha: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """(sigma / alpha, x / alpha)."""
    return np.stack([np.broadcast_to((sigma / alpha)[:, None], x.shape), x / alpha[:, None]], axis=-1)


def _ends(start: float) -> list[tuple[float, str]]:
    """Where sampling starts and ends."""
    return [(start, "<noise>noise</noise>"), (0.0, "<data>data</data>")]


def _decades(values: np.ndarray) -> list[tuple[float, str]]:
    """Powers of ten among the values."""
    exponents = range(int(np.ceil(np.log10(values.min()))), int(np.floor(np.log10(values.max()))) + 1)
    return [(10.0**k, f"{10.0**k:g}") for k in exponents]
