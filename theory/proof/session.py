"""Proving many claims: find them, prove them on all cores, keep their verdicts.

A file of claims is the unit of caching (`cache.key` of the file and all it imports), a claim the unit of work. Workers
import the file and check one claim each; the kernel of the calling process then looks at the citations.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from theory.proof import cache
from theory.proof.claims import CLAIMS, Claim, DerivationError
from theory.proof.judges import Checker
from theory.proof.kernel import Kernel, NotProved, Report, check, statement_hash
from theory.proof.rules import CLASSICAL, RULES

if TYPE_CHECKING:
    from theory.proof.export import Exported

THEORY = cache.ROOT / "theory"
_READ: dict[Path, bytes] = {}  # users' files as they were when their claims were read
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
    status: str  # proved | refuted | undecided | conditional | error: it could not be put to the judges
    hash: str
    hypotheses: tuple[str, ...]
    assumes: tuple[str, ...]
    cites: tuple[str, ...]
    steps: int
    seconds: float
    message: str
    parts: tuple[str, ...]
    cached: bool = False

    def _repr_latex_(self) -> str:
        return self._exported().latex

    def _repr_html_(self) -> str:
        return self._exported().html

    def _exported(self) -> Exported:
        from theory.proof.export import export

        return export(self.id, self)


def _outcome(kept: dict[str, Any]) -> Outcome:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items()}
    return Outcome(**{**values, "file": str(cache.ROOT / kept["file"]), "cached": True})


def _kept(outcome: Outcome) -> dict[str, Any]:
    return {**asdict(outcome), "file": cache.portable(Path(outcome.file))}


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
    source = path.read_bytes()
    for imported, module in list(sys.modules.items()):
        if getattr(module, "__file__", None) == str(path):
            if _READ.get(path) == source:
                return module
            _forget(path, imported)  # imported by other means, or edited since: its claims may not be the file's
    name = f"notes_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        _forget(path, name)
        raise
    _READ[path] = source
    return module


def _forget(path: Path, name: str) -> None:
    """Unload a module of claims, so that its file may claim the same again."""
    for id in [c.id for c in _claims_of([path])]:
        del CLAIMS[id]
    del sys.modules[name]


def _claims_of(paths: Iterable[Path]) -> list[Claim]:
    own = set(paths)
    return [c for c in CLAIMS.values() if Path(c.file).resolve() in own]


def _key(path: Path, seed: int) -> str:
    judges = sorted((THEORY / "proof").glob("*.py"))
    words = cache.versions("sympy", "mpmath", "python-flint")
    return cache.key([path, *judges], *words, f"seed={seed}")


def _work(path: str, id: str, seed: int) -> Report:
    """In a worker: one claim's report."""
    load(Path(path))
    return _check(CLAIMS[id], seed)


def _check(claim: Claim, seed: int) -> Report:
    """One claim's report; what a judge raises is one too, so that the other claims go on."""
    try:
        return check(claim, Checker(seed=seed))
    except Exception as error:
        return Report(claim.id, "error", (), 0.0, explain_claim_error(claim, error))


def verify(
    paths: Iterable[Path] | None = None,
    *,
    jobs: int = 1,
    use_cache: bool = True,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Outcome]:
    """Prove every claim of the files (default: all of theory/) and what they cite; outcomes by id."""
    keys: dict[Path, str] = {}
    known: dict[str, Outcome] = {}
    todo = []
    for path in (p.resolve() for p in (paths if paths is not None else files())):
        try:
            keys[path] = _key(path, seed)
        except SyntaxError as error:  # in the file, or in one that it imports: importing says which
            if _loads(path, known):  # as it was when it was first imported
                known |= _unloadable(path, error)
            continue
        record = cache.load("proofs", keys[path]) if use_cache else None
        if record is None:
            todo.append(path)
        else:
            for kept in record:
                known[kept["id"]] = _outcome(kept)
    todo = [path for path in todo if _loads(path, known)]
    if todo:
        known |= _prove(_claims_of(todo), known, jobs, seed, progress)
        for path in todo:
            kept = [_kept(o) for o in known.values() if o.file == str(path)]
            if use_cache and all(o["status"] in ("proved", "conditional") for o in kept):
                cache.store("proofs", keys[path], kept)
    return known


def outcome(claim: Claim) -> Outcome:
    """What is known of one claim: its file's verdict; one that stands in no file, as in a notebook, is judged now."""
    path = Path(claim.file)
    kept = verify([path]).get(claim.id) if path.is_file() else None
    if kept is not None and CLAIMS.get(claim.id) is claim:
        return kept
    return _prove([claim], {}, jobs=1, seed=0, progress=None)[claim.id]


def _loads(path: Path, known: dict[str, Outcome]) -> bool:
    """Whether a file can be imported; if not, its claims are known to be in error."""
    try:
        load(path)
    except (Exception, SystemExit) as error:  # an author's file can raise anything; the other files go on
        known |= _unloadable(path, error)
        return False
    return True


