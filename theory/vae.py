"""Variational autoencoders: the evidence lower bound, in all its forms, and what linear-Gaussian models make of it.

x is one data point, held fixed. q(z) is the encoder q(z | x), r(z) the true posterior p(z | x), prior(z) the prior, and
decoder(z) = p(x | z) > 0; p_x = p(x) > 0 the evidence. For vectors z the Gaussian terms are sums over coordinates.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Lambda, Rational, Sum, exp, log, pi, sqrt

from theory import ddpm, gaussian, probability
from theory.proof import (
    E,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    function,
    gaussian_expectation,
    induction,
    integral,
    leibniz,
    let,
    log_normal,
    minimum,
    natural,
    nonnegative,
    normal,
    normalised,
    parts,
    positive,
    real,
    recursion,
    sequence,
    substitute,
    unit,
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


# -------------------------------------------------------------------------------------------- one latent, weight beta

a = real("a")
beta, G = positive("beta G")


def beta_bound(slope: Expr, spread: Expr) -> Expr:
    """The beta-VAE's objective, averaged over data N(0, l): decoder N(w z, v), encoder N(slope x, spread)."""
    reconstruction = -(log(2 * pi * v) + ((1 - w * slope) ** 2 * l + w**2 * spread) / v) / 2
    return reconstruction - beta * (slope**2 * l + spread - 1 - log(spread)) / 2


def profile(total: Expr) -> Expr:
    """The same with the best encoder, total = w^2 + beta v."""
    return -(log(2 * pi * v) + beta * (l / total + log(total / (beta * v)))) / 2


@claim("vae.beta_bound", week=3, source="Higgins et al. 2017, eq. 4; Lucas et al. 2019, eq. 7")
def beta_elbo():
    "A linear beta-VAE of one latent: its objective at one x, then averaged over data of variance l."
    bound = yield let("bound", beta_bound(a, c))
    z = a * x + sqrt(c) * u
    yield E(log_normal(x, w * z, v) - beta * (log_normal(z, a * x, c) - log_normal(z, 0, 1)), u)
    at_x = -(log(2 * pi * v) + ((1 - w * a) ** 2 * x**2 + w**2 * c) / v) / 2
    at_x -= beta * (a**2 * x**2 + c - 1 - log(c)) / 2
    yield gaussian_expectation(u), at_x

    yield E(at_x.subs(x, sqrt(l) * u), u)
    yield gaussian_expectation(u), bound


@claim("vae.beta_encoder", week=3, source="Lucas et al. 2019, sec. 4.1")
def beta_encoder():
    "Of all Gaussian encoders the best one for w is the posterior that noise of variance beta v would give."
    slope = yield let("slope", w / (w**2 + beta * v))
    variance = yield let("variance", beta * v / (w**2 + beta * v))
    best = yield let("best", profile(w**2 + beta * v))
    total = w**2 + beta * v
    tangent = by(probability.log_bound, {probability.r: c * total / (beta * v)})
    yield beta_bound(a, c)
    yield at_most(lambda gap: total / (2 * v) * l * (a - w / total) ** 2 + beta / 2 * gap, tangent), best

    yield beta_bound(slope, variance)
    yield algebra, best


@claim("vae.beta_ppca", week=3, source="Lucas et al. 2019, sec. 4.1", covers="vae.posterior_collapse_beta")
def beta_ppca():
    """Above the threshold, l = (1 + G) beta v, the latent lives: w^2 = l - beta v beats w = 0, and every other w.

    c stands for w^2 + beta v. The gain over w = 0 is at least beta (sqrt(1 + G) - 1)^2 / 2.
    """
    yield profile(c)
    yield at_most(minimum(c, l)), profile(l)

    strict = by(probability.log_bound_strict, {probability.r: 1 + G})
    yield profile(l).subs(l, (1 + G) * beta * v)
    gained = beta / 2 * (sqrt(1 + G) - 1) ** 2
    yield at_least(lambda gap: beta / 2 * gap, strict), profile(beta * v).subs(l, (1 + G) * beta * v) + gained


@claim("vae.posterior_collapse_beta", week=3, source="Lucas et al. 2019, sec. 4", covers="vae.posterior_collapse_beta")
def posterior_collapse_beta():
    """Where the data varies by l = beta v/(1 + B), no more than beta times the noise, w = 0 is best: the latent dies.

    The best encoder is then the prior: any slope a, and any variance c but 1, costs and buys nothing.
    """
    share = w**2 / (beta * v + w**2)
    tangent = by(probability.log_bound, {probability.r: 1 - share})
    dead = beta * v / (1 + B)
    yield profile(w**2 + beta * v).subs(l, dead)
    living = lambda gap: beta / 2 * (gap + B / (1 + B) * share)  # noqa: E731
    yield at_most(living, tangent), -(log(2 * pi * v) + beta / (1 + B)) / 2

    yield beta_bound(a, c).subs({l: dead, w: 0})
    prior_is_best = by(probability.log_bound, {probability.r: c})
    yield at_most(lambda gap: beta / 2 * (a**2 * dead + gap), prior_is_best), -(log(2 * pi * v) + beta / (1 + B)) / 2


