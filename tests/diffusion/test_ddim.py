"""DDIM's steps against laws, exact flows and orders: which coefficients a step has is read off by linearity."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffusion import ddim, ddpm
from diffusion.grids import leading, linspace, trailing
from diffusion.schedules import Schedule, cosine, discrete, edm, flow, linear_betas, vp_linear


def f64(value: object) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


SCHEDULES: dict[str, Callable[[], Schedule]] = {"vp_linear": vp_linear, "cosine": cosine, "flow": flow, "edm": edm}
VP = [vp_linear, cosine]


def ends(schedule: Schedule, t: float, s: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """alpha_t, sigma_t, alpha_s, sigma_s."""
    return schedule.alpha(f64(t)), schedule.sigma(f64(t)), schedule.alpha(f64(s)), schedule.sigma(f64(s))


def ratio(alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Tensor:
    return alpha_t * sigma_s / (alpha_s * sigma_t)


def pushed(
    scales: tuple[Tensor, ...], eta: float, data: float, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance of x_s for x_t ~ N(mean, variance): the step is affine in x_t, so two values of it say all."""
    kappa = ratio(*scales)
    at = lambda x: ddim.mean(f64(x), f64(data), *scales, kappa, f64(eta))  # noqa: E731
    slope = at(1.0) - at(0.0)
    return at(0.0) + slope * mean, slope**2 * variance + ddim.std(scales[3], kappa, f64(eta)) ** 2


# ------------------------------------------------------------------------------------------------ the family's laws


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_every_member_has_the_marginals_of_the_forward_process(name: str, eta: float) -> None:
    """Ten steps of uneven size, from whatever is left at t = 1 down to t = 0, mean and variance after each."""
    schedule = SCHEDULES[name]()
    times = [1.0, 0.99, 0.8, 0.79, 0.5, 0.31, 0.3, 0.1, 0.01, 0.001, 0.0]
    mean, variance = schedule.alpha(f64(1.0)) * 0.7, schedule.sigma(f64(1.0)) ** 2
    for t, s in pairwise(times):
        mean, variance = pushed(ends(schedule, t, s), eta, 0.7, mean, variance)
        torch.testing.assert_close(mean, schedule.alpha(f64(s)) * 0.7, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(variance, schedule.sigma(f64(s)) ** 2, rtol=1e-12, atol=1e-20)


@pytest.mark.parametrize("T", [1, 2, 7, 12])
@pytest.mark.parametrize("grid", [linspace, leading, trailing])
def test_every_number_of_steps_keeps_the_chains_marginals(T: int, grid: Callable[[int, int], Tensor]) -> None:
    """All n from 1 to T, dividing T or not: the marginal at each visited point is that of the full chain."""
    betas = torch.linspace(0.02, 0.6, T, dtype=torch.float64)
    alpha_bar = torch.cat([f64([1.0]), torch.cumprod(1 - betas, 0)])
    schedule = discrete(betas)
    for n in range(1, T + 1):
        times = grid(T, n)
        k = round(times[0].item() * T)
        mean, variance = alpha_bar[k].sqrt() * 0.7, 1 - alpha_bar[k]
        for t, s in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
            mean, variance = pushed(ends(schedule, t, s), 0.5, 0.7, mean, variance)
            k = round(s * T)
            torch.testing.assert_close(mean, alpha_bar[k].sqrt() * 0.7, rtol=1e-12, atol=0)
            torch.testing.assert_close(variance, 1 - alpha_bar[k], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.5), (0.7, 0.699), (0.4, 0.001), (0.2, 0.0)])
