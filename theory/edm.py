r"""EDM: a network whose input and target have unit variance at every noise level, churn, and averages of its weights.

    x = x_0 + sigma eps                                                   alpha = 1; the data have variance sigma_data^2
    D(x, sigma) = c_skip x + c_out F(c_in x, c_noise)                     the denoiser, F the network
    weight (D - x_0)^2 = weight c_out^2 (F - target)^2                    target = (x_0 - c_skip x)/c_out

Of the data only the variance is used: p is any law, and for a vector each coordinate is read by itself. The power
gamma of an averaging profile is not churn's gamma.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Sum, exp, log, sqrt

from theory import gaussian
from theory.proof import (
    E,
    above_one,
    algebra,
    at_least,
    by,
    claim,
    complete_the_square,
    function,
    gaussian_expectation,
    induction,
    integral,
    let,
    log_normal,
    natural,
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

x, x_0, u, y, F = real("x x_0 u y F")
sigma, sigma_data = positive("sigma sigma_data")
c = real("c")
p = function("p", kind="density")

mean = integral(p(x_0) * x_0, x_0)
variance = integral(p(x_0) * x_0**2, x_0) - mean**2

c_in = 1 / sqrt(sigma**2 + sigma_data**2)
c_skip = sigma_data**2 / (sigma**2 + sigma_data**2)
c_out = sigma * sigma_data / sqrt(sigma**2 + sigma_data**2)


# --------------------------------------------------------------------------------------------------- preconditioning


@claim("edm.input", source="Karras et al. 2022, eq. 114-117")
def input_variance():
    """Independent noise adds its variance to the data's, whatever their law: c x has c^2 (Var x_0 + sigma^2).

    The first two moments over the noise, at a given x_0; then over the data.
    """
    yield E((c * (x_0 + sigma * u)) ** 2, u)
    yield gaussian_expectation(u), c**2 * (x_0**2 + sigma**2)
    yield E(c * (x_0 + sigma * u), u)
    yield gaussian_expectation(u), c * x_0

    yield integral(p(x_0) * c**2 * (x_0**2 + sigma**2), x_0) - integral(p(x_0) * c * x_0, x_0) ** 2
    yield normalised(p), c**2 * (variance + sigma**2)


@claim("edm.c_in", source="Karras et al. 2022, eq. 117", covers="edm.c_in")
def input_scale():
    """c_in = 1/sqrt(sigma^2 + sigma_data^2) gives the network's input unit variance, just when Var x_0 = sigma_data^2.

    For data of another variance the input has the ratio that is left. Its mean over the noise is x_0's share.
    """
    scale = yield let("c_in", c_in)
    yield E(scale * (x_0 + sigma * u), u)
    yield gaussian_expectation(u), x_0 / sqrt(sigma**2 + sigma_data**2)
    yield integral(p(x_0) * scale**2 * (x_0**2 + sigma**2), x_0) - integral(p(x_0) * scale * x_0, x_0) ** 2
    yield normalised(p), (variance + sigma**2) / (sigma_data**2 + sigma**2)


@claim("edm.residual", source="Karras et al. 2022, eq. 121-126")
def residual():
    """What c x leaves for the network to add, x_0 - c x, has the variance (1 - c)^2 Var x_0 + c^2 sigma^2.

    Whatever the law of the data; first over the noise, then over the data.
    """
    yield E((x_0 - c * (x_0 + sigma * u)) ** 2, u)
    yield gaussian_expectation(u), (1 - c) ** 2 * x_0**2 + c**2 * sigma**2
    yield E(x_0 - c * (x_0 + sigma * u), u)
    yield gaussian_expectation(u), (1 - c) * x_0

    second = integral(p(x_0) * ((1 - c) ** 2 * x_0**2 + c**2 * sigma**2), x_0)
    yield second - integral(p(x_0) * (1 - c) * x_0, x_0) ** 2
    yield normalised(p), (1 - c) ** 2 * variance + c**2 * sigma**2


left_over = (1 - c) ** 2 * sigma_data**2 + c**2 * sigma**2  # edm.residual for data of variance sigma_data^2


@claim("edm.c_skip", source="Karras et al. 2022, eq. 131", covers="edm.c_skip")
def skip():
    """A target of unit variance asks for c_out^2 = edm.residual; over all c it is least at c_skip alone.

    The two differ by a square times sigma^2 + sigma_data^2 > 0.
    """
    best = yield let("c_skip", c_skip)
    yield left_over
    yield at_least((sigma**2 + sigma_data**2) * (c - best) ** 2), left_over.subs(c, best)


@claim("edm.c_out", source="Karras et al. 2022, eq. 138", covers="edm.c_out")
def target():
    """Divided by c_out = sigma sigma_data/sqrt(sigma^2 + sigma_data^2) the target has unit variance.

    Just when Var x_0 = sigma_data^2, as for the input; without sigma_data in c_out it would be sigma_data^2.
    """
    scale = yield let("c_out", c_out)
    second = integral(p(x_0) * ((1 - c_skip) ** 2 * x_0**2 + c_skip**2 * sigma**2), x_0)
    yield (second - integral(p(x_0) * (1 - c_skip) * x_0, x_0) ** 2) / scale**2
    ratio = variance / sigma_data**2
    yield by(residual, {c: c_skip}, chain=2), (sigma**2 * ratio + sigma_data**2) / (sigma**2 + sigma_data**2)


@claim("edm.wiener", source="Wiener 1949; Karras et al. 2022, eq. 131-138")
def wiener():
    "For Gaussian data nothing is left to learn: E[x_0 | x] = c_skip x, and the posterior's variance is c_out^2."
    yield log_normal(x, x_0, sigma**2) + log_normal(x_0, 0, sigma_data**2) - log_normal(x, 0, sigma**2 + sigma_data**2)
    yield complete_the_square(x_0), log_normal(x_0, c_skip * x, c_out**2)


@claim("edm.loss_weight", source="Karras et al. 2022, eq. 144", covers="edm.loss_weight")
def loss_weight():
    "With weight 1/c_out^2 on (D - x_0)^2 the network's own squared error has weight one at every sigma."
    weight = yield let("weight", (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2)
    denoised = c_skip * x + c_out * F
    yield weight * (denoised - x_0) ** 2
    yield algebra, (F - (x_0 - c_skip * x) / c_out) ** 2

    yield weight * left_over.subs(c, c_skip)  # the loss of F = 0, which has learnt nothing: 1 at every sigma
    yield algebra, Integer(1)


# ------------------------------------------------------------------------------------------------------ sampling

L, gamma, S_noise = positive("L gamma S_noise")
h = unit("h")
state, slope = function("x"), function("G")


@claim("edm.heun_order", source="Karras et al. 2022, sec. 3 and app. D.1", covers="edm.heun_order")
def heun_order():
    """Heun on dx/dsigma = (x - D)/sigma: local error O(h^3) for any D; global order 2, sharp, for D linear in x.

    A step goes from sigma down to (1 - h) sigma. Near the solution x(sigma) the denoiser is D(y, sigma) = x - sigma x'
    + (y - x) G(y, sigma), so G = dD/dx on it and (1 - G)/sigma is the field's slope. Globally: D = (1 - c) x from
    sigma = 1 to exp(-L), where x = sigma^c.
    """
    start, end = state(sigma), state((1 - h) * sigma)
    rate = Derivative(start, sigma)

    def field(y: Expr, sigma: Expr, x: Expr, rate: Expr) -> Expr:
        denoised = x - sigma * rate + (y - x) * slope(y, sigma)
        return (y - denoised) / sigma

    now = field(start, sigma, start, rate)
    then = field(start - h * sigma * now, (1 - h) * sigma, end, -Derivative(end, h) / sigma)
    yield end
    second, third = Derivative(start, sigma, 2), Derivative(start, sigma, 3)
    leading = sigma**2 * (sigma * third - 3 * (1 - slope(start, sigma)) * second) / 12
    yield up_to(h, 3, leading), start - h * sigma / 2 * (now + then)

    yield exp(-c * L)
    heun = 1 - h / 2 * (c + c * (1 - c * h) / (1 - h))
    yield up_to(h, 2, -L * c * (c**2 - 1) * exp(-c * L) / 6), heun ** (L / log(1 / (1 - h)))


x_hat = real("x_hat")


@claim("edm.churn", source="Karras et al. 2022, alg. 2", covers="edm.churn")
def churn():
    """Noise of size S_noise sqrt(sigma_hat^2 - sigma^2) on top of p(sigma) gives p(sigma_hat) exactly when S_noise = 1.

    sigma_hat = (1 + gamma) sigma. Given x_0 the sum is Gaussian, of variance sigma_hat^2 when S_noise = 1, whatever the
    law of x_0; otherwise the variance misses that by a positive multiple of S_noise - 1.
    """
    sigma_hat = yield let("sigma_hat", (1 + gamma) * sigma)
    added = yield let("noise", sigma * S_noise * sqrt(gamma * (2 + gamma)))
    yield (sigma_hat**2 - sigma**2) * S_noise**2
    yield algebra, added**2
    yield sigma_hat - sigma
    yield algebra, gamma * sigma

    w = positive("w")  # the variance of whatever noise is added
    both = {gaussian.mu: x_0, gaussian.v: sigma**2, gaussian.nu: 0, gaussian.w: w, gaussian.z: x_hat}
    yield integral(normal(x, x_0, sigma**2) * normal(x_hat - x, 0, w), x)
    yield by(gaussian.sum_of_independents, both), normal(x_hat, x_0, sigma**2 + w)
    yield sigma**2 + added**2 - sigma_hat**2
    yield algebra, sigma**2 * gamma * (2 + gamma) * (S_noise + 1) * (S_noise - 1)


# ---------------------------------------------------------------------------------------- averages of the weights

t = above_one("t")
tau, a = positive("tau a")
k, n = natural("k n")
theta = sequence("theta", "real")


def profile(tau: Expr, t: Expr, gamma: Expr) -> Expr:
    """Weight of the iterate at time tau in the average at time t, a density over (0, t)."""
    return (gamma + 1) / t * (tau / t) ** gamma


@claim("edm.power_function_ema", source="Karras et al. 2024, eq. 2 and 127", covers="edm.power_function_ema")
def power_function_ema():
    """Decay (1 - 1/t)^(gamma + 1) at update t gives iterate k the profile's mass on (k - 1, k], exactly.

    The decay is the mass before t - 1 (less what lies before any a > 0). By induction the average after n updates is
    the sum of ((k/n)^(gamma + 1) - ((k - 1)/n)^(gamma + 1)) theta_k, whose weights (tau/t)^(gamma + 1) has for its
    increments. The profile's own value at the newest iterate is met up to O(1/t^2), sharp; h = 1/t.
    """
    kept = yield let("decay", (1 - 1 / t) ** (gamma + 1))
    before = (tau / t) ** (gamma + 1)
    yield Integral(profile(tau, t, gamma), (tau, a, t - 1))
    yield parts(tau, before), kept - before.subs(tau, a)

    kept = ((k + 1) / (k + 2)) ** (gamma + 1)  # at update k + 2
    yield recursion(kept * y + (1 - kept) * theta(k + 2), y, k, theta(1), n)
    mass = k ** (gamma + 1) - (k - 1) ** (gamma + 1)
    yield induction(n), Sum(mass * theta(k), (k, 1, n + 1)) / (n + 1) ** (gamma + 1)

    yield 1 - (1 - h) ** (gamma + 1)
    yield up_to(h, 2, -gamma * (gamma + 1) / 2), profile(1 / h, 1 / h, gamma)


@claim("edm.relative_width", source="Karras et al. 2024, eq. 3 and 123-126", covers="edm.power_function_ema")
def relative_width():
    """The profile's standard deviation over t; its moments from any a > 0 on, then with a = 0."""
    width = yield let("width", sqrt(gamma + 1) / ((gamma + 2) * sqrt(gamma + 3)))

    def moment(j: int, a: Expr) -> Expr:
        share = (gamma + 1) / (gamma + 1 + j)
        return t**j * share * (1 - (a / t) ** (gamma + 1 + j))

    for j in range(3):
        yield Integral(tau**j * profile(tau, t, gamma), (tau, a, t))
        yield parts(tau, tau**j * (gamma + 1) / (gamma + 1 + j) * (tau / t) ** (gamma + 1)), moment(j, a)

    yield sqrt(moment(2, 0) / moment(0, 0) - (moment(1, 0) / moment(0, 0)) ** 2)
    yield algebra, width * t


