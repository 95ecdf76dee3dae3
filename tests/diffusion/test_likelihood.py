"""Likelihoods against exact densities of Gaussians and mixtures, with the exact trace and with Hutchinson's."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffusion.likelihood import log_likelihood
from diffusion.schedules import SCHEDULES, Schedule
from toy.mixture import Mixture

DOUBLE = torch.float64
CORRELATED = torch.tensor([[1.0, 0.6], [0.6, 0.5]])
WORLDS = {
    "gaussian": Mixture("gaussian", torch.ones(1), torch.tensor([[0.4, -0.3]]), CORRELATED),
    "mixture": Mixture(
        "mixture", torch.tensor([0.3, 0.7]), torch.tensor([[-1.2, 0.0], [0.9, 0.8]]), torch.tensor([0.3, 0.5])
    ),
}
START = 1e-3


def exact(world: Mixture, schedule: Schedule, t: float) -> Callable[[Tensor], Tensor]:
    time = torch.tensor(t, dtype=DOUBLE)
    return lambda x: world.log_density(x, schedule.alpha(time), schedule.sigma(time))


def denoiser(world: Mixture, schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, t: world.denoiser(x, schedule.alpha(t), schedule.sigma(t))


def points(world: Mixture, n: int) -> Tensor:
    return world.sample(n, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("schedule_name", ["vp_linear", "cosine", "flow", "edm"])
def test_exact_trace_gives_the_exact_density(schedule_name: str, name: str) -> None:
    """Wrong direction of time, sign of the divergence or trace would each be off by a nat or more."""
    world, schedule = WORLDS[name], SCHEDULES[schedule_name]()
    x, log_prior = points(world, 5), exact(world, schedule, 1.0)
    value = log_likelihood(
        denoiser(world, schedule), schedule, x, start=START, log_prior=log_prior, rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(value, exact(world, schedule, START)(x), rtol=0, atol=1e-6)
    assert (log_prior(x) - value).abs().max() > 0.1


def test_default_prior_is_normal_noise_of_the_schedules_end() -> None:
    """Where x_1 is pure noise the default is exact; there the density starts at p_start, close to the data's."""
    world, schedule = WORLDS["gaussian"], SCHEDULES["flow"]()
    x = points(world, 5)
    value = log_likelihood(denoiser(world, schedule), schedule, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(value, world.log_density(x), rtol=0, atol=2e-4)


@pytest.mark.parametrize("probes", [1, 3])
def test_hutchinson_is_exact_on_average_over_all_signs(probes: int) -> None:
    """In two dimensions e^T J e takes two values, equally likely; their mean is the trace.

    32 copies of one point, each with its own signs: at one probe just two likelihoods occur, symmetric about the exact
    one (both occur but for a chance of 2^-31); at k probes, k + 1 equally spaced ones.
    """
    world, schedule = WORLDS["gaussian"], SCHEDULES["vp_linear"]()
    x = points(world, 1).expand(32, 2).clone()

    def run(**how: object) -> Tensor:
        prior = exact(world, schedule, 1.0)
        return log_likelihood(
            denoiser(world, schedule), schedule, x, start=START, log_prior=prior, rtol=1e-8, atol=1e-8, **how
        )

    trace = run()[0]
    estimates = run(probes=probes, generator=torch.Generator().manual_seed(0))
    levels = sorted({round(value, 5) for value in (estimates - trace).tolist()})
    assert levels[0] < -0.1, "the Jacobian is not diagonal, so the estimate must vary"
    assert len(levels) == probes + 1
    steps = torch.tensor(levels, dtype=DOUBLE).diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-3, atol=0)
    assert levels[0] + levels[-1] == pytest.approx(0, abs=2e-5)


def test_images_float32_and_constant_denoisers() -> None:
    """[batch, 1, 2, 2] of a standard normal, whose probability-flow ODE under VP stands still: log p is the prior's."""
    schedule, x = SCHEDULES["vp_linear"](), torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    value = log_likelihood(lambda x, t: schedule.alpha(t) * x, schedule, x, log_prior=standard_normal)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, standard_normal(x), rtol=0, atol=1e-4)
    edm = SCHEDULES["edm"]()  # the law of a point at 0 is N(0, sigma^2) all the way to sigma = 80
    point = log_likelihood(lambda x, t: torch.zeros_like(x), edm, x.double(), start=0.5)
    variance = edm.sigma(torch.tensor(0.5, dtype=DOUBLE)) ** 2
    normal = -0.5 * (x.double() ** 2 / variance + torch.log(2 * math.pi * variance)).flatten(1).sum(1)
    torch.testing.assert_close(point, normal, rtol=0, atol=1e-4)


def standard_normal(x: Tensor) -> Tensor:
    return (-0.5 * x**2 - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


@pytest.mark.parametrize(
    "how, message",
    [
        ({"start": 0.0}, "start"),
        ({"start": 1.0}, "start"),
        ({"probes": 0, "generator": torch.Generator()}, "at least 1"),
        ({"probes": 2}, "torch.Generator"),
    ],
)
def test_bad_input_gets_one_clear_line(how: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        log_likelihood(lambda x, t: x, SCHEDULES["flow"](), torch.zeros(2, 2, dtype=DOUBLE), **how)
    assert "\n" not in str(caught.value)


def test_a_denoiser_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        log_likelihood(lambda x, t: x[:, :1], SCHEDULES["flow"](), torch.zeros(2, 2, dtype=DOUBLE))
