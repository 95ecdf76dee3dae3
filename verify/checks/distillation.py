r"""Distillation against flows that are known: DDIM steps, consistency functions, mean velocities, an exact KL.

Everything here is deterministic: laws are summed over their points or Gauss-Hermite nodes, paths are integrated to
1e-10. Noise levels are sigma at alpha = 1 for consistency, times of the linear path (alpha = 1 - t, sigma = t) below.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from diffusion import distillation as distil
from diffusion import gaussian, schedules
from diffusion.ddim import euler_step, step
from diffusion.solvers import kappa
from toy.flow import trajectory
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World
from verify.checks.chains import noise, scalar
from verify.statistics import exact
from verify.worlds import Outcome, world_check

SIGMA_MIN = 0.05


@world_check(
    "distillation.progressive",
    "distillation.progressive_eps",
    "distillation.progressive_v",
    worlds=("ring", "two_moons"),
)
def one_step_for_two(world: World, generator: Generator) -> Iterator[Outcome]:
    """One step with the target, in each of its three forms, lands where the teacher's two did, ends included."""
    schedule = schedules.cosine()

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        return world.denoiser(x, schedule.alpha(t), schedule.sigma(t))

    x_t = noise(world.sample(100, generator), generator)
    for times in ((1.0, 0.75, 0.5), (0.6, 0.5, 0.45), (0.1, 0.05, 0.0)):
        t, u, s = (scalar(time) for time in times)
        x_s = distil.two_steps(denoise, schedule, x_t, (t, u, s))
        start = alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
        end = alpha_s, sigma_s = schedule.alpha(s), schedule.sigma(s)
        ratio = kappa(*start, *end)
        data = distil.progressive_x0(x_t, x_s, alpha_s, sigma_t, sigma_s, ratio)
        eps = distil.progressive_eps(x_t, x_s, *start, alpha_s, ratio)
        v = distil.progressive_v(x_t, x_s, *start, *end, ratio)
        landed = {"x0": step(x_t, data, *start, *end), "v": step(x_t, alpha_t * x_t - sigma_t * v, *start, *end)}
        if alpha_t > 1e-9:
            landed["eps"] = euler_step(x_t, eps, *start, *end)
        for kind, x in landed.items():
            yield f"{kind}, {times[0]} to {times[2]}", exact(float((x - x_s).abs().max()), 1e-12, "distance")


def _carried(world: World, x: Tensor, *levels: float) -> Tensor:
    """x at the first level carried through the others, at alpha = 1."""
    return trajectory(world, x, torch.ones(len(levels), dtype=torch.float64), torch.tensor(levels, dtype=torch.float64))


@world_check("distillation.consistency_gaussian", worlds=("gaussian",))
def gaussian_jump(world: World, generator: Generator) -> Iterator[Outcome]:
    """The closed form along each eigenvector is where the flow arrives."""
    assert isinstance(world, Mixture) and world.basis is not None
    for level in (0.3, 5.0):
        _, x = world.noised(30, 1.0, level, generator)
        arrived, away = ((y - world.means[0]) @ world.basis[0] for y in (_carried(world, x, level, SIGMA_MIN)[-1], x))
        jumped = distil.gaussian_consistency(away, scalar(level), SIGMA_MIN, world.variances[0].sqrt())
        yield f"from {level}", exact(float((jumped - arrived).abs().max()), 1e-8, "distance")


@world_check("distillation.self_consistency", worlds=("ring", "anisotropic"))
def along_the_flow(world: World, generator: Generator) -> Iterator[Outcome]:
    """The exact function does not change along (velocity, 1); a model's is the identity at sigma_min."""
    d = 1e-3
    for level in (0.4, 1.5):
        _, x = world.noised(20, 1.0, level, generator)
        velocity = (x - world.denoiser(x, 1.0, level)) / level
        ahead, behind = (_carried(world, x + e * velocity, level + e, SIGMA_MIN)[-1] for e in (d, -d))
        rate = float(((ahead - behind) / (2 * d)).square().mean().sqrt())
        yield f"rate at {level}", exact(rate, 1e-5, "distance per level")
        model = distil.consistency_function(lambda x, c: torch.tanh(3 * x) + c[:, None], 1.0, SIGMA_MIN)
        yield f"boundary, {level}", exact(float((model(x, scalar(SIGMA_MIN)) - x).abs().max()), 0.0, "distance")


