r"""Distillation: what a student of few steps is told to predict, and the losses that tell it so.

    progressive    one DDIM step from t to s that lands where the teacher's two, by way of u, landed        s < u < t
    consistency    f(x, sigma) = c_skip x + c_out F(x, sigma),  f = x at sigma_min,  constant along the flow
    straight       x - t velocity                                    the point at time 0 of a straight path
    MeanFlow       u(x, r, t) = velocity - (t - r) du/dt             the mean velocity from r to t
    shortcut       s(x, t, 2h) = (s(x, t, h) + s(x', t + h, h))/2,   x' = x + h s(x, t, h)
    DMD            E[(score_fake - score_real) dx/dtheta]            the gradient of KL(fake || real)

Data at time 0, noise at 1. Targets act elementwise; coefficients are 0-dim tensors, or shaped like x by
`shapes.per_sample`. Losses take states [batch, ...] and levels or times [batch], call the networks they are given and
return one value for each sample, [batch]: the mean over features of a squared error. No gradient flows into a target.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from diffusion import ddim, edm, solvers
from diffusion.binding import formula, unproved
from diffusion.schedules import Scalar, Schedule
from diffusion.shapes import per_sample, same_rank, same_shape
from diffusion.types import Network, Real

Jump = Callable[[Tensor, Tensor, Tensor], Tensor]  # of (x, time, time), or (x, time, length)


# -- progressive distillation ------------------------------------------------------------------------------------------


@formula("distillation.progressive.target")
def progressive_x0(x_t: Real, x_s: Real, alpha_s: Real, sigma_t: Real, sigma_s: Real, kappa: Real) -> Real:
    """(x_s - (sigma_s/sigma_t) x_t)/(alpha_s (1 - kappa)): the x_0 whose step from x_t lands at x_s (eq. 43).

    kappa = alpha_t sigma_s/(alpha_s sigma_t) < 1 is `solvers.kappa`. Finite at alpha_t = 0 and at sigma_s = 0.
    """
    same_rank(x_t, x_s, alpha_s, sigma_t, sigma_s, kappa)
    return (x_s - sigma_s / sigma_t * x_t) / (alpha_s * (1 - kappa))


@formula("distillation.progressive_eps.target")
def progressive_eps(x_t: Real, x_s: Real, alpha_t: Real, sigma_t: Real, alpha_s: Real, kappa: Real) -> Real:
    """(x_t - (alpha_t/alpha_s) x_s)/(sigma_t (1 - kappa)): the noise that goes with that x_0."""
    same_rank(x_t, x_s, alpha_t, sigma_t, alpha_s, kappa)
    return (x_t - alpha_t / alpha_s * x_s) / (sigma_t * (1 - kappa))


@formula("distillation.progressive_v.target")
def progressive_v(
    x_t: Real, x_s: Real, alpha_t: Real, sigma_t: Real, alpha_s: Real, sigma_s: Real, kappa: Real
) -> Real:
    """alpha_t eps - sigma_t x_0 of both; read back as x_0 = alpha_t x_t - sigma_t v when alpha^2 + sigma^2 = 1."""
    same_rank(x_t, x_s, alpha_t, sigma_t, alpha_s, sigma_s, kappa)
    cosine, length2 = alpha_t * alpha_s + sigma_t * sigma_s, alpha_t**2 + sigma_t**2
    return (cosine * x_t - length2 * x_s) / (alpha_s * sigma_t * (1 - kappa))


@unproved("two of ddim.step, bound to ddim.eta_zero")
def two_steps(denoise: Network, schedule: Schedule, x_t: Tensor, times: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Where a teacher's two deterministic steps, from t to u and from u to s, take x_t [batch, ...]; s < u < t.

    `denoise(x, time)` predicts x_0. Times are 0-dim or [batch].
    """
    t, u, s = times
    if t.device.type == "cpu" and not bool(((s < u) & (u < t)).all()):
        raise ValueError(f"two_steps: times {t}, {u}, {s}, expected t > u > s; a step goes towards the data, at time 0")
    x = x_t
    for start, end in ((t, u), (u, s)):
        levels = (per_sample(level(time), x) for time in (start, end) for level in (schedule.alpha, schedule.sigma))
        x = ddim.step(x, denoise(x, start), *levels)
    return x


