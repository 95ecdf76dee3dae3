"""Limits against scipy's, the jackknife against the cases where it is exact, the likelihood gap against a known KL."""

import math

import pytest
import torch
from scipy.stats import ttest_1samp

from toy.estimate import estimate, jackknife
from toy.mixture import gaussian
from toy.nll import nll_gap
from toy.worlds import make


def test_limits_are_scipys():
    values = [1.0, 2.5, 0.3, 4.0, -1.0]
    limits = ttest_1samp(values, 0).confidence_interval(0.95)
    got = estimate(values)
    assert (got.lower, got.upper, got.n) == pytest.approx((limits.low, limits.high, 5))


def test_the_jackknife_of_a_mean_is_the_mean_with_its_limits():
    values = [1.0, 2.5, 0.3, 4.0, -1.0]
    without_one = [(sum(values) - v) / 4 for v in values]
    got, expected = jackknife(sum(values) / 5, without_one), estimate(values)
    assert (got.mean, got.lower, got.upper) == pytest.approx((expected.mean, expected.lower, expected.upper))


def test_too_few_or_bad_values_are_refused():
    for values in ([], [1.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="limits need"):
            estimate(values)


def test_the_gap_between_two_gaussians_is_their_kl():
    """KL(N(0, I) || N(d, I)) = |d|^2/2; limits at 4 standard errors (6e-5 of false fails)."""
    p, q = gaussian("p", torch.zeros(2), 1.0), gaussian("q", torch.tensor([0.3, -0.4]), 1.0)
    x = p.sample(20_000, torch.Generator().manual_seed(0))
    gap = nll_gap(p, x, q.log_density(x))
    assert abs(gap.mean - 0.125) < 4 / 1.96 * (gap.upper - gap.lower) / 2
    assert gap.upper - gap.lower < 0.02  # paired: the spread of log p itself would give 0.03 at least


def test_the_truth_has_no_gap():
    world = make("grid")
    x = world.sample(10, torch.Generator().manual_seed(1))
    gap = nll_gap(world, x, world.log_density(x))
    assert (gap.lower, gap.mean, gap.upper) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"\[10\]"):
        nll_gap(world, x, torch.zeros(10, 1))
