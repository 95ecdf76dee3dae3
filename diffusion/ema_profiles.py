r"""Averages of a network's weights under several power-function profiles at once, and any other profile afterwards.

The average at time t weighs the iterate at time tau by the profile (gamma + 1)/t (tau/t)^gamma, a density over (0, t)
whose standard deviation over t is its relative width,

    sigma_rel = sqrt(gamma + 1)/((gamma + 2) sqrt(gamma + 3)).

After update k with decay (1 - 1/k)^(gamma + 1) iterate k of n weighs (k/n)^(gamma + 1) - ((k - 1)/n)^(gamma + 1): the
profile's mass on (k - 1, k], exactly. Profiles stored along the way span others: the combination of snapshots nearest
to a wanted profile in the mean square is found from their inner products alone, after training.

Source: Karras et al. 2024 (EDM2), section 3 and appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from diffusion.binding import formula, unproved
from diffusion.ema import EMA

WIDEST = 1 / math.sqrt(12)  # gamma = 0: all iterates alike


@formula("edm.power_function_ema.decay")
def power_decay(t: Tensor, gamma: Tensor) -> Tensor:
    """(1 - 1/t)^(gamma + 1): what the average keeps of itself at update t > 1."""
    return torch.exp((gamma + 1) * torch.log1p(-1 / t))


@formula("edm.relative_width.width")
def relative_width(gamma: Tensor) -> Tensor:
    """sqrt(gamma + 1)/((gamma + 2) sqrt(gamma + 3)): the profile's standard deviation over t; falls with gamma."""
    return torch.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


@formula("edm.profile_product.product")
def profile_product(t: Tensor, later: Tensor, gamma_1: Tensor, gamma_2: Tensor) -> Tensor:
    """Inner product of profile gamma_1 at time t with profile gamma_2 at time t + later, per unit time."""
    end = t + later
    share = torch.exp(-gamma_2 * torch.log1p(later / t))  # (t / end)^gamma_2
    return (gamma_1 + 1) * (gamma_2 + 1) / (gamma_1 + gamma_2 + 1) * share / end


@formula("edm.post_hoc_error.missed")
def missed(gamma: Tensor, gamma_1: Tensor, gamma_2: Tensor) -> Tensor:
    """|p - w_1 p_1 - w_2 p_2|^2/|p|^2 of the best weights, all profiles at one time: 0 for a stored profile."""
    return (((gamma - gamma_1) / (gamma + gamma_1 + 1)) * ((gamma - gamma_2) / (gamma + gamma_2 + 1))) ** 2


def power_of(sigma_rel: float) -> float:
    """The gamma >= 0 of a relative width, by bisection; ValueError outside 0 < sigma_rel <= 1/sqrt(12)."""
    if not 0 < sigma_rel <= WIDEST:
        raise ValueError(f"power_of: sigma_rel = {sigma_rel}, expected 0 < sigma_rel <= {WIDEST:.4f} (all alike)")
    low, high = 0.0, 1 / sigma_rel  # width < 1/(gamma + 2)
    for _ in range(100):
        middle = (low + high) / 2
        wider = math.sqrt((middle + 1) / (middle + 3)) / (middle + 2) > sigma_rel
        low, high = (middle, high) if wider else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Snapshot:
    """An average as it stood: its profile's power, the number of updates it has seen, its weights."""

    gamma: float
    updates: int
    weights: dict[str, Tensor]


