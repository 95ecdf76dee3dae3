"""Parameterizations: what a network predicts is a row of a 2x2 table on the basis (x0, eps).

    x_t    = alpha x0 + sigma eps        what is known
    target =     a x0 +     b eps        what is predicted

    x0 (1, 0)      eps (0, 1)      v (-sigma, alpha)      velocity (alpha', sigma')      score (0, -1/sigma)

Everything about a parameterization follows from its determinant d = alpha b - sigma a: whether x_t and the prediction
give x0 and eps at all, how an error of the prediction is amplified on the way to x0, and so which weight on its squared
error is the same loss as which weight on another's. SNR = (alpha/sigma)^2 = e^(2 half_log_snr); the papers' log-SNR is
2 half_log_snr.
"""

from __future__ import annotations

from sympy import Abs, Derivative, Expr, Integer, Integral, Rational, cos, exp, log, sin, sqrt

from theory.proof import (
    algebra,
    at_least,
    at_most,
    claim,
    function,
    let,
    log_normal,
    nonzero,
    parts,
    positive,
    real,
    substitute,
    unit,
    up_to,
)

x0, eps, x_t = real("x0 eps x_t")
alpha, sigma = positive("alpha sigma")
alpha_dot, sigma_dot, h = real("alpha_dot sigma_dot h")
a, b, a_target, b_target = real("a b a_target b_target")
snr = (alpha / sigma) ** 2
rate = positive("rate")  # -half_log_snr', at which noise overtakes signal
sigma_rate = sigma * (alpha_dot / alpha + rate)  # sigma' in terms of it


# --- the table --------------------------------------------------------------------------------------------------------


@claim("parameterization.table", week=4, source="Salimans & Ho 2022, sec. 4", covers="parameterization.table")
def table():
    """velocity is x_t's rate of change in time, v is x_t turned by a right angle, the score is q(x_t | x0)'s.

    In time alpha and sigma move at the rates alpha_dot, sigma_dot; under rotation (alpha, sigma) turns by the angle h.
    """
    known = yield let("x_t", alpha * x0 + sigma * eps)
    velocity = yield let("velocity", alpha_dot * x0 + sigma_dot * eps)
    v = yield let("v", alpha * eps - sigma * x0)
    score = yield let("score", -eps / sigma)
    yield Derivative((alpha + alpha_dot * h) * x0 + (sigma + sigma_dot * h) * eps, h)
    yield algebra, velocity

    yield (alpha * cos(h) - sigma * sin(h)) * x0 + (sigma * cos(h) + alpha * sin(h)) * eps
    yield algebra, cos(h) * known + sin(h) * v

    yield Derivative(log_normal(alpha * x0 + sigma * eps, alpha * x0, sigma**2), eps) / sigma  # dx = sigma d eps
    yield algebra, score


@claim(
    "parameterization.determinant",
    week=4,
    source="Salimans & Ho 2022, sec. 4",
    covers="parameterization.determinant",
)
def determinant():
    "d = alpha b - sigma a is the Jacobian of (x0, eps) -> (x_t, target): of any row, of x0, eps, v, velocity, score."
    half_log_snr_dot = alpha_dot / alpha - sigma_dot / sigma
    d = yield let("d", alpha * b - sigma * a)

    def jacobian(target: Expr) -> Expr:
        known = alpha * x0 + sigma * eps
        return Derivative(known, x0) * Derivative(target, eps) - Derivative(known, eps) * Derivative(target, x0)

    yield jacobian(a * x0 + b * eps)
    yield algebra, d
    yield jacobian(x0)
    yield algebra, -sigma
    yield jacobian(eps)
    yield algebra, alpha
    yield jacobian(alpha * eps - sigma * x0)
    yield algebra, alpha**2 + sigma**2
    yield jacobian(alpha_dot * x0 + sigma_dot * eps)
    yield algebra, -alpha * sigma * half_log_snr_dot
    yield jacobian(-eps / sigma)
    yield algebra, -alpha / sigma


# --- conversions ------------------------------------------------------------------------------------------------------


@claim("parameterization.cramer", week=4, source="Cramer 1750")
def cramer():
    """Any target through x_t and any prediction: d target = (a_target b - b_target a) x_t + d_target prediction.

    So one prediction gives every other wherever its own determinant d is not 0, and nowhere else.
    """
    prediction = a * x0 + b * eps
    d, d_target = alpha * b - sigma * a, alpha * b_target - sigma * a_target
    yield (a_target * b - b_target * a) * (alpha * x0 + sigma * eps) + d_target * prediction
    yield algebra, d * (a_target * x0 + b_target * eps)


