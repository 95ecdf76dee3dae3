"""Images mirrored, and moved by whole pixels: changes that leave a photograph about as likely as it was.

Whether an image is mirrored, and where it is moved, follows from (seed, epoch, index), like the order, so that it can
be told again. A network is not told of it, so what is drawn with it looks so too: mirrored, and framed anew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from training.streams import key


def flipped(images: Tensor, epochs: Tensor, indices: Tensor, n: int, seed: int) -> Tensor:
    """Images [k, C, H, W] of a data set of n, each mirrored left to right in half of the epochs."""
    mirror = _of_epochs(lambda epoch: coins(n, seed, epoch), epochs, indices)
    return torch.where(mirror.reshape(-1, 1, 1, 1), images.flip(-1), images)


def shifted(images: Tensor, epochs: Tensor, indices: Tensor, n: int, seed: int, most: int) -> Tensor:
    """Images [k, C, H, W] of a data set of n, each moved down and right by -most .. most pixels in each epoch."""
    return moved(images, _of_epochs(lambda epoch: moves(n, seed, epoch, most), epochs, indices))


def moved(images: Tensor, by: Tensor) -> Tensor:
    """Images [k, C, H, W] moved down and right by whole pixels, int64 [k, 2], and reflected at the edges."""
    k, _, height, width = images.shape
    rows, columns = _sources(height, by[:, 0]), _sources(width, by[:, 1])
    each = torch.arange(k)[:, None, None]
    return images[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def versions(images: Tensor, flip: bool, shift: int) -> Iterator[Tensor]:
    """All that a run may have seen of these images."""
    for mirrored in (images, images.flip(-1)) if flip else (images,):
        for down in range(-shift, shift + 1):
            for right in range(-shift, shift + 1):
                yield moved(mirrored, torch.tensor([[down, right]]).expand(len(images), 2)) if shift else mirrored


@functools.lru_cache(maxsize=4)
def coins(n: int, seed: int, epoch: int) -> Tensor:
    """A fair coin for each image of one epoch: bool [n]. Not to be written into."""
    return torch.rand(n, generator=torch.Generator().manual_seed(key(seed, epoch, "flip"))) < 0.5


@functools.lru_cache(maxsize=4)
def moves(n: int, seed: int, epoch: int, most: int) -> Tensor:
    """(down, right) for each image of one epoch, all equally likely: int64 [n, 2]. Not to be written into."""
    generator = torch.Generator().manual_seed(key(seed, epoch, "shift"))
    return torch.randint(-most, most + 1, (n, 2), generator=generator)


def _of_epochs(table: Callable[[int], Tensor], epochs: Tensor, indices: Tensor) -> Tensor:
    """The rows of the epochs' tables that belong to the images, [k, ...]."""
    of_each = epochs.unique()
    rows = torch.stack([table(epoch)[indices] for epoch in of_each.tolist()])
    return rows[torch.searchsorted(of_each, epochs), torch.arange(len(indices))]


def _sources(size: int, by: Tensor) -> Tensor:
    """Which row (or column) comes to each place: int64 [k, size]."""
    place = (torch.arange(size) - by[:, None]).abs()  # reflected at 0
    return (size - 1) - (size - 1 - place).abs()  # and at size - 1
