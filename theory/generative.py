"""Generative models before diffusion: likelihood and divergences, autoregressive models, flows, energies, GANs.

Laws on two points give their first point the probability p (the data) or q (the model); laws on the line have the
densities p(x) and q(x). m = (p + q)/2 is the equal mixture of the two. All divergences are in nats.
"""

from __future__ import annotations

from collections.abc import Callable

from sympy import Abs, Derivative, Expr, Integer, Integral, Rational, Subs, Sum, exp, log, sqrt

from theory.probability import gibbs, hellinger, log_bound, r
from theory.probability import p as first
from theory.probability import q as second
from theory.proof import (
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
    minimum,
    normalised,
    parts,
    positive,
    real,
    recursion,
    sequence,
    suppose,
    unit,
    up_to,
)

x, y, z, u, t, t_0, lam = real("x y z u t t_0 lambda")
h, d = positive("h d")
p, q, A, B = unit("p q A B")
data, model = function("p", kind="density"), function("q", kind="density")
at_p, at_q = positive("p q")  # these two at one point


# ----------------------------------------------------------------------------------------- likelihood and divergences


def kl(a: Expr, b: Expr) -> Expr:
    """KL(a || b) of two densities, at one point: its integral over x is the divergence."""
    return a * (log(a) - log(b))


def js(a: Expr, b: Expr) -> Expr:
    """JS(a, b) = (KL(a || m) + KL(b || m))/2 of two densities, at one point."""
    m = (a + b) / 2
    return (kl(a, m) + kl(b, m)) / 2


@claim(
    "generative.max_likelihood",
    week=1,
    source="Goodfellow et al. 2016, eq. 5.61",
    covers="generative.argmax_likelihood_is_argmin_kl",
)
def max_likelihood():
    "A model's mean surprise is its divergence from the data plus the data's entropy, the least it can be."
    entropy = -integral(data(x) * log(data(x)), x)
    yield -integral(data(x) * log(model(x)), x)
    yield algebra, integral(kl(data(x), model(x)), x) + entropy
    yield at_least(lambda gap: gap, by(gibbs, {first: data, second: model})), entropy


@claim(
    "generative.max_likelihood_unique",
    week=1,
    source="Goodfellow et al. 2016, eq. 5.61; Cover & Thomas 2006, thm 2.6.3",
    covers="generative.argmax_likelihood_is_argmin_kl",
)
def max_likelihood_unique():
    "The surprise above the data's entropy is at least the integral of (sqrt p - sqrt q)^2: only q = p has none."
    apart = integral((sqrt(data(x)) - sqrt(model(x))) ** 2, x)
    yield -integral(data(x) * log(model(x)), x) + integral(data(x) * log(data(x)), x)
    yield at_least(lambda gap: gap, by(hellinger, {first: data, second: model})), apart


# ------------------------------------------------------------------------------------------------- laws on two points

i = counting("i")


def on_two_points(p: Expr) -> Expr:
    """The probability of outcome i = 0, 1 when outcome 1 has probability p."""
    return i * p + (1 - i) * (1 - p)


def kl_of(p: Expr, q: Expr) -> Expr:
    """KL of two laws on two points, from its definition."""
    return Sum(on_two_points(p) * (log(on_two_points(p)) - log(on_two_points(q))), (i, 0, 1))


def apart(p: Expr, q: Expr) -> Expr:
    """The sum of the absolute differences of two laws on two points."""
    return Sum(Abs(on_two_points(p) - on_two_points(q)), (i, 0, 1))


@claim("generative.kl_two_points", week=2, source="Cover & Thomas 2006, ex. 2.3.1", covers="generative.kl_two_points")
def kl_two_points():
    "The divergence of one coin from another: the sum over both outcomes."
    yield kl_of(p, q)
    yield algebra, p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))


