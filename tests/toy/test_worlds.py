"""Every world at every kind of level: densities, scores, denoisers and posteriors against integration and enumeration.

Statistical tests: fixed seeds, and bounds of 5 standard errors (a false-fail rate of 6e-7 for each number compared).
"""

import math
from functools import cache

import numpy as np
import pytest
import torch

from toy.checkerboard import checkerboard
from toy.energy import energy_ratio
from toy.mixture import Mixture, gaussian
from toy.points import Points
from toy.worlds import WORLDS, make

LEVELS = ((1.0, 0.3), (0.6, 0.8), (0.0, 1.0), (1.0, 4.0), (0.999, 0.05))
AT_LEVELS = pytest.mark.parametrize("alpha, sigma", LEVELS)
ALL = pytest.mark.parametrize("name", WORLDS)
SLOW = {"anisotropic"}  # its mean distances go by quadrature
DRAWN = pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in WORLDS])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lattice(low: float, high: float, h: float) -> torch.Tensor:
    axis = torch.arange(low, high, h, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis)


@cache
def weighted_points(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The law of x_0 as points and weights: the points; Gauss-Legendre nodes in squares; a lattice for mixtures."""
    world = make(name)
    if name == "points":
        return world.points, torch.full((5,), 0.2, dtype=torch.float64)
    if name == "checkerboard":
        node, weight = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(80))
        within, share = torch.cartesian_prod(node, node), torch.outer(weight, weight).flatten()
        middle = torch.tensor([(i - 1.5, j - 1.5) for i in range(4) for j in range(4) if (i + j) % 2 == 0])
        return (middle[:, None] + within / 2).reshape(-1, 2), share.repeat(8) / 32
    reach, h = {"gaussian": (12, 0.03), "anisotropic": (5, 0.03), "spiral": (2.8, 0.04)}.get(name, (2.8, 0.025))
    at = lattice(-reach, reach, h)
    p = world.log_density(at).exp() * h**2
    return at[p > 1e-30], p[p > 1e-30]


def by_integration(name, x, alpha, sigma):
    """log p_t, E[x_0 | x] and Cov[x_0 | x] by Bayes' rule over the points of x_0."""
    y, p = weighted_points(name)
    joint = p.log() - ((x[:, None] - alpha * y) ** 2).sum(-1) / (2 * sigma**2) - math.log(2 * math.pi * sigma**2)
    r = joint.softmax(-1)
    mean = r @ y
    away = y - mean[:, None]
    return joint.logsumexp(-1), mean, torch.einsum("bn,bni,bnj->bij", r, away, away)


@ALL
@AT_LEVELS
def test_truth_is_bayes_rule(name, alpha, sigma):
    world = make(name)
    _, x = world.noised(12, alpha, sigma, seeded())
    x = torch.cat((x, x[:4] + 2 * sigma))  # off the typical set too
    log_p, mean, covariance = by_integration(name, x, alpha, sigma)
    assert torch.allclose(world.log_density(x, alpha, sigma), log_p, rtol=1e-8, atol=1e-8)
    assert torch.allclose(world.denoiser(x, alpha, sigma), mean, rtol=1e-7, atol=1e-8)
    assert torch.allclose(world.posterior_covariance(x, alpha, sigma), covariance, rtol=1e-6, atol=1e-9)


@ALL
@AT_LEVELS
def test_score_is_the_gradient_and_covariance_the_jacobian(name, alpha, sigma):
    """score = grad log p_t, and d denoiser/dx = alpha/sigma^2 posterior_covariance; by autograd, in float64."""
    world = make(name)
    x = world.noised(50, alpha, sigma, seeded(1))[1].requires_grad_()
    (gradient,) = torch.autograd.grad(world.log_density(x, alpha, sigma).sum(), x)
    assert torch.allclose(world.score(x, alpha, sigma), gradient, rtol=1e-10, atol=1e-10)
    D = world.denoiser(x, alpha, sigma)
    jacobian = torch.stack([torch.autograd.grad(D[:, i].sum(), x, retain_graph=True)[0] for i in range(2)], 1)
    expected = alpha / sigma**2 * world.posterior_covariance(x, alpha, sigma)
    assert torch.allclose(jacobian, expected, rtol=1e-8, atol=1e-8)


@ALL
@AT_LEVELS
def test_tweedie_ties_denoiser_to_score(name, alpha, sigma):
    world = make(name)
    _, x = world.noised(200, alpha, sigma, seeded(2))
    left, right = alpha * world.denoiser(x, alpha, sigma) - x, sigma**2 * world.score(x, alpha, sigma)
    assert torch.allclose(left, right, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@ALL
@AT_LEVELS
def test_density_integrates_to_one(name, alpha, sigma):
    """By a lattice sum: a density smoothed by sigma leaves exp(-2 pi^2/0.6^2) = 1e-24 at a step of 0.6 sigma."""
    wide = {"gaussian": 4.0, "anisotropic": 2.0}.get(name, 1.0)
    h, reach = 0.6 * sigma, 2.0 * alpha * wide + 8 * sigma + 0.8 * alpha
    if sigma < 0.1:
        reach = 3 * wide
    total = 0.0
    for part in lattice(-reach, reach, h).split(100_000):
        total += float(make(name).log_density(part, alpha, sigma).exp().sum()) * h**2
    assert total == pytest.approx(1, abs=1e-9)


@DRAWN
def test_sampling_follows_the_law(name):
    """The pooled energy ratio of 30 sets has the standard deviation 0.03; detects D^2 = 0.15 E|Y - Y'|/100."""
    world, generator = make(name), seeded(3)
    ratio = energy_ratio(world, [world.sample(100, generator) for _ in range(30)])
    assert abs(ratio.mean - 1) < 0.15


@pytest.mark.slow
@DRAWN
@pytest.mark.parametrize("alpha, sigma", [(0.9, 0.4), (0.6, 0.8), (0.0, 1.0), (1.0, 1e-3), (1e-6, 1.0)])
def test_posterior_draws_given_noised_data_follow_the_law(name, alpha, sigma):
    """x_0 ~ law, x_t given x_0, then x_0' given x_t: x_0' ~ law. Bound as above."""
    world, generator = make(name), seeded(4)
    sets = []
    for _ in range(30):
        _, x = world.noised(100, alpha, sigma, generator)
        sets.append(world.posterior_sample(x, alpha, sigma, generator))
    assert abs(energy_ratio(world, sets).mean - 1) < 0.15


@ALL
@pytest.mark.parametrize("alpha, sigma", [(0.9, 0.4), (0.6, 0.8), (1e-3, 1.0)])
def test_posterior_draws_at_one_point_have_its_moments(name, alpha, sigma):
    """5,000 draws at one x: mean and second moments within 5 standard errors; detects 8 % of a standard deviation."""
    world, generator, n = make(name), seeded(5), 5_000
    x = world.noised(1, alpha, sigma, generator)[1].expand(n, -1)
    draws = world.posterior_sample(x, alpha, sigma, generator)
    away = draws - world.denoiser(x[:1], alpha, sigma)
    squares = away[:, :, None] * away[:, None, :]
    for values, expected in ((away, torch.zeros(1, 2)), (squares, world.posterior_covariance(x[:1], alpha, sigma))):
        assert ((values.mean(0) - expected[0]).abs() <= 5 * values.std(0) / math.sqrt(n) + 1e-12).all()


@pytest.mark.slow
@ALL
def test_pure_noise_tells_nothing(name):
    """alpha = 0: the posterior is the law itself, whatever x is."""
    world = make(name)
    y, p = weighted_points(name)
    mean = p @ y
    covariance = (p[:, None] * (y - mean)).T @ (y - mean)
    x = torch.tensor([[0.0, 0.0], [3.0, -40.0]], dtype=torch.float64)
    assert torch.allclose(world.denoiser(x, 0.0, 2.0), mean.expand(2, 2), atol=1e-9)
    assert torch.allclose(world.posterior_covariance(x, 0.0, 2.0), covariance.expand(2, 2, 2), atol=1e-8)
    assert torch.allclose(world.score(x, 0.0, 2.0), -x / 4, rtol=1e-14, atol=1e-15)


@ALL
def test_no_noise_tells_all(name):
    """sigma = 0: x_0 = x/alpha on the support, and sigma = 1e-9 is close to it."""
    world = make(name)
    x0 = world.sample(50, seeded(6))
    for got in (
        world.denoiser(0.5 * x0, 0.5, 0.0),
        world.posterior_sample(0.5 * x0, 0.5, 0.0, seeded()),
        world.denoiser(0.5 * x0, 0.5, 1e-9),
        world.posterior_sample(0.5 * x0, 0.5, 1e-9, seeded()),
    ):
        assert torch.allclose(got, x0, atol=2e-8)
    assert world.posterior_covariance(0.5 * x0, 0.5, 0.0).abs().max() < 1e-28
    assert torch.allclose(world.log_density(0.5 * x0, 0.5, 0.0), world.log_density(x0) + 2 * math.log(2))


@ALL
@pytest.mark.parametrize("alpha, sigma", [(1.0, 1.0), (0.0, 1.0), (1e-9, 1.0), (1.0, 1e-9), (1.0, 1e-4)])
def test_far_out_nothing_overflows(name, alpha, sigma):
    """1e5 away: everything finite, Tweedie to the rounding of x, and x_0 never off a bounded law."""
    world = make(name)
    x = torch.tensor([[1e5, 0.0], [-1e5, 1e5], [1e-5, -1e5]], dtype=torch.float64)
    D, score = world.denoiser(x, alpha, sigma), world.score(x, alpha, sigma)
    for value in (world.log_density(x, alpha, sigma), score, D, world.posterior_covariance(x, alpha, sigma)):
        assert value.isfinite().all()
    assert torch.allclose(alpha * D - x, sigma**2 * score, rtol=1e-14, atol=1e-10)
    drawn = world.posterior_sample(x, alpha, sigma, seeded())
    assert drawn.isfinite().all()
    if name in ("checkerboard", "points"):
        assert D.abs().max() <= 2
        assert drawn.abs().max() <= 2


@ALL
def test_one_level_for_each_row_equals_one_call_for_each_level(name):
    """Exact levels (sigma = 0, alpha = 0) in the same batch as noisy ones."""
    world = make(name)
    alpha, sigma = torch.tensor([1.0, 0.6, 0.0, 0.2]), torch.tensor([0.0, 0.8, 1.0, 3.0])
    _, x = world.noised(4, alpha, sigma, seeded(7))
    for method in (world.log_density, world.score, world.denoiser, world.posterior_covariance):
        whole = method(x, alpha, sigma)
        for i in range(4):
            assert torch.allclose(whole[i : i + 1], method(x[i : i + 1], float(alpha[i]), float(sigma[i])), atol=1e-14)
    assert torch.autograd.grad(world.denoiser(x.requires_grad_(), alpha, sigma).sum(), x)[0].isfinite().all()


@ALL
def test_float32_in_float32_out_rounded_once(name):
    world = make(name)
    x = world.noised(20, 0.7, 0.7, seeded(8))[1].float()
    for method in (world.log_density, world.score, world.denoiser, world.posterior_covariance):
        single, double = method(x, 0.7, 0.7), method(x.double(), 0.7, 0.7)
        assert single.dtype == torch.float32
        assert torch.equal(single, double.float())


@ALL
def test_wrong_arguments_are_refused(name):
    world, x = make(name), torch.zeros(4, 2)
    for bad_x, alpha, sigma in (
        (torch.zeros(4, 3), 1.0, 1.0),
        (torch.zeros(2), 1.0, 1.0),
        (x, torch.ones(3), 1.0),
        (x, torch.ones(4, 1), 1.0),
        (x, 1.0, torch.ones(2)),
        (x, -1.0, 1.0),
        (x, 1.0, -0.1),
        (x, math.nan, 1.0),
        (x, 1.0, math.inf),
        (x, 0.0, 0.0),
        (x, torch.tensor([1.0, 1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])),
    ):
        for method in (world.log_density, world.score, world.denoiser, world.posterior_covariance):
            with pytest.raises(ValueError, match=r"x must have|alpha|sigma"):
                method(bad_x, alpha, sigma)
    with pytest.raises(TypeError, match="floating"):
        world.denoiser(torch.zeros(4, 2, dtype=torch.int64), 1.0, 1.0)


def test_unknown_world_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="no world 'torus'; there are gaussian, ring"):
        make("torus")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "ring", "grid", "two_moons"])
