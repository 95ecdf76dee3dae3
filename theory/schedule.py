"""Schedules: two functions alpha(t), sigma(t) fix everything.

    x_t = alpha(t) x_0 + sigma(t) eps       is the law of       dx = f x dt + g dW

for exactly one f and g^2. A linear SDE moves its mean m and its variance V by  m' = f m  and  V' = 2 f V + g^2; the
first fixes f, the second g^2. Which alpha and sigma one takes is then a matter of taste, up to one function of time
that no choice can hide: half_log_snr = log(alpha / sigma), half of the papers' log-SNR.
"""

from __future__ import annotations

from sympy import Abs, Derivative, Expr, Integer, Product, Rational, cos, exp, log, pi, sin, sqrt, tan

from theory.proof import (
    above_one,
    algebra,
    at_least,
    at_most,
    claim,
    counting,
    function,
    induction,
    let,
    natural,
    nonnegative,
    positive,
    real,
    recursion,
    sequence,
    unit,
    up_to,
)

x0, eps = real("x0 eps")
s, t = unit("s t")
al, si = function("alpha", kind="positive"), function("sigma", kind="positive")
alpha, sigma, h = positive("alpha sigma h")
alpha_dot, sigma_dot, variance_dot = real("alpha_dot sigma_dot variance_dot")


# --- drift and diffusion ----------------------------------------------------------------------------------------------


@claim("schedule.drift", week=5, source="Song et al. 2021, eq. 29; Kingma et al. 2021, app. F", covers="schedule.drift")
def drift():
    "The mean alpha x0 obeys m' = f m with f = alpha'/alpha."
    f = yield let("f", alpha_dot / alpha)
    yield Derivative(al(t) * x0, t)
    yield algebra, Derivative(al(t), t) / al(t) * al(t) * x0

    yield (alpha + alpha_dot * h) * x0  # to first order in a time h from where alpha' is alpha_dot
    yield algebra, alpha * x0 + f * h * alpha * x0


@claim("schedule.diffusion", week=5, source="Kingma et al. 2021, app. F", covers="schedule.diffusion")
def diffusion():
    "The variance gained since s obeys V' = 2 f V + g^2 with g^2 = (sigma^2)' - 2 f sigma^2, whatever s."
    g2 = yield let("g2", variance_dot - 2 * alpha_dot / alpha * sigma**2)
    f = Derivative(al(t), t) / al(t)
    gained = si(t) ** 2 - (al(t) / al(s)) ** 2 * si(s) ** 2
    yield Derivative(gained, t)
    yield algebra, 2 * f * gained + Derivative(si(t) ** 2, t) - 2 * f * si(t) ** 2

    yield sigma**2 + variance_dot * h - ((alpha + alpha_dot * h) / alpha) ** 2 * sigma**2  # gained in a time h
    yield up_to(h, 2, -((alpha_dot / alpha) ** 2) * sigma**2), g2 * h


@claim("schedule.diffusion_log_snr", week=5, source="Kingma et al. 2021, app. F", covers="schedule.diffusion_log_snr")
def diffusion_log_snr():
    "g^2 = -2 sigma^2 d/dt log(alpha/sigma): noise enters as fast as the signal-to-noise ratio falls."
    half_log_snr = yield let("half_log_snr", log(alpha / sigma))
    half_log_snr_dot = yield let("half_log_snr_dot", alpha_dot / alpha - sigma_dot / sigma)
    yield Derivative(si(t) ** 2, t) - 2 * Derivative(al(t), t) / al(t) * si(t) ** 2
    yield algebra, -2 * si(t) ** 2 * Derivative(log(al(t) / si(t)), t)

    yield log(alpha * exp(alpha_dot / alpha * h) / (sigma * exp(sigma_dot / sigma * h)))  # rates alpha_dot, sigma_dot
    yield algebra, half_log_snr + half_log_snr_dot * h


