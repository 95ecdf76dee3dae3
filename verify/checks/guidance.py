r"""Guidance held against exact tilts: classifiers, CFG, h-transforms, rewards, inpainting, measurements.

All of it is deterministic. Where all laws are Gaussian a sampler's step is linear: put in unit vectors and it shows its
coefficients, by which the mean and the variance of what it draws are followed without drawing (`drawn`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import torch
from torch import Generator, Tensor

from diffusion import ddim, guidance, schedules
from diffusion.schedules import cosine
from diffusion.types import Denoiser
from toy.inverse import LinearInverse, replaced_pair
from toy.mixture import Mixture, gaussian
from toy.world import World
from verify.checks.chains import scalar
from verify.statistics import exact
from verify.worlds import Outcome, world_check

STEP = 1e-5  # of central differences


def level(t: Tensor) -> tuple[float, float]:
    """alpha and sigma of the cosine schedule."""
    alpha, sigma, _, _ = cosine().kernel(t)
    return float(alpha), float(sigma)


def denoiser(world: Mixture, label: int | None = None) -> Denoiser:
    return lambda x, t: world.denoiser(x, *level(t), label)


def log_classifier(world: Mixture, x: Tensor, t: Tensor, label: int) -> Tensor:
    """log p(label | x_t), up to the constant log p(label)."""
    return world.log_density(x, *level(t), label) - world.log_density(x, *level(t))


# ------------------------------------------------------------------------------------------------ classifiers


@world_check("guidance.classifier", "guidance.classifier_point", worlds=("conditional_ring", "unequal_pair"))
def classifier_guidance(world: World, generator: Generator) -> Iterator[Outcome]:
    """The unconditional denoiser and the exact classifier of x_t make the conditional denoiser; elsewhere O(h) off."""
    assert isinstance(world, Mixture)
    t = scalar(0.4)
    _, x = world.noised(200, *level(t), generator)
    made = guidance.classifier_guided(denoiser(world), lambda z, t: log_classifier(world, z, t, 1), cosine(), 1.0)
    error = (made(x, t) - world.denoiser(x, *level(t), 1)).abs().max()
    yield "denoiser given the label", exact(float(error), 1e-10, "distance")

    def slope(z: Tensor, t: Tensor) -> Tensor:
        return guidance.gradient(lambda z: log_classifier(world, z, t, 1), z)

    clean = cosine().kernel(scalar(0.0))
    sharp = scalar(float(clean.alpha) * 0.02)  # a classifier of data that are all but clean
    missed = (slope(x, sharp) - slope(x, t)).abs().max()
    yield "a classifier of clean data", exact(max(0.1 - float(missed), 0.0), 0.0, "error of the gradient, short of 0.1")

    alpha, sigma, alpha_dot, sigma_dot = cosine().kernel(t)
    g2 = schedules.diffusion2(alpha, sigma, alpha_dot, 2 * sigma * sigma_dot)
    drift = g2 * world.score(x, *level(t)) - schedules.drift(alpha, alpha_dot) * x
    long, short = ((slope(x + h * drift, t) - slope(x, t)).square().mean().sqrt() for h in (2e-3, 1e-3))
    yield "at the step's mean, order", exact(abs(math.log2(float(long / short)) - 1), 0.05, "order")


@world_check("guidance.classifier_step", worlds=("unequal_pair", "bimodal"))
def tilted_step(world: World, generator: Generator) -> Iterator[Outcome]:
    """By quadrature, a step tilted by a likelihood has its mean moved by v times the tilted mean of the gradient."""
    assert isinstance(world, Mixture)
    del generator
    x, m = torch.linspace(-12, 12, 20_001, dtype=torch.float64), 0.7
    for v in (1.0, 0.1):
        log_l = world.log_density(x[:, None], 0.6, 0.8)
        share = (log_l - (x - m) ** 2 / (2 * v)).softmax(0)
        moved = v * (share * world.score(x[:, None], 0.6, 0.8)[:, 0]).sum()
        yield f"v = {v}", exact(abs(float((share * x).sum() - m - moved)), 1e-10, "distance of the means")


# ------------------------------------------------------------------------------------------------ classifier-free


def flow_line(guided: Callable[[Tensor, float], Tensor], x: Tensor, high: float, low: float, steps: int) -> Tensor:
    """dx/dsigma = (x - x0_hat(x, sigma))/sigma from one noise to another, by classical Runge-Kutta in log sigma."""
    h = (math.log(low) - math.log(high)) / steps

    def rate(x: Tensor, at: float) -> Tensor:
        return x - guided(x, math.exp(at))

    for i in range(steps):
        at = math.log(high) + i * h
        first = rate(x, at)
        second = rate(x + h / 2 * first, at + h / 2)
        third = rate(x + h / 2 * second, at + h / 2)
        x = x + h / 6 * (first + 2 * second + 2 * third + rate(x + h * third, at + h))
    return x


def _labelled(world: Mixture, label: int, x: Tensor, sigma: Tensor) -> Tensor:
    return world.denoiser(x, 1.0, float(sigma), label)


def cfg(world: Mixture, w: float) -> Callable[[Tensor, float], Tensor]:
    """x0_hat of label 0, guided away from label 1, at alpha = 1."""

    def guided(x: Tensor, sigma: float) -> Tensor:
        conditional, other = (partial(_labelled, world, label) for label in (0, 1))
        return guidance.classifier_free(conditional, other, w)(x, scalar(sigma))

    return guided


@world_check(
    "guidance.cfg_implicit", "guidance.cfg_discrepancy", "guidance.cfg_not_diffusion", worlds=("unequal_pair",)
)
def cfg_tilts(world: World, generator: Generator) -> Iterator[Outcome]:
    """At each level CFG's score is that of the tilted Gaussian; its variance is not the clean tilt's, noised."""
    assert isinstance(world, Mixture)
    del generator
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
    mu_c, mu_u = world.means[:, 0]
    c, u = world.variances[:, 0]
    for w in (0.5, 2.0, 7.0):
        scale = scalar(w)
        _, clean = guidance.tilted_gaussian(mu_c, c, mu_u, u, scale)
        for sigma in (0.3, 1.0, 4.0):
            mean, variance = guidance.tilted_gaussian(mu_c, c + sigma**2, mu_u, u + sigma**2, scale)
            score = (cfg(world, w)(x, sigma) - x) / sigma**2
            error = float((score + (x - mean) / variance).abs().max())
            yield f"w = {w}, sigma = {sigma}, score", exact(error, 1e-10, "distance of the scores")
            gap = guidance.tilted_gap(scale, u - c, w * u + (1 - w) * c, scalar(sigma**2))
            error = abs(float((variance - clean - sigma**2) / gap) - 1)
            yield f"w = {w}, sigma = {sigma}, gap", exact(error, 1e-9, "relative error of the gap")


@world_check("guidance.cfg_flow", "guidance.cfg_discrepancy", worlds=("unequal_pair",))
def cfg_flow(world: World, generator: Generator) -> Iterator[Outcome]:
    """CFG's probability flow, finely integrated, leads from pure noise to the geometric mean of the variances.

    With the roles exchanged and w large there is no tilt to draw from, and the flow still leads somewhere.
    """
    assert isinstance(world, Mixture)
    del generator
    swapped = Mixture("swapped", world.weights, world.means.flip(0), world.variances.flip(0)[:, 0], world.labels)
    for pair, w in ((world, 0.5), (world, 3.0), (swapped, 3.0)):
        s_c, s_u = pair.variances[:, 0].sqrt()
        start = torch.tensor([[1000.0], [-1000.0]], dtype=torch.float64)  # one standard deviation to either side
        end = flow_line(cfg(pair, w), start, 1000.0, 1e-4, 250)
        variance = float((end[0] - end[1])[0] / 2) ** 2
        expected = float(guidance.cfg_sampled_variance(s_c, s_u, scalar(w)))
        error = abs(variance / expected - 1)
        yield f"{pair.name}, w = {w}", exact(error, 2e-5, "relative error of the variance")


@world_check("guidance.cfg_equal_variances", worlds=("unequal_pair",))
def cfg_equal(world: World, generator: Generator) -> Iterator[Outcome]:
    """With both variances alike CFG's flow draws the tilted law itself, even where it extrapolates far."""
    assert isinstance(world, Mixture)
    del generator
    pair = Mixture("equal", world.weights, world.means, 0.36, world.labels)
    for w in (-1.0, 3.0, 8.0):
        mean = float(w * pair.means[0] + (1 - w) * pair.means[1])
        start = mean + torch.tensor([[1000.0], [-1000.0]], dtype=torch.float64)
        end = flow_line(cfg(pair, w), start, 1000.0, 1e-4, 250)[:, 0]
        yield f"w = {w}, mean", exact(abs(float(end.mean()) - mean), 1e-4, "distance")
        yield f"w = {w}, std", exact(abs(float(end[0] - end[1]) / 2 / 0.6 - 1), 1e-5, "relative error")


