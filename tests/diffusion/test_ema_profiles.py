"""Profiles read off with unit impulses, widths against quadrature, reconstructions against the predicted misfit."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffusion.ema_profiles import (
    WIDEST,
    PowerEMA,
    Snapshot,
    combination,
    gram,
    missed,
    power_decay,
    power_of,
    reconstruct,
    relative_width,
)

F64 = torch.float64


class Bag(nn.Module):
    """A module that is one row of weights and one counter."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.clone())
        self.register_buffer("seen", torch.tensor(0))


def impulses(n: int, sigma_rel: tuple[float, ...], stops: tuple[int, ...] = ()) -> tuple[PowerEMA, list[Snapshot]]:
    """Averages after iterates e_1, ..., e_n (entry k - 1 is the weight of iterate k), and snapshots on the way."""
    iterates = torch.eye(n, dtype=F64)
    bag = Bag(torch.zeros(n, dtype=F64))
    ema, stored = PowerEMA(bag, sigma_rel), []
    for k, iterate in enumerate(iterates, start=1):
        bag.weights.data.copy_(iterate)
        bag.seen.fill_(k)
        ema.update(bag)
        if k in stops:
            stored += ema.snapshots()
    return ema, stored


def mass(n: int, gamma: float) -> Tensor:
    """The profile's integral over each (k - 1, k], by quadrature at 30 digits."""
    with mpmath.workdps(30):
        density = lambda tau: (gamma + 1) * (tau / n) ** gamma / n  # noqa: E731
        return torch.tensor([float(mpmath.quad(density, [k - 1, k])) for k in range(1, n + 1)], dtype=F64)


def test_every_profile_is_its_integral_over_each_update() -> None:
    ema, _ = impulses(30, (0.05, 0.10, 0.25))
    for stored in ema.snapshots():
        torch.testing.assert_close(stored.weights["weights"], mass(30, stored.gamma), rtol=1e-9, atol=1e-14)
        assert stored.weights["seen"].item() == 30


@pytest.mark.parametrize("gamma", [0.0, 0.7, 6.94, 16.97])
def test_the_width_is_the_standard_deviation_of_the_profile(gamma: float) -> None:
    n = 20_000
    k = torch.arange(n + 1, dtype=F64)
    share = ((k / n) ** (gamma + 1)).diff()
    when = (k[1:] - 0.5) / n
    variance = (share * when**2).sum() - (share * when).sum() ** 2
    assert float(relative_width(torch.tensor(gamma, dtype=F64))) == pytest.approx(float(variance.sqrt()), rel=1e-6)


@pytest.mark.parametrize("sigma_rel, gamma", [(0.05, 16.97), (0.10, 6.94), (WIDEST, 0.0)])
def test_powers_of_widths_are_those_the_paper_prints(sigma_rel: float, gamma: float) -> None:
    """Karras et al. 2024, section 3.1: gamma = 16.97 and 6.94 for 5 % and 10 %."""
    assert power_of(sigma_rel) == pytest.approx(gamma, abs=5e-3)


@pytest.mark.parametrize("sigma_rel", [0.001, 0.03, 0.2, WIDEST])
def test_power_of_inverts_the_width(sigma_rel: float) -> None:
    gamma = torch.tensor(power_of(sigma_rel), dtype=F64)
    assert float(relative_width(gamma)) == pytest.approx(sigma_rel, rel=1e-12)


def test_decay_is_the_ratio_of_masses_far_out_too() -> None:
    t = torch.tensor([2.0, 1e6, 1e12], dtype=F64)
    with mpmath.workdps(50):
        wanted = [float(1 - (1 - 1 / mpmath.mpf(v)) ** 8) for v in t.tolist()]
    kept = power_decay(t, torch.tensor(7.0, dtype=F64))
    torch.testing.assert_close(kept, 1 - torch.tensor(wanted, dtype=F64), rtol=1e-15, atol=0)


def test_inner_products_are_integrals_in_either_order() -> None:
    gamma, t = torch.tensor([6.94, 2.0], dtype=F64), torch.tensor([3.0, 5.0], dtype=F64)

    def profile(i: int, tau: float) -> float:
        g, end = float(gamma[i]), float(t[i])
        return (g + 1) / end * (tau / end) ** g

    got = gram(gamma, t, gamma, t)
    for i in range(2):
        for j in range(2):
            wanted = mpmath.quad(
                lambda tau, i=i, j=j: profile(i, tau) * profile(j, tau), [0, min(float(t[i]), float(t[j]))]
            )
            assert float(got[i, j]) == pytest.approx(float(wanted), rel=1e-12)


def test_a_stored_profile_comes_back_exactly() -> None:
    ema, stored = impulses(60, (0.05, 0.10), stops=(30, 60))
    for i, sigma_rel in enumerate((0.05, 0.10)):
        for updates, snapshot in ((30, stored[i]), (60, stored[2 + i])):
            mixed = reconstruct(stored, sigma_rel, updates)
            torch.testing.assert_close(mixed["weights"], snapshot.weights["weights"], rtol=0, atol=1e-11)
    assert reconstruct(stored, 0.05)["seen"].item() == 60
    assert ema.averages[0].updates == 60