@claim("schedule.one_model", source="Kingma et al. 2021, sec. 5.1", covers="schedule.one_model")
def one_model():
    "Where two schedules have the same log(alpha/sigma), one's x_t is the other's, scaled: they are one model."
    a, b, noise_to_signal = positive("alpha_1 alpha_2 noise_to_signal")
    first, second = (scale * x0 + scale * noise_to_signal * eps for scale in (a, b))
    yield second
    yield algebra, b / a * first


# --- the kernels ------------------------------------------------------------------------------------------------------


@claim("schedule.vp", week=5, source="Song et al. 2021, eq. 11", covers="schedule.vp")
def vp():
    "alpha^2 + sigma^2 = 1 makes g^2 = -2 f =: beta, and beta = B' when alpha = exp(-B/2)."
    B = function("B", kind="increasing")
    yield Derivative(1 - al(t) ** 2, t) - 2 * Derivative(al(t), t) / al(t) * (1 - al(t) ** 2)
    yield algebra, -2 * Derivative(al(t), t) / al(t)

    yield Derivative(exp(-B(t) / 2), t)
    yield algebra, -Derivative(B(t), t) / 2 * exp(-B(t) / 2)

    yield Derivative(1 - exp(-B(t)), t) + Derivative(B(t), t) * (1 - exp(-B(t)))
    yield algebra, Derivative(B(t), t)


beta_min, beta_max = positive("beta_min beta_max")
BETA = (1 - t) * beta_min + t * beta_max
BETA_INTEGRAL = t * ((1 - t / 2) * beta_min + t / 2 * beta_max)


@claim("schedule.linear_beta", week=5, source="Song et al. 2021, eq. 33", covers="schedule.linear_beta")
def linear_beta():
    "beta linear in t: alpha = exp(-beta_min t/2 - (beta_max - beta_min) t^2/4), and the derivatives of the kernel."
    beta = yield let("beta", BETA)
    integral = yield let("beta_integral", BETA_INTEGRAL)
    alpha = yield let("alpha", exp(-integral / 2))
    sigma = yield let("sigma", sqrt(1 - exp(-integral)))
    alpha_dot = yield let("alpha_dot", -beta * alpha / 2)
    variance_dot = yield let("variance_dot", beta * exp(-integral))
    sigma_dot = yield let("sigma_dot", variance_dot / (2 * sigma))

    yield Derivative(BETA_INTEGRAL, t)
    yield algebra, beta

    yield alpha
    yield algebra, exp(-beta_min * t / 2 - (beta_max - beta_min) * t**2 / 4)

    yield Derivative(exp(-BETA_INTEGRAL / 2), t)
    yield algebra, alpha_dot

    yield Derivative(1 - exp(-BETA_INTEGRAL), t)
    yield algebra, variance_dot

    yield Derivative(sqrt(1 - exp(-BETA_INTEGRAL)), t)
    yield algebra, sigma_dot


@claim("schedule.sub_vp", week=5, source="Song et al. 2021, eq. 13", covers="schedule.sub_vp")
def sub_vp():
    "sigma = 1 - alpha^2 makes g^2 = -2 f (1 - alpha^4), and never more noise than VP's sqrt(1 - alpha^2)."
    A = unit("A")
    sigma = yield let("sigma", 1 - exp(-BETA_INTEGRAL))
    f = Derivative(al(t), t) / al(t)
    yield Derivative((1 - al(t) ** 2) ** 2, t) - 2 * f * (1 - al(t) ** 2) ** 2
    yield algebra, -2 * f * (1 - al(t) ** 4)

    yield 1 - A**2
    yield at_least(A**2 * (1 - A**2)), (1 - A**2) ** 2

    yield sigma
    yield algebra, 1 - exp(-beta_min * t / 2 - (beta_max - beta_min) * t**2 / 4) ** 2


sigma_min, sigma_max = positive("sigma_min sigma_max")


