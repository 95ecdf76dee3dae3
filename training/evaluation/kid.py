r"""KID: the squared maximum mean discrepancy of features, unbiased (Binkowski et al. 2018).

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),          k(x, y) = (x . y / d + 1)^3

with x, x' and y, y' independent. It compares the first three moments of two laws, and is 0 where these agree. The
estimate takes the mean over all pairs of two *different* points (Gretton et al. 2012, eq. 3): its mean is MMD^2 at any
number of points, so that it may come out below 0, and a few hundred points do where FID would need thousands.

Limits by the jackknife over disjoint blocks of both samples. Subsets drawn from one sample overlap, and the spread of
their values, over the root of their number, is no standard error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toy.estimate import Estimate, jackknife

BLOCKS = 20


def kid(x: Tensor, y: Tensor) -> Estimate:
    """The estimate from features x [n, d] and y [m, d], with 95 % limits; ValueError below 2 points a block."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"x, y: expected features [n, d] of one d, got {list(x.shape)} and {list(y.shape)}")
    blocks = min(BLOCKS, len(x) // 2, len(y) // 2)
    if blocks < 2:
        raise ValueError(f"x, y: expected 4 points at least, got {len(x)} and {len(y)}")
    x, y = x.double(), y.double()
    of_x, of_y = (torch.arange(len(z)) * blocks // len(z) for z in (x, y))  # the block each point belongs to
    within_x, within_y = _sums(x, x, of_x, of_x, blocks), _sums(y, y, of_y, of_y, blocks)
    across = _sums(x, y, of_x, of_y, blocks)
    for sums, z, block in ((within_x, x, of_x), (within_y, y, of_y)):
        itself = ((z * z).sum(1) / z.shape[1] + 1) ** 3  # a point is no pair
        sums.diagonal().sub_(torch.zeros_like(sums[0]).index_add_(0, block, itself))
    n, m = of_x.bincount(), of_y.bincount()

    def mmd2(kept: Tensor) -> float:
        a, b = int(n[kept].sum()), int(m[kept].sum())
        xx, yy, xy = (float(sums[kept][:, kept].sum()) for sums in (within_x, within_y, across))
        return xx / (a * (a - 1)) + yy / (b * (b - 1)) - 2 * xy / (a * b)

    everyone = torch.arange(blocks)
    return jackknife(mmd2(everyone), [mmd2(everyone[everyone != block]) for block in range(blocks)])


def kernel(x: Tensor, y: Tensor) -> Tensor:
    """k of every pair, [n, m]."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _sums(x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor, blocks: int) -> Tensor:
    """The kernel's sum over every pair of blocks, [blocks, blocks]; one block's rows of it at a time in memory."""
    sums = torch.zeros(blocks, blocks, dtype=torch.float64)
    for block, row in enumerate(sums):
        row.index_add_(0, of_y, kernel(x[of_x == block], y).sum(0))
    return sums
