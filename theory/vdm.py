r"""Diffusion as a variational model in continuous time: what the bound is, and what it does not depend on.

    x_t = alpha x_0 + sigma eps,    SNR = (alpha/sigma)^2 = exp(2 half_log_snr), strictly decreasing in time
    -log p(x_0)  <=  KL(q(x_b | x_0) || p_b)  +  E[-log p(x_0 | x_a)]  -  (1/2) int_a^b SNR' E|x_0 - x0_hat|^2 dt
                     prior                       reconstruction             diffusion

Data lie at time a, noise at b > a. The model runs the reversed SDE with x0_hat in the place of x_0, from its prior p_b
down to p_a. Everything is said for one coordinate: noise is independent over coordinates, so divergences and squared
errors add, and a coordinate's equations have the others as parameters.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Lambda, exp, log, pi, sqrt

from theory.proof import (
    E,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    complete_the_square,
    counting,
    function,
    gaussian_expectation,
    induction,
    integral,
    leibniz,
    let,
    log_normal,
    nonnegative,
    normal,
    parts,
    positive,
    real,
    recursion,
    sequence,
    substitute,
    suppose,
    unit,
    up_to,
)

x, x_0, x_0_hat, x_t, x_s, y, z, u, v, t = real("x x_0 x_0_hat x_t x_s y z u v t")
a = real("a")
length = positive("length")  # of the interval of time
alpha, sigma, rate = positive("alpha sigma rate")
alpha_dot, eps, eps_hat = real("alpha_dot eps eps_hat")
SNR = function("SNR", kind="decreasing")  # of time
error = function("E", kind="positive")  # E|x_0 - x0_hat|^2, of time or of SNR

# ------------------------------------------------------------------------------------------------ the continuous bound

q, p = function("q", kind="density"), function("p", kind="density")  # of x at time t
F_q, F_p = function("F_q"), function("F_p")  # drifts
g, al, si = (function(name, kind="positive") for name in ("g", "alpha", "sigma"))


def reversed_law(law: Expr, drift: Expr, g2: Expr) -> Expr:
    """The rate of change in time of a law that dx = drift dt + g dW carries back in time."""
    return -Derivative(drift * law, x) - g2 / 2 * Derivative(law, x, 2)


@claim("vdm.reversed_kernel", source="Anderson 1982; Kingma et al. 2021, app. A.2")
def reversed_kernel():
    "Given x_0, noised data are carried back by the drift f x - g^2 score, the score being that of x_0."
    kernel, variance = normal(x, al(t) * x_0, si(t) ** 2), si(t) ** 2
    f = Derivative(al(t), t) / al(t)
    g2 = Derivative(variance, t) - 2 * f * variance
    yield Derivative(kernel, t)
    yield algebra, reversed_law(kernel, f * x - g2 * (al(t) * x_0 - x) / variance, g2)


reversals = [
    suppose(Derivative(q(x, t), t), reversed_law(q(x, t), F_q(x, t), g(t) ** 2)),
    suppose(Derivative(p(x, t), t), reversed_law(p(x, t), F_p(x, t), g(t) ** 2)),
]
log_ratio, ratio = log(q(x, t) / p(x, t)), q(x, t) / p(x, t)
moved = integral(Derivative(q(x, t), t) * (log_ratio + 1) - ratio * Derivative(p(x, t), t), x)


@claim("vdm.divergence_moves", source="Song et al. 2021 (maximum likelihood), thm 1")
def divergence_moves():
    "KL(q || p) moves with either law: with q by log(q/p) + 1, with p by -q/p."
    yield Derivative(integral(q(x, t) * log_ratio, x), t)
    yield leibniz, moved


@claim("vdm.divergence_change", source="Song et al. 2021 (maximum likelihood), thm 1", hypotheses=reversals)
def divergence_change():
    """Two laws run back in time with one g: KL(q || p) changes by the mean of l (F_q - F_p) + g^2 l^2/2.

    l = (log q/p)_x is what the laws differ in by their slopes. It starts where vdm.divergence_moves ends.
    """
    yield moved
    flux_q = F_q(x, t) * q(x, t) + g(t) ** 2 / 2 * Derivative(q(x, t), x)
    flux_p = F_p(x, t) * p(x, t) + g(t) ** 2 / 2 * Derivative(p(x, t), x)
    slope, apart = Derivative(log_ratio, x), F_q(x, t) - F_p(x, t)
    certificate = ratio * flux_p - flux_q * (log_ratio + 1)
    yield parts(x, certificate), integral(q(x, t) * (slope * apart + g(t) ** 2 / 2 * slope**2), x)


apart, slope = function("A"), function("l")  # F_q - F_p and (log q/p)_x, at one time
one_law, one_g = function("q", kind="density"), positive("g")


@claim("vdm.divergence_rate", source="Song et al. 2021 (maximum likelihood), thm 1")
def divergence_rate():
    """So KL(q || p) cannot fall faster, per unit of time, than the mean of (F_q - F_p)^2/(2 g^2).

    A = F_q - F_p in vdm.divergence_change. It falls so fast just when A = -g^2 l: when the drifts are f x - g^2 times
    the laws' own scores.
    """
    change = slope(x) * apart(x) + one_g**2 / 2 * slope(x) ** 2
    yield integral(one_law(x) * change, x)
    slack = one_law(x) * one_g**2 / 2 * (slope(x) + apart(x) / one_g**2) ** 2
    yield at_least(integral(slack, x)), -integral(one_law(x) * apart(x) ** 2 / (2 * one_g**2), x)


@claim("vdm.integrand", source="Kingma et al. 2021, eq. 15")
def integrand():
    """For drifts f x - g^2 score, with the scores of x_0 and of x0_hat, it is -(1/2) SNR' (x_0 - x0_hat)^2.

    rate = -half_log_snr' > 0 says that SNR falls; then g^2 = 2 sigma^2 rate > 0. SNR rate = -(1/2) SNR' is
    parameterization.weight_vdm.
    """
    weight = yield let("weight", (alpha / sigma) ** 2 * rate)
    sigma_dot = sigma * (alpha_dot / alpha + rate)
    g2 = 2 * sigma * sigma_dot - 2 * alpha_dot / alpha * sigma**2
    drifts = (alpha_dot / alpha * x - g2 * (alpha * data - x) / sigma**2 for data in (x_0, x_0_hat))
    yield (next(drifts) - next(drifts)) ** 2 / (2 * g2)
    yield algebra, weight * (x_0 - x_0_hat) ** 2


D = function("D")  # x0_hat at x


@claim("vdm.rate", source="Kingma et al. 2021, eq. 15")
def bound_rate():
    """So KL(q(x_t | x_0) || p_t) rises by no less than (1/2) SNR' E|x_0 - x0_hat|^2 per unit of time.

    That is vdm.divergence_change with the scores of x_0 and of x0_hat = D(x): A = g^2 alpha/sigma^2 (D - x_0). And
    g^2 = 2 sigma^2 rate, rate = -half_log_snr'.
    """
    g2 = 2 * sigma**2 * rate
    drifts_apart = g2 * alpha / sigma**2 * (D(x) - x_0)
    yield integral(one_law(x) * (slope(x) * drifts_apart + g2 / 2 * slope(x) ** 2), x)
    rate_of = by(divergence_rate, {apart: Lambda(x, drifts_apart), one_g: sqrt(g2)})
    weighted = -((alpha / sigma) ** 2) * rate * integral(one_law(x) * (x_0 - D(x)) ** 2, x)
    yield at_least(lambda gap: gap, rate_of), weighted


KL, slack, snr_in_time = function("KL"), function("slack"), function("SNR")
gap = nonnegative("gap")
reconstruction, prior = real("reconstruction prior")


@claim(
    "vdm.continuous_bound",
    source="Kingma et al. 2021, eq. 15",
    covers="vdm.continuous_bound",
    hypotheses=[suppose(Derivative(snr_in_time(t), t), 2 * (Derivative(KL(t), t) - slack(t) ** 2) / error(t))],
)
def continuous_bound():
    """-log p(x_0) <= prior + reconstruction - (1/2) int SNR'(t) E|x_0 - x0_hat|^2 dt.

    KL(t) = KL(q(x_t | x_0) || p_t), and -log p(x_0) = reconstruction + KL(a) - gap by vae.elbo_identity with x_a for
    z. KL at b = a + length is the prior term, and KL' = SNR' E/2 + slack^2, the hypothesis: that is vdm.rate, where SNR
    has to fall. For exact scores and an exact decoder gap = slack = 0.
    """
    b = a + length
    yield reconstruction + KL(a) - gap
    yield parts(t, KL(t)), reconstruction + KL(b) - Integral(Derivative(KL(t), t), (t, a, b)) - gap

    lost = gap + Integral(slack(t) ** 2, (t, a, b))
    known = Integral(Derivative(KL(t), t) - slack(t) ** 2, (t, a, b))
    yield at_most(lost), reconstruction + KL(b) - known
    yield algebra, reconstruction + KL(b) - Integral(Derivative(snr_in_time(t), t) * error(t) / 2, (t, a, b))


# -------------------------------------------------------------------------------------------- of finitely many steps

alpha_s, sigma_s, sigma_t, h, M = positive("alpha_s sigma_s sigma_t h M")
kappa = unit("kappa")
snr_0 = positive("SNR_0")


@claim("vdm.step", source="Kingma et al. 2021, eq. 13-14; app. A")
def step():
    """One step's divergence KL(q(x_s | x_t, x_0) || q(x_s | x_t, x_0 = x0_hat)) = (SNR_s - SNR_t)/2 (x_0 - x0_hat)^2.

    On any schedule: kappa = sqrt(SNR_t/SNR_s) < 1, so alpha_t = kappa alpha_s sigma_t/sigma_s. First Bayes.
    """
    weight = yield let("weight", (alpha_s / sigma_s) ** 2 * (1 - kappa**2) / 2)
    alpha_t = kappa * alpha_s * sigma_t / sigma_s
    forward = log_normal(x_t, alpha_t / alpha_s * x_s, sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2)

    def mean(data: Expr) -> Expr:
        return (1 - kappa**2) * alpha_s * data + kappa * sigma_s / sigma_t * x_t

    variance = sigma_s**2 * (1 - kappa**2)
    yield forward + log_normal(x_s, alpha_s * x_0, sigma_s**2) - log_normal(x_t, alpha_t * x_0, sigma_t**2)
    yield complete_the_square(x_s), log_normal(x_s, mean(x_0), variance)

    drawn = mean(x_0) + sqrt(variance) * u
    yield E(log_normal(drawn, mean(x_0), variance) - log_normal(drawn, mean(x_0_hat), variance), u)
    yield gaussian_expectation(u), weight * (x_0 - x_0_hat) ** 2

    yield ((alpha_s / sigma_s) ** 2 - (alpha_t / sigma_t) ** 2) / 2
    yield algebra, weight


@claim("vdm.continuum", source="Kingma et al. 2021, app. A.3")
def continuum():
    """A step's term is its share of the integral up to O(h^2), sharp: too large where the error rises with time."""
    yield (SNR(t - h) - SNR(t)) / 2 * error(t)
    leading = -Derivative(SNR(t), t) * Derivative(error(t), t) / 4
    yield up_to(h, 2, leading), Integral(-Derivative(SNR(u), u) / 2 * error(u), (u, t - h, t))


