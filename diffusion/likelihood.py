r"""Exact likelihoods by the probability-flow ODE.

A sample moved along dx/dt = u(x, t) keeps its probability mass, so its density changes by the volume's contraction
(instantaneous change of variables; Chen et al. 2018, eq. 8; Song et al. 2021 (score SDE), eq. 39):

    d/dt log p_t(x_t) = -div u(x_t, t),
    log p_start(x) = log p_1(x_1) + \int_start^1 div u(x_t, t) dt,      x_start = x, followed towards the noise.

With u = a x + b D (D the denoised prediction, a = sigma'/sigma, b = alpha' - alpha sigma'/sigma), div u = d a + b tr J,
where d is the number of dimensions and J the Jacobian of D. The trace is exact (d backward passes), or estimated by
Hutchinson's E[e^T J e] with random signs e, held fixed along the path: unbiased for log p, not for p.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torchdiffeq import odeint

from diffusion.binding import unproved
from diffusion.sampling import Denoiser
from diffusion.schedules import Schedule
from diffusion.solvers import velocity


@unproved("an adaptive ODE solver's result; tested against exact Gaussian and mixture densities")
def log_likelihood(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Float[Tensor, " batch *dims"],
    *,
    start: float = 1e-5,
    probes: int | None = None,
    generator: Generator | None = None,
    log_prior: Callable[[Tensor], Tensor] | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Float[Tensor, " batch"]:
    """log p_start(x) in nats for each sample, of the law that the denoiser's probability-flow ODE generates from noise.

    start      the time x is taken to live at: the velocity has a pole at sigma = 0, so just above it.
    probes     None: exact trace, one backward pass a dimension. k: Hutchinson's estimate with k sign vectors from
               `generator`.
    log_prior  log density at t = 1, [batch, ...] -> [batch]; N(0, sigma(1)^2 I) unless given.
    rtol, atol of dopri5, absolute in x and in nats.

    The dtype is x's: use float64 for tolerances under 1e-4. Samples must not influence each other in the denoiser (no
    batch norm). ValueError for a bad start, number of probes or missing generator.
    """
    if not 0 < start < 1 or not schedule.sigma(torch.tensor(start, dtype=torch.float64)) > 0:
        raise ValueError(f"start: got {start}, expected a time in (0, 1) at which sigma > 0")
    signs = _signs(x, probes, generator)

    def rates(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        t = t.double()
        a, b = velocity(schedule, t)
        denoised, trace = _trace(lambda y: denoiser(y, t), state[0], signs)
        return (a * state[0] + b * denoised).to(x.dtype), (a * x[0].numel() + b * trace).to(x.dtype)

    span = torch.tensor([start, 1.0], dtype=torch.float64, device=x.device)
    # The velocity varies on the scale of t near the data, and a schedule knows no time beyond 1.
    steps = {"first_step": min(start, 1 - start), "step_t": span[1:]}
    with torch.no_grad():
        states = (x, x.new_zeros(len(x)))
        path, gain = odeint(rates, states, span, rtol=rtol, atol=atol, method="dopri5", options=steps)
        return (log_prior or _gaussian(schedule))(path[-1]) + gain[-1]


def _gaussian(schedule: Schedule) -> Callable[[Tensor], Tensor]:
    """log density of N(0, sigma(1)^2 I), per sample."""
    sigma = schedule.sigma(torch.tensor(1.0, dtype=torch.float64)).item()
    return lambda x: (-0.5 * (x / sigma) ** 2 - 0.5 * math.log(2 * math.pi * sigma**2)).flatten(1).sum(1)


def _signs(x: Tensor, probes: int | None, generator: Generator | None) -> Tensor | None:
    """[probes, *x.shape] random signs; None for the exact trace."""
    if probes is None:
        return None
    if probes < 1 or generator is None:
        raise ValueError(f"probes: got {probes} with generator {generator}; expected at least 1 and a torch.Generator")
    bits = torch.randint(2, (probes, *x.shape), generator=generator, device=generator.device)
    return (2 * bits - 1).to(x)


def _trace(function: Callable[[Tensor], Tensor], x: Tensor, signs: Tensor | None) -> tuple[Tensor, Tensor]:
    """function(x) and the trace of its Jacobian for each sample: exact, or the mean of e^T J e over the signs e."""
    y, pullback = torch.func.vjp(function, x)[:2]
    if y.shape != x.shape:
        raise ValueError(f"denoiser: returned shape {tuple(y.shape)} for x of shape {tuple(x.shape)}")
    terms = [(pullback(e)[0] * e).flatten(1).sum(1) for e in (_unit_vectors(x) if signs is None else signs)]
    return y, torch.stack(terms).sum(0) / (1 if signs is None else len(terms))


def _unit_vectors(x: Tensor) -> Tensor:
    """[d, *x.shape]: in the i-th, every sample is the i-th unit vector."""
    d = x[0].numel()
    return torch.eye(d, dtype=x.dtype, device=x.device)[:, None].expand(d, len(x), d).reshape(d, *x.shape)
