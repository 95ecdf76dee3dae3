"""Langevin correctors: the chain on a Gaussian by exact enumeration of its linear map, its ends, and its draws."""

import math

import pytest
import torch
from mpmath import mp, mpf
from torch import Tensor, tensor

from diffusion import langevin


def f64(*values: float) -> Tensor:
    return tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("v, A, w", [(1.0, 0.3, 0.1), (0.02, 0.999, 5.0), (4.0, 0.5, 1.0), (1.0, 1e-9, 3.0)])
def test_variance_is_that_of_the_linear_map_at_50_digits(v: float, A: float, w: float) -> None:
    """x <- (1 - h/v) x + sqrt(2 h) z, squared and iterated; h = 2 v A."""
    with mp.workdps(50):
        h, variance = 2 * mpf(v) * mpf(A), mpf(w)
        for n in range(1, 51):
            variance = (1 - h / mpf(v)) ** 2 * variance + 2 * h
            if n in (1, 2, 50):
                after = langevin.variance_after(f64(w), f64(v), f64(A), f64(float(n)))
                assert float(after) == pytest.approx(float(variance), rel=1e-13)
    settled = float(langevin.stationary_variance(f64(v), f64(A)))
    assert settled == pytest.approx((1 - 2 * A) ** 2 * settled + 4 * v * A, rel=1e-12)


def test_ends() -> None:
    """No step changes nothing; the short step's law is the right one; A = 1/2 settles in one step."""
    assert float(langevin.variance_after(f64(3.0), f64(1.0), f64(0.3), f64(0.0))) == 3.0
    assert float(langevin.stationary_variance(f64(2.0), f64(0.0))) == 2.0
    assert float(langevin.variance_after(f64(9.0), f64(2.0), f64(0.5), f64(1.0))) == 4.0
    x = f64(1.0, -2.0)
    assert torch.equal(langevin.corrector_step(x, f64(5.0, 5.0), f64(1.0, 1.0), tensor(0.0, dtype=torch.float64)), x)


def test_the_chain_settles_where_it_should_and_not_at_the_law() -> None:
    """40,000 chains of 20 steps on N(0, 1) with r = 0.5: variance 4/3 (relative standard error 0.0071), not 1."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40_000, 1, generator=generator, dtype=torch.float64)
    z_rms = torch.ones(1, 1, dtype=torch.float64)
    h = langevin.step_length(z_rms, z_rms, 0.5)  # |score| = |z| for x ~ N(0, 1), in the mean
    for _ in range(20):
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        x = langevin.corrector_step(x, -x, z, h)
    assert float(x.var()) == pytest.approx(4 / 3, rel=0.036)


def test_length_is_song_s_rule_over_the_batch() -> None:
    score, z = f64(3.0, 4.0, 0.0, 12.0).reshape(2, 2), f64(0.0, 2.0, 6.0, 8.0).reshape(2, 2)
    expected = 2 * 0.16**2 * 104 / 169
    assert float(langevin.step_length(score, z, 0.16)) == pytest.approx(expected, rel=1e-15)
    assert float(langevin.step_length(score.reshape(1, 2, 2), z.reshape(1, 2, 2), 0.16)) == pytest.approx(expected)


def test_correcting_mends_a_law_that_is_too_narrow_and_leaves_its_own_bias() -> None:
    """16 dimensions, from half the standard deviation: 200 steps of r = 0.2 end at 1/(1 - r^2), 1.0417.

    2,000 x 16 values: relative standard error 0.8 %. Lengths of each sample's own would end above 1.3.
    """
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2000, 16, generator=generator, dtype=torch.float64)
    mended = langevin.correct(lambda x: -x / 4, x, 200, 0.2, generator)
    assert float(mended.square().mean()) / 4 == pytest.approx(1 / (1 - 0.2**2), rel=0.04)
    assert torch.equal(langevin.correct(lambda x: -x / 4, x, 0, 0.2, generator), x)


def test_bad_input() -> None:
    x = torch.zeros(3, 2)
    for r in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="signal-to-noise"):
            langevin.step_length(x, x, r)
    with pytest.raises(ValueError, match=r"score \(3, 2\)"):
        langevin.step_length(x, torch.zeros(3), 0.1)
    for bad in (0.0, math.nan):
        with pytest.raises(ValueError, match="expected a finite one above 0"):
            langevin.step_length(torch.full((3, 2), bad), x, 0.1)
    with pytest.raises(ValueError, match="n = -1"):
        langevin.correct(lambda x: x, x, -1, 0.1, torch.Generator())
    with pytest.raises(ValueError, match="per_sample"):
        langevin.corrector_step(x, x, x, torch.zeros(3))
