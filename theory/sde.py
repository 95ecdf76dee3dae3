r"""Diffusion in continuous time: the SDE whose law is a schedule's, its reversals, and the flow that replaces it.

    forward      dx = f x dt + g dW,    f = alpha'/alpha,    g^2 = (sigma^2)' - 2 f sigma^2
    kernel       p(x_t | x_0) = N(alpha x_0, sigma^2)
    Fokker-Planck equation of dx = F dt + g dW:    p_t = -(F p)_x + (g^2/2) p_xx
    backward     dx = (F - (1 + lambda^2)/2 g^2 s) dt + lambda g dW,    s = (log p)_x the score, time running back

Run back in time, a drift F and noise g make the density obey -p_t = (F p)_x + (g^2/2) p_xx. lambda = 1 is Anderson's
reversal, lambda = 0 the probability-flow ODE. Subscripts are partial derivatives.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Rational, Subs, exp, log, sqrt, tanh

from theory.proof import (
    E,
    algebra,
    at_least,
    at_most,
    claim,
    complete_the_square,
    function,
    gaussian_expectation,
    induction,
    let,
    log_normal,
    natural,
    normal,
    positive,
    real,
    recursion,
    sequence,
    suppose,
    unit,
    up_to,
)

x, y, x_0, lam, t = real("x y x_0 lambda t")
h, T = positive("h T")
alpha, sigma, g, p = (function(name, kind="positive") for name in ("alpha", "sigma", "g", "p"))
F = function("F")


def drift(alpha: Expr) -> Expr:
    """f = alpha'/alpha."""
    return Derivative(alpha, t) / alpha


def diffusion2(alpha: Expr, sigma: Expr) -> Expr:
    """g^2 = (sigma^2)' - 2 f sigma^2."""
    return Derivative(sigma**2, t) - 2 * drift(alpha) * sigma**2


# ------------------------------------------------------------------------------------------------ the forward kernel


@claim("sde.moments", week=5, source="Song et al. 2021 (SDE), app. A; Sarkka and Solin 2019, eq. 5.50-5.51")
def moments():
    "alpha x_0 and sigma^2 solve the SDE's equations m' = f m and v' = 2 f v + g^2, g^2 = -2 sigma^2 half_log_snr'."
    m, v = alpha(t) * x_0, sigma(t) ** 2
    yield Derivative(m, t)
    yield algebra, drift(alpha(t)) * m
    yield Derivative(v, t)
    yield algebra, 2 * drift(alpha(t)) * v - 2 * v * Derivative(log(alpha(t) / sigma(t)), t)


def fokker_planck_side(kernel: Expr, f: Expr, g2: Expr) -> Expr:
    """The equation's right side for drift f x and diffusion g^2."""
    return -Derivative(f * x * kernel, x) + g2 / 2 * Derivative(kernel, x, 2)


@claim("sde.fokker_planck", week=5, source="Song et al. 2021 (SDE), eq. 29; Risken 1996, sec. 5.3")
def fokker_planck():
    "The Gaussian kernel N(alpha x_0, sigma^2) solves the Fokker-Planck equation of dx = f x dt + g dW."
    kernel = normal(x, alpha(t) * x_0, sigma(t) ** 2)
    yield Derivative(kernel, t)
    yield algebra, fokker_planck_side(kernel, drift(alpha(t)), diffusion2(alpha(t), sigma(t)))


B = function("B", kind="positive")  # the integral of beta
beta_t = Derivative(B(t), t)
grown = function("w", kind="positive")  # exp(B) - 1
tau = unit("tau")


@claim("sde.fokker_planck_vp", week=5, source="Song et al. 2021 (SDE), eq. 29", covers="sde.fokker_planck_vp")
def fokker_planck_vp():
    "VP, dx = -beta/2 x dt + sqrt(beta) dW: alpha = exp(-B/2), sigma^2 = 1 - alpha^2, B the integral of beta."
    kernel = normal(x, exp(-B(t) / 2) * x_0, 1 - exp(-B(t)))
    yield Derivative(kernel, t)
    yield algebra, fokker_planck_side(kernel, -beta_t / 2, beta_t)


