r"""Diffusion in continuous time: the SDE whose law is a schedule's, its reversals, and the flow that replaces it.

    forward      dx = f x dt + g dW,    f = alpha'/alpha,    g^2 = (sigma^2)' - 2 f sigma^2
    kernel       p(x_t | x_0) = N(alpha x_0, sigma^2)
    Fokker-Planck equation of dx = F dt + g dW:    p_t = -(F p)_x + (g^2/2) p_xx
    backward     dx = (F - (1 + lambda^2)/2 g^2 s) dt + lambda g dW,    s = (log p)_x the score, time running back

Run back in time, a drift F and noise g make the density obey -p_t = (F p)_x + (g^2/2) p_xx. lambda = 1 is Anderson's
reversal, lambda = 0 the probability-flow ODE. Subscripts are partial derivatives.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integral, Rational, exp, log, sqrt

from theory.proof import (
    algebra,
    claim,
    function,
    induction,
    let,
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