rising = function("R", kind="increasing")  # R(-t): a signal-to-noise ratio that falls
room = function("room")
snr = sequence("SNR", "positive")
k = counting("k")
n = counting("n")
e_t = real("e_t")


@claim("vdm.riemann", source="Kingma et al. 2021, app. A.3")
def riemann():
    """On any grid of steps up to h the T-step bound exceeds the integral by at most M h (SNR(a) - SNR(b))/2.

    M is a Lipschitz constant of the error E: E(t + u) = E(t + h) - M (h - u) + room^2. One step from t + h to t, the
    error taken at t + h; then the sum, in which the steps' gains in SNR telescope.
    """
    falls = -Derivative(rising(-t - u), u)  # -SNR' at t + u
    gained = rising(-t) - rising(-t - h)
    yield gained / 2 * e_t - Integral(falls * (e_t - M * (h - u) + room(u) ** 2), (u, 0, h)) / 2
    yield parts(u, rising(-t - u) / 2 * e_t), Integral(falls * (M * (h - u) - room(u) ** 2), (u, 0, h)) / 2
    spare = Integral(falls * (M * u + room(u) ** 2), (u, 0, h)) / 2
    yield at_most(spare), Integral(falls * M * h, (u, 0, h)) / 2
    yield parts(u, -rising(-t - u) * M * h / 2), gained * M * h / 2

    yield recursion(y + (snr(k) - snr(k + 1)) * M * h / 2, y, k, Integer(0), n)
    yield induction(n), (snr(0) - snr(n)) * M * h / 2