@claim("parameterization.convert", week=4, source="Salimans & Ho 2022, app. D", covers="parameterization.convert")
def convert():
    """Where d is not 0, x_t and a prediction y give x0 = (b x_t - sigma y)/d and eps = (alpha y - a x_t)/d, and back.

    The row is told by its d: b = (d + sigma a)/alpha. Then v and velocity in full; eps and score are solved at sight.
    """
    d, y = nonzero("d"), real("y")
    b = (d + sigma * a) / alpha
    known, prediction = alpha * x0 + sigma * eps, a * x0 + b * eps
    yield (b * known - sigma * prediction) / d
    yield algebra, x0
    yield (alpha * prediction - a * known) / d
    yield algebra, eps
    yield alpha * (b * x_t - sigma * y) / d + sigma * (alpha * y - a * x_t) / d
    yield algebra, x_t
    yield a * (b * x_t - sigma * y) / d + b * (alpha * y - a * x_t) / d
    yield algebra, y

    yield (alpha * known - sigma * (alpha * eps - sigma * x0)) / (alpha**2 + sigma**2)
    yield algebra, x0
    yield (sigma_rate * known - sigma * (alpha_dot * x0 + sigma_rate * eps)) / (alpha * sigma * rate)
    yield algebra, x0


# --- errors -----------------------------------------------------------------------------------------------------------

d_source, d_target = nonzero("d_source d_target")
noise = (x_t - alpha * x0) / sigma  # eps at fixed x_t: what an error of x0 does to it


@claim("parameterization.error", week=4, source="Salimans & Ho 2022, sec. 4")
def error():
    "At fixed x_t an error of one prediction is one of another, times the ratio of determinants: squared, (d'/d)^2."
    prediction = real("prediction")
    ratio = yield let("ratio", (d_target / d_source) ** 2)
    yield Derivative(a * x_t + d_target / d_source * prediction, prediction) ** 2
    yield algebra, ratio


@claim("parameterization.error_eps", week=4, source="Salimans & Ho 2022, sec. 4", covers="parameterization.error_eps")
def error_eps():
    "|d eps|^2 = SNR |d x0|^2."
    yield Derivative(noise, x0) ** 2
    yield algebra, snr


@claim("parameterization.error_v", week=4, source="Salimans & Ho 2022, sec. 4", covers="parameterization.error_v")
def error_v():
    "|d v|^2 = (alpha^2 + sigma^2)^2/sigma^2 |d x0|^2."
    yield Derivative(alpha * noise - sigma * x0, x0) ** 2
    yield algebra, (alpha**2 + sigma**2) ** 2 / sigma**2


@claim("parameterization.error_velocity", source="Kingma & Gao 2023, app. D", covers="parameterization.error_velocity")
def error_velocity():
    "|d velocity|^2 = alpha^2 half_log_snr'^2 |d x0|^2."
    yield Derivative(alpha_dot * x0 + sigma_dot * noise, x0) ** 2
    yield algebra, alpha**2 * (alpha_dot / alpha - sigma_dot / sigma) ** 2


@claim("parameterization.error_score", source="Kingma & Gao 2023, app. D", covers="parameterization.error_score")
def error_score():
    "|d score|^2 = alpha^2/sigma^4 |d x0|^2."
    yield Derivative(-noise / sigma, x0) ** 2
    yield algebra, alpha**2 / sigma**4


