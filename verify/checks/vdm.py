r"""The continuous-time bound with exact denoisers: an equality, on every schedule, and a derivative of information.

Means over eps are Gauss-Hermite quadratures, integrals over time Gauss-Legendre: nothing here is drawn unless it says
so. For the exact denoiser the bound has no slack at any x_0, not on average only:

    KL(q(x_a | x_0) || p_a) - KL(q(x_b | x_0) || p_b) = int_a^b rate SNR E|x_0 - D|^2 dt
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from diffusion import vdm
from diffusion.schedules import Schedule, cosine, flow, vp_linear
from diffusion.vdm import TimeDensity
from toy.mixture import Mixture
from toy.world import World
from verify.statistics import Verdict, exact, mean_zero
from verify.worlds import FALSE_FAIL, Outcome, world_check

NEAR, FAR = 2.0, -2.0  # half_log_snr at the two ends
SCHEDULES: dict[str, Callable[[], Schedule]] = {"vp_linear": vp_linear, "cosine": cosine, "flow": flow}
POINTS = 2  # x_0 looked at


def legendre(start: float, end: float, panels: int, nodes: int = 10) -> tuple[Tensor, Tensor]:
    """Nodes and weights of composite Gauss-Legendre quadrature."""
    x, w = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(nodes))
    edges = torch.linspace(start, end, panels + 1, dtype=torch.float64)
    half = edges.diff()[:, None] / 2
    return ((edges[:-1, None] + half) + half * x).flatten(), (half * w).flatten()


def hermite(nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes [nodes^2, 2] and weights of E over N(0, I) in the plane."""
    x, w = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(nodes))
    w = w / w.sum()
    return torch.cartesian_prod(x, x), (w[:, None] * w).flatten()


def ends(schedule: Schedule) -> tuple[float, float]:
    """The times of the two ends."""
    a, b = schedule.time_of(torch.tensor([NEAR, FAR], dtype=torch.float64)).tolist()
    return a, b


def error(world: World, x_0: Tensor, alpha: Tensor, sigma: Tensor, nodes: int) -> Tensor:
    """E|x_0 - D(alpha x_0 + sigma eps)|^2 of one point at each level [times]."""
    eps, w = hermite(nodes)
    a, s = (v.repeat_interleave(len(eps)) for v in (alpha, sigma))
    x_t = a[:, None] * x_0 + s[:, None] * eps.repeat(len(alpha), 1)
    squares = (x_0 - world.denoiser(x_t, a, s)).square().sum(1)
    return squares.reshape(len(alpha), -1) @ w


def diffusion(world: World, schedule: Schedule, x_0: Tensor, nodes: int, panels: int = 16) -> float:
    """int_a^b rate SNR E|x_0 - D|^2 dt of one point."""
    t, w = legendre(*ends(schedule), panels)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    weight = vdm.continuous_weight(alpha, sigma, -schedule.half_log_snr_dot(t))
    return float((weight * error(world, x_0, alpha, sigma, nodes)) @ w)


def divergence(world: World, x_0: Tensor, alpha: float, sigma: float, nodes: int) -> float:
    """KL(q(x_t | x_0) || p_t) of one point."""
    eps, w = hermite(nodes)
    log_q = -(eps**2).sum(1) / 2 - world.dim * math.log(math.sqrt(2 * math.pi) * sigma)
    return float((log_q - world.log_density(alpha * x_0 + sigma * eps, alpha, sigma)) @ w)


def level(schedule: Schedule, t: float) -> tuple[float, float]:
    time = torch.tensor(t, dtype=torch.float64)
    return float(schedule.alpha(time)), float(schedule.sigma(time))