@claim("generative.reverse_kl", week=2, source="Cover & Thomas 2006, ex. 2.3.1", covers="generative.reverse_kl")
def reverse_kl():
    """KL(p || q) and KL(q || p) differ, though not at q = p or at the opposite coin, q = 1 - p.

    In p their difference and its slope are 0 at q, and between q and 1/2 it bends one way, from q to the near end of
    (0, 1) the other: on q's side of 1/2 they are equal at q alone. Neighbours differ at third order; to second order
    both are h^2 times half the Fisher information.
    """
    difference = (p + q) * (log(p) - log(q)) + (2 - p - q) * (log(1 - p) - log(1 - q))
    yield kl_of(p, q) - kl_of(q, p)
    yield algebra, difference

    yield Derivative(difference, p)
    yield algebra, log(p) - log(q) - log(1 - p) + log(1 - q) + q / p - (1 - q) / (1 - p)

    yield Derivative(difference, (p, 2))
    yield algebra, (p - q) * (1 - 2 * p) / (p**2 * (1 - p) ** 2)

    yield kl_of(p, 1 - p) - kl_of(1 - p, p)
    yield algebra, Integer(0)

    yield (2 * p + h) * (log(p) - log(p + h)) + (2 - 2 * p - h) * (log(1 - p) - log(1 - p - h))  # at q = p + h
    yield up_to(h, 3, (2 * p - 1) / (6 * p**2 * (1 - p) ** 2)), Integer(0)


@claim("generative.js_two_points", week=2, source="Lin 1991, eq. 4.1", covers="generative.js")
def js_two_points():
    "JS of two coins: the entropy of the coin between them, less the mean of their entropies; symmetric on its face."
    m = (p + q) / 2
    yield (kl_of(p, m) + kl_of(q, m)) / 2

    def entropy(a: Expr) -> Expr:
        return -a * log(a) - (1 - a) * log(1 - a)

    yield algebra, entropy(m) - (entropy(p) + entropy(q)) / 2


@claim("generative.js", week=2, source="Lin 1991, thm 3-4", covers="generative.js")
def js_bounds():
    """JS is the mixture's entropy less the mean entropy, hence symmetric; it lies between 0 and log 2, one bit.

    Said where the densities are p and q; over all x the mean of the two integrates to 1.
    """
    m = (at_p + at_q) / 2
    yield js(at_p, at_q)
    yield algebra, (at_p * log(at_p) + at_q * log(at_q)) / 2 - m * log(m)

    tangents = (by(log_bound, {r: m / at_p}), by(log_bound, {r: m / at_q}))
    yield js(at_p, at_q)
    yield at_least(lambda one, other: (at_p * one + at_q * other) / 2, *tangents), Integer(0)

    yield js(at_p, at_q)
    yield at_most((at_p * log(1 + at_q / at_p) + at_q * log(1 + at_p / at_q)) / 2), log(2) * m

    yield integral(log(2) * (data(x) + model(x)) / 2, x)
    yield normalised(data), log(2) / 2 * (1 + integral(model(x), x))
    yield normalised(model), log(2)


@claim(
    "generative.total_variation",
    week=2,
    source="Levin et al. 2009, prop. 4.2",
    covers="generative.total_variation",
)
def total_variation():
    """Total variation of two coins is |p - q|, and no event tells them apart by more.

    The event, or a test that tosses a coin of its own, says yes to outcome 1 with probability A, to outcome 0 with B.
    The event {1}, A = 1 and B = 0, attains the bound.
    """
    distance = yield let("distance", Abs(p - q))
    yield apart(p, q) / 2
    yield algebra, distance

    yield (A * p + B * (1 - p) - (A * q + B * (1 - q))) ** 2
    yield at_most((1 - A + B) * (1 - B + A) * (p - q) ** 2), (p - q) ** 2


@claim("generative.pinsker", week=2, source="Cover & Thomas 2006, lemma 11.6.1", covers="generative.pinsker")
def pinsker():
    """Pinsker: KL is at least half the squared sum of |p - q|, as a function of q the room is least, and 0, at q = p.

    The constant is the best one: at p = 1/2 neighbours attain it to third order.
    """
    yield kl_of(p, q)
    yield algebra, p * log(p / q) + (1 - p) * log((1 - p) / (1 - q))
    yield at_least(minimum(q, p)), 2 * (p - q) ** 2
    yield algebra, apart(p, q) ** 2 / 2

    half = Rational(1, 2)  # p, and q = p + h
    yield half * (log(half) - log(half + h)) + half * (log(half) - log(half - h))
    yield up_to(h, 4, 4), 2 * h**2


# --------------------------------------------------------------------------------------------- autoregressive models

n, k = counting("n k")
joint = sequence("P", "positive")  # P(k) = p(x_1 .. x_k), the probability of the first k tokens
given = function("c", kind="density")  # c(y, x): the next token's law given the one before it


