"""The denoiser: the network sees times as in training, and the conversion does not lose a time's digits."""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion.model import denoiser
from diffusion.schedules import flow


def test_the_network_sees_one_time_for_each_sample_in_the_dtype_of_x() -> None:
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x * t[:, None]

    x = torch.ones(4, 3)
    for t in (torch.tensor(0.5, dtype=torch.float64), torch.linspace(0.2, 0.8, 4, dtype=torch.float64)):
        estimate = denoiser(network, flow(), "x0")(x, t)
        assert seen[-1].dtype == estimate.dtype == torch.float32
        torch.testing.assert_close(seen[-1], t.float().expand(4), rtol=0, atol=0)
        torch.testing.assert_close(estimate, seen[-1][:, None].expand(4, 3), rtol=0, atol=0)


def test_coefficients_keep_the_digits_of_a_float64_time() -> None:
    """alpha = 1 - t = 2^-30 at this t, which is 1 in float32: no signal would be left to divide by."""
    t = torch.tensor(1 - 2**-30, dtype=torch.float64)
    estimate = denoiser(lambda x, t: torch.zeros_like(x), flow(), "eps")(torch.ones(2, 2), t)
    torch.testing.assert_close(estimate, torch.full((2, 2), 2.0**30), rtol=1e-6, atol=0)
