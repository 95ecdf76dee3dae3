r"""Paths of laws: which maps the probability flow makes, what correctors keep, when modes and frequencies appear.

Numbers that a claim gives in closed form are the claim's own expressions (`said`). Everything here but the corrector's
draws is deterministic: exact densities, denoisers and posteriors of worlds, integrated to ten digits or more.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from functools import cache

import sympy as sp
import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from diffusion import langevin, schedules, spectrum, transport
from diffusion.schedules import Schedule, cosine
from theory.proof import find
from toy import line
from toy.field import Field
from toy.flow import trajectory
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World
from verify.checks.chains import noise, scalar
from verify.statistics import covariance, exact, scale
from verify.worlds import FALSE_FAIL, Outcome, world_check

N = 20_000


@cache
def said(claim: str, part: str) -> Callable[..., float]:
    """A part of a claim as a function of its symbols by name."""
    for module in ("sde", "transport"):
        importlib.import_module(f"theory.{module}")
    expression = find(claim).part(part)
    symbols = sorted(expression.free_symbols, key=str)
    function = sp.lambdify(symbols, expression, "math")
    return lambda **values: float(function(*(values[symbol.name] for symbol in symbols)))


def level(schedule: Schedule, t: float) -> tuple[float, float]:
    alpha, sigma, _, _ = schedule.kernel(scalar(t))
    return float(alpha), float(sigma)


# ----------------------------------------------------------------------------------------------------- one family


@world_check(
    *("sde.lambda_family", "sde.lambda_family_vector", "sde.probability_flow", "sde.anderson"),
    worlds=("anisotropic", "spiral", "bimodal", "high_dimensional"),
)
def backward_equations(world: World, generator: Generator) -> Iterator[Outcome]:
    """-p_t/p = div b + b s + lambda^2 g^2/2 (div s + |s|^2) for the drift b of every lambda, s the exact score.

    div s comes from the posterior's covariance, p_t from the density at two times.
    """
    t, step = scalar(0.35), 1e-5
    alpha, sigma, f, g2 = _coefficients(t)
    _, x = world.noised(200, alpha, sigma, generator)
    late, early = (world.log_density(x, *level(cosine(), float(t) + side * step)) for side in (1, -1))
    change = -(late - early) / (2 * step)
    score = world.score(x, alpha, sigma)
    spread = world.posterior_covariance(x, alpha, sigma).diagonal(dim1=-2, dim2=-1).sum(-1)
    bend = alpha**2 / sigma**4 * spread - world.dim / sigma**2
    square = (score**2).sum(-1)
    for lam in (0.0, 0.5, 1.0, 3.0):
        pull = (1 + lam**2) / 2 * g2
        flux = f * (world.dim + (x * score).sum(-1)) - pull * (bend + square)
        error = (flux + lam**2 * g2 / 2 * (bend + square) - change).abs() / (1 + change.abs())
        yield f"lambda = {lam:g}", exact(float(error.max()), 1e-6, "relative error of the density's rate of change")


def _coefficients(t: Tensor) -> tuple[float, float, float, float]:
    """alpha, sigma, f and g^2 of the cosine schedule."""
    alpha, sigma, alpha_dot, sigma_dot = cosine().kernel(t)
    g2 = schedules.diffusion2(alpha, sigma, alpha_dot, 2 * sigma * sigma_dot)
    return float(alpha), float(sigma), float(schedules.drift(alpha, alpha_dot)), float(g2)


# ------------------------------------------------------------------------------------------------------ transport


@world_check("sde.optimal_transport_1d", "sde.flow_quantile", "sde.flow_increasing", worlds=("bimodal",))
def flow_on_the_line(world: World, generator: Generator) -> Iterator[Outcome]:
    """From the data to the noise the flow maps quantile to quantile, and no pairing of points is cheaper."""
    assert isinstance(world, Mixture)
    u = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    start = line.quantile(world, u)
    for name, (alpha, sigma) in {"half way": (0.6, 0.8), "noise": (0.0, 1.0)}.items():
        end = _moved(world, start[:, None], (1.0, 0.0), (alpha, sigma))
        error = (end[:, 0] - line.quantile(world, u, alpha, sigma)).abs().max()
        yield f"{name}, quantiles", exact(float(error), 1e-6, "distance to the quantile")
        x = world.sample(1000, generator)
        y = _moved(world, x, (1.0, 0.0), (alpha, sigma))
        paid = float(((x - y) ** 2).mean())
        yield f"{name}, cost", exact(paid / line.between_samples(x, y) - 1, 1e-12, "relative excess of the cost")


def _moved(world: World, x: Tensor, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
    """x carried along the exact flow from one level to another."""
    alpha, sigma = (torch.tensor(levels, dtype=torch.float64) for levels in zip(start, end, strict=True))
    return trajectory(world, x, alpha, sigma, 1e-11)[-1]


@world_check("sde.optimal_transport_commuting", "sde.gaussian_flow", "sde.gaussian_map", worlds=("gaussian",))
def flow_between_gaussians(world: World, generator: Generator) -> Iterator[Outcome]:
    """Along each eigenvector the flow is the map between two Gaussians, at their cost, and no pairing is cheaper."""
    assert isinstance(world, Mixture)
    basis = torch.eye(world.dim, dtype=torch.float64) if world.basis is None else world.basis[0]
    mu, v = world.means[0] @ basis, world.variances[0]
    for alpha, sigma in ((0.6, 0.8), (0.0, 1.0)):
        nu, w = alpha * mu, alpha**2 * v + sigma**2
        x = world.sample(300, generator)
        y = _moved(world, x, (1.0, 0.0), (alpha, sigma))
        optimal = transport.gaussian_map(x @ basis, *(part[None] for part in (mu, v, nu, w))) @ basis.T
        yield f"alpha = {alpha}, map", exact(float((y - optimal).abs().max()), 1e-8, "distance")
        yield f"alpha = {alpha}, pairing", exact(_excess(x, y), 1e-9, "relative excess of the cost")
        u = torch.cat([torch.eye(2, dtype=torch.float64), -torch.eye(2, dtype=torch.float64)]) * math.sqrt(world.dim)
        corners = (mu + u * v.sqrt()) @ basis.T  # points of the law's mean and covariance: a quadratic's exact mean
        cost = ((corners - _moved(world, corners, (1.0, 0.0), (alpha, sigma))) ** 2).sum(-1).mean()
        error = (cost - transport.gaussian_cost(mu, v, nu, w).sum()).abs()
        yield f"alpha = {alpha}, cost", exact(float(error), 1e-8, "squared distance")


def _excess(x: Tensor, y: Tensor) -> float:
    """By how much pairing x_i with y_i costs more than the cheapest pairing of these points, relatively."""
    cost = ((x[:, None] - y) ** 2).sum(-1)
    rows, columns = linear_sum_assignment(cost.numpy())
    return float(cost.diagonal().sum() / cost[rows, columns].sum()) - 1


FOUR = {"a": 2.0, "b_1": 0.7, "b_2": 0.9, "q": 0.6, "s": 1.0}  # no symmetry but that under x -> -x


@world_check(
    *("sde.not_optimal_transport", "sde.flow_twist", "sde.centre_hessian", "sde.flow_jacobian"), worlds=("anisotropic",)
)
def flow_in_the_plane(world: World, generator: Generator) -> Iterator[Outcome]:
    """On four Gaussians the Jacobian's asymmetry is the claim's, h^3; on three, the flow pays more than it need."""
    del generator
    a, b, q, s = FOUR["a"], (FOUR["b_1"], FOUR["b_2"]), FOUR["q"], FOUR["s"]
    means = torch.tensor([[a, 0.0], [-a, 0.0], b, [-b[0], -b[1]]], dtype=torch.float64)
    four = Mixture("four", torch.tensor([q, q, 1 - q, 1 - q], dtype=torch.float64), means, s / 2)
    twist = said("sde.not_optimal_transport", "twist")(**FOUR)
    long, short, shorter = (_twisted(four, s / 2, h) / h**3 for h in (0.08, 0.04, 0.02))
    settled = (8 * shorter - 6 * short + long) / 3  # without its parts in h and h^2
    yield "asymmetry over h^3", exact(abs(settled / twist - 1), 1e-3, "relative error of the leading term")
    yield "order", exact(abs(math.log2(short / shorter)), 0.1, "order, above 3")

    x = world.sample(300, Generator().manual_seed(0))  # always these: of some other points the flow's pairing is best
    y = _moved(world, x, (1.0, 0.0), (0.0, 1.0))
    yield "a cheaper pairing", exact(max(1e-4 - _excess(x, y), 0.0), 0.0, "relative excess of the cost, short of 1e-4")


def _twisted(world: Mixture, variance: float, h: float, steps: int = 20) -> float:
    """A_12 - A_21 at the origin, A the Jacobian of the flow's map from noise of this variance to h more.

    The origin rests, so that A' = -H A/2 in the noise's variance: classical Runge-Kutta, with exact Hessians H.
    """
    A, origin = torch.eye(2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)

    def rate(at: float, A: Tensor) -> Tensor:
        H = world.posterior_covariance(origin, 1.0, math.sqrt(at))[0] / at**2 - torch.eye(2) / at
        return -H @ A / 2

    step = h / steps
    for at in (variance + i * step for i in range(steps)):
        k_1 = rate(at, A)
        k_2 = rate(at + step / 2, A + step / 2 * k_1)
        k_3 = rate(at + step / 2, A + step / 2 * k_2)
        k_4 = rate(at + step, A + step * k_3)
        A = A + step / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    return float(A[0, 1] - A[1, 0])


@world_check("sde.optimal_is_curl_free", "sde.flow_jacobian", worlds=("gaussian", "anisotropic"))
def flow_jacobians(world: World, generator: Generator) -> Iterator[Outcome]:
    """Differenced along the axes, the map from data to noise has a symmetric Jacobian on one Gaussian, not on three."""
    x, h = world.sample(40, generator), 1e-4
    shifts = torch.cat([x + side * h * axis for axis in torch.eye(2, dtype=torch.float64) for side in (1, -1)])
    ends = _moved(world, shifts, (1.0, 0.0), (0.0, 1.0)).reshape(2, 2, len(x), 2)
    J = (ends[:, 0] - ends[:, 1]) / (2 * h)  # [j, batch, i]
    twist = (J[1, :, 0] - J[0, :, 1]).abs() / J.abs().sum((0, 2))
    if world.name == "gaussian":
        yield "asymmetry", exact(float(twist.max()), 1e-6, "asymmetry over the Jacobian's size")
    else:
        missing = max(0.05 - float(twist.max()), 0.0)
        yield "asymmetry", exact(missing, 0.0, "asymmetry over the Jacobian's size, short of 0.05")


# ----------------------------------------------------------------------------------------------------- correctors


@world_check("sde.corrector_bias", "sde.corrector_snr", worlds=("gaussian",))
def corrector(world: World, generator: Generator) -> Iterator[Outcome]:
    """The chain's variance, step by step and where it settles; draws in the biased law stay in it."""
    assert isinstance(world, Mixture)
    one, none = scalar(1.0), scalar(0.0)
    for v, A in ((0.5, 0.1), (2.0, 0.4), (1.0, 0.8)):
        h, w = scalar(2 * v * A), scalar(3.0)
        pull = langevin.corrector_step(one, -one / v, none, h)  # the step is linear in x and in z
        push = langevin.corrector_step(none, none, one, h)
        for n in range(1, 31):
            w = pull**2 * w + push**2
            if n in (1, 4, 30):
                after = langevin.variance_after(scalar(3.0), scalar(v), scalar(A), scalar(float(n)))
                yield f"v = {v}, A = {A}, {n} steps", exact(abs(float(after / w) - 1), 1e-13, "relative error")
        settled = langevin.stationary_variance(scalar(v), scalar(A))
        yield f"v = {v}, A = {A}, settled", exact(abs(float((pull**2 * settled + push**2) / settled) - 1), 1e-13, "-")

    alpha, sigma = level(cosine(), 0.4)
    law = world.at(alpha, sigma)
    basis = torch.eye(world.dim, dtype=torch.float64) if law.basis is None else law.basis[0]
    h = 0.9 * law.variances.min()  # A up to 0.45
    wide = langevin.stationary_variance(law.variances[0], h / (2 * law.variances[0]))
    x = law.means + (noise(torch.empty(N, world.dim, dtype=torch.float64), generator) * wide.sqrt()) @ basis.T
    for _ in range(4):
        x = langevin.corrector_step(x, world.score(x, alpha, sigma), noise(x, generator), h)
    residual = ((x - law.means) @ basis / wide.sqrt()).numpy()
    yield "draws, variance", scale(residual, FALSE_FAIL)
    yield "draws, covariance", covariance(residual, FALSE_FAIL)

    z = noise(torch.empty(N, world.dim, dtype=torch.float64), generator)
    for v in (1e-4, 1.0, 2500.0):  # |x| = sqrt(v) |z|: the norms at which the rule is exact
        fraction = langevin.step_length(-z.flip(1) / math.sqrt(v), z, 0.16) / (2 * v)
        yield f"r = 0.16, v = {v:g}", exact(abs(float(fraction / 0.16**2 - 1)), 1e-12, "relative error of the step")


