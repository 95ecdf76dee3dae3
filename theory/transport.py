r"""Is the probability-flow map the cheapest one? In one dimension, and for commuting Gaussians, yes; in general not.

    X(x, t)      where the flow dX/dt = v(X, t), v = F - g^2/2 (log p)_x, has taken x; X_x its slope, or Jacobian J
    transport    T carries p to q and is optimal if no other way of pairing the points costs less, E|x - T(x)|^2

In any dimension T is optimal when it is the gradient of a convex u, and only if its Jacobian is symmetric (Brenier).
A rival pairs x with the image T(z) of another point, x and z of one law; on the line the gap is

    (x - T(z))^2 - (z - T(z))^2 = a(x) - a(z) + 2 (u(x) - u(z) - u'(z) (x - z)),    u' = T,  a(x) = x^2 - 2 u(x)

and a(x) - a(z) has mean 0. In the plane let J be the Jacobian of the flow of dX/dt = -(1/2) grad log p_t, the
probability flow of dx = dW (every schedule follows the same curves, with x/alpha for x and (sigma/alpha)^2 for t), and
H the Hessian of log p_t along the curve: J' = -H J/2, and it is the commutator [H', H] that twists J.
"""

from __future__ import annotations

from sympy import Derivative, Expr, Integer, Integral, Matrix, Subs, exp, log, sqrt