@claim("sde.fokker_planck_sub_vp", week=5, source="Song et al. 2021 (SDE), eq. 29", covers="sde.fokker_planck_sub_vp")
def fokker_planck_sub_vp():
    "Sub-VP, dx = -beta/2 x dt + sqrt(beta (1 - exp(-2B))) dW: alpha = exp(-B/2), sigma = 1 - alpha^2; w = exp(B) - 1."
    beta_t = Derivative(grown(t), t) / (1 + grown(t))
    kernel = normal(x, x_0 / sqrt(1 + grown(t)), (grown(t) / (1 + grown(t))) ** 2)
    yield Derivative(kernel, t)
    yield algebra, fokker_planck_side(kernel, -beta_t / 2, beta_t * (1 - (1 + grown(t)) ** -2))


@claim("sde.fokker_planck_flow", week=5, source="Lipman et al. 2023, eq. 20; Albergo and Vanden-Eijnden 2023")
def fokker_planck_flow():
    "Flow matching's path (1 - tau) x_0 + tau eps is the law of dx = -x/(1 - tau) dtau + sqrt(2 tau/(1 - tau)) dW."
    kernel = normal(x, (1 - tau) * x_0, tau**2)
    yield Derivative(kernel, tau)
    yield algebra, fokker_planck_side(kernel, -1 / (1 - tau), 2 * tau / (1 - tau))


@claim("sde.fokker_planck_ve", week=5, source="Song et al. 2021 (SDE), eq. 29", covers="sde.fokker_planck_ve")
def fokker_planck_ve():
    "VE, dx = sqrt((sigma^2)') dW: alpha = 1."
    kernel = normal(x, x_0, sigma(t) ** 2)
    yield Derivative(kernel, t)
    yield algebra, fokker_planck_side(kernel, Rational(0), Derivative(sigma(t) ** 2, t))


# ------------------------------------------------------------------------------------------------ backward in time

fokker_planck_equation = suppose(
    Derivative(p(x, t), t), -Derivative(F(x, t) * p(x, t), x) + g(t) ** 2 / 2 * Derivative(p(x, t), x, 2)
)
score = Derivative(log(p(x, t)), x)


@claim(
    "sde.lambda_family",
    week=5,
    source="Song et al. 2021 (SDE), app. D.1",
    covers="sde.lambda_family",
    hypotheses=[fokker_planck_equation],
)
def lambda_family():
    "Run back with drift F - (1 + lambda^2)/2 g^2 score and noise lambda g, every lambda passes through the same p_t."
    yield -Derivative(p(x, t), t)
    backward = F(x, t) - (1 + lam**2) / 2 * g(t) ** 2 * score
    yield algebra, Derivative(backward * p(x, t), x) + lam**2 * g(t) ** 2 / 2 * Derivative(p(x, t), x, 2)


@claim(
    "sde.anderson",
    week=5,
    source="Anderson 1982; Song et al. 2021 (SDE), eq. 6",
    covers="sde.anderson",
    hypotheses=[fokker_planck_equation],
)
def anderson():
    "lambda = 1: dx = (F - g^2 score) dt + g dW run back in time has the forward marginals."
    yield -Derivative(p(x, t), t)
    backward = F(x, t) - g(t) ** 2 * score
    yield algebra, Derivative(backward * p(x, t), x) + g(t) ** 2 / 2 * Derivative(p(x, t), x, 2)


@claim(
    "sde.probability_flow",
    week=5,
    source="Song et al. 2021 (SDE), eq. 13",
    covers="sde.probability_flow",
    hypotheses=[fokker_planck_equation],
)
def probability_flow():
    "lambda = 0: the ODE dx/dt = F - g^2 score / 2 moves the density as the SDE does."
    yield -Derivative(p(x, t), t)
    yield algebra, Derivative((F(x, t) - g(t) ** 2 / 2 * score) * p(x, t), x)


