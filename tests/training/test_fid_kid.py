"""FID and KID against closed forms: moments known exactly, means over many draws, and samples of few points."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from toy.frechet import frechet
from training.evaluation import fid, kid


def normals(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(x: Tensor) -> Tensor:
    """The sample moved so that its mean is 0 and its covariance, of n - 1 degrees, is the identity."""
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (len(x) - 1))).T


def test_fid_of_gaussians_with_known_moments() -> None:
    """N(0, I) against N(m, diag v): |m|^2 + sum (sqrt v - 1)^2; and commuting or not, a rotation of both is nothing."""
    m, v = torch.tensor([1.0, -2.0, 0.5, 0.0]).double(), torch.tensor([4.0, 0.25, 1.0, 9.0]).double()
    x, y = whitened(normals(40, 4)), m + whitened(normals(60, 4, seed=1)) * v.sqrt()
    expected = float((m**2).sum() + ((v.sqrt() - 1) ** 2).sum())
    assert float(frechet(x, y)) == pytest.approx(expected, rel=1e-10)
    rotation = torch.linalg.qr(normals(4, 4, seed=2)).Q
    assert float(frechet(x @ rotation, y @ rotation)) == pytest.approx(expected, rel=1e-10)


def test_fid_at_infinity_takes_the_bias_away() -> None:
    """One law in 4 dimensions, 120 points: FID is 0.14 on average, of which at most a fifth is left."""
    reference = whitened(normals(1000, 4, seed=9))
    generator = torch.Generator().manual_seed(0)
    plain, extrapolated = [], []
    for seed in range(60):
        x = normals(120, 4, seed=100 + seed)
        plain.append(float(frechet(x, reference)))
        extrapolated.append(fid.at_infinity(x, reference, generator))
    bias, left = (torch.tensor(values) for values in (plain, extrapolated))
    error = float(left.std() / math.sqrt(len(left)))
    assert float(bias.mean()) > 0.05
    assert abs(float(left.mean())) < 0.2 * float(bias.mean()) + 4 * error
    assert 4 * error < 0.6 * float(bias.mean())  # the test can tell


def test_fid_at_infinity_looks_at_random_parts_from_half_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of samples in the order of a feature, of which the first half is no sample of the law."""
    seen: list[Tensor] = []

    def watched(x: Tensor, reference: Tensor) -> Tensor:
        seen.append(x)
        return frechet(x, reference)

    monkeypatch.setattr(fid, "frechet", watched)
    x = normals(840, 2)
    fid.at_infinity(x[x[:, 0].argsort()], normals(500, 2, seed=1), torch.Generator().manual_seed(0))
    places = torch.tensor(sorted({1 / len(part) for part in seen}))
    torch.testing.assert_close(places, torch.linspace(1 / 840, 2 / 840, len(places)), rtol=1e-2, atol=0)
    assert len(places) > 2
    for part in seen:  # the mean of a part: within 5 standard errors of the whole's, which the first half is far from
        assert abs(part[:, 0].mean() - x[:, 0].mean()) < 5 / math.sqrt(len(part))
    assert len({part.numpy().tobytes() for part in seen}) == len(seen)


def test_fid_at_infinity_refuses_too_few_points() -> None:
    with pytest.raises(ValueError, match=r"79 samples of 4 features, expected 80 or more"):
        fid.at_infinity(normals(79, 4), normals(50, 4), torch.Generator())


def by_hand(x: Tensor, y: Tensor) -> float:
    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    xx = sum(k(a, b) for a, b in itertools.permutations(x, 2)) / (n * (n - 1))
    yy = sum(k(a, b) for a, b in itertools.permutations(y, 2)) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize("n, m, d", [(4, 4, 1), (5, 9, 3), (50, 43, 2)])
def test_kid_is_the_sum_over_pairs_of_different_points(n: int, m: int, d: int) -> None:
    x, y = normals(n, d), 0.5 + normals(m, d, seed=1)
    assert kid.kid(x, y).mean == pytest.approx(by_hand(x, y), rel=1e-9)


def drawn_kids(estimator, draws: int, n: int, m: int, seed: int = 0) -> Tensor:
    """KIDs of n points of N(0.3, 1) and m of N(0, 1.44), in one dimension, draw by draw."""
    x, y = 0.3 + normals(draws, n, 1, seed=seed), 1.2 * normals(draws, m, 1, seed=seed + 1)
    return torch.tensor([estimator(a, b) for a, b in zip(x, y, strict=True)], dtype=torch.float64)


# k = (x y + 1)^3 = 1 + 3 x y + 3 x^2 y^2 + x^3 y^3, so MMD^2 = 3 (m_1 - n_1)^2 + 3 (m_2 - n_2)^2 + (m_3 - n_3)^2 in the
# moments: 0.3, 1.09, 0.927 of N(0.3, 1) and 0, 1.44, 0 of N(0, 1.44).
EXACT = 3 * 0.3**2 + 3 * (1.09 - 1.44) ** 2 + 0.927**2


@pytest.mark.slow
def test_kid_is_unbiased() -> None:
    """1000 draws of 6 and 8 points; within 6 standard errors: false fail 2e-9 were the mean Gaussian."""
    values = drawn_kids(lambda a, b: kid.kid(a, b).mean, 1000, 6, 8)
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean()) - EXACT) < 6 * error


def test_a_biased_kid_would_be_seen() -> None:
    """With the pairs of a point with itself in, as a V-statistic has them, the same draws are far off."""

    def biased(a: Tensor, b: Tensor) -> float:
        return float(kid.kernel(a, a).mean() + kid.kernel(b, b).mean() - 2 * kid.kernel(a, b).mean())

    values = drawn_kids(biased, 1000, 6, 8)
    assert float(values.mean()) - EXACT > 6 * float(values.std()) / math.sqrt(len(values))


def test_the_limits_of_kid_are_as_wide_as_it_scatters() -> None:
    """Half of the limits is 2 standard errors or so: in 150 draws of 60 points, their mean against KID's own scatter.

    A standard deviation of 150 values has an error of 6 %, and the jackknife's is a little too large.
    """
    x, y = 0.3 + normals(150, 60, 1, seed=7), 1.2 * normals(150, 60, 1, seed=8)
    estimates = [kid.kid(a, b) for a, b in zip(x, y, strict=True)]
    half = torch.tensor([e.upper - e.lower for e in estimates]).square().mean().sqrt() / 2
    scatter = torch.tensor([e.mean for e in estimates]).std()
    assert 1.6 < half / scatter < 3


@pytest.mark.slow
def test_the_limits_of_kid_hold_the_truth() -> None:
    """95 % limits at 60 points: in 200 draws more than 85 %, from which a coverage of 95 % is 6.5 sigma away."""
    x, y = 0.3 + normals(200, 60, 1, seed=5), 1.2 * normals(200, 60, 1, seed=6)
    estimates = [kid.kid(a, b) for a, b in zip(x, y, strict=True)]
    inside = sum(e.lower <= EXACT <= e.upper for e in estimates)
    assert inside > 0.85 * 200


@pytest.mark.parametrize("x, y", [((5,), (5,)), ((5, 2), (5, 3)), ((3, 2), (50, 2))])
def test_bad_features(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"got") as caught:
        kid.kid(torch.zeros(x), torch.zeros(y))
    assert "\n" not in str(caught.value)
