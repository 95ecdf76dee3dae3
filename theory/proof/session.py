"""Proving many claims: find them, prove them on all cores, keep their verdicts.

A file of claims is the unit of caching (`cache.key` of the file and all it imports), a claim the unit of work. Workers
import the file and check one claim each; the kernel of the calling process then looks at the citations.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any

from theory.proof import cache

THEORY = cache.ROOT / "theory"
_CLAIM = re.compile(r"""^@claim\(\s*["']([a-z0-9_.]+)["']""", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What is known of one claim: plain data, as kept in the cache and printed in reports."""

    id: str
    topic: str
    title: str
    week: int | None
    source: str
    covers: tuple[str, ...]
    file: str
    line: int
    status: str  # proved | refuted | undecided | conditional
    hash: str
    hypotheses: tuple[str, ...]
    assumes: tuple[str, ...]
    cites: tuple[str, ...]
    steps: int
    seconds: float
    message: str
    parts: tuple[str, ...]
    cached: bool = False


def _outcome(kept: dict[str, Any]) -> Outcome:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
    return Outcome(**values)


def files() -> list[Path]:
    """The files of claims: every theory/*.py."""
    return sorted(p for p in THEORY.glob("*.py") if p.name != "__init__.py")


def ids_in(path: Path) -> list[str]:
    """Claim ids declared in a file, read from its text (so that listing them imports nothing)."""
    return _CLAIM.findall(path.read_text())


def load(path: Path) -> ModuleType:
    """Import a file of claims: the theory's by module name, a user's own by its path."""
    path = path.resolve()
    if path.is_relative_to(cache.ROOT) and path.parent == THEORY:
        return importlib.import_module(f"theory.{path.stem}")
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            return module
    name = f"notes_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _key(path: Path, seed: int) -> str:
    judges = sorted((THEORY / "proof").glob("*.py"))
    words = cache.versions("sympy", "mpmath", "python-flint")
    return cache.key([path, *judges], *words, f"seed={seed}")


def _work(path: str, id: str, seed: int) -> Any:
    """In a worker: one claim's report."""
    from theory.proof.claims import CLAIMS
    from theory.proof.judges import Checker
    from theory.proof.kernel import check

    load(Path(path))
    return check(CLAIMS[id], Checker(seed=seed))


def verify(
    paths: Iterable[Path] | None = None,
    *,
    jobs: int = 1,
    use_cache: bool = True,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Outcome]:
    """Prove every claim of the files (default: all of theory/) and what they cite; outcomes by id."""
    wanted = [p.resolve() for p in (paths if paths is not None else files())]
    keys = {p: _key(p, seed) for p in wanted}
    known: dict[str, Outcome] = {}
    todo = []
    for path in wanted:
        record = cache.load("proofs", keys[path]) if use_cache else None
        if record is None:
            todo.append(path)
        else:
            for kept in record:
                known[kept["id"]] = _outcome({**kept, "cached": True})
    if todo:
        known |= _prove(todo, known, jobs, seed, progress)
        for path in todo:
            kept = [asdict(o) for o in known.values() if o.file == str(path)]
            if use_cache and all(o["status"] in ("proved", "conditional") for o in kept):
                cache.store("proofs", keys[path], kept)
    return known


def _prove(
    paths: list[Path], known: dict[str, Outcome], jobs: int, seed: int, progress: Callable[[str, int, int], None] | None
) -> dict[str, Outcome]:
    from theory.proof.claims import CLAIMS
    from theory.proof.judges import Checker
    from theory.proof.kernel import Kernel, NotProved, Report, check, statement_hash
    from theory.proof.rules import CLASSICAL

    for path in paths:
        load(path)
    own = {str(p) for p in paths}
    claims, malformed = _well_formed([c for c in CLAIMS.values() if str(Path(c.file).resolve()) in own])
    needed = _with_cited(claims)
    reports: dict[str, Report] = {}
    for id, outcome in known.items():
        if outcome.status in ("proved", "conditional"):
            reports[id] = Report(id, "proved", (), outcome.seconds)
    work = [c for c in needed if c.id not in reports]
    done = 0
    if jobs > 1 and len(work) > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
            futures = {pool.submit(_work, c.file, c.id, seed): c for c in work}
            for future in as_completed(futures):
                report = future.result()
                reports[report.id] = report
                done += 1
                if progress:
                    progress(report.id, done, len(work))
    else:
        for c in work:
            reports[c.id] = check(c, Checker(seed=seed))
            done += 1
            if progress:
                progress(c.id, done, len(work))
    kernel, outcomes = Kernel(reports), {}
    for c in claims:
        assumes: tuple[str, ...] = tuple(c.assumes)
        try:
            theorem = kernel.prove(c)
            status, message, assumes = ("conditional" if theorem.conditional else "proved"), "", theorem.assumes
        except NotProved as error:
            status, message = ("refuted" if error.report.status == "refuted" else "undecided"), str(error)
        outcomes[c.id] = Outcome(
            id=c.id,
            topic=c.topic,
            title=c.title,
            week=c.week,
            source=c.source,
            covers=c.covers,
            file=str(Path(c.file).resolve()),
            line=c.line,
            status=status,
            hash=statement_hash(c),
            hypotheses=tuple(c.hypotheses),
            assumes=tuple(a if a in CLASSICAL else f"UNPROVED: {a}" for a in assumes),
            cites=tuple(k.id for k in c.cites),
            steps=len(c.derivation().steps()),
            seconds=round(reports[c.id].seconds, 4) if c.id in reports else 0.0,
            message=message,
            parts=tuple(c.parts),
        )
    return outcomes | malformed


def _well_formed(claims: list[Any]) -> tuple[list[Any], dict[str, Outcome]]:
    """The claims whose derivations can be read, and an outcome that says why for each of the others."""
    from theory.proof.claims import DerivationError

    good, bad = [], {}
    for c in claims:
        try:
            for cited in _with_cited([c]):
                cited.derivation()
            good.append(c)
        except Exception as error:  # an author's generator can raise anything; the other claims go on
            told = str(error) if isinstance(error, DerivationError) else f"{c.id}: {type(error).__name__}: {error}"
            bad[c.id] = Outcome(
                c.id, c.topic, c.title, c.week, c.source, c.covers, str(Path(c.file).resolve()), c.line, "refuted", "",
                (), (), (), 0, 0.0, told, (),
            )  # fmt: skip
    return good, bad


def _with_cited(claims: list[Any]) -> list[Any]:
    seen: dict[str, Any] = {}
    todo = list(reversed(claims))
    while todo:
        c = todo.pop()
        if c.id not in seen:
            seen[c.id] = c
            todo += c.cites
    return list(seen.values())


def explain_load_error(path: Path, error: BaseException) -> str:
    """One line for a file of claims that does not load: what is wrong, and where."""
    if isinstance(error, SyntaxError):
        return f"{path}:{error.lineno}: not Python: {error.msg}"
    line = next((f.lineno for f in _frames(error) if f.filename == str(path.resolve())), None)
    where = f"{path}:{line}" if line else str(path)
    if isinstance(error, NameError):
        from theory.proof.rules import RULES

        return f"{where}: unknown rule or symbol {error.name!r}; the rules are {', '.join(RULES)}"
    return f"{where}: {error}"


def _frames(error: BaseException) -> list[Any]:
    import traceback

    return list(reversed(traceback.extract_tb(error.__traceback__)))


def defines_claims(path: Path) -> bool:
    """Whether a file parses and declares at least one claim."""
    try:
        ast.parse(path.read_text())
    except SyntaxError:
        return False
    return bool(ids_in(path))
