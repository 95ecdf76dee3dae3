"""`seminar audit TARGET`: a stock sampler held against exact worlds, contract by contract."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seminar.arguments import parse

COLOURS = {"holds": "green", "fails": "bold red", "warns": "yellow", "not asked": "dim"}


@dataclass(frozen=True)
class Audit:
    """Hold the sampler of a checkpoint of diffusers against closed forms; exit code 1 if a contract fails."""

    target: Annotated[Path, tyro.conf.Positional]
    """A checkpoint's folder, a scheduler's, a config file, or a run that was imported or exported."""
    scheduler: str | None = None
    """Another class of diffusers with the same config, as its users swap them: DPMSolverMultistepScheduler, say."""
    json: bool = False
    """A JSON table instead, for machines."""


def main(args: Sequence[str]) -> int:
    options = parse(Audit, "audit", args)
    from rich.console import Console
    from rich.table import Table

    from verify.audit.adapters import diffusers
    from verify.audit.contracts import CONTRACTS, audit

    target = diffusers.read(options.target, options.scheduler)
    console = Console()
    if options.json:
        findings = list(audit(target))
        print(json.dumps({"target": target.name, "findings": [dataclasses.asdict(one) for one in findings]}, indent=1))
    else:
        with console.status("audit") as status:
            findings = list(audit(target, lambda name: status.update(f"{name} ({len(CONTRACTS)} contracts)")))
        table = Table(title=f"{target.name} of {options.target}", title_justify="left")
        for heading in ("contract", "", "measured", "why"):
            table.add_column(heading, overflow="fold")
        for one in findings:
            table.add_row(one.contract, f"[{COLOURS[one.verdict]}]{one.verdict}", one.measured, one.why)
        console.print(table)
    return int(any(one.verdict == "fails" for one in findings))
