"""Images held out of training where the data have no test split: a share of them, chosen by what each is called.

An image is held out if the hash of its name, as a fraction of all hashes, is less than the share. So the choice is the
same in every process and at every resume, whatever the seed and the order; and as none depends on the other images, a
folder that grows keeps its held-out images out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training.data.source import Source


@dataclass(frozen=True)
class Part:
    """Some images of a source."""

    whole: Source
    numbers: Tensor  # int64 [n], in the whole

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    @property
    def classes(self) -> int:
        """Those of the whole, so that a label means the same in all its parts."""
        return self.whole.classes

    @property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(self.whole.fingerprint.encode(), digest_size=16)
        digest.update(self.numbers.numpy().data)
        return digest.hexdigest()

    @property
    def known_as(self) -> Sequence[str]:
        return [called(self.whole, i) for i in self.numbers.tolist()]

    def __len__(self) -> int:
        return len(self.numbers)

    def images(self, indices: Tensor) -> Tensor:
        return self.whole.images(self.numbers[indices])

    def labels(self, indices: Tensor) -> Tensor:
        return self.whole.labels(self.numbers[indices])


def divided(whole: Source, share: float) -> tuple[Part, Part]:
    """The images to learn from, and those held out."""
    out = torch.tensor([fraction(called(whole, i)) < share for i in range(len(whole))], dtype=torch.bool)
    return Part(whole, (~out).nonzero().flatten()), Part(whole, out.nonzero().flatten())


def called(source: Source, i: int) -> str:
    """The name of its i-th image; where images have none, their number is one."""
    return source.known_as[i] if source.known_as else str(i)


def fraction(name: str) -> float:
    """A number in [0, 1) by chance, but always the same for a name (Python's `hash` differs between processes)."""
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8, person=b"held out").digest()
    return int.from_bytes(digest, "little") / 2**64