@unproved("a squared error of the bound target under the bound edm.loss_weight")
def progressive_loss(
    student: Network, teacher: Network, schedule: Schedule, x_t: Tensor, times: tuple[Tensor, Tensor, Tensor], sd: float
) -> Tensor:
    """weight (student(x_t, t) - x_0)^2, x_0 held: the one whose step from t to s lands where the teacher's two did.

    Both networks predict x_0 from (x, time); times as in `two_steps`. The weight is EDM's at the level sigma/alpha: a
    network that is scaled to unit variance for data of standard deviation `sd` is judged alike at every time; with
    sd = 1 it is SNR + 1, the loss in v (Salimans & Ho 2022, sec. 4). Needs alpha > 0 at t.
    """
    t, _, s = times
    with torch.no_grad():
        landed = two_steps(teacher, schedule, x_t, times)
    start, end = ((schedule.alpha(time), schedule.sigma(time)) for time in (t, s))
    coefficients = (end[0], start[1], end[1], solvers.kappa(*start, *end))
    target = progressive_x0(x_t, landed, *(per_sample(coefficient, x_t) for coefficient in coefficients))
    error = _to_target(student(x_t, t), target)
    return edm.loss_weight(start[1] / start[0], sd).to(error) * error


# -- consistency -------------------------------------------------------------------------------------------------------


@formula("distillation.consistency_scalings.c_skip")
def c_skip(sigma: Tensor, sigma_min: Scalar, sd: Scalar) -> Tensor:
    """sd^2/((sigma - sigma_min)^2 + sd^2): 1 at sigma_min; sd is the data's standard deviation."""
    return sd**2 / ((sigma - sigma_min) ** 2 + sd**2)


@formula("distillation.consistency_scalings.c_out")
def c_out(sigma: Tensor, sigma_min: Scalar, sd: Scalar) -> Tensor:
    """sd (sigma - sigma_min)/sqrt(sd^2 + sigma^2): 0 at sigma_min."""
    return sd * (sigma - sigma_min) / torch.sqrt(sd**2 + sigma**2)


@formula("distillation.consistency_boundary.f", trained=True)
def consistency(x: Real, F: Real, c_skip: Real, c_out: Real) -> Real:
    """f = c_skip x + c_out F (eq. 5)."""
    same_rank(x, F, c_skip, c_out)
    return c_skip * x + c_out * F


@formula("distillation.consistency_gaussian.f")
def gaussian_consistency(x: Real, sigma: Real, sigma_min: Scalar, sd: Scalar) -> Real:
    """x sqrt((sigma_min^2 + sd^2)/(sigma^2 + sd^2)): the exact function for data N(0, sd^2)."""
    return x * torch.sqrt((sigma_min**2 + sd**2) / (sigma**2 + sd**2))


def consistency_function(network: Network, sd: float, sigma_min: float) -> Network:
    """(x, sigma) -> f, x [batch, ...] at alpha = 1, sigma a scalar or [batch]; f(x, sigma_min) = x for any network.

    The network is called with EDM's c_in x and c_noise [batch]. Raises ValueError unless sd > 0 and sigma_min > 0.
    """
    _positive("consistency_function", sd, sigma_min)

    def f(x: Tensor, sigma: Tensor) -> Tensor:
        skip, out = (per_sample(scale(sigma, sigma_min, sd), x) for scale in (c_skip, c_out))
        F = network(per_sample(edm.c_in(sigma, sd), x) * x, edm.c_noise(sigma).to(x).expand(len(x)))
        return consistency(x, F, skip, out)

    return f


def consistency_of(denoise: Network, sd: float, sigma_min: float) -> Network:
    """(x, sigma) -> f, around the F that EDM's scalings would need for the same denoiser: f(x, sigma_min) = x.

    `denoise(x, sigma)` predicts x_0, x [batch, ...] at alpha = 1, sigma > 0 a scalar or [batch]. Far above sigma_min
    f is close to the prediction: a student may begin with its teacher's weights. ValueError unless sd, sigma_min > 0.
    """
    _positive("consistency_of", sd, sigma_min)

    def f(x: Tensor, sigma: Tensor) -> Tensor:
        edm_skip, edm_out = (per_sample(scale(sigma, sd), x) for scale in (edm.c_skip, edm.c_out))
        skip, out = (per_sample(scale(sigma, sigma_min, sd), x) for scale in (c_skip, c_out))
        return consistency(x, (denoise(x, sigma) - edm_skip * x) / edm_out, skip, out)

    return f


def _positive(name: str, sd: float, sigma_min: float) -> None:
    if not (sd > 0 and sigma_min > 0):
        raise ValueError(f"{name}: sd = {sd}, sigma_min = {sigma_min}, expected both > 0")


