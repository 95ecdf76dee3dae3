"""Losses against integrals known in closed form, published special values, and one another across parameterizations."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad
from torch import Tensor

from diffusion.losses import LOSS_WEIGHTS, WEIGHTS, amplification, denoising_loss, loss_weight
from diffusion.parameterization import PARAMETERIZATIONS, convert, to_x0
from diffusion.schedules import SCHEDULES, Kernel, Schedule
from diffusion.shapes import per_sample

DOUBLE = torch.float64


def draws(n: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    x0, eps = (torch.randn(n, 3, generator=g, dtype=DOUBLE) for _ in range(2))
    return x0, eps, 0.02 + 0.96 * torch.rand(n, generator=g, dtype=DOUBLE)


def kernel_at_snr(snr: float) -> Kernel:
    """Variance preserving, any derivative: alpha^2 = SNR / (1 + SNR)."""
    alpha2 = torch.tensor([snr / (1 + snr)], dtype=DOUBLE)
    return Kernel(alpha2.sqrt(), (1 - alpha2).sqrt(), -torch.ones(1, dtype=DOUBLE), torch.ones(1, dtype=DOUBLE))


# --- one squared error in every parameterization ----------------------------------------------------------------------


def imperfect(schedule: Schedule, kind: str):  # type: ignore[no-untyped-def]
    """A network whose x0_hat is tanh(x), told in `kind`."""
    return lambda x, t: convert("x0", kind, x.tanh(), x, *schedule.kernel(t))


@pytest.mark.parametrize("weight", sorted(WEIGHTS))
@pytest.mark.parametrize("name", ["vp_linear", "sub_vp", "flow", "ve"])
def test_a_weighted_loss_does_not_depend_on_what_the_network_predicts(name: str, weight: str) -> None:
    schedule = SCHEDULES[name]()
    x0, eps, t = draws()
    losses = [
        denoising_loss(imperfect(schedule, kind), schedule, x0, t, eps, kind=kind, weight=weight)
        for kind in PARAMETERIZATIONS
    ]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
def test_plain_is_the_mean_squared_error_and_simple_is_ho_et_als(kind: str) -> None:
    """Ho et al.'s loss is the plain error of eps, whatever the network predicts; the mean is over features."""
    schedule = SCHEDULES["vp_linear"]()
    x0, eps, t = draws()
    x_t = per_sample(schedule.alpha(t), x0) * x0 + per_sample(schedule.sigma(t), x0) * eps
    network = imperfect(schedule, kind)
    simple = denoising_loss(network, schedule, x0, t, eps, kind=kind, weight="simple")
    eps_hat = convert(kind, "eps", network(x_t, t), x_t, *schedule.kernel(t))
    torch.testing.assert_close(simple, ((eps_hat - eps) ** 2).sum(1) / 3, rtol=1e-9, atol=0)
    wanted = convert("eps", kind, eps, x_t, *schedule.kernel(t))
    plain = denoising_loss(network, schedule, x0, t, eps, kind=kind)
    torch.testing.assert_close(plain, ((network(x_t, t) - wanted) ** 2).sum(1) / 3, rtol=1e-9, atol=0)


@pytest.mark.parametrize("source", PARAMETERIZATIONS)
def test_amplification_is_what_an_error_of_the_prediction_does_to_x0(source: str) -> None:
    schedule = SCHEDULES["vp_linear"]()
    x_t, error, t = draws()
    kernel = schedule.kernel(t)
    off = to_x0(source, x_t + error, x_t, *kernel) - to_x0(source, x_t, x_t, *kernel)
    ratio = (off**2).sum(1) / (error**2).sum(1)
    torch.testing.assert_close(ratio, amplification(source, "x0", kernel), rtol=1e-9, atol=0)


# --- the bound, and weights that are densities, as integrals ----------------------------------------------------------