drop = nonnegative("drop")


@claim("vdm.refinement", source="Kingma et al. 2021, eq. 14 and app. F", covers="vdm.refinement")
def refinement():
    """Splitting a step at u lowers the T-step bound by half of what it gains above u times the drop of the error to u.

    The step from t to s over the whole gain in SNR has the error at t; split, its part from u to s has the error at u,
    error_t - drop. An error that does not rise with SNR has drop >= 0, and only such an error is safe.
    """
    gain_su, gain_ut, e_u = positive("gain_su gain_ut e_u")
    e_t = e_u + drop
    yield (gain_su + gain_ut) / 2 * e_t
    yield at_least(gain_su / 2 * drop), gain_su / 2 * e_u + gain_ut / 2 * e_t


@claim("vdm.refinement_limit", source="Kingma et al. 2021, app. F")
def refinement_limit():
    """No refinement passes the integral: an error m(v) that falls with v = SNR has (v_s - v_t) m(v_t) >= int m dv.

    m(v) = R(-v), R increasing; the step gains h.
    """
    yield h * rising(-v) / 2
    slope = Derivative(rising(u - v - h), u)
    yield parts(u, -u * rising(u - v - h) / 2), Integral(rising(u - v - h) + u * slope, (u, 0, h)) / 2
    yield at_least(Integral(u * slope, (u, 0, h)) / 2), Integral(rising(u - v - h), (u, 0, h)) / 2