@claim("vae.latent_rate", week=3, source="Alemi et al. 2018, sec. 3; Cover & Thomas 2006, sec. 10.3.3")
def latent_rate():
    """What a living latent tells about x, in nats: log(l/(beta v))/2 with l = w^2 + beta v, as reverse water-filling.

    The mean divergence of its encoder from the prior; then the reconstruction that is left.
    """
    rate = yield let("rate", log(1 + w**2 / (beta * v)) / 2)
    total = w**2 + beta * v
    yield E((w / total * sqrt(total) * u) ** 2 + beta * v / total - 1 - log(beta * v / total), u) / 2
    yield gaussian_expectation(u), rate

    yield E(log_normal(sqrt(total) * u, w * (w / total * sqrt(total) * u + sqrt(beta * v / total) * z), v), u)
    left = (beta * v) ** 2 / total + w**2 * beta * v / total * z**2
    yield gaussian_expectation(u), -(log(2 * pi * v) + left / v) / 2
    yield E(-(log(2 * pi * v) + left.subs(z, u) / v) / 2, u)
    yield gaussian_expectation(u), -(log(2 * pi * v) + beta) / 2


# ------------------------------------------------------------------------------------ beta-VAE as a constrained optimum

Z = positive("Z")
slack = nonnegative("slack")


def log_decoder(at: Expr) -> Expr:
    """log p(x | z), r being the best encoder: r(z) = prior(z) decoder(z)^(1/beta) / Z."""
    return beta * log(Z * r(at) / prior(at))


@claim("vae.beta_optimum", week=3, source="Higgins et al. 2017, eq. 4", covers="vae.beta_vae_constrained")
def beta_optimum():
    """The beta-VAE objective is beta log Z less beta KL(q || r): largest at r = prior decoder^(1/beta) / Z.

    Z is what makes r a density. Beta = 1 gives back the evidence and the posterior.
    """
    yield mean(log_decoder(z)) - beta * kl(prior(z))
    yield normalised(q), beta * log(Z) - beta * kl(r(z))
    yield at_most(lambda gap: beta * gap, by(probability.gibbs, {probability.p: q, probability.q: r})), beta * log(Z)


@claim("vae.beta_vae_constrained", week=3, source="Higgins et al. 2017, eq. 3-4", covers="vae.beta_vae_constrained")
def beta_vae_constrained():
    """No encoder with KL(q || prior) <= C reconstructs better than beta log Z + beta C; r does so well at its own KL.

    C = KL(q || prior) + slack. So the optimum r of the objective solves the constrained problem, beta the multiplier.
    """
    yield mean(log_decoder(z))
    yield at_most(lambda gap: gap + beta * slack, by(beta_optimum)), beta * log(Z) + beta * (kl(prior(z)) + slack)

    yield integral(r(z) * log_decoder(z), z)
    divergence = integral(r(z) * (log(r(z)) - log(prior(z))), z)
    yield normalised(r), beta * log(Z) + beta * divergence


@claim("vae.beta_multiplier", week=3, source="Alemi et al. 2018, sec. 3", covers="vae.beta_vae_constrained")
def beta_multiplier():
    "The linear VAE's best reconstruction at a rate of C nats grows with C at the rate beta that leads to this C."
    C = real("C")
    reconstruction = -(log(2 * pi * v) + l / v * exp(-2 * C)) / 2
    yield Derivative(reconstruction, C)
    yield algebra, l / v * exp(-2 * C)

    at_optimum = {C: log(1 + w**2 / (beta * v)) / 2, l: w**2 + beta * v}  # by vae.latent_rate and vae.beta_ppca
    yield (l / v * exp(-2 * C)).subs(at_optimum)
    yield algebra, beta

    yield reconstruction.subs(at_optimum)
    yield algebra, -(log(2 * pi * v) + beta) / 2  # what vae.latent_rate says is left


# --------------------------------------------------------------------------------------------------- diagonal encoders

z_1, z_2, t, d_1, d_2, w_11, w_12, w_21, w_22, x_1, x_2 = real("z_1 z_2 t d_1 d_2 w_11 w_12 w_21 w_22 x_1 x_2")
A, S, c_1, c_2 = positive("A S c_1 c_2")
rho = unit("rho")
COLUMNS = ((w_11, w_21), (w_12, w_22))
LENGTH_1, LENGTH_2, DOT = w_11**2 + w_21**2, w_12**2 + w_22**2, w_11 * w_12 + w_21 * w_22


