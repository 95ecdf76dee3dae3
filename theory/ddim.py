r"""DDIM: reverse steps with DDPM's marginals, and the deterministic one as Euler's method on the probability-flow ODE.

    q(x_s | x_t, x_0) = N(alpha_s x_0 + kept (x_t - alpha_t x_0) / sigma_t, std^2),    kept^2 + std^2 = sigma_s^2
    std = eta sigma_s sqrt(1 - kappa^2),    kappa = alpha_t sigma_s / (alpha_s sigma_t) = exp(-h),  0 < kappa < 1

s < t is the grid point that follows t on the way to the data. D is the prediction of x_0 and eps = (x_t - alpha_t D) /
sigma_t that of the noise. The probability-flow ODE dx/dt = f x - g^2 score / 2, with f = alpha'/alpha,
g^2 = (sigma^2)' - 2 f sigma^2 and score = -eps / sigma, is

    dx/dt = (sigma'/sigma) x + (alpha' - alpha sigma'/sigma) D,     or     d(x/alpha) = eps d(sigma/alpha).
"""

from __future__ import annotations

from sympy import Derivative, Expr, Product, exp, log, sqrt

from theory import ddpm
from theory.proof import (
    algebra,
    claim,
    complete_the_square,
    function,
    induction,
    let,
    log_normal,
    natural,
    positive,
    real,
    recursion,
    sequence,
    unit,
    up_to,
)

x_t, x_s, x_0, D, eps, y, w, t, delta = real("x_t x_s x_0 D eps y w t delta")
alpha_t, sigma_t, alpha_s, sigma_s, h = positive("alpha_t sigma_t alpha_s sigma_s h")
kappa, eta = unit("kappa eta")
k, n = natural("k n")

ddim_step = sigma_s / sigma_t * x_t + (alpha_s - alpha_t * sigma_s / sigma_t) * D

# ------------------------------------------------------------------------------------- one family, DDPM's marginals

kept_s, std_s = real("kept"), positive("std")


@claim("ddim.marginals", week=5, source="Song et al. 2021 (DDIM), lemma 1", covers="ddim.marginals")
def marginals():
    """Whatever is kept of the noise, if the rest is drawn anew then x_s | x_0 ~ N(alpha_s x_0, sigma_s^2).

    The law of (x_t, x_s) is that marginal times a Gaussian in x_t, which integrates to one.
    """
    variance = kept_s**2 + std_s**2
    x_s_mean = alpha_s * x_0 + kept_s * (x_t - alpha_t * x_0) / sigma_t
    yield log_normal(x_t, alpha_t * x_0, sigma_t**2) + log_normal(x_s, x_s_mean, std_s**2)
    x_t_mean = alpha_t * x_0 + sigma_t * kept_s / variance * (x_s - alpha_s * x_0)
    back = log_normal(x_t, x_t_mean, (sigma_t * std_s) ** 2 / variance)
    yield complete_the_square(x_t), log_normal(x_s, alpha_s * x_0, variance) + back


alphas, kepts, stds = sequence("alpha", "real"), sequence("kept", "real"), sequence("std", "positive")


@claim("ddim.marginals_induction", week=5, source="Song et al. 2021 (DDIM), lemma 1", covers="ddim.marginals_induction")
def marginals_induction():
    """From the noisiest point down, n steps on: mean and variance are still those of the forward chain.

    The grid is counted from the noise, sigma_k^2 = kept_k^2 + std_k^2; ddim.marginals is what one step does. A mean
    that starts off by delta is off by delta times the product of what the steps keep: started right, it stays right.
    """

    def variance(k: Expr) -> Expr:
        return kepts(k) ** 2 + stds(k) ** 2

    slope = kepts(k) / sqrt(variance(k - 1))
    mean = alphas(k + 1) * x_0 + slope.subs(k, k + 1) * (y - alphas(k) * x_0)
    yield recursion(mean, y, k, alphas(0) * x_0 + delta, n)
    yield induction(n), alphas(n) * x_0 + delta * Product(slope, (k, 1, n))

    yield recursion(slope.subs(k, k + 1) ** 2 * y + stds(k + 1) ** 2, y, k, variance(0), n)
    yield induction(n), variance(n)