A_ij, F_1, F_2, G_11, G_12, G_21, G_22 = (function(n) for n in ("A_ij", "F_1", "F_2", "G_11", "G_12", "G_21", "G_22"))
x_i, x_j, x_1, x_2 = real("x_i x_j x_1 x_2")


@claim("sde.score_flux", week=5, source="Song et al. 2021 (SDE), app. D.1")
def score_flux():
    "For one pair of indices, the rest parameters: d_i (A_ij s_j p) = A_ij d_i d_j p, so the score's flux is diffusion."
    q = p(x_i, x_j, t)
    yield Derivative(A_ij(t) * Derivative(log(q), x_j) * q, x_i)
    yield algebra, A_ij(t) * Derivative(q, x_i, x_j)


plane = p(x_1, x_2, t)
axes = (x_1, x_2)
drifts = (F_1(x_1, x_2, t), F_2(x_1, x_2, t))
noise = ((G_11(t), G_12(t)), (G_21(t), G_22(t)))
pairs = [(i, j) for i in range(2) for j in range(2)]


def covariance(i: int, j: int) -> Expr:
    """(G G^T)_ij."""
    return sum((noise[i][k] * noise[j][k] for k in range(2)), start=Rational(0))


diffused = sum((covariance(i, j) * Derivative(plane, axes[i], axes[j]) for i, j in pairs), start=Rational(0)) / 2


@claim(
    "sde.lambda_family_vector",
    week=5,
    source="Song et al. 2021 (SDE), app. D.1",
    covers="sde.lambda_family_vector",
    hypotheses=[
        suppose(Derivative(plane, t), diffused - sum(Derivative(drifts[i] * plane, axes[i]) for i in range(2))),
    ],
)
def lambda_family_vector():
    "With a matrix G(t): drift F - (1 + lambda^2)/2 G G^T score, noise lambda G; each pair (i, j) as in score_flux."
    yield -Derivative(plane, t)
    flux = [
        drifts[i] - (1 + lam**2) / 2 * sum(covariance(i, j) * Derivative(log(plane), axes[j]) for j in range(2))
        for i in range(2)
    ]
    yield algebra, sum(Derivative(flux[i] * plane, axes[i]) for i in range(2)) + lam**2 * diffused


# ------------------------------------------------------------------------------------------------ the flow, in code

D = real("D")
alpha_, sigma_ = positive("alpha sigma")
alpha_dot, sigma_dot = real("alpha_dot sigma_dot")


@claim("sde.pf_ode_denoised", week=5, source="Song et al. 2021 (SDE), eq. 13; Karras et al. 2022, eq. 4")
def pf_ode_denoised():
    "With score (alpha D - x)/sigma^2: dx/dt = a x + b D, a = sigma'/sigma and b = alpha' - alpha sigma'/sigma."
    state = yield let("state", sigma_dot / sigma_)
    denoised = yield let("denoised", alpha_dot - alpha_ * sigma_dot / sigma_)
    f = alpha_dot / alpha_
    g2 = 2 * sigma_ * sigma_dot - 2 * f * sigma_**2
    yield f * x - g2 / 2 * (alpha_ * D - x) / sigma_**2
    yield algebra, state * x + denoised * D


v, v_1, v_2 = function("v"), function("v_1"), function("v_2")
velocity = (v_1(x_1, x_2, t), v_2(x_1, x_2, t))


@claim(
    "sde.instantaneous_change",
    week=5,
    source="Chen et al. 2018, thm 1",
    covers="sde.instantaneous_change",
    hypotheses=[suppose(Derivative(plane, t), -sum(Derivative(velocity[i] * plane, axes[i]) for i in range(2)))],
)
def instantaneous_change():
    "Along dx/dt = v(x, t) the log density falls at the rate of the divergence: d/dt log p(x(t), t) = -div v."
    yield Derivative(log(plane), t) + sum(velocity[i] * Derivative(log(plane), axes[i]) for i in range(2))
    yield algebra, -sum(Derivative(velocity[i], axes[i]) for i in range(2))


