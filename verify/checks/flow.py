r"""Flow matching on worlds: what moves a law, what a coupling changes, which noise a bridge may have.

A velocity v moves the density p just when, at every point,

    d/dt log p + div v + v s = 0,        and with noise sqrt(2 e)        d/dt log p + div b + b s = e (div s + |s|^2)

for the drift b and the score s; e < 0 runs backward. Looked at with exact densities, in time by central differences;
divergences come from the posterior's covariance, or central differences. Only draws of couplings are statistical.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from diffusion import flow, parameterization
from diffusion.schedules import Schedule, cosine, vp_linear
from diffusion.schedules import flow as straight
from toy import line
from toy.couplings import GaussianPair, Interpolant, assigned
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World
from toy.worlds import bimodal
from verify.checks.chains import noise, scalar
from verify.checks.vdm import hermite
from verify.statistics import covariance, exact, regression, scale
from verify.worlds import FALSE_FAIL, Outcome, world_check

N = 20_000
STEP = 1e-5  # of central differences
SCHEDULES: dict[str, Callable[[], Schedule]] = {"flow": straight, "cosine": cosine}


def velocity(world: World, schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    """E[alpha' x_0 + sigma' eps | x_t = x]: the conditional velocity is linear in x_0, so it is put in at its mean."""
    alpha, sigma, alpha_dot, sigma_dot = schedule.kernel(t)
    denoised = world.denoiser(x, float(alpha), float(sigma))
    return flow.conditional_velocity(x, denoised, alpha, sigma, alpha_dot, sigma_dot)


def carried(world: World, schedule: Schedule, x: Tensor, start: float, end: float, steps: int = 100) -> Tensor:
    """x moved with the velocity from one time to another, by the classical Runge-Kutta method."""
    h = (end - start) / steps
    for k in range(steps):
        t = start + k * h
        first = velocity(world, schedule, x, scalar(t))
        second = velocity(world, schedule, x + h / 2 * first, scalar(t + h / 2))
        third = velocity(world, schedule, x + h / 2 * second, scalar(t + h / 2))
        fourth = velocity(world, schedule, x + h * third, scalar(t + h))
        x = x + h / 6 * (first + 2 * second + 2 * third + fourth)
    return x


def divergence(field: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Sum of the diagonal slopes, by central differences."""
    total = torch.zeros(len(x), dtype=x.dtype)
    for i, shift in enumerate(STEP * torch.eye(x.shape[1], dtype=x.dtype)):
        total += (field(x + shift) - field(x - shift))[:, i] / (2 * STEP)
    return total


# ------------------------------------------------------------------------------------------------ marginal velocities


@world_check(
    *("flow.continuity", "flow.marginal_velocity", "flow.gaussian_velocity"),
    *("flow.pf_ode_is_flow", "flow.velocity_score_eps"),
    worlds=("ring", "anisotropic", "bimodal", "high_dimensional"),
)
def moves_the_law(world: World, generator: Generator) -> Iterator[Outcome]:
    """The mean conditional velocity satisfies the continuity equation of p_t, and is the one that the score gives."""
    t = 0.4
    for name, schedule in ((name, make()) for name, make in SCHEDULES.items()):
        alpha, sigma, alpha_dot, sigma_dot = schedule.kernel(scalar(t))
        _, x = world.noised(200, float(alpha), float(sigma), generator)
        late, early = (
            world.log_density(x, *(float(level) for level in schedule.kernel(scalar(t + side * STEP))[:2]))
            for side in (1, -1)
        )
        score, v = world.score(x, float(alpha), float(sigma)), velocity(world, schedule, x, scalar(t))
        change = (late - early) / (2 * STEP)
        spread = world.posterior_covariance(x, float(alpha), float(sigma)).diagonal(dim1=-2, dim2=-1).sum(-1)
        rate = sigma_dot / sigma
        moved = rate * world.dim + (alpha_dot - rate * alpha) * alpha / sigma**2 * spread + (v * score).sum(-1)
        error = (change + moved).abs() / (1 + change.abs())
        yield f"{name}, continuity", exact(float(error.max()), 1e-6, "relative error of the density's rate of change")
        other = flow.velocity_from_score(x, score, alpha, sigma, alpha_dot, sigma_dot)
        yield f"{name}, by the score", exact(float((v - other).abs().max()), 1e-10, "velocity")
        converted = parameterization.convert("score", "velocity", score, x, alpha, sigma, alpha_dot, sigma_dot)
        yield f"{name}, converted", exact(float((v - converted).abs().max()), 1e-10, "velocity")


