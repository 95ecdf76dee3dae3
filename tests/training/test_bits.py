"""Bits per dimension in a world where they are known: pixels of a Gaussian, and the Gaussian's own denoiser.

With the exact denoiser and the exact variances the chain is a Gaussian's, reversed, so that its law of the levels is
the Gaussian's mass in each bin, and what the bound is loose by lies at its last step alone: a one-dimensional integral.
The flow's density is the Gaussian's.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import log_ndtr, ndtr
from torch import Tensor, nn

from diffusion import ddpm, likelihood
from diffusion.model import Denoiser
from diffusion.schedules import SCHEDULES, Schedule
from training.evaluation import bits

STD = 0.5
SHAPE = (1, 4, 4)


def images(n: int, levels: int) -> Tensor:
    """Draws of N(0, STD^2) on the levels of [-1, 1]: float32 [n, 1, 4, 4]."""
    z = STD * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    k = ((z + 1) * (levels - 1) / 2).round().clamp(0, levels - 1)
    return (2 * k / (levels - 1) - 1).float()


def exact(schedule: Schedule) -> Denoiser:
    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return (alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * x).to(x.dtype)

    return denoiser


def within(found: Tensor, expected: float, error: float) -> bool:
    """Within 6 standard errors (false fail 2e-9) of a mean over images, which have to be less than `error`."""
    assert float(found.std()) / math.sqrt(len(found)) < error
    return abs(float(found.mean()) - expected) < 6 * float(found.std()) / math.sqrt(len(found)) + 1e-4


# ------------------------------------------------------------------------------------------------------- by the flow


def of_the_density(x: Tensor, variance: float, width: float) -> float:
    """The bound's exact mean: u uniform over the bin adds width^2/12 to x^2."""
    nats = (x.double() ** 2 + width**2 / 12) / (2 * variance) + 0.5 * math.log(2 * math.pi * variance)
    return float(nats.mean() - math.log(width)) / math.log(2)


def flow(
    name: str = "cosine", levels: int = 64, earliest: float = 0.05, n: int = 256, **options
) -> tuple[Tensor, float]:
    """(bits of each image less its own expected mean, 0), at a time where alpha is not 1 under any VP schedule."""
    schedule, x, width = SCHEDULES[name](), images(n, levels), 2 / (levels - 1)
    alpha, sigma = (float(f(torch.tensor(earliest).double())) for f in (schedule.alpha, schedule.sigma))
    found = bits.by_flow(
        exact(schedule), schedule, x.double(), torch.Generator().manual_seed(0), earliest, STD, width=width,
        tolerance=1e-6, **options,
    )  # fmt: skip
    variance = STD**2 + (sigma / alpha) ** 2
    own = torch.tensor([of_the_density(image, variance, width) for image in x], dtype=torch.float64)
    return found - own, 0.0


@pytest.mark.parametrize("levels", [64, 256])
@pytest.mark.parametrize("name", ["cosine", "flow", "edm", "vp_linear"])
def test_the_flows_bits_are_the_gaussians(name: str, levels: int) -> None:
    found, expected = flow(name, levels)
    assert within(found, expected, error=0.002)


def test_the_flow_ends_in_the_law_of_the_data_that_are_left() -> None:
    """Under vp_linear 0.7 % of the data are left at t = 1: of data of standard deviation 30 that is 0.2, beside 1.

    With bins of no width the bits are the Gaussian's density, image by image.
    """
    schedule, std, width = SCHEDULES["vp_linear"](), 30.0, 1e-6
    x = std * torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return (alpha * std**2 / (alpha**2 * std**2 + sigma**2) * x_t).to(x_t.dtype)

    found = bits.by_flow(
        denoiser, schedule, x, torch.Generator().manual_seed(0), 0.05, std, width=width, tolerance=1e-6
    )
    alpha, sigma = (float(f(torch.tensor(0.05).double())) for f in (schedule.alpha, schedule.sigma))
    expected = [of_the_density(image, std**2 + (sigma / alpha) ** 2, width) for image in x]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-3)


def test_every_trace_is_the_same_here() -> None:
    """A linear denoiser's Jacobian is a multiple of the identity: random signs make no error."""
    torch.testing.assert_close(flow(n=4, probes=None)[0], flow(n=4, probes=3)[0], atol=1e-4, rtol=0)


def test_the_flows_bits_bound_those_of_the_bins() -> None:
    """From above, and by less than 0.01: -log2 of the mass in each bin, of the Gaussian that the flow ends in."""
    for levels in (64, 256):
        x, earliest = images(64, levels), 1e-3
        schedule = SCHEDULES["cosine"]()
        half, mean = 1 / (levels - 1), x.double().numpy()
        mass = ndtr((mean + half) / STD) - ndtr((mean - half) / STD)
        found = bits.by_flow(
            exact(schedule), schedule, x.double(), torch.Generator().manual_seed(0), earliest, STD, width=2 * half,
            tolerance=1e-6,
        )  # fmt: skip
        gap = float(found.mean() + np.log2(mass).mean())
        assert -0.003 < gap < 0.01