# ------------------------------------------------------------------------------------------------ chains

beta = function("beta", kind="positive")
b = positive("b")
k, n = natural("k n")
c = sequence("c", kind="positive")
w = real("w")


@claim("sde.ddpm_to_vp", week=5, source="Song et al. 2021 (SDE), app. B", covers="sde.ddpm_to_vp")
def ddpm_to_vp():
    "A step of DDPM's chain is VP's up to O(h^2), and n of them up to O(h): sharp, in mean and variance."
    gained = Integral(beta(w), (w, t, t + h))
    yield exp(-gained / 2) * x
    yield up_to(h, 2, (beta(t) ** 2 - Derivative(beta(t), t)) * x / 4), sqrt(1 - h * beta(t)) * x
    yield 1 - exp(-gained)
    yield up_to(h, 2, (Derivative(beta(t), t) - beta(t) ** 2) / 2), h * beta(t)
    yield (1 - b * h) ** (T / (2 * h)) * x_0  # T/h steps of the chain, constant beta = b
    yield up_to(h, 1, -(b**2) * T * exp(-b * T / 2) * x_0 / 4), exp(-b * T / 2) * x_0
    yield 1 - (1 - b * h) ** (T / h)
    yield up_to(h, 1, b**2 * T * exp(-b * T) / 2), 1 - exp(-b * T)


@claim("sde.ncsn_chain_exact", week=5, source="Song et al. 2021 (SDE), app. B", covers="sde.ncsn_chain_exact")
def ncsn_chain_exact():
    "Adding sigma_k^2 - sigma_(k-1)^2 at each step makes the variance exactly sigma_n^2: VE's law on the grid."
    yield recursion(y + c(k + 1) ** 2 - c(k) ** 2, y, k, c(0) ** 2, n)
    yield induction(n), c(n) ** 2


@claim("sde.ncsn_euler", week=5, source="Song et al. 2021 (SDE), app. B", covers="sde.ncsn_euler")
def ncsn_euler():
    "Only the Euler form of NCSN's increment, g^2 h, errs: by O(h^2) a step, O(h) in all, sharp."
    variance = sigma(t) ** 2
    yield sigma(t + h) ** 2 - variance
    yield up_to(h, 2, Derivative(variance, t, 2) / 2), h * Derivative(variance, t)


# ------------------------------------------------------------------------------------------------ the corrector

z, u, slope = real("z u score")
v_, w_ = positive("v w")  # the law's variance, and that of a chain which has not settled
A, r = unit("A"), real("r")  # r: the signal-to-noise ratio of a step, below 1


@claim(
    "sde.corrector_bias",
    week=5,
    source="Song et al. 2021 (SDE), alg. 4-5; Wibisono 2018, ex. 4",
    covers="sde.corrector_bias",
)
def corrector_bias():
    """Corrector steps x + h score + sqrt(2 h) z on N(0, v) settle at variance v/(1 - h/(2 v)), not at v.

    A = h/(2 v), the step as a fraction of the longest stable one. From variance w the chain comes closer by the factor
    (1 - 2 A)^2 = 1 - 4 A (1 - A) < 1 a step; `after` is what it is after n.
    """
    step = yield let("step", x + h * slope + sqrt(2 * h) * z)
    yield E(step, z)
    yield gaussian_expectation(z), x + h * slope
    yield E(step * z, z)
    yield gaussian_expectation(z), sqrt(2 * h)

    stationary = yield let("stationary", v_ / (1 - A))
    kept_part = 1 - 4 * A * (1 - A)
    after = yield let("after", stationary + kept_part**n * (w_ - stationary))
    start = sqrt(w_) * u
    moved = start + 2 * v_ * A * Subs(Derivative(log_normal(x, 0, v_), x), x, start)
    yield E(moved**2, u) + 4 * v_ * A
    yield gaussian_expectation(u), kept_part * w_ + 4 * v_ * A
    yield recursion(kept_part * y + 4 * v_ * A, y, k, w_, n)
    yield induction(n), after
    yield kept_part
    yield at_most(4 * A * (1 - A)), Integer(1)


