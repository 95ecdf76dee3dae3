"""The kernel: the only place where a claim becomes a theorem.

As in an LCF prover, a `Theorem` cannot be made by hand: its constructor asks for a key that never leaves this module,
and it has no attribute to set. A step that fails stops the claim; a claim may cite theorems alone; a checker that has
been weakened makes no theorem at all.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from sympy import Expr

from theory.proof import hypotheses
from theory.proof.claims import CLAIMS, Claim
from theory.proof.judges import PROVED, REFUTED, Checker, Nonzero, Obligation, Verdict
from theory.proof.rules import CLASSICAL
from theory.proof.symbolic import denominators


@dataclass(frozen=True)
class StepReport:
    """One checked step: line number, rule in words, both lines, and the verdict of every judge asked."""

    line: int
    words: str
    above: str
    expression: str
    verdicts: tuple[Verdict, ...]

    @property
    def status(self) -> str:
        if any(v.status == REFUTED for v in self.verdicts):
            return REFUTED
        bad = [v.status for v in self.verdicts if v.status != PROVED]
        return bad[0] if bad else (PROVED if self.verdicts else "undecided")

    @property
    def failure(self) -> Verdict | None:
        """The verdict to show: the first refutation, else the first that is not proved."""
        bad = sorted((v for v in self.verdicts if v.status != PROVED), key=lambda v: v.status != REFUTED)
        return bad[0] if bad else None


@dataclass(frozen=True)
class Report:
    """What checking one claim gave, before its citations are looked at. Plain data: it travels between processes."""

    id: str
    status: str
    steps: tuple[StepReport, ...]
    seconds: float
    message: str = ""

    @property
    def failed_step(self) -> StepReport | None:
        return next((s for s in self.steps if s.status != PROVED), None)


def check(claim: Claim, checker: Checker | None = None) -> Report:
    """Put what a claim supposes, then every step of it, to the judges; stop at the first that fails."""
    checker = checker or Checker()
    start = time.perf_counter()
    done: list[StepReport] = []
    for obligation in hypotheses.obligations(claim.suppose):
        if bad := [v for v in obligation.judge(checker) if v.status != PROVED]:
            told = f"{claim.id}: hypotheses cannot be met: {bad[0].message}"
            return Report(claim.id, bad[0].status, (), time.perf_counter() - start, told)
    divided: set[Expr] = set()
    for number, rule, above, line in claim.derivation().steps():
        verdicts: list[Verdict] = []
        new = [d for d in denominators([above, line]) if d not in divided]
        divided |= set(new)
        owed: list[Obligation] = [Nonzero("a line divides by it", d) for d in new]
        for obligation in [*owed, *rule.obligations(above, line, claim.suppose)]:
            verdicts += obligation.judge(checker)
            if any(v.status == REFUTED for v in verdicts):
                break  # what is only undecided may still be refuted by the next: a counterexample says more
        step = StepReport(number + 1, rule.words, str(above), str(line), tuple(verdicts))
        done.append(step)
        if step.status != PROVED and (verdicts or checker.strict):
            return Report(claim.id, step.status, tuple(done), time.perf_counter() - start)
    return Report(claim.id, PROVED, tuple(done), time.perf_counter() - start)


_KEY = object()


class Theorem:
    """A proved claim. Made by `Kernel.prove` alone; nothing in it can be set."""

    __slots__ = ("assumes", "claim", "report")
    claim: Claim
    report: Report
    assumes: tuple[str, ...]

    def __init__(self, key: object, claim: Claim, report: Report, assumes: tuple[str, ...]) -> None:
        if key is not _KEY:
            raise TypeError("a Theorem is made by the kernel, from a claim whose steps it has checked")
        for name, value in (("claim", claim), ("report", report), ("assumes", assumes)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a Theorem cannot be changed (tried to set {name})")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Theorem cannot be changed (tried to delete {name})")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Theorem does not travel; the receiving process proves its own")

    @property
    def conditional(self) -> bool:
        """Whether it rests on an assumption that is no classical theorem."""
        return any(a not in CLASSICAL for a in self.assumes)


class NotProved(Exception):
    """A claim that the kernel refuses, with its report."""

    def __init__(self, report: Report) -> None:
        super().__init__(explain(report))
        self.report = report


class Kernel:
    """Theorems so far. `reports` are checks already made by this project's own workers on the same content."""

    def __init__(self, reports: dict[str, Report] | None = None) -> None:
        self._theorems: dict[str, Theorem] = {}
        self._given = reports or {}
        self._underway: list[str] = []

    def prove(self, claim: Claim) -> Theorem:
        """The theorem, or NotProved; what the claim cites is proved first."""
        known = self._theorems.get(claim.id)
        if known is not None and known.claim is claim:
            return known
        if known is not None:
            raise NotProved(Report(claim.id, "refuted", (), 0.0, f"{claim.id}: another claim of this name is proved"))
        if claim.id in self._underway:
            ring = " -> ".join([*self._underway[self._underway.index(claim.id) :], claim.id])
            raise NotProved(Report(claim.id, "refuted", (), 0.0, f"{claim.id} cites itself in a circle: {ring}"))
        self._underway.append(claim.id)
        try:
            return self._prove(claim)
        finally:
            self._underway.pop()

    def _prove(self, claim: Claim) -> Theorem:
        assumes = set(claim.assumes)
        for cited in claim.cites:
            try:
                assumes |= set(self.prove(cited).assumes)
            except NotProved as error:
                if "circle" in error.report.message:
                    raise NotProved(Report(claim.id, "refuted", (), 0.0, error.report.message)) from error
                told = f"{claim.id} cites {cited.id}, which is not proved"
                raise NotProved(Report(claim.id, "undecided", (), 0.0, told)) from error
        given = self._given.get(claim.id) if CLAIMS.get(claim.id) is claim else None
        report = given or check(claim)
        if report.status != PROVED or report.id != claim.id:
            raise NotProved(report)
        self._theorems[claim.id] = Theorem(_KEY, claim, report, tuple(sorted(assumes)))
        return self._theorems[claim.id]


def explain(report: Report) -> str:
    """Why a claim is refused: the claim, the line, both sides, the judge, and a concrete counterexample."""
    if report.message:
        return report.message
    step = report.failed_step
    if step is None or step.failure is None:
        return f"{report.id}: {report.status}"
    v = step.failure
    told = [
        f"{report.id}, line {step.line} is {v.status} ({step.words})",
        f"  above:  {step.above}",
        f"  line:   {step.expression}",
        f"  {v.judge} judge: {v.message}",
    ]
    if v.point or v.left or v.right:
        told.append(f"  at {v.point}:" if v.point else "  at every point:")
        told.append(f"    left  = {v.left}")
        told.append(f"    right = {v.right}")
    return "\n".join(told)


def statement_hash(claim: Claim) -> str:
    """The hash shown on screen: of the statement with its domains and kinds, not of the engine that proved it."""
    return hashlib.sha256(claim.statement_text.encode()).hexdigest()[:12]
