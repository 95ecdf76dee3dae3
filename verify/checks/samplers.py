r"""Samplers as tables: their marginals, their exact cases, and their measured orders of convergence.

Orders are measured on a Gaussian of standard deviations 1.5 and 0.5, where the probability-flow map is known,

    x_s = m_s + C_s^(1/2) C_t^(-1/2) (x_t - m_t),       m_t = alpha_t m,   C_t = alpha_t^2 C + sigma_t^2 I,

from errors at n and 2 n steps (global), or of one step of length h and h / 2 (local, one order higher).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Generator, Tensor
from torchdiffeq import odeint

from diffusion import ddpm, solvers
from diffusion.grids import uniform
from diffusion.sampling import sample
from diffusion.schedules import Schedule, cosine, flow, linear_betas, vp_linear, vp_linear_beta, vp_linear_beta_integral
from diffusion.solvers import Table, velocity
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World
from verify.checks.chains import scalar
from verify.statistics import Verdict, exact
from verify.worlds import Outcome, world_check

ORDER_ALLOWED = 0.1
PROVED_ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "dpmpp_2m": 2}
SCHEDULES = {"cosine": cosine, "vp_linear": vp_linear, "flow": flow}


def _order(coarse: float, fine: float, proved: int) -> Verdict:
    """The measured exponent against the proved one."""
    return exact(abs(math.log2(coarse / fine) - proved), ORDER_ALLOWED, "order")


def _level(schedule: Schedule, t: Tensor) -> tuple[float, float]:
    return float(schedule.alpha(t)), float(schedule.sigma(t))


def _carried(world: Mixture, schedule: Schedule, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The exact probability-flow map of a Gaussian from t to s."""
    (a_t, s_t), (a_s, s_s) = _level(schedule, t), _level(schedule, s)
    mean, spread = world.means[0], world.variances[0]
    stretch = ((a_s**2 * spread + s_s**2) / (a_t**2 * spread + s_t**2)).sqrt()
    basis = torch.eye(world.dim, dtype=x.dtype) if world.basis is None else world.basis[0]
    return a_s * mean + ((x - a_t * mean) @ basis * stretch) @ basis.T


def _error(name: str, world: Mixture, schedule: Schedule, times: Tensor, generator: Generator) -> float:
    """RMS distance of a sampler's end point from the exact map's."""
    _, x = world.noised(64, *_level(schedule, times[0]), generator)
    table = solvers.SOLVERS[name](schedule, times)
    end = sample(lambda y, t: world.denoiser(y, *_level(schedule, t)), table, x)
    return float((end - _carried(world, schedule, x, times[0], times[-1])).square().mean().sqrt())


@world_check("solver.euler_error", "solver.ddim_error", "solver.heun_error", "solver.dpmpp_2m", worlds=("gaussian",))
def global_orders(world: World, generator: Generator) -> Iterator[Outcome]:
    """Errors at a fixed end time fall with the proved power of the number of steps, on three schedules."""
    assert isinstance(world, Mixture)
    seed = generator.initial_seed()
    for name, order in PROVED_ORDERS.items():
        for label, schedule in SCHEDULES.items():
            grids = [uniform(n, 0.8, 0.2) for n in (96, 192)]
            coarse, fine = (_error(name, world, schedule(), grid, generator.manual_seed(seed)) for grid in grids)
            yield f"{name}, {label}", _order(coarse, fine, order)


@world_check("solver.euler_error", "solver.ddim_error", "solver.heun_error", worlds=("gaussian",))
def local_orders(world: World, generator: Generator) -> Iterator[Outcome]:
    """One step's error falls with one power more."""
    assert isinstance(world, Mixture)
    seed = generator.initial_seed()
    for name in ("euler", "ddim", "heun"):
        grids = [uniform(1, 0.6, 0.6 - h) for h in (2**-9, 2**-10)]
        long, short = (_error(name, world, cosine(), grid, generator.manual_seed(seed)) for grid in grids)
        yield name, _order(long, short, PROVED_ORDERS[name] + 1)


@world_check("sde.probability_flow", worlds=("gaussian",))
def probability_flow_map(world: World, generator: Generator) -> Iterator[Outcome]:
    """Followed closely, the ODE with the exact denoiser is the known linear map."""
    assert isinstance(world, Mixture)
    for label, schedule in SCHEDULES.items():
        times = torch.tensor([0.8, 0.3], dtype=torch.float64)
        _, x = world.noised(64, *_level(schedule(), times[0]), generator)
        end = odeint(partial(_rate, world, schedule()), x, times, rtol=1e-9, atol=1e-9, method="dopri5")[-1]
        error = (end - _carried(world, schedule(), x, times[0], times[1])).abs().max()
        yield label, exact(float(error), 1e-6, "distance")


def _rate(world: World, schedule: Schedule, t: Tensor, x: Tensor) -> Tensor:
    a, b = velocity(schedule, t)
    return a * x + b * world.denoiser(x, *_level(schedule, t))


@world_check("ddim.point_mass_exact", worlds=("points",))
def ddim_on_a_point(world: World, generator: Generator) -> Iterator[Outcome]:
    """For data at one point DDIM lands on alpha_s c + sigma_s eps, whatever the steps; clean data included."""
    assert isinstance(world, Points)
    point = Points("point", world.points[:1])
    for label, schedule in SCHEDULES.items():
        for n, last in ((1, 0.0), (2, 0.0), (1, 0.3), (7, 0.3)):
            times = uniform(n, end=last)
            (a_t, s_t), (a_s, s_s) = _level(schedule(), times[0]), _level(schedule(), times[-1])
            x_0, x = point.noised(100, a_t, s_t, generator)
            end = sample(lambda y, t: point.points.expand(len(y), -1), solvers.ddim(schedule(), times), x)
            error = (end - a_s * x_0 - s_s * (x - a_t * x_0) / s_t).abs().max()
            yield f"{label}, {n} steps to t = {last:g}", exact(float(error), 1e-13, "distance to the exact path")


