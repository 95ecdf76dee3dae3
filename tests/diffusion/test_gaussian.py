"""Gaussian formulas against other libraries, brute-force Bayes, matrix inverses and 50-digit values, ends included."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from mpmath import mp, mpf
from torch import Tensor, tensor

from diffusion import gaussian as g

U = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}
generator = torch.Generator().manual_seed(7)


def draw(*shape: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def spread(*shape: int, decades: float = 3.0) -> Tensor:
    """Positive numbers over +-`decades` powers of ten."""
    return 10.0 ** (decades * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1))


# ------------------------------------------------------------------------------------------- another library's word


def test_density_and_entropy_are_scipys() -> None:
    x, mu, v = draw(500), draw(500), spread(500)
    law = scipy.stats.norm(mu.numpy(), v.sqrt().numpy())
    np.testing.assert_allclose(g.log_normal(x, mu, v), law.logpdf(x.numpy()), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(g.entropy(v), law.entropy(), rtol=1e-13, atol=1e-13)


def test_kl_is_torch_distributions() -> None:
    mu, nu, v, w = draw(500), draw(500), spread(500), spread(500)
    p, q = torch.distributions.Normal(mu, v.sqrt()), torch.distributions.Normal(nu, w.sqrt())
    torch.testing.assert_close(g.kl(mu, v, nu, w), torch.distributions.kl_divergence(p, q), rtol=1e-12, atol=1e-13)


def test_kl_standard_normal_is_torch_distributions() -> None:
    mu, s = draw(500), spread(500)
    p, q = torch.distributions.Normal(mu, s), torch.distributions.Normal(torch.zeros(500), torch.ones(500))
    expected = torch.distributions.kl_divergence(p, q)
    torch.testing.assert_close(g.kl_standard_normal(mu, s), expected, rtol=1e-12, atol=1e-13)


def test_score_is_the_gradient_of_the_density() -> None:
    x, mu, v = draw(200).requires_grad_(), draw(200), spread(200)
    (slope,) = torch.autograd.grad(g.log_normal(x, mu, v).sum(), x)
    torch.testing.assert_close(g.score(x, mu, v).detach(), slope, rtol=1e-13, atol=0)


# --------------------------------------------------------------------------------------- where formulas lose digits


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("ratio", [1 + 2.0**-20, 1 - 2.0**-20, 1 + 1e-3, 0.51, 0.49, 1.49, 1.51, 1e-6, 1e6, 1.0])
def test_kl_keeps_its_digits_near_equal_variances(dtype: torch.dtype, ratio: float) -> None:
    """Error within 8 u (condition number + 1); the condition number of r - 1 - log r is |r - 1| / (r - 1 - log r)."""
    w = tensor(0.7, dtype=dtype)
    v = (w.double() * ratio).to(dtype)
    zero = torch.zeros((), dtype=dtype)
    with mp.workdps(50):
        r = mpf(float(v)) / mpf(float(w))
        exact = (r - 1 - mp.log(r)) / 2
        allowed = 8 * U[dtype] * (2 * abs(r - 1) / 2 + exact)
        assert abs(mpf(float(g.kl(zero, v, zero, w))) - exact) <= allowed


def test_kl_of_equal_laws_is_zero_and_of_a_point_infinite() -> None:
    mu, v = draw(100), spread(100)
    assert bool((g.kl(mu, v, mu, v) == 0).all())
    assert g.kl(tensor(0.0), tensor(0.0), tensor(0.0), tensor(1.0)) == math.inf
    assert g.kl_standard_normal(tensor(0.0), tensor(1.0)) == 0


def test_kl_has_a_gradient_on_both_sides_of_its_branches_and_at_equal_laws() -> None:
    """dKL/dv = (1/w - 1/v) / 2 and dKL/dmu = (mu - nu) / w, with no NaN from the branch not taken."""
    v = tensor([1.0, 1 + 1e-9, 1.49, 1.51, 0.49, 0.51, 1e-20, 1e8], dtype=torch.float64, requires_grad=True)
    mu = torch.full_like(v, 0.3).requires_grad_()
    w, nu = torch.ones_like(v), torch.zeros_like(v)
    slope_v, slope_mu = torch.autograd.grad(g.kl(mu, v, nu, w).sum(), (v, mu))
    torch.testing.assert_close(slope_v, (1 - 1 / v.detach()) / 2, rtol=1e-7, atol=1e-16)
    torch.testing.assert_close(slope_mu, mu.detach(), rtol=1e-14, atol=0)


# --------------------------------------------------------------------------------------------- brute-force Bayes


GRID = np.linspace(-60, 60, 200_001)


def logpdf(x: np.ndarray, mean: np.ndarray, variance: float) -> np.ndarray:
    return scipy.stats.norm.logpdf(x, mean, variance**0.5)


def moments(log_density: np.ndarray) -> tuple[float, float]:
    """Mean and variance of a density known on the grid up to its normaliser."""
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    mean = float(weight @ GRID)
    return mean, float(weight @ (GRID - mean) ** 2)


@pytest.mark.parametrize("case", range(12))
def test_posterior_is_the_renormalised_product_of_prior_and_likelihood(case: int) -> None:
    rng = np.random.default_rng(case)
    mu, b, y = rng.normal(size=3) * 2
    a = rng.choice([-1, 1]) * rng.uniform(0.3, 2)
    v, w = rng.uniform(0.2, 5, size=2)
    mean, variance = moments(logpdf(GRID, mu, v) + logpdf(y, a * GRID + b, w))
    t = [tensor(float(c), dtype=torch.float64) for c in (y, mu, v, a, b, w)]
    assert float(g.posterior_mean(*t)) == pytest.approx(mean, rel=1e-10, abs=1e-10)
    assert float(g.posterior_variance(t[2], t[3], t[5])) == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize("case", range(12))
def test_product_is_the_renormalised_product(case: int) -> None:
    rng = np.random.default_rng(100 + case)
    (mu, nu), (v, w) = rng.normal(size=2) * 2, rng.uniform(0.2, 5, size=2)
    mean, variance = moments(logpdf(GRID, mu, v) + logpdf(GRID, nu, w))
    t = [tensor(float(c), dtype=torch.float64) for c in (mu, v, nu, w)]
    assert float(g.product_mean(*t)) == pytest.approx(mean, rel=1e-10, abs=1e-10)
    assert float(g.product_variance(t[1], t[3])) == pytest.approx(variance, rel=1e-10)


def test_posterior_at_its_ends() -> None:
    """An exact measurement gives the point (y - b)/a, a certain prior its mean, a useless measurement the prior."""
    y, mu, a, b, v = (tensor(c, dtype=torch.float64) for c in (0.3, 1e8 + 0.1, 0.7, -1.0, 5.0))
    zero = torch.zeros_like(y)
    # mu = 1e8 must leave no trace: four roundings
    torch.testing.assert_close(g.posterior_mean(y, mu, v, a, b, zero), (y - b) / a, rtol=4 * 2**-53, atol=0)
    assert g.posterior_variance(v, a, zero) == 0
    for useless in ((zero, a), (v, zero)):
        found = g.posterior_mean(y, mu, useless[0], useless[1], b, v)
        torch.testing.assert_close(found, mu, rtol=4 * 2**-53, atol=0)
    assert g.posterior_variance(v, zero, v) == v


def test_conditional_is_the_inverse_of_the_precision_matrix() -> None:
    """x_1 | x_2 has variance 1/P_11 and mean mu_1 - P_12/P_11 (x_2 - mu_2), P the inverse covariance."""
    root = draw(200, 2, 2)
    S = root @ root.mT + 0.1 * torch.eye(2, dtype=torch.float64)
    P = torch.linalg.inv(S)
    mu_1, mu_2, x_2 = draw(3, 200)
    mean = g.conditional_mean(x_2, mu_1, mu_2, S[:, 0, 1], S[:, 1, 1])
    variance = g.conditional_variance(S[:, 0, 0], S[:, 0, 1], S[:, 1, 1])
    torch.testing.assert_close(mean, mu_1 - P[:, 0, 1] / P[:, 0, 0] * (x_2 - mu_2), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(variance, 1 / P[:, 0, 0], rtol=1e-9, atol=0)


# ------------------------------------------------------------------------------------------------------- mixtures

MIXTURE = [tensor(c, dtype=torch.float64) for c in (0.2, -2.0, 0.3, 0.5, 1.0)]  # q, mu, v, nu, w


def scipy_parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    q, mu, v, nu, w = (float(c) for c in MIXTURE)
    return q * scipy.stats.norm.pdf(x, mu, v**0.5), (1 - q) * scipy.stats.norm.pdf(x, nu, w**0.5)


def test_responsibility_is_bayes_over_the_two_components() -> None:
    x = draw(300, scale=3)
    first, second = scipy_parts(x.numpy())
    np.testing.assert_allclose(g.responsibility(x, *MIXTURE), first / (first + second), rtol=1e-11)


def test_mixture_score_is_the_slope_of_the_log_density() -> None:
    """Central differences of scipy's log density, h = 1e-4: their error is below 1e-6 here."""
    x, h = np.linspace(-6, 4, 101), 1e-4
    slope = (np.log(sum(scipy_parts(x + h))) - np.log(sum(scipy_parts(x - h)))) / (2 * h)
    np.testing.assert_allclose(g.mixture_score(tensor(x), *MIXTURE), slope, rtol=1e-6, atol=1e-6)


