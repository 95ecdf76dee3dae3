"""From a network that predicts some row of the table to the one thing samplers ask for: the denoiser x0_hat(x, t)."""

from __future__ import annotations

from torch import Tensor

from diffusion.parameterization import check_kind, to_x0
from diffusion.schedules import Schedule
from diffusion.types import Denoiser, Network


def denoiser(network: Network, schedule: Schedule, kind: str) -> Denoiser:
    """(x, t) -> estimate of E[x0 | x_t = x], from a network that predicts `kind` of PARAMETERIZATIONS.

    x: [batch, ...]; t: scalar or [batch], of any floating dtype. The network is called as in training, with t of shape
    [batch] in x's dtype; the conversion's coefficients are computed in t's own dtype. Raises ValueError where a
    prediction of this kind does not determine x0 (eps and score at alpha = 0).
    """
    check_kind(kind)

    def estimate(x: Tensor, t: Tensor) -> Tensor:
        if t.ndim > 1 or (t.ndim == 1 and len(t) != len(x)):
            raise ValueError(f"t has shape {tuple(t.shape)}: expected a scalar or one for each of {len(x)} samples")
        kernel = schedule.kernel(t)
        return to_x0(kind, network(x, t.to(x).expand(len(x))), x, *kernel)

    return estimate
