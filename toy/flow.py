"""The exact probability-flow map of a world.

Along dx/dt = alpha_dot D + sigma_dot (x - alpha D)/sigma, D = E[x_0 | x_t = x] (Song et al. 2021, eq. 13, written with
the denoiser), only the level matters and not how fast it is passed: with

    r = sqrt(alpha^2 + sigma^2),    theta = atan2(sigma, alpha) in [0, pi/2],    y = x/r

every schedule follows the same curves

    dy/dtheta = (cos(theta) y - D) / sin(theta),    D at the level (cos theta, sin theta),

regular for all theta in (0, pi/2]: pure noise (alpha = 0) included. At theta = 0, dy/dtheta = 0 for a law with a
density (the right-hand side is -sin(theta) D - sin(theta) cos(theta) score); a law without one must stop before.
Integrated in float64 by DOP853 with step control; levels between two steps come from its interpolant of order 7.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy.integrate import solve_ivp
from torch import Tensor

from toy.world import World, at_level


def trajectory(
    world: World,
    x: Float[Tensor, "batch dim"],
    alpha: Float[Tensor, " levels"],
    sigma: Float[Tensor, " levels"],
    tolerance: float = 1e-10,
) -> Float[Tensor, "levels batch dim"]:
    """x carried along the flow through the levels (alpha_i, sigma_i), from the first, where it starts, to the last.

    sigma/alpha must be strictly monotone: falling denoises, rising encodes. `tolerance` is the integrator's local
    error, relative and absolute. float64.
    """
    start, _, _ = at_level(x, 1.0, 0.0, world.dim)
    alpha, sigma = (torch.as_tensor(level, dtype=torch.float64) for level in (alpha, sigma))
    if alpha.ndim != 1 or alpha.shape != sigma.shape or len(alpha) < 2:
        raise ValueError(
            f"alpha and sigma must be [levels], two or more, got {list(alpha.shape)} and {list(sigma.shape)}"
        )
    theta, r = torch.atan2(sigma, alpha), torch.hypot(alpha, sigma)
    step = theta.diff()
    if bool((alpha < 0).any() or (sigma < 0).any() or not ((step > 0).all() or (step < 0).all())):
        raise ValueError("alpha and sigma must be >= 0 with sigma/alpha strictly monotone")

    def slope(angle: float, y: np.ndarray) -> np.ndarray:
        if angle == 0:
            return np.zeros_like(y)
        state = torch.from_numpy(y).reshape(start.shape)
        D = world.denoiser(state, np.cos(angle), np.sin(angle))
        return ((np.cos(angle) * state - D) / np.sin(angle)).flatten().numpy()

    solved = solve_ivp(
        slope,
        (float(theta[0]), float(theta[-1])),
        (start / r[0]).flatten().numpy(),
        method="DOP853",
        t_eval=theta.numpy(),
        rtol=tolerance,
        atol=tolerance,
    )
    if not solved.success:
        raise ArithmeticError(f"the flow of {world.name} could not be integrated: {solved.message}")
    y = torch.from_numpy(solved.y).T.reshape(len(theta), *start.shape)
    return r[:, None, None] * y