@claim("schedule.ve", week=5, source="Song et al. 2021, eq. 9 and app. C", covers="schedule.ve")
def ve():
    "alpha = 1: no drift, and g^2 = (sigma^2)'; with log sigma linear in t, sigma' = sigma log(sigma_max/sigma_min)."
    sigma = yield let("sigma", sigma_min * (sigma_max / sigma_min) ** t)
    sigma_dot = yield let("sigma_dot", sigma * log(sigma_max / sigma_min))
    yield Derivative(si(t) ** 2 - si(s) ** 2, t)
    yield algebra, 2 * si(t) * Derivative(si(t), t)

    yield Derivative(sigma_min * (sigma_max / sigma_min) ** t, t)
    yield algebra, sigma_dot


@claim("schedule.flow", week=5, source="Lipman et al. 2023, ex. II", covers="schedule.flow")
def flow():
    "alpha = 1 - t, sigma = t: f = -1/(1 - t) and g^2 = 2 t/(1 - t), both without bound as t -> 1."
    alpha = yield let("alpha", 1 - t)
    sigma = yield let("sigma", t)
    f = Derivative(1 - t, t) / (1 - t)
    yield f
    yield algebra, -1 / alpha

    yield Derivative(t**2, t) - 2 * f * t**2
    yield algebra, 2 * sigma / alpha


rho = above_one("rho")


@claim("schedule.edm", source="Karras et al. 2022, eq. 1-5", covers=("schedule.edm", "schedule.karras_grid"))
def edm():
    """alpha = 1 and sigma its own time: g^2 = 2 sigma; and in the grid's time sigma^(1/rho) is linear.

    Along the grid, u = i/(n - 1) running from 0 at sigma_max to 1 at sigma_min, sigma falls strictly for any rho.
    """
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigma = yield let("sigma", ((1 - t) * low + t * high) ** rho)
    sigma_dot = yield let("sigma_dot", rho * ((1 - t) * low + t * high) ** (rho - 1) * (high - low))
    time, u = positive("time"), unit("u")
    yield Derivative(time**2, time)
    yield algebra, 2 * time

    yield Derivative(((1 - t) * low + t * high) ** rho, t)
    yield algebra, sigma_dot

    yield log(sigma)
    yield algebra, rho * log((1 - t) * low + t * high)

    least, gap = positive("least gap")  # sigma_min^(1/rho), and sigma_max^(1/rho) - sigma_min^(1/rho) > 0
    yield Derivative((least + (1 - u) * gap) ** rho, u)
    yield at_most(rho * gap * (least + (1 - u) * gap) ** (rho - 1)), Integer(0)


@claim("schedule.cosine", source="Nichol & Dhariwal 2021, eq. 17", covers="schedule.cosine")
def cosine():
    "alpha = cos(pi t/2), sigma = sin(pi t/2): VP, with half_log_snr = -log tan(pi t/2) (equal slopes, both 0 at 1/2)."
    alpha = yield let("alpha", cos(pi * t / 2))
    sigma = yield let("sigma", sin(pi * t / 2))
    alpha_dot = yield let("alpha_dot", -pi / 2 * sigma)
    sigma_dot = yield let("sigma_dot", pi / 2 * alpha)
    yield alpha**2 + sigma**2
    yield algebra, Integer(1)

    yield Derivative(cos(pi * t / 2), t)
    yield algebra, alpha_dot

    yield Derivative(sin(pi * t / 2), t)
    yield algebra, sigma_dot

    yield Derivative(log(cos(pi * t / 2) / sin(pi * t / 2)), t)
    yield algebra, Derivative(-log(tan(pi * t / 2)), t)


@claim("schedule.sigmoid", source="Jabri et al. 2023; Chen 2023, alg. 1", covers="schedule.sigmoid")
def sigmoid():
    """alpha_bar = (S(end) - S(u))/(S(end) - S(start)), S(u) = 1/(1 + exp(-u/tau)), falls from 1 to 0.

    With E = exp(-start/tau), r = exp(-(end - start)/tau) and x = exp(-(u - start)/tau) falling from 1 at the start to r
    at the end, S(u) = 1/(1 + E x), and alpha_bar rises with x.
    """
    E, r, x = positive("E"), unit("r"), positive("x")
    of_x = (x - r) * (1 + E) / ((1 - r) * (1 + E * x))
    yield (1 / (1 + E * r) - 1 / (1 + E * x)) / (1 / (1 + E * r) - 1 / (1 + E))
    yield algebra, of_x

    yield Derivative(of_x, x)
    yield at_least((1 + E) * (1 + E * r) / ((1 - r) * (1 + E * x) ** 2)), Integer(0)