# ----------------------------------------------------------------------------------------------- reverse kernels


@world_check(
    *("sde.reverse_kernel_gaussian", "sde.reverse_kernel_mixture", "sde.mixture_cumulants"), worlds=("bimodal",)
)
def reverse_kernel(world: World, generator: Generator) -> Iterator[Outcome]:
    """q(x_s | x_t) of two points by Bayes' rule on a grid: its cumulants are as claimed, and fade as fast."""
    del world, generator
    pair = Points("pair", torch.tensor([[1.0], [-1.0]], dtype=torch.float64))
    x_t, t = 0.2, 0.5
    alpha, sigma = level(cosine(), t)
    rho = 1 / (1 + math.exp(-2 * alpha * x_t / sigma**2))
    skew, kurtosis = [], []
    for h in (0.2, 0.01, 0.005):
        alpha_s, sigma_s = level(cosine(), t - h)
        kept = alpha / alpha_s
        values = {"mu": alpha_s, "r": kept, "w": sigma_s**2, "v": sigma**2 - (kept * sigma_s) ** 2}
        apart, variance = (said("sde.reverse_kernel_mixture", part)(**values) for part in ("apart", "variance"))
        measured = _cumulants(pair, x_t, kept, values["v"], alpha_s, sigma_s)
        for name, found in zip(("variance", "third", "fourth"), measured, strict=True):
            expected = said("sde.mixture_cumulants", name)(rho=rho, d=apart, v=variance)
            yield f"h = {h}, {name}", exact(abs(found / expected - 1), 1e-6, "relative error of the cumulant")
        skew.append(measured[1] ** 2 / measured[0] ** 3)
        kurtosis.append(abs(measured[2]) / measured[0] ** 2)
    yield "skewness squared, order", exact(abs(math.log2(skew[1] / skew[2]) - 3), 0.1, "order")
    yield "excess kurtosis, order", exact(abs(math.log2(kurtosis[1] / kurtosis[2]) - 2), 0.1, "order")