@world_check("flow.marginal_velocity", "flow.continuity", worlds=("bimodal",))
def quantiles_carried(world: World, generator: Generator) -> Iterator[Outcome]:
    """Points moved with the velocity stay at their quantile of p_t, on both schedules, whichever way time runs."""
    assert isinstance(world, Mixture)
    u = (torch.arange(50, dtype=torch.float64) + 0.5) / 50
    for name, schedule in ((name, make()) for name, make in SCHEDULES.items()):
        at = {
            t: line.quantile(world, u, *(float(level) for level in schedule.kernel(scalar(t))[:2])) for t in (0.1, 0.95)
        }
        for start, end in ((0.1, 0.95), (0.95, 0.1)):
            missed = carried(world, schedule, at[start][:, None], start, end, 80)[:, 0] - at[end]
            yield f"{name}, {start:g} to {end:g}", exact(float(missed.abs().max()), 2e-6, "distance to the quantile")


@world_check("flow.fm_equals_cfm", worlds=("points",))
def equal_gradients(world: World, generator: Generator) -> Iterator[Outcome]:
    """For two networks, linear in six features: losses differ by one constant, and their gradients agree.

    The mean over the five points and the noise is a quadrature.
    """
    assert isinstance(world, Points)
    alpha, sigma, alpha_dot, sigma_dot = straight().kernel(scalar(0.5))
    eps, w = hermite(60)
    x_0 = world.points.repeat_interleave(len(eps), 0)
    weight = (w / len(world.points)).repeat(len(world.points))
    x = alpha * x_0 + sigma * eps.repeat(len(world.points), 1)
    features = torch.cat((torch.ones_like(x), x, torch.sin(2 * x)), 1)
    conditional = flow.conditional_velocity(x, x_0, alpha, sigma, alpha_dot, sigma_dot)
    marginal = velocity(world, straight(), x, scalar(0.5))
    constants = []
    for name in ("one network", "another"):
        network = features @ torch.randn(6, 2, generator=generator, dtype=torch.float64)
        losses, gradients = [], []
        for wanted in (conditional, marginal):
            missed = network - wanted
            losses.append(float((weight * missed.square().sum(1)).sum()))
            gradients.append(2 * features.T @ (weight[:, None] * missed))
        constants.append(losses[0] - losses[1])
        error = (gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()
        yield f"{name}, gradient", exact(float(error), 1e-6, "relative error of the gradient")
    yield "the constant", exact(abs(constants[0] - constants[1]), 1e-6, "difference of the two losses' difference")
    yield "which is not 0", exact(float(constants[0] < 0.1), 0.5, "whether the losses agree")


@world_check("flow.one_path", worlds=("ring", "anisotropic"))
def one_path_for_all(world: World, generator: Generator) -> Iterator[Outcome]:
    """From equal SNR to equal SNR, each schedule in its own time: the same points, up to the scale alpha."""
    ends = torch.tensor([-1.5, 1.5], dtype=torch.float64)  # half_log_snr
    found: list[tuple[str, Tensor]] = []
    x_0 = world.sample(30, generator)
    eps = noise(x_0, generator)
    for name, make in (SCHEDULES | {"vp_linear": vp_linear}).items():
        schedule = make()
        start, end = schedule.time_of(ends).tolist()
        alpha, sigma = (float(level) for level in schedule.kernel(scalar(start))[:2])
        x = carried(world, schedule, alpha * x_0 + sigma * eps, start, end, 60)
        found.append((name, x / schedule.alpha(scalar(end))))
    for name, x in found[1:]:
        apart = float((x - found[0][1]).abs().max())
        yield f"{name} and {found[0][0]}", exact(apart, 1e-4, "distance of the end points over alpha")


# ---------------------------------------------------------------------------------------------------------- couplings

COSTS: dict[str, Callable[[Tensor], Tensor]] = {
    "length": torch.abs,
    "square": torch.square,
    "fourth power": lambda w: w**4,
    "one-sided": lambda w: torch.expm1(-w),
}


@world_check("flow.reflow_cost", "flow.reflow_marginals", worlds=("bimodal",))
def rectified(world: World, generator: Generator) -> Iterator[Outcome]:
    """The flow of independent pairs, from this world to a wider one: its law, and each convex cost before and after.

    Deterministic: quantiles stand for the draws. What lies between is E c(v(Z_t, t)), over the paths and their times.
    """
    assert isinstance(world, Mixture)
    other = Mixture("wider", torch.tensor([0.3, 0.7]), torch.tensor([[2.5], [-1.0]]), 0.3)
    path, steps = Interpolant(world, other, 0.0), 100

    def mean_velocity(x: Tensor, t: float) -> Tensor:
        x_0, x_1 = path.ends(x, t)
        return x_1 - x_0

    u = (torch.arange(200, dtype=torch.float64) + 0.5) / 200
    start, end = (line.quantile(law, u)[:, None] for law in (world, other))
    z, speeds, h = start, [mean_velocity(start, 0.0)], 1 / steps
    for k in range(steps):
        t = k * h
        second = mean_velocity(z + h / 2 * speeds[-1], t + h / 2)
        third = mean_velocity(z + h / 2 * second, t + h / 2)
        fourth = mean_velocity(z + h * third, t + h)
        z = z + h / 6 * (speeds[-1] + 2 * second + 2 * third + fourth)
        speeds.append(mean_velocity(z, t + h))
    yield "the law at the end", exact(float((z - end).abs().max()), 1e-4, "distance to the quantile")
    for name, cost in COSTS.items():
        before, after = float(cost(end.mT - start).mean()), float(cost(z - start).mean())
        between = float(torch.trapezoid(cost(torch.stack(speeds)).mean((1, 2)), dx=h))
        yield f"{name}, Jensen over what meets", exact(between - before, 0.0, "cost")
        yield f"{name}, Jensen along paths", exact(after - between, 0.0, "cost")


@world_check("flow.velocity_score_dependent", worlds=("gaussian",))
def coupled_noise(world: World, generator: Generator) -> Iterator[Outcome]:
    """Noise of correlation r with standardised data: the means of eps and of the velocity given x_t, with both gaps."""
    assert isinstance(world, Mixture) and world.basis is not None
    r, (alpha, sigma, alpha_dot, sigma_dot) = scalar(0.7), straight().kernel(scalar(0.35))
    x_0 = (world.sample(N, generator) - world.means) @ world.basis[0] / world.variances[0].sqrt()
    eps = r * x_0 + torch.sqrt(1 - r**2) * noise(x_0, generator)
    x = parameterization.mix(x_0, eps, alpha, sigma)
    V = alpha**2 + sigma**2 + 2 * r * alpha * sigma
    score = -x / V
    of_eps = -sigma * (score + flow.score_gap(x, r, alpha, sigma))
    claimed = flow.velocity_from_score(x, score, alpha, sigma, alpha_dot, sigma_dot)
    of_velocity = claimed - flow.velocity_gap(x, r, alpha, sigma, alpha_dot, sigma_dot)
    moving = parameterization.velocity(x_0, eps, alpha_dot, sigma_dot)
    # given x_t both are multiples of one normal variable of variance (1 - r^2)/V
    for name, residual, multiple in (
        ("eps", eps - of_eps, alpha),
        ("velocity", moving - of_velocity, alpha_dot * sigma - alpha * sigma_dot),
    ):
        standard = residual / (multiple.abs() * torch.sqrt((1 - r**2) / V))
        yield f"{name}, no slope left", regression(standard.numpy(), x.numpy(), FALSE_FAIL)
        yield f"{name}, spread", scale(standard.numpy(), FALSE_FAIL)


@world_check("flow.minibatch_ot_marginals", worlds=("ring", "bimodal"))
def paired_batches(world: World, generator: Generator) -> Iterator[Outcome]:
    """Pairing noise with data within batches: the same points, each with the laws it had, and shorter paths."""
    batches, size = 40, 256
    x_0 = world.sample(batches * size, generator).reshape(batches, size, -1)
    eps = noise(x_0, generator)
    paired = torch.stack([assigned(data, drawn) for data, drawn in zip(x_0, eps, strict=True)])
    kept = max(float((a.sort(0).values - b.sort(0).values).abs().max()) for a, b in zip(eps, paired, strict=True))
    yield "the same noise", exact(kept, 0.0, "distance of order statistics")
    yield "noise's law", covariance(paired.flatten(0, 1).numpy(), FALSE_FAIL)
    before, after = (float((x_0 - drawn).square().sum(-1).mean()) for drawn in (eps, paired))
    yield "shorter", exact(after / before, 0.6, "mean square of the paths, over that of independent pairs")
    if world.dim == 1:
        least = sum(line.between_samples(a, b) for a, b in zip(x_0, eps, strict=True)) / batches
        yield "none shorter", exact(after / least - 1, 1e-12, "relative excess over the sorted pairing")
    product = (x_0 * paired).sum(-1).flatten()
    yield "no longer independent", exact(0.3 / float(product.mean()), 1.0, "0.3 over the mean product")


@world_check("flow.schroedinger_bridge_path", "flow.bridge_velocity", worlds=("bimodal",))
def bridges(world: World, generator: Generator) -> Iterator[Outcome]:
    """The pinned path: its ends, and its mean and variance as the drift's own. Then couplings between two Gaussians.

    The ends that a Schroedinger bridge couples have exp(-(x_1 - x_0)^2/(2 s^2)) in their joint density, and nothing
    else that joins them.
    """
    x_0, x_1 = world.sample(20, generator), world.sample(20, generator)
    s, zero, one = scalar(0.8), scalar(0.0), scalar(1.0)
    ends = (flow.bridge_mean(x_0, x_1, zero) - x_0).abs().max() + (flow.bridge_mean(x_0, x_1, one) - x_1).abs().max()
    spread = flow.bridge_variance(s, zero) + flow.bridge_variance(s, one)
    yield "ends", exact(float(ends + spread), 0.0, "distance and variance")
    for t in (0.2, 0.5, 0.9):
        late, early = scalar(t + STEP), scalar(t - STEP)
        mean, variance = flow.bridge_mean(x_0, x_1, scalar(t)), flow.bridge_variance(s, scalar(t))
        rate = (flow.bridge_mean(x_0, x_1, late) - flow.bridge_mean(x_0, x_1, early)) / (2 * STEP)
        missed = (rate - flow.bridge_drift(mean, x_1, scalar(t))).abs().max()
        yield f"mean at {t:g}", exact(float(missed), 1e-8, "rate of the mean")
        slope = flow.bridge_drift(mean + 1, x_1, scalar(t)) - flow.bridge_drift(mean, x_1, scalar(t))
        grown = (flow.bridge_variance(s, late) - flow.bridge_variance(s, early)) / (2 * STEP)
        missed = (grown - 2 * slope * variance - s**2).abs().max()
        yield f"variance at {t:g}", exact(float(missed), 1e-8, "rate of the variance")

    pair = GaussianPair(-0.5, 1.3, 0.8, 0.4)
    for spread_s in (0.05, 0.7, 3.0):
        joined = pair.schroedinger(spread_s)
        missed = torch.linalg.inv(joined.covariance)[0, 1] * spread_s**2 + 1
        yield f"coupling, s = {spread_s:g}", exact(abs(float(missed)), 1e-9, "relative, of the inverse covariance")
        between = joined.cost < pair.cost and joined.cost > pair.optimal().cost
        yield f"cost, s = {spread_s:g}", exact(float(not between), 0.5, "whether outside optimal and independent")


@world_check(
    *("flow.interpolant_velocity", "flow.interpolant_path", "flow.interpolant_score"),
    *("flow.interpolant_noise_level", "flow.bridge_velocity"),
    worlds=("ring", "bimodal"),
)
def interpolated(world: World, generator: Generator) -> Iterator[Outcome]:
    """Between this world and another, exactly: velocity, score and drifts of any noise against the law's own change."""
    assert isinstance(world, Mixture)
    other = bimodal() if world.dim == 1 else Mixture("corner", torch.ones(2), torch.tensor([[1.0, 0], [-2, 1]]), 0.09)
    s = 0.6
    path = Interpolant(world, other, s)
    for t in (0.15, 0.6):
        law = path.law(t)
        x = law.sample(100, generator)
        score = law.score(x)
        v = _between(path, x, t)
        ends = path.ends(x, t)
        yield (
            f"t = {t:g}, score",
            exact(float((flow.bridge_score(x, *ends, scalar(s), scalar(t)) - score).abs().max()), 1e-9, "score"),
        )
        change = (path.law(t + STEP).log_density(x) - path.law(t - STEP).log_density(x)) / (2 * STEP)
        bend = divergence(law.score, x) + score.square().sum(-1)
        for e in (-1.0, 0.0, 0.5, 2.0):

            def drift(x: Tensor, e: float = e, law: Mixture = law, t: float = t) -> Tensor:
                return flow.noisy_drift(_between(path, x, t), law.score(x), scalar(e))

            flux = divergence(drift, x) + (drift(x) * score).sum(-1)
            error = (change + flux - e * bend).abs() / (1 + change.abs() + bend.abs())
            yield f"t = {t:g}, e = {e:g}", exact(float(error.max()), 1e-5, "relative error of the rate of change")
        brownian = flow.noisy_drift(v, score, scalar(s**2 / 2)) - flow.bridge_drift(x, ends[1], scalar(t))
        yield f"t = {t:g}, Brownian drift", exact(float(brownian.abs().max()), 1e-9, "drift")
    start, end = path.law(1e-12), path.law(1 - 1e-12)
    apart = max(
        float((a.log_density(x) - b.log_density(x)).abs().max())
        for a, b, x in ((start, world, world.sample(50, generator)), (end, other, other.sample(50, generator)))
    )
    yield "both ends", exact(apart, 1e-6, "nats")


def _between(path: Interpolant, x: Tensor, t: float) -> Tensor:
    """E[velocity | x_t = x] of the interpolant: the conditional velocity is linear in both ends."""
    x_0, x_1 = path.ends(x, t)
    return flow.bridge_velocity(x, x_0, x_1, scalar(t))