def _student(theta: Tensor) -> distil.Network:
    """A smooth consistency function of one weight."""
    return distil.consistency_function(
        lambda x, c: theta * torch.tanh(x + 0.5 * x.flip(-1)) + torch.sin(theta + c)[:, None], 1.0, SIGMA_MIN
    )


@world_check("distillation.consistency_training", "distillation.consistency_without_stop", worlds=("points",))
def pairs_for_a_teacher(world: World, generator: Generator) -> Iterator[Outcome]:
    """Summed over x_0 given x: training less distillation over h^2, as a gradient and as a loss, extrapolated to h = 0.

    What they tend to is computed from the model's derivatives and the world's posterior covariance.
    """
    assert isinstance(world, Points)
    level, K = scalar(0.8), len(world.points)
    _, x = world.noised(6, 1.0, 0.8, generator)
    theta = scalar(0.7).requires_grad_()
    given_x = torch.softmax(-((x[:, None] - world.points) ** 2).sum(-1) / (2 * level**2), 1)
    wide = x.repeat_interleave(K, 0)
    x_0 = world.points.repeat(len(x), 1)

    def both(h: float) -> Tensor:
        """Training less distillation, over h^2: gradient and loss, summed over the x."""
        with torch.enable_grad():
            f, d = _student(theta), scalar(h)
            trained = distil.consistency_training_loss(f, x_0, (wide - x_0) / level, level, d)
            distilled = distil.consistency_distillation_loss(f, lambda x, s: world.denoiser(x, 1.0, s), x, level, d)
            loss = given_x.flatten() @ trained - distilled.sum()
            (slope,) = torch.autograd.grad(loss, theta)
        return torch.stack((slope, loss.detach())) / h**2

    measured = (8 * both(5e-4) - 6 * both(1e-3) + both(2e-3)) / 3  # no error of order h or h^2
    for name, value, expected in zip(("gradient", "loss"), measured, _leading(world, x, level, theta), strict=True):
        yield name, exact(abs(float(value / expected) - 1), 1e-4, "relative")


