r"""Guidance: laws tilted towards a class, a measurement or a reward, and which samplers draw from them.

    p(x | c) = p(x) p(c | x)/p(c)         score(x | c) = score(x) + d/dx log p(c | x)
    guided(cond, uncond, w) = uncond + w (cond - uncond)        w = 1: no guidance, the conditional model itself

Noise levels are x_t = alpha x_0 + sigma eps; where alpha = 1 is written, x_t/alpha has variance sigma^2 for it. s is
sigma^2 where a law is followed through all of them. One coordinate: the others are parameters.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Subs, exp, log, sqrt

from theory.probability import hellinger as gibbs_equality
from theory.probability import p as gibbs_p
from theory.probability import q as gibbs_q
from theory.proof import (
    above_one,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    complete_the_square,
    function,
    integral,
    leibniz,
    let,
    limit,
    log_normal,
    normal,
    normalised,
    parts,
    positive,
    real,
    suppose,
    unit,
    up_to,
)

x, y, z, t, w, mu, mu_c, mu_u = real("x y z t w mu mu_c mu_u")
alpha, sigma, s_c, s_u, s, h = positive("alpha sigma s_c s_u s h")
p_c, p_u = function("p_c", kind="positive"), function("p_u", kind="positive")
A = unit("A")  # p(c)

# ------------------------------------------------------------------------------------------------ classifiers

likelihood = function("l", kind="positive")  # l(y) = p(c | x_0 = y)
p, q = function("p", kind="density"), function("q", kind="density")


@claim("guidance.classifier", source="Dhariwal & Nichol 2021, eq. 10", covers="guidance.classifier")
def classifier():
    """score(x | c) = score(x) + d/dx log p(c | x): the evidence p(c) drops out.

    p_c is the law of class c, of probability A, and p_u here that of all the other classes together: at any noise
    level the laws there, so that the classifier is p(c | x_t), not one of clean data.
    """
    law = A * p_c(x) + (1 - A) * p_u(x)
    posterior = A * p_c(x) / law
    yield Derivative(log(p_c(x)), x)
    yield algebra, Derivative(log(law), x) + Derivative(log(posterior), x)


v = positive("v")


@claim("guidance.classifier_step", source="Dhariwal & Nichol 2021, sec. 4.1", covers="guidance.classifier_point")
def classifier_step():
    """A step to N(m, v), tilted by p(c | x_s), has its mean moved by v E[d/dx_s log p(c | x_s)], exactly.

    The mean is over the tilted step itself. The gradient at x_t, at m or anywhere h from them is as good to first
    order, since v = g^2 h is of first order itself (guidance.classifier_point).
    """
    m, evidence = real("m"), positive("evidence")  # p(c | x_t), by which the tilted step is a density
    step = normal(x, m, v) * likelihood(x) / evidence
    yield integral((x - m) * step, x)
    yield parts(x, -v * step), v * integral(Derivative(log(likelihood(x)), x) * step, x)


L = function("L")  # log p(c | x_t) as a function of x_t


@claim("guidance.classifier_point", source="Dhariwal & Nichol 2021, sec. 4.1", covers="guidance.classifier_point")
def classifier_point():
    """Taken at the mean of the step, x - h (f x - g^2 score), the classifier's gradient is off by O(h), sharp.

    Guidance adds g^2 h times it to a step: what is added differs by O(h^2) a step, by O(h) over all steps.
    """
    f, g, score = real("f g score")
    drift = -(f * x - g**2 * score)
    gradient = Derivative(L(z), z)
    yield Subs(gradient, z, x + h * drift)
    yield up_to(h, 1, drift * Derivative(L(x), x, 2)), Derivative(L(x), x)


# ------------------------------------------------------------------------------------------------ classifier-free

cond, uncond = real("cond uncond")


def guide(cond: Expr, uncond: Expr, w: Expr) -> Expr:
    """uncond + w (cond - uncond)."""
    return uncond + w * (cond - uncond)


def slope(density: Expr) -> Expr:
    """The score of a density in x."""
    return Derivative(log(density), x)


@claim("guidance.cfg_implicit", source="Ho & Salimans 2022, eq. 6", covers="guidance.cfg_implicit")
def cfg_implicit():
    """CFG guides the conditional score by the implicit classifier p(c | x) = A p(x | c)/p(x) to the power w - 1.

    So it is the score of p(x | c)^w p(x)^(1-w), level by level.
    """
    implied = A * p_c(x) / p_u(x)
    yield guide(slope(p_c(x)), slope(p_u(x)), w)
    yield algebra, slope(p_c(x)) + (w - 1) * Derivative(log(implied), x)
    yield algebra, Derivative(w * log(p_c(x)) + (1 - w) * log(p_u(x)), x)


@claim("guidance.cfg_conventions", source="Ho & Salimans 2022, eq. 6", covers="guidance.cfg_conventions")
def cfg_conventions():
    """uncond + w (cond - uncond) = cond + (w - 1)(cond - uncond): the paper's 1 + w is this w. w = 1 is cond.

    Then: guiding noise predictions is guiding the denoisers they stand for, with the same w.
    """
    guided = yield let("guided", guide(cond, uncond, w))
    yield guided
    yield algebra, cond + (w - 1) * (cond - uncond)
    yield Subs(guided, w, 1)
    yield algebra, cond

    def denoised(eps: Expr) -> Expr:
        return (x - sigma * eps) / alpha

    yield denoised(guided)
    yield algebra, guide(denoised(cond), denoised(uncond), w)


@claim("guidance.cfg_rescaled", source="Lin et al. 2024, eq. 14-16", covers="guidance.cfg_rescaled")
def cfg_rescaled():
    """phi std(cond)/std(guided) guided + (1 - phi) guided has the variance (phi std(cond) + (1 - phi) std(guided))^2.

    Over the coordinates y of G, the guided prediction, of any weights p(y): so at phi = 1 its standard deviation is
    the conditional's. Its mean is multiplied too.
    """
    std_cond, std_guided, phi = positive("std_cond"), positive("std_guided"), unit("phi")
    guided = real("guided")
    rescaled = yield let("rescaled", guided * (phi * std_cond / std_guided + 1 - phi))
    G = function("G")

    def variance(of: Expr) -> Expr:
        return integral(p(y) * of**2, y) - integral(p(y) * of, y) ** 2

    yield variance(Subs(rescaled, guided, G(y)))
    yield algebra, (phi * std_cond + (1 - phi) * std_guided) ** 2 * variance(G(y)) / std_guided**2
    yield Subs(rescaled, phi, 1)
    yield algebra, guided * std_cond / std_guided


# ---------------------------------------------------------------------------------------- what CFG draws from

s_c2, s_u2 = s_c**2, s_u**2


def tilted(c: Expr, u: Expr, w: Expr) -> Expr:
    """The variance of N(., c)^w N(., u)^(1-w), if it is positive."""
    return 1 / (w / c + (1 - w) / u)


@claim("guidance.cfg_discrepancy", source="Bradley & Nakkiran 2024", covers="guidance.cfg_discrepancy")
def cfg_discrepancy():
    """The variance of CFG's tilt at noise s = sigma^2, less that of the noised tilt, is gap; a law it is for P > 0.

    c and u are s_c^2 and s_u^2, apart by d, in either order, and P = w u + (1 - w) c: P > 0 says that w/c + (1 - w)/u
    is. Then CFG's score is that of N(mean, variance) at every s. Where P <= 0 there is no tilt of clean data, and yet
    one at all noise above -P. Last, what w/(c + s) + (1 - w)/(u + s) > 0 asks for.
    """
    c, u, P, d = positive("c u P d")
    variance = yield let("variance", c * u / P)
    mean = yield let("mean", (w * mu_c * u + (1 - w) * mu_u * c) / P)
    gap = yield let("gap", w * (1 - w) * d**2 * s / (P * (P + s)))
    for clean_c, clean_u in ((v, v + d), (v + d, v)):
        share = (P - clean_c) / (clean_u - clean_c)  # w
        noised_c, noised_u = clean_c + s, clean_u + s
        noised = (c, u, P, w), (noised_c, noised_u, P + s, share)
        of_c, of_u = (Derivative(log_normal(x, *law), x) for law in ((mu_c, noised_c), (mu_u, noised_u)))
        yield guide(of_c, of_u, share)
        yield algebra, -(x - Subs(mean, *noised)) / Subs(variance, *noised)
        yield Subs(variance, *noised) - (Subs(variance, (c, u), (clean_c, clean_u)) + s)
        yield algebra, Subs(gap, w, share)
        yield share / noised_c + (1 - share) / noised_u
        yield algebra, (P + s) / (noised_c * noised_u)


@claim("guidance.cfg_not_diffusion", source="Bradley & Nakkiran 2024, thm 2", covers="guidance.cfg_not_diffusion")
def cfg_not_diffusion():
    """So CFG's tilts at two noise levels are no diffusion of one law: for w > 1 too narrow, for 0 < w < 1 too wide.

    s_c < s_u, and then s_u < s_c, apart by d. For w > 1 the second needs the tilt to be a law: P = w s_u^2 + (1 - w)
    s_c^2 > 0, so that s_u^2 = P + (w - 1) d. Below 1 either order will do. (w < 0 is 1 - w > 1 with c and u swapped.)
    """
    w, d, P = above_one("w"), positive("d"), positive("P")
    for c, u in ((v, v + d), (P + w * d, P + (w - 1) * d)):
        total = w * u - (w - 1) * c
        yield tilted(c, u, w) + s
        yield at_least(w * (w - 1) * s * d**2 / (total * (total + s))), tilted(c + s, u + s, w)
    share = unit("w")
    for c, u in ((v, v + d), (v + d, v)):
        total = share * u + (1 - share) * c
        yield tilted(c + s, u + s, share)
        yield at_least(share * (1 - share) * s * d**2 / (total * (total + s))), tilted(c, u, share) + s


X = function("X")  # the distance of two paths at s = sigma^2
guided_pull = w / (s_c2 + s) + (1 - w) / (s_u2 + s)


@claim(
    "guidance.cfg_flow",
    source="Bradley & Nakkiran 2024, sec. 4",
    covers="guidance.cfg_discrepancy",
    hypotheses=[suppose(Derivative(X(s), s), guided_pull * X(s) / 2)],
)
def cfg_flow():
    """CFG's probability flow carries variance as (s_c^2 + sigma^2)^w (s_u^2 + sigma^2)^(1-w): a geometric mean.

    dx/ds = -score/2 in s = sigma^2 is linear for Gaussians: distances X of paths obey X' = X/(2 variance). What is kept
    says that variances at 0 and at s stand in this ratio. From pure noise, of variance sigma^2, it leads to
    s_c^(2 w) s_u^(2 (1 - w)), w/s_c^2 + (1 - w)/s_u^2 positive or not; the tilt's variance is the harmonic mean.
    """
    flow = yield let("flow", v * exp(w * log(s_c2 / (s_c2 + s)) + (1 - w) * log(s_u2 / (s_u2 + s))))
    sampled = yield let("sampled", exp(w * log(s_c2) + (1 - w) * log(s_u2)))
    yield Derivative(Subs(flow, v, X(s) ** 2), s)
    yield algebra, Integer(0)

    from_noise = exp(w * log(s * s_c2 / (s_c2 + s)) + (1 - w) * log(s * s_u2 / (s_u2 + s)))
    yield Subs(flow, v, s)
    yield algebra, from_noise
    yield from_noise.subs(s, 1 / h)
    yield limit(h), sampled


@claim(
    "guidance.cfg_equal_variances",
    source="Bradley & Nakkiran 2024; Chidambaram et al. 2024",
    covers="guidance.cfg_equal_variances",
)
def cfg_equal_variances():
    """With equal variances CFG is exact at every level: N(w mu_c + (1 - w) mu_u, s_c^2), noised.

    First the tilt of clean data, then CFG's score at sigma: the same mean, and sigma^2 more. No condition on w.
    """
    mean = w * mu_c + (1 - w) * mu_u
    for level in (Integer(0), sigma**2):
        of_c, of_u = (Derivative(log_normal(x, at, s_c2 + level), x) for at in (mu_c, mu_u))
        yield guide(of_c, of_u, w)
        yield algebra, Derivative(log_normal(x, mean, s_c2 + level), x)


# ---------------------------------------------------------------------------------------- exact guidance

law, noised = function("p", kind="positive"), function("q", kind="positive")
F, b = function("F"), function("b")
g, H = function("g", kind="positive"), function("h", kind="positive")


def forward(of: Expr, drift: Expr) -> Expr:
    """The right side of the Fokker-Planck equation."""
    return -Derivative(drift * of, x) + g(t) ** 2 / 2 * Derivative(of, x, 2)


def backward(of: Expr, drift: Expr) -> Expr:
    """The right side of Kolmogorov's backward equation."""
    return -drift * Derivative(of, x) - g(t) ** 2 / 2 * Derivative(of, x, 2)