from theory import sde
from theory.proof import (
    E,
    algebra,
    at_least,
    by,
    claim,
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

x, z, t, u = real("x z t u")
r = real("r")
X, v, M = function("X"), function("v"), function("M")
F, g, p = sde.F, sde.g, sde.p


# ------------------------------------------------------------------------------------------------- on the line

flow = suppose(Derivative(X(x, t), t), v(X(x, t), t))
divergence = Subs(Derivative(v(z, t), z), z, X(x, t))  # v_x where the flow has taken x


@claim(
    "sde.flow_increasing",
    week=5,
    source="Khrulkov et al. 2023",
    covers="sde.optimal_transport_1d",
    hypotheses=[flow, suppose(Derivative(M(x, t), t), divergence)],
)
def flow_increasing():
    "The flow's slope is exp(M) times what it was, M the integral of v_x along the path: it stays positive."
    yield Derivative(Derivative(X(x, t), x) * exp(-M(x, t)), t)
    yield algebra, Integer(0)


a, b = real("a b")
velocity = F(x, t) - g(t) ** 2 / 2 * Derivative(log(p(x, t)), x)


@claim(
    "sde.flow_mass",
    week=5,
    source="Song et al. 2021 (SDE), eq. 13; Villani 2003, thm 5.34",
    covers="sde.optimal_transport_1d",
    hypotheses=[sde.fokker_planck_equation],
)
def flow_mass():
    "Mass between two points changes by p v at its ends, v = F - g^2/2 score: where p v decays, P_t = -v P_x."
    flux = p(x, t) * velocity
    yield Derivative(Integral(p(x, t), (x, a, b)), t)
    yield leibniz, Integral(Derivative(p(x, t), t), (x, a, b))
    yield parts(x, -flux), flux.subs(x, a) - flux.subs(x, b)


P = function("P")  # P(x, t): the mass left of x


@claim(
    "sde.flow_quantile",
    week=5,
    source="Khrulkov et al. 2023; Villani 2003, thm 2.18",
    covers="sde.optimal_transport_1d",
    hypotheses=[flow, suppose(Derivative(P(x, t), t), -v(x, t) * Derivative(P(x, t), x))],
)
def flow_quantile():
    "The flow keeps the mass to its left, P_t(X(x, t)) = P_0(x): being increasing, it is the quantile map."
    yield Derivative(P(X(x, t), t), t)
    yield algebra, Integer(0)


T = function("T", kind="monotone")
y = real("y")
between = x - (x - z) * r  # from x to z as r runs from 0 to 1
mean_of_T = Integral(T(between), (r, 0, 1))
slope_of_T = Subs(Derivative(T(y), y), y, between)


@claim(
    "sde.optimal_transport_1d",
    week=5,
    source="Khrulkov et al. 2023; Villani 2003, thm 2.18",
    covers="sde.optimal_transport_1d",
)
def optimal_transport_1d():
    """On the line an increasing T is optimal, as the flow is: pairing x with T(z) costs no less, but for a(x) - a(z).

    Let x and z have the law that T starts from, coupled in any way: a(x) - a(z) has mean 0, so x - T(z) has no smaller
    mean square than T's own z - T(z). Here a(x) = x^2 - 2 u(x), u' = T: the second chain says that (x - z) times the
    mean of T between the two, which is 0 at x = z, is u(x) - u(z). sde.flow_increasing makes the flow such a T.
    """
    bent = (x - z) ** 2 * Integral(r * slope_of_T, (r, 0, 1))
    gained = x**2 - z**2 - 2 * (x - z) * mean_of_T
    yield (x - T(z)) ** 2 - (z - T(z)) ** 2
    yield parts(r, 2 * (x - z) * r * T(between)), gained + 2 * bent
    yield at_least(2 * bent), gained

    yield Derivative((x - z) * mean_of_T, x)
    yield leibniz, mean_of_T + (x - z) * Integral((1 - r) * slope_of_T, (r, 0, 1))
    yield parts(r, (r - 1) * T(between)), T(x)


# ------------------------------------------------------------------------------------------------- Gaussians

f, m, V, h = function("f"), function("m"), function("V", kind="positive"), function("h")
k, mu, nu = real("k mu nu")
v_0, w_0 = positive("v w")


@claim(
    "sde.gaussian_flow",
    week=5,
    source="Khrulkov et al. 2023, thm 3.1; Song et al. 2021 (SDE), eq. 13",
    covers="sde.optimal_transport_commuting",
    hypotheses=[
        suppose(Derivative(m(t), t), f(t) * m(t)),
        suppose(Derivative(V(t), t), 2 * f(t) * V(t) + g(t) ** 2),
    ],
)
def gaussian_flow():
    "Along each eigenvector that N(m, V) keeps, its flow holds k fixed, the distance from the mean in deviations."
    path = m(t) + sqrt(V(t)) * k
    yield Derivative(path, t)
    yield algebra, f(t) * path - g(t) ** 2 / 2 * Subs(Derivative(log_normal(x, m(t), V(t)), x), x, path)


@claim(
    "sde.gaussian_map",
    week=5,
    source="Dowson and Landau 1982",
    covers="sde.optimal_transport_commuting",
)
def gaussian_map():
    "That flow takes N(mu, v) to N(nu, w) by an increasing map, at the cost (mu - nu)^2 + (sqrt v - sqrt w)^2."
    moved = yield let("map", nu + sqrt(w_0 / v_0) * (x - mu))
    cost = yield let("cost", (mu - nu) ** 2 + (sqrt(v_0) - sqrt(w_0)) ** 2)
    yield integral(h(moved) * normal(x, mu, v_0), x)
    yield substitute(x, mu + sqrt(v_0 / w_0) * (y - nu), y), integral(h(y) * normal(y, nu, w_0), y)
    yield Subs(moved, x, mu + sqrt(v_0) * k)
    yield algebra, nu + sqrt(w_0) * k
    yield E((mu + sqrt(v_0) * u - (nu + sqrt(w_0) * u)) ** 2, u)
    yield gaussian_expectation(u), cost


x_1, x_2, z_1, z_2 = real("x_1 x_2 z_1 z_2")
axes = (x_1, x_2)
k_1, k_2, v_1, v_2 = positive("k_1 k_2 v_1 v_2")
s_11, s_12, s_22, d_1, d_2 = real("T_11 T_12 T_22 d_1 d_2")


@claim("sde.symmetric_gap", week=5, source="Villani 2003, thm 2.12", covers="sde.optimal_transport_commuting")
def symmetric_gap():
    """Pairing x with T z, T symmetric, costs (x - z)^T T (x - z) more than pairing z with it, but for a(x) - a(z).

    a(x) = |x|^2 - x^T T x: for x and z of one law its mean drops out, and a positive T is optimal.
    """
    image = s_11 * z_1 + s_12 * z_2, s_12 * z_1 + s_22 * z_2
    a_x = x_1**2 + x_2**2 - (s_11 * x_1**2 + 2 * s_12 * x_1 * x_2 + s_22 * x_2**2)
    a_z = z_1**2 + z_2**2 - (image[0] * z_1 + image[1] * z_2)
    apart = x_1 - z_1, x_2 - z_2
    yield (x_1 - image[0]) ** 2 + (x_2 - image[1]) ** 2 - (z_1 - image[0]) ** 2 - (z_2 - image[1]) ** 2
    yield algebra, a_x - a_z + s_11 * apart[0] ** 2 + 2 * s_12 * apart[0] * apart[1] + s_22 * apart[1] ** 2


@claim(
    "sde.optimal_transport_commuting",
    week=5,
    source="Khrulkov et al. 2023, thm 3.1; Olkin and Pukelsheim 1982",
    covers="sde.optimal_transport_commuting",
)
def optimal_transport_commuting():
    """Gaussians of common eigenvectors: the flow stretches each by k_i > 0, and such a map is optimal.

    By sde.gaussian_flow k_i^2 is the ratio of variances; shown for two eigenvectors, along (1, r) and (-r, 1). T C T^T
    is the new covariance (its first row), T is positive, and so optimal by sde.symmetric_gap.
    """
    turn = 1 + r**2
    C_11 = yield let("C_11", (v_1 + r**2 * v_2) / turn)
    C_12 = yield let("C_12", r * (v_1 - v_2) / turn)
    C_22 = yield let("C_22", (r**2 * v_1 + v_2) / turn)
    T_11 = yield let("T_11", (k_1 + r**2 * k_2) / turn)
    T_12 = yield let("T_12", r * (k_1 - k_2) / turn)
    T_22 = yield let("T_22", (r**2 * k_1 + k_2) / turn)
    yield T_11 * (C_11 * T_11 + C_12 * T_12) + T_12 * (C_12 * T_11 + C_22 * T_12)
    yield algebra, (k_1**2 * v_1 + r**2 * k_2**2 * v_2) / turn
    yield T_11 * (C_11 * T_12 + C_12 * T_22) + T_12 * (C_12 * T_12 + C_22 * T_22)
    yield algebra, r * (k_1**2 * v_1 - k_2**2 * v_2) / turn

    yield T_11 * d_1**2 + 2 * T_12 * d_1 * d_2 + T_22 * d_2**2
    yield at_least((k_1 * (d_1 + r * d_2) ** 2 + k_2 * (d_2 - r * d_1) ** 2) / turn), Integer(0)


S_12, C_12 = real("S_12 C_12")
S_11, S_22, C_22, c = positive("S_11 S_22 C_22 c")


@claim("sde.gaussian_twist", week=5, source="Khrulkov et al. 2023; Lavenant & Santambrogio 2022")
def gaussian_twist():
    """Without a common basis the flow twists: noise S = G G^T turns its Jacobian at the rate [C, S]_12/(2 det C).

    Its velocity under dx = G dW is -S grad log p/2, for N(m, C) of Jacobian S C^-1/2, which need not be symmetric
    though S and C are. C_11 = c + C_12^2/C_22.
    """
    S, C = Matrix([[S_11, S_12], [S_12, S_22]]), Matrix([[c + C_12**2 / C_22, C_12], [C_12, C_22]])
    log_p = -(C_22 * x_1**2 - 2 * C_12 * x_1 * x_2 + C[0, 0] * x_2**2) / (2 * c * C_22)  # and a constant
    pull = [-sum((S[i, j] * Derivative(log_p, axes[j]) for j in range(2)), start=Integer(0)) / 2 for i in range(2)]
    yield Derivative(pull[0], x_2) - Derivative(pull[1], x_1)
    yield algebra, (C * S - S * C)[0, 1] / (2 * c * C_22)


# ------------------------------------------------------------------------------------------------- in the plane

T_1, T_2, psi, q = function("T_1"), function("T_2"), function("psi"), function("p", kind="positive")
X_1, X_2 = function("X_1"), function("X_2")


@claim(
    "sde.optimal_is_curl_free",
    week=5,
    source="Brenier 1991; Villani 2003, thm 2.12",
    covers="sde.not_optimal_transport",
)
def optimal_is_curl_free():
    """An optimal map has a symmetric Jacobian: stirring what it starts from changes its cost by 2 int psi curl T.

    The field (psi_2, -psi_1)/p leaves p as it is (first line), so pairing x with the image of a stirred x is a rival;
    psi vanishes outside a disc and with it the mean of the two derivatives. Where curl T = T_2,1 - T_1,2 is not 0, take
    psi of the other sign: the rival is cheaper.
    """
    p, image = q(x_1, x_2), (T_1(x_1, x_2), T_2(x_1, x_2))
    stream = psi(x_1, x_2)
    stir = (Derivative(stream, x_2) / p, -Derivative(stream, x_1) / p)
    yield Derivative(p * stir[0], x_1) + Derivative(p * stir[1], x_2)
    yield algebra, Integer(0)

    def along(e: Expr) -> Expr:
        return sum((stir[j] * Derivative(e, axes[j]) for j in range(2)), start=Integer(0))

    yield p * sum((-2 * (axes[i] - image[i]) * along(image[i]) for i in range(2)), start=Integer(0))
    level = sum((image[i] ** 2 - 2 * axes[i] * image[i] for i in range(2)), start=Integer(0))
    ends = (
        Derivative(stream, x_2) * level - 2 * stream * image[1],
        -Derivative(stream, x_1) * level + 2 * stream * image[0],
    )
    curl = Derivative(image[1], x_1) - Derivative(image[0], x_2)
    yield algebra, 2 * stream * curl + Derivative(ends[0], x_1) + Derivative(ends[1], x_2)


where = (X_1(x_1, x_2, t), X_2(x_1, x_2, t))
velocities = (function("v_1")(z_1, z_2, t), function("v_2")(z_1, z_2, t))


@claim(
    "sde.flow_jacobian",
    week=5,
    source="Chen et al. 2018, app. A",
    covers="sde.not_optimal_transport",
    hypotheses=[suppose(Derivative(where[i], t), velocities[i].subs({z_1: where[0], z_2: where[1]})) for i in range(2)],
)
def flow_jacobian():
    "The flow's Jacobian J_ij = dX_i/dx_j obeys J' = Dv J, the velocity's Jacobian taken where the flow is."

    def there(e: Expr) -> Expr:
        return Subs(e, (z_1, z_2), where)

    for i in range(2):
        for j in range(2):
            yield Derivative(where[i], axes[j], t)
            turned = (
                there(Derivative(velocities[i], n)) * Derivative(at, axes[j])
                for n, at in zip((z_1, z_2), where, strict=True)
            )
            yield algebra, sum(turned, start=Integer(0))


J = [[function(f"J_{i}{j}")(t) for j in "12"] for i in "12"]
h_11, h_12, h_22 = (function(f"H_{ij}")(t) for ij in ("11", "12", "22"))
H = [[h_11, h_12], [h_12, h_22]]


@claim(
    "sde.flow_twist",
    week=5,
    source="Lavenant & Santambrogio 2022",
    covers="sde.not_optimal_transport",
    hypotheses=[
        suppose(Derivative(J[i][j], t), -sum(H[i][k] * J[k][j] for k in range(2)) / 2)
        for i in range(2)
        for j in range(2)
    ],
)
def flow_twist():
    """Where Hessians do not commute along the flow, its Jacobian is not symmetric: A_12 - A_21 = [H', H]_12 h^3/24.

    A is the Jacobian of the flow's map from t to t + h; its first two derivatives are symmetric at h = 0, the third is
    not. H is the Hessian of log p along the curve, and the velocity's Jacobian is -H/2.
    """
    now = Matrix(J)

    def asymmetry(n: int) -> Expr:  # det J(t) times the n-th derivative of A_12 - A_21 at h = 0, A = J(t + h) J(t)^-1
        moved = now.applyfunc(lambda entry: Derivative(entry, (t, n))) * now.adjugate()
        return moved[0, 1] - moved[1, 0]

    for n in (1, 2):
        yield asymmetry(n)
        yield algebra, Integer(0)
    yield asymmetry(3)
    commutator = h_12 * Derivative(h_11 - h_22, t) - (h_11 - h_22) * Derivative(h_12, t)
    yield algebra, commutator / 4 * now.det()


log_p, heat = function("l")(x_1, x_2, t), function("p", kind="positive")(x_1, x_2, t)


@claim(
    "sde.log_density_flow",
    week=5,
    source="Song et al. 2021 (SDE), eq. 29",
    covers="sde.not_optimal_transport",
    hypotheses=[suppose(Derivative(heat, t), sum(Derivative(heat, (axis, 2)) for axis in axes) / 2)],
)
def log_density_flow():
    "Under dx = dW the log density l obeys l' = (laplace l + |grad l|^2)/2."
    yield Derivative(log(heat), t)
    parts_of = (Derivative(log(heat), (axis, 2)) + Derivative(log(heat), axis) ** 2 for axis in axes)
    yield algebra, sum(parts_of, start=Integer(0)) / 2


@claim(
    "sde.hessian_along_flow",
    week=5,
    source="Lavenant & Santambrogio 2022",
    covers="sde.not_optimal_transport",
    hypotheses=[
        suppose(
            Derivative(log_p, t), sum(Derivative(log_p, (axis, 2)) + Derivative(log_p, axis) ** 2 for axis in axes) / 2
        )
    ],
)
def hessian_along_flow():
    """Along the flow of dx/dt = -grad l/2 the Hessian changes by H' = H^2 + (laplace H + grad l . grad H)/2.

    H^2 commutes with H, so that sde.flow_twist's [H', H] is half of [laplace H + grad l . grad H, H]: no law for which
    that is not 0 has an optimal flow. Shown for the entry 12, in a basis of any direction: commutators know no more.
    """
    entry = Derivative(log_p, x_1, x_2)
    carried = (Derivative(log_p, axis) * Derivative(entry, axis) for axis in axes)
    yield Derivative(entry, t) - sum(carried, start=Integer(0)) / 2
    terms = (
        Derivative(log_p, x_1, axis) * Derivative(log_p, axis, x_2)
        + (Derivative(entry, (axis, 2)) + Derivative(log_p, axis) * Derivative(entry, axis)) / 2
        for axis in axes
    )
    yield algebra, sum(terms, start=Integer(0))


s = positive("s")
b_1, b_2 = real("b_1 b_2")
share = unit("q")


four = (  # two Gaussians of variance s in the plane at +-(d, e), two others at another such pair; to a factor
    sum(
        weight * sum(exp(-((x_1 - side * d) ** 2 + (x_2 - side * e) ** 2) / (2 * s)) for side in (1, -1))
        for weight, d, e in ((share, a, Integer(0)), (1 - share, b_1, b_2))
    )
    / s
)
origin = (axes, (0, 0))
SLOPES = tuple(Subs(Derivative(log(four), axis), *origin) for axis in axes)
MIXED = Subs(Derivative(log(four), x_1, x_2), *origin)  # H_12, and H_11 - H_22:
BALANCE = Subs(Derivative(log(four), (x_1, 2)) - Derivative(log(four), (x_2, 2)), *origin)


near = share * exp(-(a**2) / (2 * s))
far = (1 - share) * exp(-(b_1**2 + b_2**2) / (2 * s))


@claim("sde.centre_hessian", week=5, source="Lavenant & Santambrogio 2022", covers="sde.not_optimal_transport")
def centre_hessian():
    "Of four Gaussians at +-(a, 0) and +-(b_1, b_2) the origin is a rest point of the flow, with this Hessian of log p."
    responsibility = yield let("responsibility", near / (near + far))
    for slope in SLOPES:
        yield slope
        yield algebra, Integer(0)
    yield MIXED
    yield algebra, (1 - responsibility) * b_1 * b_2 / s**2
    yield BALANCE
    yield algebra, (responsibility * a**2 + (1 - responsibility) * (b_1**2 - b_2**2)) / s**2


@claim(
    "sde.not_optimal_transport",
    week=5,
    source="Lavenant & Santambrogio 2022",
    covers="sde.not_optimal_transport",
)
def not_optimal_transport():
    """The probability-flow map is not optimal in general: on four Gaussians its Jacobian at 0 is not symmetric.

    They have variance s, weights q/2 at +-(a, 0) and (1 - q)/2 at +-(b_1, b_2); r is the first pair's responsibility.
    The map from variance s to s + h has, by sde.flow_twist and with the H of sde.centre_hessian, A_12 - A_21 =
    twist h^3 + O(h^4) there: not 0 unless the pairs are parallel, orthogonal or as far out as each other. By
    sde.optimal_is_curl_free it is not optimal.
    """
    responsibility = yield let("responsibility", near / (near + far))
    twist = yield let(
        "twist", responsibility * (1 - responsibility) * a**2 * b_1 * b_2 * (a**2 - b_1**2 - b_2**2) / (48 * s**6)
    )
    H_12 = (1 - responsibility) * b_1 * b_2 / s**2
    yield MIXED
    yield by(centre_hessian, chain=2), H_12
    H_gap = (responsibility * a**2 + (1 - responsibility) * (b_1**2 - b_2**2)) / s**2
    yield (H_12 * Derivative(H_gap, s) - Derivative(H_12, s) * H_gap) / 24  # [H', H]_12/24
    yield algebra, twist