# ------------------------------------------------------------------------------------------------ what it depends on

density = function("p", kind="positive")  # of x_0; constants cancel
m = function("m", kind="positive")  # E|x_0 - x0_hat|^2 as a function of SNR
time = function("T", kind="monotone")
any_snr = function("SNR")


@claim("vdm.only_snr", source="Kingma et al. 2021, sec. 5.1")
def only_snr():
    """x_t/alpha has the law of x_0 + noise of variance 1/SNR; the denoiser and its error depend on SNR alone.

    First the kernel, with dx_t = alpha dy; then the exact denoiser at x_t = alpha y, the same for all alpha.
    """
    snr = positive("SNR")
    sigma = alpha / sqrt(snr)
    yield log_normal(alpha * y, alpha * x_0, sigma**2) + log(alpha)
    yield algebra, log_normal(y, x_0, 1 / snr)

    def denoised(x_t: Expr, alpha: Expr, sigma: Expr) -> Expr:
        seen = density(z) * exp(-((x_t - alpha * z) ** 2) / (2 * sigma**2))
        return integral(z * seen, z) / integral(seen, z)

    yield denoised(alpha * y, alpha, sigma)
    yield algebra, denoised(y, 1, 1 / sqrt(snr))


@claim("vdm.schedule_invariance", source="Kingma et al. 2021, eq. 18", covers="vdm.schedule_invariance")
def schedule_invariance():
    """Between fixed ends of SNR every schedule has one bound: (1/2) int m dSNR, in any time t or another, t = T(u).

    m(SNR) is the error, by vdm.only_snr no function of alpha and sigma otherwise. SNR falls strictly, T rises strictly.
    """
    b = a + length
    yield Integral(m(v), (v, SNR(b), SNR(a))) / 2
    yield substitute(v, SNR(t), t), Integral(-Derivative(SNR(t), t) * m(SNR(t)), (t, a, b)) / 2

    yield Integral(-Derivative(SNR(t), t) * m(SNR(t)), (t, time(a), time(b))) / 2
    yield substitute(t, time(u), u), Integral(-Derivative(SNR(time(u)), u) * m(SNR(time(u))), (u, a, b)) / 2


