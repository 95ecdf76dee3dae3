r"""Linear inverse problems with Gaussian noise whose posterior is known at every noise level.

    y = A x_0 + s_y n,   n ~ N(0, I),   x_0 ~ sum_k w_k N(m_k, C_k)

    x_0 | y ~ sum_k w_k' N(m_k + K_k (y - A m_k), C_k - K_k A C_k),     K_k = C_k A^T S_k^-1,  S_k = A C_k A^T + s_y^2 I
    w_k' proportional to w_k N(y; A m_k, S_k)

A mixture again: so the posterior is a world, and its score at any level (alpha, sigma) is what exact guidance must be.
(Bishop 2006, eq. 2.113-2.117, for each component.)
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from toy.mixture import Mixture, gaussian


class LinearInverse:
    """What is asked of a prior by y = A x_0 + s_y n: A [seen, dim], s_y > 0."""

    def __init__(self, prior: Mixture, A: Float[Tensor, "seen dim"], s_y: float) -> None:
        if A.ndim != 2 or A.shape[1] != prior.dim:
            raise ValueError(f"A has shape {list(A.shape)}, expected [seen, {prior.dim}]")
        if not s_y > 0:
            raise ValueError(f"s_y is the standard deviation of the measurement's noise, > 0, got {s_y}")
        self.prior, self.A, self.s_y = prior, A.double(), float(s_y)

    def posterior(self, y: Float[Tensor, " seen"]) -> Mixture:
        """The law of x_0 given this y."""
        if y.shape != self.A.shape[:1]:
            raise ValueError(f"y has shape {list(y.shape)}, expected [{len(self.A)}]")
        U = torch.eye(self.prior.dim, dtype=torch.float64) if self.prior.basis is None else self.prior.basis
        C = (U * self.prior.variances[:, None]) @ U.mT
        S = self.A @ C @ self.A.T + self.s_y**2 * torch.eye(len(self.A), dtype=torch.float64)
        gain = torch.linalg.solve(S, self.A @ C).mT  # [K, dim, seen]
        off = y.double() - self.prior.means @ self.A.T
        seen = torch.distributions.MultivariateNormal(torch.zeros_like(y, dtype=torch.float64), S)
        log_weights = self.prior.weights.log() + seen.log_prob(off)
        left = C - gain @ self.A @ C
        means = self.prior.means + (gain @ off[..., None])[..., 0]
        return Mixture(f"{self.prior.name} given y", log_weights.softmax(0), means, (left + left.mT) / 2)

    def residual(self, y: Float[Tensor, " seen"], x_0: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch seen"]:
        """y - A x_0."""
        return y.double() - x_0 @ self.A.T


def replaced_pair(rho: float) -> Mixture:
    """(x_0, y_0), standard normal each, of correlation rho: for inpainting x from y."""
    return gaussian("pair", torch.zeros(2), torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64))
