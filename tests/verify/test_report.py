"""The report: the issue of every part is in it, failures are told with what refutes them, kept verdicts stay right."""

import json
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from theory.proof import cache, session
from theory.proof.session import Outcome
from verify import report as reporting
from verify.bindings import formula_of, unmarked
from verify.report import Entry, Report, verify
from verify.work import Unit, perform


def outcome(id, status="proved", **more):
    about = {"id": id, "topic": id.split(".")[0], "title": "A title.", "week": 4, "source": "a book", "covers": ()}
    found = {"status": status, "hash": "0123", "hypotheses": ("x > 0",), "assumes": (), "cites": (), "parts": ()}
    spent = {"file": "f.py", "line": 1, "steps": 2, "seconds": 0.5, "message": ""}
    return Outcome(**(about | found | spent | more))


BINDING = {"function": "f", "dtype": "float64", "worst_bound": 0.4, "worst_condition": 1.0, "gradient": None}
WORLD = {"world": "ring", "check": "c", "value": 0.1, "false_fail": 1e-9, "detectable_effect": 0.1}
COUNTS = {"killed": 9, "equivalent": 1, "undecided": 0, "survived": 0}


def entry(**more):
    parts = {
        "bindings": [BINDING | {"status": "agrees"}],
        "worlds": [WORLD | {"status": "holds"}],
        "mutants": {"code": COUNTS},
    }
    return Entry(outcome("ddpm.posterior"), **(parts | more))


def report(*entries, problems=()):
    return Report(list(entries), list(problems), {"diffusion.x.f": "why"}, 1e-9, 1.5)


def test_json_has_the_promised_form():
    told = json.loads(json.dumps(report(entry()).json()))
    (claim,) = told["claims"]
    assert list(claim) == [
        "id", "topic", "week", "title", "status", "message", "hash", "steps", "seconds", "cached", "hypotheses",
        "assumes", "bindings", "worlds", "mutants",
    ]  # fmt: skip
    assert list(claim["bindings"][0]) == [*BINDING, "status"]
    assert list(claim["worlds"][0]) == [*WORLD, "status"]
    assert claim["mutants"] == {"code": COUNTS}
    assert told["summary"] == {"proved": 1, "failed": 0, "errors": 0, "seconds": 1.5}
    assert report(entry(mutants=None)).json()["claims"][0]["mutants"] is None


@pytest.mark.parametrize(
    "broken",
    [
        {"bindings": [BINDING | {"status": "agrees"}, BINDING | {"status": "unstable"}]},
        {"worlds": [WORLD | {"status": "fails"}]},
        {"mutants": {"code": COUNTS | {"survived": 1}}},
    ],
)
def test_any_failure_sets_the_exit_status(broken):
    assert report(entry()).exit_status == 0
    assert report(entry(), entry(**broken)).exit_status == 1
    assert report(entry(), entry(**broken)).json()["summary"]["failed"] == 1


@pytest.mark.parametrize("status", ["refuted", "undecided", "conditional"])
def test_only_proved_is_good_enough(status):
    assert report(Entry(outcome("a.b", status))).exit_status == 1
    assert report(entry(), problems=["something"]).exit_status == 1


