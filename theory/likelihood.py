r"""Likelihoods of diffusions: what the flow's log density costs to estimate, and what a wrong score costs in nats.

    log p_0(x_0) = log p_T(x_T) + int_0^T div v dt       along the flow dx/dt = v(x, t); a divergence is a trace
    d/dt KL(p || q) = E_p (score_p - score_q)(v_p - v_q)  v = drift - (noise^2/2) score, the velocity that carries a law

Under one noise g and drifts a and b that is E_p (a - b)^2/(2 g^2), less the mean of a square: all bounds come from it.
The model of the data p is q, drawn backward in time with a model s of the score: drift a - (1 + lambda^2)/2 g^2 s and
noise lambda g, as in `theory/sde.py`. All is said for one coordinate x; g does not depend on x, so in any dimension the
fluxes, scores and squares are those of the coordinates, added up (`sde.kl_flux` says it for a pair).
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Lambda, Rational, Sum, cosh, exp, log, sinh, sqrt

from theory import probability
from theory.proof import (
    E,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    function,
    gaussian_expectation,
    induction,
    integral,
    leibniz,
    let,
    limit,
    log_normal,
    natural,
    normalised,
    parts,
    positive,
    real,
    recursion,
    sequence,
    suppose,
    up_to,
)
from theory.proof.vocabulary import Suppose

x, y, u, t, w = real("x y u t w")
u_1, u_2 = real("u_1 u_2")
T, h = positive("T h")

# ------------------------------------------------------------------------------------------ Hutchinson's estimate

b, b_j, b_k, c = real("b b_j b_k c")
A_ii, A_11, A_12, A_21, A_22 = real("A_ii A_11 A_12 A_21 A_22")
signs = (-1, 1)


form = A_11 * u_1**2 + (A_12 + A_21) * u_1 * u_2 + A_22 * u_2**2  # v^T A v in two dimensions, v = (u_1, u_2)


symmetric2 = A_11**2 + A_22**2 + 2 * ((A_12 + A_21) / 2) ** 2  # ||sym A||_F^2, sym A = (A + A^T)/2


@claim(
    "sde.hutchinson_variance_gaussian",
    week=5,
    source="Hutchinson 1990; Avron & Toledo 2011, lemma 9",
    covers="sde.hutchinson_variance_gaussian",
)
def hutchinson_variance_gaussian():
    """With Gaussian probes Var(v^T A v) = 2 ||sym A||_F^2: one coordinate u at a time, and two dimensions whole.

    In u the form is A_ii u^2 + b u + c: b = sum_j (A_ij + A_ji) v_j over the other coordinates, c their own form. Given
    them it varies by 2 A_ii^2 + b^2, and its mean A_ii + c varies as their form does (probability.total_variance). The
    mean of b^2, here for a pair b_j = A_ij + A_ji, b_k = A_ik + A_ki, is the sum of squares. So each coordinate adds to
    the variance what it adds to 2 ||sym A||_F^2.
    """
    own = yield let("own", 2 * A_ii**2)
    in_u = A_ii * u**2 + b * u + c
    yield E(in_u, u)
    yield gaussian_expectation(u), A_ii + c
    yield E((in_u - A_ii - c) ** 2, u)
    yield gaussian_expectation(u), own + b**2
    yield E((b_j * u_1 + b_k * u_2) ** 2, u_1)
    yield gaussian_expectation(u_1), b_j**2 + b_k**2 * u_2**2
    yield E(b_j**2 + b_k**2 * u_2**2, u_2)
    yield gaussian_expectation(u_2), b_j**2 + b_k**2

    trace = A_11 + A_22
    yield E((form - trace) ** 2, u_1)
    yield gaussian_expectation(u_1), 2 * A_11**2 + (A_12 + A_21) ** 2 * u_2**2 + A_22**2 * (u_2**2 - 1) ** 2
    yield E(2 * A_11**2 + (A_12 + A_21) ** 2 * u_2**2 + A_22**2 * (u_2**2 - 1) ** 2, u_2)
    yield gaussian_expectation(u_2), 2 * symmetric2


@claim(
    "sde.hutchinson_variance_rademacher",
    week=5,
    source="Hutchinson 1990, prop. 1",
    covers="sde.hutchinson_variance_rademacher",
)
def hutchinson_variance_rademacher():
    """With random signs for probes Var(v^T A v) = 2 (||sym A||_F^2 - sum_i A_ii^2): the diagonal costs nothing.

    One coordinate +-1 at a time, as for Gaussian probes: given the others the form varies by b^2; then two dimensions.
    """
    yield sum((A_ii + b * s + c) ** 2 for s in signs) / 2 - (A_ii + c) ** 2
    yield algebra, b**2
    yield sum((b_j * s + b_k * r) ** 2 for s in signs for r in signs) / 4
    yield algebra, b_j**2 + b_k**2

    pair = yield let("pair", (A_12 + A_21) ** 2)
    yield sum((form.subs({u_1: s, u_2: r}) - A_11 - A_22) ** 2 for s in signs for r in signs) / 4
    yield algebra, pair
    yield algebra, 2 * (symmetric2 - A_11**2 - A_22**2)


X_1, X_2, D = function("X_1"), function("X_2"), function("D")
J_11, J_12, J_21, J_22 = (function(name) for name in ("J_11", "J_12", "J_21", "J_22"))
I_11, I_12, log_p_0, log_p_T = real("I_11 I_12 log_p_0 log_p_T")
log_p = function("log_p")(X_1(t), X_2(t), t)  # along the path
accumulated = suppose(Derivative(D(t), t), -Derivative(log_p, t))


def over_time(e: Expr) -> Expr:
    """int_0^T e dt."""
    return Integral(e, (t, 0, T))


@claim(
    "sde.flow_likelihood",
    week=5,
    source="Chen et al. 2018, eq. 8; Song et al. 2021 (SDE), eq. 39",
    hypotheses=[accumulated],
)
def flow_likelihood():
    """log p_0(x_0) = log p_T(x_T) + int_0^T div v dt, x = (X_1, X_2) followed along dx/dt = v(x, t) from x_0 to x_T.

    D(t) is the divergence gathered up to t, D' = div v: by sde.instantaneous_change minus the slope of log p.
    """
    yield log_p.subs(t, 0)
    yield parts(t, log_p), log_p.subs(t, T) - over_time(Derivative(log_p, t))
    yield algebra, log_p.subs(t, T) + over_time(Derivative(D(t), t))


@claim(
    "sde.hutchinson_likelihood",
    week=5,
    source="Grathwohl et al. 2019, eq. 7-8",
    covers="sde.hutchinson_likelihood",
    hypotheses=[accumulated],
)
def hutchinson_likelihood():
    """With u^T J u in the divergence's place, one probe u for the path, the mean of log p_T + int u^T J u is log p_0.

    J is the velocity's Jacobian, for a pair of coordinates; D' its trace, whose integral is log p_0 - log p_T (first
    chain). What is integrated is linear in the products of the probe's entries (second chain), with the integrals I_11,
    I_12 and, of the trace, the rest. u ~ N(0, I), though only E u u^T = I matters (sde.hutchinson_unbiased).
    """
    yield log_p.subs(t, T) + over_time(Derivative(D(t), t))
    yield by(flow_likelihood, reverse=True), log_p.subs(t, 0)

    estimate = J_11(t) * u_1**2 + (J_12(t) + J_21(t)) * u_1 * u_2 + J_22(t) * u_2**2
    mixed = over_time(J_12(t) + J_21(t))
    yield over_time(estimate)
    yield algebra, over_time(J_11(t)) * u_1**2 + mixed * u_1 * u_2 + over_time(J_22(t)) * u_2**2

    I_22 = log_p_0 - log_p_T - I_11
    yield E(log_p_T + I_11 * u_1**2 + I_12 * u_1 * u_2 + I_22 * u_2**2, u_1)
    yield gaussian_expectation(u_1), log_p_T + I_11 + I_22 * u_2**2
    yield E(log_p_T + I_11 + I_22 * u_2**2, u_2)
    yield gaussian_expectation(u_2), log_p_0


q, r = function("q", kind="density"), function("r", kind="density")
f, a_1, a_2 = function("f"), function("a_1"), function("a_2")


@claim("sde.hutchinson_unbiased", week=5, source="Grathwohl et al. 2019, sec. 3.1", covers="sde.hutchinson_unbiased")
def hutchinson_unbiased():
    """Whatever the probe's law, E v^T A v = sum_ij A_ij E v_i v_j: the trace, for every A, just when E v v^T = I.

    (a_1(y), a_2(y)) is the probe for a hidden y of density r, as every law in the plane is. Then the density: f(y) is
    the estimate of log p_0, and exp f has a mean that is too large (Jensen). By how much: for one probe of random signs
    and log_p_0 +- c the two estimates, the factor is cosh c.
    """
    v = (a_1(y), a_2(y))
    moment = {(i, j): integral(r(y) * v[i] * v[j], y) for i in range(2) for j in range(2)}
    yield integral(r(y) * (A_11 * v[0] ** 2 + (A_12 + A_21) * v[0] * v[1] + A_22 * v[1] ** 2), y)
    yield algebra, A_11 * moment[0, 0] + (A_12 + A_21) * moment[0, 1] + A_22 * moment[1, 1]

    yield integral(r(y) * f(y), y)
    above = at_most(lambda gap: gap, by(probability.jensen, {probability.p: r, probability.g: Lambda(y, exp(f(y)))}))
    yield above, log(integral(r(y) * exp(f(y)), y))

    yield sum(exp(log_p_0 + s * c) for s in signs) / 2
    yield algebra, exp(log_p_0) * cosh(c)
    yield at_least(2 * exp(log_p_0) * sinh(c / 2) ** 2), exp(log_p_0)


# ---------------------------------------------------------------------------------- two laws in time, and their nats

p, a, b_ = function("p", kind="density"), function("a"), function("b")
g = function("g", kind="positive")
lam = positive("lambda")
p_t, q_t, a_t, b_t, n_t = p(x, t), q(x, t), a(x, t), b_(x, t), function("n")(t)
noise2 = g(t) ** 2
score_p, score_q = Derivative(log(p_t), x), Derivative(log(q_t), x)
apart = score_p - score_q
ratio = log(p_t) - log(q_t)
kl = integral(p_t * ratio, x)
kl_rate = integral((ratio + 1) * Derivative(p_t, t) - p_t / q_t * Derivative(q_t, t), x)


def diffused(law: Expr, drift: Expr, spread: Expr) -> Suppose:
    """The Fokker-Planck equation with this drift and noise^2 = spread; negative for a law that is run back in time."""
    return suppose(Derivative(law, t), -Derivative(drift * law, x) + spread / 2 * Derivative(law, (x, 2)))


def velocity(drift: Expr, spread: Expr, score: Expr) -> Expr:
    """What carries a law with this drift, noise^2 = spread and score: drift - (spread/2) score."""
    return drift - spread / 2 * score


@claim(
    "sde.law_flow",
    week=5,
    source="Song et al. 2021 (SDE), app. D.1; Maoutsa et al. 2020, eq. 13",
    hypotheses=[diffused(q_t, a_t, n_t)],
)
def law_flow():
    "Drift a and noise^2 n carry a law with the velocity a - (n/2) score, forward in time and, with n < 0, backward."
    yield Derivative(q_t, t)
    yield algebra, -Derivative(velocity(a_t, n_t, score_q) * q_t, x)


def carried(law: Expr, velocity: Expr) -> Suppose:
    """The continuity equation: the law is carried with this velocity."""
    return suppose(Derivative(law, t), -Derivative(velocity * law, x))


@claim(
    "sde.kl_flow",
    week=5,
    source="Lyu 2009, thm 1; Albergo et al. 2023, prop. 2.21",
    hypotheses=[carried(p_t, a_t), carried(q_t, b_t)],
)
def kl_flow():
    """Two laws carried with velocities a and b: d/dt KL(p || q) = E_p (score_p - score_q) (a - b).

    Every diffusion is such a law: the velocity is that of sde.law_flow.
    """
    yield Derivative(kl, t)
    yield leibniz, kl_rate
    yield kl_rate
    yield parts(x, p_t * (b_t - a_t * (ratio + 1))), integral(p_t * apart * (a_t - b_t), x)


x_1, x_2 = real("x_1 x_2")
axes = (x_1, x_2)
plane_p, plane_q = (function(name, kind="positive")(*axes, t) for name in ("p", "q"))
velocities_p, velocities_q = (tuple(function(f"{name}_{i}")(*axes, t) for i in (1, 2)) for name in ("a", "b"))


def divergence(flux: list[Expr]) -> Expr:
    """Of a flux in the plane."""
    return Derivative(flux[0], x_1) + Derivative(flux[1], x_2)


@claim(
    "sde.kl_flux",
    week=5,
    source="Lyu 2009, thm 1",
    hypotheses=[
        suppose(Derivative(plane_p, t), -divergence([v * plane_p for v in velocities_p])),
        suppose(Derivative(plane_q, t), -divergence([v * plane_q for v in velocities_q])),
    ],
)
def kl_flux():
    """In the plane KL's density p log(p/q) gains p (score_p - score_q).(a - b), and else changes by a divergence.

    Of a divergence nothing is left in the integral; every pair of coordinates is like this one.
    """
    ratio = log(plane_p) - log(plane_q)
    yield Derivative(plane_p * ratio, t)
    both = list(zip(velocities_p, velocities_q, strict=True))
    gained = sum(Derivative(ratio, axis) * (v - w) for axis, (v, w) in zip(axes, both, strict=True))
    yield algebra, plane_p * gained - divergence([plane_p * (v * (ratio + 1) - w) for v, w in both])


@claim(
    "sde.kl_derivative",
    week=5,
    source="Song et al. 2021 (ML), thm 1; Lyu 2009",
    covers="sde.kl_derivative",
    hypotheses=[diffused(p_t, a_t, noise2), diffused(q_t, a_t, noise2)],
)
def kl_derivative():
    "Two laws under one SDE, dx = a dt + g dW: d/dt KL(p || q) = -(g^2/2) E_p (score_p - score_q)^2, whatever a is."
    yield Derivative(kl, t)
    yield leibniz, kl_rate
    flows = {a: Lambda((x, t), velocity(a_t, noise2, score_p)), b_: Lambda((x, t), velocity(a_t, noise2, score_q))}
    yield by(kl_flow, flows, chain=1), -noise2 / 2 * integral(p_t * apart**2, x)


# At one time: the law p, the scores of both laws and the model's, two drifts, as functions of x; all are arbitrary.
S_p, S_q, s_x, a_x, b_x = (function(name)(x) for name in ("S_p", "S_q", "s", "a", "b"))
G = positive("g")


def mean(of: Expr) -> Expr:
    """E_p, of a function of x."""
    return integral(p(x) * of, x)


@claim("sde.kl_drifts", week=5, source="Chen et al. 2023 (Improved analysis), lemma 6")
def kl_drifts():
    """SDEs of one noise g and drifts a and b: KL(p || q) grows at most by E_p (a - b)^2/(2 g^2), and by how much less.

    The first line is d/dt KL by sde.kl_flow, with the velocities of sde.law_flow; S_p and S_q are the scores.
    """
    lost = G**2 / 2 * mean((S_p - S_q - (a_x - b_x) / G**2) ** 2)
    bound = mean((a_x - b_x) ** 2) / (2 * G**2)
    yield mean((S_p - S_q) * (velocity(a_x, G**2, S_p) - velocity(b_x, G**2, S_q)))
    yield algebra, bound - lost
    yield at_most(lost), bound


@claim("sde.kl_model", week=5, source="Song et al. 2021 (ML), thm 1; Lu et al. 2022, eq. 11")
def kl_model():
    """p diffuses, q is drawn back with a model s of the score: KL(p || q) falls at most by a factor times the loss.

    The loss is (g^2/2) E_p (s - S_p)^2, S_p the score of p. The noise of q is lambda g, the factor (lambda +
    1/lambda)^2/4: least, 1, at lambda = 1, the SDE, and without bound as lambda -> 0, the ODE. The fall itself, minus
    the second line, knows q's score; no loss does. The first line is as in sde.kl_drifts.
    """
    factor = yield let("factor", (lam + 1 / lam) ** 2 / 4)
    model_drift = a_x - (1 + lam**2) / 2 * G**2 * s_x
    yield mean((S_p - S_q) * (velocity(a_x, G**2, S_p) - velocity(model_drift, -((lam * G) ** 2), S_q)))
    yield algebra, G**2 / 2 * mean((S_p - S_q) * (s_x - S_p + lam**2 * (s_x - S_q)))
    square = (lam * (S_p - S_q) + (lam + 1 / lam) / 2 * (s_x - S_p)) ** 2
    yield at_least(G**2 / 2 * mean(square)), -factor * G**2 / 2 * mean((s_x - S_p) ** 2)

    yield factor
    yield at_least((lam - 1 / lam) ** 2 / 4), Integer(1)


K, S, D_frozen, gap = function("K"), function("S"), function("D"), function("gap")


@claim(
    "sde.likelihood_weighting",
    week=5,
    source="Song et al. 2021 (ML), thm 1",
    covers="sde.likelihood_weighting",
    hypotheses=[suppose(Derivative(S(t), t), gap(t) ** 2 - Derivative(K(t), t))],
)
def likelihood_weighting():
    """KL(data || the SDE's law) <= KL at T + int_0^T S' dt, S' = (g^2/2) E_p (s - score_p)^2 the weighted loss.

    Two lines of thought, joined by the hypothesis. At one time, by sde.kl_model with lambda = 1, KL falls by the
    weighted loss or less. Over time K is KL(p_t || q_t), S' the loss, and the hypothesis is that inequality with what
    it leaves, a square, written out. What this bounds is -E log q, KL
    plus the data's entropy. With noise lambda g the loss counts (lambda + 1/lambda)^2/4 times, and for the ODE the
    bound is lost (sde.ode_exceeds).
    """
    drawn_back = velocity(a_x - G**2 * s_x, -(G**2), S_q)
    yield mean((S_p - S_q) * (velocity(a_x, G**2, S_p) - drawn_back))
    yield at_least(lambda gap: gap, by(kl_model, {lam: Integer(1)})), -(G**2) / 2 * mean((s_x - S_p) ** 2)

    yield K(0)
    yield parts(t, K(t)), K(T) - over_time(Derivative(K(t), t))
    yield at_most(over_time(gap(t) ** 2)), K(T) + over_time(gap(t) ** 2 - Derivative(K(t), t))
    yield algebra, K(T) + over_time(Derivative(S(t), t))

    yield -integral(p_t * log(q_t), x)
    yield algebra, kl - integral(p_t * log(p_t), x)


eps, tau = positive("epsilon tau")


@claim("sde.ode_exceeds", week=5, source="Lu et al. 2022, sec. 3.1", covers="sde.likelihood_weighting")
def ode_exceeds():
    """Weight g^2 does not bound the ODE's law: with a score wrong by one share everywhere KL is tau/2 losses, or more.

    Data N(0, 1), VP, time w measured by int beta dt from 0 to tau, model score -(1 + epsilon) x. The ODE's law is
    N(0, exp(epsilon (w - tau))), right at w = tau; the loss is tau E (epsilon x)^2/2. VP's usual tau is 10.
    """
    variance = exp(eps * (w - tau))
    yield Derivative(variance, w)
    yield algebra, 2 * (-Rational(1, 2) + (1 + eps) / 2) * variance

    loss = tau * E((eps * u) ** 2, u) / 2
    yield E(log_normal(u, 0, 1) - log_normal(u, 0, variance.subs(w, 0)), u)
    yield gaussian_expectation(u), (exp(eps * tau) - 1 - eps * tau) / 2
    rest = Integral((eps * tau - w) ** 2 * exp(w), (w, 0, eps * tau)) / 4
    inner = exp(w) * ((eps * tau - w) ** 2 / 2 + eps * tau - w + 1)
    yield parts(w, -inner / 2), (eps * tau) ** 2 / 4 + rest
    yield at_least(rest), (eps * tau) ** 2 / 4
    yield gaussian_expectation(u), tau / 2 * loss


# ------------------------------------------------------------------------------------------- whole paths, in nats

k, n = natural("k n")
kernel, other_kernel = function("k", kind="density"), function("l", kind="density")  # k(y, x): the next place y, from x
log_start = real("log_start")
drift_p, drift_q = real("a b")
H, b_rate = positive("G beta")
rate = sequence("rate", "positive")
smooth_rate = function("rate", kind="positive")


def step(drift: Expr, noise: Expr) -> tuple[Expr, Expr]:
    """Mean and variance of an Euler step of length h from x."""
    return x + h * drift, noise**2 * h


@claim("sde.kl_chain_rule", week=5, source="Cover & Thomas 2006, thm 2.5.3")
def kl_chain_rule():
    """KL of pairs (x, y) is KL of x plus the mean KL of y given x; hence at least KL of x, and of y (data processing).

    At each x: log_start is log p(x) - log q(x), k and l are the laws of y given x.
    """
    given = integral(kernel(y, x) * (log(kernel(y, x)) - log(other_kernel(y, x))), y)
    yield integral(kernel(y, x) * (log_start + log(kernel(y, x)) - log(other_kernel(y, x))), y)
    yield normalised(kernel), log_start + given
    at = {probability.p: Lambda(y, kernel(y, x)), probability.q: Lambda(y, other_kernel(y, x))}
    yield at_least(lambda gap: gap, by(probability.gibbs, at)), log_start


@claim("sde.girsanov", week=5, source="Girsanov 1960; Song et al. 2021 (ML), app. A", covers="sde.girsanov")
def girsanov():
    """KL of the paths of two SDEs with one noise g and drifts a, b is E int (a - b)^2/(2 g^2) dt.

    From the definition, on a grid of step h: the log ratio of two Euler steps is Girsanov's, (a - b)/g dW + h (a - b)^2
    /(2 g^2) with dW = sqrt(h) u, and the mean of its first term is 0. Steps add (sde.kl_chain_rule), here n of them to
    the start's: exact for chains, whatever h; rate(k) is the mean of (a - b)^2/(2 g^2) at step k. A step's share is the
    integral's up to O(h^2), so T/h of them are it up to O(h).
    """
    step_kl = yield let("step", h * (drift_p - drift_q) ** 2 / (2 * G**2))
    arrived = x + h * drift_p + G * sqrt(h) * u
    ratio = log_normal(arrived, *step(drift_p, G)) - log_normal(arrived, *step(drift_q, G))
    yield ratio
    yield algebra, (drift_p - drift_q) / G * sqrt(h) * u + h * (drift_p - drift_q) ** 2 / (2 * G**2)
    yield E(ratio, u)
    yield gaussian_expectation(u), step_kl

    yield recursion(y + h * rate(k + 1), y, k, log_start, n)
    yield induction(n), log_start + Sum(h * rate(k), (k, 1, n))

    yield Integral(smooth_rate(w), (w, t, t + h))
    yield up_to(h, 2, Derivative(smooth_rate(t), t) / 2), h * smooth_rate(t)


@claim("sde.girsanov_noise", week=5, source="Oksendal 2003, thm 8.6.6")
def girsanov_noise():
    "One noise is needed: with g and G the KL of a step tends to (r - 1 - log r)/2, r = (g/G)^2, and not to 0 with h."
    arrived = x + h * drift_p + G * sqrt(h) * u
    yield E(log_normal(arrived, *step(drift_p, G)) - log_normal(arrived, *step(drift_q, H)), u)
    r = (G / H) ** 2
    yield gaussian_expectation(u), (r - 1 - log(r)) / 2 + h * (drift_p - drift_q) ** 2 / (2 * H**2)
    yield limit(h), (r - 1 - log(r)) / 2


score_error, frozen_error = function("e"), function("d")


@claim(
    "sde.sampler_error",
    week=5,
    source="Chen et al. 2023 (Sampling is as easy), thm 2",
    covers="sde.sampler_error",
    hypotheses=[suppose(Derivative(S(t), t), Derivative(K(t), t) - Derivative(D_frozen(t), t) + gap(t) ** 2)],
)
def sampler_error():
    """KL(data || sampler) <= prior mismatch K(0) + score error int S' dt + discretisation error int D' dt.

    The sampler runs the reversed SDE with its score s kept from the last grid point: its drift errs by g^2 (e + d), e
    the score's error there and d the change of the true score since. Two lines of thought, joined by the hypothesis.
    At one time, given the last grid point, the sampler is an SDE: what its KL does is the first chain, by
    sde.kl_drifts, and by sde.kl_chain_rule that is what K does, the KL of grid points and present. Over time, t the
    sampler's, S' = g^2 E e^2 and D' = g^2 E d^2; the hypothesis is that inequality with what it leaves, a square,
    written out. Of pairs to the last place alone, KL falls again. No Lipschitz constant: it only bounds D'.
    """
    e, d = score_error(x), frozen_error(x)
    wrong = velocity(a_x - G**2 * (e + d), G**2, S_q)
    yield mean((S_p - S_q) * (velocity(a_x, G**2, S_p) - wrong))
    sampler_drift = Lambda(x, a_x - G**2 * (e + d))
    by_drifts = at_most(lambda gap: gap, by(kl_drifts, {b_x.func: sampler_drift}))
    yield by_drifts, mean((G**2 * (e + d)) ** 2) / (2 * G**2)
    yield at_most(G**2 / 2 * mean((e - d) ** 2)), G**2 * mean(e**2) + G**2 * mean(d**2)

    yield K(T)
    yield parts(t, -K(t)), K(0) + over_time(Derivative(K(t), t))
    yield at_most(over_time(gap(t) ** 2)), K(0) + over_time(Derivative(K(t), t) + gap(t) ** 2)
    yield algebra, K(0) + over_time(Derivative(S(t), t)) + over_time(Derivative(D_frozen(t), t))


@claim("sde.frozen_score", week=5, source="Chen et al. 2023 (Sampling is as easy), lemma 16")
def frozen_score():
    "A score kept for a time h changes by a mean square of beta h: here of N(0, 1), which VP leaves as it is."
    kept = exp(-b_rate * h / 2)  # x_(t+h) = kept x_t + sqrt(1 - kept^2) u
    yield E((kept * w + sqrt(1 - kept**2) * u - w) ** 2, u)
    yield gaussian_expectation(u), (1 - kept) ** 2 * w**2 + 1 - kept**2
    yield E((1 - kept) ** 2 * w**2 + 1 - kept**2, w)
    yield gaussian_expectation(w), 2 * (1 - kept)
    yield up_to(h, 2, -(b_rate**2) / 4), b_rate * h