@claim("ddim.eta", week=5, source="Song et al. 2021 (DDIM), eq. 7, 12 and 16", covers="ddim.marginals")
def eta_family():
    """The members named by eta: of sigma_s^2 a share is drawn anew and the rest is kept, as ddim.marginals asks.

    Then the mean as a sampler's coefficients.
    """
    std = yield let("std", eta * sigma_s * sqrt(1 - kappa**2))
    kept = yield let("kept", sigma_s * sqrt(1 - eta**2 * (1 - kappa**2)))
    mean = yield let("mean", alpha_s * x_0 + kept * (x_t - alpha_t * x_0) / sigma_t)
    yield kept
    yield algebra, sqrt(sigma_s**2 - std**2)

    yield mean
    yield algebra, kept / sigma_t * x_t + (alpha_s - kept * alpha_t / sigma_t) * x_0


alpha_bar_s, beta_t, retained = unit("alpha_bar_s beta_t retained")
a, tau = positive("a tau")


def preserving(alpha_bar_t: Expr) -> dict[Expr, Expr]:
    """The scales of a variance-preserving chain with alpha_bar_s at s and alpha_bar_t at t."""
    return {
        alpha_s: sqrt(alpha_bar_s),
        sigma_s: sqrt(1 - alpha_bar_s),
        alpha_t: sqrt(alpha_bar_t),
        sigma_t: sqrt(1 - alpha_bar_t),
        kappa: sqrt(alpha_bar_t * (1 - alpha_bar_s) / (alpha_bar_s * (1 - alpha_bar_t))),
    }


@claim("ddim.eta_one", week=5, source="Song et al. 2021 (DDIM), eq. 16", covers="ddim.eta_one")
def eta_one():
    """eta = 1 is the DDPM posterior: its mean, its variance beta_tilde; and Bayes' law for any alpha and sigma.

    The last: x_t = a x_s + tau z from s to t, so that alpha_t = a alpha_s and sigma_t^2 = a^2 sigma_s^2 + tau^2.
    """
    mean, std = (eta_family.part(name).subs(eta, 1) for name in ("mean", "std"))
    ancestral = preserving((1 - beta_t) * alpha_bar_s)
    yield mean.subs(ancestral, simultaneous=True)
    yield algebra, ddpm.posterior.part("mean")

    yield std.subs(ancestral, simultaneous=True) ** 2
    yield algebra, ddpm.posterior.part("variance")

    spread = sqrt(a**2 * sigma_s**2 + tau**2)
    general = {alpha_t: a * alpha_s, sigma_t: spread, kappa: a * sigma_s / spread}
    prior = log_normal(x_s, alpha_s * x_0, sigma_s**2)
    yield log_normal(x_t, a * x_s, tau**2) + prior - log_normal(x_t, a * alpha_s * x_0, spread**2)
    yield (
        complete_the_square(x_s),
        log_normal(x_s, mean.subs(general, simultaneous=True), std.subs(general, simultaneous=True) ** 2),
    )


@claim("ddim.eta_zero", week=5, source="Song et al. 2021 (DDIM), eq. 12", covers="ddim.eta_zero")
def eta_zero():
    "eta = 0 draws no noise: the predicted noise is carried over whole, x_s = alpha_s D + sigma_s eps."
    yield eta_family.part("mean").subs({eta: 0, x_0: D})
    yield algebra, ddim_step


betas = sequence("beta", "unit")


@claim("ddim.skipping", week=5, source="Song et al. 2021 (DDIM), sec. 4.2", covers="ddim.skipping")
def skipping():
    """Steps may be skipped: n forward steps from s to t are one step that retains the product of their 1 - beta_k.

    So the family's variance needs alpha_bar at s, the actual predecessor of t in the grid, and at t, nothing between.
    """
    yield recursion((1 - betas(k + 1)) * y + betas(k + 1), y, k, 1 - alpha_bar_s, n)
    yield induction(n), 1 - alpha_bar_s * Product(1 - betas(k), (k, 1, n))

    alpha_bar_t = retained * alpha_bar_s
    yield eta_family.part("std").subs(preserving(alpha_bar_t), simultaneous=True) ** 2
    yield algebra, eta**2 * (1 - alpha_bar_s) / (1 - alpha_bar_t) * (1 - alpha_bar_t / alpha_bar_s)