# ------------------------------------------------------------------------------------------- post-hoc reconstruction

gamma_1, gamma_2, later = positive("gamma_1 gamma_2 later")
w_1, w_2, d_12, b_1, b_2, norm2 = real("w_1 w_2 d_12 b_1 b_2 norm2")
d_11, independent = positive("d_11 independent")


@claim("edm.profile_product", source="Karras et al. 2024, alg. 3 and app. C.2", covers="edm.post_hoc_ema")
def profile_product():
    """The Gram matrix: int_0^t p_1(tau; t) p_2(tau; t + later) dtau, of a profile with another or a later one.

    From any a > 0 on the integral is this, less the same power at a.
    """
    end = t + later
    product = yield let("product", (gamma_1 + 1) * (gamma_2 + 1) / (gamma_1 + gamma_2 + 1) * (t / end) ** gamma_2 / end)
    power = (tau / t) ** (gamma_1 + gamma_2 + 1)
    yield Integral(profile(tau, t, gamma_1) * profile(tau, end, gamma_2), (tau, a, t))
    yield parts(tau, product * power), product * (1 - power.subs(tau, a))


def misfit(w_1: Expr, w_2: Expr, gram: tuple[Expr, Expr, Expr], wanted: tuple[Expr, Expr], norm2: Expr) -> Expr:
    """|w_1 p_1 + w_2 p_2 - p|^2 from the inner products."""
    (d_11, d_12, d_22), (b_1, b_2) = gram, wanted
    return w_1**2 * d_11 + 2 * w_1 * w_2 * d_12 + w_2**2 * d_22 - 2 * (w_1 * b_1 + w_2 * b_2) + norm2


