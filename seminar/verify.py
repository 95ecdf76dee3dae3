"""`seminar verify`: prove, hold code and worlds against what is proved, and say how far the checks can be trusted."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from seminar.arguments import parse
from seminar.progress import bar
from seminar.selection import select
from theory.proof import session
from theory.proof.session import Outcome


@dataclass(frozen=True)
class Verify:
    """Prove claims, compare the code bound to them at 50 digits, and check worlds.

    Exit code 0 only if everything asked for is proved, agrees and holds.
    """

    what: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Claim ids, topics, or a file of your own derivations (notes.py, notes.py::name); everything when left out."""
    mutants: bool = False
    """Break every line, certificate, definition, bound function and the checker itself; all must be noticed."""
    json: Path | None = None
    """Write the report as JSON to this path."""
    html: Path | None = None
    """Write the report as one page to this path, with the mutants of earlier runs as far as they are kept."""
    jobs: int = os.cpu_count() or 1
    """Processes to work in."""
    vary_seed: bool = False
    """Other random points and draws than the fixed ones; the seed is printed, the results are not kept."""
    seed: int | None = None
    """The points and draws of this seed: what a run with --vary-seed saw, seen again."""
    no_cache: bool = False
    """Look at everything afresh."""


def main(args: Sequence[str]) -> int:
    options = parse(Verify, "verify", args)
    if options.jobs < 1:
        raise ValueError(f"--jobs {options.jobs}: expected at least 1")
    for flag, path in (("--json", options.json), ("--html", options.html)):
        if path is not None and not path.resolve().parent.is_dir():
            raise ValueError(f"{flag} {path}: there is no folder {path.resolve().parent}")
        if path is not None and path.is_dir():
            raise ValueError(f"{flag} {path}: that is a folder; name a file in it")
    seed = chosen_seed(options)
    keep = not (options.no_cache or seed)
    files, wanted = select(options.what)
    with bar("proving") as told:
        outcomes = session.verify(files, jobs=options.jobs, use_cache=keep, seed=seed, progress=told)
    outcomes = {id: o for id, o in outcomes.items() if wanted is None or id in wanted}
    return report(outcomes, options, seed, keep, everything=not options.what)


def chosen_seed(options: Verify) -> int:
    """0 for the fixed points and draws."""
    if options.seed is None:
        return random.SystemRandom().randrange(1, 2**31) if options.vary_seed else 0
    if options.vary_seed:
        raise ValueError("--seed and --vary-seed: choose one")
    if not 0 < options.seed < 2**31:
        raise ValueError(f"--seed {options.seed}: expected a whole number from 1 to {2**31 - 1}")
    return options.seed


def report(outcomes: Mapping[str, Outcome], options: Verify, seed: int, keep: bool, everything: bool) -> int:
    """Assemble and print the report; its exit status."""
    from rich.console import Console
    from rich.text import Text

    from verify import report as reports

    console = Console()
    mutants: dict[str, Any] | None = None
    extra: list[Any] = []
    problems: list[str] = []
    if options.mutants:
        from verify import trust

        with bar("breaking claims") as told:
            trial = trust.run(outcomes, jobs=options.jobs, use_cache=keep, everything=everything, progress=told)
        mutants, extra, problems = trial.by_claim, trial.tables(), trial.problems
    with bar("comparing code and worlds") as told:
        whole = reports.verify(
            outcomes,
            everything=everything,
            mutants=mutants,
            jobs=options.jobs,
            use_cache=keep,
            vary=seed or None,
            progress=told,
        )
    whole.problems.extend(problems)
    if options.json is not None:
        options.json.write_text(json.dumps(whole.json(), indent=1) + "\n")
    if options.html is not None:
        from verify.page.build import build

        if mutants is None:
            reports.recall_mutants(whole)
        build(whole, options.html)
    for shown in (*whole.tables(), *extra):
        console.print(shown, soft_wrap=isinstance(shown, Text) and not console.is_terminal)  # one line is one to grep
    if seed:
        console.print(f"seed {seed}: seen again with --seed {seed}")
    for path in (options.json, options.html):
        if path is not None:
            console.print(f"report: {path}")
    return whole.exit_status
