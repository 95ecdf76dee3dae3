"""The flow map against the Gaussian's closed form, its own inverse, and the marginals it must pass through."""

import math

import pytest
import torch

from toy.energy import energy_ratio
from toy.flow import trajectory
from toy.mixture import gaussian
from toy.points import Points
from toy.worlds import make


def angles(start: float, end: float, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    theta = torch.linspace(start, end, n, dtype=torch.float64)
    return theta.cos(), theta.sin()


def test_gaussian_flow_is_linear():
    """In each eigendirection x_t = alpha m + sqrt(alpha^2 lambda + sigma^2) u with one u for all t; any scales."""
    m = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    variance = torch.tensor([2.0, 0.1, 0.01], dtype=torch.float64)
    u = torch.randn(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    alpha = torch.tensor([0.0, 0.2, 0.9, 1.0, 1.0], dtype=torch.float64)
    sigma = torch.tensor([3.0, 2.0, 0.5, 0.1, 0.0], dtype=torch.float64)
    exact = alpha[:, None, None] * m + (alpha[:, None] ** 2 * variance + sigma[:, None] ** 2).sqrt()[:, None] * u
    got = trajectory(gaussian("g", m, variance.diag()), exact[0], alpha, sigma, 1e-12)
    assert torch.allclose(got, exact, atol=1e-8)
    assert torch.allclose(got[-1], exact[-1], atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ring", "checkerboard"])
def test_the_flow_back_is_the_inverse(name):
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha, sigma = angles(math.pi / 2, 0.05, 9)
    there = trajectory(make(name), x, alpha, sigma, 1e-12)
    back = trajectory(make(name), there[-1], alpha.flip(0), sigma.flip(0), 1e-12)
    assert torch.allclose(back[-1], x, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ring", "checkerboard", "two_moons"])
def test_noise_flows_into_the_law(name):
    """20 sets of 50: the pooled ratio's standard deviation is 0.036 to 0.05; 5 of them."""
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    end = trajectory(make(name), x, *angles(math.pi / 2, 0.0, 2), 1e-5)[-1]
    assert abs(energy_ratio(make(name), list(end.reshape(20, 50, 2))).mean - 1) < 0.25


def test_one_point_is_a_straight_line():
    """A single datum p: D = p, so x_t = alpha p + sigma eps with eps kept."""
    world = Points("one", torch.tensor([[1.0, -2.0]]))
    eps = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    alpha, sigma = angles(math.pi / 2, 0.01, 7)
    exact = alpha[:, None, None] * world.points + sigma[:, None, None] * eps
    assert torch.allclose(trajectory(world, eps, alpha, sigma), exact, atol=1e-8)


def test_levels_that_are_no_path_are_refused():
    world, x = make("ring"), torch.zeros(1, 2)
    for alpha, sigma, message in (
        (torch.tensor([0.0]), torch.tensor([1.0]), "two or more"),
        (torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.5, 0.1]), "two or more"),
        (torch.tensor([0.5, 0.5]), torch.tensor([1.0, 1.0]), "monotone"),
        (torch.tensor([0.0, 1.0, 0.9]), torch.tensor([1.0, 0.1, 0.5]), "monotone"),
        (torch.tensor([-0.5, 1.0]), torch.tensor([1.0, 0.5]), ">= 0"),
    ):
        with pytest.raises(ValueError, match=message):
            trajectory(world, x, alpha, sigma)