@world_check("guidance.score_scaling", "guidance.score_scaling_flow", worlds=("gaussian",))
def score_scaling(world: World, generator: Generator) -> Iterator[Outcome]:
    """The flow of score/T leads to sigma^(2 - 2/T) v^(1/T), which depends on where it starts; not to T v."""
    del world, generator
    v = 0.49
    law = gaussian("one", torch.zeros(1), v)
    for T in (0.5, 2.0):
        found = []
        for high in (300.0, 3000.0):
            start = torch.full((1, 1), high, dtype=torch.float64)

            def scaled(x: Tensor, sigma: float, T: float = T) -> Tensor:
                return x + (law.denoiser(x, 1.0, sigma) - x) / T

            found.append(float(flow_line(scaled, start, high, 1e-4, 250)) ** 2)
            expected = high ** (2 - 2 / T) * v ** (1 / T)
            yield f"T = {T} from {high:g}", exact(abs(found[-1] / expected - 1), 1e-4, "relative error of the variance")
        yield (
            f"T = {T}, no limit",
            exact(abs(math.log10(found[1] / found[0]) - (2 - 2 / T)), 1e-4, "power of the start"),
        )


# ------------------------------------------------------------------------------------------------ exact guidance


@world_check(
    "guidance.doob", "guidance.doob_harmonic", "guidance.doob_mass", worlds=("conditional_ring", "unequal_pair")
)
def h_transform(world: World, generator: Generator) -> Iterator[Outcome]:
    """h = p(label | x_t) is harmonic for the reverse process, and its drift with g^2 grad log h the conditional one."""
    assert isinstance(world, Mixture)
    t = scalar(0.35)
    alpha, sigma, alpha_dot, sigma_dot = cosine().kernel(t)
    g2 = float(schedules.diffusion2(alpha, sigma, alpha_dot, 2 * sigma * sigma_dot))
    f = float(schedules.drift(alpha, alpha_dot))
    _, x = world.noised(200, *level(t), generator)
    late, early = (log_classifier(world, x, t + side * STEP, 1) for side in (1, -1))
    reverse = g2 * world.score(x, *level(t)) - f * x
    slope = world.score(x, *level(t), 1) - world.score(x, *level(t))
    spread = (world.posterior_covariance(x, *level(t), label) for label in (1, None))
    bend = [part.diagonal(dim1=-2, dim2=-1).sum(-1) * float(alpha) ** 2 / float(sigma) ** 4 for part in spread]
    laplace = bend[0] - bend[1] + (slope**2).sum(-1)
    residual = -(late - early) / (2 * STEP) + (reverse * slope).sum(-1) + g2 / 2 * laplace
    error = (residual.abs() / (1 + laplace.abs() * g2)).max()
    yield "backward equation", exact(float(error), 1e-6, "relative residual")
    guided = reverse + g2 * guidance.gradient(lambda z: log_classifier(world, z, t, 1), x)
    error = (guided - (g2 * world.score(x, *level(t), 1) - f * x)).abs().max()
    yield "drift given the label", exact(float(error), 1e-8, "distance of the drifts")
    for time in (0.1, 0.9):
        at = scalar(time)
        grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None] if world.dim == 1 else None
        if grid is not None:
            h = log_classifier(world, grid, at, 1).exp()
            mass = torch.trapezoid(world.log_density(grid, *level(at)).exp() * h, grid[:, 0])
            yield f"E h at t = {time}", exact(abs(float(mass) - 1), 1e-9, "distance from E h")


