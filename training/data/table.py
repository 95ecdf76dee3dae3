"""Images in the rows of a table: Parquet files, or a data set of the `datasets` library.

The image column holds encoded images: bytes, or the {bytes, path} of `datasets`. It is named `image` or `img`, or is
the only one of its kind; the column `label`, of whole numbers, is optional.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.data.encoded import encoded
from training.data.source import Source

IMAGE, LABEL = ("image", "img"), ("label", "labels")


def parquet(path: str, split: str, channels: int, size: int) -> Source:
    """A Parquet file, or a folder of them; there, files named train* and test* are the splits, if both exist."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path:
        raise ValueError("parquet needs a path: a Parquet file, or a folder of them")
    files = _files(Path(path), split)
    try:
        table = pa.concat_tables([pq.read_table(file) for file in files], promote_options="permissive")
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} can't be read as Parquet: {' '.join(str(error).split())[:200]}") from None
    column = _column(path, {name: _holds_images(table.schema.field(name).type) for name in table.column_names})
    images = table[column].combine_chunks()
    label = next((name for name in LABEL if name in table.column_names), None)
    return _source(path, len(table), lambda i: images[i].as_py(), table[label].to_pylist() if label else None,
                   channels, size)  # fmt: skip


def hub(name: str, path: str, split: str, channels: int, size: int) -> Source:
    """A data set of the `datasets` library: from its cache by its name on the hub, or saved to disk at `path`."""
    import datasets

    splits = _hub_splits(name, path)
    if split not in splits:
        raise ValueError(f"hub:{name}: split {split!r} is not here; there are {', '.join(splits)}")
    data = splits[split]
    column = _column(name, {k: isinstance(feature, datasets.Image) for k, feature in data.features.items()})
    data = data.cast_column(column, datasets.Image(decode=False))
    label = next((k for k in LABEL if k in data.features), None)
    return _source(name, len(data), lambda i: data[i][column], data[label] if label else None, channels, size)


def parquet_has_test(path: str) -> bool:
    """Whether the folder has a split `test`."""
    return bool(path) and all(_parts(_all_files(Path(path))).values())


def hub_has_test(name: str, path: str) -> bool:
    """Whether the data set has a split `test`; ValueError if it is not here."""
    return "test" in _hub_splits(name, path)


@functools.lru_cache(maxsize=4)
def _hub_splits(name: str, path: str) -> dict[str, Any]:
    """What is here of a data set, by split."""
    import datasets

    datasets.config.HF_HUB_OFFLINE = True  # a run reads what is here; fetching is asked for, by the line below
    try:
        found = datasets.load_from_disk(path) if path else datasets.load_dataset(name)
        if not isinstance(found, datasets.DatasetDict):
            raise TypeError(f"a {type(found).__name__}, without splits")
    except Exception as error:
        told = " ".join(str(error).split())[:200]
        raise ValueError(
            f"hub:{name} is not here ({type(error).__name__}: {told}): fetch it once with "
            f"datasets.load_dataset({name!r}), or give the folder of a DatasetDict's save_to_disk as path"
        ) from None
    return found


def _all_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.parquet"))


def _parts(files: list[Path]) -> dict[str, list[Path]]:
    """The files of each split; if one has none, there are no splits."""
    return {split: [file for file in files if file.name.startswith(split)] for split in ("train", "test")}


def _files(path: Path, split: str) -> list[Path]:
    if not path.exists():
        raise ValueError(f"{path} does not exist: expected a Parquet file, or a folder of them")
    files = _all_files(path)
    if not files:
        raise ValueError(f"{path} holds no .parquet files")
    splits = _parts(files)
    if all(splits.values()):
        return splits[split]
    if split != "train":
        raise ValueError(f"{path} has no split {split!r}: expected files named train* and test*")
    return files


def _holds_images(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _column(where: str, holds: dict[str, bool]) -> str:
    """The name of the image column."""
    found = [name for name, is_image in holds.items() if is_image]
    named = [name for name in found if name in IMAGE]
    if len(named or found) != 1:
        raise ValueError(f"{where}: expected one column of images, named image or img; columns are {', '.join(holds)}")
    return (named or found)[0]


def _source(where: str, n: int, cell: Callable[[int], Any], labels: Any, channels: int, size: int) -> Source:
    def read(i: int) -> bytes:
        value = cell(i)
        data = value.get("bytes") if isinstance(value, dict) else value
        if data is None and isinstance(value, dict) and value.get("path"):
            data = Path(value["path"]).read_bytes()
        if data is None:
            raise ValueError(f"{where}: row {i} has no image")
        return data

    told = None if labels is None else _labels(where, list(labels))
    classes = int(told.max()) + 1 if told is not None and n else 0
    return encoded([f"{where}: row {i}" for i in range(n)], read, channels, size, told, classes)


def _labels(where: str, labels: list[Any]) -> Tensor:
    for i, label in enumerate(labels):
        if type(label) is not int or label < 0:
            raise ValueError(f"{where}: row {i} has label {label!r}, expected a whole number >= 0")
    return torch.tensor(labels, dtype=torch.int64)
