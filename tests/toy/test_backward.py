"""Gaussian data drawn back with a wrong score: closed forms, small steps, and draws."""

from __future__ import annotations

import math

import pytest
import torch

from diffusion.schedules import cosine, vp_linear
from toy import backward

DOUBLE = torch.float64
TAU = 10.05  # of vp_linear, int beta dt


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 1.7])
@pytest.mark.parametrize("wrong", [0.1, -0.15])
def test_unit_data_under_vp_has_a_closed_form(noise: float, wrong: float) -> None:
    """v = 1: dV/dw = c V - lambda^2, c = (1 + lambda^2)(1 + wrong) - 1, w = int beta dt, from V = 1 at w = tau."""
    data = torch.ones(1, dtype=DOUBLE)
    t, V = backward.drawn_back(data, vp_linear(), noise, wrong, steps=800)
    w = 0.1 * t + 19.9 * t**2 / 2
    c = (1 + noise**2) * (1 + wrong) - 1
    assert float(w[0]) == pytest.approx(TAU)
    torch.testing.assert_close(V[:, 0], noise**2 / c + (1 - noise**2 / c) * torch.exp(c * (w - TAU)), rtol=1e-7, atol=0)
    assert backward.weighted_loss(data, vp_linear(), wrong) == pytest.approx(wrong**2 * TAU / 2, rel=1e-12)
    half = backward.weighted_loss(data, vp_linear(), wrong, start=0.5)
    assert half == pytest.approx(wrong**2 * (TAU - 0.05 - 19.9 / 8) / 2, rel=1e-12)


def test_the_exact_score_gives_the_data_back() -> None:
    data = torch.tensor([2.0, 0.3], dtype=DOUBLE)
    for noise in (0.0, 1.0):
        t, V = backward.drawn_back(data, vp_linear(), noise, 0.0)
        torch.testing.assert_close(V, backward.noised(data, vp_linear(), t), rtol=1e-6, atol=0)
    assert backward.sampled(data, vp_linear(), 400, 0.0).nats < 1e-3


@pytest.mark.parametrize("steps, wrong", [(4, 0.0), (10, 0.2)])
def test_a_kept_score_is_what_small_steps_make_of_it(steps: int, wrong: float) -> None:
    """The same sampler by 4,000 Euler-Maruyama steps within each step, on second moments of (x, x at its start)."""
    schedule, data, inner = vp_linear(beta_max=6.0), torch.tensor([0.5], dtype=DOUBLE), 4_000
    grid = torch.linspace(1, 0, steps + 1, dtype=DOUBLE)
    V, h = 1.0, 1 / (steps * inner)
    for k in range(steps):
        t = grid[k] - h * torch.arange(inner, dtype=DOUBLE)
        v = float(backward.noised(data, schedule, grid[k : k + 1]))
        carry, shared, own = 1.0, 0.0, 0.0  # x = (carry + shared) x_start + own noise
        for f, g2 in zip(schedule.drift(t).tolist(), schedule.diffusion2(t).tolist(), strict=True):
            carry, shared, own = (
                carry * (1 - h * f),
                shared * (1 - h * f) - h * g2 * (1 + wrong) / v,
                own * (1 - h * f) ** 2 + h * g2,
            )
        V = (carry + shared) ** 2 * V + own
    found = backward.sampled(data, schedule, steps, wrong).nats
    by_steps = float(backward.kl(data, torch.tensor([V], dtype=DOUBLE)))
    assert found == pytest.approx(by_steps, rel=3e-3)


def test_the_terms_of_the_bound_are_means_over_paths() -> None:
    """20,000 forward pairs (x_r, x_t) at 60 times of each of 5 steps: g^2 E d^2 within 2 %; the others exactly."""
    schedule, data, wrong, n = vp_linear(beta_max=6.0), torch.tensor([0.5], dtype=DOUBLE), 0.3, 20_000
    found = backward.sampled(data, schedule, 5, wrong)
    generator, total, score = torch.Generator().manual_seed(0), 0.0, 0.0
    for k in range(5):
        t, s = 1 - k / 5, 1 - (k + 1) / 5

        def change(r: torch.Tensor, t: float = t) -> torch.Tensor:
            end = torch.tensor([t], dtype=DOUBLE)
            v_r, v_t = backward.noised(data, schedule, r), backward.noised(data, schedule, end)
            x_r = v_r.sqrt() * torch.randn(len(r), n, generator=generator, dtype=DOUBLE)
            kept = (schedule.alpha(end) / schedule.alpha(r))[:, None]
            x_t = kept * x_r + (v_t - kept**2 * v_r).sqrt() * torch.randn(len(r), n, generator=generator, dtype=DOUBLE)
            return schedule.diffusion2(r) * (x_t / v_t - x_r / v_r).square().mean(-1)

        total += float(backward.over(change, s, t))
        v = float(backward.noised(data, schedule, torch.tensor([t], dtype=DOUBLE)))
        score += float(backward.over(schedule.diffusion2, s, t)) * wrong**2 / v
    assert found.discretisation == pytest.approx(total, rel=0.02)
    assert found.score == pytest.approx(score, rel=1e-12)
    end = float(backward.noised(data, schedule, torch.ones(1, dtype=DOUBLE)))
    assert found.prior == pytest.approx((end - 1 - math.log(end)) / 2, rel=1e-9)
    assert found.bound == found.prior + found.score + found.discretisation > found.nats


def test_quadrature_and_kl() -> None:
    assert float(backward.over(torch.exp, 0.0, 2.0)) == pytest.approx(math.e**2 - 1, rel=1e-14)
    v, V = torch.tensor([1.0, 2.0], dtype=DOUBLE), torch.tensor([1.0, 1.0], dtype=DOUBLE)
    assert float(backward.kl(v, V)) == pytest.approx((1 - math.log(2)) / 2)
    t = torch.tensor([0.0, 0.5], dtype=DOUBLE)
    torch.testing.assert_close(backward.noised(v, cosine(), t)[1], v / 2 + 0.5)
