r"""What a denoiser has to do with a score: Tweedie, the denoising objective's minimiser, the probability-flow ODE.

Tweedie's formulas are identities, so they are compared as numbers, the score by automatic differentiation of the
world's log density. That E[x_0 | x_t] minimises the denoising loss is orthogonality: x_0 - D(x_t) is uncorrelated with
every function of x_t. Its terms have mean zero given x_t and a variance the world knows, which is all `mean_zero` asks.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor
from torchdiffeq import odeint

from diffusion import parameterization
from diffusion.likelihood import log_likelihood
from diffusion.schedules import Schedule, cosine, vp_linear
from diffusion.solvers import velocity
from toy.world import World
from verify.statistics import exact, exchange, mean_zero, same_law
from verify.worlds import FALSE_FAIL, Outcome, world_check

SMOOTH = ("gaussian", "ring", "grid", "two_moons", "checkerboard", "points")
LEVELS = ((0.9, 0.3), (0.6, 0.8), (0.2, 1.0))  # (alpha, sigma)


def _relative(a: Tensor, b: Tensor) -> float:
    """max |a - b| over the size of b."""
    return float((a - b).abs().max() / b.abs().max())


@world_check("score.tweedie", worlds=SMOOTH)
def tweedie(world: World, generator: Generator) -> Iterator[Outcome]:
    """The denoiser from the density's gradient: alpha E[x_0 | x_t] = x_t + sigma^2 grad log p_t."""
    for alpha, sigma in LEVELS:
        _, x = world.noised(500, alpha, sigma, generator)
        with torch.enable_grad():
            x = x.requires_grad_()
            (gradient,) = torch.autograd.grad(world.log_density(x, alpha, sigma).sum(), x)
        x = x.detach()
        error = _relative(alpha * world.denoiser(x, alpha, sigma), x + sigma**2 * gradient)
        yield f"alpha = {alpha}, sigma = {sigma}", exact(error, 1e-10, "relative error of the denoiser")


@world_check("score.tweedie_second", worlds=SMOOTH)
def tweedie_second_order(world: World, generator: Generator) -> Iterator[Outcome]:
    """The denoiser's Jacobian is alpha / sigma^2 times the posterior's covariance."""
    alpha, sigma = 0.6, 0.8
    _, x = world.noised(100, alpha, sigma, generator)
    with torch.enable_grad():
        jacobian = torch.stack(
            [torch.autograd.functional.jacobian(lambda y: world.denoiser(y[None], alpha, sigma)[0], row) for row in x]
        )
    error = _relative(sigma**2 / alpha * jacobian, world.posterior_covariance(x, alpha, sigma))
    yield "Jacobian", exact(error, 1e-9, "relative error of the covariance")


@world_check("score.denoising", worlds=SMOOTH)
def denoising_minimiser(world: World, generator: Generator) -> Iterator[Outcome]:
    """x_0 - D(x_t) is uncorrelated with functions of x_t, so no denoiser has a lower loss; likewise the score."""
    n = 20_000
    for alpha, sigma in LEVELS[:2]:
        x_0, x_t = world.noised(n, alpha, sigma, generator)
        left = x_0 - world.denoiser(x_t, alpha, sigma)
        spread = world.posterior_covariance(x_t, alpha, sigma).diagonal(dim1=-2, dim2=-1)
        probes = {"1": torch.ones_like(x_t), "x_t": x_t, "sin 3 x_t": torch.sin(3 * x_t)}
        for name, probe in probes.items():
            terms, variances = (probe * left).numpy(), (probe**2 * spread).numpy()
            for i in range(world.dim):
                verdict = mean_zero(terms[:, i], variances[:, i], FALSE_FAIL)
                yield f"sigma = {sigma}, against {name}, coordinate {i}", verdict


