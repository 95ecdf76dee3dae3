r"""Latent diffusion: an encoder q(z | x), a decoder p(x | z) and a diffusion model that is the prior of z.

    bound           -log p(x) <= E_q[-log p(x | z)] + E_q[log q(z | x)] + E_q[NELBO(z)]           nats
    scale factor    k = 1/std(z): what is noised has variance 1, and the signal-to-noise ratio that the schedule says
    codebook        y = z + stop(q - z): forward the code q, backward the identity
    bins            -log P(bin of width d at x) = -log p(x) - log d + O(d^2)

NELBO(z) is what a diffusion model pays for z, an upper bound of -log p(z): vdm.continuous_bound, vdm.step. z is one
coordinate where nothing else is said; others are parameters, and nats add over coordinates that are independent.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Lambda, Matrix, Rational, Subs, log, pi, sqrt

from theory import probability
from theory.proof import (
    E,
    algebra,
    at_least,
    by,
    claim,
    function,
    gaussian_expectation,
    integral,
    let,
    limit,
    log_normal,
    nonzero,
    normalised,
    positive,
    real,
    up_to,
)

x, z, u, e, a, w = real("x z u e a w")
p_x, c, v, tau, S = positive("p_x c v tau S")
q, r = (function(name, kind="density") for name in ("q", "r"))
prior = function("prior", kind="positive")
slack = function("s")

# ------------------------------------------------------------------------------------------------------- the bound


def mean(of: Expr) -> Expr:
    """E over the encoder q(z | x), of an expression in z; x is held fixed."""
    return integral(q(z) * of, z)


@claim("latent.bound", week=6, source="Vahdat et al. 2021, eq. 3", covers="latent.bound")
def bound():
    """Reconstruction, less the encoder's entropy, and what the diffusion model pays for z: together at least -log p(x).

    prior is the law of z that the diffusion model has, NELBO = -log prior + s^2 what it pays, r the posterior p(z | x).
    First p(x), the mean of the decoder p(x | z) = p(x) r/prior under that prior. What is lost is then seen to be the
    encoder's divergence from the posterior, and the mean slack of the NELBO: nothing else.
    """
    decoder = p_x * r(z) / prior(z)
    nelbo = slack(z) ** 2 - log(prior(z))
    yield integral(prior(z) * decoder, z)
    yield normalised(r), p_x

    yield mean(-log(decoder)) + mean(log(q(z))) + mean(nelbo)
    yield normalised(q), -log(p_x) + mean(log(q(z)) - log(r(z))) + mean(slack(z) ** 2)
    closed = by(probability.gibbs, {probability.p: q, probability.q: r})
    yield at_least(lambda gap: gap + mean(slack(z) ** 2), closed), -log(p_x)


s = real("s")


@claim("latent.gaussian_nelbo", week=6, source="Kingma et al. 2021, eq. 15", covers="latent.ppca")
def gaussian_nelbo():
    """For z ~ N(0, tau) an exact diffusion model pays -log p(z) and no more, wherever its finest SNR S is.

    At the SNR s = (alpha/sigma)^2 the denoised z is tau s/(1 + tau s) times the noised one, z + e/sqrt(s). Its mean
    squared error; the integral of half of it from 0 to S, by its slope and its start, which adds nothing; with the
    reconstruction by the exact decoder p(z | z_S) the whole NELBO. At s = 0 there is no prior term.
    """
    s = positive("s")
    error = z**2 / (1 + tau * s) ** 2 + tau**2 * s / (1 + tau * s) ** 2
    denoised = tau * s / (1 + tau * s) * (z + u / sqrt(s))
    yield E((z - denoised) ** 2, u)
    yield gaussian_expectation(u), error

    paid = (z**2 * S / (1 + tau * S) + log(1 + tau * S) - tau * S / (1 + tau * S)) / 2
    yield Derivative(paid, S)
    yield algebra, error.subs(s, S) / 2
    yield paid - log_normal(z, 0, tau)
    yield limit(S), -log_normal(z, 0, tau)

    seen = z + u / sqrt(S)
    decoder = log_normal(z, tau * S / (1 + tau * S) * seen, tau / (1 + tau * S))
    yield paid - E(decoder, u)
    yield gaussian_expectation(u), -log_normal(z, 0, tau)


def averaged(a: Expr, c: Expr, l: Expr) -> Expr:
    """The latent bound, averaged over data N(0, l): decoder N(w z, v), encoder N(a x, c), diffusion prior N(0, tau)."""
    reconstruction = log(2 * pi * v) + ((1 - w * a) ** 2 * l + w**2 * c) / v
    return (reconstruction - log(c) - 1 + log(tau) + (a**2 * l + c) / tau) / 2


l = positive("l")


@claim("latent.ppca_bound", week=6, source="Tipping & Bishop 1999, eq. 3-6; Vahdat et al. 2021", covers="latent.ppca")
def ppca_bound():
    """The bound of linear-Gaussian latent diffusion in closed form: at one x, then averaged over data of variance l.

    z = a x + sqrt(c) u is the encoder's draw; the diffusion model pays -log N(z; 0, tau) (latent.gaussian_nelbo).
    """
    value = yield let("bound", averaged(a, c, l))
    z = a * x + sqrt(c) * u
    reconstruction = log(2 * pi * v) + ((1 - w * a) ** 2 * x**2 + w**2 * c) / v
    at_x = (reconstruction - log(c) - 1 + log(tau) + (a**2 * x**2 + c) / tau) / 2
    yield E(-log_normal(x, w * z, v) + log_normal(z, a * x, c) - log_normal(z, 0, tau), u)
    yield gaussian_expectation(u), at_x

    yield E(at_x.subs(x, sqrt(l) * u), u)
    yield gaussian_expectation(u), value


@claim("latent.ppca", week=6, source="Tipping & Bishop 1999, eq. 6-7", covers="latent.ppca")
def ppca():
    """No encoder, decoder or diffusion prior has an averaged bound below the data's entropy; the optimum reaches it.

    At the optimum the model's variance w^2 tau + v is the data's, and the encoder is the posterior, of this slope and
    variance. What is lost elsewhere: the encoder's divergence from the posterior, and the model's from the data.
    """
    total = w**2 * tau + v
    slope = yield let("slope", w * tau / total)
    variance = yield let("variance", v * tau / total)
    entropy = log(2 * pi * l) / 2 + Rational(1, 2)
    encoder = by(probability.log_bound, {probability.r: c * total / (v * tau)})
    model = by(probability.log_bound, {probability.r: l / total})
    miss = l * (a - w * tau / total) ** 2 * total / (v * tau)
    yield averaged(a, c, l)
    yield at_least(lambda one, two: (one + two + miss) / 2, encoder, model), entropy

    yield averaged(slope, variance, total)
    yield algebra, entropy.subs(l, total)


# ------------------------------------------------------------------------------------------------- rate, distortion

data, code = function("p", kind="density"), function("m", kind="density")  # of x, and the model's of z
aggregate = function("q", kind="density")  # of z, over all data: the integral of p(x) q(z | x)
source = function("b", kind="density")  # b(x, z): of x given z, by Bayes
encoder = function("q_x", kind="density")  # q_x(z, x): of z given x
evidence, posterior = function("p_m", kind="density"), function("r", kind="density")  # the model's: of x, of z given x


@claim("latent.rate_information", week=6, source="Alemi et al. 2018, eq. 4", covers="latent.rate_distortion")
def rate_information():
    """The rate E log q(z | x)/m(z) is the information I(x; z), and the aggregate posterior's divergence from m: R >= I.

    q(z | x) = q(z) b(x | z)/p(x), by Bayes, and I is the mean of log q(z | x)/q(z). First what R counts and I does not,
    at any x and z: it is about z alone, so that its mean is over the codes of all data.
    """
    given = aggregate(z) * source(x, z) / data(x)
    yield log(given / code(z)) - log(given / aggregate(z))
    yield algebra, log(aggregate(z)) - log(code(z))

    yield integral(aggregate(z) * (log(aggregate(z)) - log(code(z))), z)
    yield at_least(lambda gap: gap, by(probability.gibbs, {probability.p: aggregate, probability.q: code})), Integer(0)


@claim("latent.rate_distortion", week=6, source="Alemi et al. 2018, eq. 5-6", covers="latent.rate_distortion")
def rate_distortion():
    """Rate plus distortion is at least the entropy of the data: D + R >= H.

    At each x the encoder's divergence from the model's posterior r stands above -log p_m(x), the model's law of x; in
    the mean, the divergence of p_m from the data above H. The decoder is p_m(x) r(z | x)/m(z), by Bayes.
    """
    decoder = evidence(x) * posterior(z, x) / code(z)
    rate = log(encoder(z, x)) - log(code(z))
    yield integral(encoder(z, x) * (rate - log(decoder)), z)
    at_x = {probability.p: Lambda(z, encoder(z, x)), probability.q: Lambda(z, posterior(z, x))}
    divergence = integral(encoder(z, x) * (log(encoder(z, x)) - log(posterior(z, x))), z)
    yield normalised(encoder), divergence - log(evidence(x))
    yield at_least(lambda gap: gap, by(probability.gibbs, at_x)), -log(evidence(x))

    yield integral(data(x) * -log(evidence(x)), x)
    mismatch = by(probability.gibbs, {probability.p: data, probability.q: evidence})
    yield at_least(lambda gap: gap, mismatch), integral(data(x) * -log(data(x)), x)


# --------------------------------------------------------------------------------------------------- the scale factor

k, alpha, sigma, V = positive("k alpha sigma V")
m = real("m")


@claim("latent.scale_factor", week=6, source="Rombach et al. 2022, app. G", covers="latent.scale_factor")
def scale_factor():
    """Of k z, noised, the SNR is k^2 Var z times the schedule's: it is the schedule's for k = 1/std z, and no other k.

    First the variance of alpha k z, z of any law; then alpha = kept, with V for Var z: what it is too much by.
    """
    snr = yield let("snr", k**2 * V * alpha**2 / sigma**2)
    factor = yield let("factor", 1 / sqrt(V))
    variance = integral(q(z) * z**2, z) - integral(q(z) * z, z) ** 2
    yield integral(q(z) * (alpha * k * z) ** 2, z) - integral(q(z) * alpha * k * z, z) ** 2
    yield algebra, alpha**2 * k**2 * variance

    yield snr - alpha**2 / sigma**2
    yield algebra, (k - factor) * (k + factor) * V * alpha**2 / sigma**2


# --------------------------------------------------------------------------------------------------------- codebooks

y_1, y_2, z_1, z_2, c_1, c_2, kept = real("y_1 y_2 z_1 z_2 c_1 c_2 kept")
loss = function("L")
q_1, q_2 = function("q_1"), function("q_2")  # the code that z is replaced by


@claim("latent.straight_through", week=6, source="van den Oord et al. 2017, sec. 3.2", covers="latent.straight_through")
def straight_through():
    """y = z + stop(q(z) - z) is the code, and the gradient of any loss of y in z is its gradient in y, at the code.

    The stopped value c is a constant to the derivative. Two coordinates, one of which is differentiated: q_1 and q_2
    may depend on both, and their slopes, 0 almost everywhere, play no part.
    """
    code_1, code_2 = q_1(z_1, z_2), q_2(z_1, z_2)
    value = (z_1 + c_1).subs(c_1, code_1 - z_1)
    slope = Derivative(loss(z_1 + c_1, z_2 + c_2), z_1)
    yield Subs(slope, (c_1, c_2), (code_1 - z_1, code_2 - z_2))
    yield algebra, Subs(Derivative(loss(y_1, y_2), y_1), (y_1, y_2), (value, code_2))


beta = positive("beta")


@claim("latent.commitment", week=6, source="van den Oord et al. 2017, eq. 3", covers="latent.commitment")
def commitment():
    """|stop(z) - e|^2 + beta |z - stop(e)|^2 pulls z to its code with beta times the force that pulls the code to z.

    A stopped value is a constant, put in after the derivative. The gradients in z and in e, of ratio -beta; one of the
    coordinates, over which the squares add.
    """
    value = yield let("loss", (z - e) ** 2 + beta * (z - e) ** 2)
    stopped_z, stopped_e = real("stopped_z stopped_e")
    objective = (stopped_z - e) ** 2 + beta * (z - stopped_e) ** 2
    now = ((stopped_z, stopped_e), (z, e))
    yield Subs(objective, *now)
    yield algebra, value

    yield Subs(Derivative(objective, z), *now)
    yield algebra, 2 * beta * (z - e)
    yield algebra, -beta * Subs(Derivative(objective, e), *now)


# ----------------------------------------------------------------------------------------- pixels, latents and bins

d, b = positive("d"), real("b")
F = function("F", kind="monotone")  # the distribution function


@claim(
    "latent.pixel_latent_discrete",
    week=6,
    source="Cover & Thomas 2006, thm 8.3.1",
    covers="latent.pixel_latent_discrete",
)
def pixel_latent_discrete():
    """A bin of width d about x has the probability p(x) d, and costs -log p(x) - log d, up to O(d^2).

    First the width apart, so that the mean density in the bin is left. The error begins with -p''/(24 p) d^2: nothing
    where p is straight, and nothing on average over the data, since p'' integrates to 0.
    """
    density = Derivative(F(x), x)
    bend = Derivative(F(x), x, 3) / density
    yield -log(F(x + d / 2) - F(x - d / 2))
    yield algebra, -log(d) - log((F(x + d / 2) - F(x - d / 2)) / d)

    yield -log((F(x + d / 2) - F(x - d / 2)) / d)
    yield up_to(d, 2, -bend / 24), -log(density)


x_1, x_2, n_1, n_2, D_1, D_2 = real("x_1 x_2 n_1 n_2 D_1 D_2")
v_1, v_2 = positive("v_1 v_2")


@claim("latent.orthogonal", week=6, source="Bishop 2006, eq. 1.27", covers="latent.pixel_latent_discrete")
def orthogonal():
    """Pixels x and latents z = k Q x, Q a rotation, have one bound: -log p(z) is -log p(x) + log k in each coordinate.

    x ~ N(0, diag(v_1, v_2)), and k Q has the rows (a, -b), (b, a), k^2 = a^2 + b^2. Then diffusion at equal SNR, that
    is sigma for the pixels and k sigma for the latents, the noise turned as they are: the latents' denoiser is k Q
    times the pixels' (its first coordinate; the second, turned on by a quarter, is the same), and what SNR |z - D|^2
    counts is one number. So both pay the same at every SNR: the constant is all that the latents change.
    """
    a = nonzero("a")  # every rotation but quarter turns, which rename coordinates
    turn = Matrix([[a, -b], [b, a]])
    size = a**2 + b**2
    pixel, noise, spread = Matrix([x_1, x_2]), Matrix([n_1, n_2]), Matrix([[v_1, 0], [0, v_2]])
    covariance = turn * spread * turn.T
    latent = turn * pixel
    square = (latent.T * covariance.adjugate() * latent)[0] / covariance.det()
    yield square / 2 + log(4 * pi**2 * covariance.det().factor()) / 2
    yield algebra, log(size) - log_normal(x_1, 0, v_1) - log_normal(x_2, 0, v_2)

    seen = turn * (alpha * pixel + sigma * noise)
    total = alpha**2 * covariance + size * sigma**2 * Matrix.eye(2)
    of_pixel = (
        alpha * variance * (alpha * value + sigma * n) / (alpha**2 * variance + sigma**2)
        for value, variance, n in ((x_1, v_1, n_1), (x_2, v_2, n_2))
    )
    yield (alpha * covariance * total.adjugate() * seen)[0] / total.det()
    yield algebra, (turn * Matrix(list(of_pixel)))[0]

    missed = Matrix([x_1 - D_1, x_2 - D_2])
    yield alpha**2 / (size * sigma**2) * (missed.T * turn.T * turn * missed)[0]
    yield algebra, alpha**2 / sigma**2 * ((x_1 - D_1) ** 2 + (x_2 - D_2) ** 2)