@claim(
    "generative.chain_rule",
    week=1,
    source="Bengio et al. 2003, eq. 1",
    covers="generative.autoregressive_chain_rule",
)
def chain_rule():
    "The log-probability of L = n + 1 tokens is the sum of those of each token given the ones before it: telescoping."
    conditional = joint(k + 2) / joint(k + 1)  # p(x_(k+2) | x_1 .. x_(k+1)); the first token has only itself
    yield recursion(y + log(conditional), y, k, log(joint(1)), n)
    yield induction(n), log(joint(n + 1))


@claim(
    "generative.ancestral_sampling",
    week=1,
    source="Bengio et al. 2003",
    covers="generative.autoregressive_sampling",
)
def ancestral_sampling():
    "Tokens drawn in turn, each from its conditional: the chances multiply to the law's own probability of the string."
    yield recursion(y * (joint(k + 2) / joint(k + 1)), y, k, joint(1), n)
    yield induction(n), joint(n + 1)


@claim(
    "generative.any_conditionals",
    week=1,
    source="Bengio et al. 2003, eq. 1",
    covers="generative.autoregressive_sampling",
)
def any_conditionals():
    "Any normalised conditionals make a law whose conditionals they are: nothing else has to be normalised."
    pair = data(x) * given(y, x)
    yield pair / integral(data(x) * given(z, x), z)
    yield normalised(given), given(y, x)


# ------------------------------------------------------------------------------------------------- normalizing flows

up = function("f", kind="monotone")  # f(z, y): a layer moves one coordinate, increasing; the others, y, steer it
down = function("g", kind="smooth")  # g(x, y): its inverse
base = function("p", kind="density")  # of the coordinate that is moved, given the others
low = real("a")
inverse = suppose(Derivative(down(x, y), x), 1 / Subs(Derivative(up(z, y), z), z, down(x, y)))


@claim(
    "generative.flow_density",
    week=2,
    source="Rezende & Mohamed 2015, eq. 5-7",
    covers="generative.flow_density",
    hypotheses=[inverse],
)
def flow_density():
    """A layer x = f(z, y) divides the density by its slope: X <= x is Z <= g(x), differentiated in x.

    The integral runs from some a, the same for all x. The Jacobian of the whole layer, (z, y) -> (f(z, y), y), is
    triangular with 1 below, so that slope is its determinant.
    """
    yield Derivative(Integral(base(z, y), (z, low, down(x, y))), x)
    yield leibniz, base(down(x, y), y) * Derivative(down(x, y), x)
    yield algebra, base(down(x, y), y) / Subs(Derivative(up(z, y), z), z, down(x, y))


@claim(
    "generative.flow_layers",
    week=2,
    source="Rezende & Mohamed 2015, eq. 6-7",
    covers="generative.flow_density",
)
def flow_layers():
    "Layers' Jacobian determinants multiply, so their logarithms add: two layers of the plane, z to v to x."
    z_1, z_2, v_1, v_2 = real("z_1 z_2 v_1 v_2")
    inner = [function(name)(z_1, z_2) for name in ("u_1", "u_2")]
    outer = [function(name)(v_1, v_2) for name in ("w_1", "w_2")]
    after = {v_1: inner[0], v_2: inner[1]}

    def determinant(f: list[Expr], a: Expr, b: Expr) -> Expr:
        return Derivative(f[0], a) * Derivative(f[1], b) - Derivative(f[0], b) * Derivative(f[1], a)

    yield determinant([f.subs(after, simultaneous=True) for f in outer], z_1, z_2)
    yield algebra, determinant(outer, v_1, v_2).subs(after, simultaneous=True) * determinant(inner, z_1, z_2)


# ----------------------------------------------------------------------------------------------------- energy models

e = function("e", kind="smooth")


@claim("generative.energy_score", week=2, source="Song & Kingma 2021, eq. 5", covers="generative.energy_score")
def energy_score():
    "The score of exp(-E)/Z is -E': Z, an integral over all x, does not depend on x. E = x^2/2 + e(x), any smooth e."
    energy = x**2 / 2 + e(x)
    Z = integral(exp(-energy.subs(x, y)), y)
    yield Derivative(exp(-energy) / Z, x) / (exp(-energy) / Z)
    yield algebra, -x - Derivative(e(x), x)