@pytest.mark.parametrize("kind", PARAMETERIZATIONS)
@pytest.mark.parametrize("name", ["vp_linear", "cosine", "flow", "edm"])
def test_the_elbo_of_gaussian_data_is_known_in_nats_and_only_through_the_end_points(name: str, kind: str) -> None:
    """x0 ~ N(0, s^2), exact denoiser: Var[x0|x_t] = s^2/(1 + s^2 SNR), so the bound's diffusion part is
    1/2 int Var dSNR = 1/2 log((1 + s^2 SNR_start)/(1 + s^2 SNR_end)), whatever the schedule between."""
    schedule, s2 = SCHEDULES[name](), 0.6
    start, end = 0.05, 0.95

    def integrand(t: float) -> float:
        kernel = schedule.kernel(torch.tensor([t], dtype=DOUBLE))
        variance_x0 = s2 / (1 + s2 * (kernel.alpha / kernel.sigma) ** 2)
        return float(loss_weight("elbo", kind, kernel) * variance_x0 / amplification(kind, "x0", kernel))

    snr = (2 * schedule.half_log_snr(torch.tensor([start, end], dtype=DOUBLE))).exp().tolist()
    exact = 0.5 * math.log((1 + s2 * snr[0]) / (1 + s2 * snr[1]))
    assert quad(integrand, start, end, epsabs=1e-10)[0] == pytest.approx(exact, rel=1e-8)


def test_denoising_loss_with_the_elbo_weight_estimates_those_nats() -> None:
    """Monte Carlo at 40,000 stratified times, error about 0.3 %; a missing factor 2 or a mean over 2 features shows."""
    schedule, s2, n = SCHEDULES["flow"](), 0.6, 40_000
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(n, 2, generator=g, dtype=DOUBLE) for _ in range(2))
    t = 0.05 + 0.9 * (torch.arange(n, dtype=DOUBLE) + 0.5) / n

    def exact_eps(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        return sigma * x / (alpha**2 * s2 + sigma**2)

    estimate = 0.9 * denoising_loss(exact_eps, schedule, s2**0.5 * x0, t, eps, kind="eps", weight="elbo").mean()
    snr = (2 * schedule.half_log_snr(torch.tensor([0.05, 0.95], dtype=DOUBLE))).exp().tolist()
    exact = 0.5 * math.log((1 + s2 * snr[0]) / (1 + s2 * snr[1]))
    assert float(estimate) == pytest.approx(exact, rel=0.02)


def integral_over_time(name: str, schedule: Schedule, start: float, end: float, **options: float) -> float:
    def value(t: float) -> float:
        return float(loss_weight(name, "eps", schedule.kernel(torch.tensor([t], dtype=DOUBLE)), **options))

    return quad(value, start, end, epsabs=1e-10, limit=500, points=[0.3, 0.5, 0.7])[0]


@pytest.mark.parametrize("schedule", ["cosine", "flow"])
def test_laplace_is_a_density_of_the_log_snr_with_its_mean_and_scale(schedule: str) -> None:
    """All mass lies between the ends; half of it above log-SNR = mean; 1 - 1/e within one scale of it."""
    kernel = SCHEDULES[schedule]()

    def time(log_snr: float) -> float:
        return float(kernel.time_of(torch.tensor(log_snr / 2, dtype=DOUBLE)))

    options = {"mean": -0.8, "scale": 0.7}
    total = integral_over_time("laplace", kernel, 1e-12, 1 - 1e-12, **options)
    above = integral_over_time("laplace", kernel, 1e-12, time(-0.8), **options)
    within = integral_over_time("laplace", kernel, time(-0.8 + 0.7), time(-0.8 - 0.7), **options)
    assert (total, above, within) == pytest.approx((1, 0.5, 1 - math.exp(-1)), rel=1e-6)


def test_sigmoid_integrates_to_a_softplus_of_the_papers_log_snr() -> None:
    """Kingma & Gao's loss is 1/2 int w d(log-SNR): for w = sigmoid(bias - log-SNR) a difference of softplus / 2."""
    schedule, bias = SCHEDULES["vp_linear"](), 1.3
    log_snr = (2 * schedule.half_log_snr(torch.tensor([0.05, 0.9], dtype=DOUBLE))).tolist()
    softplus = [math.log1p(math.exp(bias - value)) for value in log_snr]
    assert integral_over_time("sigmoid", schedule, 0.05, 0.9, bias=bias) == pytest.approx(
        (softplus[1] - softplus[0]) / 2
    )


# --- published special values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, kind, snr, expected, options",
    [
        ("min_snr", "x0", 9.0, 5.0, {}),
        ("min_snr", "x0", 4.0, 4.0, {}),
        ("min_snr", "eps", 4.0, 1.0, {}),
        ("min_snr", "eps", 20.0, 0.25, {}),
        ("min_snr", "v", 4.0, 0.8, {}),  # min(SNR, gamma) / (SNR + 1)
        ("min_snr", "v", 9.0, 0.5, {}),
        ("min_snr", "v", 9.0, 0.1, {"gamma": 1.0}),
        ("truncated_snr", "x0", 9.0, 9.0, {}),
        ("truncated_snr", "x0", 0.25, 1.0, {}),
        ("truncated_snr", "v", 0.25, 0.8, {}),
        ("p2", "eps", 3.0, 0.25, {}),
        ("p2", "eps", 3.0, 0.5, {"gamma": 0.5}),
        ("p2", "eps", 3.0, 0.2, {"k": 2.0}),
        ("edm", "x0", 4.0, 8.0, {}),  # sigma = 1/2 = sigma_data: (1/4 + 1/4) / (1/4)^2
        ("edm", "x0", 1.0, 2.0, {"sigma_data": 1.0}),
        ("simple", "x0", 7.0, 7.0, {}),
        ("simple", "v", 3.0, 0.75, {}),  # SNR / (SNR + 1)
    ],
)
def test_published_values(name: str, kind: str, snr: float, expected: float, options: dict[str, float]) -> None:
    assert float(loss_weight(name, kind, kernel_at_snr(snr), **options)) == pytest.approx(expected, rel=1e-13)


