"""What a file system that forgets would keep: a name appears when its contents are on the disk, and then it stays.

A machine that dies loses what was not synced, in any order: a rename may be kept and the bytes behind it lost. Killed
processes (test_resume.py) don't show this, so here the calls themselves are watched.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from training import durable, tensor_file


class Disk:
    """Knows what would be left: at a rename all that is renamed has to be synced, and its folder must be afterwards."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced: dict[Path, int] = {}  # the length of each file, the number of entries of each folder
        self.pending: set[Path] = set()  # folders with a rename that is not synced
        self.renamed: list[str] = []
        for name in ("rename", "replace"):
            monkeypatch.setattr(os, name, self.moving(getattr(os, name)))
        fsync = os.fsync

        def watched(descriptor: int) -> None:
            fsync(descriptor)
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            self.synced[path] = size(path)
            self.pending.discard(path)

        monkeypatch.setattr(os, "fsync", watched)

    def moving(self, move: Any) -> Any:
        def watched(source: Path, target: Path) -> None:
            for path in [Path(source), *Path(source).rglob("*")]:
                assert self.synced.get(path) == size(path), f"{path} was renamed before it was on the disk"
            move(source, target)
            self.pending.add(Path(target).parent)
            self.renamed.append(Path(target).name)

        return watched


def size(path: Path) -> int:
    return len(list(path.iterdir())) if path.is_dir() else path.stat().st_size


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_file_appears_whole_and_stays(disk: Disk, tmp_path: Path) -> None:
    for contents in (b"old", b"new contents"):
        durable.replace(tmp_path / "file", contents)
        assert (tmp_path / "file").read_bytes() == contents
    tensor_file.write(tmp_path / "tensors", {"a": torch.ones(3)})
    assert disk.renamed == ["file", "file", "tensors"]
    assert not disk.pending


def test_a_folder_appears_whole_and_stays(disk: Disk, tmp_path: Path) -> None:
    durable.place(tmp_path / "deep" / "folder", {"one": b"1", "two": b"22"})
    assert {path.name: path.read_bytes() for path in (tmp_path / "deep" / "folder").iterdir()} == {
        "one": b"1",
        "two": b"22",
    }
    assert disk.renamed == ["folder"]
    assert not disk.pending


def test_what_a_killed_write_left_is_no_part_of_the_next(tmp_path: Path) -> None:
    leftover = tmp_path / (durable.PARTIAL + "folder")
    leftover.mkdir()
    (leftover / "of another time").write_bytes(b"old")
    durable.place(tmp_path / "folder", {"one": b"1"})
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["one"]


def test_a_folder_is_never_half_deleted_under_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    durable.place(tmp_path / "folder", {"one": b"1", "two": b"2"})

    def died(path: Path) -> None:
        (path / "one").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(durable.shutil, "rmtree", died)
    with pytest.raises(KeyboardInterrupt):
        durable.delete(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    monkeypatch.undo()
    durable.sweep(tmp_path)
    assert not list(tmp_path.iterdir())
