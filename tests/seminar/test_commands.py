"""The command as people misuse it: one clear line, no traceback, the exit code that says whose fault it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # real processes

ROOT = Path(__file__).resolve().parents[2]

HEADER = """
from sympy import Rational, sqrt
from theory.proof import E, algebra, by, claim, gaussian_expectation, positive, real

x, mu, u = real("x mu u")
sigma = positive("sigma")


@claim("notes.second_moment")
def second_moment():
    "The second moment is the mean squared plus the variance."
    yield E((mu + sigma * u) ** 2, u)
    yield gaussian_expectation(u), mu**2 + sigma**2
"""


def seminar(*args: str, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "seminar.main", *args]
    environment = {"SEMINAR_HOME": str(home), "PATH": "/usr/bin:/bin", "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def notes(tmp_path: Path, text: str) -> str:
    path = tmp_path / "notes.py"
    path.write_text(HEADER + text)
    return str(path)


def test_true_notes_are_proved(tmp_path: Path) -> None:
    done = seminar("verify", notes(tmp_path, ""), home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 claims proved" in done.stdout


def test_one_wrong_sign_is_refused_with_a_counterexample(tmp_path: Path) -> None:
    wrong = HEADER.replace("mu**2 + sigma**2", "mu**2 - sigma**2")
    (tmp_path / "notes.py").write_text(wrong)
    done = seminar("verify", str(tmp_path / "notes.py"), home=tmp_path)
    assert done.returncode == 1
    for told in ("notes.second_moment, line 2 is refuted", "mu**2 - sigma**2", "numeric judge", "mu = ", "left  = "):
        assert told in done.stdout, done.stdout
    left, right = (
        float(line.split("=")[1])
        for line in done.stdout.splitlines()
        if line.strip().startswith(("left  =", "right ="))
    )
    at = next(line for line in done.stdout.splitlines() if line.strip().startswith("at "))
    point = dict(pair.split(" = ") for pair in at.strip()[3:].rstrip(":").split(", "))
    m, s = float(point["mu"]), float(point["sigma"])
    assert left == pytest.approx(m * m + s * s, rel=1e-3)  # the counterexample is one
    assert right == pytest.approx(m * m - s * s, rel=1e-3)


def test_a_failing_claim_takes_down_what_cites_it_and_nothing_else(tmp_path: Path) -> None:
    text = """

@claim("notes.wrong")
def wrong():
    "False."
    yield (x + 1) ** 2
    yield algebra, x**2 + 1


@claim("notes.above")
def above():
    "Stands on the false one."
    yield (x + 1) ** 2 + 3
    yield by(wrong), x**2 + 4