def test_weights_at_the_ends_are_finite_where_they_should_be() -> None:
    without_noise = SCHEDULES["flow"]().kernel(torch.tensor([0.0], dtype=DOUBLE))
    without_signal = SCHEDULES["flow"]().kernel(torch.tensor([1.0], dtype=DOUBLE))
    assert float(loss_weight("min_snr", "x0", without_noise)) == 5
    assert float(loss_weight("min_snr", "v", without_noise)) == 0
    assert float(loss_weight("simple", "eps", without_noise)) == 1
    assert float(loss_weight("simple", "v", without_signal)) == 0
    assert float(loss_weight("p2", "eps", without_noise)) == 0
    assert float(loss_weight("truncated_snr", "v", without_signal)) == 1


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    schedule = SCHEDULES["vp_linear"]()
    x0, eps, t = draws()
    kernel = schedule.kernel(t)
    with pytest.raises(ValueError, match="unknown loss weight 'minsnr': expected one of plain, simple"):
        loss_weight("minsnr", "eps", kernel)
    for weight in LOSS_WEIGHTS:
        with pytest.raises(ValueError, match="unknown parameterization 'noise'"):
            loss_weight(weight, "noise", kernel)
    with pytest.raises(ValueError, match="elbo weight on eps is not finite"):
        loss_weight("elbo", "eps", schedule.kernel(torch.zeros(1)))
    with pytest.raises(TypeError, match="min_snr takes gamma, not gama"):
        loss_weight("min_snr", "eps", kernel, gama=5.0)
    with pytest.raises(ValueError, match="gamma = -1"):
        loss_weight("min_snr", "eps", kernel, gamma=-1.0)
    with pytest.raises(ValueError, match="scale = 0"):
        loss_weight("laplace", "eps", kernel, scale=0.0)
    with pytest.raises(ValueError, match=r"t has shape \(3,\): expected one time for each of the 12 samples"):
        denoising_loss(lambda x, t: x, schedule, x0, t[:3], eps)
    with pytest.raises(ValueError, match=r"x0 \(12, 3\), eps \(12, 2\)"):
        denoising_loss(lambda x, t: x, schedule, x0, t, eps[:, :2])
    with pytest.raises(ValueError, match=r"prediction \(12,\), x_t \(12, 3\)"):
        denoising_loss(lambda x, t: x[:, 0], schedule, x0, t, eps)