@claim("sde.corrector_snr", week=5, source="Song et al. 2021 (SDE), alg. 4-5, app. G")
def corrector_snr():
    """With h = 2 (r |z|/|score|)^2, r the signal-to-noise ratio of a step, the bias is 1/(1 - r^2) at every level.

    On N(0, v), in root mean squares, A = h/(2 v) is r^2 whatever v is.
    """
    slope = Subs(Derivative(log_normal(x, 0, v_), x), x, sqrt(v_) * u)
    yield 2 * r**2 * E(z**2, z) / E(slope**2, u) / (2 * v_)
    yield gaussian_expectation(z), r**2 / E(slope**2, u) / v_
    yield gaussian_expectation(u), r**2


own = function("h", kind="positive")  # the length of a step, as a function of the state
density = function("p", kind="positive")
dimension = positive("d")


@claim("sde.corrector_own_length", week=5, source="Song et al. 2021 (SDE), alg. 4-5; Roberts & Stramer 2002, eq. 3")
def corrector_own_length():
    """Steps as long as |z|^2/|x|^2 of the sample itself says do not keep p: they widen N(0, v) by ((d + 2)/d)^2.

    As steps shrink, dx = h(x) score dt + sqrt(2 h(x)) dW settles at p/h (first chain, one coordinate), so at p |x|^2;
    and a length that goes with |z|^2 widens the noise. Either widens by E|u|^2 u_1^2 = d + 2 over E|u|^2 = d: given u_1
    the other d - 1 squares have mean 1 each.
    """
    tilted, score = density(x) / own(x), Derivative(log(density(x)), x)
    yield Derivative(own(x) * tilted, (x, 2)) - Derivative(own(x) * score * tilted, x)
    yield algebra, Integer(0)
    widened = yield let("widened", ((dimension + 2) / dimension) ** 2)
    yield (E(u**2 * (u**2 + dimension - 1), u) / dimension) ** 2
    yield gaussian_expectation(u), widened


# ------------------------------------------------------------------------------------------------ reverse kernels

x_s, x_t, m, mu, kept = real("x_s x_t m mu r")
q, rho = unit("q rho")
f_s, g_s, k_t = function("f"), function("g"), function("k")
F_t, G_t = positive("F G")
d = real("d")
snr = function("snr", kind="decreasing")


@claim(
    "sde.reverse_kernel_mixture",
    week=5,
    source="Sohl-Dickstein et al. 2015, sec. 2.2; Feller 1949",
    covers="sde.reverse_kernel_gaussian",
)
def reverse_kernel_mixture():
    """Of two points, q(x_s | x_t) is a mixture of the two posteriors, their means 2 mu v/(r^2 w + v) apart.

    Noised to time s the points are N(+-mu, w), mu = alpha_s times one of them, w = sigma_s^2; x_t is r x_s + N(0, v),
    r = alpha_t/alpha_s. First chain: Bayes for any two densities f and g of x_s, k the transition to x_t and F, G the
    densities of x_t under each. Then what f k/F is, and how far from g k/G.
    """
    share = yield let("responsibility", q * F_t / (q * F_t + (1 - q) * G_t))
    apart = yield let("apart", 2 * mu * v_ / (kept**2 * w_ + v_))
    variance = yield let("variance", w_ * v_ / (kept**2 * w_ + v_))
    one, other, transition = f_s(x_s), g_s(x_s), k_t(x_s)
    yield (q * one + (1 - q) * other) * transition / (q * F_t + (1 - q) * G_t)
    yield algebra, share * (one * transition / F_t) + (1 - share) * (other * transition / G_t)

    def posterior_mean(mu: Expr) -> Expr:
        return (v_ * mu + kept * w_ * x_t) / (kept**2 * w_ + v_)

    evidence = log_normal(x_t, kept * mu, kept**2 * w_ + v_)
    yield log_normal(x_s, mu, w_) + log_normal(x_t, kept * x_s, v_) - evidence
    yield complete_the_square(x_s), log_normal(x_s, posterior_mean(mu), variance)
    yield posterior_mean(mu) - posterior_mean(-mu)
    yield algebra, apart