@world_check("probability.mse_minimiser", worlds=SMOOTH)
def posterior_is_exchangeable(world: World, generator: Generator) -> Iterator[Outcome]:
    """Given x_t, the x_0 it came from and a posterior draw are exchangeable: their differences have random signs."""
    alpha, sigma = 0.6, 0.8
    x_0, x_t = world.noised(20_000, alpha, sigma, generator)
    again = world.posterior_sample(x_t, alpha, sigma, generator)
    yield "first moment", exchange((x_0 - again).numpy(), FALSE_FAIL)
    yield "second moment", exchange((x_0**2 - again**2).numpy(), FALSE_FAIL)
    yield "with x_t", exchange(((x_0 - again) * x_t).numpy(), FALSE_FAIL)


@world_check("parameterization.table", worlds=("ring", "checkerboard"))
def conversions(world: World, generator: Generator) -> Iterator[Outcome]:
    """Each target's posterior mean is the table's row at (D, E[eps | x_t]); converting gives back the same D."""
    schedule = vp_linear()
    t = torch.tensor(0.4, dtype=torch.float64)
    kernel = schedule.kernel(t)
    alpha, sigma = float(kernel.alpha), float(kernel.sigma)
    _, x_t = world.noised(500, alpha, sigma, generator)
    denoised = world.denoiser(x_t, alpha, sigma)
    for kind in parameterization.PARAMETERIZATIONS:
        a, b = parameterization.row(kind, *kernel)
        prediction = a * denoised + b * (x_t - alpha * denoised) / sigma
        back = parameterization.to_x0(kind, prediction, x_t, *kernel)
        yield f"{kind} to x0", exact(_relative(back, denoised), 1e-11, "relative error of x0")
    score = parameterization.convert("x0", "score", denoised, x_t, *kernel)
    yield "score", exact(_relative(score, world.score(x_t, alpha, sigma)), 1e-11, "relative error of the score")


def _at(world: World, schedule: Schedule, x: Tensor, t: Tensor) -> Tensor:
    return world.denoiser(x, float(schedule.alpha(t)), float(schedule.sigma(t)))


@world_check("sde.probability_flow", "sde.pf_ode_denoised", worlds=("ring", "checkerboard"))
def probability_flow_marginals(world: World, generator: Generator) -> Iterator[Outcome]:
    """Noised data carried along the probability-flow ODE, both ways, has the law of the data noised to that time."""
    schedule, times = cosine(), torch.tensor([0.8, 0.3], dtype=torch.float64)

    def flow(t: Tensor, x: Tensor) -> Tensor:
        a, b = velocity(schedule, t)
        return a * x + b * _at(world, schedule, x, t)

    for start, end in (times, times.flip(0)):
        _, x = world.noised(5000, float(schedule.alpha(start)), float(schedule.sigma(start)), generator)
        stops = {"step_t": end[None]}  # a schedule knows no time beyond 1
        moved = odeint(flow, x, torch.stack([start, end]), rtol=1e-6, atol=1e-6, method="dopri5", options=stops)[-1]
        _, fresh = world.noised(5000, float(schedule.alpha(end)), float(schedule.sigma(end)), generator)
        yield f"t = {start:.1f} to {end:.1f}", same_law(moved.numpy(), fresh.numpy(), FALSE_FAIL)


@world_check("sde.probability_flow", "sde.instantaneous_change", worlds=("gaussian", "ring"))
def probability_flow_likelihood(world: World, generator: Generator) -> Iterator[Outcome]:
    """The density the ODE carries from the prior's end is the world's exact density."""
    schedule, start = vp_linear(), 0.05
    a, s = (float(f(torch.tensor(start, dtype=torch.float64))) for f in (schedule.alpha, schedule.sigma))
    end = torch.tensor(1.0, dtype=torch.float64)
    a_1, s_1 = float(schedule.alpha(end)), float(schedule.sigma(end))
    _, x = world.noised(64, a, s, generator)
    nats = log_likelihood(
        lambda y, t: _at(world, schedule, y, t),
        schedule,
        x,
        start=start,
        log_prior=lambda y: world.log_density(y, a_1, s_1),
        rtol=1e-7,
        atol=1e-7,
    )
    error = float((nats - world.log_density(x, a, s)).abs().max())
    yield "log density", exact(error, 1e-4, "nats")
