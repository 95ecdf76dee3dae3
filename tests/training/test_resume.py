"""A run killed with SIGKILL, anywhere, and resumed ends in the bits of one that was left alone.

The victim's network has dropout, its data are read in shuffled epochs of four steps, its averages are two, snapshots
and pictures fall between the checkpoints. Compared is every weight, average and moment it leaves, and every loss.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from training.state import State  # noqa: F401  (the module the victim trains with: fail here if it doesn't import)

pytestmark = pytest.mark.slow  # processes of their own, killed and started again

STEPS, SAVE_EVERY = 40, 10
SHORT = {"steps": STEPS}


@dataclass(frozen=True)
class Way:
    """A way to train, and what an uninterrupted run of it ended in."""

    settings: dict[str, Any]
    how: dict[str, Any]
    whole: Any = None
    events: int = 0


WAYS = {
    "alone": Way(SHORT, {}),
    "accumulating, fed by threads": Way(SHORT | {"accumulate": 2}, {"workers": 2}),
    "two processes, fed by threads": Way(SHORT | {"accumulate": 2}, {"processes": 2, "workers": 2}),
}
RANDOM = random.Random(1)


@pytest.fixture(scope="module", params=list(WAYS))
def way(request: pytest.FixtureRequest, victim: Any, tmp_path_factory: pytest.TempPathFactory) -> Way:
    chosen, folder = WAYS[request.param], tmp_path_factory.mktemp("whole") / "run"
    answer = victim(folder, chosen.settings, **chosen.how)
    return whole(chosen, answer, victim.left(folder))


def whole(way: Way, answer: dict[str, Any], left: Any) -> Way:
    assert set(answer["signals"]) == {0}
    assert all((process["start"], process["step"]) == (0, STEPS) for process in answer["answers"])
    return Way(way.settings, way.how, left, answer["answers"][0]["events"])


def die(victim: Any, way: Way, folder: Path, kill: list[Any], again: bool = False) -> None:
    """Train until one of the processes, drawn at random, is killed."""
    rank = RANDOM.randrange(way.how.get("processes", 1)) if kill[0] == "step" else 0
    answer = victim(folder, None if again else way.settings, kill=kill, rank=rank, **way.how)
    assert answer["signals"][rank] == -9
    for other, told in enumerate(answer["answers"]):
        assert other == rank or "another process of this run has ended" in told["error"]


def go_on(victim: Any, folder: Path, **how: Any) -> int:
    """Resume to the end; the step from which all processes went on."""
    answer = victim(folder, **how)
    assert set(answer["signals"]) == {0}
    starts = {process["start"] for process in answer["answers"] if process["error"] is None}
    assert len(starts) == 1, answer
    return starts.pop()


def test_the_log_covers_the_run(way: Way) -> None:
    assert [line["step"] for line in way.whole[1]] == [7, 14, 21, 28, 35, 40]
    assert len(way.whole[0]) == 5  # weights, average, two snapshots, checkpoint


@pytest.mark.parametrize("step", [*RANDOM.sample(range(SAVE_EVERY, STEPS), 2), STEPS - 1])
def test_killed_in_a_step(victim: Any, way: Way, tmp_path: Path, step: int) -> None:
    die(victim, way, tmp_path / "run", ["step", step])
    assert go_on(victim, tmp_path / "run", **way.how) == step // SAVE_EVERY * SAVE_EVERY > 0
    assert victim.left(tmp_path / "run") == way.whole


@pytest.mark.parametrize("part", [*(RANDOM.uniform(0.4, 0.9) for _ in range(2)), 1.0])
def test_killed_at_an_operation_on_the_file_system(victim: Any, way: Way, tmp_path: Path, part: float) -> None:
    die(victim, way, tmp_path / "run", ["event", int(part * (way.events - 1))])
    assert go_on(victim, tmp_path / "run", **way.how) > 0
    assert victim.left(tmp_path / "run") == way.whole


def test_killed_twice(victim: Any, way: Way, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    die(victim, way, folder, ["step", 23])  # the last of an epoch
    die(victim, way, folder, ["step", 23], again=True)  # in the same step again
    die(victim, way, folder, ["step", 32], again=True)  # the first of another
    assert go_on(victim, folder, **way.how) == 30
    assert victim.left(folder) == way.whole


def test_killed_in_the_first_step(victim: Any, way: Way, tmp_path: Path) -> None:
    die(victim, way, tmp_path / "run", ["step", 0])
    assert go_on(victim, tmp_path / "run", **way.how) == 0
    assert victim.left(tmp_path / "run") == way.whole


@pytest.fixture(scope="module")
def alone(victim: Any, tmp_path_factory: pytest.TempPathFactory) -> Way:
    folder = tmp_path_factory.mktemp("whole") / "run"
    return whole(Way(SHORT, {}), victim(folder, SHORT), victim.left(folder))


def test_killed_anywhere_in_a_save(victim: Any, alone: Way, tmp_path: Path) -> None:
    """Before each operation of a save, the deletion of the oldest checkpoint included, and of the end's writes."""
    starts = set()
    middle = alone.events // 2
    for event in [*range(middle - 6, middle + 6), *range(alone.events - 6, alone.events)]:
        folder = tmp_path / f"run{event}"
        die(victim, alone, folder, ["event", event])
        starts.add(start := go_on(victim, folder))
        assert start > 0
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
        "window.losses",
        "window.smoothed",
    ],
)
def test_each_item_of_the_state_is_needed(victim: Any, alone: Way, tmp_path: Path, drop: str) -> None:
    """The negative control: without any one item the comparison above fails."""
    folder = tmp_path / "run"
    die(victim, alone, folder, ["step", 23])
    assert go_on(victim, folder, drop=drop) == 20
    assert victim.left(folder) != alone.whole


def test_another_learning_rate_is_another_run(victim: Any, alone: Way, tmp_path: Path) -> None:
    assert victim(tmp_path / "run", SHORT | {"lr": 0.0021})["signals"] == [0]
    assert victim.left(tmp_path / "run")[0] != alone.whole[0]


@pytest.mark.parametrize("how", [{"processes": 3}, {"processes": 2, "sharded": True}], ids=["three", "sharded"])
def test_other_ways_to_train_together(victim: Any, tmp_path: Path, how: dict[str, Any]) -> None:
    """Three processes, whose sums depend on how gradients are packed; two with FSDP2, whose state is in shards."""
    way = whole(Way(SHORT, how), victim(tmp_path / "whole", SHORT, **how), victim.left(tmp_path / "whole"))
    die(victim, way, tmp_path / "run", ["step", 23])
    assert go_on(victim, tmp_path / "run", **how) == 20
    assert victim.left(tmp_path / "run") == way.whole