@claim("vdm.signed_integral", source="Kingma et al. 2021, eq. 18")
def signed_integral():
    """The integral's value needs no monotone SNR: -SNR' m(SNR)/2 is the rate of (1/2) int_SNR(t) m dv in any case.

    What breaks is the bound: where SNR rises, rate = -half_log_snr' < 0, errors are weighed negatively, and
    g^2 = 2 sigma^2 rate < 0 is no diffusion; weighed by |SNR'|, each stretch that is passed again counts again.
    """
    yield Derivative(Integral(m(v), (v, any_snr(t), snr_0)) / 2, t)
    yield leibniz, -Derivative(any_snr(t), t) * m(any_snr(t)) / 2

    either = real("rate")
    yield 2 * sigma * (sigma * (alpha_dot / alpha + either)) - 2 * alpha_dot / alpha * sigma**2
    yield algebra, 2 * sigma**2 * either


half_log_snr = function("l", kind="falling")


@claim("vdm.nelbo_eps", source="Kingma et al. 2021, eq. 17", covers="vdm.nelbo_eps")
def nelbo_eps():
    """NELBO = ends + int E|eps - eps_hat|^2 d(half_log_snr): in the noise every half_log_snr counts alike.

    At fixed x_t an error of x_0 is -sigma/alpha times one of eps; e is the mean squared error of eps_hat, as a function
    of half_log_snr = l(t), and SNR = exp(2 l).
    """
    b = a + length
    yield alpha / sigma * ((x_t - sigma * eps) / alpha - (x_t - sigma * eps_hat) / alpha)
    yield algebra, eps_hat - eps

    ends = prior + reconstruction
    yield ends + Integral(error(v), (v, half_log_snr(b), half_log_snr(a)))
    in_time = ends + Integral(-Derivative(half_log_snr(t), t) * error(half_log_snr(t)), (t, a, b))
    yield substitute(v, half_log_snr(t), t), in_time
    snr = exp(2 * half_log_snr(t))
    yield algebra, ends - Integral(Derivative(snr, t) * error(half_log_snr(t)) / snr, (t, a, b)) / 2


# ------------------------------------------------------------------------------------------------ information

s, variance = positive("s v")
law = function("q", kind="density")  # of y = sqrt(s) x_0 + eps, at s


@claim("vdm.channel", source="Guo et al. 2005, sec. II; Stam 1959")
def channel():
    """The density q of y = sqrt(s) x_0 + eps, s the SNR, moves with s as q_s = -(y q + q_y)_y/(2 s).

    Given x_0; the equation is linear and does not know x_0, so every mixture over x_0, of any law, obeys it as well.
    """
    kernel = normal(y, sqrt(s) * x_0, 1)
    yield Derivative(kernel, s)
    yield algebra, -Derivative(y * kernel + Derivative(kernel, y), y) / (2 * s)


p_x0, log_q = function("p", kind="density"), real("log_q")
heard = normal(y, sqrt(s) * x, 1)  # y given x_0 = x


@claim("vdm.information", source="Guo et al. 2005, sec. II; Cover & Thomas 2006, eq. 8.48", covers="vdm.i_mmse")
def information():
    """I(x_0; y), the mean of KL(law of y given x_0 || law of y), is the entropy of y less the noise's.

    First at each y, log_q the logarithm of its law q = E over x_0 of the channel's: summed over y, the last term is the
    entropy of y. Then the other one, summed over y instead (Fubini): minus the noise's entropy, at every x_0 = x.
    """
    yield integral(p_x0(x) * heard * (log_normal(y, sqrt(s) * x, 1) - log_q), x)
    law_of_y = integral(p_x0(x) * heard, x)
    yield algebra, integral(p_x0(x) * heard * log_normal(y, sqrt(s) * x, 1), x) - law_of_y * log_q

    yield E(log_normal(sqrt(s) * x + u, sqrt(s) * x, 1), u)
    yield gaussian_expectation(u), -(1 + log(2 * pi)) / 2