def test_tables_tell_what_is_wrong():
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in report(entry(), problems=["ddpm.x disagrees at t = 1"]).tables():
        console.print(part)
    text = console.export_text()
    for told in ("ddpm.posterior", "1/1", "0.4", "code", "killed", "ddpm.x disagrees at t = 1", "1 public functions"):
        assert told in text


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A module that counts its runs, and a cache of its own."""
    (tmp_path / "counted.py").write_text(
        textwrap.dedent("""
        from pathlib import Path

        def run(folder, ok):
            path = Path(folder) / "runs"
            path.write_text(path.read_text() + "x" if path.exists() else "x")
            return {"ok": ok, "rows": []}
        """)
    )
    (tmp_path / "source.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SEMINAR_HOME", str(tmp_path / "home"))
    return tmp_path


def runs(project):
    return len((project / "runs").read_text())


def unit(project, ok=True, name="u"):
    return Unit("kind", name, "counted:run", (str(project), ok), (project / "source.py",))


def test_a_good_record_is_kept_until_its_source_changes(project):
    for _ in range(2):
        assert perform([unit(project)])[unit(project)]["ok"]
    assert runs(project) == 1
    perform([unit(project)], use_cache=False)
    assert runs(project) == 2
    (project / "source.py").write_text("x = 2\n")
    cache._read_once.cache_clear()
    perform([unit(project)])
    assert runs(project) == 3


def test_a_failure_is_never_kept(project):
    for _ in range(2):
        assert not perform([unit(project, ok=False)])[unit(project, ok=False)]["ok"]
    assert runs(project) == 2


def test_progress_counts_what_runs(project):
    told = []
    perform([unit(project, name="a"), unit(project, name="b")], progress=lambda *a: told.append(a))
    assert told == [("a", 1, 2), ("b", 2, 2)]


def rows(kind, *lines, **more):
    return {"ok": True, "rows": list(lines), **more}, kind


@pytest.fixture
def performed(monkeypatch):
    """`verify` with records given by hand."""

    def with_records(outcomes, *records, **options):
        made = {Unit(kind, str(i), "", (), ()): record for i, (record, kind) in enumerate(records)}
        monkeypatch.setattr(reporting, "perform", lambda units, *a: made)
        return verify({o.id: o for o in outcomes}, **options)

    return with_records


def test_rows_find_their_claims_and_failures_their_words(performed):
    bad = BINDING | {"status": "disagrees"}
    agreement = {
        "claim": "ddpm.posterior.mean",
        "row": bad,
        "point": {"x": 0.5},
        "reason": "returned 1, the claim says 2",
    }
    world = {
        "claims": ["ddpm.posterior", "ddim.eta"],
        "row": WORLD | {"status": "fails"},
        "unit": "nats",
        "limit": 0.05,
    }
    stranger = {"claim": "ddpm.nowhere", "row": BINDING | {"status": "agrees"}, "point": {}, "reason": ""}
    found = performed(
        [outcome("ddpm.posterior"), outcome("ddim.eta")],
        rows("agreement", agreement, stranger),
        rows("worlds", world),
        rows("coverage", unproved={}, unmarked=["diffusion.x.g"]),
    )
    text = "\n".join(found.problems)
    assert "f disagrees with ddpm.posterior.mean float64 at x = 0.5: returned 1, the claim says 2" in text
    assert "ddpm.posterior, ddim.eta fails on world ring: c: 0.1, allowed 0.05 (nats)" in text
    assert "there is no claim ddpm.nowhere" in text
    assert "diffusion.x.g returns a tensor and is neither bound nor marked" in text
    assert {e.outcome.id: (len(e.bindings), len(e.worlds)) for e in found.entries} == {
        "ddpm.posterior": (1, 1),
        "ddim.eta": (0, 1),
    }
    assert found.exit_status == 1


def test_what_is_not_finite_is_valid_json(performed):
    row = {"claims": ["a.b"], "row": WORLD | {"status": "fails", "value": None}, "unit": "nats", "limit": 0.05}
    found = performed([outcome("a.b")], rows("worlds", row))
    assert "not finite, allowed 0.05" in found.problems[0]
    json.dumps(found.json(), allow_nan=False)


@pytest.mark.slow
def test_mutants_are_counted_by_layer_and_survivors_named(performed):
    fates = [
        {"claim": "a.b.c", "mutant": f"m{i}", "fate": f, "reason": ""}
        for i, f in enumerate(["killed"] * 3 + ["waived"])
    ]
    proofs = {"a.b": {"expressions": dict(COUNTS)}}
    found = performed([outcome("a.b")], rows("code_mutants", *fates), mutants=proofs)
    assert found.layers() == {"expressions": COUNTS, "code": COUNTS | {"killed": 3}}
    assert found.exit_status == 0
    survivor = {"claim": "a.b", "mutant": "f: x -> y", "fate": "survived", "reason": ""}
    found = performed([outcome("a.b")], rows("code_mutants", survivor), mutants={})
    assert found.problems == ["mutant survived: f: x -> y (a.b)"]
    stale = rows("code_mutants", stale=["f: x -> z"])
    assert "needs no waiver: f: x -> z" in performed([outcome("a.b")], stale, mutants={}).problems[0]
    undecided = [survivor | {"fate": "undecided"}]
    found = performed([outcome("a.b")], rows("code_mutants", *undecided), mutants={})
    assert "undecided" in found.problems[0]


def test_a_part_of_the_ledger_is_not_blamed_for_the_rest(performed):
    stranger = {"claim": "ddpm.other", "row": BINDING | {"status": "agrees"}, "point": {}, "reason": ""}
    found = performed([outcome("ddpm.posterior")], rows("agreement", stranger), everything=False)
    assert found.problems == []


def test_every_public_function_is_bound_or_says_why_not():
    assert list(unmarked()) == []


def test_unknown_formulas_are_named():
    with pytest.raises(LookupError, match=r"no claim nowhere\.at_all in theory/"):
        formula_of("nowhere.at_all.part")


@pytest.mark.slow
def test_a_checkout_that_moved_finds_its_verdicts(tmp_path, monkeypatch):
    """Records name the project's files from its root: kept by one checkout, read by another."""
    monkeypatch.setenv("SEMINAR_HOME", str(tmp_path))
    path = session.THEORY / "ddpm.py"
    session.verify([path])
    [record] = tmp_path.glob("proofs/*.json")
    assert str(cache.ROOT) not in record.read_text()
    again = session.verify([path])
    assert again
    assert all(o.cached and Path(o.file) == path for o in again.values())