def _cumulants(world: World, x_t: float, kept: float, v: float, alpha: float, sigma: float) -> list[float]:
    """Second to fourth cumulant of x_s given x_t = kept x_s + N(0, v), by the trapezoid rule."""
    x = torch.linspace(-9, 9, 200_001, dtype=torch.float64)
    share = (world.log_density(x[:, None], alpha, sigma) - (x_t - kept * x) ** 2 / (2 * v)).softmax(0)
    away = x - (share * x).sum()
    second, third, fourth = (float((share * away**power).sum()) for power in (2, 3, 4))
    return [second, third, fourth - 3 * second**2]


# ------------------------------------------------------------------------------------ when modes and waves appear


@world_check("sde.speciation", "sde.speciation_drift", worlds=("bimodal",))
def speciation(world: World, generator: Generator) -> Iterator[Outcome]:
    """Modes are counted, curvatures taken from the posterior, and the drifts' turning points found by bisection."""
    assert isinstance(world, Mixture)
    m, v = float(world.means.max()), float(world.variances.max())
    parts_at = math.sqrt(1 / (1 + m**2 - v))  # alpha at which alpha^2 (m^2 - v) = 1 - alpha^2
    for alpha, modes in ((parts_at * 1.01, 2), (parts_at * 0.99, 1), (0.999, 2), (0.0, 1)):
        sigma = math.sqrt(1 - alpha**2)
        x = torch.linspace(-4, 4, 8000, dtype=torch.float64)[:, None]
        rising = world.score(x, alpha, sigma)[:, 0] > 0
        found = int((rising[:-1] & ~rising[1:]).sum())
        yield f"alpha = {alpha:.3f}, modes", exact(abs(found - modes), 0.0, "modes")
        w = alpha**2 * v + sigma**2
        error = _curvature(world, alpha) - said("sde.speciation", "curvature")(mu=alpha * m, w=w)
        yield f"alpha = {alpha:.3f}, curvature", exact(abs(error), 1e-9, "curvature of log p at 0")
        margin = said("sde.speciation", "margin")(alpha=alpha, sigma=sigma, m=m, v=v)
        yield f"alpha = {alpha:.3f}, margin", exact(abs(margin - w**2 * _curvature(world, alpha)), 1e-9, "of the sign")
    for lam in (0.3, 1.0, 3.0):
        low, high = 0.0, 1.0
        for _ in range(60):  # the slope of x/2 + (1 + lambda^2)/2 score at 0, beta = 1, rises with alpha^2
            middle = (low + high) / 2
            pushed = 1 + (1 + lam**2) * _curvature(world, math.sqrt(middle)) > 0
            low, high = (low, middle) if pushed else (middle, high)
        root = said("sde.speciation_drift", "root")(**{"lambda": lam})
        yield f"lambda = {lam:g}, drift", exact(abs(low * m**2 - root), 1e-9, "alpha^2 m^2 at the turn")


