"""Memorisation: the denoiser that N training points ask for, and where it takes a sampler.

The training set is x_1, x_2, ..; at a noised x_t point i has the kernel w_i = exp(-|x_t - alpha x_i|^2/(2 sigma^2)). A
denoiser is judged by its squared error over the set, at each x_t by itself and in each coordinate by itself. The least
error is attained by a formula that only gives back the set: a network that draws anything new has not attained it.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Sum, exp, expand, log

from theory.probability import log_bound, r
from theory.proof import (
    algebra,
    at_least,
    at_most,
    by,
    claim,
    counting,
    function,
    induction,
    leibniz,
    limit,
    nonnegative,
    parts,
    positive,
    real,
    recursion,
    sequence,
)

f, y, k, z = real("f y k z")
sigma, g, h, u, c, C = positive("sigma g h u c C")
d, R = nonnegative("d R")
N, i = counting("N i")
x, w = sequence("x", "real"), sequence("w", "positive")  # a coordinate of the points, their kernels at x_t
e, b = function("e", kind="smooth"), function("b", kind="positive")


@claim(
    "score.memorisation",
    week=5,
    source="Karras et al. 2022, app. B.3; Gu et al. 2023",
    covers="score.memorisation",
)
def memorisation():
    """On a training set the denoising loss is least at the points' mean, weighted by their kernels w: a softmax.

    f is the denoiser's answer at x_t; the set has N + 1 points, so that it is not empty.
    """

    def total(of: Expr) -> Expr:
        return Sum(of, (i, 1, N + 1))

    mean = total(w(i) * x(i)) / total(w(i))
    least = total(w(i) * x(i) ** 2) - total(w(i)) * mean**2
    first, more = (w(j) * expand((f - x(j)) ** 2) for j in (Integer(1), k + 2))
    yield recursion(y + more, y, k, first, N)
    yield induction(N), total(w(i)) * f**2 - 2 * f * total(w(i) * x(i)) + total(w(i) * x(i) ** 2)
    yield algebra, total(w(i)) * (f - mean) ** 2 + least
    yield at_least(total(w(i)) * (f - mean) ** 2), least


@claim("score.memorisation_share", week=5, source="Gu et al. 2023", covers="score.memorisation")
def memorisation_share():
    """A point farther than the nearest one by g in squared distance has a share below exp(-g/(2 sigma^2)): O(sigma^2).

    The nearest point, at the squared distance d, has the kernel c; all others together have R. From log a <= a - 1.
    """
    ratio = exp(-g / (2 * sigma**2))
    yield exp(-(d + g) / (2 * sigma**2)) / exp(-d / (2 * sigma**2))
    yield algebra, ratio

    yield log(c * ratio / (c + c * ratio + R))
    yield at_most(log(1 + ratio + R / c)), -g / (2 * sigma**2)
    yield at_most(lambda gap: gap, by(log_bound, {r: g / (2 * sigma**2)})), log(2 * sigma**2 / g) - 1


@claim("score.memorisation_flow", week=5, source="Karras et al. 2022, app. B.3", covers="score.memorisation")
def memorisation_flow():
    """The probability flow of a denoiser y + e(sigma), e at most C sigma^2, ends on the training point y itself.

    In dx/dsigma = (x - D)/sigma, per coordinate, from y + (sigma + h) z down to sigma; for e >= -C sigma^2 mirror it.
    By the share above e is so small once y is nearer than all others, by g, for the rest of the way: g = 0, a path on a
    boundary between points, is left out, and ends between them.
    """

    def path(s: Expr, end: Expr) -> Expr:
        return y + s * (z + Integral(e(u) / u**2, (u, s, end)))

    yield Derivative(path(sigma, h), sigma)
    yield leibniz, (path(sigma, h) - (y + e(sigma))) / sigma

    yield y + sigma * z + sigma * Integral((C * u**2 - b(u)) / u**2, (u, sigma, sigma + h))
    rest = Integral(b(u) / u**2, (u, sigma, sigma + h))
    yield parts(u, sigma * C * u), y + sigma * z + sigma * C * h - sigma * rest
    yield at_most(sigma * rest), y + sigma * (z + C * h)

    yield y + sigma * (z + C * h)
    yield limit(sigma), y