@claim(
    "guidance.doob_harmonic",
    source="Rogers & Williams 2000, IV.39; Song et al. 2021 (SDE), app. I",
    covers="guidance.doob",
    hypotheses=[suppose(Derivative(of(x, t), t), forward(of(x, t), F(x, t))) for of in (law, noised)],
)
def doob_harmonic():
    """E[likelihood | x_t = x] = q/p is harmonic for the reverse process, of drift g^2 score - F in the time -t.

    q is the noised likelihood(x_0) p(x_0), as p is noised p(x_0): one equation for both, and q/p is that mean by Bayes.
    """
    expected = noised(x, t) / law(x, t)
    reverse = g(t) ** 2 * Derivative(log(law(x, t)), x) - F(x, t)
    yield -Derivative(expected, t)
    yield algebra, backward(expected, reverse)


harmonic = suppose(Derivative(H(x, t), t), backward(H(x, t), b(x, t)))


@claim(
    "guidance.doob",
    source="Rogers & Williams 2000, IV.39",
    covers="guidance.doob",
    hypotheses=[suppose(Derivative(law(x, t), t), forward(law(x, t), b(x, t))), harmonic],
)
def doob():
    """Exact guidance is Doob's h-transform: the law p h follows the drift b + g^2 (log h)_x, if h is harmonic.

    t runs with the process, of drift b. Divided by Z = E h, which time does not change (guidance.doob_mass), it is
    the tilted law.
    """
    tilted_law = law(x, t) * H(x, t)
    yield Derivative(tilted_law, t)
    yield algebra, forward(tilted_law, b(x, t) + g(t) ** 2 * Derivative(log(H(x, t)), x))


