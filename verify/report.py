"""One report: what is proved, what agrees, what holds, and how far all of that can be trusted.

`verify` takes the outcomes of the proofs (theory.proof.session.verify), adds for each claim the functions bound to it
and the world checks about it, and on request the mutants; `Report.json` is the machine's view, `Report.tables` a
person's. The exit status is 0 only if everything asked for is proved, agrees and holds.
"""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from theory.proof import session
from theory.proof.cache import ROOT
from theory.proof.session import Outcome
from verify.work import Progress, Unit, kept, perform

UNDECIDED_ALLOWED = 0.005  # of all mutants

Tallies = dict[str, dict[str, int]]  # layer -> fate -> count


@dataclass
class Entry:
    """All that is known of one claim."""

    outcome: Outcome
    bindings: list[dict[str, Any]] = field(default_factory=list)
    worlds: list[dict[str, Any]] = field(default_factory=list)
    mutants: Tallies | None = None

    @property
    def sound(self) -> bool:
        return (
            self.outcome.status == "proved"
            and all(b["status"] == "agrees" for b in self.bindings)
            and all(w["status"] == "holds" for w in self.worlds)
            and not any(counts["survived"] for counts in (self.mutants or {}).values())
        )


@dataclass
class Report:
    """The whole. `problems` are failures in words, each with what refutes it; `unproved` says why by function."""

    entries: list[Entry]
    problems: list[str]
    unproved: dict[str, str]
    false_fail: float
    seconds: float

    @property
    def sound(self) -> bool:
        return not self.problems and all(entry.sound for entry in self.entries)

    @property
    def exit_status(self) -> int:
        return 0 if self.sound else 1

    def layers(self) -> Tallies:
        """The mutants of all claims, layer by layer; never pooled."""
        total: Tallies = {}
        for entry in self.entries:
            for layer, counts in (entry.mutants or {}).items():
                into = total.setdefault(layer, dict.fromkeys(FATES, 0))
                for fate in FATES:
                    into[fate] += counts[fate]
        return total

    def json(self) -> dict[str, Any]:
        """The machine's view."""
        claims = [_claim(entry) for entry in self.entries]
        proved = sum(entry.outcome.status == "proved" for entry in self.entries)
        failed = sum(not entry.sound for entry in self.entries)
        errors = sum(entry.outcome.status == "error" for entry in self.entries)
        summary = {"proved": proved, "failed": failed, "errors": errors, "seconds": round(self.seconds, 3)}
        return {"claims": claims, "summary": summary}

    def tables(self) -> Iterator[Table | Text]:
        """The person's view: one line a claim, then the mutants, then what is wrong, then the sum of it."""
        yield _claims_table(self.entries)
        if layers := self.layers():
            yield _layers_table(layers)
        for problem in self.problems:
            yield Text(problem, style="red")
        yield _summary(self)


FATES = ("killed", "equivalent", "undecided", "survived")


# ------------------------------------------------------------------------------------------------ assembling


