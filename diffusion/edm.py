r"""EDM: what goes into a network, and out of it, so that both have unit variance at every noise level.

    x             = x_0 + sigma eps,     x_0 of variance sigma_data^2
    D(x, sigma)   = c_skip x + c_out F(c_in x, c_noise)
    loss          = weight (D - x_0)^2 = (F - (x_0 - c_skip x)/c_out)^2

A schedule with alpha != 1 has the same denoiser: D(x/alpha, sigma/alpha). Functions act elementwise; sigma and
sigma_data are positive scales of the data's own unit. Source: Karras et al. 2022, table 1 and appendix B.6.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffusion.binding import formula, unproved
from diffusion.schedules import Scalar
from diffusion.shapes import per_sample
from diffusion.types import Network


@formula("edm.c_in.c_in")
def c_in(sigma: Tensor, sigma_data: Scalar) -> Tensor:
    """1/sqrt(sigma^2 + sigma_data^2): what x is multiplied by on its way into the network (eq. 117)."""
    return torch.rsqrt(sigma**2 + sigma_data**2)


@formula("edm.c_skip.c_skip")
def c_skip(sigma: Tensor, sigma_data: Scalar) -> Tensor:
    """sigma_data^2/(sigma^2 + sigma_data^2): the best linear denoiser, which the network corrects (eq. 131)."""
    return sigma_data**2 / (sigma**2 + sigma_data**2)


@formula("edm.c_out.c_out")
def c_out(sigma: Tensor, sigma_data: Scalar) -> Tensor:
    """sigma sigma_data/sqrt(sigma^2 + sigma_data^2): the size of that correction (eq. 138)."""
    return sigma * sigma_data / torch.sqrt(sigma**2 + sigma_data**2)


@unproved("a choice: the network's noise argument, of order one over EDM's range of sigma")
def c_noise(sigma: Tensor) -> Tensor:
    """log(sigma)/4 (table 1)."""
    return torch.log(sigma) / 4


@formula("edm.loss_weight.weight")
def loss_weight(sigma: Tensor, sigma_data: Scalar) -> Tensor:
    """1/c_out^2 = (sigma^2 + sigma_data^2)/(sigma sigma_data)^2, on (D - x_0)^2 (eq. 144)."""
    return 1 / c_out(sigma, sigma_data) ** 2


@formula("edm.churn.sigma_hat")
def churned_sigma(sigma: Tensor, gamma: Scalar) -> Tensor:
    """(1 + gamma) sigma: the level to which churn raises x (algorithm 2, line 5)."""
    return (1 + gamma) * sigma


@formula("edm.churn.noise")
def churn_noise(sigma: Tensor, gamma: Scalar, S_noise: Scalar) -> Tensor:
    """S_noise sqrt(sigma_hat^2 - sigma^2): what fresh noise is multiplied by; exact for S_noise = 1 (line 6)."""
    gamma = torch.as_tensor(gamma, dtype=sigma.dtype, device=sigma.device)
    return sigma * S_noise * torch.sqrt(gamma * (2 + gamma))


@unproved("edm.churn's two bound functions, around one draw of noise")
def churn(
    x: Tensor, sigma: Tensor, gamma: Scalar, generator: torch.Generator, S_noise: Scalar = 1.0
) -> tuple[Tensor, Tensor]:
    """x [batch, ...] of p(sigma) with noise added, and the level (1 + gamma) sigma it now has; gamma, S_noise >= 0."""
    for name, value in (("gamma", gamma), ("S_noise", S_noise)):
        if not bool((torch.as_tensor(value) >= 0).all()):
            raise ValueError(f"churn: {name} = {value}, expected >= 0; churn adds noise, the solver takes it away")
    noise = torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)
    return x + per_sample(churn_noise(sigma, gamma, S_noise), x) * noise, churned_sigma(sigma, gamma)


def preconditioned(network: Network, sigma_data: float) -> Network:
    """(x, sigma) -> D = c_skip x + c_out F(c_in x, c_noise), x [batch, ...] at alpha = 1, sigma a scalar or [batch].

    The network is called with c_noise of shape [batch]. At sigma = 0, D = x whatever the network says: c_out = 0, and
    it is called with the c_noise of sigma = 1, as log 0 would make its answer NaN. Raises ValueError unless
    sigma_data > 0.
    """
    if not sigma_data > 0:
        raise ValueError(f"preconditioned: sigma_data = {sigma_data}, expected the data's standard deviation, > 0")

    def denoised(x: Tensor, sigma: Tensor) -> Tensor:
        skip, scale_in, scale_out = (per_sample(c(sigma, sigma_data), x) for c in (c_skip, c_in, c_out))
        level = c_noise(torch.where(sigma == 0, 1, sigma))
        return skip * x + scale_out * network(scale_in * x, level.to(x).expand(len(x)))

    return denoised