# ------------------------------------------------------------------------------------- the deterministic step: Euler

alpha, sigma = function("alpha", kind="positive"), function("sigma", kind="positive")
f = Derivative(alpha(t), t) / alpha(t)
g2 = Derivative(sigma(t) ** 2, t) - 2 * f * sigma(t) ** 2


def flow(x: Expr, data: Expr) -> Expr:
    """dx/dt of the probability-flow ODE at time t, data being the prediction of x_0."""
    score = -(x - alpha(t) * data) / sigma(t) ** 2
    return f * x - g2 / 2 * score


@claim("ddim.euler_exact", week=5, source="Song et al. 2021 (DDIM), eq. 13-14", covers="ddim.euler_exact")
def euler_exact():
    """The step is exactly explicit Euler for x/alpha as a function of sigma/alpha.

    First the ODE in these coordinates, at x = alpha y; then the step, which adds eps times the change of sigma/alpha.
    """
    noise = (alpha(t) * y - alpha(t) * D) / sigma(t)
    yield flow(alpha(t) * y, D) / alpha(t) - y * Derivative(alpha(t), t) / alpha(t)
    yield algebra, noise * Derivative(sigma(t) / alpha(t), t)

    yield ddim_step.subs(D, (x_t - sigma_t * eps) / alpha_t)
    yield algebra, alpha_s * (x_t / alpha_t + (sigma_s / alpha_s - sigma_t / alpha_t) * eps)


@claim("ddim.terminal_step", week=5, source="Song et al. 2021 (DDIM), eq. 12", covers="ddim.terminal_step")
def terminal_step():
    "At alpha_t = 0, pure noise, the step said by D is finite, and the limit of the others, off by O(alpha_t)."
    yield ddim_step.subs(alpha_t, h)
    yield up_to(h, 1, -sigma_s / sigma_t * D), sigma_s / sigma_t * x_t + alpha_s * D


def ddim_to(s: Expr) -> Expr:
    """The step from t to s for functions alpha and sigma."""
    ends = {alpha_t: alpha(t), sigma_t: sigma(t), alpha_s: alpha(s), sigma_s: sigma(s)}
    return ddim_step.subs(ends, simultaneous=True)


B = function("B", kind="increasing")  # integral of beta from 0 to t


@claim(
    "ddim.euler_probability_flow",
    week=5,
    source="Song et al. 2021 (DDIM), prop. 1",
    covers="ddim.euler_probability_flow",
)
def euler_probability_flow():
    """One step of size h is one Euler step of the probability-flow ODE in t, up to O(h^2).

    The difference begins with h^2/2 times what the curvature of alpha and sigma adds, for any schedule. Then the ODE
    for VP, alpha = exp(-B/2) with beta = B': dx/dt = -beta (x + score) / 2.
    """
    bend = Derivative(sigma(t), (t, 2)) / sigma(t)
    leading = (bend * x_t + (Derivative(alpha(t), (t, 2)) - alpha(t) * bend) * D) / 2
    yield ddim_to(t - h)
    yield up_to(h, 2, leading), x_t - h * flow(x_t, D)

    preserved = {alpha(t): exp(-B(t) / 2), sigma(t): sqrt(1 - exp(-B(t)))}
    score = -(x_t - preserved[alpha(t)] * D) / preserved[sigma(t)] ** 2
    yield flow(x_t, D).subs(preserved, simultaneous=True).doit()
    yield algebra, -Derivative(B(t), t) / 2 * (x_t + score)


half_log_snr = real("half_log_snr_t")


