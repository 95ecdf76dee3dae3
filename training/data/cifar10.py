"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32 x 32, ten classes.

Read from the *binary version*: cifar-10-binary.tar.gz, or the folder it unpacks to. Its records are a label and 3072
bytes, channel by channel. The python version is a pickle, and reading a pickle can run code: it is refused.
"""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from training.data.source import Memory

RECORD = 1 + 3 * 32 * 32
FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
WANTED = "the binary version (cifar-10-binary.tar.gz, or the folder it unpacks to)"


def cifar10(path: str, split: str) -> Memory:
    """The split's images and labels, from the archive or its folder."""
    if not path:
        raise ValueError(f"cifar10 needs a path: {WANTED}")
    where = Path(path)
    found = _archive(where) if where.is_file() else _folder(where)
    if missing := [name for name in FILES[split] if name not in found]:
        hint = " (it looks like the python version)" if any("batch_1" in name for name in found) else ""
        raise ValueError(f"{path} has no {missing[0]}{hint}: expected {WANTED}")
    records = torch.cat([_records(found[name], f"{path}: {name}") for name in FILES[split]])
    return Memory(records[:, 1:].reshape(-1, 3, 32, 32).contiguous(), records[:, 0].long(), 10)


def _folder(folder: Path) -> dict[str, bytes]:
    """The contents of the folder's batches, or of its one subfolder's."""
    if not folder.exists():
        raise ValueError(f"{folder} does not exist: expected {WANTED}")
    return {p.name: p.read_bytes() if p.suffix == ".bin" else b"" for p in folder.rglob("*_batch*") if p.is_file()}


def _archive(path: Path) -> dict[str, bytes]:
    """The same out of an archive; nothing is unpacked to disk."""
    found = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                file = archive.extractfile(member) if member.isfile() and "_batch" in name else None
                if file is not None:
                    found[name] = file.read() if name.endswith(".bin") else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is torn or no tar archive: {' '.join(str(error).split())[:100]}") from None
    return found


def _records(contents: bytes, name: str) -> torch.Tensor:
    """uint8 [n, RECORD]; ValueError for a torn record or a label that is none."""
    if not contents or len(contents) % RECORD:
        raise ValueError(f"{name} has {len(contents)} bytes: expected records of {RECORD}")
    records = torch.from_numpy(np.frombuffer(contents, dtype=np.uint8).reshape(-1, RECORD).copy())
    if int(records[:, 0].max()) > 9:
        raise ValueError(f"{name} has a label {int(records[:, 0].max())}: expected 0 to 9")
    return records
