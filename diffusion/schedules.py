"""A schedule is one kernel: the scales alpha(t), sigma(t) and their time derivatives; all else follows by formula.

    x_t = alpha(t) x_0 + sigma(t) eps,        eps ~ N(0, 1),   t in [0, 1], data at t = 0, noise at t = 1

is the law of the linear SDE  dx = f x dt + g dW  with

    f            = alpha' / alpha                                          drift
    g^2          = (sigma^2)' - 2 f sigma^2  =  -2 sigma^2 half_log_snr'   diffusion, squared
    half_log_snr = log(alpha / sigma),  decreasing in t

| schedule  | alpha(t)                                    | sigma(t)                                            |
| --------- | ------------------------------------------- | --------------------------------------------------- |
| vp_linear | exp(-B/2)                                   | sqrt(1 - exp(-B))                                   |
| sub_vp    | exp(-B/2)                                   | 1 - exp(-B)                                         |
| cosine    | cos(pi t / 2)                               | sin(pi t / 2)                                       |
| flow      | 1 - t                                       | t                                                   |
| ve        | 1                                           | sigma_min (sigma_max / sigma_min)^t                 |
| edm       | 1                                           | ((1-t) sigma_min^(1/rho) + t sigma_max^(1/rho))^rho |
| discrete  | sqrt(alpha_bar), alpha_bar_k = prod (1 - beta_j) | sqrt(1 - alpha_bar)                            |

B(t) = integral of beta = t ((1 - t/2) beta_min + t/2 beta_max). ve and edm start at sigma(0) = sigma_min > 0, the
others at sigma(0) = 0. cosine, flow and a chain with beta_T = 1 end at alpha(1) = 0 exactly: no signal is left there.

Every function works in the dtype of t and keeps its relative precision at both ends: 1 - exp(-B) is -expm1(-B), and
cos(pi t / 2) is sin(pi (1 - t) / 2), which is 0 at t = 1 and not 6e-17. Values that are infinite in truth (sigma' of a
VP schedule at t = 0, f at alpha = 0) come out as infinities, never as NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from diffusion.binding import formula, unproved

TimeFunction = Callable[[Tensor], Tensor]
Scalar = Tensor | float
Value = TypeVar("Value")


@unproved("a conversion; it computes nothing")
def number(value: Scalar, like: Tensor) -> Tensor:
    """A number as a tensor of the dtype and on the device of another; an accelerator is not waited for."""
    return value.to(like) if isinstance(value, Tensor) else torch.full((), value, dtype=like.dtype, device=like.device)


# --- what follows from a kernel ---------------------------------------------------------------------------------------


@formula("schedule.diffusion_log_snr.half_log_snr")
def half_log_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    """log(alpha / sigma): +inf at sigma = 0, -inf at alpha = 0. The papers' log-SNR is twice this."""
    return torch.log(alpha / sigma)


@formula("schedule.diffusion_log_snr.half_log_snr_dot")
def half_log_snr_dot(alpha: Tensor, sigma: Tensor, alpha_dot: Tensor, sigma_dot: Tensor) -> Tensor:
    """d/dt log(alpha / sigma) = alpha'/alpha - sigma'/sigma, per unit time; negative."""
    return alpha_dot / alpha - sigma_dot / sigma


@formula("schedule.drift.f")
def drift(alpha: Tensor, alpha_dot: Tensor) -> Tensor:
    """f = alpha'/alpha, per unit time; -inf at alpha = 0."""
    return alpha_dot / alpha


@formula("schedule.diffusion.g2")
def diffusion2(alpha: Tensor, sigma: Tensor, alpha_dot: Tensor, variance_dot: Tensor) -> Tensor:
    """g^2 = (sigma^2)' - 2 f sigma^2, variance per unit time. Takes (sigma^2)', finite where sigma' is not."""
    return variance_dot - 2 * drift(alpha, alpha_dot) * sigma**2


# --- the schedule -----------------------------------------------------------------------------------------------------