@world_check(
    *("vdm.continuous_bound", "vdm.rate", "vdm.divergence_change", "vdm.divergence_rate", "vdm.integrand"),
    "vdm.reversed_kernel",
    worlds=("gaussian", "ring"),
)
def bound_without_slack(world: World, generator: Generator) -> Iterator[Outcome]:
    """The integral is what the divergence loses from a to b, at each x_0; for Gaussian data the bound is -log p."""
    schedule = cosine()
    a, b = ends(schedule)
    nodes = 8 if world.name == "gaussian" else 40
    for i, x_0 in enumerate(world.sample(POINTS, generator)):
        lost = divergence(world, x_0, *level(schedule, a), nodes) - divergence(world, x_0, *level(schedule, b), nodes)
        gained = diffusion(world, schedule, x_0, nodes)
        yield f"x_0 number {i}", exact(abs(gained - lost) / abs(lost), 1e-5, "relative")
        if world.name == "gaussian":
            alpha, sigma = level(schedule, a)
            eps, w = hermite(nodes)
            x_a = alpha * x_0 + sigma * eps
            law = torch.distributions.MultivariateNormal(
                world.denoiser(x_a, alpha, sigma), world.posterior_covariance(x_a, alpha, sigma)
            )
            prior = divergence(world, x_0, *level(schedule, b), nodes)
            total = prior + gained - float(law.log_prob(x_0) @ w)
            yield f"x_0 number {i}, -log p", exact(abs(total + float(world.log_density(x_0[None]))), 1e-9, "nats")


@world_check("vdm.schedule_invariance", "vdm.only_snr", "vdm.nelbo_eps", worlds=("gaussian", "ring"))
def one_bound_for_all_schedules(world: World, generator: Generator) -> Iterator[Outcome]:
    """Between the same ends of half_log_snr the integral is one number, in t on any schedule and in half_log_snr."""
    (x_0,) = world.sample(1, generator)
    nodes = 8 if world.name == "gaussian" else 16  # whatever they miss, they miss on every schedule
    l, w = legendre(FAR, NEAR, panels=32)
    in_eps = torch.exp(2 * l) * error(world, x_0, torch.ones_like(l), torch.exp(-l), nodes)
    whole = float(in_eps @ w)
    for name, schedule in SCHEDULES.items():
        apart = abs(diffusion(world, schedule(), x_0, nodes, panels=32) / whole - 1)
        yield name, exact(apart, 1e-8, "relative")


@world_check("vdm.signed_integral", worlds=("ring",))
def there_and_back(world: World, generator: Generator) -> Iterator[Outcome]:
    """half_log_snr = NEAR to FAR with a detour: the signed integral is the same, but not when weighed by |SNR'|."""
    (x_0,) = world.sample(1, generator)
    t, w = legendre(0, 1, panels=48)
    detour = 3.0
    l = NEAR + (FAR - NEAR) * t + detour * torch.sin(2 * math.pi * t)
    slope = FAR - NEAR + 2 * math.pi * detour * torch.cos(2 * math.pi * t)
    integrand = torch.exp(2 * l) * error(world, x_0, torch.ones_like(l), torch.exp(-l), 24)
    whole = diffusion(world, cosine(), x_0, 24)
    yield "signed", exact(abs(float((-slope * integrand) @ w) / whole - 1), 1e-7, "relative")
    yield "weighed by size it is larger", exact(1.2 - float((slope.abs() * integrand) @ w) / whole, 0.0, "ratio")


