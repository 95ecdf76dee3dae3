r"""Frechet distance between Gaussians fitted to two samples, as FID takes it of features (Heusel et al. 2017, eq. 6).

    FID = |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^{1/2})            means m, covariances C (of n - 1 degrees)

In one dimension (m_1 - m_2)^2 + (s_1 - s_2)^2. Of two samples of one law it is not 0: `probability.fid_bias`.
With x - m = Q R, C = R^T R/(n - 1): the eigenvalues of C_1 C_2 are the squared singular values of R_1 R_2^T, over
(n_1 - 1)(n_2 - 1). So no root of a matrix is taken, and samples of fewer points than dimensions are no exception.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def frechet(x: Float[Tensor, "*sets n dim"], y: Float[Tensor, "*sets n_2 dim"]) -> Float[Tensor, "*sets"]:
    """FID of the sample x against y, float64; leading axes are separate pairs of samples."""
    if x.ndim < 2 or x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-1]:
        raise ValueError(f"x, y: expected samples [..., n, dim] of one dim, got {list(x.shape)} and {list(y.shape)}")
    if min(x.shape[-2], y.shape[-2]) < 2:
        raise ValueError(f"x, y: a variance takes two points at least, got {x.shape[-2]} and {y.shape[-2]}")
    (m_1, R_1), (m_2, R_2) = _fitted(x.double()), _fitted(y.double())
    common = torch.linalg.svdvals(R_1 @ R_2.mT).sum(-1)
    return ((m_1 - m_2) ** 2).sum(-1) + (R_1**2).sum((-2, -1)) + (R_2**2).sum((-2, -1)) - 2 * common


def _fitted(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [..., dim] and R [..., r, dim] with R^T R the covariance."""
    mean = x.mean(-2, keepdim=True)
    return mean[..., 0, :], torch.linalg.qr((x - mean) / (x.shape[-2] - 1) ** 0.5).R
