r"""Distillation: few steps, or one, in the place of a probability flow that many steps follow.

    progressive     one DDIM step from t to s that lands where two landed, by way of u         s < u < t
    consistency     f(x, sigma) = c_skip x + c_out F: the point, at sigma_min, of the path through x
    MeanFlow        u(x, r, t), the mean of the velocity v along the path through x, from r to t
    DMD             a generator's samples move down score_fake - score_real

Data at time 0, noise at 1. Everything is said for one coordinate; the others are parameters, and fluxes and squares add
over coordinates. Steps are DDIM's (theory/ddim.py), kappa = alpha_t sigma_s/(alpha_s sigma_t) < 1 where the SNR falls.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Lambda, Subs, Sum, log, sqrt

from theory import ddim, edm, flow
from theory.proof import (
    above_one,
    algebra,
    at_least,
    at_most,
    by,
    claim,
    counting,
    function,
    induction,
    integral,
    leibniz,
    let,
    natural,
    nonnegative,
    nonzero,
    normal,
    parts,
    positive,
    real,
    recursion,
    sequence,
    suppose,
    unit,
    up_to,
)

x, y, z, t, r, theta = real("x y z t r theta")
h = positive("h")

# ------------------------------------------------------------------------------------------------ progressive

x_t, x_s, D, D_1, D_2, eps_1, eps_2 = real("x_t x_s D D_1 D_2 eps_1 eps_2")
alpha_t, sigma_t, alpha_u, sigma_u, alpha_s, sigma_s = positive("alpha_t sigma_t alpha_u sigma_u alpha_s sigma_s")
kappa, kappa_1, kappa_2 = unit("kappa kappa_1 kappa_2")  # from t to s, from t to u, from u to s

x0_target = (x_s - sigma_s / sigma_t * x_t) / (alpha_s * (1 - kappa))
eps_target = (x_t - alpha_t / alpha_s * x_s) / (sigma_t * (1 - kappa))
cosine = alpha_t * alpha_s + sigma_t * sigma_s  # of the angle from t to s when alpha^2 + sigma^2 = 1
v_target = (cosine * x_t - (alpha_t**2 + sigma_t**2) * x_s) / (alpha_s * sigma_t * (1 - kappa))
falls = {alpha_t: kappa * alpha_s * sigma_t / sigma_s}  # the definition of kappa
first = {ddim.alpha_t: kappa_1 * alpha_u * sigma_t / sigma_u, ddim.alpha_s: alpha_u, ddim.sigma_s: sigma_u}
second = {ddim.alpha_t: alpha_u, ddim.sigma_t: sigma_u, ddim.alpha_s: alpha_s, ddim.sigma_s: sigma_s}


def at(e: Expr, values: dict[Expr, Expr]) -> Expr:
    """The expression with all of these put in at once."""
    return Subs(e, tuple(values), tuple(values.values()))


def ddim_step(start: Expr, data: Expr, between: dict[Expr, Expr]) -> Expr:
    """ddim.eta_zero between two points of the grid."""
    return ddim.ddim_step.subs({ddim.x_t: start, ddim.D: data, **between}, simultaneous=True)


def two_steps(first_data: Expr, second_data: Expr) -> Expr:
    """From x_t to u with one prediction and on to s with another; alpha_u = kappa_2 alpha_s sigma_u/sigma_s."""
    landed = ddim_step(ddim_step(x_t, first_data, first), second_data, second)
    return landed.subs(alpha_u, kappa_2 * alpha_s * sigma_u / sigma_s)


@claim("distillation.progressive", source="Salimans & Ho 2022, eq. 42-43", covers="distillation.progressive")
def progressive():
    """From x_t one step lands at x_s just when it predicts (x_s - (sigma_s/sigma_t) x_t)/(alpha_s (1 - kappa)).

    alpha_s (1 - kappa) = alpha_s - (sigma_s/sigma_t) alpha_t is not 0 where the SNR falls: at equal SNR every
    prediction lands at (sigma_s/sigma_t) x_t. For x_s two steps away the target is a weighted mean of both predictions.
    """
    target = yield let("target", x0_target)
    yield ddim_step(x_t, D, falls) - x_s
    yield algebra, (alpha_s - sigma_s / sigma_t * falls[alpha_t]) * (D - target)

    yield at(target, {x_s: two_steps(D_1, D_2), kappa: kappa_1 * kappa_2})
    yield algebra, (kappa_2 * (1 - kappa_1) * D_1 + (1 - kappa_2) * D_2) / (1 - kappa_1 * kappa_2)


@claim("distillation.progressive_eps", source="Salimans & Ho 2022, app. G", covers="distillation.progressive_eps")
def progressive_eps():
    """The noise that goes with the target is the chord's slope between x/alpha at t and s, in sigma/alpha.

    Finite at both ends, alpha_t = 0 and sigma_s = 0. Of two steps' predictions it is a weighted mean, the first with
    the weight 1 - kappa_1 that the data had at the second.
    """
    target = yield let("target", eps_target)
    yield (x_t - alpha_t * x0_target).subs(falls) / sigma_t
    yield algebra, at(target, falls)
    yield algebra, ((x_t / alpha_t - x_s / alpha_s) / (sigma_t / alpha_t - sigma_s / alpha_s)).subs(falls)

    data_1 = (x_t - sigma_t * eps_1) / (kappa_1 * alpha_u * sigma_t / sigma_u)
    data_2 = (ddim_step(x_t, data_1, first) - sigma_u * eps_2) / alpha_u
    both = {kappa: kappa_1 * kappa_2, alpha_t: kappa_1 * kappa_2 * alpha_s * sigma_t / sigma_s}
    yield at(target, {x_s: two_steps(data_1, data_2), **both})
    yield algebra, ((1 - kappa_1) * eps_1 + kappa_1 * (1 - kappa_2) * eps_2) / (1 - kappa_1 * kappa_2)


@claim("distillation.progressive_v", source="Salimans & Ho 2022, app. G", covers="distillation.progressive_v")
def progressive_v():
    """v = alpha eps - sigma x_0 of both targets, and the turn that it is when alpha^2 + sigma^2 = 1.

    A network's v is read as x_0 = alpha x - sigma v, which is (alpha_t^2 + sigma_t^2) times the target: the hypothesis
    is needed. With it a step turns (x, v) by the angle between t and s, whose cosine and sine stand in x_s.
    """
    target = yield let("target", v_target)
    yield (alpha_t * eps_target - sigma_t * x0_target).subs(falls)
    yield algebra, at(target, falls)

    yield at(alpha_t * x_t - sigma_t * target, falls)
    yield algebra, ((alpha_t**2 + sigma_t**2) * x0_target).subs(falls)

    w = positive("w")  # sigma_s/alpha_s
    preserving = {
        alpha_s: 1 / sqrt(1 + w**2),
        sigma_s: w / sqrt(1 + w**2),
        alpha_t: kappa / sqrt(kappa**2 + w**2),
        sigma_t: w / sqrt(kappa**2 + w**2),
    }
    yield x_s
    sine = sigma_t * alpha_s - alpha_t * sigma_s
    yield algebra, at(cosine * x_t - sine * target, preserving)


# ------------------------------------------------------------------------------------------------ consistency

sigma, sigma_min, sd = positive("sigma sigma_min sd")
c_skip, c_out, F = real("c_skip c_out F")
network = function("F", kind="smooth")
skip_rate, out_rate = function("a"), function("b")


@claim(
    "distillation.consistency_boundary", source="Song et al. 2023, eq. 5", covers="distillation.consistency_boundary"
)
def consistency_boundary():
    """f = c_skip x + c_out F is x at sigma_min, whatever the network, just when c_skip = 1 and c_out = 0 there.

    Near sigma_min, where c_skip = 1 + h a and c_out = h b, f leaves x at first order. The network has to be bounded
    there: c_out F alone need not vanish for F = 1/c_out. Then what f - x owes to the network, and to x.
    """
    f = yield let("f", c_skip * x + c_out * F)
    near = {c_skip: 1 + h * skip_rate(h), c_out: h * out_rate(h), F: network(x, sigma_min + h)}
    yield at(f, near)
    yield up_to(h, 1, skip_rate(0) * x + out_rate(0) * network(x, sigma_min)), x

    yield Derivative(f - x, F)
    yield algebra, c_out
    yield Derivative(f - x, x)
    yield algebra, c_skip - 1


@claim(
    "distillation.consistency_scalings", source="Song et al. 2023, app. C", covers="distillation.consistency_scalings"
)
def consistency_scalings():
    """Song's scalings are 1 and 0 at sigma_min, to the second order and the first; at sigma_min = 0 they are EDM's."""
    skip = yield let("c_skip", sd**2 / ((sigma - sigma_min) ** 2 + sd**2))
    out = yield let("c_out", sd * (sigma - sigma_min) / sqrt(sd**2 + sigma**2))
    yield Subs(skip, sigma, sigma_min + h)
    yield up_to(h, 2, -1 / sd**2), Integer(1)
    yield Subs(out, sigma, sigma_min + h)
    yield up_to(h, 1, sd / sqrt(sd**2 + sigma_min**2)), Integer(0)

    for scale, of_edm in ((skip, edm.c_skip), (out, edm.c_out)):
        yield at(scale, {sigma_min: Integer(0)})
        yield algebra, of_edm.subs({edm.sigma: sigma, edm.sigma_data: sd})


f = function("f")
X, v = function("X"), function("v")
Z = function("Z")
a = real("a")
carried = suppose(Derivative(X(y, t), t), v(X(y, t), t))


@claim(
    "distillation.self_consistency",
    source="Song et al. 2023, def. 1",
    covers="distillation.self_consistency",
    hypotheses=[carried],
)
def self_consistency():
    """Along the paths of X' = v f changes at the rate f_t + v f_x: it is constant on all of them just when that is 0.

    Through every (x, t) goes one path, v being smooth.
    """
    yield Derivative(f(X(y, t), t), t)
    yield algebra, Subs(Derivative(f(z, t), t) + v(z, t) * Derivative(f(z, t), z), z, X(y, t))


of_start = function("g")


@claim(
    "distillation.collapse",
    source="Song et al. 2023, sec. 3",
    covers="distillation.self_consistency",
    hypotheses=[suppose(Derivative(f(x, t), t), -v(x, t) * Derivative(f(x, t), x))],
)
def collapse():
    "With f every g(f) is self-consistent too, a constant as well: the boundary f = x at sigma_min is needed."
    yield Derivative(of_start(f(x, t)), t) + v(x, t) * Derivative(of_start(f(x, t)), x)
    yield algebra, Integer(0)


@claim(
    "distillation.consistency_gaussian",
    source="Song et al. 2023, def. 1; Karras et al. 2022, eq. 1",
    covers="distillation.self_consistency",
)
def consistency_gaussian():
    """For data N(0, sd^2) the exact function is x sqrt((sigma_min^2 + sd^2)/(sigma^2 + sd^2)).

    Along dx/dsigma = (x - D)/sigma, D = sd^2 x/(sigma^2 + sd^2), f_sigma + f_x dx/dsigma = 0, and f = x at sigma_min.
    """
    exact = yield let("f", x * sqrt((sigma_min**2 + sd**2) / (sigma**2 + sd**2)))
    slope = (x - sd**2 * x / (sigma**2 + sd**2)) / sigma
    yield Derivative(exact, sigma) + slope * Derivative(exact, x)
    yield algebra, Integer(0)
    yield Subs(exact, sigma, sigma_min + h)
    yield up_to(h, 1, -sigma_min * x / (sigma_min**2 + sd**2)), x


# ------------------------------------------------------------------------------------- consistency, trained on pairs

law = function("k", kind="density")  # of the pair's noise eps given x
evidence = positive("c")  # p(x), which Bayes' joint law of noise and x carries, and which cancels
g = function("f")  # f(x, sigma), and f(x, sigma, theta) where its weight theta moves
held, eps = real("theta_0 eps")


def given_x(e: Expr) -> Expr:
    """Its mean over eps given x = x_0 + sigma eps."""
    return integral(evidence * law(eps) * e, eps) / integral(evidence * law(eps), eps)


mean_noise = given_x(eps)  # the ODE's slope: E[eps | x] = -sigma score
variance_noise = given_x(eps**2) - mean_noise**2


@claim(
    "distillation.consistency_training",
    source="Song et al. 2023, thm 2 and 6",
    covers="distillation.consistency_training",
)
def consistency_training():
    """Training's gradient is distillation's up to O(h^2), over h up to O(h), sharp: by f_theta f_xx Var(eps | x).

    Both gradients, the target held as it is for this theta, are 2 f_theta (f - target). Training's target is taken at
    x - h eps, by the pair's own noise, distillation's where Euler's step leads with the exact score: the mean of one is
    the other up to half the variance of the noise times the curvature of f. Over h both tend to 2 f_theta times
    distillation.consistency_rate.
    """
    here = g(x, sigma, theta)
    yield Subs(Derivative((here - g(z, sigma - h, held)) ** 2, theta), held, theta)
    yield algebra, 2 * Derivative(here, theta) * (here - g(z, sigma - h, theta))

    curvature = Derivative(g(x, sigma), x, 2)
    yield given_x(g(x - h * eps, sigma - h))
    yield up_to(h, 2, curvature * variance_noise / 2), g(x - h * mean_noise, sigma - h)


@claim("distillation.consistency_rate", source="Song et al. 2023, thm 5-6", covers="distillation.consistency_training")
def consistency_rate():
    """What both target differences tend to over h: the rate f_sigma + slope f_x of self-consistency, up to O(h)."""
    slope = real("slope")  # E[eps | x]
    here = g(x, sigma)
    rate = Derivative(here, sigma) + slope * Derivative(here, x)
    bend = Derivative(here, sigma, 2) + 2 * slope * Derivative(here, x, sigma) + slope**2 * Derivative(here, x, 2)
    yield (here - g(x - h * slope, sigma - h)) / h
    yield up_to(h, 1, -bend / 2), rate


@claim(
    "distillation.consistency_without_stop",
    source="Song et al. 2023, thm 2",
    covers="distillation.consistency_training",
)
def consistency_without_stop():
    """As losses the two differ where they begin, at h^2: training's has Var(eps | x) f_x^2 more.

    So without the stop-gradient training is no distillation: it is paid for a function that does not depend on x.
    """

    def loss(point: Expr) -> Expr:
        return (g(x, sigma) - g(point, sigma - h)) ** 2

    yield given_x(loss(x - h * eps))
    yield up_to(h, 2, variance_noise * Derivative(g(x, sigma), x) ** 2), loss(x - h * mean_noise)


# ------------------------------------------------------------------------------------------------ straight paths

velocity = real("velocity")
follows = suppose(Derivative(Z(t), t), v(Z(t), t))
straight = suppose(Derivative(v(x, t), t), -v(x, t) * Derivative(v(x, t), x))


@claim(
    "distillation.reflow_distillation",
    source="Liu et al. 2023, sec. 2.2",
    covers="distillation.reflow_distillation",
    hypotheses=[follows, straight],
)
def reflow_distillation():
    """On straight paths x - t v(x, t) is constant along the path: at t = 1 one velocity gives the path's point at 0.

    Straight: v_t + v v_x = 0 (flow.straight). The rate is -t times the acceleration; at t = 0 it is x itself.
    """
    student = yield let("student", x - t * velocity)
    yield Derivative(at(student, {x: Z(t), velocity: v(Z(t), t)}), t)
    yield algebra, Integer(0)
    yield Subs(student, t, 0)
    yield algebra, x


@claim("distillation.bent", source="Liu et al. 2023, sec. 2.2", covers="distillation.reflow_distillation")
def bent():
    """On other paths one velocity, at noise, misses the point at 0 by the mean of t Z'': straight paths are needed."""
    yield Z(1) - Subs(Derivative(Z(t), t), t, 1)
    by_euler = by(flow.straight_one_step, {flow.Z: Lambda(t, Z(1 - t)), flow.h: Integer(1)}, reverse=True)
    yield by_euler, Z(0) - Integral((1 - t) * Derivative(Z(1 - t), t, 2), (t, 0, 1))


# ------------------------------------------------------------------------------------------------ mean velocities

u, V, U = function("u"), function("v"), function("u")
c, du_dt = real("c du_dt")


@claim(
    "distillation.total_derivative",
    source="Geng et al. 2025, eq. 8",
    covers="distillation.meanflow",
    hypotheses=[follows],
)
def total_derivative():
    "Along the flow u(x, r, t) changes at the rate v u_x + u_t, its derivative in the direction (v, 0, 1): one jvp."
    yield Derivative(u(Z(t), r, t), t)
    yield algebra, Subs(v(z, t) * Derivative(u(z, r, t), z) + Derivative(u(z, r, t), t), z, Z(t))


@claim("distillation.meanflow", source="Geng et al. 2025, eq. 6", covers="distillation.meanflow")
def meanflow():
    """u = v - (t - r) du/dt at every time of a path just when (t - r) u is the integral of v from r to t.

    u and v as functions of the time on the path, r fixed. What one misses is the rate of what the other misses; and its
    integral from r, where (t - r) u starts at 0: u has to be bounded there. Else u + c/(t - r) satisfies the same.
    """
    target = yield let("target", velocity - (t - r) * du_dt)

    def misses(t: Expr) -> Expr:
        return U(t) - at(target, {velocity: V(t), du_dt: Derivative(U(t), t)})

    yield Derivative((t - r) * U(t) - Integral(V(y), (y, r, t)), t)
    yield leibniz, misses(t)

    yield Integral(misses(t), (t, r, a))
    yield parts(t, (t - r) * U(t)), (a - r) * U(a) - Integral(V(t), (t, r, a))

    other = U(r + h) + c / h  # at t = r + h
    yield other + h * Derivative(other, h)
    yield algebra, U(r + h) + h * Derivative(U(r + h), h)


@claim(
    "distillation.shortcut",
    source="Frans et al. 2025, eq. 5",
    covers="distillation.shortcut",
)
def shortcut():
    """The mean velocity over two steps is the mean of both steps': the second from where the first led."""
    (s_1, s_2), h = real("s_1 s_2"), nonzero("h")
    target = yield let("target", (s_1 + s_2) / 2)

    def over(start: Expr, length: Expr) -> Expr:
        return Integral(Derivative(Z(y), y), (y, start, start + length)) / length

    yield Z(t) + h * over(t, h)
    yield parts(y, Z(y)), Z(t + h)

    yield over(t, 2 * h)
    yield parts(y, Z(y) / (2 * h)), (Z(t + 2 * h) - Z(t)) / (2 * h)
    yield algebra, Subs(target, (s_1, s_2), ((Z(t + h) - Z(t)) / h, (Z(t + 2 * h) - Z(t + h)) / h))