@claim("vae.posterior_precision", week=3, source="Tipping & Bishop 1999, eq. 6", covers="vae.diagonal_encoder")
def posterior_precision():
    """The posterior's precision is I + W^T W/v: its off-diagonal entry is the product of two columns of W, over v.

    Two columns span a plane and the noise is the same in all directions: two data coordinates are enough for a pair.
    """
    data = log_normal(x_1, w_11 * z_1 + w_12 * z_2, v) + log_normal(x_2, w_21 * z_1 + w_22 * z_2, v)
    log_joint = data + log_normal(z_1, 0, 1) + log_normal(z_2, 0, 1)
    yield -Derivative(log_joint, z_1, z_2)
    yield algebra, DOT / v

    yield -Derivative(log_joint, (z_1, 2))
    yield algebra, 1 + LENGTH_1 / v


B_22 = S + t**2 / A
DIAGONAL_KL = A * c_1 + B_22 * c_2 - 2 - log(A * S * c_1 * c_2) + A * (d_1 + t / A * d_2) ** 2 + S * d_2**2  # twice it


@claim("vae.diagonal_kl", week=3, source="Bishop 2006, sec. 10.1.2", covers="vae.diagonal_encoder")
def diagonal_kl():
    """How far a diagonal encoder is from a posterior of precision [[A, t], [t, S + t^2/A]], in nats.

    The posterior is that of z_1 given z_2 times that of z_2: first the mean over z_1 at one z_2, then that over z_2.
    The encoder is off by d_1, d_2 in its means and has the variances c_1, c_2.
    """
    yield log(A * S) / 2 - log(2 * pi) - (A * z_1**2 + 2 * t * z_1 * z_2 + B_22 * z_2**2) / 2
    yield algebra, log_normal(z_1, -t / A * z_2, 1 / A) + log_normal(z_2, 0, 1 / S)

    first, second = d_1 + sqrt(c_1) * u, d_2 + sqrt(c_2) * u
    at_z_2 = (A * c_1 + A * (d_1 + t / A * z_2) ** 2 - 1 - log(A * c_1)) / 2
    yield E(log_normal(first, d_1, c_1) - log_normal(first, -t / A * z_2, 1 / A), u)
    yield gaussian_expectation(u), at_z_2
    yield E(at_z_2.subs(z_2, second) + log_normal(second, d_2, c_2) - log_normal(second, 0, 1 / S), u)
    yield gaussian_expectation(u), DIAGONAL_KL / 2


@claim("vae.diagonal_gap", week=3, source="Turner & Sahani 2011, sec. 1.2.2", covers="vae.diagonal_encoder")
def diagonal_gap():
    """A diagonal encoder misses that posterior by log(1 + t^2/(A S))/2 at least.

    It misses by just that with its means right and its variances the inverse of the precision's diagonal.
    """
    missed = log(1 + t**2 / (A * S)) / 2
    away = A * (d_1 + t / A * d_2) ** 2 + S * d_2**2
    variances = [by(probability.log_bound, {probability.r: ratio}) for ratio in (A * c_1, B_22 * c_2)]
    yield DIAGONAL_KL / 2
    yield at_least(lambda one, two: (away + one + two) / 2, *variances), missed

    yield (DIAGONAL_KL / 2).subs({d_1: 0, d_2: 0, c_1: 1 / A, c_2: 1 / B_22})
    yield algebra, missed


@claim("vae.diagonal_encoder", week=3, source="Lucas et al. 2019, sec. 4.2", covers="vae.diagonal_encoder")
def diagonal_encoder():
    """What a diagonal encoder misses is -log(1 - rho^2)/2, rho the posterior's correlation: at least rho^2/2 nats.

    So it is tight only if rho = 0, which is w_i . w_j = 0: rho^2 = (w_i . w_j)^2 / ((v + |w_i|^2)(v + |w_j|^2)).
    """
    gap = yield let("gap", -log(1 - rho**2) / 2)
    yield (log(1 + t**2 / (A * S)) / 2).subs({t: rho * sqrt(A * c), S: c * (1 - rho**2)})  # c = S + t^2/A
    yield algebra, gap

    rho2 = DOT**2 / ((v + LENGTH_1) * (v + LENGTH_2))
    precision = (1 + LENGTH_1 / v) * (1 + LENGTH_2 / v)
    yield -log(1 - (DOT / v) ** 2 / precision) / 2
    yield at_least(lambda gap: gap / 2, by(probability.log_bound, {probability.r: 1 - rho2})), rho2 / 2


# ---------------------------------------------------------------------------------------------------- several samples

y = real("y")
p = function("p", kind="density")
g = function("g", kind="positive")
weight = sequence("w", "positive")
k, n, K = natural("k n K")
total = positive("total")