@claim("sde.mixture_cumulants", week=5, source="McLachlan & Peel 2000, sec. 1.5", covers="sde.reverse_kernel_gaussian")
def mixture_cumulants():
    "Two Gaussians of one variance, d apart, are no Gaussian: third and fourth cumulant never vanish together."
    above, below = (1 - rho) * d + sqrt(v_) * u, -rho * d + sqrt(v_) * u

    def centred(power: int) -> Expr:  # a central moment of rho N(d, v) + (1 - rho) N(0, v)
        return rho * E(above**power, u) + (1 - rho) * E(below**power, u)

    c = rho * (1 - rho)
    variance = yield let("variance", v_ + c * d**2)
    third = yield let("third", c * (1 - 2 * rho) * d**3)
    fourth = yield let("fourth", c * (1 - 6 * c) * d**4)
    yield centred(2)
    yield gaussian_expectation(u), variance
    yield centred(3)
    yield gaussian_expectation(u), third
    yield centred(4)
    yield gaussian_expectation(u), 3 * variance**2 + fourth
    yield (1 - 2 * rho) ** 2 + (1 - 6 * c) ** 2
    yield at_least(36 * (c - Rational(2, 9)) ** 2), Rational(2, 9)


@claim(
    "sde.reverse_kernel_gaussian",
    week=5,
    source="Sohl-Dickstein et al. 2015, sec. 2.2; Feller 1949",
    covers="sde.reverse_kernel_gaussian",
)
def reverse_kernel_gaussian():
    """Only as the step h shrinks is q(x_s | x_t) Gaussian: of two points, its skewness squared is O(h^3), sharp.

    Its excess kurtosis is O(h^2), sharp. By sde.reverse_kernel_mixture and sde.mixture_cumulants both depend on
    separation = apart^2/variance alone, and that is exactly the step's gain in SNR times the points' squared distance
    4 m^2 (first chain: alpha = alpha_s, SNR = alpha^2/sigma^2). For any smooth schedule of falling SNR, at any x_t, of
    responsibility rho; s = t - h.
    """
    c = rho * (1 - rho)
    apart, variance = 2 * alpha_ * m * v_ / (kept**2 * w_ + v_), w_ * v_ / (kept**2 * w_ + v_)
    yield apart**2 / variance
    yield algebra, 4 * m**2 * (alpha_**2 / w_ - (kept * alpha_) ** 2 / (kept**2 * w_ + v_))

    separation = 4 * m**2 * (snr(t - h) - snr(t))
    fall = -4 * m**2 * Derivative(snr(t), t)
    yield (c * (1 - 2 * rho)) ** 2 * separation**3 / (1 + c * separation) ** 3
    yield up_to(h, 3, (c * (1 - 2 * rho)) ** 2 * fall**3), Integer(0)
    yield c * (1 - 6 * c) * separation**2 / (1 + c * separation) ** 2
    yield up_to(h, 2, c * (1 - 6 * c) * fall**2), Integer(0)


# ------------------------------------------------------------------------------------------------ when modes part

M = unit("M")


def at_centre(e: Expr) -> Expr:
    """Its value at x = 0."""
    return Subs(e, x, 0)


