"""`seminar train RECIPE` and `seminar train --resume DIR`.

On several GPUs: `accelerate launch -m seminar.main train ...`; in several processes on a CPU: `torchrun -m ...`.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from seminar.arguments import flag, flags, parse


@dataclass(frozen=True)
class Machine:
    """What concerns this machine and not the run: with any of it the outcome is the same."""

    quiet: bool = False
    """No progress bar."""
    workers: int = 0
    """Threads that make coming batches ahead of time; 0: each when it is due."""
    track: Literal["tensorboard", "wandb", "trackio"] | None = None
    """A tracker that the log goes to besides the run's folder."""


@dataclass(frozen=True)
class Run(Machine):
    """Where a run goes and how long it takes."""

    out: Path | None = None
    """The run's folder; runs/<recipe>-<hash>-s<seed> when left out. Never overwritten."""
    seed: int = 0
    """The run's seed: data order, noise, times and initial weights follow from it and the step."""
    seconds: float | None = None
    """Choose `steps` to fill this much time here: timed on throwaway steps, written into config.toml."""


@dataclass(frozen=True, kw_only=True)
class Resume(Machine):
    """Go on with an interrupted run, bit for bit."""

    resume: Path
    """The run's folder."""
    allow_inexact: bool = False
    """Go on even where threads, processes, device or torch are others than before: no longer bit for bit."""


def main(args: Sequence[str]) -> int:
    if "--resume" in flags(args):
        return _told(_resumed(args))
    from training import recipes

    if not args or args[0] in ("-h", "--help"):
        print(f"usage: seminar train RECIPE [--setting VALUE ...] [--out DIR] [--seed S] [--seconds T]\n"
              f"       seminar train --resume DIR\n\nrecipes: {', '.join(recipes.RECIPES)}\n"
              f"settings of a recipe: seminar train RECIPE --help")  # fmt: skip
        return 0 if args else 2
    if args[0].startswith("-"):
        raise ValueError(f"the recipe comes first, got {args[0]}; recipes: {', '.join(recipes.RECIPES)}")
    recipe = recipes.find(args[0])
    options = parse(_flags(recipe), f"train {recipe.name}", args[1:])
    run = {f.name: getattr(options, f.name) for f in dataclasses.fields(Run)}
    settings = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name not in run}
    said = flags(args)
    if run["seconds"] is not None and flag("steps") in said:
        raise ValueError("--steps and --seconds: give one of them")
    chosen = recipes.change(recipe, **{k: v for k, v in settings.items() if v != getattr(recipe, k)})
    for setting, needed in chosen.idle().items():
        if flag(setting) in said:
            raise ValueError(f"{flag(setting)} does nothing without {needed}: leave it out, or set that too")
    from training.loop import train

    return _told(train(chosen, **run))


def _resumed(args: Sequence[str]) -> Any:
    """Where a resumed run ended; ValueError for words that say what to train, which the run's folder does."""
    from training import recipes

    if args[0] in recipes.RECIPES:
        raise ValueError(f"--resume goes on with a run, whose folder says what it trains: leave out {args[0]}")
    settled = {flag(f.name) for recipe in recipes.RECIPES.values() for f in dataclasses.fields(recipe)}
    settled |= {flag(f.name) for f in dataclasses.fields(Run)}
    settled -= {flag(f.name) for f in dataclasses.fields(Resume)}
    for given in flags(args):
        if given in settled:
            raise ValueError(f"{given}: a run that is resumed keeps its settings; to change one, start a new run")
    again = parse(Resume, "train", args)
    from training.loop import resume

    options = dataclasses.asdict(again)
    return resume(options.pop("resume"), **options)


def _flags(recipe: Any) -> Any:
    """A dataclass of the run's options and of every setting of the recipe, each with the recipe's own value."""
    from training.recipes.settings import explanations

    hints, told = typing.get_type_hints(type(recipe)), explanations(type(recipe))
    fields: list[Any] = []
    for f in dataclasses.fields(recipe):
        if f.name != "name":
            words = tyro.conf.arg(help=told[f.name])
            default = dataclasses.field(default=getattr(recipe, f.name))
            fields.append((f.name, Annotated[hints[f.name], tyro.conf.FlagConversionOff, words], default))
    return dataclasses.make_dataclass(f"{type(recipe).__name__}Flags", fields, bases=(Run,), frozen=True)


def _told(outcome: Any) -> int:
    from rich.console import Console

    from training import launch

    if not launch.join().main:
        return 0
    loss = "" if outcome.loss is None else f", loss {outcome.loss:.4g}"
    told = f"step {outcome.step} of {outcome.steps} in {outcome.seconds:.1f} s{loss}: {outcome.folder}"
    if outcome.start == outcome.steps:
        told += " (it had ended before: nothing was left to do)"
    if not outcome.finished:
        told += f" (stopped; go on with: seminar train --resume {outcome.folder})"
    Console().print(told, highlight=False, soft_wrap=True)
    return 0