decaying, bounded = function("p", kind="density"), function("h", kind="positive")


@claim(
    "guidance.doob_mass",
    source="Rogers & Williams 2000, IV.39",
    covers="guidance.doob",
    hypotheses=[
        suppose(Derivative(decaying(x, t), t), forward(decaying(x, t), b(x, t))),
        suppose(Derivative(bounded(x, t), t), backward(bounded(x, t), b(x, t))),
    ],
)
def doob_mass():
    "Z = E h(X_t) does not change with time: h is a martingale along the paths."
    one, other = decaying(x, t), bounded(x, t)
    yield Derivative(integral(one * other, x), t)
    yield leibniz, integral(Derivative(one, t) * other + one * Derivative(other, t), x)
    flux = -b(x, t) * one * other + g(t) ** 2 / 2 * (other * Derivative(one, x) - one * Derivative(other, x))
    yield parts(x, flux), Integer(0)


beta = positive("beta")


best = function("q*", kind="density")


@claim("guidance.reward_tilting", source="Korbak et al. 2022", covers="guidance.reward_tilting")
def reward_tilting():
    """E_q r - beta KL(q || p) <= beta log Z - beta int (sqrt q - sqrt q*)^2: only q* = p exp(r/beta)/Z attains it.

    The reward is written by its tilt, r = beta log(Z q*/p), as every r of finite Z = E_p exp(r/beta) can be: first that
    Z is this. Then the bound, and that q* attains it.
    """
    Z = positive("Z")
    reward = beta * log(Z * best(x) / p(x))

    def value(law: Expr) -> Expr:
        return integral(law * reward - beta * law * (log(law) - log(p(x))), x)

    yield integral(p(x) * exp(reward / beta), x)
    yield normalised(best), Z

    yield value(q(x))
    yield normalised(q), beta * log(Z) - beta * integral(q(x) * (log(q(x)) - log(best(x))), x)
    apart = integral((sqrt(q(x)) - sqrt(best(x))) ** 2, x)
    known = by(gibbs_equality, {gibbs_p: q, gibbs_q: best})
    yield at_most(lambda gap: beta * gap, known), beta * log(Z) - beta * apart

    yield value(best(x))
    yield normalised(best), beta * log(Z)


