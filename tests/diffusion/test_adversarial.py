"""A GAN's losses against torch's own, logistic regression, and the game against matrix powers."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from diffusion import adversarial, game

LOGITS = torch.linspace(-30, 30, 241, dtype=torch.float64)


def test_losses_are_torchs_cross_entropies() -> None:
    ones, zeros = torch.ones_like(LOGITS), torch.zeros_like(LOGITS)
    expected = binary_cross_entropy_with_logits(LOGITS, ones, reduction="none")
    torch.testing.assert_close(adversarial.non_saturating_loss(LOGITS), expected, rtol=1e-14, atol=0)
    expected = -binary_cross_entropy_with_logits(LOGITS, zeros, reduction="none")
    torch.testing.assert_close(adversarial.saturating_loss(LOGITS), expected, rtol=1e-14, atol=1e-14)  # torch cancels


@pytest.mark.parametrize("logit", [-700.0, -40.0, 0.0, 40.0, 700.0])
def test_slopes_have_one_sign_and_the_ratio_of_the_odds(logit: float) -> None:
    """At D = 0 the saturating loss has no slope left, the other one all of it; at D = 1/2 they are equal."""
    at = tensor(logit, dtype=torch.float64, requires_grad=True)
    (loud,) = torch.autograd.grad(adversarial.non_saturating_loss(at), at)
    (silent,) = torch.autograd.grad(adversarial.saturating_loss(at), at)
    assert float(loud) == pytest.approx(-1 / (1 + math.exp(logit)), rel=1e-12)
    assert float(silent) == pytest.approx(-1 / (1 + math.exp(-logit)), rel=1e-12)


def test_the_best_discriminator_is_what_logistic_regression_finds() -> None:
    """Two Gaussians of one variance have a linear log ratio, so Newton's method on a lattice must find p/(p + q)."""
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.7, -0.4))
    features, beta = torch.stack([torch.ones_like(x), x], 1), torch.zeros(2, dtype=torch.float64)
    for _ in range(30):
        D = torch.sigmoid(features @ beta)
        slope = features.T @ (p - (p + q) * D)
        curvature = (features.T * ((p + q) * D * (1 - D))) @ features
        beta = beta + torch.linalg.solve(curvature, slope)
    near = x.abs() < 8
    found, wanted = torch.sigmoid(features @ beta)[near], adversarial.optimal_discriminator(p, q)[near]
    torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-10)
    assert adversarial.optimal_discriminator(tensor(0.0), tensor(2.0)) == 0
    assert adversarial.optimal_discriminator(tensor(3.0), tensor(0.0)) == 1


def played(x: Tensor, y: Tensor, h: float, c: float, steps: int, alternating: bool) -> tuple[Tensor, Tensor]:
    size, weight = tensor(h, dtype=torch.float64), tensor(c, dtype=torch.float64)
    for _ in range(steps):
        moved = game.generator_step(x, y, size)
        x, y = moved, game.discriminator_step(moved if alternating else x, y, size, weight)
    return x, y


@pytest.mark.parametrize("alternating, c", [(False, 0.0), (True, 0.0), (False, 0.8), (True, 0.8)])
def test_steps_are_powers_of_a_matrix_built_by_autograd(alternating: bool, c: float) -> None:
    """One step's matrix from gradients of the two players' own objectives, raised to the power by numpy."""
    h = 0.25
    columns = []
    for unit in np.eye(2):
        x, y = (tensor(float(u), dtype=torch.float64, requires_grad=True) for u in unit)
        (down,) = torch.autograd.grad(x * y, x)
        moved = (x - h * down).detach()
        seen = moved if alternating else x.detach()
        (up,) = torch.autograd.grad(seen * y - c / 2 * y**2, y)
        columns.append([float(moved), float((y + h * up).detach())])
    power = np.linalg.matrix_power(np.array(columns).T, 37)
    start = np.array([0.3, -1.2])
    end = played(*torch.tensor(start), h, c, 37, alternating)
    np.testing.assert_allclose([float(v) for v in end], power @ start, rtol=1e-11)


def test_two_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        adversarial.optimal_discriminator(torch.ones(3), torch.ones(3, 1))
    with pytest.raises(ValueError, match="shapes"):
        game.generator_step(torch.ones(3), torch.ones(3, 1), tensor(0.1))
    with pytest.raises(ValueError, match="shapes"):
        game.discriminator_step(torch.ones(3), torch.ones(3), torch.ones(3, 1), tensor(0.1))
