"""Encoded images, each with a name: kept decoded in memory if that fits, else decoded when they are asked for.

What fits is decoded once, at the opening, so that a broken image is found before a run begins. Of what does not, the
heads are checked then, and the fingerprint is that of names, lengths and heads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.data.decode import decode, head
from training.data.source import IN_MEMORY, Memory, Source, chosen

HEAD = 4096  # bytes of each image that the fingerprint sees


@dataclass(frozen=True)
class Encoded:
    """A source whose images are decoded on demand; `read(i)` gives the bytes of the i-th, from any thread."""

    names: Sequence[str]
    read: Callable[[int], bytes]
    shape: tuple[int, int, int]
    told: Tensor | None = None
    classes: int = 0
    known_as: Sequence[str] = ()
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fingerprint", self._check())

    def _check(self) -> str:
        """The fingerprint, made while every head is looked at."""
        digest = hashlib.blake2b(str(self.shape).encode(), digest_size=16)
        for i, name in enumerate(self.names):
            data = self.read(i)
            head(data, name, self.shape[1])
            label = None if self.told is None else int(self.told[i])
            digest.update(f"{name}\0{label}\0{len(data)}\0".encode() + data[:HEAD])
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.names)

    def image(self, i: int) -> Tensor:
        return decode(self.read(i), self.names[i], self.shape[0], self.shape[1])

    def images(self, indices: Tensor) -> Tensor:
        return torch.stack([self.image(i) for i in indices.tolist()])

    def labels(self, indices: Tensor) -> Tensor:
        return chosen(self.told, indices)


def encoded(
    names: Sequence[str], read: Callable[[int], bytes], channels: int, size: int, told: Tensor | None, classes: int,
    known_as: Sequence[str] = (),
) -> Source:  # fmt: skip
    """The images as a source; ValueError, naming the image, for the first that cannot be used.

    names      for a reader, with their path
    known_as   without it, see source.py
    """
    if len(names) * channels * size**2 > IN_MEMORY:
        return Encoded(names, read, (channels, size, size), told, classes, known_as)
    pixels = torch.empty(len(names), channels, size, size, dtype=torch.uint8)

    def fill(i: int) -> None:
        pixels[i] = decode(read(i), names[i], channels, size)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(names))):
            pass
    return Memory(pixels, told, classes, known_as)