def _curvature(world: World, alpha: float) -> float:
    """(log p)'' at 0 at the level alpha^2 + sigma^2 = 1, by Tweedie's second formula."""
    origin, variance = torch.zeros(1, 1, dtype=torch.float64), 1 - alpha**2
    return float(alpha**2 * world.posterior_covariance(origin, alpha, math.sqrt(variance))) / variance**2 - 1 / variance


@world_check("sde.spectrum", worlds=("field",))
def spectrum_of_images(world: World, generator: Generator) -> Iterator[Outcome]:
    """The exact denoiser keeps SNR/(1 + SNR) of every frequency, half at its crossing, and coarse ones cross first."""
    assert isinstance(world, Field)
    k, S = world.frequency, world.spectrum
    a, c = _power_law(k, S)
    waves = torch.eye(world.dim, dtype=torch.float64)[:: max(1, world.dim // 64)]
    which = waves.argmax(-1)
    for sigma in (0.05, 0.5, 5.0):
        gain = 0.8 * world.hartley(world.denoiser(world.hartley(waves), 0.8, sigma))[torch.arange(len(which)), which]
        snr = c * spectrum.snr(scalar(0.8), scalar(sigma), k[which], a)
        yield f"sigma = {sigma}, gain", exact(float((gain - snr / (1 + snr)).abs().max()), 1e-10, "gain")
    crossing = math.sqrt(c) * spectrum.crossing(k[which], a)
    for i in (0, len(which) // 2, len(which) - 1):
        kept = world.hartley(world.denoiser(world.hartley(waves[i : i + 1]), 1.0, float(crossing[i])))[0, which[i]]
        yield f"k = {float(k[which[i]]):.1f}, crossing", exact(abs(float(kept) - 0.5), 1e-10, "gain")
    order = k[which].argsort()
    yield "coarse to fine", exact(float(crossing[order].diff().max().clamp(min=0)), 1e-12, "sigma/alpha")


def _power_law(k: Tensor, S: Tensor) -> tuple[Tensor, float]:
    """a and c of S = c k^-a, from its two ends."""
    low, high = k.argmin(), k.argmax()
    a = torch.log(S[low] / S[high]) / torch.log(k[high] / k[low])
    return a, float(S[low] * k[low] ** a)