@claim("schedule.laplace", source="Hang et al. 2024, tab. 1", covers="schedule.laplace")
def laplace():
    """2 half_log_snr = mu - b sign(1/2 - t) log(1 - 2 |t - 1/2|) of a uniform t is Laplace(mu, b).

    For t = A/2 it is mu - b log A, for t = 1 - A/2 it is mu + b log A; the density is 1/2 over the slope in A.
    """
    A, mu, b = unit("A"), real("mu"), positive("b")
    early, late = mu - b * log(A), mu + b * log(A)

    def density(x: Expr) -> Expr:
        return exp(-Abs(x - mu) / b) / (2 * b)

    yield Rational(1, 2) / -Derivative(early, A)
    yield algebra, A / (2 * b)

    yield Rational(1, 2) / Derivative(late, A)
    yield algebra, A / (2 * b)

    z = positive("z")  # the distance from mu, on either side: A = exp(-z/b)
    yield -Derivative(exp(-z / b) / 2, z)
    yield algebra, density(mu + z)

    yield -Derivative(exp(-z / b) / 2, z)
    yield algebra, density(mu - z)


# --- discrete chains --------------------------------------------------------------------------------------------------

n = natural("n")
beta = sequence("beta", kind="unit")
j = natural("j")


def alpha_bar(k: Expr) -> Expr:
    """The product of 1 - beta_j for j = 1 .. k."""
    return Product(1 - beta(j), (j, 1, k))


@claim("schedule.betas_to_alpha_bar", week=4, source="Ho et al. 2020, eq. 4", covers="schedule.betas_to_alpha_bar")
def betas_to_alpha_bar():
    "Each step multiplies alpha_bar by 1 - beta: it stays in (0, 1) and falls."
    A, b = unit("A b")
    yield alpha_bar(n + 1)
    yield algebra, (1 - beta(n + 1)) * alpha_bar(n)

    yield A  # from any A in (0, 1), by a step of any b in (0, 1), to A (1 - b), which is less,
    yield at_least(A * b), A * (1 - b)
    yield at_least(A * (1 - b)), Integer(0)  # and not below 0


@claim(
    "schedule.alpha_bar_to_betas",
    week=4,
    source="Nichol & Dhariwal 2021, sec. 3.2",
    covers="schedule.alpha_bar_to_betas",
)
def alpha_bar_to_betas():
    "beta_k = 1 - alpha_bar_k / alpha_bar_(k-1) undoes the product."
    alpha_bar_s, alpha_bar_t = unit("alpha_bar_s alpha_bar_t")
    step = yield let("beta", 1 - alpha_bar_t / alpha_bar_s)
    yield 1 - alpha_bar(n + 1) / alpha_bar(n)
    yield algebra, beta(n + 1)

    yield alpha_bar_s - step * alpha_bar_s
    yield algebra, alpha_bar_t


@claim("schedule.first_previous", week=4, source="Ho et al. 2020, sec. 2", covers="schedule.first_previous")
def first_previous():
    "Before the first step alpha_bar is 1, an empty product: nothing has happened to the data yet."
    yield alpha_bar(1) / (1 - beta(1))
    yield algebra, Integer(1)


@claim("schedule.cosine_betas", week=4, source="Nichol & Dhariwal 2021, eq. 17")
def cosine_betas():
    "beta = 1 - cos^2(angle_t)/cos^2(angle_s), as a product of sines that keeps its digits when the angles are close."
    angle_s, angle_t = unit("angle_s angle_t")
    step = yield let("beta", 1 - cos(angle_t) ** 2 / cos(angle_s) ** 2)
    product_of_sines = (sin(angle_t) * cos(angle_s)) ** 2 - (cos(angle_t) * sin(angle_s)) ** 2
    yield step
    yield algebra, product_of_sines / cos(angle_s) ** 2


