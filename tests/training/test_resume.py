"""A run killed with SIGKILL, anywhere, and resumed ends in the bits of one that was left alone.

The victim's network has dropout, its averages are two, snapshots and pictures fall between the checkpoints; what is
compared is every weight, average and moment it leaves, and every logged loss.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from training.state import State  # noqa: F401  (the module the victim trains with: fail here if it doesn't import)

pytestmark = pytest.mark.slow  # processes of their own, killed and started again

STEPS, SAVE_EVERY = 60, 10


@dataclass(frozen=True)
class Way:
    """A way to train, and what an uninterrupted run of it ended in."""

    settings: dict[str, Any]
    how: dict[str, Any]
    whole: Any = None
    events: int = 0


WAYS = {
    "alone": Way({}, {}),
    "accumulating, fed by threads": Way({"accumulate": 2}, {"workers": 2}),
    "two processes": Way({"accumulate": 2}, {"processes": 2}),
    "two processes, fed by threads": Way({}, {"processes": 2, "workers": 2}),
}
RANDOM = random.Random(1)


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest, victim: Any, tmp_path_factory: pytest.TempPathFactory) -> Way:
    chosen, folder = WAYS[request.param], tmp_path_factory.mktemp("whole") / "run"
    answer = victim(folder, chosen.settings, **chosen.how)
    assert set(answer["signals"]) == {0}
    assert (answer["start"], answer["step"]) == (0, STEPS)
    return Way(chosen.settings, chosen.how, victim.left(folder), answer["events"])


def die(victim: Any, way: Way, folder: Path, kill: list[Any], again: bool = False) -> None:
    """Train until one of the processes, drawn at random, is killed."""
    rank = RANDOM.randrange(way.how.get("processes", 1)) if kill[0] == "step" else 0
    answer = victim(folder, None if again else way.settings, kill=kill, rank=rank, **way.how)
    assert answer["signals"][rank] == -9
    for other, error in enumerate(answer["errors"]):
        assert other == rank or "another process of this run has ended" in error


def test_the_log_covers_the_run(way: Way) -> None:
    assert [line["step"] for line in way.whole[1]] == [7, 14, 21, 28, 35, 42, 49, 56, 60]
    assert len(way.whole[0]) == 5  # weights, average, two snapshots, checkpoint


@pytest.mark.parametrize("step", [*RANDOM.sample(range(SAVE_EVERY, STEPS), 2), STEPS - 1])
def test_killed_in_a_step(victim: Any, way: Way, tmp_path: Path, step: int) -> None:
    die(victim, way, tmp_path / "run", ["step", step])
    assert victim(tmp_path / "run", **way.how)["start"] == step // SAVE_EVERY * SAVE_EVERY > 0
    assert victim.left(tmp_path / "run") == way.whole


@pytest.mark.parametrize("part", [*(RANDOM.uniform(0.4, 0.9) for _ in range(2)), 1.0])
def test_killed_at_an_operation_on_the_file_system(victim: Any, way: Way, tmp_path: Path, part: float) -> None:
    die(victim, way, tmp_path / "run", ["event", int(part * (way.events - 1))])
    answer = victim(tmp_path / "run", **way.how)
    assert answer["error"] is None and answer["start"] > 0
    assert victim.left(tmp_path / "run") == way.whole


def test_killed_twice(victim: Any, way: Way, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    die(victim, way, folder, ["step", 33])
    die(victim, way, folder, ["step", 33], again=True)  # in the same step again
    die(victim, way, folder, ["step", 52], again=True)
    assert victim(folder, **way.how)["start"] == 50
    assert victim.left(folder) == way.whole


def test_killed_in_the_first_step(victim: Any, way: Way, tmp_path: Path) -> None:
    die(victim, way, tmp_path / "run", ["step", 0])
    assert victim(tmp_path / "run", **way.how)["start"] == 0
    assert victim.left(tmp_path / "run") == way.whole


@pytest.fixture(scope="module")
def alone(victim: Any, tmp_path_factory: pytest.TempPathFactory) -> Way:
    folder = tmp_path_factory.mktemp("whole") / "run"
    answer = victim(folder, {})
    return Way({}, {}, victim.left(folder), answer["events"])


def test_killed_anywhere_in_a_save(victim: Any, alone: Way, tmp_path: Path) -> None:
    """Before each operation of a save, the deletion of the oldest checkpoint included, and of the end's writes."""
    starts = set()
    middle = alone.events // 2
    for event in [*range(middle - 8, middle + 8), *range(alone.events - 8, alone.events)]:
        folder = tmp_path / f"run{event}"
        die(victim, alone, folder, ["event", event])
        answer = victim(folder)
        assert answer["error"] is None, answer
        starts.add(answer["start"])
        assert answer["start"] > 0
        assert victim.left(folder) == alone.whole, f"killed at operation {event}"
    assert len(starts) >= 3  # before and after a save became valid, and at the end


@pytest.mark.parametrize(
    "drop",
    [
        "network.network.out.weight",
        "ema.0.1.network.out.weight",
        "ema.0.05.network.out.weight",
        "optimizer.step.network.out.weight",
        "optimizer.exp_avg.network.out.weight",
        "optimizer.exp_avg_sq.network.out.weight",
        "window.loss",
        "window.smoothed",
    ],
)
def test_each_item_of_the_state_is_needed(victim: Any, alone: Way, tmp_path: Path, drop: str) -> None:
    """The negative control: without any one item the comparison above fails."""
    folder = tmp_path / "run"
    die(victim, alone, folder, ["step", 33])
    assert victim(folder, drop=drop)["start"] == 30
    assert victim.left(folder) != alone.whole


def test_another_learning_rate_is_another_run(victim: Any, alone: Way, tmp_path: Path) -> None:
    assert victim(tmp_path / "run", {"lr": 0.0021})["step"] == STEPS
    assert victim.left(tmp_path / "run")[0] != alone.whole[0]
