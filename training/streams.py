"""Random numbers as a function of (seed, step, purpose, share): the training loop keeps no generator state.

A step's batch is cut into equal shares, one for each process and micro-batch: share = micro * processes + process. The
key is blake2b of the four, so any share's data, times and noise can be drawn again without drawing those before it.
That is what makes a resumed run equal to an uninterrupted one bit for bit, shares independent of each other, and two
processes the same training as two micro-batches.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch


def key(seed: int, step: int, purpose: str, share: int = 0) -> int:
    """A 63-bit seed for torch, stable across processes and machines (never Python's salted `hash`)."""
    digest = hashlib.blake2b(f"{seed}/{step}/{purpose}/{share}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True, slots=True)
class Streams:
    """`streams("noise")` is a generator for that purpose at one step and share, on `device`."""

    seed: int
    step: int
    share: int = 0
    shares: int = 1
    device: torch.device | str = "cpu"

    def __call__(self, purpose: str, device: torch.device | str | None = None) -> torch.Generator:
        generator = torch.Generator(device or self.device)
        return generator.manual_seed(key(self.seed, self.step, purpose, self.share))
