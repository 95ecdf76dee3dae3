"""Distillation's targets at the ends of the schedule, held targets, refusals."""

from __future__ import annotations

import pytest
import torch

from diffusion import distillation as distil
from diffusion import schedules

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

    difference = torch.full((3, 2), 2.0, dtype=F64)
    moved = x.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(distil.dmd_loss(moved, difference).sum(), moved)[0], difference)


def test_bad_input_is_refused() -> None:
    x, late, early = torch.zeros(3, 2, dtype=F64), number(0.8), number(0.2)
    with pytest.raises(ValueError, match="expected t > u > s"):
        distil.two_steps(lambda x, t: x, schedules.cosine(), x, (early, late, late))
    with pytest.raises(ValueError, match="expected both > 0"):
        distil.consistency_function(lambda x, c: x, 0.5, 0.0)
    with pytest.raises(ValueError, match="expected equal shapes"):
        distil.dmd_loss(x, x[:1])