def test_mixture_score_in_the_far_tail_is_the_wider_component() -> None:
    """Both densities underflow at 1e6; the score must not."""
    x = tensor([-1e6, 1e6], dtype=torch.float64)
    assert g.mixture_score(x, *MIXTURE).tolist() == g.score(x, *MIXTURE[3:]).tolist()


def test_the_share_of_the_far_component_keeps_its_digits() -> None:
    """At x = mu only the other component pulls, with a share of about 1e-22 that 1 - r would round to 0."""
    q, mu, v, nu, w = (tensor(c, dtype=torch.float64) for c in (0.5, 0.0, 1.0, 10.0, 1.0))
    found = float(g.mixture_score(torch.zeros_like(mu), q, mu, v, nu, w))
    assert found == pytest.approx(10 * math.exp(-50), rel=1e-12, abs=0)


# ------------------------------------------------------------------------------------------------------ bad input


def test_two_shapes_are_refused_rather_than_broadcast_to_a_square() -> None:
    with pytest.raises(ValueError, match=r"\(3,\), \(3, 1\).*one common shape"):
        g.kl(torch.zeros(3), torch.ones(3, 1), torch.zeros(3), torch.ones(3))
    with pytest.raises(ValueError, match="one common shape"):
        g.log_normal(torch.zeros(4), torch.zeros(3), torch.ones(()))
