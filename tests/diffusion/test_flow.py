"""Velocities, bridges and gaps against slopes of paths, regression of moments, and conversions of predictions."""

import pytest
import torch

from diffusion import flow, parameterization
from diffusion.schedules import cosine


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def slope_of(path, t, step=1e-5):
    """Where a path is at t, and its slope there by central differences."""
    return path(scalar(t)), (path(scalar(t + step)) - path(scalar(t - step))) / (2 * step)


@pytest.mark.parametrize("t", [0.05, 0.5, 0.999])
def test_conditional_velocity_is_the_slope_of_the_path(t):
    x_0, eps = normal(2, 30)

    def path(t):
        alpha, sigma, *_ = cosine().kernel(t)
        return alpha * x_0 + sigma * eps

    x, slope = slope_of(path, t)
    assert torch.allclose(flow.conditional_velocity(x, x_0, *cosine().kernel(scalar(t))), slope, atol=1e-8)


def test_velocity_from_score_is_the_conversion():
    x, score = normal(2, 8, 3)
    kernel = cosine().kernel(scalar(0.3))
    converted = parameterization.convert("score", "velocity", score, x, *kernel)
    assert torch.allclose(flow.velocity_from_score(x, score, *kernel), converted, atol=1e-12)


@pytest.mark.parametrize("r", [0.0, 0.4, 0.95])
def test_gaps_are_what_regression_on_moments_leaves(r):
    """E[y | x] = Cov(y, x)/Var(x) x, with covariances from the joint law of (x_0, eps)."""
    alpha, sigma, alpha_dot, sigma_dot = cosine().kernel(scalar(0.3))
    joint = torch.tensor([[1.0, r], [r, 1.0]], dtype=torch.float64)
    seen, moving = torch.stack((alpha, sigma)), torch.stack((alpha_dot, sigma_dot))
    V, x = seen @ joint @ seen, normal(5)
    of_eps, of_velocity = (joint @ seen)[1] / V * x, moving @ joint @ seen / V * x
    gap = -of_eps / sigma + x / V
    assert torch.allclose(flow.score_gap(x, scalar(r), alpha, sigma), gap, atol=1e-12)
    missed = flow.velocity_from_score(x, -x / V, alpha, sigma, alpha_dot, sigma_dot) - of_velocity
    assert torch.allclose(flow.velocity_gap(x, scalar(r), alpha, sigma, alpha_dot, sigma_dot), missed, atol=1e-12)


def test_bridge_velocity_is_the_slope_of_a_path_of_fixed_noise():
    x_0, x_1, z = normal(3, 20)
    s = scalar(0.7)

    def path(t):
        return flow.bridge_mean(x_0, x_1, t) + flow.bridge_variance(s, t).sqrt() * z

    x, slope = slope_of(path, 0.2)
    assert torch.allclose(flow.bridge_velocity(x, x_0, x_1, scalar(0.2)), slope, atol=1e-8)
    score = flow.bridge_score(x, x_0, x_1, s, scalar(0.2))
    assert torch.allclose(score, -z / flow.bridge_variance(s, scalar(0.2)).sqrt(), atol=1e-12)
    drift = flow.noisy_drift(slope, score, s**2 / 2)
    assert torch.allclose(flow.bridge_drift(x, x_1, scalar(0.2)), drift, atol=1e-8)


def test_bridge_ends_are_the_points():
    x_0, x_1 = normal(2, 5)
    assert torch.equal(flow.bridge_mean(x_0, x_1, scalar(0.0)), x_0)
    assert torch.equal(flow.bridge_mean(x_0, x_1, scalar(1.0)), x_1)
    assert flow.bridge_variance(scalar(3.0), scalar(1.0)) == 0


def test_shapes_that_would_broadcast_silently_are_refused():
    with pytest.raises(ValueError, match="per_sample"):
        flow.bridge_mean(normal(4, 4), normal(4, 4), normal(4))