# ---------------------------------------------------------------------------------------- score scaling

T = positive("T")


@claim("guidance.score_scaling", source="Du et al. 2023", covers="guidance.score_scaling")
def score_scaling():
    """score/T at every level is no diffusion of p^(1/T): on N(mu, v) its variance is (T - 1) sigma^2 too large.

    First the tempered law of clean data, N(mu, T v); then that whose score the scaled one is at sigma.
    """
    excess = yield let("excess", (T - 1) * sigma**2)
    variance = {}
    for level in (Integer(0), sigma**2):
        variance[level] = T * (v + level)
        yield Derivative(log_normal(x, mu, v + level), x) / T
        yield algebra, Derivative(log_normal(x, mu, variance[level]), x)
    yield variance[sigma**2] - (variance[Integer(0)] + sigma**2)
    yield algebra, excess


@claim(
    "guidance.score_scaling_flow",
    source="Du et al. 2023",
    covers="guidance.score_scaling",
    hypotheses=[suppose(Derivative(X(s), s), X(s) / (2 * T * (v + s)))],
)
def score_scaling_flow():
    """The flow of score/T carries variance as (v + sigma^2)^(1/T): from pure noise it leads to sigma^(2 - 2/T) v^(1/T).

    X is the distance of two paths of dx/ds = -score/(2 T), s = sigma^2. The end depends on where one starts, for any
    T but 1, without limit: at T < 1 all falls into one point.
    """
    yield Derivative(X(s) ** 2 * exp(log(v / (v + s)) / T), s)
    yield algebra, Integer(0)
    start = exp(log(s) * (1 - 1 / T))
    yield s * exp(log(v / (v + s)) / T) / start
    at = {s: 1 / h}
    yield algebra, exp(log(v * s / (v + s)) / T)
    yield exp(log(v * s / (v + s)) / T).subs(at)
    yield limit(h), exp(log(v) / T)