class Kernel(NamedTuple):
    """The schedule at given times: what a parameterization needs to know of it. Each has the shape of t."""

    alpha: Tensor
    sigma: Tensor
    alpha_dot: Tensor
    sigma_dot: Tensor


@dataclass(frozen=True)
class Schedule:
    """Four functions of time t (a floating-point tensor, values in [0, 1]); methods give what follows from them.

    variance_dot, d(sigma^2)/dt, is given where sigma' is infinite though (sigma^2)' is not (VP at t = 0); otherwise it
    is 2 sigma sigma'. Every function refuses a time that is no floating-point tensor in [0, 1] (the range is looked at
    on the CPU only: an accelerator is not made to wait).
    """

    name: str
    alpha: TimeFunction
    sigma: TimeFunction
    alpha_dot: TimeFunction
    sigma_dot: TimeFunction
    variance_dot: TimeFunction | None = None
    kernel: Callable[[Tensor], Kernel] = field(init=False, repr=False, compare=False)
    """(alpha, sigma, alpha', sigma') at t, which is looked at once."""

    def __post_init__(self) -> None:
        four = self.alpha, self.sigma, self.alpha_dot, self.sigma_dot
        if self.variance_dot is None:
            object.__setattr__(self, "variance_dot", partial(_variance_dot, sigma=self.sigma, sigma_dot=self.sigma_dot))
        for name in ("alpha", "sigma", "alpha_dot", "sigma_dot", "variance_dot"):
            object.__setattr__(self, name, partial(_at_valid_time, function=getattr(self, name)))
        kernel = partial(_at_valid_time, function=lambda t: Kernel(*(function(t) for function in four)))
        object.__setattr__(self, "kernel", kernel)

    def half_log_snr(self, t: Tensor) -> Tensor:
        """log(alpha / sigma) at t, decreasing."""
        return half_log_snr(self.alpha(t), self.sigma(t))

    def half_log_snr_dot(self, t: Tensor) -> Tensor:
        """d/dt log(alpha / sigma) at t, negative."""
        return half_log_snr_dot(*self.kernel(t))

    def drift(self, t: Tensor) -> Tensor:
        """f(t) of dx = f x dt + g dW."""
        return drift(self.alpha(t), self.alpha_dot(t))

    def diffusion2(self, t: Tensor) -> Tensor:
        """g(t)^2 of dx = f x dt + g dW."""
        assert self.variance_dot is not None  # set on construction
        return diffusion2(self.alpha(t), self.sigma(t), self.alpha_dot(t), self.variance_dot(t))

    def time_of(self, half_log_snr: Tensor) -> Tensor:
        """The t at which log(alpha / sigma) takes the given values: bisection in float64 to 2^-64.

        A value outside the schedule's range by no more than the rounding of its dtype counts as the end itself; any
        other raises ValueError.
        """
        if not isinstance(half_log_snr, Tensor) or not half_log_snr.is_floating_point():
            raise TypeError(f"time_of takes a floating-point tensor of half_log_snr values, got {half_log_snr!r}")
        wanted = half_log_snr.double()
        first, last = self.half_log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64, device=wanted.device))
        slack = 8 * torch.finfo(half_log_snr.dtype).eps
        if not bool(((wanted <= first + slack * first.abs()) & (wanted >= last - slack * last.abs())).all()):
            raise ValueError(
                f"{self.name}: half_log_snr runs from {first:.6g} at t = 0 to {last:.6g} at t = 1; "
                f"asked for the time of values in [{wanted.min():.6g}, {wanted.max():.6g}]"
            )
        early, late = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(64):
            middle = (early + late) / 2
            before = self.half_log_snr(middle) > wanted
            early, late = torch.where(before, middle, early), torch.where(before, late, middle)
        t = torch.where(wanted >= first, 0.0, torch.where(wanted <= last, 1.0, (early + late) / 2))
        return t.to(half_log_snr.dtype)


def _variance_dot(t: Tensor, sigma: TimeFunction, sigma_dot: TimeFunction) -> Tensor:
    return 2 * sigma(t) * sigma_dot(t)


