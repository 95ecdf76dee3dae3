"""Grids of a chain against NumPy's floating-point recipes, which everybody uses, wherever those are valid."""

import numpy as np
import pytest
import torch

from diffusion import grids

T = 1000


def indices(grid: torch.Tensor, length: int = T) -> list[int]:
    """The literature's 0-based timesteps, without the final 0."""
    return [round(float(t) * length) - 1 for t in grid[:-1]]


def valid(timesteps: np.ndarray, n: int, length: int = T) -> bool:
    return len(timesteps) == n and bool((np.diff(timesteps) < 0).all()) and 0 <= timesteps[-1] <= timesteps[0] < length


def same_but_for_ties(ours: list[int], theirs: np.ndarray, numerator: int, n: int) -> None:
    """Both are m numerator/n, rounded, m = 1 .. n; halves lost to rounding errors may go either way."""
    tie = [2 * m * numerator % (2 * n) == n for m in range(n, 0, -1)][: len(ours)]
    away = np.abs(np.array(ours) - theirs)
    assert (away[~np.array(tie)] == 0).all()
    assert away.max() <= 1


def trailing_by_arange(n: int) -> np.ndarray:
    """Lin et al. 2024, table 2, as it is coded with a floating-point stride."""
    return np.round(np.arange(T, 0, -T / n)).astype(int) - 1


@pytest.mark.slow
def test_trailing_is_arange_where_that_is_valid() -> None:
    """A stride T/n rounded down fits once more before 0: at 62 of the n up to 1000 there is an extra index, -1."""
    wrong = []
    for n in range(1, T + 1):
        by_arange = trailing_by_arange(n)
        if valid(by_arange, n):
            same_but_for_ties(indices(grids.trailing(T, n)), by_arange, T, n)
        else:
            assert len(by_arange) == n + 1
            assert by_arange[-1] == -1
            same_but_for_ties(indices(grids.trailing(T, n)), by_arange[:-1], T, n)
            wrong.append(n)
    assert wrong[:4] == [61, 103, 121, 122]


@pytest.mark.slow
def test_linspace_is_numpys_but_for_a_single_step() -> None:
    """NumPy's single step is the first index, 0, at which there is nothing to denoise; here it is the last, T - 1."""
    for n in range(2, T + 1):
        ours, theirs = indices(grids.linspace(T, n)), np.linspace(0, T - 1, n).round()[::-1].astype(int)
        same_but_for_ties(ours[:-1], theirs[:-1], T - 1, n - 1)
        assert ours[-1] == theirs[-1] == 0
    assert indices(grids.linspace(T, 1)) == [T - 1]
    assert np.linspace(0, T - 1, 1).tolist() == [0]


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 13, 50])
def test_a_grid_of_all_steps_is_the_chain(length: int) -> None:
    """n = T: the strides are 1, and no number is rounded."""
    for spacing in (grids.linspace, grids.leading, grids.trailing):
        assert indices(spacing(length, length), length) == list(range(length - 1, -1, -1))


@pytest.mark.parametrize("length", range(1, 41))
def test_strides_are_those_of_the_claims(length: int) -> None:
    """1 + (T - n)/(n - 1) for linspace and 1 + (T - n)/n for trailing, each index within 1/2 of its real number."""
    for n in range(1, length + 1):
        trailing = np.array(indices(grids.trailing(length, n), length)) + 1
        assert (np.abs(trailing - (length - np.arange(n) * (1 + (length - n) / n))) <= 0.5 + 1e-9).all()
        if n > 1:
            linspace = np.array(indices(grids.linspace(length, n), length))
            stride = 1 + (length - n) / (n - 1)
            assert (np.abs(linspace - np.arange(n)[::-1] * stride) <= 0.5 + 1e-9).all()
            assert (linspace[0], linspace[-1]) == (length - 1, 0)


def test_numbers_one_apart_may_round_to_one() -> None:
    """Why the claim asks for strides above 1, or for no ties: a shift by a half makes a chain of evens."""
    assert [round(m + 0.5) for m in range(5)] == [0, 2, 2, 4, 4]


@pytest.mark.slow
def test_the_trap_is_in_diffusers() -> None:
    """Its trailing timesteps hold -1 for the n found above; a version that mends it makes this test obsolete."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=T, timestep_spacing="trailing")
    for n in (10, 50, 61, 103, 999):
        scheduler.set_timesteps(n)
        theirs = scheduler.timesteps.tolist()
        assert theirs == trailing_by_arange(n).tolist()
        same_but_for_ties(indices(grids.trailing(T, n)), np.array(theirs[:n]), T, n)
