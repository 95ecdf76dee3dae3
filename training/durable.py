"""Files that are either whole or absent, whatever moment the process or the machine dies.

Write under a temporary name, fsync the file, rename, fsync the folder: POSIX makes the rename atomic, the two fsyncs
make it last. Names that start with `PARTIAL` are unfinished business: whoever holds the run's lock may delete them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

PARTIAL = ".partial-"


def write(path: Path, contents: bytes) -> None:
    """Write and fsync a file in place: for files inside a folder that itself is renamed when it is complete."""
    with open(path, "wb") as file:
        file.write(contents)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """fsync a folder: its entries (renames, deletions) reach the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, contents: bytes) -> None:
    """Give a file new contents atomically: a reader sees the old ones or the new ones."""
    partial = path.with_name(PARTIAL + path.name)
    with _or_nothing(partial):
        write(partial, contents)
        os.replace(partial, path)
    sync(path.parent)


def place(path: Path, files: dict[str, bytes]) -> None:
    """Make a folder with these files appear under `path` atomically; OSError if a folder with contents is there."""
    partial = path.with_name(PARTIAL + path.name)
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    with _or_nothing(partial):
        for name, contents in files.items():
            write(partial / name, contents)
        sync(partial)
        os.rename(partial, path)
    sync(path.parent)


def delete(path: Path) -> None:
    """Delete a folder so that it never stands half deleted under its own name."""
    partial = path.with_name(PARTIAL + path.name)
    os.rename(path, partial)
    shutil.rmtree(partial)


def sweep(folder: Path) -> None:
    """Remove what an interrupted write or deletion left behind."""
    for partial in folder.glob(PARTIAL + "*"):
        _remove(partial)


@contextlib.contextmanager
def _or_nothing(partial: Path) -> Iterator[None]:
    """Give back the room of what could not be finished: on a full disk it is the room that the next try needs."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            _remove(partial)
        raise


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial)
    else:
        partial.unlink()
