"""Gaussians: the handful of identities that every step of diffusion is made of.

One coordinate at a time, with variances v and w: a law with independent coordinates is a product of these, and its nats
add. Dependent coordinates come in at the end: conditioning for a 2x2 covariance, and for a pair (i, j) given a third
coordinate k, which, conditioning on one coordinate after another, is conditioning on any block in any dimension.

Covariances are written so that they are positive definite by construction, and any such matrix can be so written:
S_11 = C + S_12^2/S_22 with C > 0 (the Schur complement), and for three coordinates S = L D L^T.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Lambda, Matrix, factor, log, pi, sqrt

from theory.proof import (
    E,
    algebra,
    at_least,
    by,
    claim,
    complete_the_square,
    function,
    gaussian_expectation,
    integral,
    let,
    log_normal,
    minimum,
    natural,
    normal,
    normalised,
    parts,
    positive,
    real,
    substitute,
    unit,
)

x, y, z, mu, nu, a, b, u = real("x y z mu nu a b u")
v, w, c = positive("v w c")
q = unit("q")
n = natural("n")
h = function("h", kind="smooth")
p = function("p", kind="density")


# ------------------------------------------------------------------------------------------------- one Gaussian


@claim("gaussian.density", week=3, source="Bishop 2006, eq. 1.46")
def density():
    "The log density, in nats: minus half the squared distance in standard deviations, minus the log normaliser."
    yield log(normal(x, mu, v))
    yield algebra, log_normal(x, mu, v)


@claim("gaussian.total", week=3, source="the definition of a density")
def total():
    "A density integrates to one."
    yield integral(p(x), x)
    yield normalised(p), Integer(1)


@claim("gaussian.standardised", week=3, source="Kingma & Welling 2014, sec. 2.4")
def standardised():
    "Reparameterization: x ~ N(mu, v) is mu + sqrt(v) u with u ~ N(0, 1), whatever test function h looks at it."
    yield integral(h(x) * normal(x, mu, v), x)
    yield substitute(x, mu + sqrt(v) * u, u), integral(h(mu + sqrt(v) * u) * normal(u, 0, 1), u)


@claim("gaussian.normalised", week=3, source="Bishop 2006, eq. 1.48", covers="gaussian.normalised")
def normalised_gaussian():
    "Every Gaussian integrates to one: shifted and scaled it is the standard one, whose constant is sqrt(2 pi)."
    yield integral(normal(x, mu, v), x)
    yield by(standardised, {h: Lambda(x, Integer(1))}), integral(normal(u, 0, 1), u)
    yield by(total, {p: Lambda(x, normal(x, 0, 1))}), Integer(1)


@claim("gaussian.affine", week=3, source="Bishop 2006, sec. 2.3", covers="gaussian.affine")
def affine():
    "If x ~ N(mu, v) then c x + b ~ N(c mu + b, c^2 v), whatever test function h looks at it; and -x ~ N(-mu, v)."
    yield integral(h(c * x + b) * normal(x, mu, v), x)
    yield substitute(x, (y - b) / c, y), integral(h(y) * normal(y, c * mu + b, c**2 * v), y)

    yield integral(h(-x) * normal(x, mu, v), x)
    yield substitute(x, -y, y), integral(h(y) * normal(y, -mu, v), y)


@claim("gaussian.score", week=3, source="Hyvarinen 2005, sec. 2", covers="gaussian.score")
def score():
    "The score of a Gaussian points back to its mean, the harder the narrower it is."
    yield Derivative(log_normal(x, mu, v), x)
    yield algebra, -(x - mu) / v


@claim("gaussian.stein", week=3, source="Stein 1981, lemma 1", covers="gaussian.stein")
def stein():
    "Stein's identity: under a Gaussian, weighting by x - mu is differentiating."
    yield integral((x - mu) * h(x) * normal(x, mu, v), x)
    yield parts(x, -v * h(x) * normal(x, mu, v)), v * integral(Derivative(h(x), x) * normal(x, mu, v), x)


@claim("gaussian.moments", week=3, source="Bishop 2006, ex. 1.17")
def moments():
    "The even moments of x ~ N(0, 1), as in Stein: E x^2n = (2n - 1) E x^(2n - 2), so 1, 3, 15, ...; odd ones are 0."
    lower = integral(x ** (2 * n - 2) * normal(x, 0, 1), x)
    yield integral(x ** (2 * n) * normal(x, 0, 1), x)
    yield parts(x, -(x ** (2 * n - 1)) * normal(x, 0, 1)), (2 * n - 1) * lower


@claim("gaussian.entropy", week=3, source="Cover & Thomas 2006, ex. 8.1.2", covers="gaussian.entropy")
def entropy():
    "The entropy of a Gaussian depends on its variance alone."
    yield -E(log_normal(mu + sqrt(v) * u, mu, v), u)
    yield gaussian_expectation(u), (1 + log(2 * pi * v)) / 2


@claim("gaussian.kl", week=3, source="Kingma & Welling 2014, app. B (nu = 0, w = 1)", covers="gaussian.kl")
def kl():
    "The divergence of two Gaussians: one part for the variances, one for the means."
    yield E(log_normal(mu + sqrt(v) * u, mu, v) - log_normal(mu + sqrt(v) * u, nu, w), u)
    yield gaussian_expectation(u), (v / w - 1 - log(v / w) + (mu - nu) ** 2 / w) / 2


@claim("gaussian.kl_nonnegative", week=3, source="Cover & Thomas 2006, thm 2.6.3")
def kl_nonnegative():
    "That divergence is a square plus a function of v/w that is least, and 0, at v = w."
    yield (v / w - 1 - log(v / w) + (mu - nu) ** 2 / w) / 2
    yield at_least((mu - nu) ** 2 / (2 * w)), (v / w - 1 - log(v / w)) / 2
    yield at_least(minimum(v, w)), Integer(0)


# ------------------------------------------------------------------------------------------------------ products


@claim("gaussian.product", week=3, source="Bromiley 2003, eq. 5-9", covers="gaussian.product")
def product():
    "The product of two Gaussians in x is a Gaussian in x; its mass is a Gaussian in the distance of the means."
    mean = yield let("mean", (mu * w + nu * v) / (v + w))
    variance = yield let("variance", v * w / (v + w))
    yield log_normal(x, mu, v) + log_normal(x, nu, w)
    yield complete_the_square(x), log_normal(mu, nu, v + w) + log_normal(x, mean, variance)


# ------------------------------------------------------------------------------------ conditioning, and so adding


@claim("gaussian.conditioning", week=3, source="Bishop 2006, eq. 2.113-2.117", covers="gaussian.conditioning_scalar")
def conditioning():
    "Bayes for a Gaussian x seen through y = a x + b + noise: prior plus likelihood minus evidence is a Gaussian in x."
    mean = yield let("mean", (w * mu + a * v * (y - b)) / (a**2 * v + w))
    variance = yield let("variance", v * w / (a**2 * v + w))
    gain = a * v / (a**2 * v + w)
    yield mean
    yield algebra, mu + gain * (y - a * mu - b)

    evidence = log_normal(y, a * mu + b, a**2 * v + w)
    yield log_normal(x, mu, v) + log_normal(y, a * x + b, w) - evidence
    yield complete_the_square(x), log_normal(x, mean, variance)


@claim("gaussian.reversed", week=3, source="Bishop 2006, eq. 2.113-2.117")
def reversed_order():
    "So x then y given x is y then x given y, whatever test function h looks at x."
    mean, variance = (w * mu + a * v * (y - b)) / (a**2 * v + w), v * w / (a**2 * v + w)
    yield integral(h(x) * normal(x, mu, v) * normal(y, a * x + b, w), x)
    yield algebra, normal(y, a * mu + b, a**2 * v + w) * integral(h(x) * normal(x, mean, variance), x)


@claim("gaussian.evidence", week=3, source="Bishop 2006, eq. 2.115")
def evidence():
    "The law of y = a x + b + noise alone: the prior's variance is carried along, the noise's is added."
    mean, variance = (w * mu + a * v * (y - b)) / (a**2 * v + w), v * w / (a**2 * v + w)
    seen = normal(y, a * mu + b, a**2 * v + w)
    yield integral(normal(x, mu, v) * normal(y, a * x + b, w), x)
    yield algebra, seen * integral(normal(x, mean, variance), x)
    yield by(normalised_gaussian, {mu: mean, v: variance}), seen


@claim("gaussian.sum_of_independents", week=3, source="Bishop 2006, ex. 2.40", covers="gaussian.sum_of_independents")
def sum_of_independents():
    "For independent Gaussians means add and variances add: the convolution of the densities."
    yield integral(normal(x, mu, v) * normal(z - x, nu, w), x)
    yield by(evidence, {y: z, a: 1, b: nu}), normal(z, mu + nu, v + w)


x_1, x_2, mu_1, mu_2, S_12 = real("x_1 x_2 mu_1 mu_2 S_12")
S_11, S_22, C = positive("S_11 S_22 C")


def log_normal_vector(d: Matrix, covariance: Matrix) -> Expr:
    """log N of a vector at distance d from its mean: -(d^T covariance^-1 d + log det(2 pi covariance)) / 2."""
    determinant = factor(covariance.det())
    square = (d.T * covariance.adjugate() * d)[0] / determinant
    return -(square + log((2 * pi) ** len(d) * determinant)) / 2


@claim("gaussian.schur", week=3, source="Bishop 2006, eq. 2.82")
def schur():
    "The conditional variance of x_1 is the determinant over the other variance: the Schur complement of S_22."
    yield (S_11 * S_22 - S_12**2) / S_22
    yield algebra, S_11 - S_12**2 / S_22


@claim("gaussian.conditioning_block", week=3, source="Bishop 2006, eq. 2.81-2.82", covers="gaussian.conditioning_block")
def conditioning_block():
    "A joint Gaussian is the law of x_2 times a Gaussian in x_1 whose mean is linear in x_2 and whose variance is C."
    mean = yield let("mean", mu_1 + S_12 / S_22 * (x_2 - mu_2))
    covariance = Matrix([[C + S_12**2 / S_22, S_12], [S_12, S_22]])  # C = S_11 - S_12^2/S_22, by gaussian.schur
    yield log_normal_vector(Matrix([x_1 - mu_1, x_2 - mu_2]), covariance)
    yield complete_the_square(x_1), log_normal(x_2, mu_2, S_22) + log_normal(x_1, mean, C)


@claim("gaussian.conditioning_pair", week=3, source="Bishop 2006, eq. 2.81-2.82", covers="gaussian.conditioning_block")
def conditioning_pair():
    "Given x_k, the pair (x_i, x_j) has covariance S_ij - S_ik S_jk/S_kk: one coordinate after another is any block."
    d_i, d_j, d_k = real("d_i d_j d_k")  # distances from the means
    s_i, s_j, S_kk = positive("s_i s_j S_kk")
    l_ij, l_ik, l_jk = real("l_ij l_ik l_jk")
    L = Matrix([[1, 0, 0], [l_ik, 1, 0], [l_jk, l_ij, 1]])  # the order is k, i, j
    S = L * Matrix.diag(S_kk, s_i, s_j) * L.T
    given = S[1:, 1:] - S[1:, :1] * S[:1, 1:] / S_kk
    centred = Matrix([d_i, d_j]) - S[1:, :1] / S_kk * d_k
    yield log_normal_vector(Matrix([d_k, d_i, d_j]), S)
    yield algebra, log_normal(d_k, 0, S_kk) + log_normal_vector(centred, given)


# ------------------------------------------------------------------------------------------------------ mixtures

f, g = function("f", kind="positive"), function("g", kind="positive")


@claim("gaussian.mixture", week=3, source="Bishop 2006, eq. 9.13", covers="gaussian.mixture_score")
def mixture():
    "The score of a mixture is the mean of the scores, weighted by responsibility; mixtures mix again, to any number."
    responsibility = yield let("responsibility", q * f(x) / (q * f(x) + (1 - q) * g(x)))
    yield Derivative(log(q * f(x) + (1 - q) * g(x)), x)
    mixed = responsibility * Derivative(log(f(x)), x) + (1 - responsibility) * Derivative(log(g(x)), x)
    yield algebra, mixed


@claim("gaussian.mixture_score", week=3, source="Bishop 2006, eq. 9.13", covers="gaussian.mixture_score")
def mixture_score():
    "For two Gaussians: each pulls towards its mean, with the share of x that it is responsible for."
    first, second = normal(x, mu, v), normal(x, nu, w)
    responsibility = yield let("responsibility", q * first / (q * first + (1 - q) * second))
    yield Derivative(log(q * first + (1 - q) * second), x)
    pulls = responsibility * (mu - x) / v + (1 - responsibility) * (nu - x) / w
    yield algebra, pulls