@claim("generative.energy_gradient", week=2, source="Song & Kingma 2021, sec. 2", covers="generative.energy_score")
def energy_gradient():
    "In a parameter t of E, Z does not cancel: it leaves the mean of dE/dt over the model's draws, here in a box."

    def over_box(of: Expr) -> Expr:
        return Integral(of * exp(-e(y, t)), (y, -1, 1))

    Z = over_box(Integer(1))
    yield Derivative(exp(-e(x, t)) / Z, t) / (exp(-e(x, t)) / Z)
    yield leibniz, over_box(Derivative(e(y, t), t)) / Z - Derivative(e(x, t), t)


# -------------------------------------------------------------------------------------------- GANs: what is optimal

D = unit("D")
l = real("l")


@claim(
    "generative.optimal_discriminator",
    week=2,
    source="Goodfellow et al. 2014, prop. 1",
    covers="generative.gan_optimal_discriminator",
)
def optimal_discriminator():
    "At each point the discriminator's gain p log D + q log(1 - D) is largest at D* = p/(p + q)."
    best = yield let("discriminator", at_p / (at_p + at_q))
    yield at_p * log(D) + at_q * log(1 - D)
    yield at_most(minimum(D, at_p / (at_p + at_q))), at_p * log(best) + at_q * log(1 - best)


@claim("generative.gan_value", week=2, source="Goodfellow et al. 2014, thm 1", covers="generative.gan_value")
def gan_value():
    """What D* gains over all x is 2 JS - log 4, which no other discriminator exceeds; JS >= 0, so q = p makes it least.

    Said where the densities are p and q; over all x the second term integrates to log 4.
    """
    yield at_p * log(at_p / (at_p + at_q)) + at_q * log(at_q / (at_p + at_q))
    yield algebra, 2 * js(at_p, at_q) - log(2) * (at_p + at_q)

    yield integral(log(2) * (data(x) + model(x)), x)
    yield normalised(data), log(2) * (1 + integral(model(x), x))
    yield normalised(model), log(4)


# --------------------------------------------------------------------------------------- GANs: the generator's losses


@claim(
    "generative.non_saturating_sign",
    week=2,
    source="Goodfellow et al. 2014, sec. 3",
    covers="generative.gan_non_saturating_sign",
)
def non_saturating_sign():
    "In the logit l, D = 1/(1 + exp(-l)), both losses of a drawn sample fall: one by 1 - D, the other by D only."
    non_saturating = yield let("non_saturating", log(1 + exp(-l)))
    saturating = yield let("saturating", -log(1 + exp(l)))
    at_l = 1 / (1 + exp(-l))
    yield -log(at_l)
    yield algebra, non_saturating

    yield log(1 - at_l)
    yield algebra, saturating

    yield Derivative(non_saturating, l)
    yield algebra, at_l - 1

    yield Derivative(saturating, l)
    yield algebra, -at_l

    yield Derivative(non_saturating, l) / Derivative(saturating, l)
    yield algebra, (1 - at_l) / at_l
    yield at_least(exp(-l)), Integer(0)


fake = function("q", kind="density")  # q(x, t): the generator's law at the parameter t
v = function("v", kind="smooth")  # v(x, t): how fast the generator moves its samples as t grows
moves = suppose(Derivative(fake(x, t), t), -Derivative(v(x, t) * fake(x, t), x))


def held(loss: Callable[[Expr], Expr]) -> Expr:
    """d/dt of a generator's loss at x, the best discriminator D* = p/(p + q) held as it is for this t."""
    return Subs(Derivative(fake(x, t) * loss(data(x) / (data(x) + fake(x, t_0))), t), t_0, t)


@claim(
    "generative.non_saturating_gradient",
    week=2,
    source="Arjovsky & Bottou 2017, thm 2.5",
    covers="generative.gan_non_saturating_gradient",
    hypotheses=[moves],
)
def non_saturating_gradient():
    """With D* held while the generator moves, the gradient of E_q[-log D*] is that of KL(q || p) - 2 JS(p, q).

    Said at each x, up to a multiple of dq/dt, whose integral is 0: a generator moves mass and makes none.
    """
    p, q = data(x), fake(x, t)
    yield held(lambda D: -log(D))
    yield algebra, Derivative(kl(q, p) - 2 * js(p, q), t) - (1 - log(2)) * Derivative(q, t)

    yield integral(q + h * Derivative(q, t), x)
    yield parts(x, -h * v(x, t) * q), integral(q, x)
    yield normalised(fake), Integer(1)


