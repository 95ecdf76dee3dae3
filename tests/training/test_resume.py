"""A training process killed with SIGKILL, anywhere, and resumed ends in the bits of one that was left alone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from training.state import State  # noqa: F401  (the module the victim trains with: fail here if it doesn't import)

pytestmark = pytest.mark.slow  # a process of its own, killed and started again

STEPS, SAVE_EVERY = 60, 10
Train = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def victim() -> Iterator[Train]:
    """A function that trains or resumes in a process of its own, and reports how it ended."""
    script = Path(__file__).with_name("victim.py")
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(root)},
    ) as process:
        assert process.stdin and process.stdout
        stdin, stdout = process.stdin, process.stdout

        def run(folder: Path, settings: dict[str, Any] | None = None, kill: Any = None, drop: Any = None) -> Any:
            print(json.dumps({"folder": str(folder), "settings": settings, "kill": kill, "drop": drop}), file=stdin)
            stdin.flush()
            return json.loads(stdout.readline())

        yield run
        process.stdin.close()


def result(folder: Path) -> tuple[bytes, bytes, list[dict[str, Any]]]:
    """Final weights, averaged weights, and the log without the machine's speed."""
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in log:
        del line["steps_per_second"]
    return (folder / "weights.safetensors").read_bytes(), (folder / "ema.safetensors").read_bytes(), log


@pytest.fixture(scope="module")
def whole(victim: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, int]:
    """What an uninterrupted run ends in, and how many operations on the file system it took."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    answer = victim(folder, {})
    assert answer["signal"] == 0
    assert answer["step"] == STEPS
    return result(folder), answer["events"]


def test_the_log_covers_the_run(whole: tuple[Any, int]) -> None:
    steps = [line["step"] for line in whole[0][2]]
    assert steps == [7, 14, 21, 28, 35, 42, 49, 56, 60]


@pytest.mark.parametrize("step", [*random.Random(1).sample(range(SAVE_EVERY, STEPS), 3), STEPS - 1])
def test_killed_in_a_step(victim: Train, whole: tuple[Any, int], tmp_path: Path, step: int) -> None:
    folder = tmp_path / "run"
    assert victim(folder, {}, kill=["step", step])["signal"] == -9
    answer = victim(folder)
    assert answer["start"] == step // SAVE_EVERY * SAVE_EVERY > 0
    assert result(folder) == whole[0]


def test_killed_anywhere_in_a_save(victim: Train, whole: tuple[Any, int], tmp_path: Path) -> None:
    """Before each operation of a save, the deletion of the oldest checkpoint included, and of the end's writes."""
    events = whole[1]
    starts = set()
    for event in [*range(events // 2 - 8, events // 2 + 8), *range(events - 8, events)]:
        folder = tmp_path / f"run{event}"
        assert victim(folder, {}, kill=["event", event])["signal"] == -9
        answer = victim(folder)
        assert answer["error"] is None, answer
        starts.add(answer["start"])
        assert answer["start"] > 0
        assert result(folder) == whole[0], f"killed at operation {event}"
    assert len(starts) >= 3  # before and after a save became valid, and at the end


def test_killed_twice(victim: Train, whole: tuple[Any, int], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert victim(folder, {}, kill=["step", 33])["signal"] == -9
    assert victim(folder, kill=["step", 33])["signal"] == -9  # in the same step again
    assert victim(folder, kill=["step", 52])["signal"] == -9
    assert victim(folder)["start"] == 50
    assert result(folder) == whole[0]


def test_killed_before_the_first_checkpoint(victim: Train, whole: tuple[Any, int], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert victim(folder, {}, kill=["step", 8])["signal"] == -9
    assert victim(folder)["start"] == 0
    assert result(folder) == whole[0]


@pytest.mark.parametrize(
    "drop",
    [
        "network.network.out.weight",
        "ema.0.1.network.out.weight",
        "optimizer.step.network.out.weight",
        "optimizer.exp_avg.network.out.weight",
        "optimizer.exp_avg_sq.network.out.weight",
        "window.loss",
        "window.smoothed",
    ],
)
def test_each_item_of_the_state_is_needed(victim: Train, whole: tuple[Any, int], tmp_path: Path, drop: str) -> None:
    """The negative control: without any one item the comparison above fails."""
    folder = tmp_path / "run"
    assert victim(folder, {}, kill=["step", 33])["signal"] == -9
    assert victim(folder, drop=drop)["start"] == 30
    assert result(folder) != whole[0]


def test_another_learning_rate_is_another_run(victim: Train, whole: tuple[Any, int], tmp_path: Path) -> None:
    assert victim(tmp_path / "run", {"lr": 0.0021})["step"] == STEPS
    assert result(tmp_path / "run")[0] != whole[0][0]
