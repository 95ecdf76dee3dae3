"""Each test fails as often as it says, sees what it says it sees, and is blind to nothing it should see.

Calibration: 1000 samples under the claim at false_fail = 0.05. For an exact pivot the number of failures is binomial
with mean 50; outside 20..85 has probability below 1e-5 (seeds are fixed). Tests that rest on inequalities fail less.
"""

import numpy as np
import pytest
from scipy import stats

from verify.statistics import (
    covariance,
    exact,
    exchange,
    location,
    mean_zero,
    regression,
    same_law,
    scale,
    uniform,
)

N, D = 600, 2
EXACT = ("scale", "location", "covariance", "regression", "uniform")


def under_claim(rng, false_fail):
    r, z = rng.standard_normal((N, D)), rng.exponential(size=(N, D))
    spread = rng.exponential(size=N)
    return {
        "scale": scale(r, false_fail),
        "location": location(r, false_fail),
        "covariance": covariance(r, false_fail),
        "regression": regression(r, z, false_fail),
        "uniform": uniform(rng.random(N), false_fail),
        "same_law": same_law(z, rng.exponential(size=(N, D)), false_fail),
        "exchange": exchange(r * z, false_fail),
        "mean_zero": mean_zero((rng.exponential(size=N) - 1) * np.sqrt(spread), spread, false_fail),
    }


@pytest.mark.slow
def test_calibration_at_a_loud_rate():
    rng = np.random.default_rng(0)
    failures = dict.fromkeys(under_claim(rng, 0.05), 0)
    for _ in range(1000):
        for name, verdict in under_claim(rng, 0.05).items():
            failures[name] += not verdict.holds
    for name, count in failures.items():
        assert count <= 85, (name, count)
        if name in EXACT:
            assert count >= 20, (name, count)


def test_quiet_rate_is_quiet():
    rng = np.random.default_rng(1)
    for _ in range(20):
        assert all(v.holds for v in under_claim(rng, 1e-9).values())


# The planted error of each test at `size` times the effect it says it detects.
def _correlated(rng, rho):
    r = rng.standard_normal((N, D))
    r[:, 1] = rho * r[:, 0] + np.sqrt(1 - rho**2) * r[:, 1]
    return r


PLANTED = {
    "variance too large": lambda rng, a, e: scale(np.sqrt(1 + e) * rng.standard_normal((N, D)), a),
    "variance too small": lambda rng, a, e: scale(np.sqrt(1 - e) * rng.standard_normal((N, D)), a),
    "mean": lambda rng, a, e: location(rng.standard_normal((N, D)) + e / np.sqrt(D), a),
    "correlation": lambda rng, a, e: covariance(_correlated(rng, e), a),
    "one variance": lambda rng, a, e: covariance(rng.standard_normal((N, D)) * [1, np.sqrt(1 + e)], a),
    "slope": lambda rng, a, e: (lambda z: regression(rng.standard_normal((N, 1)) + e * z, z, a))(
        rng.choice([-1.0, 1.0], (N, 1))
    ),
    "distribution": lambda rng, a, e: uniform((1 - e) * rng.random(N), a),
    "two laws": lambda rng, a, e: same_law(rng.random((N, 1)), rng.random((N, 1)) + e, a),
    "asymmetry": lambda rng, a, e: exchange(np.sqrt(1 - e**2) * rng.standard_normal((N, 1)) + e, a),
    "drift": lambda rng, a, e: mean_zero(rng.standard_normal(N) + e, np.ones(N), a),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_stated_effect_is_detected_and_a_tenth_of_it_is_not(name):
    rng = np.random.default_rng(2)
    plant = PLANTED[name]
    effect = plant(rng, 1e-6, 0.0).detectable_effect
    assert 0 < effect < 0.8
    seen = [not plant(rng, 1e-6, effect).holds for _ in range(200)]
    assert all(seen)
    blind = [plant(rng, 1e-6, effect / 10).holds for _ in range(50)]
    assert all(blind)


def test_pivot_sees_a_tenth_of_the_variance_at_twenty_thousand():
    rng = np.random.default_rng(3)
    r = np.sqrt(1.1) * rng.standard_normal((20_000, 2))
    assert scale(r, 1e-9).detectable_effect < 0.1
    assert not scale(r, 1e-9).holds
    marginal = uniform(stats.norm.cdf(r[:, 0]), 1e-9)
    assert marginal.holds  # the test of the marginal misses it


def test_same_law_sees_dependence_that_marginals_hide():
    rng = np.random.default_rng(4)
    x = rng.standard_normal((5000, 1))
    assert not same_law(np.hstack([x, x]), rng.standard_normal((5000, 2)), 1e-9).holds


def test_exact_checks_state_no_rate():
    assert exact(1.0, 2.0, "nats").holds
    assert not exact(2.1, 2.0, "nats").holds
    assert not exact(float("nan"), 2.0, "nats").holds
    assert exact(1.0, 2.0, "nats").false_fail == 0


@pytest.mark.parametrize("test", [scale, location, covariance])
def test_what_is_not_finite_is_refused(test):
    with pytest.raises(ValueError, match="finite residuals"):
        test(np.array([0.0, np.nan, 1.0]), 0.01)
    with pytest.raises(ValueError, match="at least two"):
        test(np.zeros((1, 2)), 0.01)


def test_samples_of_unequal_or_small_size_are_refused():
    with pytest.raises(ValueError, match="one size"):
        same_law(np.zeros((500, 2)), np.zeros((501, 2)), 0.01)
    with pytest.raises(ValueError, match=">= 458"):
        same_law(np.zeros((100, 2)), np.zeros((100, 2)), 0.01)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        uniform(np.array([0.5, 1.5]), 0.01)