def _unloadable(path: Path, error: BaseException) -> dict[str, Outcome]:
    told = explain_load_error(path, error)
    return {id: _unread(id, path, told) for id in ids_in(path)}


def _unread(id: str, path: Path, message: str) -> Outcome:
    """A claim of which no more is known than its name, and why."""
    return Outcome(
        id=id, topic=id.split(".")[0], title="", week=None, source="", covers=(), file=str(path.resolve()), line=0,
        status="error", hash="", hypotheses=(), assumes=(), cites=(), steps=0, seconds=0.0, message=message, parts=(),
    )  # fmt: skip


def _prove(
    claims: list[Claim],
    known: dict[str, Outcome],
    jobs: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, Outcome]:
    """Outcomes of these claims; `known` verdicts, of claims that they may cite, are not looked for again."""
    claims, malformed = _well_formed(claims)
    reports = {
        id: Report(id, "proved", (), o.seconds) for id, o in known.items() if o.status in ("proved", "conditional")
    }
    work = [c for c in _with_cited(claims) if c.id not in reports]
    for done, report in enumerate(_reports(work, jobs, seed), start=1):
        reports[report.id] = report
        if progress:
            progress(report.id, done, len(work))
    kernel = Kernel(reports)
    return {c.id: _judged(c, kernel, reports) for c in claims} | malformed


def _reports(claims: list[Claim], jobs: int, seed: int) -> Iterator[Report]:
    """Each claim put to the judges, in the order in which they are done."""
    if jobs > 1 and len(claims) > 1:
        with ProcessPoolExecutor(jobs, mp_context=get_context("fork")) as pool:
            for future in as_completed([pool.submit(_work, c.file, c.id, seed) for c in claims]):
                yield future.result()
    else:
        yield from (_check(c, seed) for c in claims)


def _judged(c: Claim, kernel: Kernel, reports: dict[str, Report]) -> Outcome:
    """What the kernel makes of a claim whose steps have been looked at."""
    assumes: tuple[str, ...] = tuple(c.assumes)
    try:
        theorem = kernel.prove(c)
        status, message, assumes = ("conditional" if theorem.conditional else "proved"), "", theorem.assumes
    except NotProved as error:
        status, message = error.report.status, str(error)
        if status == "refuted" and not error.report.steps:  # only a step is ever refuted: this one is ill-formed
            status, message = "error", f"{_shown(Path(c.file))}:{c.line}: {message}"
    return Outcome(
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


def _well_formed(claims: list[Claim]) -> tuple[list[Claim], dict[str, Outcome]]:
    """The claims whose derivations can be read, and an outcome that says why for each of the others."""
    good, bad = [], {}
    for c in claims:
        read = c
        try:
            for read in _with_cited([c]):
                read.derivation()
            good.append(c)
        except Exception as error:  # an author's generator can raise anything; the other claims go on
            unread = replace(
                _unread(c.id, Path(c.file), explain_claim_error(c, error)),
                title=c.title, week=c.week, source=c.source, covers=c.covers, line=c.line,
            )  # fmt: skip
            told = f"{c.id} stands on {read.id}, which is in error"
            bad[c.id] = unread if read is c else replace(unread, status="undecided", message=told)
    return good, bad


def _with_cited(claims: list[Claim]) -> Iterator[Claim]:
    """The claims and all that they stand on; each is given before it is asked what it cites."""
    seen: set[str] = set()
    todo = list(reversed(claims))
    while todo:
        c = todo.pop()
        if c.id not in seen:
            seen.add(c.id)
            yield c
            todo += c.cites


def explain_load_error(path: Path, error: BaseException) -> str:
    """One line for a file of claims that does not load: where, and what is wrong."""
    if isinstance(error, SyntaxError):
        file = Path(error.filename or path)
        return f"{_shown(file if file.is_file() else path)}:{error.lineno}: not Python: {error.msg}"
    return f"{_where(path, error)}: {_cause(error)}"


def explain_claim_error(claim: Claim, error: BaseException) -> str:
    """One line for a derivation that cannot be read: where, which claim, and what is wrong."""
    told = _cause(error)
    named = told if claim.id in told else f"{claim.id}: {told}"
    return f"{_where(Path(claim.file), error, getattr(error, 'line', None) or claim.line)}: {named}"


def _cause(error: BaseException) -> str:
    told = " ".join(str(error).split())
    if isinstance(error, DerivationError):
        return told
    rules = f"; the rules are {', '.join(RULES)}" if isinstance(error, NameError) else ""
    return f"{type(error).__name__}: {told}{rules}" if told else type(error).__name__


def _where(path: Path, error: BaseException, line: int | None = None) -> str:
    """file:line of the author's own text: the innermost of its lines in the traceback, else the line given."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    own = next((f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()), line)
    return f"{_shown(path)}:{own}" if own else _shown(path)


def _shown(path: Path) -> str:
    """The path as it is typed from here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
