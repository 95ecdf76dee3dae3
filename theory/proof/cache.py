"""Verdicts are kept by content: a key is a hash of everything a verdict depends on, and of nothing else.

What a file's verdicts depend on: its own source, the source of every project file it imports (transitively), the
versions of the libraries that judge, and the seed. Never a git revision, never a time stamp: an edit that is undone
finds its old verdicts again. Records are JSON in `.cache/seminar` (or `SEMINAR_HOME`), written whole or not at all.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def home() -> Path:
    """Where verdicts and precomputed arrays are kept."""
    return Path(os.environ.get("SEMINAR_HOME") or ROOT / ".cache" / "seminar")


def _read(path: Path) -> bytes:
    """What a file holds: the project's as first read, as its modules are too; a user's as it is now."""
    return _read_once(path) if path.is_relative_to(ROOT) else path.read_bytes()


_read_once = lru_cache(maxsize=1024)(Path.read_bytes)


@lru_cache(maxsize=1024)
def _imports(source: bytes) -> tuple[Path, ...]:
    """Project files that a source imports by name (a package counts as its __init__.py)."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = set()
    for name in names:
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            stem = ROOT.joinpath(*parts[:i])
            for file in (stem.with_suffix(".py"), stem / "__init__.py"):
                if file.is_file():
                    found.add(file)
    return tuple(sorted(found))


def sources(paths: Iterable[Path]) -> list[Path]:
    """The files and all project files they import, transitively."""
    todo, seen = [Path(p).resolve() for p in paths], set()
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += _imports(_read(path))
    return sorted(seen)


def versions(*packages: str) -> list[str]:
    """name==version for each package, and the Python that runs."""
    told = [f"python=={sys.version_info.major}.{sys.version_info.minor}"]
    for name in packages:
        try:
            told.append(f"{name}=={version(name)}")
        except PackageNotFoundError:
            told.append(f"{name}==absent")
    return told


def portable(path: Path) -> str:
    """A file's name in records: the project's from its root, as a checkout may move; `ROOT / name` finds it."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def key(paths: Iterable[Path], *extra: str) -> str:
    """The content key of files (with all they import) and of the extra words."""
    digest = hashlib.sha256()
    for path in sources(paths):
        name = portable(path) if path.is_relative_to(ROOT) else path.name
        digest.update(f"{name}\0{hashlib.sha256(_read(path)).hexdigest()}\0".encode())
    for word in extra:
        digest.update(f"{word}\0".encode())
    return digest.hexdigest()


def load(kind: str, key: str) -> Any | None:
    """The record kept under this key, or None; a record that is damaged counts as none."""
    try:
        return json.loads((home() / kind / f"{key}.json").read_text())
    except (OSError, ValueError):
        return None


def store(kind: str, key: str, record: Any) -> None:
    """Keep a record: written to a file beside it and renamed, so that a reader sees all of it or nothing."""
    folder = home() / kind
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".part", delete=False) as file:
        json.dump(record, file)
    os.replace(file.name, folder / f"{key}.json")