def _reversed_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = likelihood._follow
    monkeypatch.setattr(likelihood, "_follow", lambda *a: (-(found := follow(*a))[0], found[1]))


def _backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    velocity = likelihood.velocity
    monkeypatch.setattr(likelihood, "velocity", lambda *a: tuple(-c for c in velocity(*a)))


def _per(divisor: Callable[[int], float]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(ddpm, "bits_per_dim", lambda nll, d: nll / divisor(d))


def _density(of: Callable[[Tensor, int, float], Tensor]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda monkeypatch: monkeypatch.setattr(bits, "bits_of_density", of)


LOG_ALPHA = math.log(math.cos(0.025 * math.pi))  # of cosine at t = 0.05
MISTAKES = {
    "the volume's change added with the wrong sign": _reversed_gain,
    "followed towards the data": _backwards,
    "nats for bits": _per(lambda d: d),
    "a divisor of one side for all pixels": _per(lambda d: 4 * math.log(2)),
    "256 bins of width 2/256": _density(
        lambda log_p, d, width: ddpm.data_bits_per_dim(-log_p, d, round(2 / width) + 1)
    ),
    "no bin at all": _density(lambda log_p, d, width: ddpm.bits_per_dim(-log_p, d)),
    "one bin for all pixels": _density(lambda log_p, d, width: ddpm.bits_per_dim(-(log_p + math.log(width)), d)),
    "the scale alpha forgotten": _density(
        lambda log_p, d, width: ddpm.bits_per_dim(-(log_p + d * (math.log(width) - LOG_ALPHA)), d)
    ),
}


@pytest.mark.parametrize("levels", [64, 256])
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_seen(name: str, levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    MISTAKES[name](monkeypatch)
    found, expected = flow("cosine", levels, n=1024 if "alpha" in name or "256" in name else 64)
    assert not within(found, expected, error=math.inf)


def test_the_levels_are_spread_over_their_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(likelihood, "log_likelihood", lambda d, s, x, **_: seen.append(x) or x.flatten(1).sum(1))
    schedule, x = SCHEDULES["flow"](), images(200, 64).double()
    bits.by_flow(exact(schedule), schedule, x, torch.Generator().manual_seed(0), 0.1, STD, width=2 / 63)
    u = ((seen[0] / 0.9 - x) * 63 / 2).flatten()
    assert -0.5 <= float(u.min()) < -0.49 and 0.49 < float(u.max()) <= 0.5
    assert abs(float(u.mean())) < 6 * math.sqrt(1 / 12 / len(u))
    assert abs(float(u.var()) - 1 / 12) < 6 * math.sqrt(1 / 180 / len(u))


class Normed(nn.Module):
    """A convolution and a group norm, as image networks have them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(x)


@pytest.mark.slow
def test_traces_of_convolutional_networks() -> None:
    """Without gradients, one probe as well as all axes; both at once agree with the axes' sum on average."""
    torch.manual_seed(0)
    network, x = Normed().requires_grad_(False), images(2, 256)
    schedule = SCHEDULES["cosine"]()
    options = {"start": 1e-2, "rtol": 1e-3, "atol": 1e-3}
    exactly = likelihood.log_likelihood(network, schedule, x, **options)
    generator = torch.Generator().manual_seed(0)
    draws = [
        likelihood.log_likelihood(network, schedule, x, probes=1, generator=generator, **options) for _ in range(30)
    ]
    one = torch.stack(draws)
    error = one.std(0) / math.sqrt(len(one))
    assert bool(((one.mean(0) - exactly).abs() < 6 * error + 0.05).all())


# ------------------------------------------------------------------------------------------------- the chain's bound


def of_the_chain(x: Tensor, alpha_bar: float, levels: int) -> Tensor:
    r"""The bound's exact mean in bits for each image, over y_1 = sqrt(alpha_bar) x + sqrt(1 - alpha_bar) z:

    E_z [log q(y_1 | x) - log p(y_1) - log P(bin of x | y_1)], all of N(0, STD^2) data and a chain of any length.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    x_0 = x.double().numpy()[..., None]
    noise = 1 - alpha_bar
    y = math.sqrt(alpha_bar) * x_0 + math.sqrt(noise) * nodes
    v = alpha_bar * STD**2 + noise
    mean, std = math.sqrt(alpha_bar) * STD**2 / v * y, math.sqrt(STD**2 * noise / v)
    half = 1 / (levels - 1)
    low = np.where(x_0 <= -1 + half / 2, -np.inf, (x_0 - half - mean) / std)
    high = np.where(x_0 >= 1 - half / 2, np.inf, (x_0 + half - mean) / std)
    low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)  # in the lower tail no digits are lost
    log_mass = log_ndtr(high) + np.log1p(-np.exp(log_ndtr(low) - log_ndtr(high)))
    log_q = -0.5 * nodes**2 - 0.5 * math.log(2 * math.pi * noise)
    log_p = -0.5 * y**2 / v - 0.5 * math.log(2 * math.pi * v)
    nats = (log_q - log_p - log_mass) @ (weights / weights.sum())
    return torch.tensor(nats.reshape(len(x), -1).mean(1) / math.log(2))


def chained(
    name: str, levels: int, n: int = 3000, T: int = 20, change: Callable[[bits.Chain], None] = lambda chain: None
) -> tuple[Tensor, Tensor]:
    schedule, x = SCHEDULES[name](), images(n, levels)
    chain = bits.Chain(schedule, T, *((0.05, 0.9995) if name != "edm" else (0.3, 1 - 1e-6)))
    alpha_bar = chain.alpha_bar[1:]
    C = STD**2 * (1 - alpha_bar) / (alpha_bar * STD**2 + 1 - alpha_bar)
    Sigma = ddpm.optimal_variance(chain.alpha_bar[:-1], chain.betas, C)
    change(chain)
    found = chain.bits(exact(schedule), Sigma, x, torch.Generator().manual_seed(0), levels)
    return found, of_the_chain(x, float(alpha_bar[0]), levels)


@pytest.mark.slow
@pytest.mark.parametrize("levels", [64, 256])
@pytest.mark.parametrize("name", ["cosine", "flow", "edm", "vp_linear"])
def test_the_chains_bits_are_the_gaussians(name: str, levels: int) -> None:
    """Whatever the schedule: to within a draw's noise, image by image."""
    found, expected = chained(name, levels)
    assert within(found - expected, 0.0, error=0.02)


def test_the_chains_bits_bound_those_of_the_bins() -> None:
    x = images(64, 256)
    mass = torch.tensor(ndtr((x.double().numpy() + 1 / 255) / STD) - ndtr((x.double().numpy() - 1 / 255) / STD))
    exact_bits = -torch.log2(mass).flatten(1).mean(1)
    inner = x.flatten(1).abs().amax(1) < 1  # the outermost levels own the tails
    assert bool((of_the_chain(x, 0.999**2, 256) > exact_bits)[inner].all())


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_the_chain_begins_at_the_width_of_a_bin(name: str) -> None:
    """Or where the network begins; there the exact bound is within 0.1 of the bins' own bits, far below it is not."""
    schedule = SCHEDULES[name]()
    first = bits.first_time(schedule, 1e-6)
    ratio = math.exp(-float(schedule.half_log_snr(torch.tensor(first).double())))
    assert ratio == pytest.approx(2 / 255, rel=1e-6) if name != "ve" else (first == 1e-6 and ratio > 2 / 255)
    assert bits.first_time(schedule, 0.5) == 0.5
    x = images(16, 256).clamp(-0.9, 0.9).mul(127.5).add(127.5).round().div(127.5).sub(1)
    mass = ndtr((x.double().numpy() + 1 / 255) / STD) - ndtr((x.double().numpy() - 1 / 255) / STD)
    bound, fine = (float(of_the_chain(x, 1 / (1 + r**2), 256).mean()) for r in (ratio, 3e-4))
    assert 0 < bound + np.log2(mass).mean() < 0.1 < 2 < fine + np.log2(mass).mean()


def _times_reversed(chain: bits.Chain) -> None:
    chain.times = chain.times.flip(0)


def _unscaled(chain: bits.Chain) -> None:
    chain.scale = torch.ones_like(chain.scale)


@pytest.mark.slow
@pytest.mark.parametrize("name, change", [("flow", _times_reversed), ("edm", _times_reversed), ("flow", _unscaled)])
def test_a_chain_gone_wrong_is_seen(name: str, change: Callable[[bits.Chain], None]) -> None:
    found, expected = chained(name, 256, change=change)
    assert not within(found - expected, 0.0, error=math.inf)


def test_levels_that_are_not_the_datas_are_refused() -> None:
    schedule = SCHEDULES["cosine"]()
    chain = bits.Chain(schedule, 3, 0.05, 0.99)
    with pytest.raises(ValueError, match="not on the 64 levels"):
        chain.bits(exact(schedule), torch.ones(3).double(), images(4, 256), torch.Generator().manual_seed(0), levels=64)


def test_the_variances_are_the_posteriors() -> None:
    """6400 squared errors: 6 standard errors are 6 sqrt(2/6400) = 11 %."""
    schedule = SCHEDULES["flow"]()
    chain = bits.Chain(schedule, 6, 0.05, 0.99)
    x = STD * torch.randn(400, *SHAPE, generator=torch.Generator().manual_seed(2))
    found = chain.variances(exact(schedule), x, torch.Generator().manual_seed(0))
    alpha_bar = chain.alpha_bar[1:]
    C = STD**2 * (1 - alpha_bar) / (alpha_bar * STD**2 + 1 - alpha_bar)
    torch.testing.assert_close(found, ddpm.optimal_variance(chain.alpha_bar[:-1], chain.betas, C), rtol=0.11, atol=0)
    assert float(found[0]) == pytest.approx(float(C[0]), rel=0.11)  # the decoder's is the posterior's own
