"""A folder of images. Where all lie in subfolders, a subfolder is a class, numbered in the order of their names.

A folder with subfolders `train` and `test` has these two splits; any other has only `train`.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from training.data.encoded import encoded
from training.data.source import Source

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")


def folder(path: str, split: str, channels: int, size: int) -> Source:
    """The split's images, in the order of their names."""
    if not path:
        raise ValueError("folder needs a path: a folder of images")
    root = Path(path)
    if not root.is_dir():
        raise ValueError(f"{path} is no folder" if root.exists() else f"{path} does not exist: expected a folder")
    if (root / "train").is_dir() and (root / "test").is_dir():
        root = root / split
    elif split != "train":
        raise ValueError(f"{path} has no split {split!r}: expected subfolders train and test")
    files = sorted(p for p in _below(root) if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not files:
        raise ValueError(f"{root} holds no images ({', '.join(SUFFIXES)})")
    told, classes = None, 0
    if all(len(file.relative_to(root).parts) > 1 for file in files):
        names = [file.relative_to(root).parts[0] for file in files]
        number = {name: i for i, name in enumerate(sorted(set(names)))}
        told, classes = torch.tensor([number[name] for name in names]), len(number)
    return encoded([str(file) for file in files], lambda i: files[i].read_bytes(), channels, size, told, classes)


def _below(root: Path) -> list[Path]:
    return [Path(where) / name for where, _, names in os.walk(root) for name in names]