def test_entropy_is_the_mean_surprise(name):
    """-E log p over 200,000 draws, 5 standard errors (about 0.01 nats)."""
    world = make(name)
    surprise = -world.log_density(world.sample(200_000, seeded(9)))
    assert abs(float(surprise.mean()) - world.entropy()) <= 5 * float(surprise.std()) / math.sqrt(200_000) + 1e-12


def test_entropies_in_closed_form():
    """A split Gaussian goes by quadrature and is known; so is a ring whose components do not overlap."""
    C = torch.tensor([[2.25, 0.6], [0.6, 0.25]], dtype=torch.float64)
    known = 0.5 * math.log((2 * math.pi * math.e) ** 2 * float(torch.det(C)))
    assert gaussian("one", torch.zeros(2), C).entropy() == pytest.approx(known, abs=1e-12)
    assert Mixture("same twice", torch.tensor([0.3, 0.7]), torch.zeros(2, 2), C).entropy() == pytest.approx(
        known, abs=1e-9
    )
    apart = Mixture("apart", torch.tensor([1.0, 3.0]), torch.tensor([[0.0], [40.0]]), torch.tensor([1.0, 4.0]))
    label = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    normal = 0.5 * math.log(2 * math.pi * math.e) + 0.75 * math.log(2)
    assert apart.entropy() == pytest.approx(label + normal, abs=1e-9)
    assert checkerboard().entropy() == math.log(8)


