"""Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grey images of 28 x 28, ten classes; and whatever has its format.

Four files in MNIST's format, each plain or gzipped: big-endian numbers of 4 bytes (a magic number whose last byte is
the number of axes, then the axes' lengths), then unsigned bytes. MNIST itself and its other heirs are read by giving
their folder.
"""

from __future__ import annotations

import gzip
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import torch

from training.data.source import IN_MEMORY, Memory

PACKAGE = "dataset-fashion-mnist"  # Debian's
PREFIX = {"train": "train", "test": "t10k"}


def fashion_mnist(path: str, split: str) -> Memory:
    """The split's images and labels, from a folder or from where Debian's package has put them."""
    folder = Path(path) if path else _installed()
    images, labels = (_read(_file(folder, f"{PREFIX[split]}-{what}-ubyte")) for what in ("images-idx3", "labels-idx1"))
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise ValueError(
            f"{folder}: {split} images of shape {images.shape} and labels of shape {labels.shape} don't fit"
        )
    return Memory(images.unsqueeze(1), labels.long(), int(labels.max()) + 1 if len(labels) else 0)


def _installed() -> Path:
    """The folder that Debian's package has filled."""
    try:
        listed = subprocess.run(["dpkg", "-L", PACKAGE], capture_output=True, text=True, check=True).stdout.split("\n")
    except (OSError, subprocess.CalledProcessError):
        listed = []
    for name in listed:
        if name.endswith(("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz")):
            return Path(name).parent
    raise ValueError(
        f"Fashion-MNIST is not here: install Debian's package (apt-get install {PACKAGE}), or give the folder of its "
        f"four idx or idx.gz files as path"
    )


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{folder} has neither {name} nor {name}.gz")


def _read(path: Path) -> torch.Tensor:
    """The array in an idx file; ValueError, naming the file, if it is no such file or not all of one."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08":
                raise ValueError(f"{path} is no idx file of unsigned bytes: it begins with {head.hex() or 'nothing'}")
            lengths = file.read(4 * head[3])
            shape = struct.unpack(f">{len(lengths) // 4}I", lengths[: len(lengths) // 4 * 4])
            size = int(np.prod(shape, dtype=object))
            if len(shape) < head[3] or size > IN_MEMORY:
                raise ValueError(f"{path} says it holds an array of shape {shape}: its head is torn or wrong")
            contents = file.read(size + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is torn or no gzip file: {error}") from None
    if len(contents) != size:
        more = "more" if len(contents) > size else f"{len(contents)}"
        raise ValueError(f"{path}: expected {size} bytes for an array of shape {shape}, got {more}")
    return torch.from_numpy(np.frombuffer(contents, dtype=np.uint8).reshape(shape).copy())