@claim(
    "generative.saturating_gradient",
    week=2,
    source="Goodfellow et al. 2014, thm 1",
    covers="generative.gan_non_saturating_gradient",
)
def saturating_gradient():
    """The game's value E_p[log D*] + E_q[log(1 - D*)] has the gradient of 2 JS, whether D* is held or follows.

    Said at each x, up to a multiple of dq/dt. Held, only the saturating loss E_q[log(1 - D*)] moves: the first line.
    """
    p, q = data(x), fake(x, t)
    yield held(lambda D: log(1 - D))
    yield algebra, Derivative(p * log(p / (p + q)) + q * log(q / (p + q)), t)
    yield algebra, Derivative(2 * js(p, q), t) - log(2) * Derivative(q, t)


@claim(
    "generative.discriminator_followed",
    week=2,
    source="Arjovsky & Bottou 2017, thm 2.5",
    covers="generative.gan_non_saturating_gradient",
)
def discriminator_followed():
    """Differentiated through D* as well, E_q[-log D*] is another objective: KL(q || p) - KL(q || m) + log 2.

    Said at each x. Near q = p, at q = p + h, its gradient is 3/2 of that with D* held (-h is mass, and sums to 0).
    """
    m = (at_p + at_q) / 2
    yield -at_q * log(at_p / (at_p + at_q))
    yield algebra, kl(at_q, at_p) - kl(at_q, m) + at_q * log(2)

    near = {at_q: at_p + h}
    aim = kl(at_q, at_p) - 2 * js(at_p, at_q)  # with D* held
    yield (kl(at_q, at_p) - kl(at_q, m)).subs(near)
    yield up_to(h, 3, -1 / (48 * at_p**2)), (3 * aim / 2).subs(near) - h


# ---------------------------------------------------------------------------------------------- GANs: do steps settle

weight = positive("c")  # of the penalty
State = tuple[Expr, Expr]  # of generator x and discriminator y in the game x y: x wants it small, y large


def simultaneous(x: Expr, y: Expr) -> State:
    """Both players step at once, each along its own gradient of x y."""
    return x - h * y, y + h * x


def alternating(x: Expr, y: Expr) -> State:
    """The discriminator sees the generator's new place."""
    return x - h * y, y + h * (x - h * y)


def characteristic(step: State) -> Expr:
    """det(lambda - J) of the step's Jacobian J in (x, y)."""
    (a, b), (c, d) = [[Derivative(new, old) for old in (x, y)] for new in step]
    return (lam - a) * (lam - d) - b * c


@claim(
    "generative.bilinear_simultaneous",
    week=2,
    source="Mescheder et al. 2018, lemma 2.3",
    covers="generative.gan_bilinear_simultaneous",
)
def bilinear_simultaneous():
    """Simultaneous steps have eigenvalues 1 +- i h: each takes the pair sqrt(1 + h^2) times farther from equilibrium.

    A game y^T M x in any dimension falls apart into such pairs along M's singular vectors, of step h times the value.
    """
    yield characteristic(simultaneous(x, y))
    yield algebra, (lam - 1) ** 2 + h**2

    a, b = simultaneous(x, y)
    yield a**2 + b**2
    yield algebra, (1 + h**2) * (x**2 + y**2)


@claim(
    "generative.bilinear_alternating",
    week=2,
    source="Mescheder et al. 2018, lemma 2.4",
    covers="generative.gan_bilinear_alternating",
)
def bilinear_alternating():
    "Alternating steps have determinant 1 and trace 2 - h^2; for h = 2 A < 2 the eigenvalues are complex, of modulus 1."
    step = alternating(x, y)
    yield characteristic(step)
    yield algebra, lam**2 - (2 - h**2) * lam + 1

    discriminant = (2 - h**2) ** 2 - 4
    yield discriminant.subs(h, 2 * A)
    yield at_most(16 * A**2 * (1 - A) * (1 + A)), Integer(0)