@unproved("a squared error; distillation.consistency_training speaks of its gradient")
def consistency_training_loss(
    f: Network, x_0: Tensor, eps: Tensor, sigma: Tensor, h: Tensor, target: Network | None = None
) -> Tensor:
    """|f(x_0 + sigma eps, sigma) - f(x_0 + (sigma - h) eps, sigma - h)|^2, the second held (eq. 10). No teacher.

    The second f is `target` where that is given: an average of f's past weights, say.
    """
    same_shape(x_0=x_0, eps=eps)
    x, near = (x_0 + per_sample(level, eps) * eps for level in (sigma, sigma - h))
    return _consistency_loss(f, target or f, x, near, sigma, h)


@unproved("a squared error; distillation.consistency_training speaks of its gradient")
def consistency_distillation_loss(
    f: Network, denoise: Network, x: Tensor, sigma: Tensor, h: Tensor, target: Network | None = None
) -> Tensor:
    """|f(x, sigma) - f(near, sigma - h)|^2, the second held; near = x - h (x - D)/sigma, the teacher's step (eq. 7).

    The second f is `target` where that is given.
    """
    slope = (x - denoise(x, sigma)) / per_sample(sigma, x)
    return _consistency_loss(f, target or f, x, x - per_sample(h, x) * slope, sigma, h)


def _consistency_loss(f: Network, target: Network, x: Tensor, near: Tensor, sigma: Tensor, h: Tensor) -> Tensor:
    with torch.no_grad():
        goal = target(near, sigma - h)
    return _to_target(f(x, sigma), goal)


# -- mean velocities ---------------------------------------------------------------------------------------------------


@formula("distillation.reflow_distillation.student", trained=True)
def straight_student(x: Real, velocity: Real, t: Real) -> Real:
    """x - t velocity: where a straight path through x at time t was at time 0."""
    same_rank(x, velocity, t)
    return x - t * velocity


@formula("distillation.meanflow.target")
def meanflow_target(velocity: Real, du_dt: Real, t: Real, r: Real) -> Real:
    """velocity - (t - r) du/dt, du/dt the total derivative along the flow at fixed r (eq. 6)."""
    same_rank(velocity, du_dt, t, r)
    return velocity - (t - r) * du_dt


@unproved("a squared error of the bound target")
def meanflow_loss(u: Jump, x: Tensor, velocity: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """|u(x, r, t) - (velocity - (t - r) du/dt)|^2, the target held; du/dt from one jvp along (velocity, 0, 1).

    `velocity` is the flow's at (x, t), or a conditional one, eps - x_0 on the linear path, whose mean it is.
    """
    same_shape(x=x, velocity=velocity)
    tangents = velocity, torch.zeros_like(r), torch.ones_like(t)
    predicted, du_dt, *_ = torch.func.jvp(u, (x, r, t), tangents)
    target = meanflow_target(velocity, du_dt, per_sample(t, x), per_sample(r, x))
    return _to_target(predicted, target)


@formula("distillation.shortcut.target")
def shortcut_target(s_1: Real, s_2: Real) -> Real:
    """(s_1 + s_2)/2: the mean velocity over two steps of one length (eq. 5)."""
    same_rank(s_1, s_2)
    return (s_1 + s_2) / 2


@unproved("a squared error of the bound target")
def shortcut_loss(s: Jump, x: Tensor, t: Tensor, h: Tensor) -> Tensor:
    """|s(x, t, 2h) - (s(x, t, h) + s(x + h s(x, t, h), t + h, h))/2|^2, the target held; h < 0 walks to the data."""
    s_1 = s(x, t, h)
    s_2 = s(x + per_sample(h, x) * s_1, t + h, h)
    return _to_target(s(x, t, 2 * h), shortcut_target(s_1, s_2))


# -- distribution matching ---------------------------------------------------------------------------------------------


@formula("distillation.dmd_noised.difference")
def dmd_difference(D_fake: Real, D_real: Real, alpha: Real, sigma: Real) -> Real:
    """score_fake - score_real = alpha (D_fake - D_real)/sigma^2, from the two denoisers at one x (eq. 7)."""
    same_rank(D_fake, D_real, alpha, sigma)
    return alpha * (D_fake - D_real) / sigma**2


@unproved("a product whose gradient, not value, is distillation.dmd_gradient")
def dmd_loss(x: Tensor, difference: Tensor) -> Tensor:
    """The sum of x times the held difference of scores: its gradient is the divergence's; its value means nothing.

    x [batch, ...] is the generator's noised output, differentiable in the generator's weights.
    """
    same_shape(x=x, difference=difference)
    return (x * difference.detach()).flatten(1).sum(1)


def _to_target(prediction: Tensor, target: Tensor) -> Tensor:
    same_shape(prediction=prediction, target=target)
    return (prediction - target.detach()).square().flatten(1).mean(1)