def test_eta_one_is_bayes_law(t: float, s: float) -> None:
    """On VP it is DDPM's posterior; on any schedule the precision-weighted mean of forward kernel and q(x_s | x_0)."""
    x_t, x_0, one = f64(-1.3), f64(0.7), f64(1.0)
    for name in ("vp_linear", "flow"):
        alpha_t, sigma_t, alpha_s, sigma_s = scales = ends(SCHEDULES[name](), t, s)
        kappa = ratio(*scales)
        mean, variance = ddim.mean(x_t, x_0, *scales, kappa, one), ddim.std(sigma_s, kappa, one) ** 2
        if name == "vp_linear":
            retained = (alpha_s**2, 1 - alpha_t**2 / alpha_s**2)
            torch.testing.assert_close(mean, ddpm.posterior_mean(x_t, x_0, *retained), rtol=1e-10, atol=1e-12)
            torch.testing.assert_close(variance, ddpm.posterior_variance(*retained), rtol=1e-9, atol=1e-15)
        if s > 0:
            a = alpha_t / alpha_s
            noise = sigma_t**2 - (a * sigma_s) ** 2
            precision = a**2 / noise + 1 / sigma_s**2
            exact = (a * x_t / noise + alpha_s * x_0 / sigma_s**2) / precision
            torch.testing.assert_close(variance, 1 / precision, rtol=1e-9, atol=0)
            torch.testing.assert_close(mean, exact, rtol=1e-9, atol=0)


def test_eta_shares_out_the_ancestral_noise() -> None:
    """What is drawn is eta times the ancestral step's; what is kept makes it up to sigma_s; eta = 0 draws nothing."""
    sigma_s, kappa = f64(0.6), f64(0.3)
    ancestral = ddim.std(sigma_s, kappa, f64(1.0))
    assert ancestral.item() == pytest.approx(0.6 * math.sqrt(0.91), rel=1e-15)
    for eta in (0.0, 0.25, 1.0):
        drawn, kept = ddim.std(sigma_s, kappa, f64(eta)), ddim.kept(sigma_s, kappa, f64(eta))
        assert drawn.item() == pytest.approx(eta * ancestral.item(), rel=1e-15)
        assert math.hypot(drawn, kept) == pytest.approx(0.6, rel=1e-15)
    assert ddim.kept(sigma_s, kappa, f64(0.0)).item() == 0.6
    assert ddim.kept(sigma_s, kappa, f64(1.0)).item() == pytest.approx(0.18, rel=1e-15)


# ---------------------------------------------------------------------------------------------- the deterministic step


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n", [1, 3])
def test_point_data_are_exact_at_any_step_size(name: str, n: int) -> None:
    """From x_1 = alpha c + sigma z to the schedule's very end, in one step and in three, and back up by inversion."""
    schedule, c, z = SCHEDULES[name](), f64(0.7), f64([-1.2, 0.0, 2.0])
    times = torch.linspace(1, 0, n + 1, dtype=torch.float64).tolist()
    x = schedule.alpha(f64(1.0)) * c + schedule.sigma(f64(1.0)) * z
    for t, s in pairwise(times):
        x = ddim.step(x, c.expand(3), *ends(schedule, t, s))
        exact = schedule.alpha(f64(s)) * c + schedule.sigma(f64(s)) * z
        torch.testing.assert_close(x, exact, rtol=1e-12, atol=1e-12)
        if s > 0:
            back = ddim.invert(x, c.expand(3), *ends(schedule, t, s))
            before = schedule.alpha(f64(t)) * c + schedule.sigma(f64(t)) * z
            torch.testing.assert_close(back, before, rtol=1e-11, atol=1e-12)


