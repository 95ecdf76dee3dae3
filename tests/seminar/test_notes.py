"""A reader's own file: what is wrong with it is said by its line, and one claim's mistake is no other claim's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from seminar.main import main
from theory.proof import CLAIMS

HEADER = """from theory.proof import E, algebra, by, claim, gaussian_expectation, positive, real

mu, u = real("mu u")
sigma = positive("sigma")


@claim("mine.moment")
def second_moment():
    "The second moment is the mean squared plus the variance."
    yield E((mu + sigma * u) ** 2, u)
    yield gaussian_expectation(u), mu**2 + sigma**2
"""


def another(name: str, last: str, first: str = "(mu + 1) ** 2") -> str:
    return f'\n\n@claim("mine.{name}")\ndef {name}():\n    "About {name}."\n    yield {first}\n    yield {last}\n'


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Verdicts kept apart, claims forgotten afterwards."""
    monkeypatch.setenv("SEMINAR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    known = dict(CLAIMS)
    yield
    CLAIMS.clear()
    CLAIMS.update(known)


def write(text: str, name: str = "own") -> str:
    """A file of notes; every test's has a name of its own, since modules are imported once."""
    Path(f"{name}.py").write_text(HEADER + text)
    return f"{name}.py"


def line_of(file: str, text: str) -> int:
    return next(i for i, line in enumerate(Path(file).read_text().splitlines(), 1) if text in line)


def verify(file: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Exit status, claims by id from --json, the page of --html."""
    status = main(["verify", file, "--json", "report.json", "--html", "report.html", "--jobs", "1"])
    claims = json.loads(Path("report.json").read_text())["claims"]
    return status, {c["id"]: c for c in claims}, Path("report.html").read_text()


MISTAKES = {
    "exception": ("algebra, mu / (1 - 1) + 1 / 0", "1 / 0", "ZeroDivisionError: division by zero"),
    "name": ("algebra, mu + nothing", "nothing", "NameError: name 'nothing' is not defined; the rules are algebra"),
    "float": ("algebra, mu**2 + 2.5 * mu", "2.5", "the float 2.5 is not exact; write Rational(5, 2)"),
    "nowhere": ('by("mine.nothing"), mu**2', "mine.nothing", "there is no such claim"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_an_error_with_its_line_and_the_other_claims_go_on(name, capsys):
    last, where, cause = MISTAKES[name]
    file = write(another(name, last), f"own_{name}")
    status, claims, page = verify(file)
    assert status == 1
    assert [c["status"] for c in claims.values()] == ["proved", "error"]
    told = claims[f"mine.{name}"]["message"]
    assert told.startswith(f"{file}:{line_of(file, where)}: ") and cause in told and "\n" not in told
    said = capsys.readouterr().out
    assert said.count(told) == 1
    assert "1 of 2 claims proved, 1 in error" in said
    assert f"mine.{name} error" in " ".join(said.split())
    assert '<span class="status error">error</span>' in page and f"{file}:{line_of(file, where)}" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    "tail, cause", [("def (\n", "not Python: "), ("raise SystemExit\n", "SystemExit"), ("1 / 0\n", "ZeroDivisionError")]
)
def test_a_file_that_does_not_load_is_told_once_for_all_its_claims(tail, cause, capsys):
    file = write(f"\n\n{tail}", f"unloadable_{len(tail)}")
    status, claims, page = verify(file)
    assert status == 1
    assert claims["mine.moment"]["status"] == "error"
    told = claims["mine.moment"]["message"]
    assert told.startswith(f"{file}:{line_of(file, tail.strip())}: {cause}")
    assert capsys.readouterr().out.count(told) == 1
    assert told in page
    assert "mine.moment" not in CLAIMS  # the mended file may claim it


def test_a_circle_is_an_error_and_a_wrong_line_is_not(capsys):
    text = another("circle", 'by("mine.circle"), mu**2') + another("wrong", "algebra, mu**2 - 1")
    _, claims, _ = verify(write(text, "own_circle"))
    assert {id: c["status"] for id, c in claims.items()} == {
        "mine.moment": "proved",
        "mine.circle": "error",
        "mine.wrong": "refuted",
    }


def test_what_stands_on_an_error_is_undecided_and_says_so():
    text = another("slip", "algebra, 1 / 0") + another("above", "by(slip), mu**2")
    _, claims, _ = verify(write(text, "own_above"))
    assert claims["mine.above"]["status"] == "undecided"
    assert claims["mine.above"]["message"] == "mine.above stands on mine.slip, which is in error"


def test_a_judge_that_raises_takes_down_one_claim(monkeypatch):
    from theory.proof import session

    real_check = session.check

    def check(claim, checker):
        if claim.id == "mine.other":
            raise RecursionError("too deep")
        return real_check(claim, checker)

    monkeypatch.setattr(session, "check", check)
    _, claims, _ = verify(write(another("other", "algebra, mu**2 + 2 * mu + 1"), "own_judge"))
    assert [c["status"] for c in claims.values()] == ["proved", "error"]
    assert "RecursionError: too deep" in claims["mine.other"]["message"]


@pytest.mark.slow
def test_show_takes_a_file_or_one_claim_of_it(capsys):
    file = write(another("square", "algebra, mu**2 + 2 * mu + 1") + another("wrong", "algebra, mu**2 - 1"), "own_shown")
    assert main(["show", file]) == 1  # one of them is wrong
    said = capsys.readouterr().out
    shown = [line.split()[:2] for line in said.splitlines() if line.startswith("mine.") and "line" not in line]
    assert shown == [["mine.moment", "proved"], ["mine.square", "proved"], ["mine.wrong", "refuted"]]
    assert "right = " in said
    for name in ("second_moment", "moment", "mine.moment"):  # the function's name, the claim's, the id
        assert main(["show", f"{file}::{name}"]) == 0
        assert capsys.readouterr().out.split()[:2] == ["mine.moment", "proved"]
    assert main(["verify", f"{file}::square"]) == 0
    assert "1 of 1 claims proved" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, told",
    [("momnt", "did you mean moment"), ("zzz", "it claims mine.moment"), ("", "there is no file nowhere.py")],
)
def test_show_says_what_there_is_instead(name, told, capsys):
    file = write("", "own_near") if name else "nowhere.py"
    assert main(["show", f"{file}::{name}"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and told in said


def test_show_tells_the_line_of_a_mistake(capsys):
    file = write(another("slip", "algebra, 1 / 0"), "own_slip")
    assert main(["show", f"{file}::slip"]) == 1
    said = capsys.readouterr().out
    assert "mine.slip  error" in said and f"{file}:{line_of(file, '1 / 0')}: mine.slip: ZeroDivisionError" in said
