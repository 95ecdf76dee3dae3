"""The energy ratio: which statistic it is, by enumeration; 1 for a perfect sampler, as predicted for a wrong one."""

import itertools
import math

import pytest
import torch

from toy.distance import mean_distance, mean_self_distance
from toy.energy import energy_distance, energy_ratio, perfect_mean, plain_ratio
from toy.mixture import gaussian
from toy.points import Points
from toy.worlds import make, ring


@pytest.mark.parametrize("N", [1, 2, 4])
def test_perfect_mean_is_the_mean_over_all_samples(N):
    """Three points, every one of the 3^N equally likely samples: the mean of V is E|Y - Y'|/N, to rounding."""
    world = Points("three", torch.tensor([[0.0, 0.0], [1.0, 0.5], [-2.0, 3.0]]))
    samples = [world.points[list(choice)] for choice in itertools.product(range(3), repeat=N)]
    mean = sum(energy_distance(world, x) for x in samples) / len(samples)
    assert mean == pytest.approx(perfect_mean(world, N), rel=1e-12)


def test_pooled_mean_is_unbiased_over_all_samples():
    """Three sets of two points of two: all 2^6 samples, with a sampler that is wrong (points at other places)."""
    world = Points("law", torch.tensor([[0.0], [1.0]]))
    model = torch.tensor([[0.0], [1.5]], dtype=torch.float64)
    choices = list(itertools.product(range(2), repeat=6))
    sets = [model[list(choice)].reshape(3, 2, 1) for choice in choices]
    # D^2 + E|X - X'|/N with E|X - Y| = (0 + 1 + 1.5 + 0.5)/4, E|X - X'| = 0.75, E|Y - Y'| = 0.5
    expected = (2 * 0.75 - 0.75 - 0.5 + 0.75 / 2) / (0.5 / 2)
    pooled = sum(energy_ratio(world, list(s)).mean for s in sets) / len(sets)
    plain = sum(plain_ratio(world, list(s)).mean for s in sets) / len(sets)
    assert (pooled, plain) == pytest.approx((expected, expected), rel=1e-12)


def test_a_sample_that_is_the_law_has_distance_zero():
    points = make("points")
    assert energy_distance(points, points.points) == pytest.approx(0, abs=1e-14)


def test_a_point_mass_is_as_far_as_its_distances_say():
    """One point: V = 2 E|x - Y| - E|Y - Y'|; for N(0, I) in the plane and x = 0 both are Rayleigh means."""
    world = gaussian("normal", torch.zeros(2), 1.0)
    expected = 2 * math.sqrt(math.pi / 2) - math.sqrt(2) * math.sqrt(math.pi / 2)
    assert energy_distance(world, torch.zeros(1, 2)) == pytest.approx(expected, rel=1e-12)
    assert energy_distance(world, torch.zeros(9, 2)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["ring", "checkerboard"])
def test_a_perfect_sampler_has_the_ratio_one(name):
    """60 sets of 200: the pooled ratio has the standard deviation 0.7 sqrt(2)/60 = 0.016; 5 of them (6e-7)."""
    world, generator = make(name), torch.Generator().manual_seed(0)
    sets = [world.sample(200, generator) for _ in range(60)]
    pooled, plain = energy_ratio(world, sets), plain_ratio(world, sets)
    assert abs(pooled.mean - 1) < 0.08
    assert abs(plain.mean - 1) < 5 * 0.7 / math.sqrt(60)
    assert pooled.upper - pooled.lower < (plain.upper - plain.lower) / 2


@pytest.mark.slow
def test_a_wrong_sampler_has_the_ratio_its_law_says():
    """A ring with components 1.5 times as wide: E V = D^2 + E|X - X'|/N in closed form, within the 99.9 % limits."""
    world, model, N = ring(), ring(std=0.15), 1000
    x = model.sample(40 * N, torch.Generator().manual_seed(1))
    pairs = (model.means[:, None] - world.means).flatten(0, 1)
    both = gaussian("X - Y", torch.zeros(2), 0.1**2 + 0.15**2)
    cross = float(mean_distance(both, pairs).mean())
    d2 = 2 * cross - mean_self_distance(model) - mean_self_distance(world)
    expected = (d2 + mean_self_distance(model) / N) / perfect_mean(world, N)
    ratio = energy_ratio(world, list(x.reshape(40, N, 2)))
    assert expected > 1.1
    assert abs(ratio.mean - expected) < 3.5 / 2 * (ratio.upper - ratio.lower) / 2


def test_float32_samples_have_the_ratio_of_their_values():
    world = make("checkerboard")
    x = world.sample(500, torch.Generator().manual_seed(2)).float()
    assert energy_distance(world, x) == energy_distance(world, x.double())


def test_bad_samples_are_refused():
    world = make("ring")
    with pytest.raises(ValueError, match="1 of 3 are not"):
        energy_distance(world, torch.tensor([[0.0, 0.0], [math.nan, 0.0], [1.0, 1.0]]))
    with pytest.raises(ValueError, match=r"\[batch, 2\]"):
        energy_distance(world, torch.zeros(5, 3))
    with pytest.raises(ValueError, match="finite rows"):
        energy_distance(world, torch.zeros(0, 2))
    with pytest.raises(ValueError, match="two or more"):
        energy_ratio(world, [torch.zeros(5, 2)])
    with pytest.raises(ValueError, match="one size"):
        energy_ratio(world, [torch.zeros(5, 2), torch.zeros(5, 2), torch.zeros(4, 2)])
