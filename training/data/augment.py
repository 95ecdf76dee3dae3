"""Mirrored images: the one change that leaves a photograph as likely as it was. Nothing else is done to the data.

Whether an image is mirrored follows from (seed, epoch, index), like the order, so that it can be told again.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from training.streams import key


def flipped(images: Tensor, epochs: Tensor, indices: Tensor, n: int, seed: int) -> Tensor:
    """Images [k, C, H, W] of a data set of n, each mirrored left to right in half of the epochs."""
    mirror = torch.empty(len(images), dtype=torch.bool)
    for epoch in epochs.unique().tolist():
        now = epochs == epoch
        mirror[now] = coins(n, seed, epoch)[indices[now]]
    return torch.where(mirror.reshape(-1, 1, 1, 1), images.flip(-1), images)


@functools.lru_cache(maxsize=4)
def coins(n: int, seed: int, epoch: int) -> Tensor:
    """A fair coin for each image of one epoch: bool [n]. Not to be written into."""
    return torch.rand(n, generator=torch.Generator().manual_seed(key(seed, epoch, "flip"))) < 0.5
