"""What the units of work do: one file of bound functions, or one file of world checks, as a plain record."""

from __future__ import annotations

import importlib
from typing import Any

from theory.proof import cache, session
from verify.agreement import agree, cases
from verify.bindings import formula_of, in_module, load_all, unmarked
from verify.code_mutants import fates, waivers
from verify.work import Record


def _theory() -> None:
    for path in session.files():
        session.load(path)


def agreement(module: str, vary: int | None) -> Record:
    """Every binding of a module, in every dtype; what could not be asked at all is an error with its reason."""
    _theory()
    rows: list[dict[str, Any]] = []
    for binding in in_module(module):
        try:
            found = agree(binding, formula_of(binding.claim), vary)
        except Exception as error:  # reported as a failed row, with the reason
            empty = {"dtype": "", "worst_bound": None, "worst_condition": None, "gradient": None, "status": "error"}
            row = {"function": binding.name, **empty}
            rows.append({"claim": binding.claim, "row": row, "point": {}, "reason": f"{type(error).__name__}: {error}"})
            continue
        rows += [{"claim": v.claim, "row": v.row(), "point": v.point, "reason": v.reason} for v in found]
    return {"ok": all(r["row"]["status"] == "agrees" for r in rows), "rows": rows}


def world_checks(module: str, vary: int | None) -> Record:
    """Every check that a module declares, on each of its worlds."""
    from verify.worlds import checks, run

    importlib.import_module(module)
    rows: list[dict[str, Any]] = []
    for check in checks():
        if check.function.__module__ == module:
            for world in check.worlds:
                rows += [
                    {"claims": r.claims, "row": r.row(), "unit": r.verdict.unit, "limit": r.verdict.limit}
                    for r in run(check, world, vary)
                ]
    return {"ok": all(r["row"]["status"] == "holds" for r in rows), "rows": rows}


def code_mutants(module: str) -> Record:
    """The fate of every mutant of every binding of a module."""
    _theory()
    waived, rows = waivers(), []
    for binding in in_module(module):
        try:
            formula = formula_of(binding.claim)
            outcomes = fates(binding, cases(binding, formula), formula, waived)
        except (LookupError, ValueError):
            continue  # agreement reports it
        rows += [{"claim": binding.claim, "mutant": o.mutant.key, "fate": o.fate, "reason": o.reason} for o in outcomes]
    used = {r["mutant"] for r in rows if r["fate"] == "waived"}
    stale = [key for key in waived if key.startswith(f"{module}.") and key not in used]
    return {
        "ok": not stale and not any(r["fate"] in ("survived", "undecided") for r in rows),
        "rows": rows,
        "stale": stale,
    }


def coverage() -> Record:
    """Public functions that no claim covers: those that say why, and those that don't."""
    from diffusion.binding import unproven

    load_all()
    missing = list(unmarked())
    return {"ok": not missing, "rows": [], "unproved": unproven(), "unmarked": missing}


def proof_mutants(file: str, id: str) -> Record:
    """The fate of every mutant of one claim, and the hypotheses that nothing tests."""

    from theory.proof import find, mutants

    session.load(cache.ROOT / file)
    claim, waived = find(id), waivers()
    layers = mutants.mutate(claim)
    survivors = [told for tally in layers.values() for told in tally.survivors if told not in waived]
    counts = {layer: tally.counts() for layer, tally in layers.items()}
    for layer, tally in layers.items():
        excused = sum(told in waived for told in tally.survivors)
        counts[layer]["survived"] -= excused
        counts[layer]["equivalent"] += excused
    unclear = [told for tally in layers.values() for told in tally.unclear]
    row = {"layers": counts, "survivors": survivors, "unclear": unclear, "untested": mutants.untested(claim)}
    return {"ok": not survivors, **row}


def definition_mutants(module: str, name: str) -> Record:
    """The fate of every mutant of one definition of the theory."""
    from verify import definition_mutants as broken

    rows = broken.fates(module, name)
    waived = waivers()
    for row in rows:
        if row["fate"] == "survived" and row["mutant"] in waived:
            row["fate"] = "equivalent"
    return {"ok": all(row["fate"] != "survived" for row in rows), "rows": rows}


def canary(name: str) -> Record:
    """One canary before the strict checker and every weakened one."""
    from verify.aviary import CANARIES
    from verify.canaries import matrix

    lie = CANARIES[name]
    refused = matrix({name: lie})[name]
    return {"ok": refused["strict"], "refused": refused, "claim": lie.claim, "lie": lie.lie}
