r"""Flow matching: velocities that move a law, and what of diffusion is left when x_0 and noise are not independent.

    continuity     p_t = -(v p)_x                     the law that dX/dt = v(X, t) carries along
    marginal       v(x, t) = E[w | x_t = x]           the mean of the velocities w of conditional paths
    Gaussian path  x_t = alpha x_0 + sigma eps        conditional velocity alpha' x_0 + sigma' eps

Time runs from data at 0 to noise at 1. Everything is said for one coordinate; the other coordinates are parameters, and
fluxes, costs and squares add over coordinates.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Subs, exp, log, sqrt

from theory.proof import (
    E,
    algebra,
    at_least,
    by,
    claim,
    complete_the_square,
    function,
    gaussian_expectation,
    integral,
    leibniz,
    let,
    log_normal,
    normal,
    parts,
    positive,
    real,
    substitute,
    suppose,
    unit,
)

x, y, z, t, u, w, x_0, x_1, eps = real("x y z t u w x_0 x_1 eps")
h = positive("h")
X, v = function("X"), function("v")
p = function("p", kind="positive")
density = function("p", kind="density")
f = function("f", kind="smooth")

# ------------------------------------------------------------------------------------------------ continuity

carried = suppose(Derivative(X(x, t), t), v(X(x, t), t))
continuity_equation = suppose(Derivative(density(x, t), t), -Derivative(v(x, t) * density(x, t), x))


@claim(
    "flow.continuity",
    week=5,
    source="Villani 2003, thm 5.34; Lipman et al. 2023, eq. 26",
    covers="flow.continuity",
    hypotheses=[carried],
)
def continuity():
    """Mass p(X) X_x that the flow carries changes at X_x times p_t + (v p)_x, taken where the flow is.

    X_x > 0 (sde.flow_increasing): so the mass is kept along every path just when p obeys the continuity equation.
    """
    residual = Derivative(p(z, t), t) + Derivative(v(z, t) * p(z, t), z)
    yield Derivative(p(X(x, t), t) * Derivative(X(x, t), x), t)
    yield algebra, Derivative(X(x, t), x) * Subs(residual, z, X(x, t))


@claim(
    "flow.transported_mean",
    week=5,
    source="Villani 2003, sec. 5.4.1",
    covers="flow.continuity",
    hypotheses=[continuity_equation],
)
def transported_mean():
    "In other words: the mean of any f(X_t) changes at the rate E f'(X_t) v(X_t, t)."
    bounded = function("f", kind="density")  # decays, so that nothing is left at the ends
    yield Derivative(integral(bounded(x) * density(x, t), x), t)
    yield leibniz, integral(bounded(x) * Derivative(density(x, t), t), x)
    flux = bounded(x) * v(x, t) * density(x, t)
    yield parts(x, -flux), integral(Derivative(bounded(x), x) * v(x, t) * density(x, t), x)


# ------------------------------------------------------------------------------------------------ marginal velocity

q = function("q", kind="density")  # of what the path is conditioned on, y
k = function("k", kind="positive")  # k(x, y, t): the conditional path
speed = function("w", kind="smooth")  # w(x, y, t): its velocity
moved = suppose(Derivative(k(x, y, t), t), -Derivative(speed(x, y, t) * k(x, y, t), x))


@claim(
    "flow.marginal_velocity",
    week=5,
    source="Lipman et al. 2023, thm 1",
    covers="flow.marginal_velocity",
    hypotheses=[moved],
)
def marginal_velocity():
    "v(x, t) = E[w | x_t = x] moves the marginal: p_t = -(v p)_x if every conditional path obeys its own equation."
    marginal = integral(q(y) * k(x, y, t), y)
    velocity = integral(q(y) * speed(x, y, t) * k(x, y, t), y) / marginal
    yield Derivative(marginal, t)
    yield leibniz, integral(q(y) * Derivative(k(x, y, t), t), y)
    yield algebra, -integral(q(y) * Derivative(speed(x, y, t) * k(x, y, t), x), y)
    yield leibniz, -Derivative(velocity * marginal, x)


network = function("v", kind="smooth")


@claim("flow.fm_equals_cfm", week=5, source="Lipman et al. 2023, thm 2", covers="flow.fm_equals_cfm")
def fm_equals_cfm():
    """Regressing on conditional velocities is regressing on the marginal one, plus terms without the network.

    Said at each x, weighted as p_t weighs it; the losses differ by a constant and have one gradient.
    """
    kernel, conditional = function("k", kind="positive"), function("w", kind="smooth")
    marginal = integral(q(y) * kernel(x, y), y)
    velocity = integral(q(y) * kernel(x, y) * conditional(x, y), y) / marginal
    yield (
        integral(q(y) * (kernel(x, y) * (network(x) - conditional(x, y)) ** 2), y)
        - marginal * (network(x) - velocity) ** 2
    )
    yield algebra, integral(q(y) * kernel(x, y) * conditional(x, y) ** 2, y) - marginal * velocity**2


# ------------------------------------------------------------------------------------------------ Gaussian paths

al, si = function("alpha", kind="positive"), function("sigma", kind="positive")
alpha, sigma = positive("alpha sigma")
alpha_dot, sigma_dot, D, score = real("alpha_dot sigma_dot D score")
f_rate = alpha_dot / alpha
g2 = 2 * sigma * sigma_dot - 2 * f_rate * sigma**2


@claim("flow.gaussian_velocity", week=5, source="Lipman et al. 2023, thm 3", covers="flow.gaussian_velocity")
def gaussian_velocity():
    "The Gaussian path's conditional velocity is (sigma'/sigma) (x - alpha x_0) + alpha' x_0: eps is kept."
    velocity = yield let("velocity", sigma_dot / sigma * (x - alpha * x_0) + alpha_dot * x_0)
    slope = si(t).diff(t) / si(t) * (x - al(t) * x_0) + al(t).diff(t) * x_0
    path = al(t) * x_0 + si(t) * eps
    yield Derivative(path, t)
    yield algebra, Subs(slope, x, path)

    kernel = normal(x, al(t) * x_0, si(t) ** 2)
    yield Derivative(kernel, t)
    yield algebra, -Derivative(slope * kernel, x)

    yield Subs(velocity, x, alpha * x_0 + sigma * eps)
    yield algebra, alpha_dot * x_0 + sigma_dot * eps


@claim(
    "flow.velocity_score_eps",
    week=5,
    source="Lipman et al. 2023, app. D; Song et al. 2021 (SDE), eq. 13",
    covers="flow.velocity_score_eps",
)
def velocity_score_eps():
    """velocity = (alpha'/alpha) x - (g^2/2) score, with score = -eps/sigma, for independent x_0 and eps.

    First Tweedie's denoiser (score.tweedie, where independence is used) in the mean of alpha' x_0 + sigma' eps.
    """
    velocity = yield let("velocity", f_rate * x - g2 / 2 * score)
    denoised = (x + sigma**2 * score) / alpha
    yield alpha_dot * denoised + sigma_dot * (x - alpha * denoised) / sigma
    yield algebra, velocity
    yield alpha_dot * (x - sigma * eps) / alpha + sigma_dot * eps
    yield algebra, f_rate * x - g2 / 2 * (-eps / sigma)


r = unit("r")


@claim(
    "flow.velocity_score_dependent", week=5, source="Liu et al. 2023, sec. 2", covers="flow.velocity_score_dependent"
)
def velocity_score_dependent():
    """Unit Gaussians x_0 and eps of correlation r, as after reflow: -E[eps | x_t]/sigma is not the score any more.

    x_0 = r eps + sqrt(1 - r^2) u. First V, the variance of x_t, and E x_t eps; so E[eps | x_t] = (alpha r + sigma) x/V.
    What -E[eps | x_t]/sigma errs by, as a score, and what diffusion's formula errs by, as the velocity E[alpha' x_0 +
    sigma' eps | x_t]: nothing at r = 0 alone.
    """
    V = alpha**2 + sigma**2 + 2 * r * alpha * sigma
    score_gap = yield let("score_gap", -r * alpha * x / (sigma * V))
    velocity_gap = yield let("velocity_gap", r * (alpha_dot * sigma - alpha * sigma_dot) * x / V)
    x_t = alpha * (r * eps + sqrt(1 - r**2) * u) + sigma * eps
    square = alpha**2 * (1 - r**2) + (alpha * r + sigma) ** 2 * eps**2
    yield E(x_t**2, u)
    yield gaussian_expectation(u), square
    yield E(square, eps)
    yield gaussian_expectation(eps), V
    yield E(x_t * eps, u)
    yield gaussian_expectation(u), (alpha * r + sigma) * eps**2
    yield E((alpha * r + sigma) * eps**2, eps)
    yield gaussian_expectation(eps), alpha * r + sigma

    of_x0, of_eps = (alpha + r * sigma) * x / V, (alpha * r + sigma) * x / V
    slope = Derivative(log_normal(x, 0, V), x)
    yield -of_eps / sigma - slope
    yield algebra, score_gap
    yield f_rate * x - g2 / 2 * slope - (alpha_dot * of_x0 + sigma_dot * of_eps)
    yield algebra, velocity_gap


kernel = exp(-((x - alpha * y) ** 2) / (2 * sigma**2))  # a constant is left out, which cancels
noised = integral(p(y) * kernel, y)


@claim("flow.pf_ode_is_flow", week=5, source="Lipman et al. 2023, sec. 4.1", covers="flow.pf_ode_is_flow")
def pf_ode_is_flow():
    """Diffusion's probability-flow ODE f x - (g^2/2) score is the flow of its Gaussian path.

    Its velocity is the mean of the conditional ones (flow.gaussian_velocity), for data of any density p, at any time;
    score is that of the noised law.
    """
    conditional = sigma_dot / sigma * (x - alpha * y) + alpha_dot * y
    yield f_rate * x - g2 / 2 * Derivative(log(noised), x)
    yield leibniz, integral(p(y) * kernel * conditional, y) / noised


c, T = function("c", kind="positive"), function("T", kind="monotone")
denoiser = function("D", kind="smooth")  # D(x, t) of the first path


def flow_velocity(x: Expr, alpha: Expr, sigma: Expr, denoised: Expr, time: Expr) -> Expr:
    """(sigma'/sigma) x + (alpha' - alpha sigma'/sigma) D."""
    rate = Derivative(sigma, time) / sigma
    return rate * x + (Derivative(alpha, time) - alpha * rate) * denoised


@claim(
    "flow.one_path",
    week=5,
    source="Karras et al. 2022, app. B.2; Kingma et al. 2021, sec. 5.1",
    covers="flow.one_path",
    hypotheses=[
        suppose(Derivative(X(x, t), t), flow_velocity(X(x, t), al(t), si(t), denoiser(X(x, t), t), t)),
    ],
)
def one_path():
    """Two Gaussian paths with equal SNR at times u and T(u) are one: Y(u) = c(u) X(T(u)) solves the second's flow.

    alpha_2(u) = c(u) alpha(T(u)) and sigma_2(u) = c(u) sigma(T(u)): that SNRs agree says just this, and T is there, and
    unique, when both are strictly monotone. The denoiser is the same at x/c (vdm.only_snr). First, that the velocity
    used is the path's own.
    """
    alpha_2, sigma_2 = c(u) * al(T(u)), c(u) * si(T(u))
    yield Derivative(al(t) * y + si(t) * eps, t)
    yield algebra, flow_velocity(al(t) * y + si(t) * eps, al(t), si(t), y, t)

    yield Derivative(c(u) * X(x, T(u)), u)
    yield algebra, flow_velocity(c(u) * X(x, T(u)), alpha_2, sigma_2, denoiser(X(x, T(u)), T(u)), u)


# ------------------------------------------------------------------------------------------------ rectified flow


@claim("flow.reflow_marginals", week=5, source="Liu et al. 2023, thm 3.3", covers="flow.reflow_marginals")
def reflow_marginals():
    """Rectified flow keeps the marginals of any coupling: its velocity E[x_1 - x_0 | x_t] moves the law of x_t.

    x_t = (1 - t) x_0 + t x_1: given the difference y the point moves at speed y, so k(x - y t, y) is the density of
    (x_t, y); the law of x_t is its integral. By flow.marginal_velocity, with y itself for the conditional velocity.
    """
    start = function("j", kind="positive")
    kernel = start(x - y * t, y)
    marginal = integral(q(y) * kernel, y)
    yield Derivative(marginal, t)
    yield leibniz, -Derivative(integral(q(y) * y * kernel, y) / marginal * marginal, x)


tangent = function("c'", kind="monotone")  # the slope of a convex cost c
start, m, r_ = real("start m r")


def rise(w: Expr, m: Expr) -> Expr:
    """c(w) - c(m), from the slope."""
    return (w - m) * Integral(tangent(w - r_ * (w - m)), (r_, 0, 1))


@claim("flow.convex_tangent", week=5, source="Rockafellar 1970, thm 25.1")
def convex_tangent():
    "A convex cost lies above its tangents: c(w) - c(m) >= c'(m) (w - m), since c' increases."
    between = w - r_ * (w - m)
    slope = Subs(Derivative(tangent(z), z), z, between)
    yield rise(w, m)
    bent = (w - m) ** 2 * Integral(r_ * slope, (r_, 0, 1))
    yield parts(r_, r_ * (w - m) * tangent(between)), (w - m) * tangent(m) + bent
    yield at_least(bent), (w - m) * tangent(m)


a, b = real("a b")
label = function("X", kind="monotone")  # X(y, t): the path of the flow that is labelled y; paths do not cross
seen = function("f")


@claim("flow.mass_kept", week=5, source="Villani 2003, thm 5.34", hypotheses=[carried, continuity_equation])
def mass_kept():
    "Along every path of the flow the mass p(X) X_x of the continuity equation's law p stays what it was."
    yield Derivative(density(X(x, t), t) * Derivative(X(x, t), x), t)
    yield algebra, Integer(0)


met = function("w")  # what is averaged, as a function of a uniform u: velocities that meet, or those along a path
Z = function("Z")


@claim("flow.reflow_cost", week=5, source="Liu et al. 2023, thm 3.5", covers="flow.reflow_cost")
def reflow_cost():
    """Reflow raises no convex transport cost c: E c(Z_1 - Z_0) <= E c(v(Z_t, t)) = E c(v(x_t, t)) <= E c(x_1 - x_0).

    From the right, as means over t as well. Jensen: the mean of c(w) - c(m) is at least what is 0 at m = E w; so for
    the velocities w = x_1 - x_0 that meet at one x_t, of mean v(x_t, t). Then x_t's mean of any f, as c(v), between two
    paths is that over the paths, of mass p(X) X_y, which is Z_0's at every t (flow.mass_kept; v moves the law of x_t:
    flow.reflow_marginals); a and b go to the ends. Last, Jensen again for w(u) = Z'(u), along one path and over its
    times u: there m = E w is the displacement Z_1 - Z_0.
    """
    yield Integral(rise(met(u), m), (u, 0, 1))
    jensen = at_least(lambda gap: Integral(gap, (u, 0, 1)), by(convex_tangent, {w: met(u)}))
    yield jensen, Integral((met(u) - m) * tangent(m), (u, 0, 1))
    yield parts(u, -m * u * tangent(m)), Integral(met(u) * tangent(m), (u, 0, 1)) - m * tangent(m)

    yield Integral(seen(x, t) * p(x, t), (x, label(a, t), label(b, t)))
    mass = p(label(y, t), t) * Derivative(label(y, t), y)
    yield substitute(x, label(y, t), y), Integral(seen(label(y, t), t) * mass, (y, a, b))

    yield Integral((Derivative(Z(u), u) - m) * tangent(m), (u, 0, 1))
    yield parts(u, (Z(u) - m * u) * tangent(m)), (Z(1) - Z(0) - m) * tangent(m)


@claim(
    "flow.straight",
    week=5,
    source="Liu et al. 2023, sec. 2.2",
    covers="flow.straight_one_step",
    hypotheses=[suppose(Derivative(Z(t), t), v(Z(t), t))],
)
def straight():
    "A path's acceleration is v_t + v v_x where it is: straight paths, of constant velocity, are those where this is 0."
    yield Derivative(v(Z(t), t), t)
    yield algebra, Subs(Derivative(v(x, t), t) + v(x, t) * Derivative(v(x, t), x), x, Z(t))


@claim("flow.straight_one_step", week=5, source="Liu et al. 2023, sec. 2.2", covers="flow.straight_one_step")
def straight_one_step():
    """One Euler step over any h errs by the integral of the acceleration alone: on straight paths it is exact.

    Z' is the velocity and Z'' the acceleration, 0 by flow.straight.
    """
    yield Z(h)
    yield (
        parts(t, (t - h) * Derivative(Z(t), t) - Z(t)),
        Z(0) + h * Subs(Derivative(Z(t), t), t, 0) + Integral((h - t) * Derivative(Z(t), t, 2), (t, 0, h)),
    )


# ------------------------------------------------------------------------------------------------ other couplings

y_1, y_2, chosen = real("y_1 y_2 chosen")


@claim(
    "flow.minibatch_ot_marginals", week=5, source="Tong et al. 2024, prop. 3.4", covers="flow.minibatch_ot_marginals"
)
def minibatch_ot_marginals():
    """Re-pairing a batch keeps both marginals: the batch means of any f(x_0) and any g(x_1) are what they were.

    A pairing is a permutation, a chain of swaps; one swap, made (chosen = 1) or not (0), or anything between (a plan
    that shares out mass), by whatever rule looks at the batch, leaves the sum over the two points unchanged.
    """
    first = chosen * f(y_2) + (1 - chosen) * f(y_1)
    second = chosen * f(y_1) + (1 - chosen) * f(y_2)
    yield first + second
    yield algebra, f(y_1) + f(y_2)


s = positive("s")


@claim(
    "flow.schroedinger_bridge_path",
    week=5,
    source="Tong et al. 2024; Schroedinger 1932",
    covers="flow.schroedinger_bridge_path",
)
def schroedinger_bridge_path():
    "A Brownian motion of variance s^2 per unit of time, pinned at both ends, is N((1 - t) x_0 + t x_1, s^2 t (1 - t))."
    t = unit("t")
    mean = yield let("mean", (1 - t) * x_0 + t * x_1)
    variance = yield let("variance", s**2 * t * (1 - t))
    yield log_normal(x, x_0, s**2 * t) + log_normal(x_1, x, s**2 * (1 - t)) - log_normal(x_1, x_0, s**2)
    yield complete_the_square(x), log_normal(x, mean, variance)


@claim(
    "flow.bridge_velocity",
    week=5,
    source="Tong et al. 2024 (simulation-free), eq. 6",
    covers="flow.schroedinger_bridge_path",
)
def bridge_velocity():
    """The pinned path's velocity and score; with noise s its drift is (x_1 - x)/(1 - t), the Brownian bridge's.

    First the score, then the velocity, by its continuity equation; the drift is velocity + (s^2/2) score, by
    flow.interpolant_noise_level, with no x_0 left in it.
    """
    t = unit("t")
    path, spread = (1 - t) * x_0 + t * x_1, s**2 * t * (1 - t)
    score = yield let("score", -(x - path) / spread)
    velocity = yield let("velocity", x_1 - x_0 + (1 - 2 * t) / (2 * t * (1 - t)) * (x - path))
    drift = yield let("drift", (x_1 - x) / (1 - t))
    yield Derivative(log_normal(x, path, spread), x)
    yield algebra, score

    kernel = normal(x, path, spread)
    yield Derivative(kernel, t)
    yield algebra, -Derivative(velocity, x) * kernel - velocity * Derivative(kernel, x)

    yield velocity + s**2 / 2 * score
    yield algebra, drift


# ------------------------------------------------------------------------------------------ stochastic interpolants

interpolant, gamma = function("I"), function("gamma", kind="positive")  # I(y, t): y stands for the pair (x_0, x_1)
bridge = exp(-((x - interpolant(y, t)) ** 2) / (2 * gamma(t) ** 2)) / gamma(t)
latent = (x - interpolant(y, t)) / gamma(t)  # z, at x
interpolated = integral(q(y) * bridge, y)


@claim("flow.interpolant_path", week=5, source="Albergo et al. 2023, thm 6", covers="flow.interpolant_velocity")
def interpolant_path():
    "Given the pair, x_t = I + gamma z moves with I' + gamma' z: its law obeys that continuity equation."
    yield Derivative(bridge, t)
    conditional = Derivative(interpolant(y, t), t) + Derivative(gamma(t), t) * latent
    yield algebra, -Derivative(conditional * bridge, x)


@claim(
    "flow.interpolant_velocity",
    week=5,
    source="Albergo et al. 2023, thm 6, eq. 2.10",
    covers="flow.interpolant_velocity",
)
def interpolant_velocity():
    "The velocity E[I' + gamma' z | x_t = x] satisfies the continuity equation of the interpolant's law."
    conditional = Derivative(interpolant(y, t), t) + Derivative(gamma(t), t) * latent
    velocity = integral(q(y) * conditional * bridge, y) / interpolated
    yield Derivative(interpolated, t)
    yield leibniz, -Derivative(velocity * interpolated, x)


@claim("flow.interpolant_score", week=5, source="Albergo et al. 2023, thm 8", covers="flow.interpolant_score")
def interpolant_score():
    "The interpolant's score is -E[z | x_t = x]/gamma."
    yield Derivative(log(interpolated), x)
    yield leibniz, -integral(q(y) * latent * bridge, y) / interpolated / gamma(t)


level = function("e")


@claim(
    "flow.interpolant_noise_level",
    week=5,
    source="Albergo et al. 2023, thm 9-10",
    covers="flow.interpolant_noise_level",
    hypotheses=[suppose(Derivative(p(x, t), t), -Derivative(v(x, t) * p(x, t), x))],
)
def interpolant_noise_level():
    """Drift v + e(t) score with noise sqrt(2 e(t)) has the flow's marginals, for every e(t) >= 0; and so run backward.

    Forward: p_t = -((v + e score) p)_x + e p_xx. With drift v - e score the same holds for -t.
    """
    score = Derivative(log(p(x, t)), x)
    yield Derivative(p(x, t), t)
    yield algebra, -Derivative((v(x, t) + level(t) * score) * p(x, t), x) + level(t) * Derivative(p(x, t), x, 2)
    yield -Derivative(p(x, t), t)
    yield algebra, Derivative((v(x, t) - level(t) * score) * p(x, t), x) + level(t) * Derivative(p(x, t), x, 2)