@claim(
    "vdm.i_mmse",
    source="Guo et al. 2005, thm 1",
    covers="vdm.i_mmse",
    hypotheses=[suppose(Derivative(law(y, s), s), -Derivative(y * law(y, s) + Derivative(law(y, s), y), y) / (2 * s))],
)
def i_mmse():
    """I-MMSE: d I(x_0; sqrt(s) x_0 + eps)/ds = mmse(s)/2, for a vdm.channel of any input.

    I = h(y) - h(eps), the entropy of y less the noise's (vdm.information). mmse is the mean over y of
    Var(x_0 | y) = (1 + (log q)_yy)/s: score.tweedie_second at alpha = sqrt(s), sigma = 1.
    """
    information = -integral(law(y, s) * log(law(y, s)), y) - (1 + log(2 * pi)) / 2
    yield Derivative(information, s)
    yield leibniz, -integral(Derivative(law(y, s), s) * (log(law(y, s)) + 1), y)
    fisher = Derivative(log(law(y, s)), y) ** 2
    flux = (y * law(y, s) + Derivative(law(y, s), y)) / (2 * s)
    certificate = flux * (log(law(y, s)) + 1) - y * law(y, s) / (2 * s)
    yield parts(y, certificate), integral(law(y, s) * (1 - fisher), y) / (2 * s)
    open_x0 = (1 + Derivative(log(law(y, s)), (y, 2))) / s
    yield parts(y, -Derivative(law(y, s), y) / (2 * s)), integral(law(y, s) * open_x0, y) / 2


@claim("vdm.i_mmse_gaussian", source="Guo et al. 2005, eq. 12-13")
def i_mmse_gaussian():
    "For x_0 ~ N(0, v) I = log(1 + v s)/2, a difference of entropies, and mmse = v/(1 + v s), the posterior's variance."
    information = yield let("information", log(1 + variance * s) / 2)
    mmse = yield let("mmse", variance / (1 + variance * s))
    yield E(log_normal(u, 0, 1), u) - E(log_normal(sqrt(1 + variance * s) * u, 0, 1 + variance * s), u)
    yield gaussian_expectation(u), information
    yield log_normal(y, sqrt(s) * x, 1) + log_normal(x, 0, variance) - log_normal(y, 0, 1 + variance * s)
    yield complete_the_square(x), log_normal(x, mmse * sqrt(s) * y, mmse)
    yield Derivative(log(1 + variance * s) / 2, s)
    yield algebra, mmse / 2


# ------------------------------------------------------------------------------------------------ which times to draw

root = function("r", kind="positive")  # sqrt(E[L^2 | t])
w, mean_loss = function("w", kind="positive"), function("b")
level = real("k")
unit_time = (t, 0, 1)


@claim("vdm.time_density_level", source="Nichol & Dhariwal 2021, eq. 18")
def time_density_level():
    "Compared with any level k of r/w, the integral of r^2/w exceeds 2 k int r - k^2 int w by that of a square."
    yield Integral(root(t) ** 2 / w(t), unit_time)
    away = Integral(w(t) * (root(t) / w(t) - level) ** 2, unit_time)
    yield at_least(away), 2 * level * Integral(root(t), unit_time) - level**2 * Integral(w(t), unit_time)


@claim("vdm.time_density", source="Nichol & Dhariwal 2021, eq. 18", covers="vdm.time_density")
def time_density():
    """Of all densities of t the variance of L/p(t) is least for p proportional to r = sqrt(E[L^2 | t]).

    p = w/int w on [0, 1], so E[(L/p)^2] = int w int r^2/w; the mean is int b, b = E[L | t], for every p. The least is
    (int r)^2 - (int b)^2: what is above it is, at k = int r/int w, the square of vdm.time_density_level, which vanishes
    just for w proportional to r.
    """
    yield Integral(w(t), unit_time) * Integral(root(t) ** 2 / w(t), unit_time) - Integral(mean_loss(t), unit_time) ** 2
    above = at_least(
        lambda gap: Integral(w(t), unit_time) * gap,
        by(time_density_level, {level: Integral(root(t), unit_time) / Integral(w(t), unit_time)}),
    )
    yield above, Integral(root(t), unit_time) ** 2 - Integral(mean_loss(t), unit_time) ** 2
