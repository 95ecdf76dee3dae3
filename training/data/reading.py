"""What a step of a run reads from its data: a share's next images, in the run's order, mirrored and moved or not."""

from __future__ import annotations

import torch
from torch import Tensor

from training.data.augment import flipped, shifted
from training.data.order import read_order
from training.data.source import Source
from training.streams import Streams


def read(source: Source, n: int, streams: Streams, flip: bool = False, shift: int = 0) -> tuple[Tensor, Tensor]:
    """(images uint8 [n, channels, height, width], their indices in the source) of the streams' step and share."""
    first = (streams.step * streams.shares + streams.share) * n
    epochs, indices = read_order(torch.arange(first, first + n), len(source), streams.seed)
    images = source.images(indices)
    if flip:
        images = flipped(images, epochs, indices, len(source), streams.seed)
    if shift:
        images = shifted(images, epochs, indices, len(source), streams.seed, shift)
    return images, indices
