"""The forward process: a ring of eight clusters closes, step by step, into one Gaussian.

Left, particles of DDPM's chain over their exact density; right, how much of the data and how much noise a point holds.
The hue of a particle is its mixture of the two. A few particles leave a trail, to show that each walks at random.
"""

from __future__ import annotations

import numpy as np
from manim import (
    DOWN,
    LEFT,
    RIGHT,
    Animation,
    ApplyMethod,
    Circle,
    Create,
    DashedVMobject,
    Dot,
    FadeIn,
    FadeOut,
    LaggedStart,
    ValueTracker,
    VGroup,
    VMobject,
    always_redraw,
)

from animations import arrays, style
from animations.formula import Formula, said
from animations.heatmap import HeatMap
from animations.particles import ParticleCloud
from animations.plot import Axis, Plane
from animations.stage import Stage
from animations.style import Box, mixed
from animations.text import words

REACH = 4.0
SQUARE = Box(-6.5, -1.3, -2.35, 2.85)
CURVES = Box(0.2, 6.5, -1.85, -0.3)
TRAILS = (1, 3, 6)  # of the particles
STEP, CHAIN = "ddpm.forward", "ddpm.chain"
SIZE = style.SMALL_FORMULA
FULL_TIME = 16.0  # seconds from data to noise


class ForwardProcess(Stage):
    def lecture(self) -> None:
        chain = arrays.forward_chain(reach=REACH)
        self.clock = ValueTracker(0.0)
        last = len(chain["t"]) - 1
        noise_share = chain["sigma"] ** 2 / (chain["alpha"] ** 2 + chain["sigma"] ** 2)

        def now(name: str) -> np.ndarray:
            """The array at the clock's time, linear between frames."""
            at = self.clock.get_value() * last
            before = min(int(at), last - 1)
            return chain[name][before] + (at - before) * (chain[name][before + 1] - chain[name][before])

        def hue() -> np.ndarray:
            return mixed(style.DATA, style.NOISE, float(np.interp(self.clock.get_value(), chain["t"], noise_share)))

        plane = Plane(SQUARE, Axis(-REACH, REACH), Axis(-REACH, REACH))
        heat = HeatMap(chain["density"][0], SQUARE, colour=style.DATA, opacity=0.8)
        heat.add_updater(lambda m: m.set_values(now("density")).set_colour(hue()))
        cloud = ParticleCloud(plane.at(chain["x"][0]), colour=style.DATA, radius=0.02, opacity=0.7)
        cloud.add_updater(lambda m: m.move_particles(plane.at(now("x"))).set_colours(hue()))

        curves = self.curves(chain)
        self.say(
            "<data>Data</data>: eight clusters on a ring. Every point is a sample, the glow is the exact density.",
            LaggedStart(FadeIn(plane), FadeIn(heat), FadeIn(cloud), lag_ratio=0.6, run_time=style.SLOW), FadeIn(curves),
        )  # fmt: skip
        trails = always_redraw(lambda: self.trails(plane, chain["x"]))
        self.add(trails)
        one_step = self.law("one step", said(STEP, "step_mean").formula(SIZE), said(STEP).piece("beta_t").formula(SIZE))
        self.say(
            "Each step shrinks a point a little towards the centre and adds a little fresh <noise>noise</noise>.",
            FadeIn(one_step),
        )  # fmt: skip
        self.say("The clusters blur, and each point walks at random.", self.run(0.25))
        self.say("Neighbours merge: which cluster a point came from is being forgotten.", self.run(0.5))
        self.say("In the end no trace of the ring is left.", self.run(1.0))
        all_steps = self.law("all steps", said(CHAIN, line=1).formula(SIZE), said(CHAIN).formula(SIZE))
        self.say(
            "All steps together are one Gaussian around a shrunken <data>data point</data>: no need to walk the chain.",
            FadeOut(one_step), FadeIn(all_steps),
        )  # fmt: skip
        rings = VGroup(*(DashedVMobject(Circle(k * SQUARE.width / (2 * REACH)), num_dashes=24 * k) for k in (1, 2)))
        rings.set_stroke(style.TRUTH, style.LINE).move_to(SQUARE.centre)
        self.say(
            "Whatever the data were, they close into one standard Gaussian: "
            "dashed, one and two of its standard deviations.",
            FadeOut(trails), Create(rings),
        )  # fmt: skip

    def law(self, what: str, mean: Formula, variance: Formula) -> VGroup:
        """Mean and variance of a Gaussian, named."""
        names = [words(f"{what}: mean", style.LABEL, style.QUIET), words("variance", style.LABEL, style.QUIET)]
        rows = VGroup(
            *(
                VGroup(name, value).arrange(RIGHT, buff=0.35)
                for name, value in zip(names, (mean, variance), strict=True)
            )
        )
        return rows.arrange(DOWN, buff=0.3, aligned_edge=LEFT).move_to((CURVES.left, 1.65, 0.0), aligned_edge=LEFT)

    def run(self, until: float) -> Animation:
        """Let time go on to `until`, evenly."""
        seconds = FULL_TIME * (until - self.clock.get_value())
        return ApplyMethod(self.clock.set_value, until, run_time=seconds, rate_func=style.STEADY)

    def trails(self, plane: Plane, x: np.ndarray) -> VGroup:
        """Where a few particles have been lately, and where they are."""
        at = self.clock.get_value() * (len(x) - 1)
        steps = np.append(np.arange(max(0, int(at) - 12), int(at) + 1), at)
        group = VGroup()
        for particle in TRAILS:
            places = np.stack([np.interp(steps, np.arange(len(x)), x[:, particle, k]) for k in (0, 1)], axis=-1)
            path = plane.path(places, style.INK, style.THIN) if len(steps) > 2 else VMobject()
            group.add(path, Dot(plane.at(places[-1]), radius=style.DOT, color=style.INK))
        return group

    def curves(self, chain: dict[str, np.ndarray]) -> VGroup:
        """alpha and sigma so far."""
        ends = [(0.0, "<data>data</data>"), (1.0, "<noise>noise</noise>")]
        plane = Plane(
            CURVES, Axis(0, 1, "time", ends), Axis(0, 1.05, "share of <data>data</data> and of <noise>noise</noise>")
        )

        def drawn() -> VGroup:
            upto = np.append(chain["t"][chain["t"] < self.clock.get_value()], self.clock.get_value())
            lines = VGroup()
            for name, colour in (("alpha", style.DATA), ("sigma", style.NOISE)):
                values = np.stack([upto, np.interp(upto, chain["t"], chain[name])], axis=-1)
                lines.add(plane.path(values, colour) if len(values) > 1 else VMobject())
                lines.add(Dot(plane.at(values[-1]), radius=style.DOT, color=colour))
            return lines

        return VGroup(plane, always_redraw(drawn))