@claim("schedule.zero_terminal_snr", source="Lin et al. 2024, alg. 1", covers="schedule.zero_terminal_snr")
def zero_terminal_snr():
    "r -> (r - r_T) r_1/(r_1 - r_T) on r = sqrt(alpha_bar) keeps r_1, sends r_T to 0, and so makes beta_T = 1."
    r_T, gap, r_before = positive("r_T gap r_before")
    w = nonnegative("w")
    r_1, r = r_T + gap, r_T + w * gap  # w = 1 at the first step, 0 at the last
    rescaled = -r_T * r_1 / gap + r_1 / gap * r
    yield rescaled
    yield algebra, w * r_1  # at the first step r_1, at the last 0

    yield 1 - rescaled**2 / r_before**2  # the step's beta, whatever the r before it
    yield algebra, 1 - (w * r_1 / r_before) ** 2  # at the last step 1


@claim("schedule.log_step", source="Taylor's theorem with remainder")
def log_step():
    """-log(1 - x) - x - x^2/2 begins with x^3/3 and grows at the rate x^2/(1 - x) >= 0.

    So T steps of x = O(1/T) leave out something between 0 and O(1/T^2) when they keep x + x^2/2 of each.
    """
    x = unit("x")
    yield Derivative(-log(1 - x) - x - x**2 / 2, x)
    yield algebra, x**2 / (1 - x)

    yield -log(1 - x)
    yield up_to(x, 3, Rational(1, 3)), x + x**2 / 2


@claim("schedule.linear_beta_limit", week=5, source="Song et al. 2021, app. B", covers="schedule.linear_beta_limit")
def linear_beta_limit():
    """x_k = h beta(k h), h = 1/T: sum of x_k + x_k^2/2 = B(1) + h (beta(1) - beta(0) + int beta^2)/2 + O(h^2), sharp.

    By the claim above, -log alpha_bar_T = -sum of log(1 - x_k) lies between this sum and O(h^2) more. So
    alpha_bar_T = exp(-B(1)) up to O(1/T), with that leading term.
    """
    h, b, slope = positive("h b slope")  # beta(t) = b + slope t
    y, k = real("y"), counting("k")
    step = h * (b + slope * (k + 1) * h)
    first, second = (
        b * n + slope * h * n * (n + 1) / 2,
        (b**2 * n + b * slope * h * n * (n + 1) + slope**2 * h**2 * n * (n + 1) * (2 * n + 1) / 6),
    )
    yield recursion(y + step * (1 + step / 2), y, k, 0, n)
    yield induction(n), h * first + h**2 * second / 2

    at_one = {n: 1 / h}  # T = 1/h steps
    mean_square = b**2 + b * slope + slope**2 / 3  # the integral of beta^2 from 0 to 1
    yield (h * first + h**2 * second / 2).subs(at_one)
    yield up_to(h, 1, (slope + mean_square) / 2), b + slope / 2


# --- shifts and grids -------------------------------------------------------------------------------------------------


@claim("schedule.shift_sd3", source="Esser et al. 2024, eq. 23", covers="schedule.shift_sd3")
def shift_sd3():
    "t -> m t/(1 + (m - 1) t) subtracts log m from the flow schedule's half_log_snr; doing it twice subtracts it twice."
    m = positive("m")
    shifted = yield let("t", m * t / (1 + (m - 1) * t))
    yield log((1 - shifted) / shifted)
    yield algebra, log((1 - t) / t) - log(m)

    twice = m * shifted / (1 + (m - 1) * shifted)
    yield log((1 - twice) / twice)
    yield algebra, log((1 - t) / t) - 2 * log(m)


