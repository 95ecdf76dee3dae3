"""Divergences of two coins against scipy, 50 digits where they are nearly the same, and their own extremes."""

import math

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
import torch
from mpmath import mp, mpf
from torch import tensor

from diffusion import divergence

generator = torch.Generator().manual_seed(11)
P, Q = torch.rand(2, 300, generator=generator, dtype=torch.float64)


def scalar(p: float) -> torch.Tensor:
    return tensor(p, dtype=torch.float64)


def coin(p: float) -> np.ndarray:
    return np.array([p, 1 - p])


def test_kl_is_scipys_entropy() -> None:
    expected = [scipy.stats.entropy(coin(p), coin(q)) for p, q in zip(P.tolist(), Q.tolist(), strict=True)]
    np.testing.assert_allclose(divergence.kl(P, Q), expected, rtol=1e-9, atol=1e-15)


def test_js_is_scipys_distance_squared() -> None:
    pairs = zip(P.tolist(), Q.tolist(), strict=True)
    expected = [scipy.spatial.distance.jensenshannon(coin(p), coin(q)) ** 2 for p, q in pairs]
    np.testing.assert_allclose(divergence.js(P, Q), expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("p", [0.5, 0.1, 1e-4, 1 - 2.0**-10])
@pytest.mark.parametrize("shift", [2.0**-40, 2.0**-20, 2.0**-12])
def test_nothing_is_lost_between_neighbours(p: float, shift: float) -> None:
    """To second order in the shift both are multiples of shift^2/(2 p (1 - p)); a naive sum keeps no digit of that."""
    q = p + shift / 2**10
    with mp.workdps(60):
        a, b = mpf(p), mpf(q)
        m = (a + b) / 2

        def kl(a: mpf, b: mpf) -> mpf:
            return a * mp.log(a / b) + (1 - a) * mp.log((1 - a) / (1 - b))

        exact = kl(a, b), (kl(a, m) + kl(b, m)) / 2
        slope = abs(a - b) / (1 - b) + abs(a - b)
    found = divergence.kl(scalar(p), scalar(q)), divergence.js(scalar(p), scalar(q))
    for value, wanted in zip(found, exact, strict=True):
        assert abs(float(value) - float(wanted)) <= 2.0**-50 * (float(slope) + float(wanted))


def test_kl_is_not_symmetric_but_for_equal_and_opposite_coins() -> None:
    forward, back = divergence.kl(P, Q), divergence.kl(Q, P)
    assert bool(((forward - back).abs() > 1e-6)[((P - Q).abs() > 0.1) & ((P + Q - 1).abs() > 0.1)].all())
    torch.testing.assert_close(divergence.kl(P, 1 - P), divergence.kl(1 - P, P), rtol=1e-12, atol=1e-15)
    assert bool((divergence.kl(P, P) == 0).all())


def test_js_is_symmetric_and_reaches_a_bit_only_between_opposite_certainties() -> None:
    torch.testing.assert_close(divergence.js(P, Q), divergence.js(Q, P), rtol=1e-12, atol=1e-16)
    assert bool((divergence.js(P, P) == 0).all())
    far = divergence.js(scalar(1e-12), scalar(1 - 1e-12))
    assert float(far) == pytest.approx(math.log(2), abs=1e-10)
    assert bool((divergence.js(P, Q) < math.log(2)).all())


def test_pinsker_holds_and_its_constant_is_the_best() -> None:
    kl, tv = divergence.kl(P, Q), divergence.total_variation(P, Q)
    assert bool((kl >= 2 * tv**2).all())
    half, near = scalar(0.5), scalar(0.5 + 1e-5)
    ratio = divergence.kl(half, near) / divergence.total_variation(half, near) ** 2
    assert float(ratio) == pytest.approx(2, rel=1e-8)


def test_two_ranks_are_refused() -> None:
    for f in (divergence.kl, divergence.js, divergence.total_variation):
        with pytest.raises(ValueError, match=r"\(3,\), \(3, 1\)"):
            f(torch.full((3,), 0.5), torch.full((3, 1), 0.5))


def test_a_coin_that_always_falls_one_way() -> None:
    """0 log 0 = 0: KL(p || q) is -log of the chance q gives to what happens, JS of opposite ends log 2."""
    ends, q = scalar(0.0), tensor([0.5, 0.1, 0.9], dtype=torch.float64)
    torch.testing.assert_close(divergence.kl(ends, q), -(1 - q).log())
    torch.testing.assert_close(divergence.kl(1 - ends, q), -q.log())
    assert float(divergence.kl(scalar(0.5), ends)) == math.inf
    assert float(divergence.js(ends, 1 - ends)) == pytest.approx(math.log(2), abs=1e-15)
    middle = q / 2
    expected = (-(1 - middle).log() + divergence.kl(q, middle)) / 2
    torch.testing.assert_close(divergence.js(ends, q), expected)


def test_two_coins_that_always_fall_the_same_way_do_not_differ() -> None:
    """p = q = 0 and p = q = 1, where a relative difference is 0/0."""
    both = tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert divergence.kl(both, both).tolist() == divergence.js(both, both).tolist() == [0, 0, 0]
    assert float(divergence.kl(scalar(1.0), scalar(0.0))) == math.inf