@claim(
    "generative.alternating_orbits",
    week=2,
    source="Gidel et al. 2019 (negative momentum)",
    covers="generative.gan_bilinear_alternating",
)
def alternating_orbits():
    "Alternating steps stay on an ellipse x^2 - h x y + y^2, and so within a distance, as long as h = 2 A < 2."
    a, b = alternating(x, y)
    yield a**2 - h * a * b + b**2
    yield algebra, x**2 - h * x * y + y**2

    yield x**2 - 2 * A * x * y + y**2
    yield at_least(A * (x - y) ** 2), (1 - A) * (x**2 + y**2)


@claim(
    "generative.alternating_at_two",
    week=2,
    source="Gidel et al. 2019 (negative momentum)",
    covers="generative.gan_bilinear_alternating",
)
def alternating_at_two():
    """At h = 2 the two eigenvalues -1 share one eigenvector, and the pair runs away: x + 4 n (y - x) after 2 n steps.

    The ellipse is then (x - y)^2, a pair of lines: two steps leave w = y - x as it was.
    """
    w = real("w")
    steps = alternating(*alternating(z, z + w))  # two of them, from (z, z + w)
    yield recursion(Subs(steps[0], h, 2), z, k, x, n)
    yield induction(n), x + 4 * n * w

    yield Subs(steps[1] - steps[0], h, 2)
    yield algebra, w


@claim(
    "generative.gradient_penalty",
    week=2,
    source="Mescheder et al. 2018, thm 4.1",
    covers="generative.gan_gradient_penalty",
)
def gradient_penalty():
    """A penalty c/2 |dD/dx|^2 on the discriminator D = y x draws simultaneous steps in: modulus^2 is 1 - c h + h^2.

    The eigenvalues are complex for c = 2 A < 2 (the discriminant is negative), and inside the circle for h = c B < c.
    """
    generator = yield let("generator", x - h * y)
    discriminator = yield let("discriminator", y + h * (x - weight * y))
    yield x - h * Derivative(x * y, x)
    yield algebra, generator

    yield y + h * Derivative(x * y - weight / 2 * Derivative(y * x, x) ** 2, y)
    yield algebra, discriminator

    yield characteristic((generator, discriminator))
    yield algebra, lam**2 - (2 - weight * h) * lam + 1 - weight * h + h**2

    yield (2 - 2 * A * h) ** 2 - 4 * (1 - 2 * A * h + h**2)
    yield at_most(4 * h**2 * (1 - A) * (1 + A)), Integer(0)

    yield 1 - weight * (weight * B) + (weight * B) ** 2
    yield at_most(weight**2 * B * (1 - B)), Integer(1)


# ------------------------------------------------------------------------------------------ what a distance measures

mass = function("c", kind="density")  # c(u): a transport plan moves X(u) to Y(u), u of density c
X, right, left = function("X"), function("r", kind="positive"), function("l", kind="positive")


@claim("generative.js_disjoint", week=2, source="Arjovsky et al. 2017, ex. 1", covers="generative.wasserstein_vs_js")
def js_disjoint():
    """Laws without common support have JS = log 2, wherever they are: two point masses, two curves, two halves.

    p is the density of one along its own support, q of the other along its own, and the mixture has half of each there.
    """
    yield kl(at_p, at_p / 2)
    yield algebra, log(2) * at_p

    yield (integral(log(2) * data(x), x) + integral(log(2) * model(y), y)) / 2
    yield normalised(data), log(2) / 2 * (1 + integral(model(y), y))
    yield normalised(model), log(2)


@claim(
    "generative.wasserstein_shift",
    week=2,
    source="Arjovsky et al. 2017, ex. 1; Villani 2009, rem. 6.5",
    covers="generative.wasserstein_vs_js",
)
def wasserstein_shift():
    """W_1 of a law and its shift by d is d: every plan costs at least the difference of means, and moving all by d, d.

    A plan moves X(u) by r(u) - l(u), r to the right or l to the left, at the cost r + l; a point mass is X constant.
    """
    yield integral(mass(u) * (right(u) + left(u)), u)
    difference = integral(mass(u) * (X(u) + right(u) - left(u)), u) - integral(mass(u) * X(u), u)
    yield at_least(2 * integral(mass(u) * left(u), u)), difference

    yield integral(mass(u) * (X(u) + d), u) - integral(mass(u) * X(u), u)
    yield normalised(mass), d
    yield normalised(mass), integral(mass(u) * Abs(X(u) + d - X(u)), u)