@world_check("vdm.refinement", "vdm.refinement_limit", "vdm.continuum", "vdm.step", worlds=("ring",))
def refined_grids(world: World, generator: Generator) -> Iterator[Outcome]:
    """Halving all steps lowers the mean bound to the integral, its excess halved; not if the error rises with SNR."""
    assert isinstance(world, Mixture)
    schedule, finest = cosine(), 64
    a, b = ends(schedule)
    times = torch.linspace(a, b, finest + 1, dtype=torch.float64)
    errors = torch.tensor([left_open(world, *level(schedule, t)) for t in times.tolist()], dtype=torch.float64)
    spoilt = errors + torch.exp(4 * (schedule.half_log_snr(times) - 1))

    def bound(T: int, errors: Tensor) -> float:
        kept = slice(None, None, finest // T)
        return float(vdm.step_weights(schedule, times[kept]) @ errors[kept][1:])

    bounds = [bound(T, errors) for T in (8, 16, 32, 64)]
    t, w = legendre(a, b, panels=2)
    opened = torch.tensor([left_open(world, *level(schedule, t)) for t in t.tolist()], dtype=torch.float64)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    whole = float((vdm.continuous_weight(alpha, sigma, -schedule.half_log_snr_dot(t)) * opened) @ w)
    excess = [value - whole for value in bounds]
    yield "falls", exact(max(fine - coarse for coarse, fine in pairwise(bounds)), 0.0, "nats")
    yield "stays above the integral", exact(-min(excess), 0.0, "nats")
    yield "order 1", exact(abs(math.log2(abs(excess[-2] / excess[-1])) - 1), 0.1, "order")
    gained = 2 * bound(8, torch.ones_like(errors)) / (math.exp(2 * NEAR) - math.exp(2 * FAR))
    yield "a constant error costs half of the SNR gained", exact(abs(gained - 1), 1e-10, "relative")
    yield "an error that rises with SNR", exact(bound(32, spoilt) - bound(64, spoilt), 0.0, "nats")


@world_check("vdm.i_mmse", "vdm.channel", worlds=("gaussian", "ring"))
def information_rate(world: World, generator: Generator) -> Iterator[Outcome]:
    """The entropy of sqrt(s) x_0 + eps grows with s by half of what is left open about x_0, both by quadrature."""
    assert isinstance(world, Mixture)
    for s in (0.5, 2.0):
        h = 0.02 * s
        e = [world.at(math.sqrt(s + k * h), 1.0).entropy() for k in (-2, -1, 1, 2)]
        rate = (e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)
        yield f"s = {s:g}", exact(abs(2 * rate / left_open(world, math.sqrt(s), 1.0) - 1), 1e-6, "relative")


def left_open(world: Mixture, alpha: float, sigma: float) -> float:
    """E tr Cov(x_0 | x_t), on a lattice over all of x_t's law."""
    around = world.at(alpha, sigma)
    narrow, wide = float(around.variances.min().sqrt()), float(around.variances.max().sqrt())
    reach = float(around.means.abs().max()) + 6 * wide
    axis = torch.arange(-reach, reach, narrow / 2, dtype=torch.float64)
    x_t = torch.cartesian_prod(axis, axis)
    opened = world.posterior_covariance(x_t, alpha, sigma).diagonal(dim1=1, dim2=2).sum(1)
    density = around.log_density(x_t).exp()
    return float((density * opened).sum() / density.sum())


# ------------------------------------------------------------------------------------------------ which times to draw


def moments(world: World, schedule: Schedule, x_0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """E[L | t] and E[L^2 | t], L = rate SNR |x_0 - D|^2, of one point of a Gaussian world."""
    eps, w = hermite(8)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    a, s = (v.repeat_interleave(len(eps)) for v in (alpha, sigma))
    x_t = a[:, None] * x_0 + s[:, None] * eps.repeat(len(t), 1)
    squares = (x_0 - world.denoiser(x_t, a, s)).square().sum(1).reshape(len(t), -1)
    weight = vdm.continuous_weight(alpha, sigma, -schedule.half_log_snr_dot(t))
    return weight * (squares @ w), weight**2 * (squares**2 @ w)


@world_check("vdm.time_density", worlds=("gaussian",))
def least_variance(world: World, generator: Generator) -> Iterator[Outcome]:
    """The density of recorded losses comes to the least second moment, no other below; draws have that mean."""
    assert isinstance(world, Mixture)
    schedule, x_0 = cosine(), world.means[0] + 2.0  # far from the mean, where the losses of early and late times differ
    a, b = ends(schedule)
    t, w = legendre(a, b, panels=64)
    mean, square = moments(world, schedule, x_0, t)
    least = float(square.sqrt() @ w) ** 2
    edges = torch.linspace(a, b, 65, dtype=torch.float64)
    best = TimeDensity.of_losses(edges, t, square.sqrt())
    densities = {"uniform": TimeDensity.uniform(a, b), "recorded": best}
    seconds = {name: float((square / density.at(t)) @ w) for name, density in densities.items()}
    yield "recorded losses", exact(seconds["recorded"] / least - 1, 0.01, "relative second moment")
    yield "none below", exact(1 - min(seconds.values()) / least, 0.0, "relative second moment")
    yield "uniform is far above", exact(1.5 - seconds["uniform"] / least, 0.0, "relative second moment")

    whole, n = float(mean @ w), 20_000
    for name, density in densities.items():
        times = density.times(vdm.spaced(n, generator, "independent"))
        loss = vdm.diffusion_loss(
            lambda x, t: world.denoiser(x, schedule.alpha(t), schedule.sigma(t)),
            schedule, x_0.expand(n, -1), times, density.at(times), generator,
        )  # fmt: skip
        yield f"{name}, mean", _mean(loss - whole, seconds[name] - whole**2)


def _mean(deviation: Tensor, variance: float) -> Verdict:
    return mean_zero(deviation.numpy(), np.full(len(deviation), variance), FALSE_FAIL)
