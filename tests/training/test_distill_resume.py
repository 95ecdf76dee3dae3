"""A distillation killed with SIGKILL and resumed ends in the bits of one that was left alone.

What follows the student, a round's teacher or the average that makes the targets, is seen to be needed: without it the
resumed run ends elsewhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from training.state import State  # noqa: F401  (the module the victim trains with: fail here if it doesn't import)

pytestmark = pytest.mark.slow  # processes of their own, killed and started again

STEPS, SAVE_EVERY = 60, 10
KINDS: dict[str, dict[str, Any]] = {
    "progressive": {"start_steps": 16, "end_steps": 4},  # a new round at step 30
    "consistency": {"levels": 16},
    "reflow": {"pairs": 64, "pair_steps": 4},
    "training": {"levels": 16, "from_data": True, "accumulate": 2},
    "drawn": {"pairs": 0, "pair_steps": 4},
}


@pytest.fixture(scope="module")
def teacher(victim: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    assert victim(folder, {"parameterization": "v"})["step"] == STEPS
    return str(folder)


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def start(victim: Any, folder: Path, kind: str, teacher: str, **how: Any) -> dict[str, Any]:
    recipe = {"training": "consistency", "drawn": "reflow"}.get(kind, kind)
    settings = {"teacher": teacher, "steps": STEPS, "batch": 16, "log_every": 7, "save_every": SAVE_EVERY}
    return victim(folder, settings | KINDS[kind], recipe=f"distill.{recipe}", **how)


@pytest.fixture(scope="module")
def whole(victim: Any, kind: str, teacher: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, int]:
    """What an uninterrupted run leaves, and how many operations on the file system it took."""
    folder = tmp_path_factory.mktemp(kind) / "run"
    answer = start(victim, folder, kind, teacher)
    assert (answer["error"], answer["start"], answer["step"]) == (None, 0, STEPS)
    return victim.left(folder), answer["events"]


@pytest.mark.parametrize("step", [17, 30, 31, STEPS - 1])
def test_killed_in_a_step(victim: Any, kind: str, teacher: str, whole: Any, tmp_path: Path, step: int) -> None:
    assert start(victim, tmp_path / "run", kind, teacher, kill=["step", step])["signals"] == [-9]
    answer = victim(tmp_path / "run")
    assert (answer["error"], answer["start"]) == (None, step // SAVE_EVERY * SAVE_EVERY)
    assert victim.left(tmp_path / "run") == whole[0]


@pytest.mark.parametrize("part", [0.03, 0.1, 0.5, 1.0])
def test_killed_at_an_operation_on_the_file_system(
    victim: Any, kind: str, teacher: str, whole: Any, tmp_path: Path, part: float
) -> None:
    """Early ones are the pairs' own: half of a file is never taken for them."""
    event = max(8, int(part * (whole[1] - 1)))  # the first few make the folder
    assert start(victim, tmp_path / "run", kind, teacher, kill=["event", event])["signals"] == [-9]
    assert victim(tmp_path / "run")["error"] is None
    assert victim.left(tmp_path / "run") == whole[0]


def test_what_follows_the_student_is_needed(victim: Any, kind: str, teacher: str, whole: Any, tmp_path: Path) -> None:
    if kind in ("reflow", "drawn"):
        return  # nothing follows their students
    assert start(victim, tmp_path / "run", kind, teacher, kill=["step", 45])["signals"] == [-9]
    assert victim(tmp_path / "run", drop="task.network.out.weight")["start"] == 40
    assert victim.left(tmp_path / "run") != whole[0]


@pytest.mark.parametrize("sharded", [False, True])
def test_two_processes(victim: Any, kind: str, teacher: str, tmp_path: Path, sharded: bool) -> None:
    """Each has all of the second network, or reads the pairs that the first wrote."""
    how, whole, broken = {"processes": 2, "sharded": sharded}, tmp_path / "whole", tmp_path / "broken"
    ended(start(victim, whole, kind, teacher, **how), at=0)
    assert -9 in start(victim, broken, kind, teacher, **how, kill=["step", 33], rank=1)["signals"]
    ended(victim(broken, **how), at=30)
    assert victim.left(broken) == victim.left(whole)


def ended(answer: dict[str, Any], at: int) -> None:
    """Both processes went on from that step, to the end."""
    assert [(told["error"], told["start"], told["step"]) for told in answer["answers"]] == [(None, at, STEPS)] * 2
