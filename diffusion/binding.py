"""The link between torch code and theorems: a claim id on each function, and nothing more.

`@formula("ddpm.posterior.mean")` registers a function under the claim whose formula it computes; `verify` looks the
claim up, draws arguments from its domains and compares. Torch parameter names equal the claim's symbol names.
`@unproved("reason")` marks a public tensor-returning function that no claim covers; every report prints their count.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Binding:
    """One function bound to one claim (or part of a claim); `trained` functions have their gradient checked too."""

    claim: str
    function: Callable[..., Any]
    trained: bool

    @property
    def name(self) -> str:
        return f"{self.function.__module__}.{self.function.__qualname__}"


_BOUND: list[Binding] = []
_UNPROVED: dict[str, str] = {}


def formula(claim: str, *, trained: bool = False) -> Callable[[F], F]:
    """Bind a function to the claim `topic.name` or part `topic.name.part`; the function itself is left as it is."""
    if claim.count(".") not in (1, 2):
        raise ValueError(f"formula({claim!r}): a claim id reads topic.name or topic.name.part")

    def bind(function: F) -> F:
        _BOUND.append(Binding(claim, function, trained))
        return function

    return bind


def unproved(reason: str) -> Callable[[F], F]:
    """Mark a public tensor-returning function as covered by no claim, and say why."""
    if not reason.strip():
        raise ValueError("unproved(''): say why no claim covers this function")

    def mark(function: F) -> F:
        _UNPROVED[f"{function.__module__}.{function.__qualname__}"] = reason
        return function

    return mark


def bound() -> tuple[Binding, ...]:
    """All bindings registered so far (import the modules first)."""
    return tuple(_BOUND)


def unproven() -> dict[str, str]:
    """Functions no claim covers, with the reason given for each."""
    return dict(_UNPROVED)