@world_check("guidance.reward_tilting", worlds=("bimodal",))
def reward_tilting(world: World, generator: Generator) -> Iterator[Outcome]:
    """On a grid, the tilt attains beta log Z, and any other law falls short by at least its Hellinger distance."""
    del generator
    x = torch.linspace(-4, 4, 8001, dtype=torch.float64)
    log_p = world.log_density(x[:, None]).log_softmax(0)
    reward = torch.sin(3 * x) - 0.3 * x**2
    for beta in (0.2, 1.0):
        best = (log_p + reward / beta).log_softmax(0)
        limit = beta * float((log_p + reward / beta).logsumexp(0))

        def value(log_q: Tensor, beta: float = beta) -> float:
            return float((log_q.exp() * (reward - beta * (log_q - log_p))).sum())

        yield f"beta = {beta}, attained", exact(abs(value(best) - limit), 1e-12, "nats")
        for power in (0.5, 0.9, 1.5):
            q = (log_p + power * reward / beta).log_softmax(0)
            apart = float(((q / 2).exp() - (best / 2).exp()).square().sum())
            short = limit - value(q)
            yield f"beta = {beta}, reward times {power}", exact(max(beta * apart - short, 0.0), 0.0, "excess")


# ---------------------------------------------------------------------------------- samplers, by their coefficients

