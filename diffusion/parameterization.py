"""What a network predicts is a row of a table on the basis (x0, eps); a conversion is a solve of a 2x2 system.

    x_t        = alpha x0 + sigma eps            what is known
    prediction =     a x0 +     b eps            what is predicted

| kind     | a      | b        | d = alpha b - sigma a             | source                        |
| -------- | ------ | -------- | --------------------------------- | ----------------------------- |
| x0       | 1      | 0        | -sigma                            | Ho et al. 2020, section 3.2   |
| eps      | 0      | 1        | alpha                             | Ho et al. 2020, eq. 11        |
| v        | -sigma | alpha    | alpha^2 + sigma^2                 | Salimans & Ho 2022, section 4 |
| velocity | alpha' | sigma'   | -alpha sigma log(alpha / sigma)'  | Lipman et al. 2023, eq. 21    |
| score    | 0      | -1/sigma | -alpha/sigma                      | Song et al. 2021, eq. 7       |

The determinant d says all: Cramer's rule writes any row of the table through x_t and any other row,

    target = (d_target / d_source) prediction + ((a_target b_source - b_target a_source) / d_source) x_t,

an error of the prediction comes out multiplied by d_target / d_source, and where d_source = 0 (eps and score at
alpha = 0, x0 at sigma = 0) the prediction says nothing that x_t did not: such a conversion is refused. The table holds
for the x0 and eps that made x_t; for the posterior means E[x0|x_t], E[eps|x_t] it holds by linearity. `score` is a
score of q(x_t) only if x0 and eps are independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion.binding import formula, unproved
from diffusion.schedules import Kernel
from diffusion.shapes import per_sample, same_shape


@formula("parameterization.table.x_t")
def mix(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = alpha x0 + sigma eps."""
    return alpha * x0 + sigma * eps


