"""Optimal transport between Gaussians against matrix square roots and exact assignments; spectra at 50 digits."""

import numpy as np
import pytest
import scipy.linalg
import torch
from mpmath import mp, mpf
from scipy.optimize import linear_sum_assignment
from torch import Tensor, tensor

from diffusion import spectrum, transport

generator = torch.Generator().manual_seed(3)


def f64(*values: float) -> Tensor:
    return tensor(values, dtype=torch.float64)


def test_map_and_cost_are_those_of_matrices_that_commute() -> None:
    """T = C^(-1/2) (C^(1/2) D C^(1/2))^(1/2) C^(-1/2) and |m - n|^2 + tr(C + D - 2 (C^(1/2) D C^(1/2))^(1/2))."""
    basis = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    v, w = f64(0.1, 1.0, 2.0, 9.0), f64(4.0, 1.0, 0.01, 16.0)
    mu, nu = torch.randn(2, 4, generator=generator, dtype=torch.float64)
    C, D = ((basis * spread @ basis.T).numpy() for spread in (v, w))
    root = scipy.linalg.sqrtm(C).real
    middle = scipy.linalg.sqrtm(root @ D @ root).real
    inverse = np.linalg.inv(root)
    x = torch.randn(10, 4, generator=generator, dtype=torch.float64)
    expected = (basis @ nu).numpy() + (x - basis @ mu).numpy() @ (inverse @ middle @ inverse)
    got = transport.gaussian_map(x @ basis, mu[None], v[None], nu[None], w[None]) @ basis.T
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    cost = float(((mu - nu) ** 2).sum()) + np.trace(C + D - 2 * middle)
    assert float(transport.gaussian_cost(mu, v, nu, w).sum()) == pytest.approx(cost, rel=1e-9)


def test_no_pairing_is_cheaper() -> None:
    x = torch.randn(80, 2, generator=generator, dtype=torch.float64)
    y = transport.gaussian_map(x, f64(0.0, 0.5)[None], f64(1.0, 2.0)[None], f64(3.0, 0.0)[None], f64(0.2, 5.0)[None])
    cost = ((x[:, None] - y) ** 2).sum(-1).numpy()
    rows, columns = linear_sum_assignment(cost)
    assert np.trace(cost) == pytest.approx(cost[rows, columns].sum(), rel=1e-12)


def test_equal_laws_cost_nothing_and_stay() -> None:
    x, mu, v = f64(-3.0, 0.0, 7.0), f64(0.3), f64(2.0)
    assert torch.allclose(transport.gaussian_map(x, mu, v, mu, v), x, rtol=1e-15)
    assert float(transport.gaussian_cost(mu, v, mu, v)) == 0.0


@pytest.mark.parametrize("alpha, sigma, k, a", [(0.3, 0.9, 64.0, 2.0), (1.0, 1e-3, 1.0, 1.7), (0.9, 40.0, 7.0, 3.5)])
def test_snr_and_crossing_at_50_digits(alpha: float, sigma: float, k: float, a: float) -> None:
    with mp.workdps(50):
        exact = (mpf(alpha) / mpf(sigma)) ** 2 * mpf(k) ** -mpf(a)
        level = mpf(k) ** (-mpf(a) / 2)
    assert float(spectrum.snr(f64(alpha), f64(sigma), f64(k), f64(a))) == pytest.approx(float(exact), rel=1e-14)
    crossing = spectrum.crossing(f64(k), f64(a))
    assert float(crossing) == pytest.approx(float(level), rel=1e-14)
    assert float(spectrum.snr(f64(alpha), alpha * crossing, f64(k), f64(a))) == pytest.approx(1, rel=1e-13)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match="per_sample"):
        transport.gaussian_map(torch.zeros(3, 3), f64(0.0, 1.0, 2.0), f64(1.0), f64(0.0), f64(1.0))
    with pytest.raises(ValueError, match="per_sample"):
        spectrum.snr(torch.ones(3, 3), f64(1.0, 1.0, 1.0), f64(1.0), f64(1.0))
