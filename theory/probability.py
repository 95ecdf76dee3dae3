"""Probability: Bayes, Gibbs, conditional means. What every bound and every loss here stands on.

Laws are densities on the line. z is what is looked for, x what is seen; c(z, x) is the density of Z given X = x, p(x)
that of X. For a vector Z read each coordinate by itself: squared errors add over coordinates.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Rational, exp, log, sqrt

from theory.proof import (
    E,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    counting,
    function,
    gaussian_expectation,
    induction,
    integral,
    leibniz,
    let,
    minimum,
    natural,
    normalised,
    parts,
    positive,
    real,
    recursion,
    substitute,
    suppose,
    unit,
    up_to,
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


# ---------------------------------------------------------------------------------------------- change of variables

c_1, d_1 = real("c d")
low, width = positive("low width")
rising, falling = function("G", kind="monotone"), function("H", kind="falling")  # x as a function of y: g's inverse
forward, backward = function("g", kind="monotone"), function("G", kind="monotone")
undone = suppose(Derivative(backward(y), y), 1 / Derivative(forward(x), x).subs(x, backward(y)))


@claim(
    "probability.change_of_variables_1d",
    week=3,
    source="Bishop 2006, eq. 1.27",
    covers="probability.change_of_variables_1d",
)
def change_of_variables_1d():
    """y = g(x) lies in (c, d) just when x does in its image under g's inverse: y's density is p(x) |dx/dy|.

    First g rising, with the inverse G, then falling, with H. Then the whole line: an inverse of slope at least m > 0
    maps it onto itself, and the density of y is normalised.
    """
    yield Integral(p(x), (x, rising(c_1), rising(d_1)))
    yield substitute(x, rising(y), y), Integral(p(rising(y)) * Derivative(rising(y), y), (y, c_1, d_1))

    yield Integral(p(x), (x, falling(d_1), falling(c_1)))
    yield substitute(x, falling(y), y), Integral(p(falling(y)) * -Derivative(falling(y), y), (y, c_1, d_1))

    onto = m * y + rising(y)
    yield Integer(1)
    yield normalised(p), integral(p(x), x)
    yield substitute(x, onto, y), integral(p(onto) * (m + Derivative(rising(y), y)), y)


@claim(
    "probability.inverse_slope",
    week=3,
    source="Bishop 2006, eq. 1.27",
    covers="probability.change_of_variables_1d",
    hypotheses=[undone],
)
def inverse_slope():
    "G undoes g, so that g(G(y)) moves as y does; at y = g(x) the density of y is then p(x)/g'(x)."
    yield Derivative(forward(backward(y)), y)
    yield algebra, Integer(1)

    yield p(backward(y)) * Derivative(backward(y), y)
    yield algebra, (p(x) / Derivative(forward(x), x)).subs(x, backward(y))


@claim("probability.square", week=3, source="Papoulis 1991, sec. 5-2", covers="probability.change_of_variables_1d")
def square():
    """Where g is not monotone every branch counts: y = x^2 has the density (p(sqrt y) + p(-sqrt y))/(2 sqrt y).

    y lies in (low, low + width) when x does in one of two intervals; one branch alone has lost the other's mass.
    """
    y, high = positive("y"), low + width
    mirrored = Integral(p(z), (z, -sqrt(high), -sqrt(low)))
    yield Integral(p(x), (x, sqrt(low), sqrt(high))) + mirrored
    yield substitute(x, sqrt(y), y), Integral(p(sqrt(y)) / (2 * sqrt(y)), (y, low, high)) + mirrored
    yield substitute(z, -sqrt(y), y), Integral((p(sqrt(y)) + p(-sqrt(y))) / (2 * sqrt(y)), (y, low, high))


u, x_2, y_2 = real("u x_2 y_2")
pair = function("p", kind="density")  # of (x_1, x_2)
first, second, folded = function("A", kind="monotone"), function("B", kind="monotone"), function("B", kind="falling")


@claim(
    "probability.change_of_variables_2d",
    week=3,
    source="Bishop 2006, ex. 1.4; Rudin 1976, thm 10.7",
    covers="probability.change_of_variables_2d",
)
def change_of_variables_2d():
    """In the plane the density of y = g(x) is p(x) |det dx/dy|: one coordinate moves at a time, along lines.

    Near each point a diffeomorphism of the plane is x_1 = A(y_1, x_2), then x_2 = B(y_2, y_1), perhaps with coordinates
    renamed (det = -1). The first moves mass along lines of one x_2, the second mass q along lines of one y_1 = u: on
    each line that is the change of one variable. Then the two together, and with a second that is falling.
    """
    stretched = Derivative(first(u, x_2), u)
    yield Integral(pair(x, x_2), (x, first(c_1, x_2), first(d_1, x_2)))
    yield substitute(x, first(u, x_2), u), Integral(pair(first(u, x_2), x_2) * stretched, (u, c_1, d_1))

    to = second(y_2, u)
    yield Integral(q(x_2, u), (x_2, second(c_1, u), second(d_1, u)))
    yield substitute(x_2, to, y_2), Integral(q(to, u) * Derivative(to, y_2), (y_2, c_1, d_1))

    for to, sign in ((second(y_2, u), 1), (folded(y_2, u), -1)):
        x_1 = first(u, to)
        jacobian = Derivative(x_1, u) * Derivative(to, y_2) - Derivative(x_1, y_2) * Derivative(to, u)
        yield (pair(first(u, x_2), x_2) * stretched).subs(x_2, to) * sign * Derivative(to, y_2)
        yield algebra, pair(x_1, to) * sign * jacobian


# ------------------------------------------------------------------------------------------------ estimates from draws

draws, n = natural("N n")
v = positive("v")
theta = unit("theta")
h = positive("h")
i = counting("i")
d = real("d")
e = r**2 - 1


@claim(
    "probability.monte_carlo_error",
    week=3,
    source="Robert & Casella 2004, sec. 3.2",
    covers="probability.monte_carlo_error",
)
def monte_carlo_error():
    """The mean of N independent copies of Z has the variance Var(Z)/N; half the error takes four times the draws.

    d is how far the mean of the first N is off: one more copy, off by z - k with k = E Z, brings its own variance
    whatever d is. So the mean's variance goes from V to (N^2 V + v)/(N + 1)^2, from v at N = 1; N is i + 1, then n + 1.
    """
    expected, second = integral(z * p(z), z), integral(z**2 * p(z), z)
    off = (draws * d - k) ** 2 + 2 * (draws * d - k) * expected + second
    yield integral(((draws * d + z - k) / (draws + 1)) ** 2 * p(z), z)
    yield normalised(p), off / (draws + 1) ** 2
    yield off.subs(k, expected) / (draws + 1) ** 2
    yield algebra, (draws**2 * d**2 + second - expected**2) / (draws + 1) ** 2

    yield recursion(((i**2 + 2 * i + 1) * y + v) / (i**2 + 4 * i + 4), y, i, v, n)
    yield induction(n), v / (n + 1)


@claim("probability.sample_variance", week=3, source="Helmert 1876; Welford 1962", covers="probability.fid_bias")
def sample_variance():
    """Squared deviations of N + 1 draws of N(mu, v) from their mean add up to v times N squares of standard normals.

    One more draw x adds N/(N + 1) (x - mean)^2. Here x = mu + sqrt(v) u, and the mean of N draws is mu + d: what is
    squared is Gaussian, of variance v, and uncorrelated with the new mean, hence independent of it: so for the next.
    """
    total, squares = real("total squares")
    yield squares + x**2 - (total + x) ** 2 / (draws + 1)
    yield algebra, squares - total**2 / draws + draws / (draws + 1) * (x - total / draws) ** 2

    yield draws / (draws + 1) * E((sqrt(v) * u - d) ** 2, u)
    yield gaussian_expectation(u), draws / (draws + 1) * (v + d**2)
    yield draws / (draws + 1) * E(v + (sqrt(v / draws) * u) ** 2, u)
    yield gaussian_expectation(u), v

    yield E((sqrt(v) * u - d) * (draws * d + sqrt(v) * u), u)
    yield gaussian_expectation(u), v - draws * d**2
    yield v - draws * E((sqrt(v / draws) * u) ** 2, u)
    yield gaussian_expectation(u), Integer(0)


@claim("probability.chi_square", week=3, source="Johnson et al. 1994, eq. 18.8", covers="probability.fid_bias")
def chi_square():
    """N squares of standard normals, less N: their mean is 0, their next moments are 2 N, 8 N and 12 N^2 + 48 N.

    What one more square adds to powers of d, the sum so far; then the same over its law, by induction.
    """
    yield E((d + u**2 - 1) ** 2, u)
    yield gaussian_expectation(u), d**2 + 2
    yield recursion(y + 2, y, i, 0, draws)
    yield induction(draws), 2 * draws

    yield E((d + u**2 - 1) ** 3, u)
    yield gaussian_expectation(u), d**3 + 6 * d + 8
    yield recursion(y + 8, y, i, 0, draws)
    yield induction(draws), 8 * draws

    yield E((d + u**2 - 1) ** 4, u)
    yield gaussian_expectation(u), d**4 + 12 * d**2 + 32 * d + 60
    yield recursion(y + 12 * (2 * i) + 60, y, i, 0, draws)
    yield induction(draws), 12 * draws**2 + 48 * draws


@claim("probability.root", week=3, source="Taylor's theorem, with the remainder's sign", covers="probability.fid_bias")
def root():
    "A root between two polynomials in its square: e = r^2 - 1, r >= 0; then on average over any law of r."
    below = 1 + e / 2 - e**2 / 8 + e**3 / 16
    yield r
    yield at_most((r - 1) ** 4 * (r**2 + 4 * r + 5) / 16), below

    yield r
    left_over = (r - 1) ** 4 * (5 * r**4 + 20 * r**3 + 29 * r**2 + 16 * r) / 16
    yield at_least(left_over), below - Rational(5, 16) * e**4


@claim("probability.two_copies", week=3, source="Robert & Casella 2004, sec. 3.2")
def two_copies():
    "Two independent copies of g differ by 2 Var g in the mean square: first with the second copy held at d."
    first, second = integral(p(x) * g(x), x), integral(p(x) * g(x) ** 2, x)
    yield integral(p(x) * (g(x) - d) ** 2, x)
    yield normalised(p), second - 2 * d * first + d**2

    M_1, M_2 = real("M_1 M_2")
    yield integral(p(x) * (M_2 - 2 * g(x) * M_1 + g(x) ** 2), x)
    yield normalised(p), M_2 - 2 * M_1 * first + second


@claim("probability.fid_positive", week=3, source="Chong & Forsyth 2020, sec. 3", covers="probability.fid_bias")
def fid_positive():
    """FID between two samples of N of one Gaussian is 2 v/N at least on average: what the means are off by alone.

    FID = (m_1 - m_2)^2 + (s_1 - s_2)^2. The means, sqrt(v/N) u and sqrt(v/N) d; then with twice the variance of s = g.
    """
    yield E((sqrt(v / draws) * (u - d)) ** 2, u)
    yield gaussian_expectation(u), v / draws * (1 + d**2)
    yield E(v / draws * (1 + u**2), u)
    yield gaussian_expectation(u), 2 * v / draws

    spread = integral(p(y) * g(y) ** 2, y) - integral(p(y) * g(y), y) ** 2
    yield 2 * v / draws + 2 * spread
    yield at_least(lambda gap: 2 * gap, by(covariance_psd, {f: g})), 2 * v / draws


@claim("probability.fid_bias", week=3, source="Chong & Forsyth 2020, sec. 3", covers="probability.fid_bias")
def fid_bias():
    """FID between two samples of N = n + 1 of one Gaussian of variance v is 3 v/n + O(1/n^2) on average, h = 1/n.

    By probability.root and probability.chi_square, E e = 0, E e^2 = 2 h, E e^3 = 8 h^2 and E e^4 = 12 h^2 + 48 h^3 put
    the mean of s/sqrt(v) between two bounds, theta of the way from the upper one to the lower: O(h^2) holds for all.
    """
    upper = 1 - h / 4 + h**2 / 2
    leading = yield let("leading", 3 * v * h)
    mean_s = upper - theta * Rational(5, 16) * (12 * h**2 + 48 * h**3)
    yield 2 * v / (1 + 1 / h) + 2 * v * (1 - mean_s**2)
    yield up_to(h, 2, v * (15 * theta - Rational(33, 8))), leading
