r"""Schedules as SDEs: the drift and diffusion that follow from a schedule move moments just as the schedule says.

For dx = f x dt + g dW, mean and variance obey m' = f m and P' = 2 f P + g^2. From the world's moments at one time,
integrated with f and g^2 alone, they must arrive at alpha m_0 and alpha^2 P_0 + sigma^2 at another.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor
from torchdiffeq import odeint

from diffusion.schedules import SCHEDULES, Schedule
from toy.mixture import Mixture
from toy.world import World
from verify.statistics import exact
from verify.worlds import Outcome, world_check

SMOOTH = ("vp_linear", "sub_vp", "cosine", "flow", "ve", "edm")  # chains have kinks between their grid points
SPAN = torch.tensor([0.1, 0.9], dtype=torch.float64)


@world_check("schedule.drift", "schedule.diffusion", "sde.moments", worlds=("gaussian",))
def moments_of_the_sde(world: World, generator: Generator) -> Iterator[Outcome]:
    """Mean and variance along each eigenvector, carried by f and g^2 from t = 0.1 to t = 0.9."""
    assert isinstance(world, Mixture)
    m, v = world.means[0], world.variances[0]
    for name in SMOOTH:
        schedule = SCHEDULES[name]()

        def rates(t: Tensor, state: tuple[Tensor, Tensor], schedule: Schedule = schedule) -> tuple[Tensor, Tensor]:
            f, g2 = schedule.drift(t), schedule.diffusion2(t)
            return f * state[0], 2 * f * state[1] + g2

        alpha, sigma = schedule.alpha(SPAN)[:, None], schedule.sigma(SPAN)[:, None]
        means, variances = alpha * m, alpha**2 * v + sigma**2
        stops = {"step_t": SPAN[1:]}
        state = (means[0], variances[0])
        mean, variance = odeint(rates, state, SPAN, rtol=1e-9, atol=1e-12, method="dopri5", options=stops)
        yield f"{name}, mean", exact(_relative(mean[1], means[1]), 1e-7, "relative error")
        yield f"{name}, variance", exact(_relative(variance[1], variances[1]), 1e-7, "relative error")


@world_check("schedule.diffusion_log_snr", worlds=("gaussian",))
def rates_of_change(world: World, generator: Generator) -> Iterator[Outcome]:
    """alpha', sigma' and half_log_snr' are the derivatives of alpha, sigma and half_log_snr."""
    for name, make in SCHEDULES.items():
        schedule = make()
        t = torch.rand(200, generator=generator, dtype=torch.float64) * 0.98 + 0.01
        for label in ("alpha", "sigma", "half_log_snr"):
            with torch.enable_grad():
                at = t.clone().requires_grad_()
                value = getattr(schedule, label)(at)
                needs = value.requires_grad
                slope = torch.autograd.grad(value.sum(), at)[0] if needs else torch.zeros_like(t)
            stated = getattr(schedule, f"{label}_dot")(t)
            error = float((stated - slope).abs().max() / slope.abs().max().clamp(min=1))
            yield f"{name}, {label}", exact(error, 1e-12, "relative error of the slope")


def _relative(a: Tensor, b: Tensor) -> float:
    return float(((a - b) / b).abs().max())
