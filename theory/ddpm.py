r"""DDPM: the forward chain, its exact reversal given the data, and the variational bound.

    q(x_t | x_s) = N(sqrt(1 - beta_t) x_s, beta_t),     s the grid point before t
    alpha_bar_t  = (1 - beta_t) alpha_bar_s             retention, by structure: so 0 < alpha_bar_t < alpha_bar_s < 1

Everything is said for one coordinate; noise is independent over coordinates, so logarithms and divergences add. A
posterior or a divergence is taken as a polynomial in its variable, never by integration: an identity of logarithms
leaves no normaliser over, and an expectation over x = mean + std u needs the moments of u ~ N(0, 1) only.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Product, Rational, Sum, erf, exp, log, pi, sqrt

from theory import probability
from theory.proof import (
    E,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    complete_the_square,
    function,
    gaussian_expectation,
    induction,
    integral,
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
    unit,
    up_to,
)

x_t, x_s, x_0, u, y, z = real("x_t x_s x_0 u y z")
alpha_bar_s, beta_t = unit("alpha_bar_s beta_t")
k, n = natural("k n")

alpha_bar_t = (1 - beta_t) * alpha_bar_s
alpha_t, sigma_t = sqrt(alpha_bar_t), sqrt(1 - alpha_bar_t)  # x_t = alpha_t x_0 + sigma_t eps
beta_tilde = (1 - alpha_bar_s) * beta_t / (1 - alpha_bar_t)
pull = sqrt(alpha_bar_s) * beta_t / (1 - alpha_bar_t)  # of x_0 on the posterior's mean


def posterior_mean(data: Expr) -> Expr:
    """Mean of q(x_s | x_t, x_0 = data)."""
    return pull * data + sqrt(1 - beta_t) * (1 - alpha_bar_s) / (1 - alpha_bar_t) * x_t


# ------------------------------------------------------------------------------------------------ the forward chain

m, gamma = real("m gamma")
v_s = positive("v_s")


@claim("ddpm.step", week=4, source="Ho et al. 2020, eq. 2")
def step():
    """One step takes N(m, v) to N(sqrt(1 - beta_t) m, (1 - beta_t) v + beta_t), so that a unit variance stays one.

    The law of (x_s, x_t) is that marginal times a Gaussian in x_s, which integrates to one.
    """
    mean, variance = sqrt(1 - beta_t) * m, (1 - beta_t) * v_s + beta_t
    yield log_normal(x_s, m, v_s) + log_normal(x_t, sqrt(1 - beta_t) * x_s, beta_t)
    back = log_normal(x_s, m + sqrt(1 - beta_t) * v_s / variance * (x_t - mean), v_s * beta_t / variance)
    yield complete_the_square(x_s), log_normal(x_t, mean, variance) + back


@claim("ddpm.forward", week=4, source="Ho et al. 2020, eq. 2 and 4", covers="ddpm.forward_marginal")
def forward():
    """One more step from the data: N(sqrt(alpha_bar_s) x_0, 1 - alpha_bar_s) becomes the same in alpha_bar_t.

    That is ddpm.step at m = sqrt(alpha_bar_s) x_0 and v = 1 - alpha_bar_s.
    """
    step_mean = yield let("step_mean", sqrt(1 - beta_t) * x_s)
    mean = yield let("mean", sqrt(alpha_bar_t) * x_0)
    variance = yield let("variance", 1 - alpha_bar_t)
    yield log_normal(x_s, sqrt(alpha_bar_s) * x_0, 1 - alpha_bar_s) + log_normal(x_t, step_mean, beta_t)
    back = log_normal(x_s, posterior_mean(x_0), beta_tilde)
    yield complete_the_square(x_s), log_normal(x_t, mean, variance) + back


beta = sequence("beta", "unit")


@claim("ddpm.chain", week=4, source="Ho et al. 2020, eq. 4", covers="ddpm.forward_marginal_induction")
def chain():
    """By induction on steps q(x_n | x_0) = N(sqrt(alpha_bar_n) x_0, 1 - alpha_bar_n).

    alpha_bar_n is the product of 1 - beta_k. The two recursions are what ddpm.step does to mean and variance, starting
    from the point x_0.
    """
    yield recursion(sqrt(1 - beta(k + 1)) * y, y, k, x_0, n)
    yield induction(n), Product(sqrt(1 - beta(k)), (k, 1, n)) * x_0

    yield recursion((1 - beta(k + 1)) * y + beta(k + 1), y, k, 0, n)
    yield induction(n), 1 - Product(1 - beta(k), (k, 1, n))


# ---------------------------------------------------------------------------------------------- the reversed chain


@claim(
    "ddpm.posterior",
    week=4,
    source="Ho et al. 2020, eq. 6-7",
    covers=("ddpm.posterior_mean", "ddpm.posterior_variance"),
)
def posterior():
    "Bayes: q(x_s | x_t, x_0) is Gaussian in x_s, with no normaliser left over."
    mean = yield let("mean", posterior_mean(x_0))
    variance = yield let("variance", beta_tilde)
    prior = log_normal(x_s, sqrt(alpha_bar_s) * x_0, 1 - alpha_bar_s)
    yield log_normal(x_t, sqrt(1 - beta_t) * x_s, beta_t) + prior - log_normal(x_t, alpha_t * x_0, 1 - alpha_bar_t)
    yield complete_the_square(x_s), log_normal(x_s, mean, variance)


eps, eps_hat, v_0, v_hat, score, score_hat, D = real("eps eps_hat v_0 v_hat score score_hat D")


@claim("ddpm.posterior_eps", week=4, source="Ho et al. 2020, eq. 11")
def posterior_eps():
    "The posterior's mean with x_0 = (x_t - sigma_t eps) / alpha_t: x_t without a share of its noise, scaled up."
    yield posterior_mean((x_t - sigma_t * eps) / alpha_t)
    yield algebra, (x_t - beta_t / sigma_t * eps) / sqrt(1 - beta_t)


# ---------------------------------------------------------------------------------------------------- the bound

log_q, log_r, log_p = sequence("log_q", "real"), sequence("log_r", "real"), sequence("log_p", "real")
log_prior = real("log_prior")
q, r = function("q", kind="density"), function("r", kind="density")
p_0 = positive("p_0")


@claim("ddpm.telescope", week=4, source="Ho et al. 2020, app. A")
def telescope():
    """Along any path the log-ratio of forward chain and model is L_T's, plus one for each step, plus L_0's.

    log_q(k) = log q(x_k | x_0), log_r(k) = log q(x_(k-1) | x_k, x_0), log_p(k) = log p(x_(k-1) | x_k). The forward step
    q(x_k | x_(k-1)) is, by Bayes, log_r(k) + log_q(k) - log_q(k-1): the marginals cancel pairwise. T = n + 1.
    """
    forward_step = log_r(k + 2) + log_q(k + 2) - log_q(k + 1)
    yield recursion(y + forward_step - log_p(k + 2), y, k, log_q(1) - log_prior - log_p(1), n)
    L_T, L_0 = log_q(n + 1) - log_prior, -log_p(1)
    yield induction(n), L_T + Sum(log_r(k + 1) - log_p(k + 1), (k, 1, n)) + L_0


@claim("ddpm.bound", week=4, source="Ho et al. 2020, eq. 3 and 5; app. A", covers="ddpm.bound")
def bound():
    """The mean log-ratio over forward paths z = (x_1, ..., x_T) bounds -log p(x_0) from above: L_T + sum L_(k-1) + L_0.

    q(z) is the forward law given x_0, p_0 = p(x_0) the model's likelihood and r(z) = p(z | x_0) its true posterior: the
    gap is KL(q || r). ddpm.telescope splits the log-ratio; given (x_k, x_0) each middle part's mean is a divergence.
    """
    yield integral(q(z) * (log(q(z)) - log(p_0 * r(z))), z)
    yield normalised(q), integral(q(z) * log(q(z) / r(z)), z) - log(p_0)
    to_posterior = by(probability.gibbs, {probability.q: r, probability.p: q})
    yield at_least(lambda gap: gap, to_posterior), -log(p_0)


Sigma = positive("Sigma")  # variance of the model's reverse step


@claim("ddpm.divergence", week=4, source="Ho et al. 2020, eq. 8")
def divergence():
    "Two Gaussians whose means move with the data, one at x_0 and one at D: a squared error, and a part without D."
    x_s = m + gamma * x_0 + sqrt(v_s) * u
    yield E(log_normal(x_s, m + gamma * x_0, v_s) - log_normal(x_s, m + gamma * D, Sigma), u)
    yield gaussian_expectation(u), gamma**2 / (2 * Sigma) * (x_0 - D) ** 2 + (v_s / Sigma - 1 - log(v_s / Sigma)) / 2


@claim("ddpm.transition", week=4, source="Ho et al. 2020, eq. 8")
def transition():
    """L_(t-1) = KL(q(x_s | x_t, x_0) || N(posterior mean with D for x_0, Sigma)) = weight (x_0 - D)^2 + variance_kl.

    That is ddpm.divergence; gamma is the slope of the posterior's mean in x_0, v_s its variance.
    """
    weight = yield let("weight", alpha_bar_s * beta_t**2 / (2 * Sigma * (1 - alpha_bar_t) ** 2))
    variance_kl = yield let("variance_kl", (beta_tilde / Sigma - 1 - log(beta_tilde / Sigma)) / 2)
    yield Derivative(posterior_mean(x_0), x_0) ** 2 / (2 * Sigma)
    yield algebra, weight

    precision = 1 / (1 - alpha_bar_s) + (1 - beta_t) / beta_t  # of x_s: from x_0, and from x_t
    yield (1 / (precision * Sigma) - 1 + log(precision) + log(Sigma)) / 2
    yield algebra, variance_kl


gain = (alpha_bar_s / (1 - alpha_bar_s) - alpha_bar_t / (1 - alpha_bar_t)) / 2  # half of what the step gains in SNR
weight_x0 = pull**2 / (2 * Sigma)


@claim("ddpm.loss_x0", week=4, source="Kingma et al. 2021, eq. 14; Salimans & Ho 2022", covers="ddpm.loss_x0")
def loss_x0():
    "With Sigma = beta_tilde the weight of L_(t-1) in x_0 is half of what the step gains in signal-to-noise ratio."
    ratio = beta_tilde / Sigma
    yield (weight_x0 * (x_0 - D) ** 2 + (ratio - 1 - log(ratio)) / 2).subs(Sigma, beta_tilde)
    yield algebra, gain * (x_0 - D) ** 2


@claim("ddpm.loss_eps", week=4, source="Ho et al. 2020, eq. 12", covers="ddpm.loss_eps")
def loss_eps():
    "L_(t-1) in the noise, for a prediction eps_hat of it: DDPM's own weight."
    weight = yield let("weight", beta_t**2 / (2 * Sigma * (1 - beta_t) * (1 - alpha_bar_t)))
    yield weight_x0 * ((x_t - sigma_t * eps) / alpha_t - (x_t - sigma_t * eps_hat) / alpha_t) ** 2
    yield algebra, weight * (eps - eps_hat) ** 2


@claim("ddpm.loss_v", week=4, source="Salimans & Ho 2022, app. D", covers="ddpm.loss_v")
def loss_v():
    "L_(t-1) in v = alpha_t eps - sigma_t x_0, for which x_0 = alpha_t x_t - sigma_t v; then with Sigma = beta_tilde."
    weight = yield let("weight", alpha_bar_s * beta_t**2 / (2 * Sigma * (1 - alpha_bar_t)))
    yield weight_x0 * ((alpha_t * x_t - sigma_t * v_0) - (alpha_t * x_t - sigma_t * v_hat)) ** 2
    yield algebra, weight * (v_0 - v_hat) ** 2

    matched = weight_x0.subs(Sigma, beta_tilde)
    yield matched * ((alpha_t * x_t - sigma_t * v_0) - (alpha_t * x_t - sigma_t * v_hat)) ** 2
    yield algebra, gain * sigma_t**2 / (alpha_t**2 + sigma_t**2) ** 2 * (v_0 - v_hat) ** 2


@claim("ddpm.loss_score", week=4, source="Song et al. 2021 (SDE), eq. 7", covers="ddpm.loss_score")
def loss_score():
    "L_(t-1) in the score, for which x_0 = (x_t + sigma_t^2 score) / alpha_t; then with Sigma = beta_tilde."
    weight = yield let("weight", beta_t**2 / (2 * Sigma * (1 - beta_t)))
    data, data_hat = ((x_t + sigma_t**2 * s) / alpha_t for s in (score, score_hat))
    yield weight_x0 * (data - data_hat) ** 2
    yield algebra, weight * (score - score_hat) ** 2

    yield weight_x0.subs(Sigma, beta_tilde) * (data - data_hat) ** 2
    yield algebra, gain * sigma_t**4 / alpha_t**2 * (score - score_hat) ** 2


@claim("ddpm.loss_simple", week=4, source="Ho et al. 2020, eq. 14", covers="ddpm.loss_simple")
def loss_simple():
    "The simple loss is L_(t-1)'s squared error times one over its weight in the noise, which is positive."
    weight = yield let("weight", 2 * Sigma * (1 - beta_t) * (1 - alpha_bar_t) / beta_t**2)
    yield weight * weight_x0 * ((x_t - sigma_t * eps) / alpha_t - (x_t - sigma_t * eps_hat) / alpha_t) ** 2
    yield by(loss_eps, {}, times=weight), (eps - eps_hat) ** 2


alpha_bar_T = unit("alpha_bar_T")


@claim("ddpm.prior_loss", week=4, source="Ho et al. 2020, sec. 3.1", covers="ddpm.prior_loss")
def prior_loss():
    "L_T, what is left of the signal at the end, in nats: no parameter is in it, and it vanishes with alpha_bar_T."
    x_T = sqrt(alpha_bar_T) * x_0 + sqrt(1 - alpha_bar_T) * u
    yield E(log_normal(x_T, sqrt(alpha_bar_T) * x_0, 1 - alpha_bar_T) - log_normal(x_T, 0, 1), u)
    yield gaussian_expectation(u), (alpha_bar_T * x_0**2 - alpha_bar_T - log(1 - alpha_bar_T)) / 2


# ------------------------------------------------------------------------------------------------- the decoder, bits

c = real("c")
width = positive("w")
cdf = sequence("cdf", "real")


def Phi(a: Expr) -> Expr:
    """The standard normal distribution function."""
    return (1 + erf(a / sqrt(2))) / 2


@claim("ddpm.discretised_decoder", week=4, source="Ho et al. 2020, eq. 13", covers="ddpm.discretised_decoder")
def discretised_decoder():
    """The decoder's bins sum to one: what the first bin and n inner bins leave over is the last bin.

    cdf(k) is the distribution function at edge k. A bin of centre c and width w (in standard deviations, from the mean)
    holds its width times the density there, up to a term that starts with w^3.
    """
    yield recursion(y - (cdf(k + 2) - cdf(k + 1)), y, k, 1 - cdf(1), n)
    yield induction(n), 1 - cdf(n + 1)

    bin = yield let("bin", log(Phi(c + width / 2) - Phi(c - width / 2)))
    yield exp(bin)
    yield up_to(width, 3, (c**2 - 1) / 24 * normal(c, 0, 1)), width * normal(c, 0, 1)


nll = real("nll")
d = natural("d")


@claim("ddpm.bits_per_dimension", week=4, source="Theis et al. 2016, sec. 3.1", covers="ddpm.bits_per_dimension")
def bits_per_dimension():
    """Bits per dimension of a density of n levels in d dimensions, in nats on [-1, 1]^d: an offset of log2(n/2) each.

    The levels are dequantised, x = 2 (k + u) / n - 1 with u in [0, 1): in units of one level the density exp(-nll) is
    multiplied by dx/dk = 2/n for each dimension. Minus its log2, over d, is the number of bits.
    """
    bits = yield let("bits", nll / (d * log(2)))
    yield -log(exp(-nll) * (2 / n) ** d) / (d * log(2))
    yield algebra, bits + log(n / 2) / log(2)


# ------------------------------------------------------------------------------------------------- reverse variance

p = function("p", kind="density")
C, S, gap = nonnegative("C S gap")
V, M = positive("V M")
mu = real("mu")
v = unit("v")


@claim("ddpm.best_variance", week=4, source="Bao et al. 2022, thm 1")
def best_variance():
    "Of all Gaussians N(m, Sigma), the one that fits x_s best has its mean squared deviation M from m for Sigma."
    yield log(2 * pi * Sigma) / 2 + M / (2 * Sigma)  # -E log N(x_s; m, Sigma)
    yield at_least(minimum(Sigma, M)), log(2 * pi * M) / 2 + Rational(1, 2)


@claim("ddpm.deviation", week=4, source="Bao et al. 2022, lemma 9")
def deviation():
    """A Gaussian of variance v_s whose mean moves with x_0 by gamma: its mean squared deviation from the mean at D.

    At a given x_0; then over any law p of x_0; then with C for the mean of (x_0 - D)^2.
    """
    yield E((gamma * (x_0 - D) + sqrt(v_s) * u) ** 2, u)
    yield gaussian_expectation(u), v_s + gamma**2 * (x_0 - D) ** 2

    yield integral(p(x_0) * (v_s + gamma**2 * (x_0 - D) ** 2), x_0)
    yield normalised(p), v_s + gamma**2 * integral(p(x_0) * (x_0 - D) ** 2, x_0)

    yield E((gamma * sqrt(C) * u) ** 2 + v_s, u)
    yield gaussian_expectation(u), v_s + gamma**2 * C


@claim("ddpm.optimal_variance", week=4, source="Bao et al. 2022, thm 1")
def optimal_variance():
    """Around the exact prediction D = E[x_0 | x_t], x_s has the posterior's own variance plus a share of x_0's, C.

    That is ddpm.deviation; gamma is the slope of the posterior's mean in x_0, v_s its variance.
    """
    yield 1 / (1 / (1 - alpha_bar_s) + (1 - beta_t) / beta_t) + Derivative(posterior_mean(x_0), x_0) ** 2 * C
    yield algebra, beta_tilde + alpha_bar_s * beta_t**2 / (1 - alpha_bar_t) ** 2 * C


@claim("ddpm.optimal_variance_lower", week=4, source="Ho et al. 2020, sec. 3.2", covers="ddpm.optimal_variance_lower")
def optimal_variance_lower():
    "The best reverse variance is at least beta_tilde; for a data point, which is its own prediction, it is beta_tilde."
    yield beta_tilde + pull**2 * C
    yield at_least(pull**2 * C), beta_tilde

    yield E((posterior_mean(x_0) + sqrt(beta_tilde) * u - posterior_mean(x_0)) ** 2, u)
    yield gaussian_expectation(u), beta_tilde


alpha, sigma = positive("alpha_t sigma_t")


@claim("ddpm.data_variance", week=4, source="Bao et al. 2022, lemma 9")
def data_variance():
    "What x_t leaves open about x_0 is what it leaves open about eps, and that is 1 - sigma_t^2 E score^2 on average."
    score = Derivative(log(q(x_t)), x_t)
    open_eps = 1 + sigma**2 * Derivative(score, x_t)  # Var(eps | x_t), by score.tweedie_second
    yield sigma**2 / alpha**2 * integral(q(x_t) * open_eps, x_t)
    certificate = sigma**4 / alpha**2 * Derivative(q(x_t), x_t)
    yield parts(x_t, certificate), sigma**2 / alpha**2 * integral(q(x_t) * (1 - sigma**2 * score**2), x_t)
    yield normalised(q), sigma**2 / alpha**2 * (1 - sigma**2 * integral(q(x_t) * score**2, x_t))


best = beta_t / (1 - beta_t) * (1 - beta_t * S)


@claim("ddpm.analytic_dpm", week=4, source="Bao et al. 2022, thm 1, eq. 8", covers="ddpm.analytic_dpm")
def analytic_dpm():
    "The best reverse variance from the scores alone: C = sigma_t^2 / alpha_t^2 (1 - sigma_t^2 S), S = E score(x_t)^2."
    yield beta_tilde + pull**2 * sigma_t**2 / alpha_t**2 * (1 - sigma_t**2 * S)
    yield algebra, best


@claim("ddpm.optimal_variance_always", week=4, source="Bao et al. 2022, thm 2", covers="ddpm.optimal_variance_always")
def optimal_variance_always():
    "Whatever the data, the best reverse variance does not exceed beta_t / (1 - beta_t)."
    yield best
    yield at_most(beta_t**2 / (1 - beta_t) * S), beta_t / (1 - beta_t)


@claim("ddpm.fisher", week=4, source="Rao 1945; Cramer 1946")
def fisher():
    "Cramer and Rao: E score^2 >= 1/V, V the variance, since score + (x - mu)/V has a mean square."
    score, away = Derivative(log(q(x_t)), x_t), (x_t - mu) / V
    yield integral(q(x_t) * score**2, x_t)
    shifted = integral(q(x_t) * ((score + away) ** 2 + 2 / V - away**2), x_t)
    yield parts(x_t, -2 * away * q(x_t)), shifted
    yield at_least(integral(q(x_t) * (score + away) ** 2, x_t)), integral(q(x_t) * (2 / V - away**2), x_t)


@claim("ddpm.optimal_variance_upper", week=4, source="Ho et al. 2020, sec. 3.2", covers="ddpm.optimal_variance_upper")
def optimal_variance_upper():
    """For data of variance v <= 1 the best reverse variance is at most beta_t; for unit Gaussian data it is beta_t.

    S = 1/V + gap, V = alpha_bar_t v + 1 - alpha_bar_t the variance of x_t and gap >= 0 by ddpm.fisher. First v < 1,
    then v = 1, then the unit Gaussian, whose score is -x_t.
    """
    V = alpha_bar_t * v + 1 - alpha_bar_t
    yield best.subs(S, 1 / V + gap)
    yield at_most(beta_t**2 / (1 - beta_t) * (gap + alpha_bar_t * (1 - v) / V)), beta_t

    yield best.subs(S, 1 + gap)
    yield at_most(beta_t**2 / (1 - beta_t) * gap), beta_t

    yield best.subs(S, E((-u) ** 2, u))
    yield gaussian_expectation(u), beta_t


@claim("ddpm.learned_variance", week=4, source="Nichol & Dhariwal 2021, eq. 15", covers="ddpm.learned_variance")
def learned_variance():
    "exp(v log beta_t + (1 - v) log beta_tilde) lies between beta_tilde and beta_t: in logs it is a weighted mean."
    log_variance = yield let("log_variance", v * log(beta_t) + (1 - v) * log(beta_tilde))
    above_one = alpha_bar_s * beta_t / (1 - alpha_bar_s)  # beta_t / beta_tilde - 1
    yield log_variance
    yield at_least(v * log(1 + above_one)), log(beta_tilde)

    yield log_variance
    yield at_most((1 - v) * log(1 + above_one)), log(beta_t)