# ------------------------------------------------------------------------------------------- distribution matching

real_law, fake_law = function("p", kind="density"), function("q", kind="density")
moves = suppose(Derivative(fake_law(x, theta), theta), -Derivative(v(x, theta) * fake_law(x, theta), x))
alpha = positive("alpha")
D_fake, D_real = real("D_fake D_real")


@claim(
    "distillation.dmd_gradient", source="Yin et al. 2024, eq. 4", covers="distillation.dmd_gradient", hypotheses=[moves]
)
def dmd_gradient():
    """d KL(fake || real)/dtheta = E_fake[(score_fake - score_real) v], v the mean of dx/dtheta over what lands at x."""
    p, q = real_law(x), fake_law(x, theta)
    excess = log(q) - log(p)
    yield Derivative(integral(q * excess, x), theta)
    yield leibniz, integral(Derivative(q, theta) * (excess + 1), x)
    yield parts(x, -v(x, theta) * q * (excess + 1)), integral(q * v(x, theta) * Derivative(excess, x), x)


G = function("G")


@claim("distillation.dmd_noised", source="Yin et al. 2024, eq. 3-7", covers="distillation.dmd_gradient")
def dmd_noised():
    """The noised output of a generator, alpha G + sigma eps, moves with theta as dmd_gradient asks, at alpha dG/dtheta.

    Said at one latent; the law of all of them moves at the mean of this given x (flow.marginal_velocity). And from
    denoisers, score = (alpha D - x)/sigma^2, the difference of the scores is alpha (D_fake - D_real)/sigma^2.
    """
    difference = yield let("difference", alpha * (D_fake - D_real) / sigma**2)
    kernel = normal(x, alpha * G(theta), sigma**2)
    yield Derivative(kernel, theta)
    yield algebra, -Derivative(alpha * Derivative(G(theta), theta) * kernel, x)

    yield (alpha * D_fake - x) / sigma**2 - (alpha * D_real - x) / sigma**2
    yield algebra, difference


