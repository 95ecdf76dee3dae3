"""Distillation's targets at the ends of the schedule, held targets, losses of exact networks, refusals."""

from __future__ import annotations

import pytest
import torch

from diffusion import ddim, edm, schedules
from diffusion import distillation as distil

F64 = torch.float64


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=F64)


def test_from_pure_noise_to_clean_data_the_targets_are_the_ends_themselves() -> None:
    """alpha_t = 0 and sigma_s = 0: x_0 is x_s/alpha_s, the noise x_t/sigma_t, and v = -sigma_t x_0."""
    x_t, x_s = torch.randn(2, 5, dtype=F64, generator=torch.Generator().manual_seed(0))
    zero, one = number(0.0), number(1.0)
    assert torch.equal(distil.progressive_x0(x_t, x_s, one, one, zero, zero), x_s)
    assert torch.equal(distil.progressive_eps(x_t, x_s, zero, one, one, zero), x_t)
    assert torch.equal(distil.progressive_v(x_t, x_s, zero, one, one, zero, zero), -x_s)


def test_no_gradient_flows_into_a_target() -> None:
    """Of f = theta the loss (f - held f)^2 has the gradient 0, and a shortcut that is wrong by a constant as well."""
    theta = torch.ones((), dtype=F64, requires_grad=True)
    x, sigma = torch.zeros(3, 2, dtype=F64), torch.ones(3, dtype=F64)
    loss = distil.consistency_training_loss(lambda x, s: theta * (x + s[:, None]), x, x, sigma, sigma / 2)
    (slope,) = torch.autograd.grad(loss.sum(), theta)
    assert slope.item() == pytest.approx(3 * 2 * (1 - 0.5) * 1)  # through the first f alone; 2 (1 - 1/2)^2 through both

    t, h = torch.full((3,), 0.5, dtype=F64), torch.full((3,), -0.1, dtype=F64)
    cut = distil.shortcut_loss(lambda x, t, h: theta * h[:, None] + 0 * x, x, t, h)  # 2 h theta, told h theta
    (slope,) = torch.autograd.grad(cut.sum(), theta)
    assert slope.item() == pytest.approx(3 * 2 * 0.1 * 0.2)

    difference = torch.full((3, 2), 2.0, dtype=F64)
    moved = x.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(distil.dmd_loss(moved, difference).sum(), moved)[0], difference)


def test_bad_input_is_refused() -> None:
    x, late, early = torch.zeros(3, 2, dtype=F64), number(0.8), number(0.2)
    with pytest.raises(ValueError, match="expected t > u > s"):
        distil.two_steps(lambda x, t: x, schedules.cosine(), x, (early, late, late))
    with pytest.raises(ValueError, match="expected both > 0"):
        distil.consistency_function(lambda x, c: x, 0.5, 0.0)
    with pytest.raises(ValueError, match="consistency_of: sd = 0"):
        distil.consistency_of(lambda x, c: x, 0.0, 0.1)
    with pytest.raises(ValueError, match="expected equal shapes"):
        distil.dmd_loss(x, x[:1])


# -- progressive -------------------------------------------------------------------------------------------------------


def gain(schedule: schedules.Schedule, start: torch.Tensor, end: torch.Tensor, D: torch.Tensor) -> torch.Tensor:
    """What DDIM with the denoiser D x makes of x = 1."""
    one = torch.ones_like(start)
    return ddim.step(one, D, *(level(time) for time in (start, end) for level in (schedule.alpha, schedule.sigma)))


@pytest.mark.parametrize("name", ["cosine", "vp_linear", "flow", "edm"])
def test_progressive_loss_is_a_weighted_distance_to_the_step_for_two(name: str) -> None:
    """Of unit Gaussian data: the student's gain for two is found by bisection; off by d it costs weight d^2 x^2."""
    schedule = schedules.SCHEDULES[name]()
    t, u, s = (torch.tensor(times, dtype=F64) for times in ([0.9, 0.3], [0.6, 0.2], [0.5, 0.0]))

    def exact(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        alpha, sigma = schedule.alpha(time), schedule.sigma(time)
        return (alpha / (alpha**2 + sigma**2))[:, None] * x

    two = torch.ones(2, dtype=F64)
    for start, end in ((t, u), (u, s)):
        alpha, sigma = schedule.alpha(start), schedule.sigma(start)
        two = two * gain(schedule, start, end, alpha / (alpha**2 + sigma**2))
    low, high = torch.full((2,), -1e3, dtype=F64), torch.full((2,), 1e3, dtype=F64)
    for _ in range(80):
        middle = (low + high) / 2
        less = gain(schedule, t, s, middle) < two
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    x = torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, 2.0]], dtype=F64)

    def loss(off: float) -> torch.Tensor:
        return distil.progressive_loss(lambda x, _: (low + off)[:, None] * x, exact, schedule, x, (t, u, s), sd=1.0)

    assert float(loss(0.0).max()) < 1e-18
    weight = 1 + torch.exp(2 * schedule.half_log_snr(t))  # SNR + 1
    torch.testing.assert_close(loss(0.1), weight * 0.01 * x.square().mean(1), rtol=1e-9, atol=0)


# -- consistency -------------------------------------------------------------------------------------------------------


def level(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


def test_a_consistency_function_of_a_denoiser_is_that_of_the_network_inside_it() -> None:
    x = torch.randn(3, 4, dtype=F64, generator=torch.Generator().manual_seed(1))

    def network(y: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        return torch.tanh(2 * y + c_noise[:, None])

    sigma = level([0.02, 0.7, 60.0])
    around = distil.consistency_of(edm.preconditioned(network, 0.6), 0.6, 0.02)
    torch.testing.assert_close(around(x, sigma), distil.consistency_function(network, 0.6, 0.02)(x, sigma))
    torch.testing.assert_close(around(x, sigma)[0], x[0], rtol=1e-15, atol=0)  # at sigma_min


def test_the_flows_own_function_costs_what_a_step_of_euler_errs_by() -> None:
    """Gaussian data: the loss is the square of a local error of order h^2, so a half step costs a 16th."""
    sd, sigma_min = 0.5, 0.01
    x, sigma = torch.ones(2, 3, dtype=F64), level([0.4, 3.0])

    def f(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return distil.gaussian_consistency(x, sigma[:, None], sigma_min, sd)

    def denoise(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return (sd**2 / (sd**2 + sigma**2))[:, None] * x

    coarse, fine = (distil.consistency_distillation_loss(f, denoise, x, sigma, h * sigma) for h in (0.01, 0.005))
    torch.testing.assert_close(coarse / fine, torch.full((2,), 16.0, dtype=F64), rtol=0.02, atol=0)


def test_another_network_may_make_the_target() -> None:
    """f = theta x and target = phi x: the loss, by hand; and no gradient for phi."""
    theta, phi = (torch.tensor(value, dtype=F64, requires_grad=True) for value in (2.0, 3.0))
    x_0, eps, sigma, h = torch.ones(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64), level([4.0]), level([1.0])
    f, target = (lambda x, s: theta * x), (lambda x, s: phi * x)
    trained = distil.consistency_training_loss(f, x_0, eps, sigma, h, target)
    assert trained.item() == (2 * 5 - 3 * 4) ** 2
    distilled = distil.consistency_distillation_loss(f, lambda x, s: x_0, x_0 + 4 * eps, sigma, h, target)
    assert distilled.item() == (2 * 5 - 3 * 4) ** 2
    slope, held = torch.autograd.grad((trained + distilled).sum(), (theta, phi), allow_unused=True)
    assert slope.item() == 2 * 2 * (2 * 5 - 3 * 4) * 5
    assert held is None
