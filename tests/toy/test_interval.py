"""The noised interval against evaluation with 200 digits, from deep inside to far outside, from no data to no noise."""

import mpmath
import pytest
import torch

from toy.interval import noised

A, B = -0.5, 1.0
LEVELS = ((1.0, 1.0), (1.0, 0.1), (1.0, 1e-3), (0.5, 0.9), (1e-2, 1.0), (1e-8, 1.0), (0.0, 1.0), (1.0, 50.0))
POSITIONS = (0.25, 0.249, 0.99, 1.0, 1.01, 1.85, -0.5, -3.0, 12.0, -1e3)


def with_200_digits(alpha, sigma, x):
    """log density, mean, variance and E[s]: the cut-off normal's closed forms, mirrored so that both erfc are small."""
    alpha, sigma, x, a, b = (mpmath.mpf(v) for v in (alpha, sigma, x, A, B))
    if alpha == 0:
        log_p = -((x / sigma) ** 2) / 2 - mpmath.log(sigma * mpmath.sqrt(2 * mpmath.pi))
        return log_p, (a + b) / 2, (b - a) ** 2 / 12, x / sigma
    side = 1 if x >= alpha * (a + b) / 2 else -1
    lo, hi = sorted((side * (x - alpha * a) / sigma, side * (x - alpha * b) / sigma))
    mass = mpmath.sqrt(mpmath.pi / 2) * (mpmath.erfc(lo / mpmath.sqrt(2)) - mpmath.erfc(hi / mpmath.sqrt(2)))
    at_lo, at_hi = mpmath.exp(-(lo**2) / 2), mpmath.exp(-(hi**2) / 2)
    s = (at_lo - at_hi) / mass
    variance_s = 1 + (lo * at_lo - hi * at_hi) / mass - s**2
    log_p = mpmath.log(mass / (mpmath.sqrt(2 * mpmath.pi) * alpha * (b - a)))
    return log_p, (x - sigma * side * s) / alpha, variance_s * (sigma / alpha) ** 2, side * s


@pytest.mark.parametrize("alpha, sigma", LEVELS)
def test_moments_hold_to_a_few_units_of_rounding_everywhere(alpha, sigma):
    x = torch.tensor(POSITIONS, dtype=torch.float64)
    got = noised(x, *(torch.tensor(v, dtype=torch.float64) for v in (alpha, sigma, A, B)))
    with mpmath.workdps(200):
        truth = [with_200_digits(alpha, sigma, v) for v in x.tolist()]
    log_p, mean, variance, mean_s = (
        torch.tensor([float(row[i]) for row in truth], dtype=torch.float64) for i in range(4)
    )
    assert ((got.log_density - log_p).abs() <= 1e-15 * (1 + log_p.abs())).all()
    assert ((got.mean - mean).abs() <= 2e-14).all()
    assert ((got.variance / variance - 1).abs() <= 1e-12).all()
    assert ((got.mean_s - mean_s).abs() <= 1e-15 + 1e-14 * mean_s.abs()).all()


def test_gradient_of_the_log_density_is_the_score():
    """Also where the range of the quadrature is cut, and at alpha = 0."""
    for alpha, sigma in LEVELS[:2] + LEVELS[3:]:
        x = torch.tensor(POSITIONS, dtype=torch.float64, requires_grad=True)
        seen = noised(x, *(torch.tensor(v, dtype=torch.float64) for v in (alpha, sigma, A, B)))
        (gradient,) = torch.autograd.grad(seen.log_density.sum(), x)
        assert torch.allclose(gradient, -seen.mean_s / sigma, rtol=1e-11, atol=1e-11), (alpha, sigma)