@claim("vae.leave_one_out", week=3, source="Burda et al. 2016, app. A", covers="vae.iwae_monotone")
def leave_one_out():
    """The mean of K + 1 weights is the mean of its K + 1 leave-one-out means.

    The first n of these add up to (n total - sum of the first n weights)/K, total the sum of all; then n = K + 1.
    """
    yield recursion(y + (total - weight(k + 1)) / K, y, k, 0, n)
    yield induction(n), (n * total - Sum(weight(k), (k, 1, n))) / K

    yield ((n * total - total) / K).subs(n, K + 1) / (K + 1)
    yield algebra, total / (K + 1)


@claim("vae.iwae_monotone", week=3, source="Burda et al. 2016, thm 1", covers="vae.iwae_monotone")
def iwae_monotone():
    """L_K = E log(mean of K weights) grows with K: L_(K+1) - L_K is a divergence, KL(p || q).

    Said of one real y ~ p, which stands for all that is drawn: K + 1 weights, of mean g(y), and which of them to leave
    out. What is left has the mean g q/p, a leave-one-out mean, and is K independent weights: E log of it is L_K. That
    q is a density is the claim before this one: at given weights q/p averages to 1 over the one left out.
    """
    yield integral(p(y) * log(g(y) * q(y) / p(y)), y)
    divergence = integral(p(y) * (log(p(y)) - log(q(y))), y)
    yield algebra, integral(p(y) * log(g(y)), y) - divergence
    yield at_most(lambda gap: gap, by(probability.gibbs)), integral(p(y) * log(g(y)), y)


@claim("vae.iwae_bound", week=3, source="Burda et al. 2016, eq. 8, thm 1", covers="vae.iwae_monotone")
def iwae_bound():
    """At K = 1 the bound is the ELBO; at every K it lies below log p(x), the mean of the weights being right.

    One weight is p_x r(z)/q(z); the mean of K of them, at the draw y ~ p, is p_x g(y) with E g = 1, that is g = s/p.
    """
    s = r
    yield mean(log(p_x * r(z) / q(z)))
    yield normalised(q), log(p_x) - kl(r(z))

    yield integral(p(y) * log(p_x * s(y) / p(y)), y)
    yield normalised(p), log(p_x) - integral(p(y) * (log(p(y)) - log(s(y))), y)
    yield at_most(lambda gap: gap, by(probability.gibbs, {probability.q: s})), log(p_x)


# --------------------------------------------------------------------------------------------------- hierarchies

back, below = function("back", kind="density"), function("below", kind="density")  # q(z | y, x), p(z | y)
above = function("above", kind="smooth")  # what the levels above y add, as a function of y


@claim("vae.hierarchical_elbo", week=3, source="Sohl-Dickstein et al. 2015, eq. 14", covers="vae.hierarchical_elbo")
def hierarchical_elbo():
    """Along a path z_1 .. z_T the log-ratio of model and encoder telescopes, level by level, to DDPM's bound, negated.

    log_q(k) = log q(z_k | x), log_p(k) = log p(z_(k-1) | z_k), log_r(k) = log q(z_(k-1) | z_k, x), z_0 = x, T = n + 1.
    The encoder's step q(z_k | z_(k-1)) is, by Bayes, log_r(k) + log_q(k) - log_q(k-1), and for z_1 just log_q(1).
    """
    log_q, log_r, log_p, log_prior = ddpm.log_q, ddpm.log_r, ddpm.log_p, ddpm.log_prior
    step = log_r(k + 2) + log_q(k + 2) - log_q(k + 1)
    yield recursion(y + log_p(k + 2) - step, y, k, log_prior + log_p(1) - log_q(1), n)
    levels = Sum(log_r(k + 1) - log_p(k + 1), (k, 1, n))
    yield induction(n), log_p(1) - levels - (log_q(n + 1) - log_prior)
    yield by(ddpm.telescope, reverse=True, times=-1), -ddpm.telescope.derivation().statement()[0]


@claim("vae.hierarchical_level", week=3, source="Ho et al. 2020, app. A", covers="vae.hierarchical_elbo")
def hierarchical_level():
    """On average over z given y, the level above it, that level's part is minus a divergence, and is never positive.

    q(z | y, x) is back(z, y), p(z | y) is below(z, y); decoder(z) stands for what the levels under z give.
    """
    yield integral(back(z, y) * (log(decoder(z)) + log(below(z, y)) - log(back(z, y)) + above(y)), z)
    reconstruction = integral(back(z, y) * log(decoder(z)), z) + above(y)
    divergence = integral(back(z, y) * (log(back(z, y)) - log(below(z, y))), z)
    yield normalised(back), reconstruction - divergence
    at_y = {probability.p: Lambda(z, back(z, y)), probability.q: Lambda(z, below(z, y))}
    yield at_most(lambda gap: gap, by(probability.gibbs, at_y)), reconstruction
