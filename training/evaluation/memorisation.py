r"""Does a model draw new images, or its training set again? The nearest training images of each sample tell.

    ratio = d_1 / d_2        distances to the nearest and to the second nearest training image

A copy has ratio 0, an image as far from one as from another has ratio 1 (Yoon et al. 2023; 0/0, a copy of an image that
the set holds twice, is 0). By itself the number says little: images that the model has never seen, held out from the
same data, say what ratios are had without copying. The two samples are compared by ranks,

    AUC = P(ratio of a sample < ratio of a held-out image) + P(they are equal)/2,

1/2 where nothing is memorised and 1 where all is, with the standard error (n + m + 1)/(12 n m) under the root of equal
laws (Mann & Whitney 1947); and by the share of samples under the ratio that 1 % of held-out images are under.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from scipy.stats import rankdata
from torch import Tensor

TOGETHER = 2**22  # numbers in a part of the training images
QUANTILE = 0.01


@dataclass(frozen=True)
class Neighbours:
    """The two nearest training points of each of n points: distances and indices, [n, 2]."""

    distance: Tensor
    index: Tensor

    @property
    def ratio(self) -> Tensor:
        """d_1 / d_2 of each point, [n], float64."""
        first, second = self.distance.unbind(1)
        return torch.where(first == 0, 0.0, first / second)

    def split(self, n: int) -> tuple[Neighbours, Neighbours]:
        """Those of the first n points, and those of the others."""
        return Neighbours(self.distance[:n], self.index[:n]), Neighbours(self.distance[n:], self.index[n:])


@dataclass(frozen=True)
class Comparison:
    """Ratios of samples against those of held-out images."""

    auc: float
    standard_error: float  # of the AUC where both have one law
    share_below: float  # of the samples, under the ratio that 1 % of held-out images are under
    median_sample: float
    median_held_out: float


def neighbours(x: Tensor, training: Iterable[Iterable[Tensor]]) -> Neighbours:
    """The nearest of the training points for each of x [n, d], float64 throughout.

    training   its parts, one by one: each one or several versions [m, d] of the same m points (images and their mirror
               images, say), and the distance to a point is that to its nearest version. ValueError for fewer than two
               points in all.
    """
    x, seen = x.double(), 0
    best = Neighbours(x.new_full((len(x), 2), math.inf), torch.zeros(len(x), 2, dtype=torch.int64))
    for versions in training:
        squares = functools.reduce(torch.minimum, (_squares(x, points.double()) for points in versions))
        indices = torch.arange(seen, seen + squares.shape[1])
        distance = torch.cat([best.distance, squares.sqrt()], 1)
        index = torch.cat([best.index, indices.expand(len(x), -1)], 1)
        least = distance.topk(2, largest=False)
        best = Neighbours(least.values, index.gather(1, least.indices))
        seen += len(indices)
    if seen < 2:
        raise ValueError(f"{seen} training images: a second neighbour takes two at least")
    return best


def compare(samples: Tensor, held_out: Tensor) -> Comparison:
    """The ratios [n] of samples against those [m] of held-out images."""
    n, m = len(samples), len(held_out)
    ranks = torch.from_numpy(rankdata(torch.cat([samples, held_out]).numpy()))
    wins = float(ranks[n:].sum()) - m * (m + 1) / 2  # pairs in which the held-out ratio is the larger one
    return Comparison(
        auc=wins / (n * m),
        standard_error=math.sqrt((n + m + 1) / (12 * n * m)),
        share_below=float((samples < held_out.quantile(QUANTILE)).double().mean()),
        median_sample=float(samples.median()),
        median_held_out=float(held_out.median()),
    )


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """|x - y|^2 of every pair; of whole numbers exact, as float64 holds their products and sums."""
    return ((x * x).sum(1)[:, None] + (y * y).sum(1) - 2 * x @ y.T).clamp(min=0)