def test_points_have_no_density_and_a_discrete_entropy():
    points = Points("p", torch.tensor([[0.0], [1.0], [1.0], [2.0]]))
    assert points.entropy() == -math.inf
    assert points.discrete_entropy() == pytest.approx(1.5 * math.log(2))
    x = torch.tensor([[1.0], [0.9]])
    assert points.log_density(x).tolist() == [math.inf, -math.inf]
    assert points.score(x).tolist() == [[0.0], [math.inf]]
    assert points.denoiser(torch.tensor([[0.5], [0.7], [1.5]]), 1.0, 0.0).flatten().tolist() == pytest.approx(
        [2 / 3, 1, 4 / 3]
    )


def test_without_noise_the_board_has_edges():
    board = checkerboard()
    # on a square; amid an empty one, equally near to three; outside
    x = torch.tensor([[-1.5, -1.5], [-1.5, -0.5], [3.0, 3.5]], dtype=torch.float64)
    assert board.log_density(x).tolist() == [-math.log(8), -math.inf, -math.inf]
    assert board.denoiser(x, 1.0, 0.0).tolist() == [[-1.5, -1.5], [-4 / 3, -0.5], [2.0, 2.0]]
    assert board.score(x).tolist() == [[0, 0], [math.inf, 0], [-math.inf, -math.inf]]
    assert torch.allclose(board.denoiser(x, 1.0, 1e-7), board.denoiser(x, 1.0, 0.0), atol=1e-6)


