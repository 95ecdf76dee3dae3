"""Probabilistic PCA against another library's Gaussians, integration over z, random search and gradient ascent."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from toy.ppca import LinearGaussian, best_W, mean_bound, mean_rates, ppca


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


WORLD = ppca()
COVARIANCE = WORLD.W @ WORLD.W.T + WORLD.v * torch.eye(5, dtype=torch.float64)


def test_a_draw_is_factors_and_noise() -> None:
    """W z + mean + sqrt(v) eps, drawn by hand: means and covariances of 100,000, 5 standard errors."""
    g, n = seeded(), 100_000
    z, eps = (torch.randn(n, k, generator=g, dtype=torch.float64) for k in (3, 5))
    by_hand, drawn = z @ WORLD.W.T + WORLD.mean + math.sqrt(WORLD.v) * eps, WORLD.sample(n, g)
    for sample in (by_hand, drawn):
        error = MultivariateNormal(torch.zeros(5, dtype=torch.float64), COVARIANCE).variance.sqrt() / math.sqrt(n)
        assert ((sample.mean(0) - WORLD.mean).abs() < 5 * error).all()
        assert (torch.cov(sample.T) - COVARIANCE).abs().max() < 5 * 2 * float(COVARIANCE.max()) / math.sqrt(n)


def test_evidence_is_the_joint_integrated_over_z() -> None:
    """Two latents, a lattice of 0.1 over +-8: the sum is exact to rounding for so smooth a joint."""
    world = LinearGaussian("two", WORLD.W[:, :2], WORLD.mean, 0.5)
    axis = torch.arange(-8, 8, 0.1, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    for x in world.sample(3, seeded(1)):
        log_joint = world.log_joint(x.expand(len(z), -1), z)
        total = torch.logsumexp(log_joint, 0) + 2 * math.log(0.1)
        assert float(total) == pytest.approx(float(world.log_density(x[None])), abs=1e-10)
        weights = (log_joint - log_joint.max()).exp()
        weights = weights / weights.sum()
        m, S = world.encoder(x[None])
        torch.testing.assert_close(weights @ z, m[0], rtol=0, atol=1e-10)
        away = z - m
        torch.testing.assert_close((weights[:, None] * away).T @ away, S, rtol=0, atol=1e-10)


def test_evidence_is_torchs_and_precision_inverts_the_posterior() -> None:
    x = WORLD.sample(50, seeded(2))
    torch.testing.assert_close(WORLD.log_density(x), MultivariateNormal(WORLD.mean, COVARIANCE).log_prob(x))
    torch.testing.assert_close(WORLD.precision() @ WORLD.encoder(x)[1], torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_bound_is_its_definition_by_quadrature(beta: float) -> None:
    """One latent: E_q[log p(x, z) - log N(z)] - beta (E_q[log q - log N(z)]) on a lattice."""
    world = LinearGaussian("one", WORLD.W[:, :1], WORLD.mean, 0.5)
    x, m, s = world.sample(1, seeded(3)), torch.tensor([[0.4]], dtype=torch.float64), 0.7
    z = torch.arange(-12, 12, 0.05, dtype=torch.float64)[:, None]
    log_q = torch.distributions.Normal(0.4, s).log_prob(z[:, 0])
    log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0])
    log_decoder = world.log_joint(x.expand(len(z), -1), z) - log_prior
    expected = 0.05 * (log_q.exp() * (log_decoder - beta * (log_q - log_prior))).sum()
    S = torch.tensor([[s**2]], dtype=torch.float64)
    assert float(world.bound(x, m, S, beta)) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_no_encoder_near_the_best_is_better(beta: float) -> None:
    x, g = WORLD.sample(1, seeded(4)), seeded(5)
    m, S = WORLD.encoder(x, beta)
    best = float(WORLD.bound(x, m, S, beta))
    for size in (1e-3, 0.1, 1.0):
        root = torch.linalg.cholesky(S) + size * torch.randn(3, 3, generator=g, dtype=torch.float64).tril()
        near = m + size * torch.randn(1, 3, generator=g, dtype=torch.float64)
        assert float(WORLD.bound(x, near, root @ root.T, beta)) < best


def test_averaged_bound_is_the_average_over_data() -> None:
    """A quadratic in x is averaged exactly over the points mean +- columns of the root of the covariance."""
    g = seeded(6)
    A, root = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((3, 5), (3, 3)))
    S = root @ root.T + 0.1 * torch.eye(3, dtype=torch.float64)
    spread = torch.linalg.cholesky(COVARIANCE).T * math.sqrt(5)
    x = WORLD.mean + torch.cat((spread, -spread))
    by_points = WORLD.bound(x, (x - WORLD.mean) @ A.T, S, 1.7).mean()
    torch.testing.assert_close(mean_bound(WORLD.W, A, S, WORLD.v, COVARIANCE, 1.7), by_points)


def test_maximum_likelihood_gives_the_world_back() -> None:
    """For data of the world's own covariance W W^T is found again, and the averaged bound is minus the entropy."""
    W = best_W(COVARIANCE, WORLD.v, 3)
    torch.testing.assert_close(W @ W.T, WORLD.W @ WORLD.W.T)
    A, S = WORLD.encoder(WORLD.mean + torch.eye(5, dtype=torch.float64))
    assert float(mean_bound(WORLD.W, A.T, S, WORLD.v, COVARIANCE)) == pytest.approx(-WORLD.entropy(), abs=1e-12)


def test_directions_die_one_by_one_as_beta_grows() -> None:
    """At beta l/v exactly, and no earlier: just below it the column is alive."""
    l = torch.linalg.eigvalsh(COVARIANCE).flip(0)
    for i in range(3):
        for factor, alive in ((1 - 1e-6, i + 1), (1 + 1e-6, i)):
            W = best_W(COVARIANCE, WORLD.v, 3, beta=float(l[i]) / WORLD.v * factor)
            assert int((W.norm(dim=0) > 0).sum()) == alive


def test_rates_are_divergences_on_average() -> None:
    g = seeded(7)
    A, s = torch.randn(3, 5, generator=g, dtype=torch.float64), torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    spread = torch.linalg.cholesky(COVARIANCE).T * math.sqrt(5)
    q = torch.distributions.Normal(torch.cat((spread, -spread)) @ A.T, s.sqrt())
    kl = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros(3), torch.ones(3))).mean(0)
    torch.testing.assert_close(mean_rates(A, s.diag(), COVARIANCE), kl)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((torch.zeros(5), torch.zeros(5), 1.0), r"W \[dim, K\]"),
        ((torch.zeros(5, 2), torch.zeros(4), 1.0), r"mean \[dim\] wanted, got \[5, 2\], \[4\]"),
        ((torch.zeros(5, 2), torch.zeros(5), 0.0), "finite and > 0, got 0"),
        ((torch.zeros(5, 2), torch.zeros(5), math.nan), "finite and > 0, got nan"),
    ],
)
def test_bad_input_gets_one_clear_line(arguments, message) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        LinearGaussian("bad", *arguments)
    assert "\n" not in str(caught.value)
