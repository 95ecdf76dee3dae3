r"""Likelihoods by the probability-flow ODE, exact or estimated.

A sample moved along dx/dt = u(x, t) keeps its probability mass, so its density changes by the volume's contraction
(instantaneous change of variables; Chen et al. 2018, eq. 8; Song et al. 2021 (score SDE), eq. 39):

    d/dt log p_t(x_t) = -div u(x_t, t),
    log p_start(x) = log p_1(x_1) + \int_start^1 div u(x_t, t) dt,      x_start = x, followed towards the noise.

With u = a x + b D (D the denoised prediction, a = sigma'/sigma, b = alpha' - alpha sigma'/sigma), div u = d a + b tr J,
where d is the number of dimensions and J the Jacobian of D. The trace is exact (d backward passes), or Hutchinson's
v^T J v, one probe v for the whole path: unbiased for log p, too large on average for p (`diffusion.hutchinson`).

What is at t = 1 is the caller's to say: `log_prior`, or N(0, sigma(1)^2 I), which samplers start from. For data of
mean m and variance v `gaussian_prior(schedule, m, v)` is nearer the truth: N(alpha(1) m, alpha(1)^2 v + sigma(1)^2).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torchdiffeq import odeint

from diffusion import hutchinson
from diffusion.binding import unproved
from diffusion.schedules import Schedule
from diffusion.solvers import velocity
from diffusion.types import Denoiser

LogPrior = Callable[[Tensor], Tensor]


class Estimate(NamedTuple):
    """An estimate of log p per sample, in nats, and its standard error, which knows of the probes alone."""

    nats: Float[Tensor, " batch"]
    standard_error: Float[Tensor, " batch"]


@unproved("an adaptive ODE solver's result; tested against exact Gaussian and mixture densities")
def log_likelihood(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Float[Tensor, " batch *dims"],
    *,
    start: float = 1e-5,
    probes: int | None = None,
    generator: Generator | None = None,
    kind: hutchinson.Kind = "rademacher",
    log_prior: LogPrior | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Float[Tensor, " batch"]:
    """log p_start(x) in nats for each sample, of the law that the denoiser's probability-flow ODE generates from noise.

    start      the time x is taken to live at: the velocity has a pole at sigma = 0, so just above it.
    probes     None: exact trace, one backward pass a dimension. k: the mean of Hutchinson's estimates with k probes of
               this `kind` from `generator`; `estimate` gives their standard error too.
    log_prior  log density at t = 1, [batch, ...] -> [batch]; N(0, sigma(1)^2 I) unless given.
    rtol, atol of dopri5, absolute in x and in nats.

    The dtype is x's: use float64 for tolerances under 1e-4. A `discrete` schedule has a kink at each of its times, and
    that leaves about 1e-3 nats whatever the tolerance. Samples must not influence each other in the denoiser (no batch
    norm), and torch.func.vmap must be able to run its backward pass. ValueError for a bad start, number of probes or
    missing generator.
    """
    vectors = hutchinson.axes(x) if probes is None else _drawn(kind, probes, x, generator)
    trace = _total if probes is None else _mean
    gain, end = _follow(denoiser, schedule, x, vectors, trace, start, rtol, atol)
    return (log_prior or gaussian_prior(schedule))(end) + gain[0]


@unproved("an adaptive ODE solver's result; its mean over the probes is sde.hutchinson_likelihood's")
def estimate(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Float[Tensor, " batch *dims"],
    probes: int,
    generator: Generator,
    *,
    start: float = 1e-5,
    kind: hutchinson.Kind = "rademacher",
    log_prior: LogPrior | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Estimate:
    """log_likelihood with `probes` >= 2 probes, and the standard error of their mean, std/sqrt(probes) [batch].

    One path is followed, and each probe's v^T J v gathered along it. Arguments as for `log_likelihood`.
    """
    if probes < 2:
        raise ValueError(f"probes: got {probes}; a standard error needs at least 2")
    vectors = _drawn(kind, probes, x, generator)
    gain, end = _follow(denoiser, schedule, x, vectors, _each, start, rtol, atol)
    nats = (log_prior or gaussian_prior(schedule))(end) + gain
    return Estimate(nats.mean(0), nats.std(0) / math.sqrt(probes))


def gaussian_prior(schedule: Schedule, mean: float | Tensor = 0.0, variance: float | Tensor = 0.0) -> LogPrior:
    """log density, [batch, ...] -> [batch], of N(alpha(1) mean, alpha(1)^2 variance + sigma(1)^2) in each coordinate.

    `mean` and `variance` are the data's, scalars or in the shape of a sample; with neither, the noise alone is left,
    N(0, sigma(1)^2 I): what samplers start from, and exact only where alpha(1) = 0.
    """
    end = torch.tensor(1.0, dtype=torch.float64)
    alpha, sigma = float(schedule.alpha(end)), float(schedule.sigma(end))
    m = alpha * torch.as_tensor(mean, dtype=torch.float64)
    v = alpha**2 * torch.as_tensor(variance, dtype=torch.float64) + sigma**2

    def log_density(x: Tensor) -> Tensor:
        centre, spread = m.to(x), v.to(x)
        return -0.5 * ((x - centre) ** 2 / spread + torch.log(2 * math.pi * spread)).flatten(1).sum(1)

    return log_density


def _drawn(kind: hutchinson.Kind, probes: int, x: Tensor, generator: Generator | None) -> Tensor:
    if generator is None:
        raise ValueError(f"probes: got {probes} without a generator; expected a torch.Generator to draw them from")
    return hutchinson.probes(kind, probes, x, generator)


def _total(forms: Tensor) -> Tensor:
    return forms.sum(0, keepdim=True)


def _mean(forms: Tensor) -> Tensor:
    return forms.mean(0, keepdim=True)


def _each(forms: Tensor) -> Tensor:
    return forms


def _follow(
    denoiser: Denoiser,
    schedule: Schedule,
    x: Tensor,
    vectors: Tensor,
    trace: Callable[[Tensor], Tensor],
    start: float,
    rtol: float,
    atol: float,
) -> tuple[Tensor, Tensor]:
    """The divergence gathered up to t = 1, a row for each estimate, and x moved there.

    `trace` makes the estimates [m, batch] of tr J out of the vectors' forms v^T J v, [k, batch].
    """
    if x.ndim < 2 or 0 in x.shape or not x.is_floating_point():
        raise ValueError(f"x: got {x.dtype} {list(x.shape)}, expected floats [batch, ...], at least one sample")
    if not 0 < start < 1 or not schedule.sigma(torch.tensor(start, dtype=torch.float64)) > 0:
        raise ValueError(f"start: got {start}, expected a time in (0, 1) at which sigma > 0")

    def rates(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        t = t.double()
        a, b = velocity(schedule, t)
        denoised, forms = hutchinson.quadratic_forms(lambda y: denoiser(y, t), state[0], vectors)
        return (a * state[0] + b * denoised).to(x.dtype), (a * x[0].numel() + b * trace(forms)).to(x.dtype)

    span = torch.tensor([start, 1.0], dtype=torch.float64, device=x.device)
    # The velocity varies on the scale of t near the data, and a schedule knows no time beyond 1.
    steps = {"first_step": min(start, 1 - start), "step_t": span[1:]}
    nothing = trace(x.new_zeros(len(vectors), len(x)))
    with torch.no_grad():
        path, gain = odeint(rates, (x, nothing), span, rtol=rtol, atol=atol, method="dopri5", options=steps)
    return gain[-1], path[-1]