@formula("parameterization.table.v")
def v(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """v = alpha eps - sigma x0."""
    return alpha * eps - sigma * x0


@formula("parameterization.table.velocity")
def velocity(x0: Tensor, eps: Tensor, alpha_dot: Tensor, sigma_dot: Tensor) -> Tensor:
    """velocity = d x_t / dt at fixed x0, eps = alpha' x0 + sigma' eps, per unit time (towards the noise)."""
    return alpha_dot * x0 + sigma_dot * eps


@formula("parameterization.table.score")
def score(eps: Tensor, sigma: Tensor) -> Tensor:
    """score of q(x_t | x0) = -eps / sigma."""
    return -eps / sigma


@formula("parameterization.determinant.d")
def determinant(a: Tensor, b: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """d = alpha b - sigma a, of the rows (alpha, sigma) and (a, b)."""
    return alpha * b - sigma * a


_TABLE: dict[str, Callable[[Tensor, Tensor, Kernel], Tensor]] = {
    "x0": lambda x0, eps, kernel: x0,
    "eps": lambda x0, eps, kernel: eps,
    "v": lambda x0, eps, kernel: v(x0, eps, kernel.alpha, kernel.sigma),
    "velocity": lambda x0, eps, kernel: velocity(x0, eps, kernel.alpha_dot, kernel.sigma_dot),
    "score": lambda x0, eps, kernel: score(eps, kernel.sigma),
}
PARAMETERIZATIONS = tuple(_TABLE)


def check_kind(kind: str) -> None:
    """Raise ValueError unless `kind` names a row of the table."""
    if kind not in _TABLE:
        raise ValueError(f"unknown parameterization {kind!r}: expected one of {', '.join(PARAMETERIZATIONS)}")


@unproved("picks a row of the table; each row is bound")
def target(
    kind: str, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, alpha_dot: Tensor, sigma_dot: Tensor
) -> Tensor:
    """What a perfect network of this kind predicts for x_t = alpha x0 + sigma eps; shape and dtype of x0 [batch, ...].

    The kernel's four values are scalars or [batch]. Raises ValueError for a row that is infinite there (score at
    sigma = 0; velocity of a VP schedule at t = 0).
    """
    a, b = row(kind, alpha, sigma, alpha_dot, sigma_dot)
    same_shape(x0=x0, eps=eps)
    return per_sample(a, x0) * x0 + per_sample(b, eps) * eps


def row(kind: str, alpha: Tensor, sigma: Tensor, alpha_dot: Tensor, sigma_dot: Tensor) -> tuple[Tensor, Tensor]:
    """The row (a, b) of `kind`: the images of the basis (x0, eps) = (1, 0) and (0, 1)."""
    check_kind(kind)
    kernel = Kernel(alpha, sigma, alpha_dot, sigma_dot)
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    a, b = _TABLE[kind](one, zero, kernel), _TABLE[kind](zero, one, kernel)
    # looked at on the CPU only: an accelerator is not made to wait
    if alpha.device.type == "cpu" and not (_finite(a) and _finite(b)):
        raise ValueError(f"{kind} is infinite at {_where(kernel, ~(a.isfinite() & b.isfinite()))}: keep off that end")
    return a, b


def _finite(value: Tensor) -> bool:
    """Whether all numbers are: through the ends of their range, a third of the work of looking at each."""
    return not value.numel() or all(math.isfinite(end) for end in value.detach().aminmax())


def coefficients(source: str, target: str, kernel: Kernel) -> tuple[Tensor, Tensor]:
    """(p, q) with target = p x_t + q source: by Cramer's rule, ratios of determinants (parameterization.cramer).

    Raises ValueError (on the CPU) where a source does not determine the target: d_source = 0.
    """
    a, b = row(source, *kernel)
    a_target, b_target = row(target, *kernel)
    if source == target:
        return torch.zeros_like(a), torch.ones_like(a)
    d_source, d_target = (determinant(*row, kernel.alpha, kernel.sigma) for row in ((a, b), (a_target, b_target)))
    if d_source.device.type == "cpu" and bool((d_source == 0).any()):
        raise ValueError(
            f"{source} says nothing about {target} at {_where(kernel, d_source == 0)}: "
            f"{'x_t is x0 already' if source == 'x0' else 'x_t holds no signal, so predict x0, v or velocity'}"
        )
    return determinant(a, b, a_target, b_target) / d_source, d_target / d_source


@unproved("applies `coefficients`, a solve of the bound table")
def convert(
    source: str, target: str, prediction: Tensor, x_t: Tensor,
    alpha: Tensor, sigma: Tensor, alpha_dot: Tensor, sigma_dot: Tensor,
) -> Tensor:  # fmt: skip
    """The prediction of kind `target` that says the same as `prediction`, of kind `source`, at x_t [batch, ...].

    The kernel's four values are scalars or [batch]; coefficients are computed in their dtype, then rounded to x_t's.
    Raises ValueError where the source does not determine the target.
    """
    same_shape(prediction=prediction, x_t=x_t)
    p, q = coefficients(source, target, Kernel(alpha, sigma, alpha_dot, sigma_dot))
    return per_sample(p, x_t) * x_t + per_sample(q, x_t) * prediction


@unproved("convert with target x0")
def to_x0(
    kind: str, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, alpha_dot: Tensor, sigma_dot: Tensor
) -> Tensor:
    """x0 that a prediction of this kind stands for at x_t; see `convert`."""
    return convert(kind, "x0", prediction, x_t, alpha, sigma, alpha_dot, sigma_dot)


@unproved("convert with target eps")
def to_eps(
    kind: str, prediction: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, alpha_dot: Tensor, sigma_dot: Tensor
) -> Tensor:
    """eps that a prediction of this kind stands for at x_t; see `convert`."""
    return convert(kind, "eps", prediction, x_t, alpha, sigma, alpha_dot, sigma_dot)


def _where(kernel: Kernel, bad: Tensor) -> str:
    """The first offending (alpha, sigma), in words."""
    alpha, sigma = (value.expand_as(bad)[bad].flatten()[0] for value in (kernel.alpha, kernel.sigma))
    return f"alpha = {alpha:.6g}, sigma = {sigma:.6g}"
