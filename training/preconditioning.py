r"""What stands around a network so that every noise level and every kind of prediction is equally easy for it.

    none   the network's output is the prediction: the convention of diffusers' models and schedulers
    unit   prediction = r F(x_t / s, t), with target = a x_0 + b eps and data of variance std^2,
               s = sqrt(alpha^2 std^2 + sigma^2),    r = sqrt(a^2 std^2 + b^2),
           so that F's input and its target have unit variance at any noise level, VE's included
    edm    x0 = c_skip x + c_out F(c_in x, c_noise) at x = x_t/alpha, level sigma/alpha (Karras et al. 2022, table 1)

`scale` is what F's error is multiplied by in the prediction; the weight `unit` of a recipe, the plain squared error of
F itself, divides by its square.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion import edm
from diffusion.parameterization import row
from diffusion.schedules import Schedule
from diffusion.shapes import per_sample


class UnitVariance(nn.Module):
    """r F(x_t / s, t): the network F between scales that bring its input and target to unit variance."""

    def __init__(self, network: nn.Module, schedule: Schedule, kind: str, std: float) -> None:
        super().__init__()
        self.network, self.schedule, self.kind, self.std = network, schedule, kind, std

    def forward(self, x: Tensor, t: Tensor, *told: Tensor) -> Tensor:
        if t.ndim == 1 and t.stride(0) == 0:
            t = t[0]  # one time, expanded for the batch: its features need computing only once
        s = torch.hypot(self.std * self.schedule.alpha(t), self.schedule.sigma(t))
        r = target_std(self.schedule, self.kind, self.std, t)
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


def target_std(schedule: Schedule, kind: str, std: float, t: Tensor) -> Tensor:
    """r, the target's standard deviation at t; shape of t."""
    a, b = row(kind, *schedule.kernel(t))
    return torch.hypot(std * a, b)


def around(network: nn.Module, preconditioning: str, schedule: Schedule, kind: str, std: float) -> nn.Module:
    """The network with its preconditioning: (x_t, t, *told) -> a prediction of `kind`."""
    if preconditioning == "unit":
        return UnitVariance(network, schedule, kind, std)
    return Preconditioned(network, schedule, std) if preconditioning == "edm" else network


def scale(preconditioning: str, schedule: Schedule, kind: str, std: float, t: Tensor) -> Tensor:
    """What an error of F is multiplied by in the prediction; without preconditioning, the target's own size."""
    if preconditioning == "edm":
        return edm.c_out(schedule.sigma(t) / schedule.alpha(t), std)
    return target_std(schedule, kind, std, t)