# ---------------------------------------------------------------------------------------- other forms of guidance


@claim("guidance.interval", source="Kynkaanniemi et al. 2024", covers="guidance.interval")
def interval():
    """Guidance in an interval of levels is CFG with w(t) = 1 + inside(t) (w - 1): outside it, the conditional model.

    inside is 1 in the interval and 0 outside; where it fades between them, so does the guidance.
    """
    inside = real("inside")
    guided = yield let("guided", guide(cond, uncond, 1 + inside * (w - 1)))
    yield guided
    yield algebra, (1 - inside) * cond + inside * guide(cond, uncond, w)


@claim("guidance.autoguidance", source="Karras et al. 2024 (autoguidance), eq. 3", covers="guidance.autoguidance")
def autoguidance():
    """D_1 + (w - 1)(D_1 - D_0), D_0 a degraded model, is CFG with D_0 in the unconditional's place; w = 1 is D_1.

    For models that are denoisers of laws p_c and p_u: it is the denoiser of score d/dx log(p_c (p_c/p_u)^(w - 1)),
    away from where the degraded law has more than its share.
    """
    D_1, D_0 = real("D_1 D_0")
    guided = yield let("guided", D_1 + (w - 1) * (D_1 - D_0))
    yield guided
    yield algebra, guide(D_1, D_0, w)
    yield Subs(guided, w, 1)
    yield algebra, D_1

    def denoiser(score: Expr) -> Expr:
        return (x + sigma**2 * score) / alpha

    yield Subs(guided, (D_1, D_0), (denoiser(slope(p_c(x))), denoiser(slope(p_u(x)))))
    yield algebra, denoiser(slope(p_c(x)) + (w - 1) * Derivative(log(p_c(x) / p_u(x)), x))