def _at_valid_time(t: Tensor, function: Callable[[Tensor], Value]) -> Value:
    if not isinstance(t, Tensor) or not t.is_floating_point():
        given = t.dtype if isinstance(t, Tensor) else type(t).__name__
        raise TypeError(f"time is a floating-point tensor with values in [0, 1] (step k of T is k/T); got {given}")
    if t.device.type == "cpu" and t.numel():
        earliest, latest = (float(end) for end in t.detach().aminmax())
        if not (earliest >= 0 and latest <= 1):  # a NaN is neither
            raise ValueError(f"time runs from 0 (data) to 1 (noise); got values in [{earliest:.6g}, {latest:.6g}]")
    return function(t)


def _positive(schedule: str, **values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{schedule}: {name} = {value}, expected a positive number")


# --- variance preserving, linear beta ---------------------------------------------------------------------------------


@formula("schedule.linear_beta.beta")
def vp_linear_beta(t: Tensor, beta_min: Scalar, beta_max: Scalar) -> Tensor:
    """beta(t) = (1 - t) beta_min + t beta_max, the rate at which variance is replaced."""
    return (1 - t) * beta_min + t * beta_max


@formula("schedule.linear_beta.beta_integral")
def vp_linear_beta_integral(t: Tensor, beta_min: Scalar, beta_max: Scalar) -> Tensor:
    """B(t) = integral of beta from 0 to t = t ((1 - t/2) beta_min + t/2 beta_max)."""
    return t * ((1 - t / 2) * beta_min + t / 2 * beta_max)


@formula("schedule.linear_beta.alpha")
def vp_linear_alpha(t: Tensor, beta_min: Scalar, beta_max: Scalar) -> Tensor:
    """alpha = exp(-B/2)."""
    return torch.exp(-vp_linear_beta_integral(t, beta_min, beta_max) / 2)


@formula("schedule.linear_beta.sigma")
def vp_linear_sigma(t: Tensor, beta_min: Scalar, beta_max: Scalar) -> Tensor:
    """sigma = sqrt(1 - exp(-B))."""
    return torch.sqrt(-torch.expm1(-vp_linear_beta_integral(t, beta_min, beta_max)))


@formula("schedule.linear_beta.alpha_dot")
def vp_linear_alpha_dot(t: Tensor, beta_min: Scalar, beta_max: Scalar) -> Tensor:
    """alpha' = -beta alpha / 2."""
    return -vp_linear_beta(t, beta_min, beta_max) * vp_linear_alpha(t, beta_min, beta_max) / 2


@formula("schedule.linear_beta.variance_dot")
def vp_linear_variance_dot(t: Tensor, beta_min: Scalar, beta_max: Scalar) -> Tensor:
    """(sigma^2)' = beta alpha^2."""
    return vp_linear_beta(t, beta_min, beta_max) * torch.exp(-vp_linear_beta_integral(t, beta_min, beta_max))


@formula("schedule.linear_beta.sigma_dot")
def vp_linear_sigma_dot(t: Tensor, beta_min: Scalar, beta_max: Scalar) -> Tensor:
    """sigma' = beta alpha^2 / (2 sigma); infinite at t = 0, where sigma grows like sqrt(t)."""
    return vp_linear_variance_dot(t, beta_min, beta_max) / (2 * vp_linear_sigma(t, beta_min, beta_max))


def vp_linear(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """Variance preserving, beta linear in t (Song et al. 2021, eq. 33); the limit of DDPM's chain."""
    _positive("vp_linear", beta_min=beta_min, beta_max=beta_max)
    return Schedule(
        "vp_linear",
        alpha=partial(vp_linear_alpha, beta_min=beta_min, beta_max=beta_max),
        sigma=partial(vp_linear_sigma, beta_min=beta_min, beta_max=beta_max),
        alpha_dot=partial(vp_linear_alpha_dot, beta_min=beta_min, beta_max=beta_max),
        sigma_dot=partial(vp_linear_sigma_dot, beta_min=beta_min, beta_max=beta_max),
        variance_dot=partial(vp_linear_variance_dot, beta_min=beta_min, beta_max=beta_max),
    )


# --- sub-VP: the same alpha, the variance squared ---------------------------------------------------------------------


@formula("schedule.sub_vp.sigma")
def sub_vp_sigma(t: Tensor, beta_min: Scalar, beta_max: Scalar) -> Tensor:
    """sigma = 1 - exp(-B)."""
    return -torch.expm1(-vp_linear_beta_integral(t, beta_min, beta_max))


def sub_vp(beta_min: float = 0.1, beta_max: float = 20.0) -> Schedule:
    """Sub-VP (Song et al. 2021, eq. 35): alpha of vp_linear, sigma = 1 - alpha^2, so sigma' = beta alpha^2."""
    _positive("sub_vp", beta_min=beta_min, beta_max=beta_max)
    return Schedule(
        "sub_vp",
        alpha=partial(vp_linear_alpha, beta_min=beta_min, beta_max=beta_max),
        sigma=partial(sub_vp_sigma, beta_min=beta_min, beta_max=beta_max),
        alpha_dot=partial(vp_linear_alpha_dot, beta_min=beta_min, beta_max=beta_max),
        sigma_dot=partial(vp_linear_variance_dot, beta_min=beta_min, beta_max=beta_max),
    )


# --- cosine -----------------------------------------------------------------------------------------------------------


@formula("schedule.cosine.alpha")
def cosine_alpha(t: Tensor) -> Tensor:
    """alpha = cos(pi t / 2), as sin(pi (1 - t) / 2): 1 - t is exact near t = 1, so alpha(1) = 0."""
    return torch.sin(torch.pi / 2 * (1 - t))


@formula("schedule.cosine.sigma")
def cosine_sigma(t: Tensor) -> Tensor:
    """sigma = sin(pi t / 2)."""
    return torch.sin(torch.pi / 2 * t)


@formula("schedule.cosine.alpha_dot")
def cosine_alpha_dot(t: Tensor) -> Tensor:
    """alpha' = -pi/2 sin(pi t / 2)."""
    return -torch.pi / 2 * cosine_sigma(t)


@formula("schedule.cosine.sigma_dot")
def cosine_sigma_dot(t: Tensor) -> Tensor:
    """sigma' = pi/2 cos(pi t / 2)."""
    return torch.pi / 2 * cosine_alpha(t)


def cosine() -> Schedule:
    """Variance preserving, the angle arctan(sigma / alpha) linear in t; ends without signal, alpha(1) = 0.

    (Nichol & Dhariwal 2021, eq. 17, without their offset.)
    """
    return Schedule("cosine", cosine_alpha, cosine_sigma, cosine_alpha_dot, cosine_sigma_dot)


# --- flow matching's straight path ------------------------------------------------------------------------------------


@formula("schedule.flow.alpha")
def flow_alpha(t: Tensor) -> Tensor:
    """alpha = 1 - t."""
    return 1 - t


@formula("schedule.flow.sigma")
def flow_sigma(t: Tensor) -> Tensor:
    """sigma = t."""
    return t.clone()


@unproved("alpha' = -1: a constant")
def flow_alpha_dot(t: Tensor) -> Tensor:
    """alpha' = -1."""
    return -torch.ones_like(t)


@unproved("sigma' = 1: a constant")
def flow_sigma_dot(t: Tensor) -> Tensor:
    """sigma' = 1."""
    return torch.ones_like(t)


def flow() -> Schedule:
    """The straight path x_t = (1 - t) x_0 + t eps of flow matching (Lipman et al. 2023; here data is at t = 0)."""
    return Schedule("flow", flow_alpha, flow_sigma, flow_alpha_dot, flow_sigma_dot)


# --- variance exploding -----------------------------------------------------------------------------------------------


@unproved("alpha = 1: a constant")
def ones(t: Tensor) -> Tensor:
    """alpha = 1 of the variance-exploding schedules."""
    return torch.ones_like(t)


@unproved("alpha' = 0: a constant")
def zeros(t: Tensor) -> Tensor:
    """alpha' = 0 of the variance-exploding schedules."""
    return torch.zeros_like(t)


@formula("schedule.ve.sigma")
def ve_sigma(t: Tensor, sigma_min: Scalar, sigma_max: Scalar) -> Tensor:
    """sigma = sigma_min (sigma_max / sigma_min)^t."""
    return sigma_min * (sigma_max / sigma_min) ** t


@formula("schedule.ve.sigma_dot")
def ve_sigma_dot(t: Tensor, sigma_min: Scalar, sigma_max: Scalar) -> Tensor:
    """sigma' = sigma log(sigma_max / sigma_min)."""
    return ve_sigma(t, sigma_min, sigma_max) * torch.log(number(sigma_max / sigma_min, t))


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0) -> Schedule:
    """Variance exploding, log sigma linear in t (Song et al. 2021, appendix C); sigma(0) = sigma_min."""
    _increasing("ve", sigma_min, sigma_max)
    sigma = partial(ve_sigma, sigma_min=sigma_min, sigma_max=sigma_max)
    return Schedule("ve", ones, sigma, zeros, partial(ve_sigma_dot, sigma_min=sigma_min, sigma_max=sigma_max))


def _edm_growth(sigma_min: Scalar, sigma_max: Scalar, rho: Scalar, like: Tensor) -> Tensor:
    """(sigma_max / sigma_min)^(1/rho) - 1, to full precision for any rho."""
    return torch.expm1(torch.log(number(sigma_max / sigma_min, like)) / rho)


@formula("schedule.edm.sigma")
def edm_sigma(t: Tensor, sigma_min: Scalar, sigma_max: Scalar, rho: Scalar) -> Tensor:
    """sigma = ((1-t) sigma_min^(1/rho) + t sigma_max^(1/rho))^rho."""
    return sigma_min * torch.exp(rho * torch.log1p(t * _edm_growth(sigma_min, sigma_max, rho, like=t)))


@formula("schedule.edm.sigma_dot")
def edm_sigma_dot(t: Tensor, sigma_min: Scalar, sigma_max: Scalar, rho: Scalar) -> Tensor:
    """sigma' = rho sigma^(1 - 1/rho) (sigma_max^(1/rho) - sigma_min^(1/rho))."""
    growth = _edm_growth(sigma_min, sigma_max, rho, like=t)
    return rho * edm_sigma(t, sigma_min, sigma_max, rho) * growth / (1 + t * growth)


def edm(sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """Variance exploding, sigma^(1/rho) linear in t (Karras et al. 2022, eq. 5, with data at t = 0)."""
    _increasing("edm", sigma_min, sigma_max)
    if not (math.isfinite(rho) and rho >= 1):
        raise ValueError(f"edm: rho = {rho}, expected a number from 1 (sigma linear in t) up")
    sigma = partial(edm_sigma, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    sigma_dot = partial(edm_sigma_dot, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    return Schedule("edm", ones, sigma, zeros, sigma_dot)


def _increasing(schedule: str, sigma_min: float, sigma_max: float) -> None:
    _positive(schedule, sigma_min=sigma_min, sigma_max=sigma_max)
    if sigma_min >= sigma_max:
        raise ValueError(f"{schedule}: sigma_min = {sigma_min} must lie below sigma_max = {sigma_max}")


# --- discrete chains --------------------------------------------------------------------------------------------------


@unproved("a running product; each factor is schedule.betas_to_alpha_bar")
def alpha_bars(betas: Tensor) -> Tensor:
    """alpha_bar_k = product of (1 - beta_j) for j = 1..k, float64 of shape [T + 1], alpha_bar_0 = 1.

    `betas` [T] holds beta_1 .. beta_T, each in (0, 1); only beta_T may be 1 (a chain that ends without signal).
    """
    return torch.exp(_log_alpha_bars(betas))


@formula("schedule.alpha_bar_to_betas.beta")
def beta_between(alpha_bar_s: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """beta of the single step that takes alpha_bar_s to alpha_bar_t: 1 - alpha_bar_t / alpha_bar_s."""
    return (alpha_bar_s - alpha_bar_t) / alpha_bar_s


@unproved("beta_between on neighbouring entries of a table")
def betas_from(alpha_bar: Tensor) -> Tensor:
    """beta_1 .. beta_T of the chain with the given alpha_bar_0 = 1, .., alpha_bar_T: the inverse of alpha_bars."""
    if alpha_bar.ndim != 1 or len(alpha_bar) < 2 or alpha_bar[0] != 1:
        raise ValueError(f"expected alpha_bar_0 = 1, .., alpha_bar_T in one row; got shape {tuple(alpha_bar.shape)}")
    betas = beta_between(alpha_bar[:-1].double(), alpha_bar[1:].double())
    _check_betas(betas)
    return betas


@unproved("a table of the linear beta; its limit is schedule.linear_beta_limit")
def linear_betas(T: int, beta_min: float = 0.1, beta_max: float = 20.0) -> Tensor:
    """beta_k T linear from beta_min at k = 1 to beta_max at k = T: Ho et al.'s 1e-4 .. 0.02 at T = 1000, and for
    every other T a chain with the same continuous limit, vp_linear (Song et al. 2021, eq. 31-33).

    Needs T >= beta_max, so that beta_T <= 1.
    """
    _check_steps(T)
    betas = torch.linspace(beta_min, beta_max, T, dtype=torch.float64) / T
    _check_betas(betas)
    return betas


@formula("schedule.cosine_betas.beta")
def cosine_beta(angle_s: Tensor, angle_t: Tensor) -> Tensor:
    """beta = 1 - cos^2(angle_t) / cos^2(angle_s), as sin(angle_t - angle_s) sin(angle_t + angle_s) / cos^2(angle_s)."""
    return torch.sin(angle_t - angle_s) * torch.sin(angle_t + angle_s) / torch.cos(angle_s) ** 2


@unproved("cosine_beta on a table of angles, capped as the paper does")
def cosine_betas(T: int, offset: float = 0.008, max_beta: float = 0.999) -> Tensor:
    """alpha_bar_k ~ cos^2((k/T + offset)/(1 + offset) pi/2), beta capped at max_beta (Nichol & Dhariwal 2021, eq. 17).

    max_beta = 1 keeps the formula to the end: beta_T = 1, alpha_bar_T = 0.
    """
    _check_steps(T)
    angles = (torch.arange(T + 1, dtype=torch.float64) / T + offset) / (1 + offset) * (torch.pi / 2)
    betas = cosine_beta(angles[:-1], angles[1:]).clamp(max=max_beta)
    _check_betas(betas)
    return betas


@unproved("a rescaling of a table; tested on its two ends and on what it leaves alone")
def zero_terminal_snr(betas: Tensor) -> Tensor:
    """The chain with sqrt(alpha_bar) shifted and scaled so that its first value stays and its last is exactly 0.

    (Lin et al. 2024, algorithm 1.) An eps or score prediction says nothing about x_0 at the last step: predict x0 or v.
    """
    scale = torch.exp(_log_alpha_bars(betas)[1:] / 2)
    if len(scale) < 2:
        raise ValueError("zero_terminal_snr needs at least two steps: the first keeps its beta, the last gets beta = 1")
    scale = (scale - scale[-1]) * (scale[0] / (scale[0] - scale[-1]))
    return betas_from(torch.cat([scale.new_ones(1), scale**2]))


def discrete(betas: Tensor, name: str = "discrete") -> Schedule:
    """The chain q(x_k | x_{k-1}) = N(sqrt(1 - beta_k) x_{k-1}, beta_k) as a schedule with step k at time t_k = k/T.

    `betas` [T] as in alpha_bars. Between steps alpha_bar is linear in t, so alpha_dot and sigma_dot are those of the
    step that t lies in (of the step before it at t = t_k, of the first at t = 0).
    """
    log_alpha_bar = _log_alpha_bars(betas)
    tables = {"alpha_bar": torch.exp(log_alpha_bar), "variance": -torch.expm1(log_alpha_bar)}
    return Schedule(
        name,
        alpha=partial(discrete_alpha, alpha_bar=tables["alpha_bar"]),
        sigma=partial(discrete_alpha, alpha_bar=tables["variance"]),
        alpha_dot=partial(discrete_alpha_dot, alpha_bar=tables["alpha_bar"]),
        sigma_dot=partial(discrete_alpha_dot, alpha_bar=tables["variance"]),
        variance_dot=partial(discrete_slope, alpha_bar=tables["variance"]),
    )


@unproved("linear interpolation in a table")
def discrete_alpha(t: Tensor, alpha_bar: Tensor) -> Tensor:
    """sqrt of the table [T + 1] at t, linear between its entries: alpha from alpha_bar, sigma from 1 - alpha_bar."""
    step = _step(t, alpha_bar)
    weight = t.double() * (len(alpha_bar) - 1) - step
    table = resident(alpha_bar, t.device)
    return torch.lerp(table[step], table[step + 1], weight).sqrt().to(t.dtype)


@unproved("a difference quotient of a table")
def discrete_slope(t: Tensor, alpha_bar: Tensor) -> Tensor:
    """Time derivative of the table [T + 1] at t."""
    return (resident(alpha_bar, t.device).diff()[_step(t, alpha_bar)] * (len(alpha_bar) - 1)).to(t.dtype)


@unproved("a difference quotient of a table")
def discrete_alpha_dot(t: Tensor, alpha_bar: Tensor) -> Tensor:
    """Time derivative of sqrt of the table: slope / (2 alpha), infinite where the table is 0."""
    return discrete_slope(t, alpha_bar) / (2 * discrete_alpha(t, alpha_bar))


@unproved("a copy")
def resident(table: Tensor, device: torch.device) -> Tensor:
    """The table on a device, copied there once, as a copy makes an accelerator wait. Not to be written into."""
    return table.to(device) if table.device == device or torch.compiler.is_compiling() else _copied(table, device)


@lru_cache(maxsize=16)
def _copied(table: Tensor, device: torch.device) -> Tensor:
    return table.to(device)


def _step(t: Tensor, table: Tensor) -> Tensor:
    """Index k of the step from t_k to t_(k+1) that t lies in; a grid point belongs to the step that ends there.

    A grid point is known to within the rounding of k/T in t's dtype.
    """
    T = len(table) - 1
    place = t.double() * T
    nearest = place.round()
    place = torch.where((place - nearest).abs() <= torch.finfo(t.dtype).eps * T, nearest, place)
    return (torch.ceil(place).long() - 1).clamp(min=0)


def _log_alpha_bars(betas: Tensor) -> Tensor:
    _check_betas(betas)
    steps = torch.log1p(-betas.double())
    return torch.cat([steps.new_zeros(1), steps.cumsum(0)])


def _check_steps(T: int) -> None:
    if not isinstance(T, int) or T < 1:
        raise ValueError(f"a chain has T >= 1 steps, T an integer; got T = {T!r}")


def _check_betas(betas: Tensor) -> None:
    if not isinstance(betas, Tensor) or betas.ndim != 1 or len(betas) == 0 or not betas.is_floating_point():
        raise ValueError("betas is a row of T >= 1 floating-point numbers, beta_1 .. beta_T")
    wrong = ~((betas > 0) & (betas < 1))
    wrong[-1] &= betas[-1] != 1
    if bool(wrong.any()):
        k = int(wrong.nonzero()[0])
        raise ValueError(
            f"beta_{k + 1} = {betas[k]:.6g} of {len(betas)} steps: betas lie strictly between 0 and 1 (only the last "
            f"may be 1, which leaves no signal); with few steps take a smaller beta_max"
        )


def ddpm_linear(T: int = 1000) -> Schedule:
    """DDPM's chain: discrete(linear_betas(T))."""
    return discrete(linear_betas(T), name="ddpm_linear")


def ddpm_cosine(T: int = 1000) -> Schedule:
    """Improved DDPM's chain: discrete(cosine_betas(T))."""
    return discrete(cosine_betas(T), name="ddpm_cosine")


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    factory.__name__: factory for factory in (vp_linear, sub_vp, cosine, flow, ve, edm, ddpm_linear, ddpm_cosine)
}
