"""The order in which a run reads its data, as a function of the sample's number alone.

Sample number i of a run of N images (i = step * batch + share * n + j) belongs to epoch i // N, and is the image at
place i % N of that epoch's permutation, which is keyed by (seed, epoch). So every epoch sees every image exactly once,
whatever the batch and however it is shared out; a batch may end one epoch and begin the next.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from training.streams import key


def read_order(numbers: Tensor, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """(epochs, indices), int64 [k], of sample numbers int64 [k] in a data set of n images."""
    epochs, places = numbers // n, numbers % n
    indices = torch.empty_like(numbers)
    for epoch in epochs.unique().tolist():
        now = epochs == epoch
        indices[now] = permutation(n, seed, epoch)[places[now]]
    return epochs, indices


@functools.lru_cache(maxsize=4)
def permutation(n: int, seed: int, epoch: int) -> Tensor:
    """The order of one epoch: int64 [n]. Not to be written into."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(key(seed, epoch, "order")))