@claim("edm.post_hoc_ema", source="Karras et al. 2024, alg. 3", covers="edm.post_hoc_ema")
def post_hoc_ema():
    """The normal equations give the nearest combination of two stored profiles, and for a stored one that one alone.

    Hypothesis: the stored profiles are linearly independent, d_11 d_22 - d_12^2 = independent > 0. The excess of any
    weights is then a sum of two squares that vanish together only at the solution.
    """
    gram = d_11, d_12, (d_12**2 + independent) / d_11
    best_1, best_2 = (gram[2] * b_1 - d_12 * b_2) / independent, (d_11 * b_2 - d_12 * b_1) / independent
    excess = d_11 * (w_1 - best_1 + d_12 / d_11 * (w_2 - best_2)) ** 2 + independent / d_11 * (w_2 - best_2) ** 2
    yield misfit(w_1, w_2, gram, (b_1, b_2), norm2)
    yield at_least(excess), norm2 - best_1 * b_1 - best_2 * b_2

    for stored in (0, 1):
        wanted = gram[stored], gram[stored + 1]
        yield misfit(w_1, w_2, gram, wanted, gram[2 * stored])
        moved = d_11 * (w_1 - 1 + stored) ** 2 + 2 * d_12 * (w_1 - 1 + stored) * (w_2 - stored)
        yield algebra, moved + gram[2] * (w_2 - stored) ** 2


