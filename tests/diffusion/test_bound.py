"""The variational bound with fixed and learned variances against its exact value on Gaussian data; paths' KL."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffusion import bound, ddpm, gaussian
from diffusion.schedules import alpha_bars, linear_betas

DOUBLE = torch.float64
T = 12
BETAS = linear_betas(T, beta_max=8.0).double()
ALPHA_BAR = alpha_bars(BETAS)
DATA = torch.tensor([1.7, 0.3], dtype=DOUBLE)  # variances of two independent coordinates, means 0
LEFT = torch.stack([DATA * (1 - a) / (a * DATA + 1 - a) for a in ALPHA_BAR])  # Var(x_0 | x_k), [T + 1, 2]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact_denoiser(x: Tensor, t: Tensor) -> Tensor:
    a = ALPHA_BAR[round(float(t) * T)]
    return a.sqrt() * DATA / (a * DATA + 1 - a) * x


def chain_kl(Sigma: Tensor) -> float:
    """E over the data of the bound with the exact denoiser, by another road: KL of the two chains plus the entropy.

    Both chains are Gaussian: q(x_T), then x_s | x_t = slope x_t + N(0, best) under q and N(0, Sigma) under the model,
    whose slope is the same; so steps differ by their variances alone. Sigma [T, 2].
    """
    end = ALPHA_BAR[T] * DATA + 1 - ALPHA_BAR[T]
    zero, one = torch.zeros(2, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE)
    total = gaussian.kl(zero, end, zero, one).sum()
    for k in range(1, T + 1):
        law_s, law_t = (a * DATA + 1 - a for a in (ALPHA_BAR[k - 1], ALPHA_BAR[k]))
        best = law_s * (1 - (1 - BETAS[k - 1]) * law_s / law_t)  # Var(x_s | x_t), by regression
        total = total + gaussian.kl(zero, best, zero, Sigma[k - 1]).sum()
    return float(total + gaussian.entropy(DATA).sum())


FIXED = {
    "beta": BETAS[:, None].expand(T, 2),
    "beta_tilde": torch.cat([LEFT[1:2], ddpm.posterior_variance(ALPHA_BAR[:-1], BETAS)[1:, None].expand(T - 1, 2)]),
    "optimal": torch.cat(
        [LEFT[1:2], ddpm.optimal_variance(ALPHA_BAR[1:-1, None], BETAS[1:, None], LEFT[2:])]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_the_bound_of_each_variance_is_the_chains_kl_plus_entropy(name: str) -> None:
    """20,000 points: within 5 standard errors; optimal variances leave the prior's mismatch alone."""
    Sigma, n = FIXED[name], 20_000
    x_0 = DATA.sqrt() * torch.randn(n, 2, generator=seeded(), dtype=DOUBLE)

    def model(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return exact_denoiser(x, t), Sigma[round(float(t) * T) - 1].expand_as(x)

    nats = ddpm.variational_bound(model, x_0, BETAS, None, seeded(1)).sum(0)
    assert abs(float(nats.mean()) - chain_kl(Sigma)) < 5 * float(nats.std()) / math.sqrt(n)
    if name == "optimal":
        end = ALPHA_BAR[T] * DATA + 1 - ALPHA_BAR[T]
        mismatch = float((end - 1 - end.log()).sum()) / 2
        assert chain_kl(Sigma) == pytest.approx(float(gaussian.entropy(DATA).sum()) + mismatch, abs=1e-12)
    else:
        assert chain_kl(Sigma) > chain_kl(FIXED["optimal"]) + 1e-3


def test_bits_per_dimension_of_the_optimum_are_the_entropys() -> None:
    """In bits and per dimension: the entropy and the prior's mismatch, both over 2 log 2."""
    nll = torch.tensor(chain_kl(FIXED["optimal"]), dtype=DOUBLE)
    end = ALPHA_BAR[T] * DATA + 1 - ALPHA_BAR[T]
    bits = (torch.log2(2 * math.pi * math.e * DATA) + (end - 1 - end.log()) / math.log(2)).sum() / 4
    assert float(ddpm.bits_per_dim(nll, 2)) == pytest.approx(float(bits), abs=1e-12)


def test_learned_variances_lie_where_they_say() -> None:
    """v = 0 is beta_tilde, v = 1 is beta, v = 1/2 their geometric mean; the first step has the decoder's."""
    x = torch.randn(5, 2, generator=seeded(2), dtype=DOUBLE)
    tilde = ddpm.posterior_variance(ALPHA_BAR[:-1], BETAS)
    for v, expected in ((0.0, tilde), (1.0, BETAS), (0.5, (tilde * BETAS).sqrt())):
        model = bound.learned(lambda x, t, v=v: (x, torch.full_like(x, v)), BETAS, first=0.7)
        for k in range(1, T + 1):
            Sigma = model(x, torch.tensor(k / T))[1]
            wanted = torch.tensor(0.7, dtype=DOUBLE) if k == 1 else expected[k - 1]
            torch.testing.assert_close(Sigma, wanted.expand(5, 2), rtol=1e-12, atol=0)


def test_a_learned_variance_is_as_good_as_a_fixed_one_that_equals_it() -> None:
    x_0 = torch.randn(7, 2, generator=seeded(3), dtype=DOUBLE)
    network = bound.learned(lambda x, t: (exact_denoiser(x, t), torch.full_like(x, 0.3)), BETAS, first=0.2)
    log_variance = ddpm.learned_log_variance(torch.tensor(0.3, dtype=DOUBLE), ALPHA_BAR[:-1], BETAS)
    Sigma = torch.cat([torch.tensor([0.2], dtype=DOUBLE), log_variance.exp()[1:]])
    said = ddpm.variational_bound(network, x_0, BETAS, None, seeded(4))
    torch.testing.assert_close(said, ddpm.variational_bound(exact_denoiser, x_0, BETAS, Sigma, seeded(4)))


def test_bad_input_gets_one_clear_line() -> None:
    x_0 = torch.zeros(3, 2, dtype=DOUBLE)
    for model, Sigma in ((exact_denoiser, None), (lambda x, t: (x, x), BETAS)):
        with pytest.raises(ValueError, match="one of the two"):
            ddpm.variational_bound(model, x_0, BETAS, Sigma, seeded())
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        bound.learned(lambda x, t: (x, x + 1.5), BETAS, first=1.0)(x_0, torch.tensor(1.0))
    for t in (0.0, 1.2):
        with pytest.raises(ValueError, match=f"t = {t:g}: expected the time k/"):
            bound.learned(lambda x, t: (x, 0.5 + 0 * x), BETAS, first=1.0)(x_0, torch.tensor(t))
    with pytest.raises(ValueError, match="first = 0"):
        bound.learned(lambda x, t: (x, x), BETAS, first=0.0)


def test_paths_of_steps_have_the_kl_of_their_gaussians() -> None:
    """Two linear drifts, five Euler steps: the joint laws of all places are Gaussians in R^5 whose KL torch knows."""
    h, g, steps = 0.3, 0.8, 5
    slopes, start = (-0.4, 0.7), 1.1
    laws = []
    for slope in slopes:
        noise = torch.zeros(steps, steps, dtype=DOUBLE)  # places = mean + noise @ u
        for k in range(steps):
            noise[k, k] = g * math.sqrt(h)
            if k:
                noise[k] += (1 + h * slope) * noise[k - 1]
        mean = torch.tensor([start * (1 + h * slope) ** (k + 1) for k in range(steps)], dtype=DOUBLE)
        laws.append(torch.distributions.MultivariateNormal(mean, scale_tril=noise))
    by_torch = float(torch.distributions.kl_divergence(*laws))
    total, second = 0.0, torch.tensor(start**2, dtype=DOUBLE)
    one = torch.ones((), dtype=DOUBLE)
    for _ in range(steps):
        root = second.sqrt()  # the drifts are linear: the mean of (a x - b x)^2 is that at x = sqrt(E x^2)
        total += float(bound.path_kl(slopes[0] * root, slopes[1] * root, g * one, h * one))
        second = (1 + h * slopes[0]) ** 2 * second + g**2 * h
    assert total == pytest.approx(by_torch, rel=1e-12)