@claim("parameterization.ends", week=4, source="Salimans & Ho 2022, sec. 4", covers="parameterization.ends")
def ends():
    """What a unit error of the prediction does to x0 (and, from x0, to eps) near either end, at a small angle h.

    At t -> 0 (alpha = cos h, sigma = sin h): x0 from eps and from v is hurt by h only, eps from x0 by 1/h. At t -> 1
    (alpha = sin h, sigma = cos h): x0 from eps is hurt by 1/h, from v by 1. For the flow (alpha = 1 - t, sigma = t) the
    velocity hurts x0 by t: nothing at one end, 1 at the other.
    """
    h, t = unit("h t")
    v, velocity = real("v velocity")

    def from_eps(alpha: Expr, sigma: Expr) -> Expr:
        return -Derivative((x_t - sigma * eps) / alpha, eps)

    def from_v(alpha: Expr, sigma: Expr) -> Expr:
        return -Derivative((alpha * x_t - sigma * v) / (alpha**2 + sigma**2), v)

    def eps_from_x0(alpha: Expr, sigma: Expr) -> Expr:
        return -Derivative((x_t - alpha * x0) / sigma, x0)

    at_0, at_1 = (cos(h), sin(h)), (sin(h), cos(h))
    for harm, size, next_term in (
        (from_eps(*at_0), h, Rational(1, 3)),
        (from_v(*at_0), h, Rational(-1, 6)),
        (eps_from_x0(*at_0), 1 / h, Rational(-1, 3)),
        (from_eps(*at_1), 1 / h, Rational(-1, 3)),
        (from_v(*at_1), Integer(1), Rational(-1, 2)),
        (eps_from_x0(*at_1), h, Rational(1, 3)),
    ):
        yield harm / size
        yield up_to(h, 2, next_term), Integer(1)

    yield Derivative(x_t - t * velocity, velocity)
    yield algebra, -t


# --- weights ----------------------------------------------------------------------------------------------------------

half_log_snr, bias, mean = real("half_log_snr bias mean")
gamma, floor, k, scale, sigma_data = positive("gamma floor k scale sigma_data")
SNR = exp(2 * half_log_snr)
sigma_here = alpha * exp(-half_log_snr)
VP = {alpha: 1 / sqrt(1 + exp(-2 * half_log_snr))}  # alpha^2 + sigma^2 = 1


def least(x: Expr, y: Expr) -> Expr:
    """The smaller of two numbers."""
    return (x + y - Abs(x - y)) / 2


def amplified(target: Expr) -> Expr:
    """The squared error of the target at fixed x_t, for a unit error of x0 (see error_eps .. error_score)."""
    return (Derivative(target, x0) ** 2).subs(sigma, sigma_here)


@claim("parameterization.min_snr", source="Hang et al. 2023, sec. 3.4", covers="parameterization.min_snr")
def min_snr():
    """min(SNR, gamma) on x0, over the error's amplification, is the weight on eps, v, v under VP, velocity, score.

    Under VP the weight on v is min(SNR, gamma)/(SNR + 1): one power of SNR + 1, not two. The smaller of two numbers is
    that of their logarithms.
    """
    weight = yield let("weight", exp(least(2 * half_log_snr, log(gamma))))
    on_v = alpha * noise - sigma * x0
    yield 2 * log(weight)
    yield algebra, 2 * half_log_snr + log(gamma) - Abs(2 * half_log_snr - log(gamma))

    yield weight / amplified(noise)
    yield algebra, weight / SNR
    yield weight / amplified(on_v)
    yield algebra, weight * sigma_here**2 / (alpha**2 + sigma_here**2) ** 2
    yield weight / amplified(on_v).subs(VP)
    yield algebra, weight / (SNR + 1)
    yield weight / amplified(alpha_dot * x0 + sigma_rate * noise)
    yield algebra, weight / (alpha * rate) ** 2
    yield weight / amplified(-noise / sigma)
    yield algebra, weight * sigma_here**4 / alpha**2


@claim("parameterization.truncated_snr", source="Salimans & Ho 2022, sec. 4")
def truncated_snr():
    "max(SNR, floor) on x0, with floor = 1 in the paper, is max(SNR, floor)/(SNR + 1) on v under VP."
    weight = yield let("weight", exp(-least(-2 * half_log_snr, -log(floor))))
    yield 2 * log(weight)
    yield algebra, 2 * half_log_snr + log(floor) + Abs(2 * half_log_snr - log(floor))

    yield weight / amplified(alpha * noise - sigma * x0).subs(VP)
    yield algebra, weight / (SNR + 1)


@claim("parameterization.weight_p2", source="Choi et al. 2022, eq. 8", covers="parameterization.weight_p2")
def weight_p2():
    "(k + SNR)^(-gamma) on eps is SNR (k + SNR)^(-gamma) on x0; it falls with SNR, so that noisy steps count more."
    weight = yield let("weight", (k + SNR) ** (-gamma))
    yield amplified(noise) * weight
    yield algebra, SNR * weight

    yield Derivative((k + SNR) ** (-gamma), half_log_snr)
    yield algebra, -2 * gamma * SNR / (k + SNR) * weight
    yield at_most(2 * gamma * SNR * (k + SNR) ** (-gamma - 1)), Integer(0)