@claim("edm.post_hoc_error", source="Karras et al. 2024, app. C.2; Muentz 1914", covers="edm.post_hoc_ema")
def post_hoc_error():
    """What two profiles miss of a third, relative to it and squared: 0 for a stored one, and otherwise never.

    The profiles' determinant shows that different powers are independent. The least misfit of edm.post_hoc_ema, times
    that determinant, is the three profiles' determinant; over |p|^2 it is the product of
    ((gamma - gamma_i)/(gamma + gamma_i + 1))^2, at any time t.
    """

    def inner(one: Expr, other: Expr) -> Expr:
        return (one + 1) * (other + 1) / (one + other + 1) / t

    missed = yield let(
        "missed", ((gamma - gamma_1) * (gamma - gamma_2) / ((gamma + gamma_1 + 1) * (gamma + gamma_2 + 1))) ** 2
    )
    d_11, d_12, d_22 = inner(gamma_1, gamma_1), inner(gamma_1, gamma_2), inner(gamma_2, gamma_2)
    b_1, b_2, norm2 = inner(gamma, gamma_1), inner(gamma, gamma_2), inner(gamma, gamma)
    independent = d_11 * d_22 * ((gamma_1 - gamma_2) / (gamma_1 + gamma_2 + 1)) ** 2
    yield d_11 * d_22 - d_12**2
    yield algebra, independent

    yield norm2 * independent - (d_22 * b_1**2 - 2 * d_12 * b_1 * b_2 + d_11 * b_2**2)
    yield algebra, norm2 * independent * missed
