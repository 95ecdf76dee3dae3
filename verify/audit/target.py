r"""What an audit needs of somebody's sampler: a chain, its noising, and samples by the exact denoiser.

A chain has T steps, beta_1 .. beta_T, alpha_bar_k their running product of 1 - beta; step k = 1 .. T has

    x_k = alpha_k x_0 + sigma_k eps,        alpha_k = sqrt(alpha_bar_k),  sigma_k = sqrt(1 - alpha_bar_k).

Libraries count from 0: their timestep is k - 1. The audit counts steps, an adapter translates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from torch import Generator, Tensor

from diffusion.schedules import Schedule
from diffusion.solvers import Table

Denoise = Callable[[Tensor, int], Tensor]
"""(x_k, k) -> E[x_0 | x_k]."""

Kind = Literal["eps", "x0", "v"]


class Unfit(ValueError):
    """A sampler has no such setting, or is none that a contract speaks of: not a failure."""


class Target(Protocol):
    """A sampler of one chain."""

    @property
    def name(self) -> str:
        """Which it is, for the report."""

    @property
    def betas(self) -> Tensor:
        """beta_1 .. beta_T, float64: what it was told, or made of what it was told."""

    @property
    def alpha_bars(self) -> Tensor:
        """alpha_bar_1 .. alpha_bar_T as it uses them."""

    @property
    def table(self) -> Callable[[Schedule, Tensor], Table] | None:
        """The sampler of diffusion/solvers.py that each of its steps should be, if it is one of those."""

    @property
    def order(self) -> int:
        """The order of convergence that it states."""

    def steps(self, n: int) -> list[float]:
        """The steps k at which it calls the network, in n steps."""

    def noised(self, x_0: Tensor, eps: Tensor, k: int) -> Tensor:
        """x_k."""

    def sample(
        self, denoise: Denoise, x: Tensor, n: int, kind: Kind | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Its n steps from x at its first step to the end, by a network that predicts `kind` (its own)."""

    def step(self, x: Tensor, denoised: Tensor, n: int, i: int, generator: Generator) -> Tensor:
        """The i-th of n steps by itself, from x and the network's x_0. Unfit for one that remembers others."""

    def clipped(self) -> Sequence[str]:
        """Its settings that change a prediction of x_0."""