# ---------------------------------------------------------------------------------------- inpainting by replacement

rho = unit("rho")
y_0, y_t = real("y_0 y_t")
m, V = function("m"), function("V")  # mean and variance of the unknown coordinate at s = sigma^2
D = (1 + s) ** 2 - rho**2  # of the noised pair's covariance, the determinant
replaced_slope = (1 + s) / D


@claim("guidance.inpainting_score", source="Lugmayr et al. 2022, alg. 1", covers="guidance.inpainting_bias")
def inpainting_score():
    """The joint score pulls x to rho y_t/(1 + s), the conditional one to rho y_0: replacement uses the first for it.

    (y_0, x_0) is Gaussian with unit variances and correlation rho, s = sigma^2, alpha = 1. The mean over the fresh
    noise of y_t has y_0 in its place; that the law of y_t | x_t, y_0 is another is what replacement leaves out.
    """
    own = 1 - rho**2 + s
    joint = log_normal(y_t, 0, 1 + s) + log_normal(x, rho * y_t / (1 + s), D / (1 + s))
    mean, variance = (rho * s * x + own * y_t) / D, s * own / D
    known = log_normal(y_0, 0, 1) + log_normal(y_t, y_0, s) + log_normal(x, rho * y_0, own)
    yield known
    yield complete_the_square(y_0), log_normal(y_0, mean, variance) + joint
    yield Derivative(joint, x)
    yield algebra, -((1 + s) * x - rho * y_t) / D
    yield Derivative(known, x)
    yield algebra, -(x - rho * y_0) / own


@claim(
    "guidance.inpainting_mean",
    source="Lugmayr et al. 2022, alg. 1; Trippe et al. 2023",
    covers="guidance.inpainting_bias",
    hypotheses=[suppose(Derivative(m(s), s), ((1 + s) * m(s) - rho * y_0) / D)],
)
def inpainting_mean():
    """Replacement, sampled by the reverse SDE, draws x of mean rho y_0/(1 + sqrt(1 - rho^2)); exact is rho y_0.

    No resampling, noise drawn anew each step, steps without end: it averages out, and the drift is minus the score in
    s, taken at y_0. What is kept along the way gives the mean at 0 from any mean m at s, and from pure noise.
    """
    mean = yield let("mean", rho * y_0 / (1 + sqrt(1 - rho**2)))
    kept = (m(s) - (1 + s) * y_0 / rho) / sqrt(D)
    yield Derivative(kept, s)
    yield algebra, Integer(0)
    start = real("m")
    back = y_0 / rho + sqrt(1 - rho**2) * kept.subs(m(s), start)
    yield back.subs(s, 1 / h)
    yield limit(h), mean
    yield mean - rho * y_0
    yield algebra, -rho * y_0 * sqrt(1 - rho**2) / (1 + sqrt(1 - rho**2))


@claim(
    "guidance.inpainting_bias",
    source="Lugmayr et al. 2022, alg. 1; Trippe et al. 2023",
    covers="guidance.inpainting_bias",
    hypotheses=[suppose(Derivative(V(s), s), 2 * replaced_slope * V(s) - 1)],
)
def inpainting_bias():
    """And of variance (1 - rho^2) artanh(rho)/rho, where the exact conditional has 1 - rho^2.

    As in guidance.inpainting_mean; the reverse SDE's own noise is the -1.
    """
    variance = yield let("variance", (1 - rho**2) * log((1 + rho) / (1 - rho)) / (2 * rho))
    kept = V(s) / D + log((1 + s - rho) / (1 + s + rho)) / (2 * rho)
    yield Derivative(kept, s)
    yield algebra, Integer(0)
    start = positive("V")
    back = (1 - rho**2) * (kept.subs(V(s), start) - log((1 - rho) / (1 + rho)) / (2 * rho))
    yield back.subs({s: 1 / h, start: 1 / h + start})
    yield limit(h), variance


# ---------------------------------------------------------------------------------------- inverse problems

