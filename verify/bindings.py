"""Which function is bound to which formula, and which public functions of `diffusion/` are bound to none."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import sympy as sp

from diffusion.binding import Binding, bound, unproven
from theory.proof.claims import CLAIMS

DIFFUSION = Path(__file__).resolve().parents[1] / "diffusion"
_TENSOR = re.compile(r"Tensor|Float|Int\[|Real|Bool\[")


def load_all() -> None:
    """Import every module of `diffusion/`, so that `bound()` is complete."""
    for path in sorted(DIFFUSION.glob("*.py")):
        importlib.import_module(f"diffusion.{path.stem}" if path.stem != "__init__" else "diffusion")


def in_module(name: str) -> tuple[Binding, ...]:
    """The bindings that a module declares."""
    importlib.import_module(name)
    return tuple(b for b in bound() if b.function.__module__ == name)


def formula_of(claim: str) -> sp.Expr:
    """The formula behind a claim id: the last line of `topic.name`, or the part `topic.name.part`."""
    topic, name, *part = claim.split(".")
    found = CLAIMS.get(f"{topic}.{name}")
    if found is None:
        raise LookupError(f"there is no claim {topic}.{name} in theory/")
    try:
        return found.part(part[0]) if part else found.formula
    except KeyError as error:
        raise LookupError(error.args[0]) from error


def unmarked() -> Sequence[str]:
    """Public tensor-returning functions of `diffusion/` that are neither bound to a claim nor marked as unproved."""
    load_all()
    known = {b.name for b in bound()} | set(unproven())
    missing = []
    for path in sorted(DIFFUSION.glob("*.py")):
        if path.stem == "__init__":
            continue
        module = importlib.import_module(f"diffusion.{path.stem}")
        for name, function in vars(module).items():
            if name.startswith("_") or not inspect.isfunction(function) or function.__module__ != module.__name__:
                continue
            returns = str(function.__annotations__.get("return", ""))
            full = f"{module.__name__}.{name}"
            if re.match(_TENSOR, returns) and full not in known:
                missing.append(full)
    return missing
