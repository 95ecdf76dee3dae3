"""Probability: Bayes, Gibbs, conditional means. What every bound and every loss here stands on.

Laws are densities on the line. z is what is looked for, x what is seen; c(z, x) is the density of Z given X = x, p(x)
that of X. For a vector Z read each coordinate by itself: squared errors add over coordinates.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, exp, log, sqrt

from theory.proof import (
    algebra,
    at_least,
    at_most,
    by,
    claim,
    function,
    integral,
    leibniz,
    minimum,
    normalised,
    parts,
    positive,
    real,
    suppose,
    unit,
)

x, z, y, k, t = real("x z y k t")
r, m = positive("r m")
A = unit("A")
p, q = function("p", kind="density"), function("q", kind="density")
c = function("c", kind="density")  # c(z, x): Z given X = x
likelihood = function("l", kind="positive")  # l(z) = p(x | z) at the x that was seen
f = function("f", kind="smooth")
g = function("g", kind="positive")


# ------------------------------------------------------------------------------------------------- Bayes and Gibbs


@claim("probability.bayes", week=3, source="Bishop 2006, eq. 1.12", covers="probability.bayes")
def bayes():
    "Prior times likelihood, divided by the evidence, is a density in z: the posterior."
    yield integral(likelihood(z) * p(z), z) / integral(likelihood(y) * p(y), y)
    yield algebra, Integer(1)


@claim("probability.log_bound", week=3, source="Cover & Thomas 2006, sec. 2.6", covers="probability.log_bound")
def log_bound():
    "log lies below its tangent at 1, and touches it there only."
    yield log(r)
    yield at_most(minimum(r, 1)), r - 1


@claim("probability.log_bound_strict", week=3, source="Cover & Thomas 2006, sec. 2.6", covers="probability.log_bound")
def log_bound_strict():
    "The room between log and its tangent is at least (sqrt r - 1)^2, so it vanishes at r = 1 alone."
    yield log(r)
    yield algebra, 2 * log(sqrt(r))
    room = lambda gap: 2 * gap  # noqa: E731
    yield at_most(room, by(log_bound, {r: sqrt(r)})), 2 * (sqrt(r) - 1)
    yield algebra, r - 1 - (sqrt(r) - 1) ** 2


@claim("probability.gibbs", week=3, source="Cover & Thomas 2006, thm 2.6.3", covers="probability.gibbs")
def gibbs():
    "KL(p || q) >= 0: it is the mean under p of q/p - 1 - log(q/p), which is nowhere negative."
    yield integral(p(x) * (log(p(x)) - log(q(x))), x)
    yield normalised(q), integral(p(x) * (log(p(x)) - log(q(x))) + q(x), x) - 1
    yield normalised(p), integral(p(x) * (log(p(x)) - log(q(x))) + q(x) - p(x), x)
    yield at_least(lambda gap: integral(p(x) * gap, x), by(log_bound, {r: q(x) / p(x)})), Integer(0)


@claim(
    "probability.gibbs_equality", week=3, source="Cover & Thomas 2006, thm 2.6.3", covers="probability.gibbs_equality"
)
def hellinger():
    "KL(p || q) is at least the integral of (sqrt p - sqrt q)^2, which vanishes for p = q alone."
    yield integral(p(x) * (log(p(x)) - log(q(x))), x)
    yield normalised(q), integral(p(x) * (log(p(x)) - log(q(x))) + q(x), x) - 1
    yield normalised(p), integral(p(x) * (log(p(x)) - log(q(x))) + q(x) - p(x), x)
    apart = integral((sqrt(p(x)) - sqrt(q(x))) ** 2, x)
    yield at_least(lambda gap: integral(p(x) * gap, x), by(log_bound_strict, {r: q(x) / p(x)})), apart


@claim("probability.jensen_log", week=3, source="Cover & Thomas 2006, thm 2.6.2", covers="probability.jensen_log")
def jensen_log():
    "The mean of a logarithm is at most the logarithm of the mean, here called m: compare with the tangent at m."
    yield integral(p(x) * log(g(x)), x)
    yield normalised(p), integral(p(x) * (log(g(x)) - log(m)), x) + log(m)
    tangent = at_most(lambda gap: integral(p(x) * gap, x), by(log_bound, {r: g(x) / m}))
    yield tangent, integral(p(x) * (g(x) / m - 1), x) + log(m)
    yield normalised(p), log(m) + integral(p(x) * g(x), x) / m - 1


@claim("probability.jensen", week=3, source="Cover & Thomas 2006, thm 2.6.2", covers="probability.jensen_log")
def jensen():
    "The mean of a logarithm is at most the logarithm of the mean."
    mean = integral(p(y) * g(y), y)
    yield integral(p(x) * log(g(x)), x)
    yield at_most(lambda gap: gap, by(jensen_log, {m: mean})), log(mean)


# ------------------------------------------------------------------------------------------------ conditional means

x_i, x_j = real("x_i x_j")
alpha_t, sigma_t = positive("alpha_t sigma_t")
a_i, a_j, w = function("a_i"), function("a_j"), function("w", kind="density")


def mean(x: Expr) -> Expr:
    """E[Z | X = x]."""
    return integral(z * c(z, x), z)


@claim("probability.tower", week=3, source="Williams 1991, sec. 9.7", covers="probability.tower")
def tower():
    """The mean of the conditional mean is the mean: what conditioning divides by comes back as the weight.

    X takes two values, of probabilities A and 1 - A, and Z has density p or q then; splitting again gives any number.
    """
    first, second = A * p(z), (1 - A) * q(z)  # the joint law of X and Z

    def given(joint: Expr) -> Expr:
        return integral(z * joint, z) / integral(joint, z)

    yield A * given(first) + (1 - A) * given(second)
    yield normalised(p), integral(z * first, z) + (1 - A) * given(second)
    yield normalised(q), integral(z * (first + second), z)


@claim("probability.total_variance", week=3, source="Williams 1991, sec. 9.7", covers="probability.total_variance")
def total_variance():
    "Variance is the mean conditional variance plus the variance of the conditional mean, X as in the tower rule."
    m_p, m_q = integral(z * p(z), z), integral(z * q(z), z)
    m = A * m_p + (1 - A) * m_q
    within = A * (integral(z**2 * p(z), z) - m_p**2) + (1 - A) * (integral(z**2 * q(z), z) - m_q**2)
    yield integral(z**2 * (A * p(z) + (1 - A) * q(z)), z) - m**2
    yield algebra, within + A * (m_p - m) ** 2 + (1 - A) * (m_q - m) ** 2


@claim("probability.mse_minimiser", week=3, source="Bishop 2006, eq. 1.90", covers="probability.mse_minimiser")
def mse_minimiser():
    "At each x the squared error of f(x) is the conditional variance plus the squared distance to the conditional mean."
    variance = integral(z**2 * c(z, x), z) - mean(x) ** 2
    yield integral((z - f(x)) ** 2 * c(z, x), z)
    yield normalised(c), variance + (f(x) - mean(x)) ** 2
    yield at_least((f(x) - mean(x)) ** 2), variance


@claim("probability.denoiser_jacobian", week=3, source="Efron 2011, eq. 2.9", covers="probability.denoiser_jacobian")
def denoiser_jacobian():
    """The denoised coordinate i answers to the noised coordinate j by alpha_t/sigma_t^2 times their covariance.

    The law of (x_0i, x_0j) is that of (a_i(y), a_j(y)) for a hidden y, as every law in the plane is; w(y) is, up to a
    factor, the density of y times the kernel of all other coordinates.
    """
    distance2 = (x_i - alpha_t * a_i(y)) ** 2 + (x_j - alpha_t * a_j(y)) ** 2
    seen = w(y) * exp(-distance2 / (2 * sigma_t**2))  # the kernel's constant cancels

    def given(of: Expr) -> Expr:
        return integral(of * seen, y) / integral(seen, y)

    yield Derivative(given(a_i(y)), x_j)
    covariance = given(a_i(y) * a_j(y)) - given(a_i(y)) * given(a_j(y))
    yield leibniz, alpha_t / sigma_t**2 * covariance


@claim("probability.second_moment", week=3, source="Bishop 2006, eq. 1.40")
def second_moment():
    "About any level k the second moment exceeds 2 k E f - k^2 by the mean of a square."
    yield integral(p(y) * f(y) ** 2, y)
    yield normalised(p), integral(p(y) * (f(y) - k) ** 2, y) + 2 * k * integral(p(y) * f(y), y) - k**2
    yield at_least(integral(p(y) * (f(y) - k) ** 2, y)), 2 * k * integral(p(y) * f(y), y) - k**2


@claim("probability.covariance_psd", week=3, source="Efron 2011, eq. 2.9", covers="probability.denoiser_jacobian_psd")
def covariance_psd():
    "A covariance is positive semidefinite: in any direction, f = <direction, x_0>, it is a variance, and not negative."
    yield integral(p(y) * f(y) ** 2, y) - integral(p(y) * f(y), y) ** 2
    yield at_least(lambda gap: gap, by(second_moment, {k: integral(p(y) * f(y), y)})), Integer(0)


# ------------------------------------------------------------------------------------- numbers worth remembering


@claim(
    "probability.decoupling",
    week=3,
    source="Theis et al. 2016, sec. 3.2",
    covers="probability.likelihood_quality_decouple",
)
def decouple():
    "99 % noise costs at most log 100 nats of likelihood, in any dimension; p and q are the densities at one point."
    good, noise = positive("p q")
    yield log(good / 100 + 99 * noise / 100)
    yield at_least(log(1 + 99 * noise / good)), log(good) - log(100)


# ------------------------------------------------------------------------------------------------ linear equations

F, G = function("f", kind="smooth"), function("g", kind="smooth")  # drift f(t) x and diffusion g(t)
law = function("p", kind="density")  # of x at time t
fokker_planck = suppose(
    Derivative(law(x, t), t),
    -Derivative(F(t) * x * law(x, t), x) + G(t) ** 2 / 2 * Derivative(law(x, t), (x, 2)),
)


@claim("probability.langevin", week=3, source="Roberts & Tweedie 1996", covers="probability.langevin_stationarity")
def langevin():
    "With drift d/dx log p and noise sqrt(2) the flux p score - p' is nothing: p is stationary."
    yield p(x) * Derivative(log(p(x)), x) - Derivative(p(x), x)
    yield algebra, Integer(0)


@claim(
    "probability.linear_mean",
    week=3,
    source="Saerkkae & Solin 2019, eq. 6.2",
    covers="probability.ito_linear_mean",
    hypotheses=[fokker_planck],
)
def linear_mean():
    "The mean of dx = f x dt + g dw obeys m' = f m: weight the Fokker-Planck equation by x and integrate by parts."
    yield Derivative(integral(x * law(x, t), x), t)
    yield leibniz, integral(x * Derivative(law(x, t), t), x)
    flux = -F(t) * x * law(x, t) + G(t) ** 2 / 2 * Derivative(law(x, t), x)
    yield parts(x, x * flux - G(t) ** 2 / 2 * law(x, t)), F(t) * integral(x * law(x, t), x)


@claim("probability.linear_second_moment", week=3, source="Saerkkae & Solin 2019, eq. 6.2", hypotheses=[fokker_planck])
def linear_second_moment():
    "The second moment of dx = f x dt + g dw grows by 2 f times itself, and by g^2."
    yield Derivative(integral(x**2 * law(x, t), x), t)
    yield leibniz, integral(x**2 * Derivative(law(x, t), t), x)
    flux = -F(t) * x * law(x, t) + G(t) ** 2 / 2 * Derivative(law(x, t), x)
    moved = integral(2 * F(t) * x**2 * law(x, t) + G(t) ** 2 * law(x, t), x)
    yield parts(x, x**2 * flux - G(t) ** 2 * x * law(x, t)), moved
    yield normalised(law), 2 * F(t) * integral(x**2 * law(x, t), x) + G(t) ** 2


M, N = function("m"), function("n")  # the first and second moment as functions of t, by the two claims above
moments = [
    suppose(Derivative(M(t), t), F(t) * M(t)),
    suppose(Derivative(N(t), t), 2 * F(t) * N(t) + G(t) ** 2),
]


@claim(
    "probability.linear_variance",
    week=3,
    source="Saerkkae & Solin 2019, eq. 6.2",
    covers="probability.ito_linear_variance",
    hypotheses=moments,
)
def linear_variance():
    "The variance n - m^2 of dx = f x dt + g dw grows by 2 f times itself, and by g^2."
    yield Derivative(N(t) - M(t) ** 2, t)
    yield algebra, 2 * F(t) * (N(t) - M(t) ** 2) + G(t) ** 2