@claim("parameterization.weight_edm", source="Karras et al. 2022, tab. 1", covers="parameterization.weight_edm")
def weight_edm():
    "EDM's (s^2 + sigma_data^2)/(s sigma_data)^2 on x0, s = sigma/alpha, is SNR + 1/sigma_data^2."
    s = exp(-half_log_snr)
    yield (s**2 + sigma_data**2) / (s * sigma_data) ** 2
    yield algebra, SNR + 1 / sigma_data**2


@claim(
    "parameterization.weight_sigmoid",
    source="Kingma & Gao 2023; Hoogeboom et al. 2024",
    covers="parameterization.weight_sigmoid",
)
def weight_sigmoid():
    "sigmoid(bias - log-SNR) is the slope of -softplus(bias - log-SNR)/2, since log-SNR = 2 half_log_snr."
    weight = yield let("weight", 1 / (1 + exp(2 * half_log_snr - bias)))
    yield -Derivative(log(1 + exp(bias - 2 * half_log_snr)), half_log_snr) / 2
    yield algebra, weight


@claim("parameterization.weight_laplace", source="Hang et al. 2024, tab. 1", covers="parameterization.weight_laplace")
def weight_laplace():
    """The density of half_log_snr when log-SNR = 2 half_log_snr is Laplace: its distribution's slope, on either side.

    At a distance z from the mean, log-SNR = mean +- z, the mass beyond is exp(-z/scale)/2, and dz = 2 d(half_log_snr).
    """
    weight = yield let("weight", exp(-Abs(2 * half_log_snr - mean) / scale) / scale)
    z = positive("z")
    beyond = exp(-z / scale) / 2
    yield -2 * Derivative(beyond, z)
    yield algebra, exp(-Abs(2 * ((mean + z) / 2) - mean) / scale) / scale
    yield -2 * Derivative(beyond, z)
    yield algebra, exp(-Abs(2 * ((mean - z) / 2) - mean) / scale) / scale

    yield Derivative(exp(-Abs(2 * half_log_snr - mean) / scale) / scale, scale)  # 0 where scale is the distance
    yield algebra, (Abs(2 * half_log_snr - mean) / scale - 1) / scale * weight


@claim("parameterization.weight_vdm", source="Kingma et al. 2021, eq. 15-18", covers="parameterization.weight_vdm")
def weight_vdm():
    "-SNR'/2 on x0 is -half_log_snr' on eps: every half_log_snr counts alike, and that is the bound itself."
    t = real("t")
    al, si = function("alpha", kind="positive"), function("sigma", kind="positive")
    snr = (al(t) / si(t)) ** 2
    yield -Derivative(snr, t) / 2
    yield algebra, snr * -Derivative(log(al(t) / si(t)), t)


@claim(
    "parameterization.weight_times_density",
    source="Kingma & Gao 2023, sec. 3",
    covers="parameterization.weight_times_density",
)
def weight_times_density():
    "In another time t = T(u) the loss is the same with the density p(T(u)) T'(u): it sees weight x density x dt alone."
    t, u, start, end = real("t u start end")
    w, p, loss = function("w", kind="smooth"), function("p", kind="positive"), function("loss", kind="smooth")
    T = function("T", kind="monotone")
    yield Integral(w(t) * p(t) * loss(t), (t, T(start), T(end)))
    yield substitute(t, T(u), u), Integral(w(T(u)) * (p(T(u)) * Derivative(T(u), u)) * loss(T(u)), (u, start, end))


@claim(
    "parameterization.monotone_weighting",
    source="Kingma & Gao 2023, thm 1",
    covers="parameterization.monotone_weighting",
)
def monotone_weighting():
    """int w (-L') dt = int w' L dt - [w L]: a weight that rises with t mixes bounds L(t), with weights w' >= 0.

    L(t) is the bound on data already noised up to t, and -L' the unweighted loss at t. What stands outside is w(start)
    times the bound on the data itself, less w(end) L(end), where L = 0.
    """
    t, start, end = real("t start end")
    w, L = function("w", kind="increasing"), function("L", kind="decreasing")
    yield Integral(w(t) * -Derivative(L(t), t), (t, start, end))
    mixture = Integral(Derivative(w(t), t) * L(t), (t, start, end))
    yield parts(t, -w(t) * L(t)), mixture + w(start) * L(start) - w(end) * L(end)

    yield Derivative(w(t), t) * L(t)
    yield at_least(Derivative(w(t), t) * L(t)), Integer(0)