@claim(
    "schedule.shift_simple_diffusion", source="Hoogeboom et al. 2023, eq. 3", covers="schedule.shift_simple_diffusion"
)
def shift_simple_diffusion():
    """Averaging blocks of (d/64)^2 pixels divides the noise's std by d/64: it sees half_log_snr + log(d/64).

    To leave the 64-pixel image as noisy as before, half_log_snr at resolution d is shifted by log(64/d).
    """
    d = positive("d")
    block = (d / 64) ** 2
    yield log(alpha / sqrt(sigma**2 / block))
    yield algebra, log(alpha / sigma) + log(d / 64)

    yield log(alpha / sqrt(sigma**2 / block)) + log(64 / d)
    yield algebra, log(alpha / sigma)


@claim("schedule.grid_leading", week=4, source="Lin et al. 2024, tab. 2", covers="schedule.grid_leading")
def grid_leading():
    """Leading: steps i q, i = n-1 .. 0, q = floor(T/n); the last index T - 1 is not passed, for any n in 1..T.

    T = q n + r with q >= 1 and r >= 0, the spacing is q. With an offset of 1 and n = T the first index is T: invalid.
    """
    q_minus_1, r, i = counting("q_minus_1 r i")
    q = 1 + q_minus_1
    T = q * n + r
    yield T - 1
    yield at_least(q_minus_1 + r), (n - 1) * q

    yield (i + 1) * q
    yield at_least(q), i * q

    yield (n - 1) + 1  # n = T, so q = 1: the first index with an offset of 1, against the last valid one, T - 1
    yield at_least(1), n - 1


n_minus_1, m = natural("n_minus_1 m")
wait = counting("wait")
over, under = nonnegative("over under")


@claim(
    "schedule.rounding",
    source="Graham et al. 1994, sec. 3.1",
    covers=("schedule.grid_linspace", "schedule.grid_trailing"),
)
def rounding():
    """Numbers more than 1 apart are apart when rounded, whichever way ties go; if just 1 apart, ties must not occur.

    Rounded, a number is no more than 1/2 too low, and one by 1 + h smaller no more than 1/2 too high: they differ by h
    at least, and so by 1, being whole. With h = 0 halves are lost: to even, 3/2 and 5/2 both become 2.
    """
    x = real("x")
    yield (x + 1 + h) - Rational(1, 2) + over
    yield at_least(over), x + Rational(1, 2) + h
    yield at_least(under), (x + Rational(1, 2) - under) + h


@claim("schedule.grid_linspace", week=4, source="Lin et al. 2024, tab. 2", covers="schedule.grid_linspace")
def grid_linspace():
    """Linspace: m (T - 1)/(n - 1), m = n-1 .. 0, rounded: from T - 1 down to 0, in strides of 1 + (T - n)/(n - 1).

    T = n + wait. Where wait > 0 rounding keeps them apart (schedule.rounding); where n = T the strides are 1, and
    nothing is rounded. A single step, n = 1, has no stride: it is [T - 1] by convention.
    """
    T, y, k = 1 + n_minus_1 + wait, real("y"), counting("k")
    stride = 1 + wait / n_minus_1
    yield recursion(y + stride, y, k, 0, m)
    yield induction(m), m * (T - 1) / n_minus_1

    yield n_minus_1 * stride
    yield algebra, T - 1


@claim("schedule.grid_trailing", week=4, source="Lin et al. 2024, tab. 2", covers="schedule.grid_trailing")
def grid_trailing():
    """Trailing: the times T - i T/n, i = 0 .. n-1, rounded: from T down to T/n, in strides of 1 + (T - n)/n.

    As indices from 0, one less. T = n + wait; where wait > 0 rounding keeps them apart (schedule.rounding), where n = T
    the strides are 1, and nothing is rounded. T/n >= 1 is rounded to no less than 1/2, so to 1: a valid index.
    """
    T, y, k = n + wait, real("y"), counting("k")
    stride = 1 + wait / n
    yield recursion(y - stride, y, k, T, m)
    yield induction(m), T - m * T / n

    yield T - (n - 1) * stride
    yield algebra, T / n
    yield T / n - Rational(1, 2) + over
    yield at_least(wait / n + over), Rational(1, 2)
