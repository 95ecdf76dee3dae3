"""Denoising losses: one squared error, in any parameterization, under any weight.

    loss(t) = w_kind(t) ||prediction - target||^2

A weight is a statement about one parameterization and about time. To say it in another, divide by how much that one
amplifies an error (d_kind = alpha b - sigma a, see parameterization):

    w_kind = w_on (d_on / d_kind)^2

and to say it for times drawn uniformly in t, multiply a weight that is meant per unit of half_log_snr by
-half_log_snr'. Only weight x density of times matters; both are written here for t uniform on [0, 1].

| weight        | on  | per          | w(h), h = half_log_snr, SNR = e^(2h) | source                        |
| ------------- | --- | ------------ | ------------------------------------ | ----------------------------- |
| plain         | the network's own kind | time | 1                         |                               |
| simple        | eps | time         | 1                                    | Ho et al. 2020, eq. 14        |
| elbo          | eps | half_log_snr | 1: the bound itself, in nats         | Kingma et al. 2021, eq. 15    |
| min_snr       | x0  | time         | min(SNR, gamma)                      | Hang et al. 2023, eq. 8       |
| truncated_snr | x0  | time         | max(SNR, 1)                          | Salimans & Ho 2022, section 4 |
| p2            | eps | time         | (k + SNR)^(-gamma)                   | Choi et al. 2022, eq. 8       |
| edm           | x0  | time         | SNR + 1 / sigma_data^2               | Karras et al. 2022, table 1   |
| sigmoid       | eps | half_log_snr | 1 / (1 + e^(2h - bias))              | Kingma & Gao 2023, section 4  |
| laplace       | eps | half_log_snr | exp(-abs(2h - mean) / scale) / scale | Hang et al. 2024, table 1     |

The papers' log-SNR is 2h: sigmoid's bias and laplace's mean and scale are on that scale, as printed there, and the
laplace density per unit of log-SNR, exp(-abs(2h - mean)/scale) / (2 scale), doubles per unit of h.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from diffusion.binding import formula, unproved
from diffusion.parameterization import check_kind, determinant, row, target
from diffusion.schedules import Kernel, Scalar, Schedule, half_log_snr, half_log_snr_dot, number
from diffusion.shapes import per_sample, same_shape
from diffusion.types import Network


@unproved("w = 1: a constant")
def simple_weight(half_log_snr: Tensor) -> Tensor:
    """1."""
    return torch.ones_like(half_log_snr)


@formula("parameterization.min_snr.weight")
def min_snr_weight(half_log_snr: Tensor, gamma: Scalar) -> Tensor:
    """min(SNR, gamma)."""
    return torch.exp(2 * half_log_snr).clamp(max=gamma)


@formula("parameterization.truncated_snr.weight")
def truncated_snr_weight(half_log_snr: Tensor, floor: Scalar) -> Tensor:
    """max(SNR, floor)."""
    return torch.exp(2 * half_log_snr).clamp(min=floor)


@formula("parameterization.weight_p2.weight")
def p2_weight(half_log_snr: Tensor, gamma: Scalar, k: Scalar) -> Tensor:
    """(k + SNR)^(-gamma), through its logarithm: SNR itself may overflow."""
    log_k = torch.log(number(k, half_log_snr))
    log_sum = torch.maximum(log_k, 2 * half_log_snr) + torch.log1p(torch.exp(-abs(log_k - 2 * half_log_snr)))
    return torch.exp(-gamma * log_sum)


@formula("parameterization.weight_edm")
def edm_weight(half_log_snr: Tensor, sigma_data: Scalar) -> Tensor:
    """(s^2 + sigma_data^2) / (s sigma_data)^2 with s = sigma / alpha; that is SNR + 1 / sigma_data^2."""
    return torch.exp(2 * half_log_snr) + 1 / sigma_data**2


@formula("parameterization.weight_sigmoid.weight")
def sigmoid_weight(half_log_snr: Tensor, bias: Scalar) -> Tensor:
    """1 / (1 + e^(2 half_log_snr - bias))."""
    return torch.sigmoid(bias - 2 * half_log_snr)


@formula("parameterization.weight_laplace.weight")
def laplace_weight(half_log_snr: Tensor, mean: Scalar, scale: Scalar) -> Tensor:
    """Density of half_log_snr when the log-SNR is Laplace(mean, scale)."""
    return torch.exp(-abs(2 * half_log_snr - mean) / scale) / scale


@dataclass(frozen=True)
class Weight:
    """A weight as its paper states it: on which squared error, per unit of what, which function of half_log_snr."""

    on: str
    per: Literal["time", "half_log_snr"]
    value: Callable[..., Tensor]
    options: dict[str, float] = field(default_factory=dict)  # the function's further arguments, with their defaults


WEIGHTS: dict[str, Weight] = {
    "simple": Weight("eps", "time", simple_weight),
    "elbo": Weight("eps", "half_log_snr", simple_weight),
    "min_snr": Weight("x0", "time", min_snr_weight, {"gamma": 5.0}),
    "truncated_snr": Weight("x0", "time", truncated_snr_weight, {"floor": 1.0}),
    "p2": Weight("eps", "time", p2_weight, {"gamma": 1.0, "k": 1.0}),
    "edm": Weight("x0", "time", edm_weight, {"sigma_data": 0.5}),
    "sigmoid": Weight("eps", "half_log_snr", sigmoid_weight, {"bias": 0.0}),
    "laplace": Weight("eps", "half_log_snr", laplace_weight, {"mean": 0.0, "scale": 0.5}),
}
_ANY_SIGN = ("bias", "mean")  # every other option is a positive number
LOSS_WEIGHTS = ("plain", *WEIGHTS)


@formula("parameterization.error.ratio")
def error_ratio(d_source: Tensor, d_target: Tensor) -> Tensor:
    """(d_target / d_source)^2: what a squared error of the source is multiplied by when it is told in the target."""
    return (d_target / d_source) ** 2


@unproved("error_ratio of two bound determinants")
def amplification(source: str, target: str, kernel: Kernel) -> Tensor:
    """||error of target||^2 / ||error of source||^2, when a prediction of kind `source` is converted to `target`."""
    if source == target:
        check_kind(source)
        return torch.ones_like(kernel.alpha)
    d_source, d_target = (
        determinant(*row(kind, *kernel), alpha=kernel.alpha, sigma=kernel.sigma) for kind in (source, target)
    )
    return error_ratio(d_source, d_target)


@unproved("picks a bound weight and moves it to another parameterization")
def loss_weight(name: str, kind: str, kernel: Kernel, **options: float) -> Tensor:
    """Weight on the squared error of a prediction of `kind`, for t uniform on [0, 1]; shape of the kernel's values.

    `options` are the weight's own (gamma, floor, k, sigma_data, bias, mean, scale). Raises ValueError for an unknown
    name, and (on the CPU) where the weight is infinite: elbo at t = 0, say.
    """
    check_kind(kind)
    if name == "plain":
        return torch.ones_like(kernel.alpha)
    if name not in WEIGHTS:
        raise ValueError(f"unknown loss weight {name!r}: expected one of {', '.join(LOSS_WEIGHTS)}")
    weight = WEIGHTS[name]
    _check_options(name, weight.options, options)
    value = weight.value(half_log_snr(kernel.alpha, kernel.sigma), **weight.options | options)
    if weight.per == "half_log_snr":
        value = -half_log_snr_dot(*kernel) * value
    value = value * amplification(kind, weight.on, kernel)
    if value.device.type == "cpu" and not bool(value.isfinite().all()):
        raise ValueError(
            f"the {name} weight on {kind} is not finite at an end of the schedule: draw times further from it"
        )
    return value


@unproved("the network is arbitrary; target and weight are bound")
def denoising_loss(
    network: Network, schedule: Schedule, x0: Tensor, t: Tensor, eps: Tensor,
    kind: str = "eps", weight: str | Callable[[Kernel], Tensor] = "plain", **options: float,
) -> Tensor:  # fmt: skip
    """w_kind(t) mean over features of (network(x_t, t) - target)^2, one value for each sample: shape [batch].

    x0, eps: [batch, ...], eps ~ N(0, 1) drawn by the caller; t: [batch], drawn uniformly (or, with a density, divide).
    With weight "elbo" and t uniform, the expectation is the diffusion part of the bound in nats per feature. A weight
    of one's own is a function of the kernel's values.
    """
    same_shape(x0=x0, eps=eps)
    if t.shape != x0.shape[:1]:
        raise ValueError(f"t has shape {tuple(t.shape)}: expected one time for each of the {len(x0)} samples")
    kernel = schedule.kernel(t)
    x_t = per_sample(kernel.alpha, x0) * x0 + per_sample(kernel.sigma, eps) * eps
    wanted = target(kind, x0, eps, *kernel)
    w = weight(kernel) if callable(weight) else loss_weight(weight, kind, kernel, **options)
    prediction = network(x_t, t)
    same_shape(prediction=prediction, x_t=x_t)
    error = mse_loss(prediction, wanted, reduction="none").flatten(1).mean(1)
    return w.to(error) * error


def _check_options(name: str, known: dict[str, float], given: dict[str, float]) -> None:
    for option, value in given.items():
        if option not in known:
            raise TypeError(f"{name} takes {', '.join(known) or 'no option'}, not {option}")
        if not math.isfinite(value) or (value <= 0 and option not in _ANY_SIGN):
            raise ValueError(
                f"{name}: {option} = {value}, expected a {'' if option in _ANY_SIGN else 'positive '}number"
            )
