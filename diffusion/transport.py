r"""Optimal transport between Gaussians, which is what their probability flow does where covariances commute.

    map     T(x) = nu + sqrt(w/v) (x - mu)                   N(mu, v) to N(nu, w), along each common eigenvector
    cost    E|x - T(x)|^2 = (mu - nu)^2 + (sqrt v - sqrt w)^2        the squared Wasserstein-2 distance

Elementwise, one coordinate along an eigenvector each; costs of coordinates add. v and w are variances. Sources: Olkin &
Pukelsheim 1982; Khrulkov et al. 2023 (arXiv 2202.07477), theorem 3.1.
"""

from __future__ import annotations

import torch

from diffusion.binding import formula
from diffusion.shapes import same_rank
from diffusion.types import Real


@formula("sde.gaussian_map.map", trained=True)
def gaussian_map(x: Real, mu: Real, v: Real, nu: Real, w: Real) -> Real:
    """nu + sqrt(w/v) (x - mu): carries N(mu, v) to N(nu, w) at the least cost."""
    same_rank(x, mu, v, nu, w)
    return nu + torch.sqrt(w / v) * (x - mu)


@formula("sde.gaussian_map.cost", trained=True)
def gaussian_cost(mu: Real, v: Real, nu: Real, w: Real) -> Real:
    """(mu - nu)^2 + (sqrt v - sqrt w)^2: the squared Wasserstein-2 distance of N(mu, v) and N(nu, w)."""
    same_rank(mu, v, nu, w)
    return (mu - nu) ** 2 + (torch.sqrt(v) - torch.sqrt(w)) ** 2
