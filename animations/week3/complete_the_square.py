"""Completing the square: the posterior q(x_s | x_t, x_0) of DDPM, term by term.

Left, the log-densities that Bayes' rule adds, as parabolas in the unknown x_s; right, the coefficients of its powers,
read off the claim's own lines. Comparing them gives the variance and the mean; what is left over is the normaliser.
"""

from __future__ import annotations

import numpy as np
from manim import LEFT, RIGHT, Create, Dot, FadeIn, FadeOut, ReplacementTransform, VGroup, VMobject

from animations import arrays, style
from animations.formula import Said, balance, definition, said
from animations.plot import Axis, Plane
from animations.stage import Stage
from animations.style import Box

POSTERIOR = "ddpm.posterior"
PICTURE = Box(-6.3, -1.0, -1.5, 1.15)
ABOVE, UPPER, LOWER = (0.0, 2.4, 0.0), (3.2, 0.6, 0.0), (3.2, -1.05, 0.0)
MARGIN = -0.6  # where the table of coefficients begins
REACH, DEPTH = 2.8, -6.0  # of the picture: how far x_s goes, how deep the log-densities


class CompleteTheSquare(Stage):
    def lecture(self) -> None:
        bayes, result = said(POSTERIOR, line=0), said(POSTERIOR)
        from_noise, from_data, both = bayes.terms("x_s", "x_t"), bayes.terms("x_s", "x_0"), bayes.terms("x_s")
        completed = result.terms("x_s")
        self.example = {name: float(value) for name, value in arrays.posterior_example().items()}
        centre = float(self.value(said(POSTERIOR, "mean")))

        known = [(self.example[name], bayes.piece(name).formula(style.SMALL_FORMULA)) for name in ("x_0", "x_t")]
        unknown = bayes.piece("x_s").formula(style.SMALL_FORMULA, style.QUIET)
        plane = Plane(PICTURE, Axis(-REACH, REACH, unknown, known), Axis(DEPTH, 0.5, "log-density"))
        marks = ((self.example["x_0"], style.DATA), (self.example["x_t"], style.NOISE))
        plane.add(*(Dot(plane.at(np.array([x, DEPTH])), radius=style.DOT, color=hue) for x, hue in marks))
        noise_curve, data_curve = self.curve(plane, from_noise, style.NOISE), self.curve(plane, from_data, style.DATA)
        sum_curve, whole_curve = self.curve(plane, both, style.MODEL), self.curve(plane, bayes, style.MODEL)

        self.say(
            "A <noise>noisy point</noise> is known, and the <data>data point</data> it came from. "
            "Where was it one step earlier?",
            FadeIn(plane),
        )
        self.say(
            "The <noise>step that led to it</noise> speaks through its log-density: a parabola in the unknown. "
            "So does the <data>law given the data</data>.",
            Create(noise_curve, run_time=style.SLOW), Create(data_curve, run_time=style.SLOW),
        )  # fmt: skip
        squares = both.formula().move_to(ABOVE)
        self.say(
            "Bayes' rule adds the two, and a sum of parabolas is <model>a parabola</model>: "
            "only its width and its top are to be found.",
            FadeIn(squares), Create(sum_curve, run_time=style.SLOW),
        )  # fmt: skip
        x_s, terms = bayes.piece("x_s"), (from_noise, from_data)
        rows = VGroup(
            *(
                self.comparison(x_s, k, terms, completed).move_to(at).align_to((MARGIN, 0.0, 0.0), LEFT)
                for k, at in ((2, UPPER), (1, LOWER))
            )
        )
        self.say(
            "Compare what stands before the square: that gives the <model>variance</model>, the width of the parabola.",
            FadeIn(rows[0]),
        )
        top = plane.truth(np.array([[centre, DEPTH], [centre, 0.5]]), dashes=12, width=style.THIN)
        self.say(
            "Compare what stands before the unknown itself: that gives the <model>mean</model>, its top.",
            FadeIn(rows[1]), Create(top),
        )  # fmt: skip
        gaussian = result.formula().move_to(UPPER)
        self.say(
            "All that is left is free of the unknown. "
            "It lifts the parabola to exactly the height of a normalised Gaussian.",
            ReplacementTransform(sum_curve, whole_curve, run_time=style.SLOW), FadeOut(rows), FadeIn(gaussian),
        )  # fmt: skip
        self.say(
            "Its <model>mean</model> is a weighted sum of the two points we know; "
            "its <model>variance</model> depends on neither.",
            FadeOut(squares), FadeIn(definition(POSTERIOR, "mean").move_to(ABOVE)),
            FadeIn(definition(POSTERIOR, "variance").move_to(LOWER)),
        )  # fmt: skip

    def comparison(self, unknown: Said, power: int, terms: tuple[Said, Said], total: Said) -> VGroup:
        """x_s^power, and its coefficients on both sides."""
        head = Said(POSTERIOR, unknown.expression**power).formula(style.SMALL_FORMULA)
        sides = [term.coefficient("x_s", power) for term in (*terms, total)]
        law = balance(
            list(zip(sides, (style.NOISE, style.DATA), strict=False)), (sides[-1], style.MODEL), style.SMALL_FORMULA
        )
        return VGroup(head, law.next_to(head, RIGHT, buff=0.4).align_to(head.get_left() + 0.8 * RIGHT, LEFT))

    def value(self, expression: Said, x_s: np.ndarray | float | None = None) -> np.ndarray:
        """Of an expression of the claim in the example."""
        known = {**self.example, **({} if x_s is None else {"x_s": x_s})}
        names = {symbol.name for symbol in expression.expression.free_symbols}
        return expression.function()(**{name: known[name] for name in names})

    def curve(self, plane: Plane, expression: Said, hue: str) -> VMobject:
        """A log-density's terms as a function of x_s, where it is in the picture."""
        x_s = np.linspace(-REACH, REACH, 400)
        values = self.value(expression, x_s)
        seen = values > DEPTH
        return plane.path(np.stack([x_s, values], axis=-1)[seen], hue)