@world_check("ddim.eta", "solver.ddim_row", worlds=("gaussian",))
def table_marginals(world: World, generator: Generator) -> Iterator[Outcome]:
    """Every row of a DDIM or DDPM table maps alpha_t c to alpha_s c and sigma_t^2 to sigma_s^2, given the true x_0."""
    for label, schedule in SCHEDULES.items():
        times = uniform(20)
        for eta in (0.0, 0.3, 1.0):
            table = solvers.ddim(schedule(), times, eta=eta)
            yield f"ddim, eta = {eta:g}, {label}", exact(_marginal_error(table, schedule()), 1e-13, "scale")
        yield f"ddpm, {label}", exact(_marginal_error(solvers.ddpm(schedule(), times), schedule()), 1e-13, "scale")


def _marginal_error(table: Table, schedule: Schedule) -> float:
    alpha, sigma = schedule.alpha(table.times), schedule.sigma(table.times)
    mean = table.state * alpha[:-1] + table.denoised.sum(1) - alpha[1:]
    spread = ((table.state * sigma[:-1]) ** 2 + table.noise**2).sqrt() - sigma[1:]
    return float(torch.maximum(mean.abs().max(), spread.abs().max()))


@world_check("sde.ddpm_to_vp", worlds=("gaussian",))
def ancestral_limit(world: World, generator: Generator) -> Iterator[Outcome]:
    """The law of DDPM's samples under the exact denoiser, followed in closed form, tends to the data's with order 1."""
    assert isinstance(world, Mixture)
    for variance in ("beta_tilde", "beta"):
        coarse, fine = (_law_error(world, vp_linear(), uniform(n, 1.0, 0.05), variance) for n in (256, 512))
        yield f"{variance}, mean and covariance", _order(coarse, fine, 1)


def _law_error(world: Mixture, schedule: Schedule, times: Tensor, variance: str) -> float:
    """Largest error of mean and standard deviation along the eigenvectors, each of which evolves on its own."""
    table = solvers.ddpm(schedule, times, variance=variance)  # type: ignore[arg-type]
    basis = torch.eye(world.dim, dtype=torch.float64) if world.basis is None else world.basis[0]
    m, v = world.means[0] @ basis, world.variances[0]
    a, s = _level(schedule, times[0])
    mean, spread = a * m, a**2 * v + s**2
    for t, row in zip(times[:-1], table.rows, strict=True):
        a, s = _level(schedule, t)
        ((_, d),) = row.denoised
        pull = a * v / (a**2 * v + s**2)  # the denoiser is m + pull (x - a m)
        mean = row.state * mean + d * (m + pull * (mean - a * m))
        spread = (row.state + d * pull) ** 2 * spread + row.noise**2
    a, s = _level(schedule, times[-1])
    return float(torch.maximum((mean - a * m).abs().max(), (spread.sqrt() - (a**2 * v + s**2).sqrt()).abs().max()))


@world_check("sde.ddpm_to_vp", worlds=("gaussian",))
def chain_limit(world: World, generator: Generator) -> Iterator[Outcome]:
    """DDPM's chain with betas beta(k/T)/T has an alpha_bar that tends to exp(-B(1)) with order 1."""
    beta_min, beta_max, one = 0.1, 20.0, scalar(1.0)
    limit = torch.exp(-vp_linear_beta_integral(one, beta_min, beta_max))

    def error(T: int) -> float:
        t = torch.arange(1, T + 1, dtype=torch.float64) / T
        alpha_bar = torch.cumprod(1 - vp_linear_beta(t, beta_min, beta_max) / T, 0)[-1]
        return abs(float(alpha_bar / limit) - 1)

    yield "alpha_bar", _order(error(2000), error(4000), 1)


@world_check("ddpm.bound", worlds=("gaussian",))
def bound_on_gaussian_data(world: World, generator: Generator) -> Iterator[Outcome]:
    """With the exact denoiser and the optimal variances the bound on Gaussian data exceeds the entropy by L_T alone:

    E[L_0 + sum L_(t-1) + L_T] = H(x_0) + KL(q(x_T) || N(0, I)); with beta_tilde in their place it is larger.
    """
    assert isinstance(world, Mixture)
    v = world.variances[0]  # coordinates along the eigenvectors, means at 0
    betas = linear_betas(50).double()
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])
    left = [v * (1 - a) / (a * v + 1 - a) for a in alpha_bar]  # Var(x_0 | x_k)
    tight = loose = torch.zeros_like(v)
    for k in range(2, 51):
        a, b = alpha_bar[k - 1], betas[k - 1]
        best = ddpm.optimal_variance(a, b, left[k])
        tight = tight + ddpm.weight_x0(a, b, best) * left[k] + ddpm.variance_kl(a, b, best)
        loose = loose + ddpm.weight_x0(a, b, ddpm.posterior_variance(a, b)) * left[k]
    first = (1 + torch.log(2 * math.pi * left[1])) / 2  # L_0 with the decoder's variance at its best, Var(x_0 | x_1)
    prior = ddpm.prior_kl(v.sqrt(), alpha_bar[-1])  # E x_0^2 = v
    marginal = alpha_bar[-1] * v + 1 - alpha_bar[-1]
    excess = (marginal - 1 - marginal.log()) / 2
    error = float((tight + first + prior).sum() - world.entropy() - excess.sum())
    yield "optimal variances", exact(abs(error), 1e-10, "nats")
    yield "beta_tilde is looser", exact(float(-(loose - tight).min()), 0.0, "nats")
