"""Couplings against enumeration, limits and Sinkhorn's iteration; interpolants against Bayes by quadrature."""

import itertools
import math

import pytest
import torch

from toy.couplings import GaussianPair, Interpolant, assigned
from toy.mixture import Mixture

PAIR = GaussianPair(-0.5, 1.3, 0.8, 0.4)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_assigned_is_the_best_of_all_permutations():
    x_0, x_1 = normal(6, 2), normal(6, 2, seed=1)
    costs = [float((x_0 - x_1[list(order)]).square().sum()) for order in itertools.permutations(range(6))]
    assert math.isclose(float((x_0 - assigned(x_0, x_1)).square().sum()), min(costs), rel_tol=1e-12)


def test_schroedinger_coupling_is_sinkhorns():
    s, x = 0.7, torch.linspace(-9, 9, 401, dtype=torch.float64)
    p, q = (torch.exp(-((x - m) ** 2) / (2 * v)) for m, v in ((PAIR.mu, PAIR.v), (PAIR.nu, PAIR.w)))
    p, q = p / p.sum(), q / q.sum()
    kernel = torch.exp(-((x[:, None] - x) ** 2) / (2 * s**2))
    f = torch.ones_like(x)
    for _ in range(100):
        g = q / (kernel.T @ f)
        f = p / (kernel @ g)
    joint = f[:, None] * kernel * g
    c = (x - PAIR.mu) @ joint @ (x - PAIR.nu)
    assert math.isclose(float(c), PAIR.schroedinger(s).c, rel_tol=1e-6)


def test_schroedinger_goes_from_optimal_to_independent():
    assert math.isclose(PAIR.schroedinger(0).c, PAIR.optimal().c)
    assert PAIR.schroedinger(1e6).c < 1e-11


def test_optimal_cost_is_the_wasserstein_distance():
    wanted = (PAIR.mu - PAIR.nu) ** 2 + (math.sqrt(PAIR.v) - math.sqrt(PAIR.w)) ** 2
    assert math.isclose(PAIR.optimal().cost, wanted)


def test_draws_have_the_covariance():
    pair = PAIR.schroedinger(0.5)
    x = torch.stack(pair.sample(200_000, torch.Generator().manual_seed(0)))
    assert torch.allclose(torch.cov(x), pair.covariance, atol=0.02)


def test_ends_of_an_interpolant_by_quadrature():
    start = Mixture("start", torch.tensor([0.3, 0.7]), torch.tensor([[-1.0], [0.5]]), 0.2)
    end = Mixture("end", torch.tensor([0.6, 0.4]), torch.tensor([[0.0], [2.0]]), 0.1)
    t, s, x = 0.3, 0.6, 0.4
    grid = torch.linspace(-4, 5, 901, dtype=torch.float64)
    p, q = (law.log_density(grid[:, None]).exp() for law in (start, end))
    mean = (1 - t) * grid[:, None] + t * grid
    weight = p[:, None] * q * torch.exp(-((x - mean) ** 2) / (2 * s**2 * t * (1 - t)))
    x_0, x_1 = Interpolant(start, end, s).ends(torch.tensor([[x]], dtype=torch.float64), t)
    assert math.isclose(float(x_0), float((weight.sum(1) @ grid) / weight.sum()), rel_tol=1e-9)
    assert math.isclose(float(x_1), float((weight.sum(0) @ grid) / weight.sum()), rel_tol=1e-9)


def test_bad_input_is_refused_in_one_line():
    with pytest.raises(ValueError, match="geometric mean"):
        GaussianPair(0, 1, 0, 1, 1.1)
    with pytest.raises(ValueError, match="s >= 0"):
        PAIR.schroedinger(-1)
    with pytest.raises(ValueError, match="one shape"):
        assigned(normal(3, 2), normal(4, 2))
    with pytest.raises(ValueError, match="isotropic"):
        Interpolant(
            Mixture("line", torch.ones(1), normal(1, 1), 1.0), Mixture("plane", torch.ones(1), normal(1, 2), 1.0), 1.0
        )
