"""Mean distances against integration by other means."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad

from toy.checkerboard import Checkerboard, checkerboard
from toy.distance import distance_sums, mean_distance, mean_self_distance
from toy.mixture import Mixture, gaussian
from toy.points import Points
from toy.worlds import WORLDS, make, ring

PROBES = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.3, 0.7], [-2.0, 5.0]], dtype=torch.float64)


def test_unit_square_has_the_known_mean_distance():
    """(2 + sqrt 2 + 5 asinh 1)/15 = 0.5214... (Santalo 1976)."""
    square = Checkerboard("square", torch.ones(1, 1, dtype=torch.bool), 1.0)
    assert mean_self_distance(square) == pytest.approx((2 + math.sqrt(2) + 5 * math.asinh(1)) / 15, rel=1e-13)


def test_point_to_checkerboard_is_the_integral_over_its_squares():
    board = checkerboard()
    edges = board.edges.tolist()
    for probe, got in zip(PROBES.tolist(), mean_distance(board, PROBES).tolist(), strict=True):
        total = 0.0
        for i, j in board.filled.nonzero().tolist():
            box = (edges[i], edges[i + 1], edges[j], edges[j + 1])
            total += dblquad(lambda v, u, p=probe: math.hypot(u - p[0], v - p[1]), *box, epsabs=1e-10)[0]
        assert got == pytest.approx(total / board.area, abs=1e-8)


def test_rice_mean_is_the_integral_over_polar_angle_and_radius():
    world = gaussian("round", torch.tensor([0.4, -0.3], dtype=torch.float64), 0.25)
    for probe, got in zip(PROBES.tolist(), mean_distance(world, PROBES).tolist(), strict=True):
        nu, std = math.hypot(probe[0] - 0.4, probe[1] + 0.3), 0.5
        r = torch.linspace(0, nu + 12 * std, 20001, dtype=torch.float64)[1:]
        density = r / std**2 * torch.exp(-((r - nu) ** 2) / (2 * std**2)) * torch.special.i0e(r * nu / std**2)
        assert got == pytest.approx(float((r * density).sum() * (r[1] - r[0])), rel=1e-9)


@pytest.mark.parametrize("probe", [0, 3])
def test_isotropic_and_general_covariances_agree(probe):
    """Rice's closed form and the integral over exp(-s r^2) are two roads; a rotation of the covariance is a third."""
    world = ring()
    general = Mixture("ring", world.weights, world.means, 0.01 * torch.eye(2, dtype=torch.float64))
    x = PROBES[probe : probe + 1]
    assert float(mean_distance(general, x)) == pytest.approx(float(mean_distance(world, x)), rel=1e-10)
    assert mean_self_distance(general) == pytest.approx(mean_self_distance(world), rel=1e-10)


def test_correlated_gaussian_distance_is_the_integral_over_its_density():
    world = make("gaussian")
    std = torch.linalg.cholesky(torch.tensor([[2.25, 0.6], [0.6, 0.25]], dtype=torch.float64))
    node, weight = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(120))
    u = torch.cartesian_prod(node, node)
    w = torch.outer(weight, weight).flatten() / (2 * math.pi)
    far = torch.tensor([[9.0, 9.0], [-7.0, 12.0]], dtype=torch.float64)  # where |x - y| is smooth on all of the mass
    y = torch.tensor([0.5, -1.0], dtype=torch.float64) + u @ std.T
    direct = ((far[:, None] - y).norm(dim=-1) * w).sum(-1)
    assert torch.allclose(mean_distance(world, far), direct, rtol=1e-9)


@pytest.mark.parametrize("dim", [1, 3, 50])
def test_distance_of_a_standard_normal_from_its_mean_is_that_of_chi(dim):
    got = mean_distance(gaussian("normal", torch.zeros(dim), 1.0), torch.zeros(1, dim, dtype=torch.float64))
    chi = math.sqrt(2) * math.exp(math.lgamma((dim + 1) / 2) - math.lgamma(dim / 2))
    assert float(got) == pytest.approx(chi, rel=1e-10)


def test_self_distance_is_the_mean_distance_of_the_laws_own_points():
    """E|Y - Y'| = E h(Y), h(x) = E|x - Y|: for the mixture by a lattice sum over its density."""
    world = ring()
    axis = torch.arange(-2.4, 2.4, 0.02, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    mean = float((world.log_density(x).exp() * mean_distance(world, x)).sum()) * 0.02**2
    assert mean_self_distance(world) == pytest.approx(mean, rel=1e-9)


def test_checkerboard_self_distance_is_the_mean_over_its_squares():
    board = checkerboard()
    node, weight = np.polynomial.legendre.leggauss(80)
    u, w = torch.from_numpy((node + 1) / 2), torch.from_numpy(weight / 2)
    within, share = torch.cartesian_prod(u, u), torch.outer(w, w).flatten()
    corner = board.edges[board.filled.nonzero()]
    h = mean_distance(board, (corner[:, None] + within).reshape(-1, 2)).reshape(8, -1)
    assert mean_self_distance(board) == pytest.approx(float((h * share).sum(-1).mean()), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("n", [7, 3000])
def test_distance_sums_are_the_sums_of_distances(name, n):
    """The sorted directions against each pair's distance; the points' few distinct angles need more directions."""
    x = make(name).sample(n, torch.Generator().manual_seed(0))
    direct = torch.cat([(rows[:, None] - x).norm(dim=-1).sum(-1) for rows in x.split(500)])
    assert float(distance_sums(x).sum()) == pytest.approx(float(direct.sum()), rel=1e-7)
    assert torch.allclose(distance_sums(x), direct, rtol=1e-5)


def test_distance_sums_on_a_line_and_in_space():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.allclose(distance_sums(x), (x[:, None] - x).norm(dim=-1).sum(-1), rtol=1e-13)
    assert torch.allclose(distance_sums(x[:, :1]), (x[:, None, 0] - x[:, 0]).abs().sum(-1), rtol=1e-13)


def test_a_world_without_a_closed_form_is_refused():
    class Unknown:
        pass

    with pytest.raises(TypeError, match="no closed form"):
        mean_distance(Unknown(), PROBES)
    with pytest.raises(ValueError, match=r"\[batch, 2\]"):
        mean_distance(Points("p", PROBES), torch.zeros(3, 3))
