r"""Solvers: what one step of a sampler is, and by how much it errs.

Time is l = half_log_snr = log(alpha/sigma), which rises while sampling; a step goes from t to s over h = l_s - l_t. In
it the probability-flow ODE has an exact linear part, so that its solution is an integral of the prediction alone:

    x_s = (sigma_s/sigma_t) x_t + sigma_s \int exp(l) D(l) dl          D(l): the denoised prediction along the path
    x_s = (alpha_s/alpha_t) x_t - alpha_s \int exp(-l) eps(l) dl       eps(l): the noise prediction along the path

A local error is what one step from the exact path misses, exact minus method, with its leading term. The order of a
method that is stable follows (Dahlquist: order p + 1 locally is order p globally); that this order is attained is shown
on a test equation, z' = k z for z = x/sigma over a length L in l: D = k x/alpha.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sympy import Add, Derivative, Expr, Integral, Rational, exp, expand, factorial, sqrt

from theory.ddim import eta_family
from theory.probability import log_bound
from theory.proof import (
    algebra,
    at_least,
    at_most,
    by,
    claim,
    complete_the_square,
    function,
    leibniz,
    let,
    limit,
    log_normal,
    natural,
    nonzero,
    parts,
    positive,
    real,
    substitute,
    unit,
    up_to,
)

x, x_t, x_s, x_0, D, D_0, D_1, D_t, D_s, l, a, u, w, t, k, c = real("x x_t x_s x_0 D D_0 D_1 D_t D_s l a u w t k c")
alpha_t, sigma_t, alpha_s, sigma_s, h, r, L, v, s = positive("alpha_t sigma_t alpha_s sigma_s h r L v s")
kappa, eta, A = unit("kappa eta A")
short = unit("h")  # a step short enough for explicit methods
m = natural("m")
al, si = function("alpha", kind="positive"), function("sigma", kind="positive")
path, slope = function("x"), function("G")
prediction, noise = function("D"), function("eps")

# ------------------------------------------------------------------------------------------------ the exact step


@claim(
    "solver.x0_form",
    source="Lu et al. 2022 (DPM-Solver++), prop. 4.1",
    covers="solver.variation_of_constants_x0",
)
def x0_form():
    "x = (sigma/sigma_t) x_t + sigma int exp(u) D(u) du solves the probability-flow ODE over l and starts at x_t."

    def solution(l: Expr) -> Expr:
        return si(l) / si(a) * x_t + si(l) * Integral(exp(u) * prediction(u), (u, a, l))

    alpha = exp(l) * si(l)  # l = log(alpha/sigma)
    state = Derivative(si(l), l) / si(l)
    denoised = Derivative(alpha, l) - alpha * Derivative(si(l), l) / si(l)
    yield Derivative(solution(l), l)
    yield leibniz, expand(state * solution(l)) + denoised * prediction(l)
    yield algebra, state * solution(l) + denoised * prediction(l)
    yield solution(a + h)
    yield up_to(h, 1, Derivative(si(a), a) / si(a) * x_t + exp(a) * si(a) * prediction(a)), x_t


@claim(
    "solver.eps_form",
    source="Lu et al. 2022 (DPM-Solver), prop. 3.1",
    covers="solver.variation_of_constants_eps",
)
def eps_form():
    "x = (alpha/alpha_t) x_t - alpha int exp(-u) eps(u) du solves the probability-flow ODE over l and starts at x_t."

    def solution(l: Expr) -> Expr:
        return al(l) / al(a) * x_t - al(l) * Integral(exp(-u) * noise(u), (u, a, l))

    sigma = exp(-l) * al(l)
    f = Derivative(al(l), l) / al(l)
    yield Derivative(solution(l), l)
    yield leibniz, expand(f * solution(l)) + (Derivative(sigma, l) - f * sigma) * noise(l)
    yield algebra, f * solution(l) + (Derivative(sigma, l) - f * sigma) * noise(l)
    yield solution(a + h)
    yield up_to(h, 1, Derivative(al(a), a) / al(a) * x_t - exp(-a) * al(a) * noise(a)), x_t


# ------------------------------------------------------------------------------------------------ phi functions


@claim("solver.phi_functions", source="Hochbruck and Ostermann 2010, eq. 2.10-2.11", covers="solver.phi_functions")
def phi_functions():
    "h^m phi_m(h) = int_0^h exp(h - w) w^(m-1)/(m-1)! dw: its equation, and h phi_(m+1) = phi_m - 1/m! from it."
    scaled = Integral(exp(h - w) * w ** (m - 1) / factorial(m - 1), (w, 0, h))
    power = h**m / (m * factorial(m - 1))  # h^m/m!
    yield Derivative(scaled, h)
    yield leibniz, scaled + h ** (m - 1) / factorial(m - 1)
    yield Derivative(scaled - power, h)  # solves the equation of h^(m+1) phi_(m+1), and starts at 0 as it does
    yield leibniz, (scaled - power) + power


q = nonzero("h")
PHI = (exp(q), (exp(q) - 1) / q, (exp(q) - 1 - q) / q**2, (exp(q) - 1 - q - q**2 / 2) / q**3)


def _phi(m: int) -> Iterator[Any]:
    """phi_m: its value at 0; the equation of phi_functions, from 0; and the integral it stands for."""
    whole, moved = exp((1 - u) * q) * u ** (m - 1) / factorial(m - 1), exp(q - w) * w ** (m - 1) / factorial(m - 1)
    yield PHI[m]
    yield limit(q), 1 / factorial(m)
    yield Derivative(q**m * PHI[m], q)
    yield algebra, q**m * PHI[m] + q ** (m - 1) / factorial(m - 1)
    yield Integral(whole, (u, 0, 1))
    yield substitute(u, w / q, w), Integral(moved, (w, 0, q)) / q**m
    antiderivative = -exp(q - w) * Add(*(w**j / factorial(j) for j in range(m)))
    yield parts(w, antiderivative / q**m), PHI[m]


@claim("solver.phi_1", source="Hochbruck and Ostermann 2010, eq. 2.10-2.11")
def phi_1():
    "phi_1(h) = (e^h - 1)/h is the mean of exp over a step, 1 at h = 0."
    yield from _phi(1)


@claim("solver.phi_2", source="Hochbruck and Ostermann 2010, eq. 2.10-2.11")
def phi_2():
    "phi_2(h) = (phi_1(h) - 1)/h = (e^h - 1 - h)/h^2, 1/2 at h = 0."
    yield from _phi(2)
    yield (PHI[1] - 1) / q
    yield algebra, PHI[2]


@claim("solver.phi_3", source="Hochbruck and Ostermann 2010, eq. 2.10-2.11")
def phi_3():
    "phi_3(h) = (phi_2(h) - 1/2)/h = (e^h - 1 - h - h^2/2)/h^3, 1/6 at h = 0."
    yield from _phi(3)
    yield (PHI[2] - Rational(1, 2)) / q
    yield algebra, PHI[3]


@claim("solver.phi_near_zero", source="Hochbruck and Ostermann 2010, sec. 4", covers="solver.phi_near_zero")
def phi_near_zero():
    "18 terms of the Taylor series leave h^18/(18 + m)! of phi_m: below the last digit of float64 for |h| < 1."
    for m in (1, 2, 3):
        yield factorial(18 + m) * PHI[m]
        yield up_to(q, 18, Rational(1)), factorial(18 + m) * sum(q**j / factorial(j + m) for j in range(18))


# ------------------------------------------------------------------------------------------------ rows of tables


@claim("solver.kappa", source="Ho et al. 2020, eq. 7")
def kappa_ratio():
    "kappa, the ratio of alpha/sigma over a step, is the correlation of x_t and x_s given x_0."
    added = sigma_t**2 - (alpha_t / alpha_s) ** 2 * sigma_s**2  # variance of x_t given x_s
    yield sqrt(1 - added / sigma_t**2)
    yield algebra, alpha_t * sigma_s / (alpha_s * sigma_t)


kept = eta_family.part("kept")


@claim("solver.ddim_row", week=5, source="Song et al. 2021 (DDIM), eq. 12")
def ddim_row():
    "A DDIM step keeps a part of the noise in x_t: its coefficients of x_t and of the prediction."
    state = yield let("state", kept / sigma_t)
    denoised = yield let("denoised", alpha_s - alpha_t * kept / sigma_t)
    yield alpha_s * x_0 + kept * (x_t - alpha_t * x_0) / sigma_t
    yield by(eta_family, {}, chain=1), state * x_t + denoised * x_0


@claim("solver.ddpm_row", week=4, source="Ho et al. 2020, eq. 7")
def ddpm_row():
    "At eta = 1 the row is q(x_s | x_t, x_0) by Bayes: mean kappa (sigma_s/sigma_t) x_t + alpha_s (1 - kappa^2) x_0."
    forward = kappa * sigma_t / sigma_s  # alpha_t/alpha_s
    joint = log_normal(x_t, forward * x_s, sigma_t**2 * (1 - kappa**2)) + log_normal(x_s, alpha_s * x_0, sigma_s**2)
    mean = kappa * sigma_s / sigma_t * x_t + alpha_s * (1 - kappa**2) * x_0
    yield joint - log_normal(x_t, forward * alpha_s * x_0, sigma_t**2)
    yield complete_the_square(x_s), log_normal(x_s, mean, sigma_s**2 * (1 - kappa**2))
    yield (kept / sigma_t * x_t + (alpha_s - forward * alpha_s * kept / sigma_t) * x_0).subs(eta, 1)
    yield algebra, mean


@claim("solver.ddpm_beta_noise", week=4, source="Ho et al. 2020, sec. 3.2")
def ddpm_beta_noise():
    "The forward step's variance sigma_t^2 - (alpha_t/alpha_s)^2 sigma_s^2 is sigma_t^2 (1 - kappa^2)."
    forward = kappa * sigma_t / sigma_s
    yield sqrt(sigma_t**2 - forward**2 * sigma_s**2)
    yield algebra, sigma_t * sqrt(1 - kappa**2)


a_t, b_t, a_s, b_s = real("a_t b_t a_s b_s")


@claim("solver.euler_row", source="Hairer et al. 1993, eq. II.1.2")
def euler_row():
    "Euler back in time by h on dx/dt = a x + b D."
    state = yield let("state", 1 - h * a_t)
    denoised = yield let("denoised", -h * b_t)
    yield x - h * (a_t * x + b_t * D)
    yield algebra, state * x + denoised * D


@claim("solver.heun_row", source="Karras et al. 2022, algorithm 1")
def heun_row():
    "Heun back in time by h on dx/dt = a x + b D: the mean of the velocities at x and at Euler's end point."
    state = yield let("state", 1 - h / 2 * (a_t + a_s * (1 - h * a_t)))
    first = yield let("first", -h / 2 * b_t * (1 - h * a_s))
    second = yield let("second", -h / 2 * b_s)
    end = x - h * (a_t * x + b_t * D_t)
    yield x - h / 2 * ((a_t * x + b_t * D_t) + (a_s * end + b_s * D_s))
    yield algebra, state * x + first * D_t + second * D_s


@claim("solver.dpmpp_2m_row", source="Lu et al. 2022 (DPM-Solver++), alg. 2")
def dpmpp_2m_row():
    "The line through the predictions D_0 now and D_1 a length r h before, taken to the middle of the step."
    newest = yield let("newest", 1 + 1 / (2 * r))
    before = yield let("before", -1 / (2 * r))
    yield D_0 + (D_0 - D_1) / (r * h) * (h / 2)
    yield algebra, newest * D_0 + before * D_1


# ------------------------------------------------------------------------------------------------ local errors

growth = exp(k * L)  # of the test equation, over the whole length


@claim("solver.euler_error", source="Hairer et al. 1993, II.1", covers="solver.euler_error")
def euler_error():
    "Euler's local error is (h^2/2) x'', sharp; its global order is 1."
    yield path(t + h)
    yield up_to(h, 2, Derivative(path(t), t, 2) / 2), path(t) + h * Derivative(path(t), t)
    yield growth
    yield up_to(h, 1, L * k**2 * growth / 2), (1 + k * h) ** (L / h)


@claim("solver.heun_error", source="Hairer et al. 1993, II.1; Karras et al. 2022, app. D.1", covers="solver.heun_error")
def heun_error():
    "Heun's local error is (3 F_x x'' - x''') h^3/12, sharp; its global order is 2."
    # a field with the path x(t) as a solution is F(x, t) = x'(t) + (x - x(t)) G(x, t), so that F_x = G on the path
    slope_t = Derivative(path(t), t)
    end = path(t) + h * slope_t
    ahead = Derivative(path(t + h), h) + (end - path(t + h)) * slope(end, t + h)
    leading = (3 * slope(path(t), t) * Derivative(path(t), t, 2) - Derivative(path(t), t, 3)) / 12
    yield path(t + h)
    yield up_to(h, 3, leading), path(t) + h / 2 * (slope_t + ahead)
    yield growth
    yield up_to(h, 2, L * k**3 * growth / 6), (1 + k * h + (k * h) ** 2 / 2) ** (L / h)


def exact_step(h: Expr) -> Expr:
    """x0_form over a step of length h: sigma_s/sigma_t = exp(-h) alpha_s/alpha_t and sigma_s exp(l_s) = alpha_s."""
    return exp(-h) * alpha_s / alpha_t * x_t + alpha_s * Integral(exp(u - h) * prediction(l + u), (u, 0, h))


def exponential_step(h: Expr, D: Expr) -> Expr:
    """The same with the prediction frozen at D."""
    return exp(-h) * alpha_s / alpha_t * x_t + alpha_s * (1 - exp(-h)) * D


slope_D, bend_D = Derivative(prediction(l), l), Derivative(prediction(l), l, 2)


@claim("solver.ddim_error", week=5, source="Lu et al. 2022 (DPM-Solver), thm 3.2", covers="solver.ddim_error")
def ddim_error():
    "DDIM, the exponential Euler step, errs by alpha_s D' h^2/2 over a step, sharp; its global order is 1."
    yield exact_step(h)
    yield up_to(h, 2, alpha_s * slope_D / 2), exponential_step(h, prediction(l))
    yield growth
    yield up_to(h, 1, L * k * (k - 1) * growth / 2), (1 + k * (exp(h) - 1)) ** (L / h)


@claim("solver.dpmpp_2m", source="Lu et al. 2022 (DPM-Solver++), alg. 2", covers="solver.dpmpp_2m")
def dpmpp_2m():
    "DPM-Solver++(2M) errs by alpha_s (D' + (2 + 3r) D'') h^3/12 over a step, sharp; its global order is 2."
    middle = (1 + 1 / (2 * r)) * prediction(l) - prediction(l - r * h) / (2 * r)
    yield exact_step(h)
    yield up_to(h, 3, alpha_s * (slope_D + (2 + 3 * r) * bend_D) / 12), exponential_step(h, middle)
    # on the test equation z_(n+1) = z_n + g (3 z_n - exp(h) z_(n-1))/2 with g = k (exp(h) - 1): the root near 1
    g = k * (exp(h) - 1)
    root = (1 + 3 * g / 2 + sqrt((1 + 3 * g / 2) ** 2 - 2 * g * exp(h))) / 2
    yield growth
    yield up_to(h, 2, L * k * (k - 1) * (5 * k - 4) * growth / 12), root ** (L / h)


@claim("solver.variable_steps", source="Lu et al. 2022 (DPM-Solver++), alg. 2", covers="solver.variable_steps")
def variable_steps():
    "A weight c on the last difference errs by alpha_s (1/2 - c r) D' h^2: order 2 asks for c = 1/(2r), r = h_before/h."
    yield exact_step(h)
    weighted = prediction(l) + c * (prediction(l) - prediction(l - r * h))
    yield up_to(h, 2, alpha_s * (Rational(1, 2) - c * r) * slope_D), exponential_step(h, weighted)


# ------------------------------------------------------------------------------------------------ of higher order


@claim("solver.dpmpp_2s", source="Lu et al. 2022 (DPM-Solver++), alg. 1", covers="solver.dpmpp_2s")
def dpmpp_2s():
    "DPM-Solver++(2S), the prediction taken at half a DDIM step: order 2, sharp."
    # in z = x/sigma, where z' = exp(l) D; a prediction with the path z(l) is exp(-l) z'(l) + (z - z(l)) G(z, l)
    on_path = exp(-l) * Derivative(path(l), l)
    half = path(l) + exp(l) * (exp(h / 2) - 1) * on_path
    there = path(l + h / 2)
    ahead = exp(-l - h / 2) * 2 * Derivative(there, h) + (half - there) * slope(half, l + h / 2)
    d, dd = Derivative(on_path, l), Derivative(on_path, l, 2)
    yield path(l + h)
    leading = exp(l) * (d / 12 + dd / 24 + exp(l) * d * slope(path(l), l) / 8)
    yield up_to(h, 3, leading), path(l) + exp(l) * (exp(h) - 1) * ahead
    yield growth
    gained = k * (exp(h) - 1) * exp(-h / 2) * (1 + k * (exp(h / 2) - 1))
    yield up_to(h, 2, L * k * (k - 1) * (4 * k + 1) * growth / 24), (1 + gained) ** (L / h)


@claim("solver.dpm_solver_2", source="Lu et al. 2022 (DPM-Solver), thm 3.2", covers="solver.dpm_solver_2")
def dpm_solver_2():
    "DPM-Solver-2, the noise prediction taken at half a DDIM step: order 2, sharp."
    # in y = x/alpha, where y' = -exp(-l) eps; a prediction with the path y(l) is -exp(l) y'(l) + (y - y(l)) G(y, l)
    on_path = -exp(l) * Derivative(path(l), l)
    half = path(l) - exp(-l) * (1 - exp(-h / 2)) * on_path
    there = path(l + h / 2)
    ahead = -exp(l + h / 2) * 2 * Derivative(there, h) + (half - there) * slope(half, l + h / 2)
    d, dd = Derivative(on_path, l), Derivative(on_path, l, 2)
    yield path(l + h)
    leading = exp(-l) * (d / 12 - dd / 24 + exp(-l) * d * slope(path(l), l) / 8)
    yield up_to(h, 3, leading), path(l) - exp(-l) * (1 - exp(-h)) * ahead
    yield growth  # here of y' = k y, eps = -k exp(l) y
    gained = k * (1 - exp(-h)) * exp(h / 2) * (1 + k * (1 - exp(-h / 2)))
    yield up_to(h, 2, L * k * (k + 1) * (4 * k - 1) * growth / 24), (1 + gained) ** (L / h)


@claim(
    "solver.dpmpp_3m",
    source="Lu et al. 2022 (DPM-Solver++), app. B",
    covers=("solver.dpmpp_3m", "solver.taylor_factor_3m"),
)
def dpmpp_3m():
    "3M with the 2! of its second difference errs by alpha_s (3/8) D''' h^4, without it by alpha_s D'' h^3/12."
    now, before, earlier = prediction(l), prediction(l - h), prediction(l - 2 * h)
    second = ((now - before) - (before - earlier)) / 2  # h^2 D''/2!
    first = (now - before) + second  # h D'
    line = (1 - exp(-h)) * now + (h - 1 + exp(-h)) / h * first
    bend = (h**2 / 2 - h + 1 - exp(-h)) / h**2 * second
    start = exp(-h) * alpha_s / alpha_t * x_t
    yield exact_step(h)
    yield up_to(h, 4, 3 * alpha_s * Derivative(prediction(l), l, 3) / 8), start + alpha_s * (line + 2 * bend)
    yield exact_step(h)
    yield up_to(h, 3, alpha_s * bend_D / 12), start + alpha_s * (line + bend)


@claim("solver.deis", source="Zhang and Chen 2023, sec. 3")
def deis():
    "Noise predictions interpolated under the integral of eps_form: one errs by eps' h^2/2, two by (5/12) eps'' h^3."
    whole = alpha_s / alpha_t * x_t - sigma_s * Integral(exp(h - u) * noise(l + u), (u, 0, h))
    one = (exp(h) - 1) * noise(l)
    two = one + (exp(h) - 1 - h) / h * (noise(l) - noise(l - h))
    yield whole
    yield up_to(h, 2, -sigma_s * Derivative(noise(l), l) / 2), alpha_s / alpha_t * x_t - sigma_s * one
    yield whole
    yield up_to(h, 3, -5 * sigma_s * Derivative(noise(l), l, 2) / 12), alpha_s / alpha_t * x_t - sigma_s * two


# ------------------------------------------------------------------------------------------------ ends


@claim("solver.final_jump", source="Jolicoeur-Martineau et al. 2021", covers="solver.final_jump")
def final_jump():
    "Data N(0, v), exact up to sigma/alpha = s: the jump to D loses s^2/(2v) of the deviation, stopping there gains it."
    arrived = sqrt(v + s**2)
    yield v / (v + s**2) * arrived / sqrt(v)
    yield up_to(s, 2, -1 / (2 * v)), 1
    yield arrived / sqrt(v)
    yield up_to(s, 2, 1 / (2 * v)), 1


@claim("solver.ancestral_ve", source="Ho et al. 2020, eq. 7; Song and Ermon 2020", covers="solver.ancestral_ve")
def ancestral_ve():
    "Without scaling (alpha = 1) the DDPM posterior is Euler to sigma_down and noise sigma_up, their squares sigma_s^2."
    before = sigma_s / kappa  # sigma_t > sigma_s
    up2 = sigma_s**2 * (before**2 - sigma_s**2) / before**2
    down = sigma_s**2 / before
    joint = log_normal(x_t, x_s, before**2 - sigma_s**2) + log_normal(x_s, x_0, sigma_s**2)
    yield joint - log_normal(x_t, x_0, before**2)
    yield complete_the_square(x_s), log_normal(x_s, x_t + (down - before) * (x_t - x_0) / before, up2)
    yield down**2 + up2
    yield algebra, sigma_s**2


@claim("solver.euler_maruyama_weak", source="Kloeden and Platen 1992, sec. 14.1", covers="solver.euler_maruyama_weak")
def euler_maruyama_weak():
    "On dx = -A x dt + s dW Euler-Maruyama's mean and variance after a time L err by O(h), sharp (h A < 1)."
    kept = (1 - A * short) ** (L / short)
    yield exp(-A * L) * x_0
    yield up_to(short, 1, L * A**2 / 2 * exp(-A * L) * x_0), kept * x_0
    leading = -(s**2) * (A * L * exp(-2 * A * L) / 2 + (1 - exp(-2 * A * L)) / 4)
    yield s**2 * (1 - exp(-2 * A * L)) / (2 * A)
    yield up_to(short, 1, leading), s**2 * (1 - kept**2) / (A * (2 - A * short))  # sum of s^2 h (1 - A h)^(2j)


@claim("solver.stability", source="Hairer and Wanner 1996, IV.2", covers="solver.stability")
def stability():
    "On x' = -k x Euler and Heun shrink x for h k = 2A < 2, enlarge it for h k = 2 + 2v; the exponential step shrinks."
    for one_step, witness in (
        (lambda z: (1 - z) ** 2, lambda a: 4 * a * (1 - a)),  # Euler, squared since it changes sign
        (lambda z: 1 - z + z**2 / 2, lambda a: 2 * a * (1 - a)),  # Heun
    ):
        yield one_step(2 * A)
        yield at_most(witness(A)), Rational(1)
        yield one_step(2 * (1 + v))
        yield at_least(-witness(1 + v)), Rational(1)
    yield exp(s)
    yield at_least(lambda gap: gap, by(log_bound, {r: exp(s)})), 1 + s  # above 1 for every s = h k, so exp(-h k) < 1