def verify(
    outcomes: Mapping[str, Outcome],
    *,
    everything: bool = True,
    mutants: Mapping[str, Tallies] | None = None,
    jobs: int = 1,
    use_cache: bool = True,
    vary: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Hold the proved claims against code and worlds.

    outcomes    of the claims asked for, by id
    everything  whether these are all claims there are: then an id nobody knows is a failure, and coverage is checked
    mutants     the tallies of the proofs' own layers, by claim; given, the code's mutants are run as well
    vary        a seed for other points and draws than the fixed ones
    """
    began = time.perf_counter()
    wanted = set(outcomes)
    units = _units(wanted, mutants is not None, vary)
    records = perform(units, jobs, use_cache, progress)
    entries = {
        id: Entry(o, mutants=dict(mutants.get(id, {})) if mutants is not None else None) for id, o in outcomes.items()
    }
    problems = list(dict.fromkeys(o.message for o in outcomes.values() if o.message))  # a file's error is said once
    problems += [
        f"{o.id} is conditional: {', '.join(o.assumes)}" for o in outcomes.values() if o.status == "conditional"
    ]
    strangers: set[str] = set()
    unproved: dict[str, str] = {}
    for unit, record in records.items():
        if unit.kind == "coverage":
            unproved = record["unproved"]
            problems += [
                f"{name} returns a tensor and is neither bound nor marked @unproved" for name in record["unmarked"]
            ]
            continue
        problems += [f"verify/waivers.toml waives what needs no waiver: {key}" for key in record.get("stale", ())]
        for line in record["rows"]:
            strangers |= _place(unit.kind, line, entries, problems)
    if everything:
        problems += [f"there is no claim {id}, to which code or a world check refers" for id in sorted(strangers)]
    problems += _too_many_undecided(entries.values())
    order = sorted(entries.values(), key=lambda e: (e.outcome.week or 0, e.outcome.file, e.outcome.line))
    false_fail = sum(w["false_fail"] for w in {id(w): w for e in order for w in e.worlds}.values())
    proving = sum(o.seconds for o in outcomes.values() if not o.cached)
    return Report(order, problems, unproved, false_fail, time.perf_counter() - began + proving / max(jobs, 1))


def recall_mutants(report: Report) -> None:
    """Put beside each claim what an earlier run with mutants found, as far as it is kept; nothing is run."""
    from verify import trust

    entries = {entry.outcome.id: entry for entry in report.entries}
    found = trust.recall({id: entry.outcome for id, entry in entries.items()}).by_claim
    for id, entry in entries.items():
        entry.mutants = dict(found.get(id, {}))
    for record in kept([unit for unit in _units(set(entries), True, None) if unit.kind == "code_mutants"]).values():
        for line in record["rows"]:
            _place("code_mutants", line, entries, report.problems)


def _units(wanted: set[str], mutants: bool, vary: int | None) -> list[Unit]:
    """The files that say anything about the wanted claims, found by reading their text: nothing is imported."""
    units = []
    for path in sorted((ROOT / "verify" / "checks").glob("*.py")):
        if _named(path, "world_check") & wanted:
            name = f"verify.checks.{path.stem}"
            units.append(Unit("worlds", name, "verify.tasks:world_checks", (name, vary), (path,)))
    bound = [p for p in sorted((ROOT / "diffusion").glob("*.py")) if _claims_of(_named(p, "formula")) & wanted]
    stated = {path: set(session.ids_in(path)) for path in session.files()}
    for path in bound:
        name = f"diffusion.{path.stem}"
        theory = [where for where, ids in stated.items() if ids & _claims_of(_named(path, "formula"))]
        files: tuple[Path, ...] = (path, ROOT / "verify" / "agreement.py", *theory)
        units.append(Unit("agreement", name, "verify.tasks:agreement", (name, vary), files))
        if mutants:
            files = (*files, ROOT / "verify" / "code_mutants.py")
            words = ((ROOT / "verify" / "waivers.toml").read_text(),)
            units.append(Unit("code_mutants", name, "verify.tasks:code_mutants", (name,), files, words))
    if bound:
        code = (*sorted((ROOT / "diffusion").glob("*.py")), ROOT / "verify" / "bindings.py")
        units.append(Unit("coverage", "diffusion", "verify.tasks:coverage", (), code))
    return units


def _named(path: Path, decorator: str) -> set[str]:
    """The ids given to a decorator anywhere in a file."""
    calls = (d for n in ast.walk(ast.parse(path.read_text())) for d in getattr(n, "decorator_list", ()))
    return {
        argument.value
        for call in calls
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == decorator
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    }


def _claims_of(ids: set[str]) -> set[str]:
    """topic.name of each topic.name[.part]."""
    return {".".join(id.split(".")[:2]) for id in ids}


def _place(kind: str, line: dict[str, Any], entries: dict[str, Entry], problems: list[str]) -> set[str]:
    """Put one row of a record where it belongs; the claims it names that nobody knows."""
    claims = _claims_of({line["claim"]} if "claim" in line else set(line["claims"]))
    known = [entries[id] for id in claims if id in entries]
    seen = {**line["row"], "limit": line["limit"], "unit": line["unit"]} if kind == "worlds" else {}
    for entry in known:
        if kind == "agreement":
            entry.bindings.append(line["row"])
        elif kind == "worlds":
            entry.worlds.append(seen)  # the same row with every claim: its false-fail rate is counted once
        elif entry.mutants is not None:
            counts = entry.mutants.setdefault("code", dict.fromkeys(FATES, 0))
            counts["equivalent" if line["fate"] == "waived" else line["fate"]] += 1
    if known:
        problems += _told(kind, line)
    return claims - set(entries)


def _told(kind: str, line: dict[str, Any]) -> list[str]:
    """A failed row in words."""
    if kind == "code_mutants":
        return [f"mutant survived: {line['mutant']} ({line['claim']})"] if line["fate"] == "survived" else []
    row = line["row"]
    if row["status"] in ("agrees", "holds"):
        return []
    if kind == "worlds":
        value = "not finite" if row["value"] is None else f"{row['value']:.4g}"
        limit = f"{value}, allowed {line['limit']:.4g} ({line['unit']})"
        return [f"{', '.join(line['claims'])} fails on world {row['world']}: {row['check']}: {limit}"]
    point = ", ".join(f"{k} = {v:.6g}" for k, v in line["point"].items())
    at = f" at {point}" if point else ""
    return [f"{row['function']} {row['status']} with {line['claim']} {row['dtype']}{at}: {line['reason']}"]


def _too_many_undecided(entries: Iterable[Entry]) -> list[str]:
    counts = [c for e in entries for c in (e.mutants or {}).values()]
    total, undecided = sum(sum(c[f] for f in FATES) for c in counts), sum(c["undecided"] for c in counts)
    if not total or undecided <= UNDECIDED_ALLOWED * total:
        return []
    return [f"{undecided} of {total} mutants undecided: more than {UNDECIDED_ALLOWED:.1%}"]


# --------------------------------------------------------------------------------------------------- showing


def _claim(entry: Entry) -> dict[str, Any]:
    o = entry.outcome
    return {
        "id": o.id,
        "topic": o.topic,
        "week": o.week,
        "title": o.title,
        "status": o.status,
        "message": o.message,
        "hash": o.hash,
        "steps": o.steps,
        "seconds": o.seconds,
        "cached": o.cached,
        "hypotheses": list(o.hypotheses),
        "assumes": list(o.assumes),
        "bindings": entry.bindings,
        "worlds": entry.worlds,
        "mutants": entry.mutants,
    }


def _mark(good: int, total: int) -> Text:
    """3/3 in green, 2/3 in red, a dot where there is nothing."""
    return Text(f"{good}/{total}", style="green" if good == total else "red") if total else Text("·", style="dim")


def _claims_table(entries: Sequence[Entry]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for name in ("claim", "status"):
        table.add_column(name, no_wrap=True)
    for name in ("steps", "code", "worst", "worlds", "s"):
        table.add_column(name, justify="right")
    for entry in entries:
        o = entry.outcome
        worst = [b["worst_bound"] for b in entry.bindings if b["worst_bound"] is not None]
        table.add_row(
            o.id,
            Text(o.status, style="green" if o.status == "proved" else "red"),
            str(o.steps),
            _mark(sum(b["status"] == "agrees" for b in entry.bindings), len(entry.bindings)),
            f"{max(worst):.2g}" if worst else "",
            _mark(sum(w["status"] == "holds" for w in entry.worlds), len(entry.worlds)),
            "kept" if o.cached else f"{o.seconds:.2f}",
        )
    return table


def _layers_table(layers: Tallies) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title="mutants", title_justify="left")
    table.add_column("layer")
    for fate in FATES:
        table.add_column(fate, justify="right")
    for layer, counts in layers.items():
        table.add_row(layer, *(str(counts[fate]) for fate in FATES))
    return table


def _summary(report: Report) -> Text:
    entries = report.entries
    proved, errors = (sum(e.outcome.status == status for e in entries) for status in ("proved", "error"))
    bindings, worlds = [b for e in entries for b in e.bindings], sum(len(e.worlds) for e in entries)
    functions = len({b["function"] for b in bindings})
    told = [
        f"{proved} of {len(entries)} claims proved" + (f", {errors} in error" if errors else ""),
        f"{functions} functions agree in {len(bindings)} comparisons"
        if not report.problems
        else f"{functions} functions compared",
        f"{worlds} world checks, false-fail rate of them all at most {report.false_fail:.1g}",
        f"{len(report.unproved)} public functions marked unproved",
        f"{report.seconds:.1f} s",
    ]
    return Text("; ".join(told), style="bold green" if report.sound else "bold red")
