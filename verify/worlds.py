r"""Claims about laws, held against worlds whose truth is known in closed form.

    @world_check("ddpm.posterior", worlds=("gaussian", "ring"))
    def posterior_invariance(world, generator):
        ...
        yield "residual scale", scale(residual, FALSE_FAIL)

A check names the claims it is about and the worlds it runs on, draws from the generator it is given and yields a name
and a verdict for each thing it looked at. Deterministic checks cannot fail for nothing; statistical ones do so with
probability at most FALSE_FAIL each, so the whole suite with at most SUITE_FALSE_FAIL by the union bound, which is
checked when it runs. The checks themselves are in `verify.checks`.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator

from toy.world import World
from toy.worlds import make
from verify.statistics import Verdict

FALSE_FAIL = 1e-9  # of one statistical test
SUITE_FALSE_FAIL = 1e-6  # of all of them together

Outcome = tuple[str, Verdict]
Check = Callable[[World, Generator], Iterator[Outcome]]


@dataclass(frozen=True)
class WorldCheck:
    """One registered check: the claims it is about, the worlds it runs on."""

    claims: tuple[str, ...]
    worlds: tuple[str, ...]
    name: str
    function: Check


@dataclass(frozen=True)
class Row:
    """One line of the report: what a check saw on a world."""

    claims: tuple[str, ...]
    world: str
    check: str
    verdict: Verdict
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return self.verdict.holds

    def row(self) -> dict[str, Any]:
        """The entry in the report."""
        return {
            "world": self.world,
            "check": self.check,
            "value": self.verdict.value if math.isfinite(self.verdict.value) else None,
            "false_fail": self.verdict.false_fail,
            "detectable_effect": self.verdict.detectable_effect,
            "status": "holds" if self.holds else "fails",
        }


_CHECKS: dict[str, WorldCheck] = {}


def world_check(*claims: str, worlds: Sequence[str]) -> Callable[[Check], Check]:
    """Register a check of these claims on these worlds, under the function's name."""
    if not claims or not worlds:
        raise ValueError("world_check: name at least one claim and one world")

    def register(function: Check) -> Check:
        name = function.__name__
        if name in _CHECKS and _CHECKS[name].function is not function:
            raise ValueError(f"world_check: there is already a check {name!r}; give this one a name of its own")
        _CHECKS[name] = WorldCheck(claims, tuple(worlds), name, function)
        return function

    return register


def checks() -> tuple[WorldCheck, ...]:
    """All registered checks; those of this project are loaded first."""
    import verify.checks as ours

    for module in pkgutil.iter_modules(ours.__path__, f"{ours.__name__}."):
        importlib.import_module(module.name)
    return tuple(_CHECKS.values())


def run(check: WorldCheck, world: str, vary: int | None = None) -> list[Row]:
    """What a check sees on one world; the same on every run unless `vary` seeds other draws."""
    generator = Generator().manual_seed(zlib.crc32(f"{check.name}/{world}/{vary}".encode()))
    rows, began = [], time.perf_counter()
    with torch.no_grad():
        for name, verdict in check.function(make(world), generator):
            now = time.perf_counter()
            rows.append(Row(check.claims, world, f"{check.name.replace('_', ' ')}: {name}", verdict, now - began))
            began = now
    if not rows:
        raise ValueError(f"world check {check.name!r} looked at nothing on {world}")
    return rows


def suite_false_fail(rows: Sequence[Row]) -> float:
    """The rate at which a suite of these checks fails for nothing, at most (union bound)."""
    total = sum(row.verdict.false_fail for row in rows)
    if total > SUITE_FALSE_FAIL:
        raise ValueError(f"{len(rows)} checks fail for nothing at rate {total:.2g}, more than {SUITE_FALSE_FAIL}")
    return total