@claim("ddim.exponential_integrator", week=5, source="Lu et al. 2022, sec. 3.2", covers="ddim.exponential_integrator")
def exponential_integrator():
    """The step is the first-order exponential integrator in half_log_snr = log(alpha/sigma), h its increase.

    Along the ODE d(x/sigma) = D e^half_log_snr d(half_log_snr); with D frozen the exponential integrates to its
    increase.
    """
    yield flow(sigma(t) * y, D) / sigma(t) - y * Derivative(sigma(t), t) / sigma(t)
    yield algebra, D * alpha(t) / sigma(t) * Derivative(log(alpha(t) / sigma(t)), t)

    ends = {alpha_t: sigma_t * exp(half_log_snr), alpha_s: sigma_s * exp(half_log_snr + h)}
    yield sigma_s * (x_t / sigma_t + D * (exp(half_log_snr + h) - exp(half_log_snr)))
    yield algebra, sigma_s / sigma_t * x_t + ends[alpha_s] * (1 - exp(-h)) * D
    yield algebra, ddim_step.subs(ends, simultaneous=True)


@claim("ddim.point_mass_exact", week=5, source="Song et al. 2021 (DDIM), eq. 12", covers="ddim.point_mass_exact")
def point_mass_exact():
    "For data at a point D the flow's paths are alpha D + sigma eps, and the step stays on them at any step size."
    yield Derivative(alpha(t) * D + sigma(t) * eps, t)
    yield algebra, flow(alpha(t) * D + sigma(t) * eps, D)

    yield ddim_step.subs(x_t, alpha_t * D + sigma_t * eps)
    yield algebra, alpha_s * D + sigma_s * eps


noise = function("eps", kind="smooth")  # eps(y, w): the noise predicted at x/alpha = y, sigma/alpha = w


@claim("ddim.inversion", week=5, source="Song et al. 2021 (DDIM), sec. 5.4", covers="ddim.inversion")
def inversion():
    """Walking back from s to t with the prediction made at s misses x_t/alpha_t by O(h^2), h the step in sigma/alpha.

    The error begins with minus the path's second derivative: straight paths are inverted exactly. First the step back.
    """
    step = yield let("step", sigma_t / sigma_s * x_s + (alpha_t - alpha_s * sigma_t / sigma_s) * D)
    yield alpha_t * (x_s / alpha_s + (sigma_t / alpha_t - sigma_s / alpha_s) * (x_s - alpha_s * D) / sigma_s)
    yield algebra, step

    there = y - h * noise(y, w)
    curvature = Derivative(noise(y, w), w) + noise(y, w) * Derivative(noise(y, w), y)
    yield there + h * noise(there, w - h)
    yield up_to(h, 2, -curvature), y


@claim("ddim.sde_limit", week=5, source="Zhang & Chen 2023, eq. 6", covers="ddim.sde_limit")
def sde_limit():
    """For small steps h the member eta is the reverse SDE with noise eta g: lambda = eta multiplies g.

    dx = (f x - (1 + eta^2)/2 g^2 score) dt + eta g dw backwards in time: the drawn variance, then the mean.
    """
    s = t - h
    ratio = alpha(t) * sigma(s) / (alpha(s) * sigma(t))
    ends = {alpha_t: alpha(t), sigma_t: sigma(t), alpha_s: alpha(s), sigma_s: sigma(s), kappa: ratio, x_0: D}
    mean, std = (eta_family.part(name).subs(ends, simultaneous=True) for name in ("mean", "std"))
    fall = Derivative(log(alpha(t) / sigma(t)), t)
    fall_2 = Derivative(log(alpha(t) / sigma(t)), (t, 2))
    sigma_1, sigma_2 = Derivative(sigma(t), t), Derivative(sigma(t), (t, 2))
    drawn = eta**2 * (sigma(t) ** 2 * (fall_2 - 2 * fall**2) + 4 * sigma(t) * sigma_1 * fall)
    yield std**2
    yield up_to(h, 2, drawn), eta**2 * g2 * h

    score = -(x_t - alpha(t) * D) / sigma(t) ** 2
    first = -(2 * sigma(t) * sigma_1 + eta**2 * g2) / sigma(t) ** 2  # kept^2 / sigma^2 = 1 + first h + second h^2
    second = (sigma_1**2 + sigma(t) * sigma_2 - drawn) / sigma(t) ** 2
    kept_2 = sigma(t) * (second / 2 - first**2 / 8)
    leading = Derivative(alpha(t), (t, 2)) / 2 * D + kept_2 * (x_t - alpha(t) * D) / sigma(t)
    yield mean
    yield up_to(h, 2, leading), x_t - h * (f * x_t - (1 + eta**2) / 2 * g2 * score)