@pytest.mark.parametrize("sigma_rel", [0.04, 0.07, 0.15, 0.25])
def test_two_snapshots_miss_another_profile_by_what_theory_says(sigma_rel: float) -> None:
    """At one time the squared misfit relative to the profile is the product of ((g - g_i)/(g + g_i + 1))^2."""
    n = 4000
    gammas = torch.tensor([power_of(0.05), power_of(0.10)], dtype=F64)
    wanted = torch.tensor(power_of(sigma_rel), dtype=F64)
    shares = combination(gammas, torch.full((2,), float(n), dtype=F64), float(wanted), float(n))
    edges = torch.arange(n + 1, dtype=F64) / n
    stored = torch.stack([(edges ** (g + 1)).diff() for g in gammas])
    target = (edges ** (wanted + 1)).diff()
    misfit = float(((shares @ stored - target) ** 2).sum() / (target**2).sum())
    assert misfit == pytest.approx(float(missed(wanted, *gammas)), rel=2e-3)
    for move in torch.eye(2, dtype=F64) * 1e-3:  # and no other weights come nearer
        for sign in (-1, 1):
            assert float((((shares + sign * move) @ stored - target) ** 2).sum() / (target**2).sum()) > misfit


def test_many_snapshots_are_combined_as_by_least_squares() -> None:
    """Sixteen snapshots of two profiles: NumPy finds the same combination of the discretised profiles, a near one."""
    n, powers = 4000, (power_of(0.05), power_of(0.10))
    gamma = torch.tensor([g for g in powers for _ in range(8)], dtype=F64)
    t = torch.arange(1, 9, dtype=F64).repeat(2) * n / 8
    edges = torch.arange(n + 1, dtype=F64)
    stored = torch.stack([((edges / end).clamp(max=1) ** (g + 1)).diff() for g, end in zip(gamma, t, strict=True)])
    target = ((edges / n) ** (power_of(0.07) + 1)).diff()
    mixed = combination(gamma, t, power_of(0.07), float(n)) @ stored
    nearest = stored.T.numpy() @ np.linalg.lstsq(stored.T.numpy(), target.numpy(), rcond=None)[0]
    torch.testing.assert_close(mixed, torch.from_numpy(nearest), rtol=0, atol=1e-3 * float(target.max()))
    assert float((mixed - target).norm() / target.norm()) < 0.02
    assert float(mixed.sum()) == pytest.approx(1, abs=2e-3)
    two = combination(gamma[7::8], t[7::8], power_of(0.07), float(n)) @ stored[7::8]
    assert float((two - target).norm()) > 2 * float((mixed - target).norm())


def test_float32_networks_come_back_in_float32() -> None:
    bag = Bag(torch.full((3,), 2.0))
    ema = PowerEMA(bag)
    ema.update(bag)
    mixed = reconstruct(ema.snapshots(), 0.05)
    assert mixed["weights"].dtype == torch.float32
    assert mixed["weights"].tolist() == pytest.approx([2.0] * 3, rel=1e-6)


def test_it_goes_on_from_a_saved_state() -> None:
    def run(stop: int | None) -> Tensor:
        g = torch.Generator().manual_seed(1)
        bag = Bag(torch.randn(5, generator=g))
        ema = PowerEMA(bag)
        for k in range(20):
            if k == stop:
                saved = ema.state_dict()
                ema = PowerEMA(Bag(torch.zeros(5)))
                ema.load_state_dict(saved)
            bag.weights.data.copy_(torch.randn(5, generator=g))
            ema.update(bag)
        return torch.stack([s.weights["weights"] for s in ema.snapshots()])

    assert torch.equal(run(None), run(11))


def test_a_snapshot_is_no_alias() -> None:
    bag = Bag(torch.ones(2))
    ema = PowerEMA(bag)
    ema.update(bag)
    stored = ema.snapshots()
    bag.weights.data.fill_(9.0)
    ema.update(bag)
    assert stored[0].weights["weights"].tolist() == [1.0, 1.0]


def test_bad_input_is_refused() -> None:
    bag = Bag(torch.ones(2))
    for width in (0.0, -1.0, 0.3, math.nan):
        with pytest.raises(ValueError, match=r"sigma_rel = .*expected 0 < sigma_rel"):
            power_of(width)
    with pytest.raises(ValueError, match="different relative widths"):
        PowerEMA(bag, (0.1, 0.1))
    with pytest.raises(ValueError, match="no update yet"):
        PowerEMA(bag).snapshots()
    with pytest.raises(ValueError, match="no snapshots"):
        reconstruct([], 0.1)
    with pytest.raises(ValueError, match="a state of 1 profiles for 2"):
        PowerEMA(bag).load_state_dict(PowerEMA(bag, (0.1,)).state_dict())
    ema = PowerEMA(bag)
    ema.update(bag)
    for updates in (0, -5):
        with pytest.raises(ValueError, match=f"updates = {updates}, expected 1 or more"):
            reconstruct(ema.snapshots(), 0.1, updates)
    with pytest.raises(ValueError, match="not independent"):
        reconstruct([*ema.snapshots(), *ema.snapshots()], 0.1)
