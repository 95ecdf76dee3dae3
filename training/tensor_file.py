"""Tensors by name in a file that vouches for itself: safetensors, with a digest of names, kinds and values inside.

safetensors loads flipped bits without complaint, and weights are copied about: a file that is not as a run wrote it is
refused. Any other program reads it as the plain safetensors that it is. Nothing is pickled, so reading runs no code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from training import durable

DIGEST = "digest"


def write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors into a file, which appears whole or not at all."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    durable.replace(path, safetensors.torch.save(plain, metadata={DIGEST: digest(plain)}))


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file that `write` has written; ValueError, in one line, for one that is not as it was."""
    try:
        with safetensors.safe_open(path, "pt") as stored:
            told = (stored.metadata() or {}).get(DIGEST)
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except Exception as error:  # a header that means nothing can make safetensors raise anything
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())[:200]}") from None
    if told != digest(tensors):
        what = "it has no digest" if told is None else "its digest does not match"
        raise ValueError(f"{path} is damaged, or is no file of a run ({what}): put back the file that was written")
    return tensors


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Of names, kinds and values."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
