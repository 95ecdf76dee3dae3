"""Grids: the times a sampler visits, n + 1 strictly decreasing float64 values for n steps.

Grids for continuous schedules run from `start` (default 1, pure noise) to `end`. Grids uniform in log(alpha/sigma) or
in a power of sigma/alpha need finite values at both ends; to go on to clean data, append a jump to 0.

Grids for a chain of T steps (`linspace`, `leading`, `trailing`) choose n of the times t_k = k/T, k = 1..T, and end at
0: how models trained on T = 1000 steps are sampled in fewer (Lin et al. 2024, table 2). In the literature's 0-based
count of timesteps, k = timestep + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction

import torch
from jaxtyping import Float64
from torch import Tensor

from diffusion.binding import unproved
from diffusion.schedules import Schedule

_CHOICE = unproved("a choice of points; checked by enumeration, its rounding by schedule.rounding")


def _interval(n: int, start: float, end: float) -> None:
    if n < 1:
        raise ValueError(f"n: got {n} steps, expected at least 1")
    if not 0 <= end < start <= 1:
        raise ValueError(f"start, end: got {start}, {end}, expected 0 <= end < start <= 1")


@_CHOICE
def uniform(n: int, start: float = 1.0, end: float = 0.0) -> Float64[Tensor, " n+1"]:
    """Times at equal distances."""
    _interval(n, start, end)
    return torch.linspace(start, end, n + 1, dtype=torch.float64)


def _in_coordinate(
    n: int, start: float, end: float, coordinate: Callable[[Tensor], Tensor], time_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """Equal distances in coordinate(t), with both ends exactly as given."""
    _interval(n, start, end)
    ends = coordinate(torch.tensor([start, end], dtype=torch.float64))
    if not ends.isfinite().all():
        raise ValueError(
            f"start, end: at times {start}, {end} this grid's coordinate is {ends.tolist()}; "
            "choose ends inside (0, 1), and append 0 for a jump to clean data"
        )
    inner = time_of(torch.linspace(ends[0].item(), ends[1].item(), n + 1, dtype=torch.float64)[1:-1])
    first, last = torch.tensor([[start], [end]], dtype=torch.float64)
    return torch.cat([first, inner, last])


@_CHOICE
def log_snr(schedule: Schedule, n: int, start: float = 1.0, end: float = 1e-3) -> Float64[Tensor, " n+1"]:
    """Times at equal distances in half_log_snr = log(alpha/sigma)."""
    return _in_coordinate(n, start, end, schedule.half_log_snr, schedule.time_of)


@_CHOICE
def karras(
    schedule: Schedule, n: int, start: float = 1.0, end: float = 1e-3, rho: float = 7.0
) -> Float64[Tensor, " n+1"]:
    """Times at equal distances in (sigma/alpha)^(1/rho), dense near the data (Karras et al. 2022, eq. 5)."""
    if not rho > 0:
        raise ValueError(f"rho: got {rho}, expected a positive exponent")
    return _in_coordinate(
        n,
        start,
        end,
        lambda t: torch.exp(-schedule.half_log_snr(t) / rho),
        lambda c: schedule.time_of(-rho * c.log()),
    )


def _of_chain(T: int, n: int, chosen: Callable[[], Iterable[int]]) -> Tensor:
    if not 1 <= n <= T:
        raise ValueError(f"n: got {n} steps of a chain of T = {T}, expected 1 <= n <= T")
    return torch.tensor([*chosen(), 0], dtype=torch.float64) / T


@_CHOICE
def linspace(T: int, n: int) -> Float64[Tensor, " n+1"]:
    """From k = T to k = 1 at equal distances, rounded, then 0; a single step starts at T. ValueError for n > T."""
    return _of_chain(T, n, lambda: (1 + round(Fraction((n - 1 - i) * (T - 1), n - 1)) if i else T for i in range(n)))


@_CHOICE
def leading(T: int, n: int, offset: int = 0) -> Float64[Tensor, " n+1"]:
    """k = 1 + offset + i * (T // n), then 0: equal strides from below, which leave out the chain's noisy end.

    ValueError when the largest k would exceed T (offset = 1 with n = T).
    """
    grid = _of_chain(T, n, lambda: (1 + offset + i * (T // n) for i in reversed(range(n))))
    if offset < 0 or grid[0] > 1:
        raise ValueError(f"offset: got {offset}; with n = {n}, T = {T} the grid would leave the chain's times 1..T")
    return grid


@_CHOICE
def trailing(T: int, n: int) -> Float64[Tensor, " n+1"]:
    """k = T, T - T/n, T - 2T/n, ..., rounded, then 0: equal strides from above, so that the noisy end is visited.

    In whole numbers: a floating-point stride T/n that was rounded down fits once more before 0 (T = 1000, n = 61).
    """
    return _of_chain(T, n, lambda: (round(Fraction((n - i) * T, n)) for i in range(n)))