# ------------------------------------------------------------------------------------------------ one-step error

n, k, j = counting("n"), counting("k"), natural("j")
L, solver, misfit = positive("L solver misfit")
A, B = unit("A B")
bound, room, e_0 = nonnegative("bound room e_0")
solvers, misfits = sequence("solver", "positive"), sequence("misfit", "positive")


@claim("distillation.one_step_error", source="Song et al. 2023, thm 1", covers="distillation.one_step_error")
def one_step_error():
    """A student of Lipschitz constant L errs by at most L times the sum of the solver's errors, plus its own misfits.

    Level by level: one step of the solver errs by (2 A - 1) solver, which the student multiplies by at most L, and
    disagrees with itself across that step by (2 B - 1) misfit; 0 < A, B < 1. An error within the bound stays within it,
    from either side; then what the bound adds up to.
    """
    local = L * (2 * A - 1) * solver + (2 * B - 1) * misfit
    grown = bound + L * solver + misfit
    yield bound - room + local
    yield at_most(room + 2 * L * (1 - A) * solver + 2 * (1 - B) * misfit), grown
    yield room - bound + local
    yield at_least(room + 2 * L * A * solver + 2 * B * misfit), -grown

    yield recursion(y + L * solvers(k + 1) + misfits(k + 1), y, k, 0, n)
    yield induction(n), L * Sum(solvers(j), (j, 1, n)) + Sum(misfits(j), (j, 1, n))


@claim("distillation.fan", source="Hairer et al. 1993, thm II.3.4", covers="distillation.one_step_error")
def fan():
    """Taken over n steps of the teacher's flow, each of Lipschitz constant L > 1, errors add up to at most L^n times.

    e <- L e + local, in closed form: what arises at step j is multiplied by L^(n - j). Then one step of the bound
    so_far (e_0 + sum of errors), so_far = L^k > 1 being the constant of the flow so far.
    """
    L, so_far = above_one("L so_far")
    yield recursion(L * y + solvers(k + 1), y, k, e_0, n)
    yield induction(n), L**n * (e_0 + Sum(solvers(j) / L**j, (j, 1, n)))

    yield L * (so_far * bound - room) + solver
    yield at_most(L * room + (L * so_far - 1) * solver), L * so_far * (bound + solver)
