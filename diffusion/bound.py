r"""Bounds in nats: a chain whose variances are learned, and two samplers compared path by path.

    learned    log Sigma = v log beta_t + (1 - v) log beta_tilde,    v = v(x_t, t) in [0, 1] beside the prediction D
    paths      KL of one Euler step with drift a from one with drift b, noise g:    h (a - b)^2 / (2 g^2)

The variational bound of `ddpm.variational_bound` takes either variances fixed beforehand (beta, beta_tilde, the optimal
one, Analytic-DPM's) or a model that says its own, such as `learned` makes (Nichol & Dhariwal 2021, sec. 3.1). The KL of
whole paths is the sum of their steps', averaged over the first one's paths, and bounds the KL of where they end
(Girsanov; Song et al. 2021 (ML), app. A).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion import ddpm
from diffusion.binding import formula
from diffusion.types import Real

Pair = tuple[Tensor, Tensor]


@formula("sde.girsanov.step", trained=True)
def path_kl(a: Real, b: Real, g: Real, h: Real) -> Real:
    """KL of x + h a + sqrt(h) g u from x + h b + sqrt(h) g u, u ~ N(0, 1): h (a - b)^2 / (2 g^2), nats."""
    return h * ((a - b) / g) ** 2 / 2


def learned(
    network: Callable[[Tensor, Tensor], Pair], betas: Float[Tensor, " T"], first: float
) -> Callable[[Tensor, Tensor], Pair]:
    """(x_t, t) -> (D, Sigma) for `ddpm.variational_bound`, from a network's (D, v), both in the shape of x_t.

    t = k/T a 0-dim tensor. At step 1, where beta_tilde = 0, Sigma is `first`, the decoder's variance. ValueError for a
    time of no step, and for a v outside [0, 1]: a network's output goes through a sigmoid, say.
    """
    if not first > 0:
        raise ValueError(f"first = {first}: the decoder's variance is positive")
    alpha_bar = torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])

    def model(x_t: Tensor, t: Tensor) -> Pair:
        k = round(float(t) * len(betas))
        if not 1 <= k <= len(betas):
            raise ValueError(f"t = {float(t):.6g}: expected the time k/{len(betas)} of a step k = 1 .. {len(betas)}")
        D, v = network(x_t, t)
        if not bool(((v >= 0) & (v <= 1)).all()):
            raise ValueError(f"v in [{float(v.min()):.4g}, {float(v.max()):.4g}]: expected values in [0, 1]")
        if k == 1:
            return D, torch.full_like(D, first)
        return D, torch.exp(ddpm.learned_log_variance(v, alpha_bar[k - 1], betas[k - 1]))

    return model
