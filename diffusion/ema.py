"""Exponential moving average of a network's weights, with its impulse response stated.

After update k the average is  m_k = d_k m_(k-1) + (1 - d_k) theta_k,  with

    d_k = min(decay, (1 - 1/k)^(gamma + 1)).

While the second is the smaller (the warm-up) this is the power-function average of Karras et al. 2024, eq. 1-3: after n
updates the first k iterates together carry the weight (k/n)^(gamma + 1), the initial weights carry none (d_1 = 0), and
the profile keeps its shape as n grows. From then on it is the exponential with time constant 1/(1 - decay) updates.
`decay = 1` keeps the power function for good; `gamma = None` drops the warm-up: d_k = decay from the first update on.
Several profiles at once, and others made of them after training, are `diffusion.ema_profiles`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from diffusion.binding import unproved


class EMA:
    """Averages the parameters of a module; buffers are copied. The average starts at the module's present weights."""

    def __init__(self, module: nn.Module, decay: float = 0.999, gamma: float | None = 6.94) -> None:
        if not 0 <= decay <= 1 or (decay == 1 and gamma is None):
            raise ValueError(f"decay = {decay}, gamma = {gamma}: decay lies in [0, 1), or is 1 with a gamma")
        if gamma is not None and gamma <= -1:
            raise ValueError(f"gamma = {gamma}: the warm-up's power must lie above -1")
        self.decay = decay
        self.gamma = gamma
        self.updates = 0
        self.average: dict[str, Tensor] = {name: _wide(tensor) for name, tensor in module.state_dict().items()}

    def decay_at(self, k: int) -> float:
        """d_k, k = 1, 2, ..."""
        if k < 1:
            raise ValueError(f"updates are counted from 1; got k = {k}")
        return self.decay if self.gamma is None else min(self.decay, (1 - 1 / k) ** (self.gamma + 1))

    @unproved("a running product; tested against the average of impulses")
    def response(self, n: int) -> Tensor:
        """Weights of the initial value and of iterates 1..n in the average after n updates: float64 [n + 1], sum 1."""
        decays = torch.tensor([0.0, *(self.decay_at(k) for k in range(1, n + 1))], dtype=torch.float64)
        survives = torch.cat([decays[1:].flip(0).cumprod(0).flip(0), decays.new_ones(1)])
        return (1 - decays) * survives

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's present weights as the next iterate."""
        self.updates += 1
        keep = self.decay_at(self.updates)
        state = module.state_dict()
        _check_names(state, self.average)
        averaged = [name for name, tensor in self.average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [self.average[name] for name in averaged],
            [state[name].to(self.average[name]) for name in averaged],
            1 - keep,
        )
        for name in self.average.keys() - averaged:
            self.average[name].copy_(state[name])

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Write the average into a module of the same architecture."""
        state = module.state_dict()
        _check_names(state, self.average)
        for name, tensor in state.items():
            tensor.copy_(self.average[name])

    def state_dict(self) -> dict[str, Any]:
        """What must be saved to go on: the count of updates and the average."""
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        _check_names(state["average"], self.average)
        self.updates = int(state["updates"])
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])


def _wide(tensor: Tensor) -> Tensor:
    """A copy, in float32 at least: a bfloat16 average would lose updates smaller than 1/256 of it."""
    wide = torch.promote_types(tensor.dtype, torch.float32) if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(wide, copy=True)


def _check_names(given: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    wrong = {name for name in given.keys() | expected.keys() if name not in given or name not in expected}
    wrong |= {name for name in given.keys() & expected.keys() if given[name].shape != expected[name].shape}
    if wrong:
        raise ValueError(f"the average is of another network: {sorted(wrong)[0]!r} is missing or of another shape")
