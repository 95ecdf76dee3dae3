"""The rooms have everyday names (`training`, `theory`): say so when another folder of that name is in the way."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOMS = ("theory", "diffusion", "toy", "verify", "training", "animations", "seminar")


def one_root() -> str:
    """ "" when all rooms are found under this checkout; else one line that says which is not, and where it is."""
    root = Path(__file__).resolve().parents[1]
    for room in ROOMS:
        spec = importlib.util.find_spec(room)
        if spec is None:
            return f"the package {room!r} is missing from {root}; install the checkout with: pip install -e ."
        found = Path(spec.origin or next(iter(spec.submodule_search_locations or []), "")).resolve()
        if not found.is_relative_to(root / room):
            return f"{found} is in the way of {root / room}; run from another folder, or rename it"
    return ""
