"""Frechet distance against SciPy's matrix square root, one dimension by hand, and samples smaller than a dimension."""

import numpy as np
import pytest
import scipy.linalg
import torch

from toy.frechet import frechet


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_square_root(x: np.ndarray, y: np.ndarray) -> float:
    """As FID is usually coded: means, np.cov, scipy.linalg.sqrtm."""
    C, D = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(C + D - 2 * scipy.linalg.sqrtm(C @ D).real))


@pytest.mark.parametrize("dim", [2, 3, 6])
def test_it_is_the_usual_formula(dim: int) -> None:
    x, y = drawn(50, dim), 0.5 + drawn(40, dim, seed=1) @ drawn(dim, dim, seed=2)
    assert float(frechet(x, y)) == pytest.approx(by_square_root(x.numpy(), y.numpy()), rel=1e-9)


def test_one_dimension_and_many_pairs_at_once() -> None:
    x, y = drawn(7, 9, 1), 2 * drawn(7, 5, 1, seed=1)
    expected = (x.mean(1) - y.mean(1)) ** 2 + (x.std(1) - y.std(1)) ** 2
    torch.testing.assert_close(frechet(x, y), expected[:, 0])


def test_a_sample_against_itself_and_shifted() -> None:
    x = drawn(30, 4)
    assert abs(float(frechet(x, x))) < 1e-13
    assert float(frechet(x, x + torch.tensor([3.0, 0, 4, 0]))) == pytest.approx(25)
    assert float(frechet(x, 3 * (x - x.mean(0)) + x.mean(0))) == pytest.approx(4 * float(x.var(0).sum()))


def test_fewer_points_than_dimensions() -> None:
    """Two points in ten dimensions: covariances of rank one, tr (C D)^{1/2} = |a . b|/2 with a, b the differences."""
    x, y = drawn(2, 10), drawn(2, 10, seed=1)
    a, b = x[1] - x[0], y[1] - y[0]
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (a @ a + b @ b) / 2 - (a @ b).abs()
    torch.testing.assert_close(frechet(x, y), expected)


@pytest.mark.parametrize("x, y", [((5,), (5,)), ((5, 2), (5, 3)), ((1, 2), (5, 2)), ((2, 5, 2), (3, 5, 2))])
def test_bad_input_gets_one_clear_line(x: tuple[int, ...], y: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="got") as caught:
        frechet(torch.zeros(x), torch.zeros(y))
    assert "\n" not in str(caught.value)
