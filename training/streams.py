"""Random numbers as a function of (seed, step, purpose, rank): the training loop keeps no generator state.

The key is blake2b of the four, so any step's data, times and noise can be drawn again without drawing those before it.
That is what makes a resumed run equal to an uninterrupted one bit for bit, and ranks independent of each other.
"""

from __future__ import annotations

import hashlib

import torch


def key(seed: int, step: int, purpose: str, rank: int = 0) -> int:
    """A 63-bit seed for torch, stable across processes and machines (never Python's salted `hash`)."""
    digest = hashlib.blake2b(f"{seed}/{step}/{purpose}/{rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """`streams("noise")` is a generator for that purpose at one step, on `device`; the key alone sets its state."""

    def __init__(self, seed: int, step: int, rank: int = 0, device: torch.device | str = "cpu") -> None:
        self.seed, self.step, self.rank, self.device = seed, step, rank, device

    def __call__(self, purpose: str) -> torch.Generator:
        generator = torch.Generator(self.device)
        return generator.manual_seed(key(self.seed, self.step, purpose, self.rank))
