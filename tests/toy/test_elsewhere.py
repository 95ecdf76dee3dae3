"""Worlds off the plane: on the line and in space, against torch.distributions, quadrature and direct enumeration."""

import math

import numpy as np
import pytest
import torch

from toy.energy import energy_ratio
from toy.worlds import ELSEWHERE, WORLDS, bimodal, high_dimensional, make

LEVELS = ((1.0, 0.0), (1.0, 0.3), (0.6, 0.8), (0.0, 1.0), (0.999, 0.05))
AT_LEVELS = pytest.mark.parametrize("alpha, sigma", LEVELS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_tables_of_worlds_are_apart():
    assert not set(WORLDS) & set(ELSEWHERE)
    assert all(make(name).dim == 2 for name in WORLDS)
    assert all(make(name).dim != 2 for name in ELSEWHERE)


@AT_LEVELS
@pytest.mark.parametrize("name", ["bimodal", "high_dimensional"])
def test_noised_density_and_score_are_those_of_torch(name, alpha, sigma):
    world = make(name)
    x = world.noised(50, alpha, sigma, seeded())[1].requires_grad_()
    scale = (alpha**2 * world.variances + sigma**2).sqrt()
    parts = torch.distributions.Independent(torch.distributions.Normal(alpha * world.means, scale), 1)
    oracle = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(world.weights), parts).log_prob(x)
    (slope,) = torch.autograd.grad(oracle.sum(), x)
    assert torch.allclose(world.log_density(x, alpha, sigma), oracle, rtol=1e-12)
    assert torch.allclose(world.score(x, alpha, sigma), slope, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha, sigma", LEVELS[1:])
def test_on_the_line_truth_is_bayes_rule(alpha, sigma):
    """Posterior mean and variance by the trapezoid rule over x_0."""
    world = make("bimodal")
    y = torch.linspace(-3.5, 3.5, 20_001, dtype=torch.float64)
    prior = world.log_density(y[:, None])
    x = world.noised(20, alpha, sigma, seeded(1))[1]
    share = (prior - (x - alpha * y) ** 2 / (2 * sigma**2)).softmax(-1)
    mean = share @ y
    assert torch.allclose(world.denoiser(x, alpha, sigma)[:, 0], mean, rtol=1e-9, atol=1e-9)
    variance = share @ y**2 - mean**2
    assert torch.allclose(world.posterior_covariance(x, alpha, sigma)[:, 0, 0], variance, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("alpha, sigma", LEVELS[1:])
def test_in_space_the_responsibilities_are_a_softmax(alpha, sigma):
    """Means 4 e_k are equally long: r = softmax(4 alpha x/v), the denoiser a sum of 4 r and a pull towards x."""
    world, v = high_dimensional(), alpha**2 * 0.01 + sigma**2
    x = world.noised(30, alpha, sigma, seeded(2))[1]
    r = torch.softmax(4 * alpha * x / v, -1)
    expected = 4 * r + alpha * 0.01 / v * (x - 4 * alpha * r)
    assert torch.allclose(world.denoiser(x, alpha, sigma), expected, rtol=1e-11, atol=1e-11)
    score = (alpha * expected - x) / sigma**2
    assert torch.allclose(world.score(x, alpha, sigma), score, rtol=1e-9, atol=1e-9)


def test_two_modes_have_unit_variance_and_a_known_entropy():
    """H = log 2 + (1/2) log(2 pi e v) less the overlap of the modes, by quadrature."""
    world = bimodal()
    y = torch.from_numpy(np.linspace(-4, 4, 40_001))
    p = world.log_density(y[:, None])
    assert float(torch.trapezoid(p.exp() * y**2, y)) == pytest.approx(1, abs=1e-12)
    assert world.entropy() == pytest.approx(-float(torch.trapezoid(p.exp() * p, y)), abs=1e-6)
    assert world.entropy() == pytest.approx(math.log(2) + 0.5 * math.log(2 * math.pi * math.e * 0.04), abs=1e-4)


@pytest.mark.parametrize("name, sets", [("bimodal", 20), ("high_dimensional", 6)])
def test_samples_and_posterior_draws_follow_the_law(name, sets):
    """Pooled energy ratios of sets of 25: standard deviation at most 0.07; bound 5 of them."""
    world, generator = make(name), seeded(3)
    assert abs(energy_ratio(world, [world.sample(25, generator) for _ in range(sets)]).mean - 1) < 0.35
    again = []
    for _ in range(sets):
        _, x = world.noised(25, 0.6, 0.8, generator)
        again.append(world.posterior_sample(x, 0.6, 0.8, generator))
    assert abs(energy_ratio(world, again).mean - 1) < 0.35