Step = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]  # (x, given, fresh, z), each [4], to the next x


def ancestral(x: Tensor, x0_hat: Tensor, z: Tensor, high: Tensor, low: Tensor) -> Tensor:
    """A step of the reverse SDE from noise `high` to `low` at alpha = 1, with the prediction x0_hat."""
    one, kappa = scalar(1.0), low / high
    mean = ddim.mean(x, x0_hat, one, high, one, low, kappa, one)
    return mean + ddim.std(low, kappa, one) * z


def drawn(step: Callable[[Tensor, Tensor], Step], given: float, n: int) -> tuple[float, float]:
    """Mean and variance after n linear steps, from noise 300 to 1e-3.

    step(high, low) maps x, what is given, fresh noise and z; unit vectors give each one's coefficient.
    """
    sigma = torch.logspace(math.log10(300), -3, n + 1, dtype=torch.float64)
    mean, variance = 0.0, 300.0**2
    unit = torch.eye(4, dtype=torch.float64)
    for high, low in pairwise(sigma):
        of_x, of_given, of_fresh, of_z = step(high, low)(*unit).tolist()
        mean, variance = of_x * mean + of_given * given, of_x**2 * variance + of_fresh**2 + of_z**2
    return mean, variance


def settled(step: Callable[[Tensor, Tensor], Step], given: float) -> tuple[float, float]:
    """The same for infinitely many steps, by Richardson's extrapolation of order 1 and 2."""
    few, more, most = (drawn(step, given, n) for n in (200, 400, 800))
    mean, variance = ((8 * c - 6 * b + a) / 3 for a, b, c in zip(few, more, most, strict=True))
    return mean, variance


