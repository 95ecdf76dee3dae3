"""Laws on the line: quantiles and Wasserstein distances against SciPy, closed forms and brute force."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from mpmath import mp, mpf

from toy import line
from toy.mixture import Mixture, gaussian
from toy.worlds import make

LOPSIDED = Mixture(
    "lopsided", torch.tensor([0.2, 0.5, 0.3]), torch.tensor([[-2.0], [0.5], [3.0]]), torch.tensor([0.09, 1.0, 0.01])
)
LEVELS = pytest.mark.parametrize("alpha, sigma", [(1.0, 0.0), (0.6, 0.8), (0.0, 1.0), (1.0, 3.0)])


def normal(m: float, v: float) -> tuple[Mixture, float, float]:
    return gaussian("normal", torch.tensor([m], dtype=torch.float64), v), 1.0, 0.0


def drawn(n: int, seed: int = 0) -> torch.Tensor:
    return LOPSIDED.sample(n, torch.Generator().manual_seed(seed))


@LEVELS
def test_distribution_is_scipys(alpha, sigma):
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    std = (alpha**2 * LOPSIDED.variances + sigma**2).sqrt()
    parts = [
        float(w) * scipy.stats.norm.cdf(x, float(alpha * m), float(s))
        for w, m, s in zip(LOPSIDED.weights, LOPSIDED.means[:, 0], std[:, 0], strict=True)
    ]
    np.testing.assert_allclose(line.distribution(LOPSIDED, x, alpha, sigma), sum(parts), atol=1e-15)


@LEVELS
def test_quantile_inverts_the_distribution_ends_included(alpha, sigma):
    u = torch.cat(
        [torch.tensor([0.0, 1e-12, 1 - 1e-12, 1.0], dtype=torch.float64), torch.linspace(0.01, 0.99, 99).double()]
    )
    x = line.quantile(LOPSIDED, u, alpha, sigma)
    assert x[0] == -torch.inf
    assert x[3] == torch.inf
    assert torch.allclose(line.distribution(LOPSIDED, x, alpha, sigma), u, rtol=1e-9, atol=1e-15)
    assert bool((line.quantile(LOPSIDED, u.sort().values).diff() > 0).all())


@pytest.mark.parametrize("power", [1, 2])
def test_sample_to_law_is_the_integral_over_cells(power):
    """Each order statistic against the quantiles of its cell: 400 Gauss-Legendre nodes a cell."""
    x = drawn(20)
    node, weight = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(400))
    total = 0.0
    for i, at in enumerate(x[:, 0].sort().values):
        u = (i + (node + 1) / 2) / 20
        total += float((weight / 40 * (line.quantile(LOPSIDED, u) - at).abs() ** power).sum())
    assert line.to_law(LOPSIDED, x, power) == pytest.approx(total, rel=2e-4)


def test_one_point_to_a_gaussian():
    """W_2^2 = (x - m)^2 + v; W_1 = E|x - Y|, Rice's mean on the line."""
    law, x = normal(0.3, 2.0)[0], torch.tensor([[1.5]], dtype=torch.float64)
    assert line.to_law(law, x, 2) == pytest.approx(1.2**2 + 2, rel=1e-12)
    z = mpf("1.2") / mp.sqrt(2)
    mean = mp.sqrt(2) * (2 * mp.npdf(z) + z * (2 * mp.ncdf(z) - 1))
    assert line.to_law(law, x, 1) == pytest.approx(float(mean), rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
def test_between_samples_is_the_best_assignment(power):
    x, y = drawn(60), drawn(60, 1)
    cost = (x - y.T).abs().numpy() ** power
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    assert line.between_samples(x, y, power) == pytest.approx(cost[rows, columns].mean(), rel=1e-12)


def test_between_gaussians_in_closed_form():
    gap = math.sqrt(2) - math.sqrt(0.5)
    assert line.between_laws(normal(0.3, 2.0), normal(-0.5, 0.5)) == pytest.approx(0.64 + gap**2, rel=1e-11)
    assert line.between_laws(normal(0.3, 2.0), normal(-0.5, 2.0), 1) == pytest.approx(0.8, rel=1e-11)
    spread = gap * math.sqrt(2 / math.pi)
    assert line.between_laws(normal(0.0, 2.0), normal(0.0, 0.5), 1) == pytest.approx(spread, rel=1e-5)


def test_between_laws_is_scipys_on_their_quantiles():
    """Two modes against pure noise, whose optimal map is steep in the middle."""
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    world = make("bimodal")
    p, q = line.quantile(world, u), line.quantile(world, u, 0.5, 0.8)
    laws = (world, 1.0, 0.0), (world, 0.5, 0.8)
    assert line.between_laws(*laws, 1) == pytest.approx(scipy.stats.wasserstein_distance(p, q), rel=1e-3)
    assert line.between_laws(*laws) == pytest.approx(float(((p - q) ** 2).mean()), rel=1e-3)
    assert line.between_laws(*laws[::-1]) == pytest.approx(line.between_laws(*laws), rel=1e-12)
    assert line.between_laws(laws[0], laws[0]) < 1e-15


def test_what_is_no_law_on_the_line_is_refused():
    with pytest.raises(ValueError, match="ring has 2 dimensions"):
        line.distribution(make("ring"), torch.zeros(3))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        line.quantile(LOPSIDED, torch.tensor([1.1]))
    with pytest.raises(ValueError, match="power 3"):
        line.to_law(LOPSIDED, drawn(5), 3)
    with pytest.raises(ValueError, match="finite"):
        line.to_law(LOPSIDED, torch.tensor([[math.nan]]))
    with pytest.raises(ValueError, match="one shape"):
        line.between_samples(drawn(5), drawn(6))
