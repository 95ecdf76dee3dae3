"""The table against what its rows mean, by autograd: a rotation, a time derivative, a gradient of a log density."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.func import jvp

from diffusion.model import denoiser
from diffusion.parameterization import PARAMETERIZATIONS, convert, row, target, to_eps, to_x0
from diffusion.schedules import SCHEDULES, Kernel, Schedule

DOUBLE = torch.float64
PAIRS = [(a, b) for a in PARAMETERIZATIONS for b in PARAMETERIZATIONS]


def batch(schedule: Schedule, n: int = 16) -> tuple[Tensor, Tensor, Tensor, Kernel, Tensor]:
    """x0, eps, t, the kernel at t and x_t; the batch is as long as the last axis, so that a wrong broadcast runs."""
    g = torch.Generator().manual_seed(7)
    x0, eps = (torch.randn(n, 2, n, generator=g, dtype=DOUBLE) for _ in range(2))
    t = 0.02 + 0.96 * torch.rand(n, generator=g, dtype=DOUBLE)
    kernel = schedule.kernel(t)
    x_t = kernel.alpha.reshape(-1, 1, 1) * x0 + kernel.sigma.reshape(-1, 1, 1) * eps
    return x0, eps, t, kernel, x_t


def meaning(kind: str, schedule: Schedule, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """What `kind` means, from its definition and autograd; no row of the table is used."""
    t = t.reshape(-1, 1, 1).expand(x0.shape).clone()
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    if kind == "velocity":  # d x_t / dt along the path of fixed x0, eps
        return jvp(lambda t: schedule.alpha(t) * x0 + schedule.sigma(t) * eps, (t,), (torch.ones_like(t),))[1]
    if kind == "v":  # the derivative along a rotation of (alpha, sigma)

        def turned(a: Tensor) -> Tensor:
            return (alpha * a.cos() - sigma * a.sin()) * x0 + (sigma * a.cos() + alpha * a.sin()) * eps

        return jvp(turned, (torch.zeros_like(t),), (torch.ones_like(t),))[1]
    if kind == "score":
        x_t = (alpha * x0 + sigma * eps).requires_grad_()
        return torch.autograd.grad(Normal(alpha * x0, sigma).log_prob(x_t).sum(), x_t)[0]
    return {"x0": x0, "eps": eps}[kind]


@pytest.mark.parametrize("name", ["vp_linear", "sub_vp", "cosine", "flow", "edm"])
@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_target_is_what_its_name_says(kind: str, name: str) -> None:
    schedule = SCHEDULES[name]()
    x0, eps, t, kernel, _ = batch(schedule)
    torch.testing.assert_close(
        target(kind, x0, eps, *kernel), meaning(kind, schedule, x0, eps, t), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("source, wanted", PAIRS)
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_every_conversion_is_right_for_the_x0_and_eps_that_made_x_t(name: str, source: str, wanted: str) -> None:
    schedule = SCHEDULES[name]()
    x0, eps, _, kernel, x_t = batch(schedule)
    given, expected = target(source, x0, eps, *kernel), target(wanted, x0, eps, *kernel)
    scale = expected.abs().amax((1, 2), keepdim=True)
    converted = convert(source, wanted, given, x_t, *kernel)
    torch.testing.assert_close(converted / scale, expected / scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_posterior_means_of_gaussian_data_convert_like_samples(kind: str) -> None:
    """x0 ~ N(m, s^2): E[x0|x_t] by conditioning, the score by autograd of the marginal; both tell the same kind."""
    schedule, m, s = SCHEDULES["vp_linear"](), 0.7, 1.9
    _, _, _, kernel, x_t = batch(schedule)
    alpha, sigma = kernel.alpha.reshape(-1, 1, 1), kernel.sigma.reshape(-1, 1, 1)
    x = x_t.clone().requires_grad_()
    marginal = Normal(alpha * m, (alpha**2 * s**2 + sigma**2).sqrt())
    (exact_score,) = torch.autograd.grad(marginal.log_prob(x).sum(), x)
    precision = 1 / s**2 + alpha**2 / sigma**2
    mean_x0 = (m / s**2 + alpha * x_t / sigma**2) / precision
    from_score = convert("score", kind, exact_score, x_t, *kernel)
    torch.testing.assert_close(from_score, convert("x0", kind, mean_x0, x_t, *kernel), rtol=1e-9, atol=1e-9)
    model = denoiser(lambda x, t: from_score, schedule, kind)
    torch.testing.assert_close(model(x_t, batch(schedule)[2]), mean_x0, rtol=1e-9, atol=1e-9)


# --- ends -------------------------------------------------------------------------------------------------------------


def at_end(t: float, schedule: str = "flow") -> tuple[Tensor, Tensor, Kernel, Tensor]:
    x0, eps = torch.tensor([[0.3, -1.0]], dtype=DOUBLE), torch.tensor([[2.0, 0.25]], dtype=DOUBLE)
    kernel = SCHEDULES[schedule]().kernel(torch.tensor(t, dtype=DOUBLE))
    return x0, eps, kernel, kernel.alpha * x0 + kernel.sigma * eps


@pytest.mark.parametrize("schedule", ["flow", "cosine"])
@pytest.mark.parametrize("kind", ["x0", "v", "velocity"])
def test_without_signal_these_still_give_x0_exactly(kind: str, schedule: str) -> None:
    x0, eps, kernel, x_t = at_end(1.0, schedule)
    torch.testing.assert_close(to_x0(kind, target(kind, x0, eps, *kernel), x_t, *kernel), x0, rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", ["eps", "score"])
def test_without_signal_eps_and_score_are_refused(kind: str) -> None:
    x0, eps, kernel, x_t = at_end(1.0)
    with pytest.raises(ValueError, match=f"{kind} says nothing about x0 at alpha = 0, sigma = 1"):
        to_x0(kind, target(kind, x0, eps, *kernel), x_t, *kernel)
    with pytest.raises(ValueError, match="says nothing about x0"):
        denoiser(lambda x, t: x, SCHEDULES["cosine"](), kind)(x0, torch.tensor(1.0))


@pytest.mark.parametrize("kind", ["eps", "v", "velocity"])
def test_without_noise_these_still_give_eps_and_x0(kind: str) -> None:
    x0, eps, kernel, x_t = at_end(0.0)
    given = target(kind, x0, eps, *kernel)
    torch.testing.assert_close(to_x0(kind, given, x_t, *kernel), x0, rtol=1e-14, atol=0)
    torch.testing.assert_close(to_eps(kind, given, x_t, *kernel), eps, rtol=1e-14, atol=0)


def test_without_noise_x0_says_nothing_about_eps_and_the_score_is_infinite() -> None:
    x0, eps, kernel, x_t = at_end(0.0)
    with pytest.raises(ValueError, match="x0 says nothing about eps at alpha = 1, sigma = 0"):
        to_eps("x0", x0, x_t, *kernel)
    with pytest.raises(ValueError, match="score is infinite at alpha = 1, sigma = 0"):
        target("score", x0, eps, *kernel)
    with pytest.raises(ValueError, match="velocity is infinite"):
        row("velocity", *SCHEDULES["vp_linear"]().kernel(torch.tensor(0.0)))


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_a_kind_converts_to_itself_bit_for_bit_even_at_an_end(kind: str) -> None:
    _, _, kernel, x_t = at_end(1.0)
    prediction = torch.full_like(x_t, 0.1)
    assert torch.equal(convert(kind, kind, prediction, x_t, *kernel), prediction)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    x0, eps, t, kernel, x_t = batch(SCHEDULES["flow"]())
    with pytest.raises(ValueError, match="unknown parameterization 'epsilon': expected one of x0, eps"):
        target("epsilon", x0, eps, *kernel)
    with pytest.raises(ValueError, match="unknown parameterization 'noise'"):
        denoiser(lambda x, t: x, SCHEDULES["flow"](), "noise")
    with pytest.raises(ValueError, match=r"prediction \(16, 2\), x_t \(16, 2, 16\)"):
        convert("eps", "x0", eps[..., 0], x_t, *kernel)
    with pytest.raises(ValueError, match=r"x0 \(3, 2, 16\), eps \(16, 2, 16\)"):
        target("v", x0[:3], eps, *kernel)
    with pytest.raises(ValueError, match=r"shape \(16,\) does not fit a batch of shape \(3, 2, 16\)"):
        target("v", x0[:3], eps[:3], *kernel)
    with pytest.raises(ValueError, match=r"t has shape \(16,\): expected a scalar"):
        denoiser(lambda x, t: x, SCHEDULES["flow"](), "v")(x_t[:3], t)
