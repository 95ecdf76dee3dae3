"""Variational autoencoders: the evidence lower bound, in all its forms, and what Gaussian encoders make of it.

x is one data point, held fixed. q(z) is the encoder q(z | x), r(z) the true posterior p(z | x), prior(z) the prior, and
decoder(z) = p(x | z) > 0; p_x = p(x) > 0 the evidence. For vectors z the Gaussian terms are sums over coordinates.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Rational, log, pi, sqrt

from theory import gaussian, probability
from theory.proof import (
    E,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    function,
    gaussian_expectation,
    integral,
    leibniz,
    let,
    log_normal,
    minimum,
    nonnegative,
    normal,
    normalised,
    parts,
    positive,
    real,
    substitute,
)

z, x, u, mu, w = real("z x u mu w")
p_x, s, v = positive("p_x s v")
q, r, prior = (function(name, kind="density") for name in ("q", "r", "prior"))
decoder = function("decoder", kind="positive")
joint = function("joint", kind="positive")  # p(x, z) as a function of z
f = function("f", kind="smooth")


def mean(of: Expr) -> Expr:
    """E over the encoder, of an expression in z."""
    return integral(q(z) * of, z)


def kl(other: Expr) -> Expr:
    """KL(q || other)."""
    return mean(log(q(z)) - log(other))


# ------------------------------------------------------------------------------------------------------- the bound


@claim("vae.elbo_identity", week=3, source="Kingma & Welling 2014, eq. 1", covers="vae.elbo_identity")
def elbo_identity():
    "The evidence is the bound plus the encoder's divergence from the posterior p(x, z)/p(x)."
    yield mean(log(joint(z)) - log(q(z))) + kl(joint(z) / p_x)
    yield normalised(q), log(p_x)


@claim(
    "vae.elbo_forms",
    week=3,
    source="Kingma & Welling 2014, eq. 2-3",
    covers=("vae.elbo_form_joint", "vae.elbo_form_kl"),
)
def elbo_forms():
    "One bound: expected log joint plus the encoder's entropy; or reconstruction minus the divergence from the prior."
    yield mean(log(decoder(z) * prior(z)) - log(q(z)))
    yield algebra, mean(log(decoder(z)) + log(prior(z))) - mean(log(q(z)))
    yield algebra, mean(log(decoder(z))) - kl(prior(z))


@claim("vae.elbo", week=3, source="Neal & Hinton 1998, lemma 1-2", covers="vae.elbo_form_free_energy")
def elbo():
    "The third form: evidence minus the divergence from the posterior; hence a lower bound, tight at the posterior."
    yield mean(log(p_x * r(z)) - log(q(z)))
    yield normalised(q), log(p_x) - kl(r(z))
    yield at_most(lambda gap: gap, by(probability.gibbs, {probability.p: q, probability.q: r})), log(p_x)


# ----------------------------------------------------------------------------------------------- Gaussian encoders


@claim("vae.kl_standard_normal", week=3, source="Kingma & Welling 2014, app. B", covers="vae.kl_standard_normal")
def kl_standard_normal():
    "The divergence of one coordinate of the encoder from a standard normal prior."
    yield E(log_normal(mu + s * u, mu, s**2) - log_normal(mu + s * u, 0, 1), u)
    yield by(gaussian.kl, {gaussian.v: s**2, gaussian.nu: 0, gaussian.w: 1}), (mu**2 + s**2 - 1 - log(s**2)) / 2


@claim("vae.gap_linear_gaussian", week=3, source="Tipping & Bishop 1999, eq. 6", covers="vae.gap_linear_gaussian")
def gap_linear_gaussian():
    "For z ~ N(0, 1) and x ~ N(w z, v) a Gaussian encoder closes the gap: with the posterior's mean and variance."
    m = yield let("mean", w * x / (w**2 + v))
    c = yield let("variance", v / (w**2 + v))
    drawn = m + sqrt(c) * u
    yield E(log_normal(drawn, 0, 1) + log_normal(x, w * drawn, v) - log_normal(drawn, m, c), u)
    yield gaussian_expectation(u), log_normal(x, 0, w**2 + v)


# ------------------------------------------------------------------------------------------ gradients of expectations


@claim(
    "vae.reparameterized_gradient",
    week=3,
    source="Kingma & Welling 2014, sec. 2.4",
    covers="vae.reparameterized_gradient",
)
def reparameterized_gradient():
    "The gradient of an expectation, two ways: weight by the score of the law, or move the sample and differentiate f."
    yield Derivative(integral(f(z) * normal(z, mu, s**2), z), mu)
    yield leibniz, integral(f(z) * (z - mu) / s**2 * normal(z, mu, s**2), z)
    yield parts(z, -f(z) * normal(z, mu, s**2)), integral(Derivative(f(z), z) * normal(z, mu, s**2), z)
    moved = Derivative(f(z), z).subs(z, mu + s * u)
    yield substitute(z, mu + s * u, u), integral(moved * normal(u, 0, 1), u)


@claim("vae.gradient_variances", week=3, source="Mohamed et al. 2020, sec. 3-4", covers="vae.gradient_variances")
def gradient_variances():
    "For f(z) = z^2: the variance of the score-function gradient, and before it that of the reparameterized one."
    pathwise = 2 * (mu + s * u)
    yield E(pathwise**2, u) - E(pathwise, u) ** 2
    yield gaussian_expectation(u), 4 * s**2

    weighted = (mu + s * u) ** 2 * u / s
    yield E(weighted**2, u) - E(weighted, u) ** 2
    yield gaussian_expectation(u), mu**4 / s**2 + 14 * mu**2 + 15 * s**2


@claim(
    "vae.gradient_variance_ratio", week=3, source="Mohamed et al. 2020, sec. 8", covers="vae.gradient_variance_ratio"
)
def gradient_variance_ratio():
    "The ratio of the two: at least 15/4, and without bound as the law narrows."
    yield (mu**4 / s**2 + 14 * mu**2 + 15 * s**2) / (4 * s**2)
    yield algebra, (mu**4 / s**4 + 14 * mu**2 / s**2 + 15) / 4
    yield at_least((mu**4 / s**4 + 14 * mu**2 / s**2) / 4), Rational(15, 4)


# ------------------------------------------------------------------------------------------------- linear decoders

l, c = positive("l c")  # the data's variance in one direction, the model's: c = w^2 + v
B = nonnegative("B")


@claim("vae.ppca", week=3, source="Tipping & Bishop 1999, eq. 7", covers="vae.ppca_optimum")
def ppca():
    "Along a direction of variance l the likelihood is largest where the model's variance is l: w^2 = l - v, if l > v."
    yield E(log_normal(sqrt(l) * u, 0, c), u)
    yield gaussian_expectation(u), -(log(2 * pi * c) + l / c) / 2
    yield at_most(minimum(c, l)), -(log(2 * pi * l) + 1) / 2


@claim("vae.posterior_collapse", week=3, source="Lucas et al. 2019, sec. 4", covers="vae.posterior_collapse")
def posterior_collapse():
    "Where the data varies by v/(1 + B), no more than the fixed noise, any w lowers the likelihood: the latent dies."
    share = w**2 / (v + w**2)  # of the model's variance, the latent's part
    tangent = by(probability.log_bound, {probability.r: 1 - share})
    yield E(log_normal(sqrt(v / (1 + B)) * u, 0, w**2 + v), u)
    yield gaussian_expectation(u), -(log(2 * pi * (w**2 + v)) + v / (1 + B) / (w**2 + v)) / 2
    yield at_most(lambda gap: (gap + B / (1 + B) * share) / 2, tangent), -(log(2 * pi * v) + 1 / (1 + B)) / 2