class PowerEMA:
    """Averages of one module under several profiles, given by their relative widths (EDM2 stores 0.05 and 0.10)."""

    def __init__(self, module: nn.Module, sigma_rel: Sequence[float] = (0.05, 0.10)) -> None:
        if len(set(sigma_rel)) != len(sigma_rel) or not sigma_rel:
            raise ValueError(f"PowerEMA: sigma_rel = {list(sigma_rel)}, expected different relative widths")
        self.averages = tuple(EMA(module, decay=1.0, gamma=power_of(width)) for width in sigma_rel)

    def update(self, module: nn.Module) -> None:
        """Take in the module's present weights as the next iterate, in every average."""
        for ema in self.averages:
            ema.update(module)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """Copies of all averages as they stand, for `reconstruct`; ValueError before the first update."""
        if not self.averages[0].updates:
            raise ValueError("PowerEMA.snapshots: no update yet, so there is no profile to store")
        return tuple(
            Snapshot(ema.gamma or 0.0, ema.updates, {name: w.clone() for name, w in ema.average.items()})
            for ema in self.averages
        )

    def state_dict(self) -> list[dict[str, object]]:
        """What must be saved to go on, one entry for each profile."""
        return [ema.state_dict() for ema in self.averages]

    def load_state_dict(self, state: list[dict[str, object]]) -> None:
        """Go on from a saved state."""
        if len(state) != len(self.averages):
            raise ValueError(f"PowerEMA: a state of {len(state)} profiles for {len(self.averages)}")
        for ema, saved in zip(self.averages, state, strict=True):
            ema.load_state_dict(saved)


@unproved("profile_product, whose arguments are ordered so that the earlier profile comes first")
def gram(
    gamma: Float64[Tensor, " n"], t: Float64[Tensor, " n"], other: Float64[Tensor, " m"], at: Float64[Tensor, " m"]
) -> Float64[Tensor, "n m"]:
    """Inner products of profiles (gamma_i, t_i) with profiles (other_j, at_j)."""
    gamma, t, other, at = (v.double() for v in (gamma[:, None], t[:, None], other[None], at[None]))
    first = t <= at
    early, late = torch.where(first, gamma, other), torch.where(first, other, gamma)
    return profile_product(torch.minimum(t, at), (t - at).abs(), early, late)


@unproved("a least-squares solution: edm.post_hoc_ema has it for two profiles, this for any number")
def combination(
    gamma: Float64[Tensor, " n"], t: Float64[Tensor, " n"], wanted: float, at: float
) -> Float64[Tensor, " n"]:
    """Weights on n stored profiles (gamma_i, t_i) whose sum is nearest to profile `wanted` at time `at`, alg. 3.

    They add up to nearly one, not exactly. ValueError where the stored profiles are not independent (one stored twice).
    """
    stored = gram(gamma, t, gamma, t)
    size = stored.diagonal().sqrt()
    target = gram(gamma, t, gamma.new_tensor([wanted]), gamma.new_tensor([at]))[:, 0]
    factor, failed = torch.linalg.cholesky_ex(stored / size[:, None] / size)
    if int(failed):
        raise ValueError(
            f"combination: {len(gamma)} stored profiles (powers {gamma.tolist()[:6]}, times {t.tolist()[:6]}) are not "
            "independent in float64; leave out those that nearly repeat another"
        )
    return torch.cholesky_solve((target / size)[:, None], factor)[:, 0] / size


def reconstruct(snapshots: Sequence[Snapshot], sigma_rel: float, updates: int | None = None) -> dict[str, Tensor]:
    """The average of relative width sigma_rel after `updates` updates (by default the last), from stored snapshots.

    Exact for a stored profile; for others near, as `missed` says. Weights are summed in float64; what is no number of
    floating point (a counter) is taken from the last snapshot.
    """
    if not snapshots:
        raise ValueError("reconstruct: no snapshots")
    last = max(snapshots, key=lambda snapshot: snapshot.updates)
    at = last.updates if updates is None else updates
    if at < 1:
        raise ValueError(f"reconstruct: updates = {updates}, expected 1 or more; before the first there is no average")
    gamma, t = (torch.tensor([getattr(s, f) for s in snapshots], dtype=torch.float64) for f in ("gamma", "updates"))
    shares = combination(gamma, t, power_of(sigma_rel), float(at)).tolist()
    mixed = {}
    for name, tensor in last.weights.items():
        if tensor.is_floating_point():
            parts = (share * s.weights[name].double() for share, s in zip(shares, snapshots, strict=True))
            mixed[name] = torch.stack(list(parts)).sum(0).to(tensor)
        else:
            mixed[name] = tensor.clone()
    return mixed
