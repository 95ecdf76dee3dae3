r"""What stands around a network so that every noise level and every kind of prediction is equally easy for it.

    none   the network's output is the prediction: the convention of diffusers' models and schedulers
    unit   prediction = r F(x_t / s, t), with target = a x_0 + b eps and data of variance std^2,
               s = sqrt(alpha^2 std^2 + sigma^2),    r = sqrt(a^2 std^2 + b^2),
           so that F's input and its target have unit variance at any noise level, VE's included
    edm    x0 = c_skip x + c_out F(c_in x, c_noise) at x = x_t/alpha, level sigma/alpha (Karras et al. 2022, table 1)

The weight `unit` of a recipe makes the loss the plain squared error of F itself, whatever F's error is multiplied by.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion import edm
from diffusion.parameterization import row
from diffusion.schedules import Kernel, Schedule
from diffusion.shapes import per_sample


class UnitVariance(nn.Module):
    """r F(x_t / s, t): the network F between scales that bring its input and target to unit variance."""

    def __init__(self, network: nn.Module, schedule: Schedule, kind: str, std: float) -> None:
        super().__init__()
        self.network, self.schedule, self.kind, self.std = network, schedule, kind, std

    def forward(self, x: Tensor, t: Tensor, *told: Tensor) -> Tensor:
        if t.ndim == 1 and t.stride(0) == 0:
            t = t[0]  # one time, expanded for the batch: its features need computing only once
        kernel = self.schedule.kernel(t)
        s, r = torch.hypot(self.std * kernel.alpha, kernel.sigma), target_std(self.kind, self.std, kernel)
        return per_sample(r, x) * self.network(x / per_sample(s, x), t, *told)


class Preconditioned(nn.Module):
    """EDM's denoiser, for any schedule; the network is called with c_noise in t's place."""

    def __init__(self, network: nn.Module, schedule: Schedule, std: float) -> None:
        super().__init__()
        self.network, self.schedule, self.std = network, schedule, std

    def forward(self, x: Tensor, t: Tensor, *told: Tensor) -> Tensor:
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        denoised = edm.preconditioned(lambda y, c_noise: self.network(y, c_noise, *told), self.std)
        return denoised(x / per_sample(alpha, x), sigma / alpha)


def target_std(kind: str, std: float, kernel: Kernel) -> Tensor:
    """r, the target's standard deviation; shape of the kernel's values."""
    a, b = row(kind, *kernel)
    return torch.hypot(std * a, b)


def around(network: nn.Module, preconditioning: str, schedule: Schedule, kind: str, std: float) -> nn.Module:
    """The network with its preconditioning: (x_t, t, *told) -> a prediction of `kind`."""
    if preconditioning == "unit":
        return UnitVariance(network, schedule, kind, std)
    return Preconditioned(network, schedule, std) if preconditioning == "edm" else network


def unit_weight(preconditioning: str, kind: str, std: float, kernel: Kernel) -> Tensor:
    """1 / (what an error of F is multiplied by in the prediction)^2; without preconditioning, by the target's size."""
    edms = preconditioning == "edm"
    return (edm.c_out(kernel.sigma / kernel.alpha, std) if edms else target_std(kind, std, kernel)) ** -2