@claim(
    "sde.speciation",
    week=5,
    source="Biroli et al. 2024; Raya & Ambrogioni 2023, sec. 3",
    covers="sde.speciation",
)
def speciation():
    """The law of N(+-m, v) noised has two modes when alpha^2 (m^2 - v) > sigma^2, one otherwise: they part there.

    At that level it is half N(mu, w) and half N(-mu, w), mu = alpha m and w = alpha^2 v + sigma^2. The curvature of its
    log density at 0 is positive in the first case: 0 is a minimum. It is the greatest curvature anywhere (second
    chain), so in the second case the log density is concave.
    """
    curvature = yield let("curvature", (mu**2 - w_) / w_**2)
    law = (normal(x, mu, w_) + normal(x, -mu, w_)) / 2
    yield at_centre(Derivative(log(law), (x, 2)))
    yield algebra, curvature
    yield Derivative(log(law), (x, 2))
    yield at_most((mu / w_) ** 2 * tanh(mu * x / w_) ** 2), curvature
    margin = yield let("margin", alpha_**2 * (m**2 - v_) - sigma_**2)
    yield Subs(curvature * w_**2, (mu, w_), (alpha_ * m, alpha_**2 * v_ + sigma_**2))
    yield algebra, margin


@claim(
    "sde.speciation_drift",
    week=5,
    source="Biroli et al. 2024; Raya & Ambrogioni 2023, sec. 3",
    covers="sde.speciation",
)
def speciation_drift():
    """Backward drifts push away from 0 from another time on: from a = lambda/(sqrt(lambda^2 + 1) + lambda), a = A M.

    VP at alpha^2 = A on data of variance 1, m^2 = M and v = 1 - M, in the family of sde.lambda_family, lambda > 0. The
    density parts at a = 1/2, the limit of large lambda; Anderson's reversal at a = sqrt(2) - 1; the ODE pushes away
    always.
    """
    root = yield let("root", lam / (sqrt(lam**2 + 1) + lam))
    spread = A * (1 - M) + 1 - A
    law = (normal(x, sqrt(A * M), spread) + normal(x, -sqrt(A * M), spread)) / 2
    yield at_centre(Derivative(b / 2 * x + (1 + lam**2) / 2 * b * Derivative(log(law), x), x))
    yield algebra, b / 2 * ((A * M) ** 2 + lam**2 * (2 * A * M - 1)) / (1 - A * M) ** 2
    yield root**2 + lam**2 * (2 * root - 1)
    yield algebra, Integer(0)
    yield root
    yield algebra, lam * (sqrt(lam**2 + 1) - lam)


# ------------------------------------------------------------------------------------------------ coarse to fine

frequency, exponent = positive("k a")


@claim("sde.spectrum", week=5, source="Dieleman 2024; Rissanen et al. 2023, sec. 2", covers="sde.spectrum")
def spectrum():
    """Data of power k^-a at frequency k has the SNR alpha^2/sigma^2 k^-a: it rises above the noise coarse to fine.

    Frequency k crosses SNR = 1 at sigma/alpha = k^(-a/2), which falls in k; sigma/alpha falls in reverse time. There
    the best linear denoiser, of gain SNR/(1 + SNR), keeps half. Each octave takes (a/2) log 2 of half log-SNR.
    """
    ratio = yield let("snr", alpha_**2 / sigma_**2 * frequency**-exponent)
    crossing = yield let("crossing", frequency ** (-exponent / 2))
    power = frequency**-exponent
    yield E((alpha_ * sqrt(power) * u) ** 2, u) / (sigma_**2)
    yield gaussian_expectation(u), ratio
    yield Subs(ratio, sigma_, alpha_ * crossing)
    yield algebra, Integer(1)
    yield Derivative(crossing, frequency)
    yield at_most(exponent / 2 * frequency ** (-exponent / 2 - 1)), Integer(0)
    yield alpha_**2 * power / (alpha_**2 * power + sigma_**2)
    yield algebra, ratio / (1 + ratio)
    yield -log((2 * frequency) ** (-exponent / 2)) + log(crossing)
    yield algebra, exponent / 2 * log(2)
