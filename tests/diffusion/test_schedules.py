"""Schedules against exact fractions, quadrature of the SDE whose law they are, autograd, and their end points."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from scipy.integrate import quad

from diffusion import schedules
from diffusion.schedules import SCHEDULES, Schedule

ALL = sorted(SCHEDULES)
CONTINUOUS = [name for name in ALL if not name.startswith("ddpm")]
DOUBLE = torch.float64


def at(*times: float) -> torch.Tensor:
    return torch.tensor(times, dtype=DOUBLE)


@pytest.mark.parametrize("name", ALL)
def test_derivatives_are_those_of_autograd(name: str) -> None:
    schedule = SCHEDULES[name]()
    t = at(0.00037, 0.0123, 0.25013, 0.5001, 0.9003, 0.99937).requires_grad_()
    assert schedule.variance_dot is not None
    for function, derivative in (
        (schedule.alpha, schedule.alpha_dot),
        (schedule.sigma, schedule.sigma_dot),
        (lambda t: schedule.sigma(t) ** 2, schedule.variance_dot),
    ):
        value = (function(t) + 0 * t).sum()  # + 0 t: a constant alpha still has t in its graph
        torch.testing.assert_close(derivative(t), torch.autograd.grad(value, t)[0], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_the_linear_sde_with_this_drift_and_diffusion_has_this_law(name: str) -> None:
    """dx = f x dt + g dW has mean x_0 exp(int f) and variance int g^2(s) exp(2 int_s^t f) ds, by quadrature."""
    schedule = SCHEDULES[name]()
    start, end = 0.01, 0.7

    def shrink(s: float) -> float:
        return math.exp(quad(lambda r: float(schedule.drift(at(r))), s, end, epsabs=1e-11)[0])

    def gain(s: float) -> float:
        return float(schedule.diffusion2(at(s))) * shrink(s) ** 2

    gained = quad(gain, start, end, epsabs=1e-11, limit=200)[0]
    alpha, sigma = schedule.alpha(at(start, end)), schedule.sigma(at(start, end))
    assert shrink(start) == pytest.approx(float(alpha[1] / alpha[0]), rel=1e-9)
    assert gained + float(sigma[0]) ** 2 * shrink(start) ** 2 == pytest.approx(float(sigma[1]) ** 2, rel=1e-8)


def test_vp_linear_has_the_drift_and_diffusion_it_is_defined_by() -> None:
    schedule, t = schedules.vp_linear(0.3, 12.0), at(0.0, 1e-9, 0.2, 0.7, 1.0)
    beta = torch.lerp(at(0.3), at(12.0), t)
    torch.testing.assert_close(schedule.diffusion2(t), beta, rtol=1e-14, atol=0)
    torch.testing.assert_close(schedule.drift(t), -beta / 2, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_half_log_snr_falls_strictly_from_end_to_end(name: str, dtype: torch.dtype) -> None:
    values = SCHEDULES[name]().half_log_snr(torch.linspace(0, 1, 2001, dtype=dtype))
    assert bool((values.diff() < 0).all())


@pytest.mark.parametrize("name", ALL)
def test_ends(name: str) -> None:
    schedule, ends = SCHEDULES[name](), at(0.0, 1.0)
    alpha, sigma = schedule.alpha(ends).tolist(), schedule.sigma(ends).tolist()
    assert alpha[0] == 1
    if name in ("ve", "edm"):
        low, high = {"ve": (0.01, 50.0), "edm": (0.002, 80.0)}[name]
        assert sigma == pytest.approx([low, high], rel=1e-14)
    else:
        assert sigma[0] == 0
        assert schedule.half_log_snr(ends)[0] == math.inf
    if name in ("cosine", "flow"):
        assert (alpha[1], sigma[1]) == (0, 1)
        assert schedule.half_log_snr(ends)[1] == -math.inf
    for field in (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot, schedule.diffusion2):
        assert not bool(field(ends).isnan().any())


@pytest.mark.parametrize("name", ALL)
def test_float32_keeps_its_precision_up_to_both_ends(name: str) -> None:
    """Relative to float64 at the same (float32) times; 1 - exp(-B) at t = 1e-7 would be off by one part in ten."""
    schedule = SCHEDULES[name]()
    # off the chains' grid points k/1000, where their slopes jump
    t = torch.tensor([1e-7, 1e-5, 1.3e-3, 0.3004, 0.9004, 0.9987, 1 - 2**-24], dtype=torch.float32)
    for field in (schedule.alpha, schedule.sigma, schedule.alpha_dot, schedule.sigma_dot):
        short, long = field(t), field(t.double())
        assert short.dtype == torch.float32
        torch.testing.assert_close(short.double(), long, rtol=32 * torch.finfo(torch.float32).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_time_of_inverts_half_log_snr(dtype: torch.dtype) -> None:
    """Against closed forms: flow t = 1/(1 + e^h), cosine t = (2/pi) arctan(e^-h), ve log-linear in t."""
    h = torch.tensor([8.0, 3.0, 0.0, -0.5, -6.0], dtype=dtype)
    close = {"rtol": 32 * torch.finfo(dtype).eps, "atol": 0}
    torch.testing.assert_close(schedules.flow().time_of(h), torch.sigmoid(-h), **close)
    torch.testing.assert_close(schedules.cosine().time_of(h), torch.atan(torch.exp(-h)) * 2 / torch.pi, **close)
    h = h[1:4]
    torch.testing.assert_close(schedules.ve(0.01, 50.0).time_of(h), (-h - math.log(0.01)) / math.log(5000), **close)


@pytest.mark.parametrize("name", ALL)
def test_time_of_the_ends_is_exactly_zero_and_one(name: str) -> None:
    schedule = SCHEDULES[name]()
    for dtype in (torch.float32, torch.float64):
        ends = torch.tensor([0.0, 1.0], dtype=dtype)
        assert schedule.time_of(schedule.half_log_snr(ends)).tolist() == [0, 1]


# --- discrete chains --------------------------------------------------------------------------------------------------

BETAS = [Fraction(1, 1000), Fraction(1, 64), Fraction(3, 10), Fraction(7, 8), Fraction(99, 100)]


def test_alpha_bar_is_the_exact_product() -> None:
    exact = [Fraction(1)]
    for beta in BETAS:
        exact.append(exact[-1] * (1 - beta))
    betas = torch.tensor([float(b) for b in BETAS], dtype=DOUBLE)
    expected = torch.tensor([float(a) for a in exact], dtype=DOUBLE)
    torch.testing.assert_close(schedules.alpha_bars(betas), expected, rtol=1e-14, atol=0)
    torch.testing.assert_close(schedules.betas_from(expected), betas, rtol=1e-13, atol=0)
    schedule = schedules.discrete(betas)
    for k, alpha_bar in enumerate(exact):
        t = at(k / len(BETAS))
        assert float(schedule.alpha(t)) == pytest.approx(math.sqrt(alpha_bar), rel=1e-14)
        assert float(schedule.sigma(t)) == pytest.approx(math.sqrt(1 - alpha_bar), rel=1e-14)


def test_a_tiny_first_beta_survives() -> None:
    """1 - alpha_bar_1 = beta_1 to full precision, which 1 - cumprod(1 - beta) has lost."""
    schedule = schedules.discrete(torch.tensor([1e-12, 0.5], dtype=DOUBLE))
    assert float(schedule.sigma(at(0.5)) ** 2) / 1e-12 == pytest.approx(1, rel=1e-13)


def test_ddpm_linear_tends_to_vp_linear_with_error_of_order_one_over_T() -> None:
    t, limit = at(0.2, 0.5, 0.9), schedules.vp_linear().alpha(at(0.2, 0.5, 0.9)).log()
    error = [(schedules.ddpm_linear(T).alpha(t).log() - limit).abs() for T in (1000, 10_000)]
    torch.testing.assert_close(error[0] / error[1], at(10.0, 10.0, 10.0), rtol=0.05, atol=0)


def test_linear_betas_are_ho_et_als_at_1000_steps() -> None:
    betas = schedules.linear_betas(1000)
    assert betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02], rel=1e-14)
    assert betas.diff().tolist() == pytest.approx([(0.02 - 1e-4) / 999] * 999, rel=1e-9)


def test_cosine_betas_make_the_cosine_schedule_with_its_offset() -> None:
    alpha_bar = schedules.alpha_bars(schedules.cosine_betas(50, max_beta=1.0))
    angle = (torch.arange(51, dtype=DOUBLE) / 50 + 0.008) / 1.008 * math.pi / 2
    torch.testing.assert_close(alpha_bar.sqrt()[:-1], angle.cos()[:-1] / angle.cos()[0], rtol=1e-13, atol=0)
    assert alpha_bar[-1] < 1e-30
    capped = schedules.cosine_betas(50)
    assert capped[-1] == 0.999
    assert torch.equal(capped[:-1], schedules.cosine_betas(50, max_beta=1.0)[:-1])


def test_diffusers_has_the_same_chains() -> None:
    diffusers = pytest.importorskip("diffusers")
    for ours, theirs in (("linear", "linear"), ("cosine", "squaredcos_cap_v2")):
        reference = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs).betas
        mine = getattr(schedules, f"{ours}_betas")(1000)
        torch.testing.assert_close(mine.float(), reference, rtol=1e-4, atol=0)  # theirs are rounded to float32 inside


def test_zero_terminal_snr_moves_the_last_step_only_as_far_as_it_must() -> None:
    betas = schedules.linear_betas(100)
    before = schedules.alpha_bars(betas).sqrt()[1:]
    after = schedules.alpha_bars(schedules.zero_terminal_snr(betas)).sqrt()[1:]
    assert after[-1] == 0
    assert float(after[0]) == pytest.approx(float(before[0]), rel=1e-14)
    torch.testing.assert_close(after.diff() / before.diff(), (after[0] / (before[0] - before[-1])).expand(99))
    schedule = schedules.discrete(schedules.zero_terminal_snr(betas))
    assert (float(schedule.alpha(at(1.0))), float(schedule.sigma(at(1.0)))) == (0, 1)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: schedules.flow().alpha(at(-0.1)), "time runs from 0"),
        (lambda: schedules.flow().kernel(at(math.nan)), "time runs from 0"),
        (lambda: schedules.ddpm_linear().sigma(at(1.001)), "time runs from 0"),
        (lambda: schedules.vp_linear(beta_min=-1), "beta_min = -1"),
        (lambda: schedules.vp_linear(beta_max=math.inf), "beta_max = inf"),
        (lambda: schedules.ve(1.0, 0.5), "must lie below"),
        (lambda: schedules.edm(rho=0), "rho = 0"),
        (lambda: schedules.linear_betas(10), "smaller beta_max"),
        (lambda: schedules.linear_betas(0), "T >= 1"),
        (lambda: schedules.cosine_betas(2.5), "T >= 1"),  # type: ignore[arg-type]
        (lambda: schedules.discrete(torch.tensor([0.1, 1.0, 0.1])), "beta_2 = 1"),
        (lambda: schedules.discrete(torch.tensor([0.0, 0.1])), "beta_1 = 0"),
        (lambda: schedules.discrete(torch.tensor([math.nan])), "beta_1 = nan"),
        (lambda: schedules.discrete(torch.zeros(2, 2)), "row of T >= 1"),
        (lambda: schedules.betas_from(at(0.9, 0.5)), "alpha_bar_0 = 1"),
        (lambda: schedules.betas_from(at(1.0, 0.5, 0.6)), "beta_2"),
        (lambda: schedules.zero_terminal_snr(torch.tensor([0.5])), "two steps"),
        (lambda: schedules.ddpm_linear().time_of(at(-6.0)), "asked for the time"),
        (lambda: schedules.edm().time_of(at(math.nan)), "asked for the time"),
    ],
)
def test_bad_values_are_refused_with_a_word_of_what_was_expected(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()  # type: ignore[operator]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("t", [0.5, torch.tensor(3), torch.tensor([0, 1])])
def test_a_time_is_a_floating_point_tensor(t: object) -> None:
    schedule: Schedule = schedules.vp_linear()
    with pytest.raises(TypeError, match="step k of T is k/T"):
        schedule.alpha(t)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="floating-point tensor of half_log_snr"):
        schedule.time_of(t)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("T", [1, 3, 50, 100, 1000])
def test_every_grid_point_of_a_chain_belongs_to_the_step_that_ends_there(T: int, dtype: torch.dtype) -> None:
    betas = torch.linspace(0.01, 0.5, T, dtype=torch.float64) / max(1, T / 20)
    chain = schedules.discrete(betas)
    k = torch.arange(1, T + 1)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)])
    slope = (alpha_bar[1:] - alpha_bar[:-1]) * T  # of alpha_bar over the step that ends at k
    expected = slope / (2 * alpha_bar[1:].sqrt())
    torch.testing.assert_close(chain.alpha_dot(k.to(dtype) / T).double(), expected, rtol=1e-5, atol=0)