@pytest.mark.parametrize("dim", [1, 5])
def test_gaussian_of_any_dimension_is_linear_regression(dim):
    """E[x_0|x] = m + alpha C S^-1 (x - alpha m), Cov = C - alpha^2 C S^-1 C, S = alpha^2 C + sigma^2 I, by solves."""
    root = torch.randn(dim, dim, generator=seeded(10), dtype=torch.float64)
    C, m = root @ root.T + 0.1 * torch.eye(dim), torch.randn(dim, generator=seeded(11), dtype=torch.float64)
    world, x = gaussian("g", m, C), torch.randn(7, dim, generator=seeded(12), dtype=torch.float64)
    S = 0.49 * C + 0.25 * torch.eye(dim, dtype=torch.float64)
    gain = 0.7 * torch.linalg.solve(S, C).T
    normal = torch.distributions.MultivariateNormal(0.7 * m, S)
    assert torch.allclose(world.denoiser(x, 0.7, 0.5), m + (x - 0.7 * m) @ gain.T)
    assert torch.allclose(world.posterior_covariance(x, 0.7, 0.5), C - 0.7 * gain @ C)
    assert torch.allclose(world.log_density(x, 0.7, 0.5), normal.log_prob(x))
    assert torch.allclose(world.at(0.7, 0.5).log_density(x), normal.log_prob(x))