def test_both_ends_are_ordinary_steps() -> None:
    """alpha_t = 0 (pure noise): nothing divides by it. sigma_s = 0 (clean data): the prediction itself."""
    x, D = f64([-1.0, 3.0]), f64([0.5, -0.2])
    start = ends(cosine(), 1.0, 0.4)
    assert start[0].item() == 0
    torch.testing.assert_close(ddim.step(x, D, *start), start[3] * x + start[2] * D, rtol=1e-15, atol=0)
    assert torch.equal(ddim.step(x, D, *ends(cosine(), 0.4, 0.0)), D)
    assert torch.equal(ddim.step(x, D, *ends(flow(), 1.0, 0.0)), D)
    kappa = ratio(*start)
    assert ddim.std(start[3], kappa, f64(0.7)).item() == pytest.approx(0.7 * start[3].item(), rel=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_step_is_eulers_in_x_over_alpha(name: str) -> None:
    """From one prediction: as a data prediction, as a noise prediction, and as the family's member eta = 0."""
    alpha_t, sigma_t, alpha_s, sigma_s = scales = ends(SCHEDULES[name](), 0.8, 0.3)
    x_t, D = f64([-1.0, 3.0]), f64([0.5, -0.2])
    eps = (x_t - alpha_t * D) / sigma_t
    by_step = ddim.step(x_t, D, *scales)
    y = x_t / alpha_t + (sigma_s / alpha_s - sigma_t / alpha_t) * eps
    torch.testing.assert_close(by_step / alpha_s, y, rtol=1e-12, atol=0)
    torch.testing.assert_close(ddim.euler_step(x_t, eps, *scales), by_step, rtol=1e-12, atol=0)
    torch.testing.assert_close(ddim.mean(x_t, D, *scales, ratio(*scales), f64(0.0)), by_step, rtol=1e-12, atol=0)


# ------------------------------------------------------------------------------------------------ orders of the error
# on Gaussian data of variance C: D = alpha C x / v, v = alpha^2 C + sigma^2; the exact flow scales x by sqrt(v_s / v_t)

C = 0.3


def spread(schedule: Schedule, t: float) -> Tensor:
    return schedule.alpha(f64(t)) ** 2 * C + schedule.sigma(f64(t)) ** 2


def denoised(schedule: Schedule, x: Tensor, t: float) -> Tensor:
    return schedule.alpha(f64(t)) * C * x / spread(schedule, t)


def step(schedule: Schedule, x: Tensor, t: float, s: float) -> Tensor:
    return ddim.step(x, denoised(schedule, x, t), *ends(schedule, t, s))


def limit_ratio(error: Callable[[float], float]) -> float:
    """error(h) / h^2 as h -> 0, by Richardson from three step sizes: exact up to O(h^3)."""
    e = [error(h) / h**2 for h in (0.01, 0.005, 0.0025)]
    first = [2 * e[1] - e[0], 2 * e[2] - e[1]]
    return (4 * first[1] - first[0]) / 3


def derivatives(f: Callable[[Tensor], Tensor], t: float) -> tuple[Tensor, Tensor, Tensor]:
    """f, f' and f'' at t by automatic differentiation."""
    time = f64(t).requires_grad_()
    value = f(time)
    (first,) = torch.autograd.grad(value, time, create_graph=True)
    (second,) = torch.autograd.grad(first, time, allow_unused=True, materialize_grads=True)
    return value.detach(), first.detach(), second


@pytest.mark.parametrize("make", VP)
def test_global_error_is_first_order(make: Callable[[], Schedule]) -> None:
    """Twice the steps, half the error, on a smooth problem: slope 1.00 +- 0.05 between 200 and 400 steps."""
    schedule = make()

    def error(n: int) -> float:
        times = torch.linspace(0.9, 0.1, n + 1, dtype=torch.float64).tolist()
        x = f64(1.0)
        for t, s in pairwise(times):
            x = step(schedule, x, t, s)
        return abs(x - torch.sqrt(spread(schedule, 0.1) / spread(schedule, 0.9))).item()

    assert math.log2(error(200) / error(400)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("make", VP)
def test_an_euler_step_in_time_differs_by_the_leading_term(make: Callable[[], Schedule]) -> None:
    """(DDIM - Euler)/h^2 tends to (sigma''/sigma x + (alpha'' - alpha sigma''/sigma) D)/2, within 1e-3 of it."""
    schedule, t, x, D = make(), 0.5, f64(1.3), f64(-0.4)
    alpha, _, alpha_2 = derivatives(schedule.alpha, t)
    sigma, _, sigma_2 = derivatives(schedule.sigma, t)

    def error(h: float) -> float:
        score = -(x - alpha * D) / sigma**2
        rate = schedule.drift(f64(t)) * x - schedule.diffusion2(f64(t)) / 2 * score
        return (ddim.step(x, D, *ends(schedule, t, t - h)) - (x - h * rate)).item()

    leading = (sigma_2 / sigma * x + (alpha_2 - alpha * sigma_2 / sigma) * D) / 2
    assert limit_ratio(error) == pytest.approx(leading.item(), rel=1e-3)


def test_inversion_misses_by_the_paths_curvature() -> None:
    """One step down and back: in y = x/alpha and w = sigma/alpha the error over h^2 tends to -y''(w), h = w_t - w_s.

    On Gaussian data the paths are y proportional to sqrt(c + w^2), so y'' = y c / (c + w^2)^2.
    """
    w, y = 0.8, 1.1

    def scales(h: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return f64(1.0), f64(w), f64(1.0), f64(w - h)

    def error(h: float) -> float:
        down = ddim.step(f64(y), f64(C * y / (C + w**2)), *scales(h))
        back = ddim.invert(down, C * down / (C + (w - h) ** 2), *scales(h))
        return back.item() - y

    assert limit_ratio(error) == pytest.approx(-y * C / (C + w**2) ** 2, rel=1e-3)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_small_steps_are_the_reverse_sde_with_noise_eta_g(eta: float) -> None:
    """Variance over h tends to eta^2 g^2, the mean's rate to f x - (1 + eta^2)/2 g^2 score."""
    schedule, t, h, x, D = vp_linear(), 0.5, 1e-6, f64(1.3), f64(-0.4)
    scales = ends(schedule, t, t - h)
    kappa, g2 = ratio(*scales), schedule.diffusion2(f64(t))
    score = -(x - scales[0] * D) / scales[1] ** 2
    drawn = ddim.std(scales[3], kappa, f64(eta)) ** 2 / h
    torch.testing.assert_close(drawn, eta**2 * g2, rtol=1e-4, atol=0)
    rate = (x - ddim.mean(x, D, *scales, kappa, f64(eta))) / h
    expected = schedule.drift(f64(t)) * x - (1 + eta**2) / 2 * g2 * score
    torch.testing.assert_close(rate, expected, rtol=1e-4, atol=0)


# --------------------------------------------------------------------------------------------------- shapes, dtypes


def test_a_coefficient_for_each_sample_is_never_matched_with_the_last_axis() -> None:
    x, coefficient = torch.zeros(3, 3), torch.full((3,), 0.5)
    with pytest.raises(ValueError, match="per_sample"):
        ddim.step(x, x, coefficient, coefficient, coefficient, coefficient)
    with pytest.raises(ValueError, match="per_sample"):
        ddpm.posterior_mean(x, x, coefficient, coefficient)
    column = coefficient[:, None]
    assert ddim.step(x, x, column, column, column, column).shape == (3, 3)


def test_a_thousand_float32_steps_stay_within_rounding_of_the_exact_path() -> None:
    """Point data on DDPM's chain, 1000 steps in float32 with float64 scales rounded once: error below 1e-4."""
    schedule, c, z = discrete(linear_betas(1000)), torch.tensor(0.7), torch.tensor(-1.2)
    times = torch.linspace(1, 0, 1001, dtype=torch.float64)
    alpha, sigma = schedule.alpha(times).float(), schedule.sigma(times).float()
    x = alpha[0] * c + sigma[0] * z
    for k in range(1000):
        x = ddim.step(x, c, alpha[k], sigma[k], alpha[k + 1], sigma[k + 1])
        assert abs(x - (alpha[k + 1] * c + sigma[k + 1] * z)).item() < 1e-4
    assert x.item() == pytest.approx(0.7, rel=1e-6)
