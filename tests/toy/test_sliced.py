"""Sliced Wasserstein against another library, a shift's closed form, and the noise floor."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance

from toy.sliced import directions, noise_floor, sliced_ratio, sliced_wasserstein
from toy.worlds import make


def normal(n: int, dim: int, seed: int) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_each_slice_is_scipys_distance_on_a_line():
    x, y = normal(300, 2, 0), 2 * normal(300, 2, 1) + 1
    theta = directions(2, 5)
    expected = sum(wasserstein_distance((x @ d).numpy(), (y @ d).numpy()) for d in theta) / 5
    assert sliced_wasserstein(x, y, theta) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dim, share, tolerance", [(1, 1, 1e-12), (2, 2 / math.pi, 1e-3), (3, 1 / 2, 0.05)])
def test_a_shift_moves_every_slice_by_its_projection(dim, share, tolerance):
    """SW(x, x + d) = |d| E|theta_1|: 2/pi in the plane, 1/2 in space (400 drawn directions: 5 standard errors)."""
    x = normal(100, dim, 2)
    shift = torch.zeros(dim, dtype=torch.float64)
    shift[0] = 3.0
    theta = directions(dim, 400, torch.Generator().manual_seed(3))
    assert sliced_wasserstein(x, x + shift, theta) == pytest.approx(3 * share, rel=tolerance * 1.5)


def test_a_perfect_sampler_is_at_the_floor_and_a_shifted_one_above():
    """30 pairs against 30 sets of 500: the ratio's standard deviation is below 0.1; bounds at 5 of them."""
    world, generator = make("ring"), torch.Generator().manual_seed(4)
    floor = noise_floor(world, 500, 30, generator)
    perfect = [world.sample(500, generator) for _ in range(30)]
    assert abs(sliced_ratio(world, perfect, floor, generator).mean - 1) < 0.5
    assert sliced_ratio(world, [x + 0.3 for x in perfect], floor, generator).lower > 1.5


@pytest.mark.slow
def test_the_floor_falls_as_the_root_of_n():
    """100 times the rows: a tenth of the floor, within 25 % (5 standard errors at 60 pairs)."""
    world, generator = make("two_moons"), torch.Generator().manual_seed(5)
    few, many = (noise_floor(world, n, 60, generator).mean for n in (30, 3000))
    assert few / many == pytest.approx(10, rel=0.25)


def test_samples_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        sliced_wasserstein(torch.zeros(3, 2), torch.zeros(4, 2), directions(2))
    with pytest.raises(ValueError, match="not finite"):
        sliced_wasserstein(torch.full((3, 2), math.nan), torch.zeros(3, 2), directions(2))
    with pytest.raises(ValueError, match="Generator"):
        directions(3)