@world_check(
    *("guidance.inpainting_mean", "guidance.inpainting_bias", "guidance.inpainting_score"), worlds=("gaussian",)
)
def inpainting(world: World, generator: Generator) -> Iterator[Outcome]:
    """Replacement, step by step with the pair's exact denoiser: mean and variance of what it draws."""
    del world, generator
    mask = torch.tensor([[False, True]] * 4)
    for rho in (0.3, 0.8, 0.95):
        pair = replaced_pair(rho)

        def replacing(high: Tensor, low: Tensor, pair: Mixture = pair) -> Step:
            def step(x: Tensor, given: Tensor, fresh: Tensor, z: Tensor) -> Tensor:
                state, known, noise = (torch.stack([part, part], -1) for part in (x, given, fresh))
                state = guidance.replace(state, known, mask, scalar(1.0), high, noise)
                return ancestral(x, pair.denoiser(state, 1.0, float(high))[:, 0], z, high, low)

            return step

        mean, variance = settled(replacing, 1.0)
        expected = guidance.replaced_mean(scalar(1.0), scalar(rho)), guidance.replaced_variance(scalar(rho))
        yield f"rho = {rho}, mean", exact(abs(mean - float(expected[0])), 2e-3, "distance")
        yield f"rho = {rho}, variance", exact(abs(variance / float(expected[1]) - 1), 2e-3, "relative error")
        missed = min(abs(mean - rho), variance / (1 - rho**2) - 1)
        yield f"rho = {rho}, bias", exact(max(0.02 - missed, 0.0), 0.0, "bias, short of 0.02")


@world_check("guidance.dps", worlds=("gaussian",))
def measured(world: World, generator: Generator) -> Iterator[Outcome]:
    """The posterior's score less the prior's is the likelihood's; DPS's denoiser has s_y^2 for its variance."""
    del world
    a, s_y = scalar(1.3), 0.4
    prior, y = gaussian("line", torch.tensor([0.3]), 0.8), torch.tensor([1.1], dtype=torch.float64)
    problem = LinearInverse(prior, a.reshape(1, 1), s_y)
    made = guidance.dps(denoiser(prior), lambda x_0: problem.residual(y, x_0), s_y, cosine())
    for time in (0.1, 0.5, 0.95):
        t = scalar(time)
        alpha, sigma = level(t)
        _, x = prior.noised(100, alpha, sigma, generator)
        spread, hat = prior.posterior_covariance(x, alpha, sigma)[:, :, 0], prior.denoiser(x, alpha, sigma)
        J, seen = alpha / sigma**2 * spread, y.expand(100, 1)
        told = problem.posterior(y).score(x, alpha, sigma) - prior.score(x, alpha, sigma)
        error = (guidance.likelihood_score(seen, hat, J, spread, a, scalar(s_y)) - told).abs().max()
        yield f"t = {time}, exact", exact(float(error), 1e-9, "distance of the scores")
        error = (guidance.dps_score(seen, hat, J, a, scalar(s_y)) - (made(x, t) - hat) * alpha / sigma**2).abs().max()
        yield f"t = {time}, DPS", exact(float(error), 1e-9, "distance of the scores")


@world_check("guidance.dps_mean", "guidance.dps_variance", worlds=("gaussian",))
def dps_draws(world: World, generator: Generator) -> Iterator[Outcome]:
    """DPS, step by step on N(0, v): the mean and the variance of what it draws."""
    del world, generator
    v = 0.7
    prior = gaussian("line", torch.zeros(1), v)
    for kappa in (0.2, 1.0, 5.0):
        s_y = scalar(math.sqrt(v / kappa))

        def pulled(high: Tensor, low: Tensor, s_y: Tensor = s_y) -> Step:
            J = scalar(v / (v + float(high) ** 2))

            def step(x: Tensor, given: Tensor, fresh: Tensor, z: Tensor) -> Tensor:
                hat = prior.denoiser(x[:, None], 1.0, float(high))[:, 0]
                pull = guidance.dps_score(given, hat, J, scalar(1.0), s_y)
                return ancestral(x, hat + high**2 * pull, z, high, low)

            return step

        mean, variance = settled(pulled, 1.0)
        expected = guidance.dps_mean(scalar(1.0), scalar(kappa)), guidance.dps_variance(scalar(v), scalar(kappa))
        yield f"kappa = {kappa}, mean", exact(abs(mean / float(expected[0]) - 1), 2e-3, "relative error")
        yield f"kappa = {kappa}, variance", exact(abs(variance / float(expected[1]) - 1), 2e-3, "relative error")
