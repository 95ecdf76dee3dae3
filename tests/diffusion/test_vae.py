"""Linear VAEs of one latent against other libraries' divergences, quadrature, gradient search; ends of the domains."""

import math

import pytest
import torch
from torch import Tensor, tensor
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from diffusion import vae

DOUBLE = torch.float64
g = torch.Generator().manual_seed(3)


def draw(n: int = 100) -> Tensor:
    return torch.randn(n, generator=g, dtype=DOUBLE)


def spread(n: int = 100, decades: float = 2.0) -> Tensor:
    return 10.0 ** (decades * (2 * torch.rand(n, generator=g, dtype=DOUBLE) - 1))


def test_objective_is_reconstruction_less_beta_divergences() -> None:
    """E over x and z at the points +-1 of each standard normal, where a quadratic is averaged exactly."""
    a, c, w, l, v, beta = draw(), spread(), draw(), spread(), spread(), spread()
    total = torch.zeros_like(a)
    for sign_x in (1, -1):
        x = sign_x * l.sqrt()
        divergence = kl_divergence(
            Normal(a * x, c.sqrt()), Normal(tensor(0.0, dtype=DOUBLE), tensor(1.0, dtype=DOUBLE))
        )
        for sign_z in (1, -1):
            z = a * x + sign_z * c.sqrt()
            total += (Normal(w * z, v.sqrt()).log_prob(x) - beta * divergence) / 4
    torch.testing.assert_close(vae.beta_bound(a, c, w, l, v, beta), total, rtol=1e-11, atol=1e-11)


def test_beta_one_with_the_best_encoder_is_the_evidence() -> None:
    """Then the bound is E log N(x; 0, w^2 + v), whatever l is."""
    w, l, v = draw(), spread(), spread()
    evidence = -((w**2 + v).log() + math.log(2 * math.pi) + l / (w**2 + v)) / 2
    torch.testing.assert_close(vae.best_bound(w, l, v, tensor(1.0, dtype=DOUBLE)), evidence, rtol=1e-12, atol=1e-12)


def test_best_encoder_is_stationary_and_gives_the_best_bound() -> None:
    w, l, v, beta = draw(), spread(), spread(), spread()
    a, c = vae.encoder_slope(w, v, beta).requires_grad_(), vae.encoder_variance(w, v, beta).requires_grad_()
    value = vae.beta_bound(a, c, w, l, v, beta)
    slopes = torch.autograd.grad(value.sum(), (a, c))
    for slope, size in zip(slopes, (l / v * (w.abs() + 1), beta / c.detach()), strict=True):
        assert ((slope / size).abs() < 1e-11).all()
    torch.testing.assert_close(value.detach(), vae.best_bound(w, l, v, beta), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("beta", [0.25, 1.0, 4.0])
def test_best_slope_is_found_by_search(beta: float) -> None:
    """On a lattice of slopes, for variances on both sides of the threshold beta v, and at it."""
    v, b, lattice = tensor(0.5, dtype=DOUBLE), tensor(beta, dtype=DOUBLE), torch.linspace(0, 3, 3001, dtype=DOUBLE)
    for ratio in (0.1, 0.99, 1.0, 1.01, 1.5, 4.0):
        l = ratio * b * v
        found = lattice[vae.best_bound(lattice, l.expand(3001), v, b).argmax()]
        assert float(found) == pytest.approx(float(vae.best_slope(l, v, b)), abs=1e-3)
        assert (float(vae.best_slope(l, v, b)) > 0) == (ratio > 1)


def test_rate_is_the_mean_divergence_and_zero_for_a_dead_latent() -> None:
    l, v, beta = spread(), spread(), spread()
    w = vae.best_slope(l, v, beta)
    a, c = vae.encoder_slope(w, v, beta), vae.encoder_variance(w, v, beta)
    rate = vae.latent_rate(w, v, beta)
    torch.testing.assert_close(rate, torch.where(w > 0, (a**2 * l + c - 1 - c.log()) / 2, 0), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(rate, ((l / (beta * v)).log() / 2).clamp(min=0), rtol=1e-9, atol=1e-12)
    assert (rate[l <= beta * v] == 0).all()
    assert bool((l <= beta * v).any()) and bool((l > beta * v).any())


@pytest.mark.parametrize("rho", [0.0, 1e-9, 0.3, -0.8, 1 - 1e-12])
def test_diagonal_gap_is_the_divergence_of_the_best_diagonal(rho: float) -> None:
    """A posterior of correlation rho, and the encoder with its mean and its precision's diagonal, inverted."""
    covariance = tensor([[2.0, rho], [rho, 0.5]], dtype=DOUBLE)
    posterior = MultivariateNormal(torch.zeros(2, dtype=DOUBLE), covariance)
    if abs(rho) < 0.9:
        best = MultivariateNormal(torch.zeros(2, dtype=DOUBLE), (1 / torch.linalg.inv(covariance).diagonal()).diag())
        assert float(kl_divergence(best, posterior)) == pytest.approx(
            float(vae.diagonal_gap(tensor(rho, dtype=DOUBLE))), abs=1e-14
        )
    assert float(vae.diagonal_gap(tensor(rho, dtype=DOUBLE))) == pytest.approx(-math.log1p(-(rho**2)) / 2, rel=1e-12)
    assert vae.diagonal_gap(tensor(1.0)) == math.inf


def test_importance_weighted_bound() -> None:
    """One weight is itself; equal weights are their value; a shift comes out; nothing overflows."""
    log_w = draw(30).reshape(5, 6)
    torch.testing.assert_close(vae.importance_weighted(log_w), log_w.exp().mean(-1).log())
    assert torch.equal(vae.importance_weighted(log_w[:, :1]), log_w[:, 0])
    torch.testing.assert_close(vae.importance_weighted(log_w + 1000), vae.importance_weighted(log_w) + 1000)
    assert vae.importance_weighted(tensor([-math.inf, 0.0])) == pytest.approx(-math.log(2))
    torch.testing.assert_close(vae.importance_weighted(torch.full((3, 7), -1e4)), torch.full((3,), -1e4))


@pytest.mark.parametrize("shape", [(), (3, 0)])
def test_no_weights_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="K >= 1, got shape"):
        vae.importance_weighted(torch.zeros(shape))


def test_ranks_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        vae.encoder_slope(torch.ones(3), torch.ones(3, 1), torch.tensor(1.0))
