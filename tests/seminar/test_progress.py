"""Long work is seen to go on, by a reader of a pipe too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from seminar import evaluate, progress
from seminar.main import main


def test_lines_come_every_few_seconds_and_say_what_is_left(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 6.0, 7.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.bar("proving") as told:
        for done, name in enumerate(("one", "two", "three", "four"), start=1):
            told(name, done, 8)
    assert capsys.readouterr().err.splitlines() == [
        "proving: 25% after 6 s, about 18 s left: two",
        "proving: 50% after 12 s, about 12 s left: four",
    ]


def test_nothing_done_yet_is_no_division_by_zero(capsys, monkeypatch):
    clock = iter([0.0, 9.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.bar("evaluating") as told:
        told("noise floor", 0, 100)
    assert capsys.readouterr().err == "evaluating: 0% after 9 s: noise floor\n"


@pytest.mark.slow
def test_sample_says_how_far_it_is(tmp_path: Path, capsys, monkeypatch):
    run = str(tmp_path / "run")
    assert main(["train", "toy.ring", "--steps", "5", "--out", run, "--quiet"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(progress, "EVERY", 0.0)
    assert main(["sample", run, "--n", "10", "--steps", "4", "--out", str(tmp_path / "drawn.png")]) == 0
    lines = capsys.readouterr().err.splitlines()
    done = [re.match(r"sampling: (\d+%) after", line)[1] for line in lines]  # type: ignore[index]
    assert done == ["25%", "50%", "75%", "100%"]


@pytest.mark.slow
def test_evaluate_says_what_it_will_do_and_how_far_it_is(tmp_path: Path, capsys, monkeypatch):
    run = str(tmp_path / "run")
    assert main(["train", "toy.ring", "--steps", "5", "--out", run, "--quiet"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(progress, "EVERY", 0.0)
    small = ["--sets", "2", "--size", "500", "--ddim-steps", "3", "--ddpm-steps", "4", "--points", "20"]
    assert main(["evaluate", run, *small]) == 0
    first, *lines = capsys.readouterr().err.splitlines()
    assert first.startswith("2 sets of 500 samples by each sampler, 14 calls of the network")
    done = [int(re.match(r"evaluating: (\d+)% after", line)[1]) for line in lines]  # type: ignore[index]
    assert done == sorted(done) and done[0] == 0 and done[-1] == 100
    stages = list(dict.fromkeys(line.rsplit(": ", 1)[1] for line in lines))
    assert stages == [
        "noise floor", "ddim, set 1 of 2", "ddim, set 2 of 2", "ddim, distances",
        "ddpm, set 1 of 2", "ddpm, set 2 of 2", "ddpm, distances", "densities",
    ]  # fmt: skip


def test_the_defaults_are_said_to_take_minutes():
    assert re.search(r"Roughly \d+ minutes", evaluate.plan(evaluate.Evaluate(Path("run")), 20 * 20_000 * 250))
    small = evaluate.Evaluate(Path("run"), sets=2, size=100)
    assert "a minute or less" in evaluate.plan(small, 2 * 100 * 250)
