"""Checkpoints: all state of a run at one step, as one safetensors file and one JSON file that vouches for it.

    checkpoints/step-00001000/state.safetensors     weights, averaged weights, optimizer, the open window of the log
    checkpoints/step-00001000/state.json            step, facts about the run, size and sha256 of the file above, and
                                                    a digest of this JSON itself

safetensors loads flipped bits without complaint, hence the sha256; JSON may lose a digit and stay JSON, hence the
digest. Nothing is pickled, so loading a checkpoint can't run code. Folders appear by rename (`durable.place`) and the
two newest are kept, so a process killed at any moment leaves a whole checkpoint behind once there has been one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from training import durable

TENSORS, VOUCHER = "state.safetensors", "state.json"
LONGEST = 2**20  # bytes of the JSON: a voucher has a few hundred


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], keep: int = 2) -> Path:
    """Write the checkpoint of `step` under `folder`, then delete all but the newest `keep`; returns its path."""
    if keep < 1:
        raise ValueError(f"keep = {keep}: a run needs at least one checkpoint to go on from")
    contents = safetensors.torch.save({name: _plain(tensor) for name, tensor in tensors.items()})
    path = folder / f"step-{step:08d}"
    if path.exists():
        durable.delete(path)
    durable.place(path, {TENSORS: contents, VOUCHER: _voucher(step, facts, contents)})
    for old in saved(folder)[:-keep]:
        durable.delete(old)
    return path


def saved(folder: Path) -> list[Path]:
    """The checkpoints under `folder`, oldest first; unfinished ones do not count."""
    return sorted(folder.glob("step-*"))


def load(path: Path, like: Mapping[str, Tensor], facts: Mapping[str, Any]) -> tuple[int, dict[str, Tensor]]:
    """The step and tensors of a checkpoint whose files are sound, whose facts are `facts` and whose tensors fit `like`.

    ValueError, in one line, for anything else: a damaged or truncated file, another recipe, seed or machine, a tensor
    missing, unexpected, or of another shape or dtype.
    """
    voucher = _read_voucher(path / VOUCHER)
    if (size := _size(path / TENSORS)) != voucher["bytes"]:
        raise ValueError(f"{path / TENSORS} has {size} bytes, expected {voucher['bytes']}: {_advice(path)}")
    contents = (path / TENSORS).read_bytes()
    if hashlib.sha256(contents).hexdigest() != voucher["sha256"]:
        raise ValueError(f"{path / TENSORS} is damaged (its sha256 is not the one saved): {_advice(path)}")
    for fact, value in facts.items():
        if voucher["facts"].get(fact) != value:
            raise ValueError(f"{path} was saved with {fact} = {voucher['facts'].get(fact)!r}, here it is {value!r}")
    try:
        tensors = safetensors.torch.load(contents)
    except Exception as error:  # a header that means nothing can make safetensors raise anything
        raise ValueError(f"{path / TENSORS} is no safetensors file: {' '.join(str(error).split())[:200]}") from None
    if difference := sorted(tensors.keys() ^ like.keys()):
        raise ValueError(f"{path} is of another model: {len(difference)} names don't match, first {difference[0]}")
    for name, tensor in tensors.items():
        if (tensor.shape, tensor.dtype) != (like[name].shape, like[name].dtype):
            raise ValueError(
                f"{path} is of another model: {name} is {_kind(tensor)}, this run's is {_kind(like[name])}"
            )
    return voucher["step"], tensors


def _plain(tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU: safetensors takes neither shared storage nor other memory formats."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"


def _voucher(step: int, facts: Mapping[str, Any], contents: bytes) -> bytes:
    sha256 = hashlib.sha256(contents).hexdigest()
    claims = {"step": step, "facts": dict(facts), "bytes": len(contents), "sha256": sha256}
    return json.dumps(claims | {"digest": _digest(claims)}, indent=1).encode()


def _digest(claims: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(claims, sort_keys=True).encode(), digest_size=16).hexdigest()


def _size(path: Path) -> int:
    if not path.is_file():
        raise ValueError(f"{path} is missing: {_advice(path.parent)}")
    return path.stat().st_size


def _read_voucher(path: Path) -> dict[str, Any]:
    if _size(path) > LONGEST:
        raise ValueError(f"{path} is damaged (it is longer than any that was saved): {_advice(path.parent)}")
    try:
        claims = json.loads(path.read_bytes())
        digest = claims.pop("digest")
    except (ValueError, RecursionError, KeyError, AttributeError, TypeError):
        raise ValueError(f"{path} is damaged (not the JSON that was saved): {_advice(path.parent)}") from None
    if _digest(claims) != digest or claims.keys() != {"step", "facts", "bytes", "sha256"}:
        raise ValueError(f"{path} is damaged (its digest does not match): {_advice(path.parent)}")
    return claims


def _advice(path: Path) -> str:
    return f"delete the folder {path.name} to go on from an earlier checkpoint"
