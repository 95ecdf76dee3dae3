"""EDM's scales at their ends, the wrapper against its definition, churn's refusals."""

from __future__ import annotations

import math

import pytest
import torch

from diffusion import edm
from diffusion.losses import edm_weight

F64 = torch.float64


def test_ends() -> None:
    """No noise: the input itself, nothing of the network. Infinite noise: nothing of the input."""
    ends = torch.tensor([0.0, math.inf], dtype=F64)
    assert edm.c_skip(ends, 0.5).tolist() == [1.0, 0.0]
    assert edm.c_in(ends, 0.5).tolist() == [2.0, 0.0]
    assert edm.c_out(ends[:1], 0.5).item() == 0
    assert edm.c_out(torch.tensor(1e12, dtype=F64), 0.5).item() == 0.5


def test_the_weight_is_the_one_of_the_losses() -> None:
    """The same weight on x0 in half_log_snr = -log sigma."""
    sigma = torch.logspace(-2, 2, 20, dtype=F64)
    torch.testing.assert_close(edm.loss_weight(sigma, 0.5), edm_weight(-torch.log(sigma), 0.5), rtol=1e-14, atol=0)


def test_published_noise_argument() -> None:
    assert edm.c_noise(torch.tensor(80.0, dtype=F64)).item() == pytest.approx(1.0955, abs=1e-4)


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4, 4)])
def test_the_wrapped_network_sees_scaled_input_and_one_level_a_sample(shape: tuple[int, ...]) -> None:
    seen = []

    def network(x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        seen.append((x, c_noise))
        return torch.tanh(x)

    g = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=g, dtype=F64)
    sigma = torch.tensor([0.1, 1.0, 10.0], dtype=F64)
    denoised = edm.preconditioned(network, 0.5)(x, sigma)
    for i, s in enumerate(sigma.tolist()):
        total = math.sqrt(s * s + 0.25)
        torch.testing.assert_close(seen[0][0][i], x[i] / total)
        assert seen[0][1][i].item() == pytest.approx(math.log(s) / 4)
        wanted = 0.25 / total**2 * x[i] + 0.5 * s / total * torch.tanh(x[i] / total)
        torch.testing.assert_close(denoised[i], wanted)
    one = edm.preconditioned(network, 0.5)(x, sigma[1])
    torch.testing.assert_close(one[1], denoised[1])
    assert seen[1][1].shape == (3,)


def test_a_network_that_learns_its_target_is_the_denoiser() -> None:
    """F = (x_0 - c_skip x)/c_out gives x_0 back."""
    x_0, x, sigma = (torch.tensor(v, dtype=F64) for v in ([[0.3], [-2.0]], [[1.0], [5.0]], [0.01, 20.0]))
    target = (x_0 - edm.c_skip(sigma, 0.5)[:, None] * x) / edm.c_out(sigma, 0.5)[:, None]
    torch.testing.assert_close(edm.preconditioned(lambda *_: target, 0.5)(x, sigma), x_0)


def test_without_noise_the_denoiser_gives_x_back() -> None:
    """sigma = 0, where c_noise is -inf and a network of it NaN: x itself, its slope 1, and no other sample touched."""

    def network(x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        return torch.sin(c_noise)[:, None] * x

    denoiser = edm.preconditioned(network, 0.5)
    x = torch.tensor([[1.5, -2.0], [0.3, 0.7]], dtype=F64, requires_grad=True)
    clean = denoiser(x, torch.zeros((), dtype=F64))
    assert torch.equal(clean, x)
    (slope,) = torch.autograd.grad(clean.sum(), x)
    assert torch.equal(slope, torch.ones_like(x))
    mixed = denoiser(x, torch.tensor([0.0, 2.0], dtype=F64))
    assert torch.equal(mixed[0], x[0])
    assert torch.equal(mixed[1], denoiser(x, torch.tensor(2.0, dtype=F64))[1])


def test_churn_adds_the_difference_of_variances() -> None:
    sigma = torch.tensor([0.5, 2.0], dtype=F64)
    added, risen = edm.churn_noise(sigma, 0.3, 1.0), edm.churned_sigma(sigma, 0.3)
    torch.testing.assert_close(sigma**2 + added**2, risen**2, rtol=1e-15, atol=0)
    x = torch.ones(2, 3, dtype=F64)
    same, level = edm.churn(x, sigma, 0.0, torch.Generator().manual_seed(0))
    assert torch.equal(same, x) and torch.equal(level, sigma)


def test_a_small_churn_keeps_its_digits() -> None:
    """sqrt(sigma_hat^2 - sigma^2) would lose half of them at gamma = 1e-12."""
    noise = edm.churn_noise(torch.tensor(1.0, dtype=F64), 1e-12, 1.0).item()
    assert noise == pytest.approx(math.sqrt(2e-12 + 1e-24), rel=1e-15)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gamma = -0.1, expected >= 0"):
        edm.churn(torch.ones(1, 1), torch.ones(1), -0.1, torch.Generator())
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match=r"S_noise = .*expected >= 0"):
            edm.churn(torch.ones(1, 1), torch.ones(1), 0.1, torch.Generator(), bad)
    for data in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"sigma_data = .*> 0"):
            edm.preconditioned(lambda x, c: x, data)
    with pytest.raises(ValueError, match="does not fit a batch"):
        edm.preconditioned(lambda x, c: x, 0.5)(torch.ones(3, 2), torch.ones(2))