"""
    done = seminar("verify", notes(tmp_path, text), home=tmp_path)
    assert done.returncode == 1
    assert "notes.above cites notes.wrong, which is not proved" in done.stdout
    assert "1 of 3 claims proved" in done.stdout


MALFORMED = {
    "not Python": ("\ndef (", "not Python"),
    "unknown rule": ('\n@claim("notes.a")\ndef a():\n    "A."\n    yield x\n    yield algbra, x\n', "algbra"),
    "a float": (
        '\n@claim("notes.a")\ndef a():\n    "A."\n    yield 0.5 * x + x\n    yield algebra, 1.5 * x\n',
        "float 1.5 is not exact; write Rational(3, 2)",
    ),
    "a cycle": (
        '\n@claim("notes.a")\ndef a():\n    "A."\n    yield (x + 1) ** 2\n    yield by("notes.b"), x**2 + 2 * x + 1\n'
        '\n@claim("notes.b")\ndef b():\n    "B."\n    yield (x + 1) ** 2\n    yield by("notes.a"), x**2 + 2 * x + 1\n',
        "notes.a cites itself in a circle: notes.a -> notes.b -> notes.a",
    ),
    "an id of the ledger": (
        '\n@claim("ddpm.posterior")\ndef a():\n    "A."\n    yield x\n    yield algebra, x\n',
        "twice",
    ),
    "a citation of nothing": (
        '\n@claim("notes.a")\ndef a():\n    "A."\n    yield x + x\n    yield by("notes.nowhere"), 2 * x\n',
        "no such claim",
    ),
    "a step that says nothing": (
        '\n@claim("notes.a")\ndef a():\n    "A."\n    yield x + x\n    yield algebra, 2 * x\n',
        "same expression",
    ),
    "no claim at all": (None, "claims nothing"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_notes_give_one_line(name: str, tmp_path: Path) -> None:
    text, told = MALFORMED[name]
    path = tmp_path / "notes.py"
    path.write_text("x = 1\n" if text is None else HEADER + text)
    done = seminar("verify", str(path), home=tmp_path)
    assert done.returncode in (1, 2)
    said = done.stderr if done.returncode == 2 else done.stdout
    lines = [line for line in said.splitlines() if told in line]
    assert len(lines) == 1, said
    assert "Traceback" not in done.stdout + done.stderr


MISUSED = {
    "unknown command": (("frobnicate",), "unknown command"),
    "unknown claim": (("verify", "ddpm.postrior"), "did you mean ddpm.posterior"),
    "missing file": (("verify", "nowhere/notes.py"), "there is no file nowhere/notes.py; expected"),
    "missing file here": (("verify", "nosuch.py"), "there is no file nosuch.py; expected"),
    "a folder": (("verify", "tests"), "tests is a folder; expected"),
    "no Python": (("verify", "README.md"), "README.md is no Python file; expected"),
    "unknown topic": (("verify", "ddpn"), "'ddpn' is no claim, topic or file; did you mean ddpm?"),
    "seed in words": (("verify", "gaussian.kl", "--seed", "abc"), "--seed abc: expected a whole number; see"),
    "rate in words": (("train", "toy.ring", "--lr", "fast"), "--lr fast: expected a number; see"),
    "no jobs": (("verify", "gaussian.kl", "--jobs", "0"), "--jobs 0"),
    "json into nowhere": (("verify", "gaussian.kl", "--json", "/nowhere/report.json"), "there is no folder"),
    "a topic to show": (("show", "ddpm"), "is not one claim"),
    "two formats": (("show", "ddpm.posterior", "--latex", "--typst"), "choose one"),
    "misspelt recipe": (("train", "toy.rnig"), "did you mean toy.ring"),
    "learning rate nan": (("train", "toy.ring", "--lr", "nan"), "lr = nan"),
    "negative batch": (("train", "toy.ring", "--batch", "-4"), "batch = -4"),
    "unknown setting": (("train", "toy.ring", "--stepz", "3"), "--stepz"),
    "resume of nothing": (("train", "--resume", "/nowhere"), "/nowhere is no run folder"),
    "sample of nothing": (("sample", "/nowhere"), "/nowhere is no run folder"),
    "evaluate one set": (("evaluate", "/nowhere", "--sets", "1"), "sets = 1"),
    "unknown week": (("render", "week99"), "week99"),
    "unknown scene": (("render", "--scene", "nothing"), "no scene"),
    "unknown list": (("list", "everything"), "everything"),
}


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_gives_one_line_and_exit_code_2(name: str, tmp_path: Path) -> None:
    args, told = MISUSED[name]
    done = seminar(*args, home=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from seminar.main import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    loaded = done.stdout.splitlines()[-1]
    for heavy in ("torch", "sympy", "manim", "rich", "tyro", "numpy"):
        assert f"'{heavy}'" not in loaded


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "__init__.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from seminar.guard import one_root; print(one_root())"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert f"{tmp_path}/training" in done.stdout
    assert "in the way" in done.stdout


def test_warm_verify_imports_no_torch(tmp_path: Path) -> None:
    first = seminar("verify", "gaussian.kl", home=tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    code = (
        "import sys; from seminar.main import main; status = main(['verify', 'gaussian.kl']);"
        "print(status, 'torch' in sys.modules, 'sympy' in sys.modules)"
    )
    environment = {"SEMINAR_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    again = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert again.stdout.splitlines()[-1].split()[:2] == ["0", "False"], again.stdout + again.stderr
