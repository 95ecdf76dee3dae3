"""Broken definitions: the density, the drift, the kernel that claims start from, broken, and all their claims rebuilt.

A definition is a plain function of the theory that writes an expression (`log_normal`, `drift`, `covariance`, ...). A
mutant swaps its code for a broken one, in a process of its own, and puts the claims that call it to the judges until
one is refuted. A definition is not held down by anything if some claim says something else with it and all still pass.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from diffusion.binding import Binding
from theory.proof import CLAIMS, Claim, Derivation, check, session
from theory.proof.claims import read, renamed
from theory.proof.judges import PROVED, REFUTED
from theory.proof.mutants import changed_steps, refuted
from theory.proof.numeric import is_quadrature
from verify.code_mutants import Mutant, mutants

VOCABULARY = ("theory.proof.vocabulary", ("log_normal", "normal"))


def definitions() -> list[tuple[str, str]]:
    """(module, function) for every definition: the vocabulary's laws and each topic's plain functions."""
    found = [(VOCABULARY[0], name) for name in VOCABULARY[1]]
    for path in session.files():
        module = session.load(path)
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                found.append((module.__name__, name))
    return found


def fates(module: str, name: str) -> list[dict[str, Any]]:
    """What became of every mutant of one definition: the fate, what was changed, and the claim that noticed."""
    for path in session.files():
        session.load(path)
    function = getattr(importlib.import_module(module), name)
    users = _users(name)
    rows = []
    for mutant in mutants(Binding(f"{module.split('.')[-1]}.{name}", function, False)):
        if mutant.function == f"{module}.{name}":
            fate, claim = _in_child(partial(_fate, mutant, function, users))
            rows.append({"fate": fate, "mutant": mutant.key, "claim": claim})
    return rows


def _users(name: str) -> list[tuple[Claim, Derivation]]:
    """Claims in files that name the definition, with what they say now; the quick ones, without integrals, first."""
    files = {str(path) for path in session.files() if name in path.read_text()}
    users = [(c, c.derivation()) for c in CLAIMS.values() if str(Path(c.file).resolve()) in files]
    return sorted(users, key=lambda user: is_quadrature(*(line.expression for line in user[1].lines)))


def _in_child(work: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """The result of `work` in a forked process, which alone sees the broken definition."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = work()
        except BaseException as error:  # reported by the parent as undecided
            answer = ("undecided", f"{type(error).__name__}: {error}")
        os.write(write, pickle.dumps(answer))
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data) if data else ("undecided", "the process died")


def _fate(mutant: Mutant, function: Any, users: list[tuple[Claim, Derivation]]) -> tuple[str, str]:
    function.__code__ = mutant.run.__code__
    changed, undecided = [], ""
    for claim, before in users:
        try:
            after = read(claim)
        except ValueError as error:  # the broken definition makes a line say nothing, or divide by zero
            undecided = undecided or f"{claim.id}: {error}"
            continue
        if (steps := changed_steps(before, after)) is None:
            undecided = undecided or f"{claim.id}: the derivation has another shape"
        elif steps:
            changed.append(claim.id)
            if refuted(claim, steps) or (status := check(renamed(claim, after)).status) == REFUTED:
                return "killed", claim.id
            if status != PROVED:
                undecided = undecided or f"{claim.id}: {status}"
    if undecided:
        return "undecided", undecided
    return ("survived", ", ".join(changed)) if changed else ("equivalent", "")
