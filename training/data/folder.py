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
    splits = [root]
    if has_test(path):
        splits = [root / "train", root / "test"]
        root = root / split
    elif split != "train":
        raise ValueError(f"{path} has no split {split!r}: expected subfolders train and test")
    files = _images(root)
    if not files:
        raise ValueError(f"{root} holds no images ({', '.join(SUFFIXES)})")
    told, classes = None, 0
    of_all = [file.relative_to(part).parts for part in splits for file in _images(part)]
    if all(len(parts) > 1 for parts in of_all):
        number = {name: i for i, name in enumerate(sorted({parts[0] for parts in of_all}))}  # alike in both splits
        told, classes = torch.tensor([number[file.relative_to(root).parts[0]] for file in files]), len(number)
    known_as = [file.relative_to(root).as_posix() for file in files]
    names = [str(file) for file in files]
    return encoded(names, lambda i: files[i].read_bytes(), channels, size, told, classes, known_as)


def has_test(path: str) -> bool:
    """Whether the folder has a split `test`."""
    return bool(path) and all((Path(path) / split).is_dir() for split in ("train", "test"))


def _images(root: Path) -> list[Path]:
    """The image files below a folder, in the order of their names."""
    files = [Path(where) / name for where, _, names in os.walk(root) for name in names]
    return sorted(p for p in files if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
