"""`seminar list`: what there is to prove, train, sample and show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from seminar.arguments import parse


@dataclass(frozen=True)
class List:
    """List what there is."""

    what: Annotated[
        Literal["claims", "topics", "recipes", "scenes", "figures", "worlds", "solvers", "all"], tyro.conf.Positional
    ] = "all"
    """claims, topics, recipes, scenes, figures, worlds, solvers, or all."""


def main(args: Sequence[str]) -> int:
    options = parse(List, "list", args)
    from rich.console import Console

    console = Console()
    for name, (title, rows) in _tables().items():
        if options.what in (name, "all"):
            console.print(f"[bold]{title}[/bold]")
            for row in rows():
                console.print(f"  {row}", highlight=False, markup=False, soft_wrap=True)
    return 0


def _tables() -> dict[str, tuple[str, Callable[[], list[str]]]]:
    from theory.proof import session

    def claims() -> list[str]:
        return [id for path in session.files() for id in session.ids_in(path)]

    def topics() -> list[str]:
        return sorted({id.split(".")[0] for id in claims()})

    def recipes() -> list[str]:
        from training.recipes import RECIPES

        return list(RECIPES)

    def scenes() -> list[str]:
        from animations.catalog import SCENES

        return [f"{row.name}: {row.title} ({', '.join(row.claims)})" for row in SCENES]

    def figures() -> list[str]:
        from animations.catalog import FIGURES

        return [f"{row.name}: {row.title}" for row in FIGURES]

    def worlds() -> list[str]:
        from toy.worlds import ELSEWHERE, WORLDS

        return [*WORLDS, *ELSEWHERE]

    def solvers() -> list[str]:
        from diffusion.solvers import SOLVERS

        return list(SOLVERS)

    return {f.__name__: (f.__name__, f) for f in (claims, topics, recipes, scenes, figures, worlds, solvers)}
