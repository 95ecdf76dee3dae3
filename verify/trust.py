"""How far the checks can be trusted: claims, certificates, definitions and the checker itself, broken on purpose.

Layers are reported apart and never pooled. `expressions` and `certificates` belong to a claim; a `definitions` mutant
is counted with the claim that noticed it; `checker` is the canaries against the weakened checkers. The layer of the
torch code is run by the report, beside the agreement it tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from theory.proof import cache
from theory.proof.session import Outcome
from verify.work import Progress, Unit, kept, perform

FATES = ("killed", "equivalent", "undecided", "survived")
ENGINE = tuple(sorted((cache.ROOT / "theory" / "proof").glob("*.py")))
VERIFY = cache.ROOT / "verify"


@dataclass
class Trial:
    """What the broken proofs gave: counts by claim and layer, the canary matrix, and failures in words."""

    by_claim: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    canaries: dict[str, dict[str, bool]] = field(default_factory=dict)
    untested: dict[str, list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def tables(self) -> list[Table | Text]:
        """The canary x weakening matrix, and the hypotheses that nothing tests."""
        shown: list[Table | Text] = []
        if self.canaries:
            shown += [_matrix(self.canaries)]
        idle = [f"{id}: {', '.join(words)}" for id, words in self.untested.items() if words]
        if idle:
            shown.append(Text("untested hypotheses (no judge misses them)\n  " + "\n  ".join(idle), style="yellow"))
        return shown


def run(
    outcomes: Mapping[str, Outcome],
    jobs: int = 1,
    use_cache: bool = True,
    everything: bool = True,
    progress: Progress | None = None,
) -> Trial:
    """Break the proved claims among `outcomes` (and, with `everything`, the definitions and the checker)."""
    units = _of_claims(outcomes)
    # the long ones first, so that no core waits for one at the end
    units.sort(key=lambda unit: -outcomes[unit.name].seconds)
    if everything:
        theory = tuple(sorted((cache.ROOT / "theory").glob("*.py")))
        aviary = (VERIFY / "canaries.py", *sorted((VERIFY / "aviary").glob("*.py")))
        breaker = VERIFY / "definition_mutants.py"
        from verify.definition_mutants import definitions

        units = [
            *(
                Unit("definitions", f"{m}.{f}", "verify.tasks:definition_mutants", (m, f), (*theory, *ENGINE, breaker))
                for m, f in definitions()
            ),
            *(
                Unit("checker", name, "verify.tasks:canary", (name,), (*theory, *aviary, *ENGINE))
                for name in _canary_names()
            ),
            *units,
        ]
    trial = Trial()
    for unit, record in perform(units, jobs, use_cache, progress).items():
        _place(trial, unit, record)
    _judge_weakenings(trial)
    return trial


def recall(outcomes: Mapping[str, Outcome]) -> Trial:
    """What an earlier run found of these claims, as far as it is kept and still holds; nothing is run."""
    trial = Trial()
    for unit, record in kept(_of_claims(outcomes)).items():
        _place(trial, unit, record)
    return trial


def _of_claims(outcomes: Mapping[str, Outcome]) -> list[Unit]:
    def unit(o: Outcome) -> Unit:
        file = Path(o.file)
        return Unit("proof_mutants", o.id, "verify.tasks:proof_mutants", (cache.portable(file), o.id), (file, *ENGINE))

    return [unit(o) for o in outcomes.values() if o.status in ("proved", "conditional")]


def _canary_names() -> list[str]:
    from verify.aviary import CANARIES

    return list(CANARIES)


def _place(trial: Trial, unit: Unit, record: dict[str, Any]) -> None:
    if unit.kind == "proof_mutants":
        trial.by_claim.setdefault(unit.name, {}).update(record["layers"])
        trial.untested[unit.name] = record["untested"]
        trial.problems += [f"mutant survived: {told}" for told in record["survivors"]]
    elif unit.kind == "definitions":
        for row in record["rows"]:
            home = row["claim"] if row["fate"] == "killed" else next(iter(trial.by_claim), "")
            layers = trial.by_claim.setdefault(home, {})
            counts = layers.setdefault("definitions", dict.fromkeys(FATES, 0))
            counts[row["fate"]] += 1
            if row["fate"] == "survived":
                trial.problems.append(f"broken definition survived: {row['mutant']} (used by {row['claim']})")
    else:
        trial.canaries[unit.name] = record["refused"]
        counts = trial.by_claim.setdefault(record["claim"], {}).setdefault("checker", dict.fromkeys(FATES, 0))
        counts["killed" if record["refused"]["strict"] else "survived"] += 1
        if not record["refused"]["strict"]:
            trial.problems.append(f"canary {unit.name} was believed: {record['lie']}")


def _judge_weakenings(trial: Trial) -> None:
    """Each weakened checker has to let a canary through; one that refuses them all shows a strictness nobody needs."""
    for weak in {w for row in trial.canaries.values() for w in row} - {"strict"}:
        if all(row[weak] for row in trial.canaries.values()):
            trial.problems.append(
                f"the checker with {weak!r} refuses every canary: nothing shows that strictness is needed"
            )


def _matrix(canaries: Mapping[str, Mapping[str, bool]]) -> Table:
    checkers = list(next(iter(canaries.values())))
    title = "canaries refused (·) and let through (X), by checker"
    table = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    table.add_column("canary", no_wrap=True)
    for i, _ in enumerate(checkers):
        table.add_column(str(i), justify="center", min_width=len(str(len(canaries))))
    for name, row in canaries.items():
        table.add_row(name, *(Text("·", style="dim") if row[c] else Text("X", style="bold red") for c in checkers))
    refused = [sum(row[c] for row in canaries.values()) for c in checkers]
    table.add_section()
    table.add_row("refused", *map(str, refused))
    table.caption = "; ".join(f"{i}: {c}" for i, c in enumerate(checkers))
    table.caption_justify = "left"
    return table