a, x0_hat, J = real("a x0_hat J")
kappa, s_y = positive("kappa s_y")


@claim("guidance.dps", source="Chung et al. 2023, thm 1; Song et al. 2023 (PiGDM)", covers="guidance.dps")
def dps():
    """Of y = a x_0 + s_y n the exact likelihood given x_t has variance s_y^2 + a^2 Var[x_0 | x_t]; DPS writes s_y^2.

    x_0 given x_t is N(x0_hat, V). Bayes for the likelihood; then x0_hat and V of the prior N(mu, v), J = dx0_hat/dx_t =
    alpha V/sigma^2; then both likelihoods' scores, which differ by that variance alone.
    """
    V = positive("V")
    exact = yield let("exact", a * J * (y - a * x0_hat) / (s_y**2 + a**2 * V))
    approximate = yield let("dps", a * J * (y - a * x0_hat) / s_y**2)
    x_0 = real("x_0")
    mean = (s_y**2 * x0_hat + a * V * y) / (s_y**2 + a**2 * V)
    yield log_normal(y, a * x_0, s_y**2) + log_normal(x_0, x0_hat, V)
    posterior = log_normal(x_0, mean, V * s_y**2 / (s_y**2 + a**2 * V))
    yield complete_the_square(x_0), posterior + log_normal(y, a * x0_hat, s_y**2 + a**2 * V)

    seen = alpha**2 * v + sigma**2
    denoised, spread = (sigma**2 * mu + alpha * v * x) / seen, v * sigma**2 / seen
    yield log_normal(x, alpha * x_0, sigma**2) + log_normal(x_0, mu, v)
    yield complete_the_square(x_0), log_normal(x_0, denoised, spread) + log_normal(x, alpha * mu, seen)

    jacobian = alpha * spread / sigma**2
    for variance, score in ((s_y**2 + a**2 * spread, exact), (s_y**2, approximate)):
        yield Derivative(log_normal(y, a * denoised, variance), x)
        yield algebra, Subs(score, (x0_hat, V, J), (denoised, spread, jacobian))


gain = v / (v + s)  # J at s = sigma^2


@claim(
    "guidance.dps_mean",
    source="Chung et al. 2023, thm 1",
    covers="guidance.dps",
    hypotheses=[suppose(Derivative(m(s), s), m(s) / (v + s) - kappa * gain * (y - gain * m(s)) / v)],
)
def dps_mean():
    """By the reverse SDE, DPS moves the mean 1 - exp(-kappa) of the way to the measurement; exact: kappa/(1 + kappa).

    kappa = a^2 v/s_y^2 of guidance.dps is the signal-to-noise ratio of the measurement; here s = sigma^2 of the
    diffusion, y is (measurement)/a - mu, and m the mean of x_t - mu, m' minus the score there.
    """
    mean = yield let("mean", (1 - exp(-kappa)) * y)
    kept = exp(kappa * gain) * (gain * m(s) - y)
    yield Derivative(kept, s)
    yield algebra, Integer(0)
    start = real("m")
    yield (y + exp(-kappa) * kept.subs(m(s), start)).subs(s, 1 / h)
    yield limit(h), mean


@claim(
    "guidance.dps_variance",
    source="Chung et al. 2023, thm 1",
    covers="guidance.dps",
    hypotheses=[suppose(Derivative(V(s), s), 2 * (1 / (v + s) + kappa * gain**2 / v) * V(s) - 1)],
)
def dps_variance():
    """And its variance is v (1 - exp(-2 kappa))/(2 kappa), not v/(1 + kappa): half of it, for large kappa.

    As in guidance.dps_mean; the reverse SDE's own noise is the -1.
    """
    variance = yield let("variance", v * (1 - exp(-2 * kappa)) / (2 * kappa))
    kept = exp(2 * kappa * gain) * (gain**2 * V(s) - v / (2 * kappa))
    yield Derivative(kept, s)
    yield algebra, Integer(0)
    start = positive("V")
    back = v / (2 * kappa) + exp(-2 * kappa) * kept.subs(V(s), start + s)
    yield back.subs(s, 1 / h)
    yield limit(h), variance
