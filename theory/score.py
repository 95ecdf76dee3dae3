"""Scores: what denoising learns, and why regressing on noise is regressing on the score.

    x_t = alpha_t y + sigma_t eps,   y = x_0 ~ p,   kernel N(x_t; alpha_t y, sigma_t^2),   marginal int p kernel dy

Tweedie's formulas and their kin are said for one coordinate y of x_0 and need of p only that it is positive: for x_0 in
any dimension, let p(y) be the prior times the kernel of all other coordinates, integrated over them; every identity
here is homogeneous in p, so it holds for each coordinate of a vector as it stands.

In the score-matching identities s is the model: any smooth function, a network for instance.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, exp, log, sqrt

from theory.proof import (
    E,
    algebra,
    claim,
    function,
    gaussian_expectation,
    integral,
    leibniz,
    let,
    log_normal,
    normal,
    parts,
    positive,
    real,
    unit,
)

x, x_t, y, u = real("x x_t y u")
alpha_t, sigma_t = positive("alpha_t sigma_t")
p = function("p", kind="positive")
data = function("p", kind="density")
s = function("s", kind="smooth")

kernel = exp(-((x_t - alpha_t * y) ** 2) / (2 * sigma_t**2))  # its constant cancels in all that follows
marginal = integral(p(y) * kernel, y)


def mean(of: Expr) -> Expr:
    """E[of | x_t], of an expression in y."""
    return integral(of * p(y) * kernel, y) / marginal


# ------------------------------------------------------------------------------------------- denoising and the score


@claim(
    "score.expected_noise",
    week=5,
    source="Vincent 2011; Song et al. 2021 (SDE)",
    covers="score.score_is_expected_noise",
)
def expected_noise():
    "The score of the noised data is minus the noise expected in x_t, in standard deviations."
    yield Derivative(log(marginal), x_t)
    yield leibniz, -mean((x_t - alpha_t * y) / sigma_t) / sigma_t


@claim("score.tweedie", week=5, source="Efron 2011, eq. 1.4; Robbins 1956", covers="score.tweedie")
def tweedie():
    "The mean of the clean data given x_t is one step along the score."
    yield mean(y)
    yield leibniz, (x_t + sigma_t**2 * Derivative(log(marginal), x_t)) / alpha_t


@claim("score.tweedie_second", week=5, source="Efron 2011, eq. 2.8", covers="score.tweedie_second")
def tweedie_second():
    "The variance of the clean data given x_t is the score's slope."
    yield mean(y**2) - mean(y) ** 2
    yield leibniz, sigma_t**2 / alpha_t**2 * (1 + sigma_t**2 * Derivative(log(marginal), (x_t, 2)))


@claim("score.mixture", week=5, source="Song & Ermon 2019", covers="score.mixture_score")
def mixture():
    "The score of a noised mixture: component k sits at alpha_t m_k with variance alpha_t^2 v_k + sigma_t^2."
    q = unit("q")
    m_1, m_2 = real("m_1 m_2")
    v_1, v_2 = positive("v_1 v_2")
    means = alpha_t * m_1, alpha_t * m_2
    variances = alpha_t**2 * v_1 + sigma_t**2, alpha_t**2 * v_2 + sigma_t**2
    first, second = (normal(x, m, v) for m, v in zip(means, variances, strict=True))
    share = yield let("responsibility", q * first / (q * first + (1 - q) * second))
    yield Derivative(log(q * first + (1 - q) * second), x)
    pulls = share * (means[0] - x) / variances[0] + (1 - share) * (means[1] - x) / variances[1]
    yield algebra, pulls


# --------------------------------------------------------------------------------------------------- score matching


@claim("score.implicit", week=5, source="Hyvarinen 2005, thm 1", covers="score.ism")
def implicit():
    "Matching the score needs no score: integrate the cross term by parts. What is left over does not depend on s."
    score = Derivative(log(data(x)), x)
    yield integral(data(x) * (s(x) - score) ** 2, x) / 2
    yield (
        parts(x, -data(x) * s(x)),
        integral(data(x) * (Derivative(s(x), x) + s(x) ** 2 / 2), x) + integral(data(x) * score**2, x) / 2,
    )


k = function("k", kind="positive")  # k(x, y) = q(x_t = x | x_0 = y)


@claim("score.denoising", week=5, source="Vincent 2011, eq. 17", covers="score.dsm")
def denoising():
    """Regressing on the score of the noise is regressing on the score of the noised data, plus terms without s.

    Said at each x, weighted as q(x_t) weighs it, since m' = int p k' dy; integrating over x gives the two losses, which
    therefore differ by a constant and have one gradient.
    """
    m = integral(data(y) * k(x, y), y)
    noise_score = Derivative(log(k(x, y)), x)
    yield m * (s(x) - Derivative(log(m), x)) ** 2 - integral(data(y) * k(x, y) * (s(x) - noise_score) ** 2, y)
    yield leibniz, m * Derivative(log(m), x) ** 2 - integral(data(y) * k(x, y) * noise_score**2, y)


@claim("score.sliced", week=5, source="Song et al. 2019, eq. 8; Hutchinson 1990", covers="score.sliced")
def sliced():
    "Hutchinson: E v^T A v is the trace of A; shown for a pair of coordinates, of which every dimension's sum consists."
    u_1, u_2, A_11, A_12, A_21, A_22 = real("u_1 u_2 A_11 A_12 A_21 A_22")
    square = u_1**2 * A_11 + u_1 * u_2 * (A_12 + A_21) + u_2**2 * A_22
    yield E(square, u_1)
    yield gaussian_expectation(u_1), A_11 + u_2**2 * A_22

    yield E(A_11 + u_2**2 * A_22, u_2)
    yield gaussian_expectation(u_2), A_11 + A_22


@claim("score.ncsn_weighting", week=5, source="Song & Ermon 2019, eq. 6", covers="score.ncsn_weighting")
def ncsn_weighting():
    "Weight sigma^2 turns the regression of the score into that of the noise, of one size at every sigma."
    yield sigma_t**2 * (s(x) - Derivative(log_normal(x, alpha_t * y, sigma_t**2), x)) ** 2
    yield algebra, (sigma_t * s(x) + (x - alpha_t * y) / sigma_t) ** 2


# ---------------------------------------------------------------------------------------------------------- Langevin


@claim("score.langevin", week=5, source="Roberts & Tweedie 1996, sec. 1", covers="score.langevin_invariant")
def langevin():
    "Under dx = score dt + sqrt(2) dw the density's change, -(score p)' + p'', is nothing: p is stationary."
    yield Derivative(p(x), (x, 2)) - Derivative(Derivative(log(p(x)), x) * p(x), x)
    yield algebra, Integer(0)


@claim("score.ula", week=5, source="Wibisono 2018, ex. 4", covers="score.ula_variance")
def ula():
    "Unadjusted Langevin x + h score + sqrt(2 h) u on N(0, v) keeps v / (1 - h/(2 v)), not v; h = 2 v A, 0 < A < 1."
    v, A = positive("v"), unit("A")
    step = 2 * v * A
    variance = yield let("variance", v / (1 - step / (2 * v)))
    yield E((sqrt(variance) * u - step * sqrt(variance) * u / v) ** 2, u) + 2 * step
    yield gaussian_expectation(u), variance