def _leading(world: World, x: Tensor, level: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    """-f_theta f_xx Var(eps | x) and f_x^2 Var(eps | x), meant over features and summed over the x."""
    covariance = world.posterior_covariance(x, 1.0, level) / level**2

    def f(theta: Tensor, point: Tensor) -> Tensor:
        return _student(theta)(point[None], level)[0]

    slope, loss = scalar(0.0), scalar(0.0)
    for point, C in zip(x, covariance, strict=True):
        by_theta = torch.func.jacrev(f)(theta.detach(), point)
        by_x = torch.func.jacrev(f, argnums=1)(theta.detach(), point)
        curved = torch.func.hessian(f, argnums=1)(theta.detach(), point)
        slope = slope - (by_theta * (curved * C).sum((-2, -1))).mean()
        loss = loss + (by_x @ C * by_x).sum(-1).mean()
    return slope, loss


@world_check("distillation.meanflow", worlds=("ring", "gaussian"))
def mean_velocity(world: World, generator: Generator) -> Iterator[Outcome]:
    """The displacement over the time of an exact path is the target made from its own rate: MeanFlow's identity."""
    d = 0.004
    for t, r in ((0.7, 0.2), (0.45, 0.3)):
        _, x = world.noised(20, 1 - t - 2 * d, t + 2 * d, generator)
        times = torch.tensor([t + 2 * d, t + d, t, t - d, t - 2 * d, r], dtype=torch.float64)
        path = trajectory(world, x, 1 - times, times)
        u = (path[:-1] - path[-1]) / (times[:-1] - r)[:, None, None]
        du_dt = (8 * (u[1] - u[3]) - (u[0] - u[4])) / (12 * d)
        velocity = (path[2] - world.denoiser(path[2], 1 - t, t)) / t
        target = distil.meanflow_target(velocity, du_dt, scalar(t), scalar(r))
        yield f"from {r} to {t}", exact(float((target - u[2]).square().mean().sqrt()), 1e-4, "velocity")


@world_check("distillation.total_derivative", "distillation.shortcut", worlds=("gaussian",))
def losses_of_exact_jumps(world: World, generator: Generator) -> Iterator[Outcome]:
    """The exact mean velocity of a Gaussian's flow, in closed form, costs nothing: by one jvp, by half steps."""
    assert isinstance(world, Mixture) and world.basis is not None
    mean, basis, variances = world.means[0], world.basis[0], world.variances[0]

    def jump(x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """The point at time s of the path through (x, t)."""
        t, s = t[:, None], s[:, None]
        stretch = (((1 - s) ** 2 * variances + s**2) / ((1 - t) ** 2 * variances + t**2)).sqrt()
        return (1 - s) * mean + ((x - (1 - t) * mean) @ basis * stretch) @ basis.mT

    x = noise(world.sample(20, generator), generator)
    t = 0.5 + 0.5 * torch.rand(20, dtype=torch.float64, generator=generator)
    r = t - 0.4
    velocity = torch.stack([(y - world.denoiser(y[None], 1 - s, s)[0]) / s for y, s in zip(x, t, strict=True)])
    flowed = distil.meanflow_loss(lambda x, r, t: (x - jump(x, t, r)) / (t - r)[:, None], x, velocity, r, t)
    yield "MeanFlow", exact(float(flowed.max()), 1e-20, "velocity^2")
    cut = distil.shortcut_loss(lambda x, t, h: (jump(x, t, t + h) - x) / h[:, None], x, t, torch.full_like(t, -0.2))
    yield "shortcut", exact(float(cut.max()), 1e-20, "velocity^2")


@world_check("distillation.dmd_gradient", "distillation.dmd_noised", worlds=("gaussian",))
def divergence_of_gaussians(world: World, generator: Generator) -> Iterator[Outcome]:
    """A generator shift + e^scale z: the loss's gradient, summed over Gauss-Hermite nodes, is that of the exact KL."""
    assert isinstance(world, Mixture) and world.basis is not None
    basis = world.basis[0]
    alpha, sigma = scalar(0.8), scalar(0.6)
    u, w = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(6))
    nodes, weight = torch.cartesian_prod(u, u), torch.cartesian_prod(w, w).prod(-1) / w.sum() ** 2
    weights = torch.tensor([[0.4, -0.3], [0.2, -0.5]], dtype=torch.float64, requires_grad=True)  # shift, log scale
    with torch.enable_grad():
        shift, spread = weights[0], weights[1].exp()
        exactly = gaussian.kl(
            alpha * shift,
            (alpha * spread) ** 2 + sigma**2,
            alpha * (world.means[0] @ basis),
            alpha**2 * world.variances[0] + sigma**2,
        ).sum()
        (wanted,) = torch.autograd.grad(exactly, weights, retain_graph=True)
        z, eps = nodes[:, :1], nodes[:, 1:]  # each coordinate by itself: the law is a product along the basis
        x = alpha * (shift + spread * z) + sigma * eps
        D_fake = shift + alpha * spread**2 / ((alpha * spread) ** 2 + sigma**2) * (x - alpha * shift)
        D_real = world.denoiser(x @ basis.mT, alpha, sigma) @ basis
        loss = weight @ distil.dmd_loss(x, distil.dmd_difference(D_fake, D_real, alpha, sigma))
        (found,) = torch.autograd.grad(loss, weights)
    yield "gradient", exact(float((found - wanted).abs().max()), 1e-12, "nats")


@world_check("distillation.reflow_distillation", "distillation.bent", worlds=("gaussian", "bimodal"))
def one_velocity(world: World, generator: Generator) -> Iterator[Outcome]:
    """Before reflow one velocity, at noise, leads everybody to the mean; paired by the flow, every point to its own.

    The flow of a Gaussian is linear and on the line it keeps the order: straight lines between its ends do not cross.
    """
    noise_1 = torch.randn(40, world.dim, dtype=torch.float64, generator=generator)
    start = noise_1.sort(0).values if world.dim == 1 else noise_1
    velocity = start - world.denoiser(start, 0.0, 1.0)
    mean = distil.straight_student(start, velocity, scalar(1.0))
    yield "before", exact(float((mean - mean[0]).abs().max()), 1e-12, "distance")

    end = trajectory(world, start, torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]))[-1]
    for t in (0.3, 0.7):
        between = (1 - t) * end + t * start
        if world.dim == 1:
            yield f"order at {t}", exact(-float(between.diff(dim=0).min()), 0.0, "distance")
            continue
        known = torch.cat((between, torch.ones(len(between), 1, dtype=torch.float64)), 1)
        reflowed = known @ torch.linalg.lstsq(known, start - end).solution  # E[x_1 - x_0 | x_t], which is linear
        landed = distil.straight_student(between, reflowed, scalar(t))
        yield f"after, from {t}", exact(float((landed - end).abs().max()), 1e-8, "distance")
