"""A table is made once, by all processes, in parts that nobody has to wait long for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training import draw, loop, recipes, tensor_file
from training.distillation.reflow import PAIRS, Reflow
from training.prepared import TRIED
from training.recipes import Recipe

PAIRED = {"pairs": 64, "pair_steps": 2, "batch": 16, "steps": 2}


@pytest.mark.slow
def test_nobody_waits_for_longer_than_a_part(victim: Any, tmp_path: Path) -> None:
    """Eight parts of a second each, by two processes that give each other up after three."""
    assert victim(tmp_path / "teacher", {"parameterization": "v", "steps": 10})["error"] is None
    asked = PAIRED | {"teacher": str(tmp_path / "teacher")}
    answer = victim(tmp_path / "two", asked, recipe="distill.reflow", processes=2, slow=[1.0, 3.0])
    assert [told["error"] for told in answer["answers"]] == [None, None]
    victim(tmp_path / "one", asked, recipe="distill.reflow", slow=[0.0, 3.0])
    one, two = (tensor_file.read(tmp_path / name / PAIRS) for name in ("one", "two"))
    assert list(one) == ["data", "noise"]
    assert all(torch.equal(one[name], two[name]) and len(one[name]) == 64 for name in one)
    assert len(one["noise"].unique(dim=0)) == 64  # no part is another's copy


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs were made, call by call."""
    for picture in ("samples", "curves", "distilled"):
        monkeypatch.setattr(draw, picture, lambda *_: None)
    make, counts = Reflow.make, []

    def counted(self: Reflow, rows: Tensor, seed: int) -> dict[str, Tensor]:
        counts.append(len(rows))
        return make(self, rows, seed)

    monkeypatch.setattr(Reflow, "make", counted)
    return counts


def student(tmp_path: Path) -> Recipe:
    teacher = recipes.change(recipes.find("toy.ring"), steps=1, width=4, depth=1, batch=16)
    folder = loop.train(teacher, tmp_path / "teacher", quiet=True).folder
    return recipes.change(recipes.find("distill.reflow"), teacher=str(folder), **PAIRED)


@pytest.mark.parametrize("seconds", [None, 0.02])
def test_a_table_is_made_once(tmp_path: Path, made: list[int], seconds: float | None) -> None:
    outcome = loop.train(student(tmp_path), tmp_path / "run", seconds=seconds, quiet=True)
    assert outcome.finished
    assert sum(made) - 64 in (TRIED, 2 * TRIED)
    assert len(tensor_file.read(tmp_path / "run" / PAIRS)["data"]) == 64


def test_what_can_not_be_made_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = student(tmp_path)

    def broken(*_: Any) -> dict[str, Tensor]:
        raise ValueError("no such image")

    monkeypatch.setattr(Reflow, "make", broken)
    with pytest.raises(ValueError, match="no such image"):
        loop.train(recipe, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
