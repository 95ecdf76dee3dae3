"""Units of work: done on all cores, their verdicts kept by content.

A unit's key is a hash of the files it depends on (with all they import), the versions of the libraries that judge, and
the seed; a unit whose record is kept is not run, and nothing it would need (torch above all) is imported. Only records
in which everything holds are kept, so that a failure is looked at afresh every time.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from theory.proof import cache

LIBRARIES = ("torch", "numpy", "scipy", "sympy", "mpmath", "python-flint", "hypothesis", "torchdiffeq")

Record = dict[str, Any]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Unit:
    """`run` is "module:function", called with `arguments`; it returns a JSON-able record with a boolean "ok"."""

    kind: str
    name: str
    run: str
    arguments: tuple[Any, ...]
    files: tuple[Path, ...]
    words: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return cache.key(self.files, self.kind, self.name, *map(str, self.arguments), *self.words)


def perform(
    units: Sequence[Unit], jobs: int = 1, use_cache: bool = True, progress: Progress | None = None
) -> dict[Unit, Record]:
    """The record of every unit, in the order given; `progress(name, done, total)` counts those that had to be run."""
    keys = _keys(units)
    records = {unit: cache.load(unit.kind, keys[unit]) if use_cache else None for unit in units}
    todo = [unit for unit in units if records[unit] is None]

    def done(unit: Unit, record: Record) -> None:
        records[unit] = record
        if use_cache and record["ok"]:
            cache.store(unit.kind, keys[unit], record)
        if progress:
            progress(unit.name, sum(records[u] is not None for u in todo), len(todo))

    if jobs > 1 and len(todo) > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
            futures = {pool.submit(_run, unit): unit for unit in todo}
            for future in as_completed(futures):
                done(futures[future], future.result())
    else:
        for unit in todo:
            done(unit, _run(unit))
    return {unit: record for unit, record in records.items() if record is not None}


def kept(units: Sequence[Unit]) -> dict[Unit, Record]:
    """The records there are already; nothing is run."""
    found = {unit: cache.load(unit.kind, key) for unit, key in _keys(units).items()}
    return {unit: record for unit, record in found.items() if record is not None}


def _keys(units: Sequence[Unit]) -> dict[Unit, str]:
    versions = " ".join(cache.versions(*LIBRARIES))
    return {unit: cache.key((), unit.key, versions) for unit in units}


def _one_thread() -> None:
    """The cores are shared by processes, not by threads."""
    import torch

    torch.set_num_threads(1)


def _run(unit: Unit) -> Record:
    module, function = unit.run.split(":")
    return getattr(importlib.import_module(module), function)(*unit.arguments)