def test_covariances_of_every_form_give_the_law_they_say():
    """Shared and own matrices against torch.distributions; `at` and `difference` against their definitions."""
    weights, means = torch.tensor([1.0, 3.0]), torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=torch.float64)
    own = torch.tensor([[[1.0, 0.3], [0.3, 0.5]], [[0.2, -0.1], [-0.1, 0.4]]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64)
    x = torch.randn(9, 2, generator=seeded(13), dtype=torch.float64)
    variance = torch.tensor([0.5, 2.0])
    for covariance, full in ((0.5, 0.5 * eye), (variance, variance[:, None, None] * eye), (own[0], own[0]), (own, own)):
        world = Mixture("m", weights, means, covariance)
        components = torch.distributions.MultivariateNormal(means, full.expand(2, 2, 2).double())
        oracle = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(weights.double()), components)
        assert torch.allclose(world.log_density(x), oracle.log_prob(x))
        assert torch.allclose(world.at(0.6, 0.8).log_density(x), world.log_density(x, 0.6, 0.8))
        draws = world.sample(40_000, seeded(14)) - world.sample(40_000, seeded(15))
        away = world.difference()
        assert (
            (draws**2).mean(0)
            - (away.weights[:, None] * away.means**2).sum(0)
            - 2
            * (torch.tensor([0.25, 0.75], dtype=torch.float64) @ full.expand(2, 2, 2).double().diagonal(dim1=1, dim2=2))
        ).abs().max() < 0.1


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((torch.tensor([1.0, -1.0]), torch.zeros(2, 2), 1.0), "weights must be positive"),
        ((torch.ones(3), torch.zeros(2, 2), 1.0), r"weights \[K\]"),
        ((torch.ones(2), torch.zeros(2, 2), 0.0), "positive definite"),
        ((torch.ones(2), torch.zeros(2, 2), torch.ones(3)), "covariance must be"),
        ((torch.ones(2), torch.zeros(2, 2), torch.tensor([[1.0, 0.5], [0.0, 1.0]])), "symmetric"),
        ((torch.ones(2), torch.zeros(2, 2), torch.tensor([[1.0, 2.0], [2.0, 1.0]])), "positive definite"),
        ((torch.ones(2), torch.zeros(2, 2), 1.0, torch.zeros(2)), "labels"),
    ],
)
def test_an_impossible_mixture_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixture("bad", *arguments)


def test_conditional_laws_make_up_the_marginal():
    """p(x) = sum_l P(l) p(x | l) at any level, and the denoiser is their average by P(l | x)."""
    world = make("conditional_ring")
    _, x = world.noised(100, 0.8, 0.6, seeded(16))
    log_p = torch.stack([world.log_density(x, 0.8, 0.6, label) for label in range(4)], -1)
    assert torch.allclose((log_p.exp() / 4).sum(-1).log(), world.log_density(x, 0.8, 0.6))
    D = torch.stack([world.denoiser(x, 0.8, 0.6, label) for label in range(4)], 1)
    assert torch.allclose((log_p.softmax(-1)[..., None] * D).sum(1), world.denoiser(x, 0.8, 0.6))
    label = torch.arange(100) % 4
    assert torch.allclose(world.denoiser(x, 0.8, 0.6, label), D[torch.arange(100), label])
    assert torch.allclose(world.given(2).denoiser(x, 0.8, 0.6), D[:, 2])
    assert torch.allclose(world.given(2).score(x, 0.8, 0.6), world.score(x, 0.8, 0.6, 2))


def test_labelled_draws_lie_in_their_label():
    world, generator = make("conditional_ring"), seeded(17)
    x, label = world.sample_labelled(4000, generator)
    nearest = torch.cdist(x, world.means).argmin(-1)
    assert (world.labels[nearest] == label).all()
    assert ((label.bincount() - 1000).abs() < 5 * math.sqrt(750)).all()  # 5 standard errors
    again = world.sample(4000, generator, label)
    assert (world.labels[torch.cdist(again, world.means).argmin(-1)] == label).all()
    posterior = world.posterior_sample(x, 0.7, 0.7, generator, label)
    assert (world.labels[torch.cdist(posterior, world.means).argmin(-1)] == label).all()


def test_unknown_labels_are_refused():
    x = torch.zeros(3, 2)
    for world, label in (("conditional_ring", 4), ("conditional_ring", torch.tensor([0, 1, 9])), ("ring", 0)):
        with pytest.raises(ValueError, match="labels"):
            make(world).denoiser(x, 1.0, 1.0, label)
    with pytest.raises(ValueError, match=r"\[3\]"):
        make("conditional_ring").denoiser(x, 1.0, 1.0, torch.tensor([0, 1]))
