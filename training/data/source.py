"""A source of images: what a family of recipes asks of a data set, wherever it comes from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

IN_MEMORY = 2**31  # bytes of decoded pixels up to which a data set is kept in memory


class Source(Protocol):
    """A data set of images, all of one shape; reading it is thread-safe."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        ...

    @property
    def classes(self) -> int:
        """How many there are; 0: unlabelled."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the contents: another data set, or this one edited, has another."""
        ...

    @property
    def known_as(self) -> Sequence[str]:
        """What each image is called, wherever the data lie; none: they are known by their numbers."""
        ...

    def __len__(self) -> int: ...

    def images(self, indices: Tensor) -> Tensor:
        """uint8 [n, channels, height, width] for indices [n]."""
        ...

    def labels(self, indices: Tensor) -> Tensor:
        """int64 [n], in 0 .. classes - 1; ValueError where there are none."""
        ...


@dataclass(frozen=True)
class Memory:
    """A source whose pixels are in memory."""

    pixels: Tensor  # uint8 [N, channels, height, width]
    told: Tensor | None = None  # int64 [N]
    classes: int = 0
    known_as: Sequence[str] = ()
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", _fingerprint(self.pixels, self.told))

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.pixels)

    def images(self, indices: Tensor) -> Tensor:
        return self.pixels[indices]

    def labels(self, indices: Tensor) -> Tensor:
        return chosen(self.told, indices)


def chosen(told: Tensor | None, indices: Tensor) -> Tensor:
    """The labels at these indices; ValueError when there are none."""
    if told is None:
        raise ValueError("these images have no labels")
    return told[indices]


def _fingerprint(pixels: Tensor, told: Tensor | None) -> str:
    digest = hashlib.blake2b(str(tuple(pixels.shape)).encode(), digest_size=16)
    digest.update(pixels.contiguous().numpy().data)
    if told is not None:
        digest.update(told.contiguous().numpy().data)
    return digest.hexdigest()
