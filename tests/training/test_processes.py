"""Several processes that train together: one training, one writer, one decision, one end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from training.state import State  # noqa: F401  (the module the victim trains with: fail here if it doesn't import)

pytestmark = pytest.mark.slow  # processes of their own

STEPS = 40
SHORT = {"steps": STEPS}


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def ended(answer: dict[str, Any], steps: int = STEPS) -> None:
    assert set(answer["signals"]) == {0}
    assert [told["step"] for told in answer["answers"]] == [steps] * len(answer["signals"]), answer


def test_two_processes_are_two_micro_batches(victim: Any, tmp_path: Path) -> None:
    """The same shares of the same batches: equal but for the order in which two numbers are added."""
    ended(victim(tmp_path / "micro", SHORT | {"accumulate": 2, "precision": "float32"}))
    ended(victim(tmp_path / "two", SHORT, processes=2))
    ended(victim(tmp_path / "one", SHORT))
    micro, two, one = ([line["loss"] for line in log(tmp_path / name)] for name in ("micro", "two", "one"))
    assert two == pytest.approx(micro, rel=1e-5)
    assert one != pytest.approx(micro, rel=1e-3)
    weights = [safetensors.torch.load_file(tmp_path / name / "weights.safetensors") for name in ("micro", "two")]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-4, atol=1e-6)


def test_process_0_alone_writes(victim: Any, tmp_path: Path) -> None:
    answer = victim(tmp_path / "run", SHORT, processes=2)
    ended(answer)
    first, second = (told["events"] for told in answer["answers"])
    assert first > 50
    assert second == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_is_heard_by_all(victim: Any, tmp_path: Path, rank: int) -> None:
    ended(victim(tmp_path / "whole", SHORT, processes=2))
    answer = victim(tmp_path / "run", SHORT, processes=2, kill=["TERM", 23], rank=rank)
    ended(answer, 25)  # the vote of step 24 is counted after step 25
    assert log(tmp_path / "run")[-1]["step"] == 21
    ended(victim(tmp_path / "run", processes=2))
    assert victim.left(tmp_path / "run") == victim.left(tmp_path / "whole")


def test_a_loss_broken_on_one_is_skipped_by_all(victim: Any, tmp_path: Path) -> None:
    ended(victim(tmp_path / "one", SHORT, processes=2, kill=["NaN", 9], rank=1))
    ended(victim(tmp_path / "both", SHORT, processes=2, kill=["NaN", 9], rank=None))
    assert [line["skipped"] for line in log(tmp_path / "one")] == [0, 1, 0, 0, 0, 0]
    assert victim.left(tmp_path / "one") == victim.left(tmp_path / "both")


def test_a_batch_that_cannot_be_shared_out(victim: Any, tmp_path: Path) -> None:
    answer = victim(tmp_path / "run", SHORT | {"batch": 25}, processes=2)
    assert answer["error"] == ("batch = 25 can't be cut into 2 processes x 1 micro-batches: expected a multiple of 2")
    assert answer["answers"][1]["error"] == "2"  # it ends too, without a word
    assert not (tmp_path / "run").exists()


def test_a_taken_folder_is_refused_once(victim: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("...")
    answer = victim(tmp_path / "run", SHORT, processes=2)
    assert "not an empty folder" in answer["error"]
    assert answer["answers"][1]["error"] == "2"


def test_another_number_of_processes_is_refused(victim: Any, tmp_path: Path) -> None:
    victim(tmp_path / "run", SHORT, processes=2, kill=["TERM", 23])
    answer = victim(tmp_path / "run")
    assert "saved with processes = 2, here it is 1" in answer["error"]


def test_workers_do_not_outlive_their_launcher(victim: Any, tmp_path: Path) -> None:
    """Killed with SIGKILL, it can tell them nothing: the kernel does, and they save and stop."""
    answer = victim(tmp_path / "run", {"steps": 10**6}, processes=2, orphaned=True)
    assert answer["signals"] == [-9]
    stopped = {told["step"] for told in answer["answers"]}
    assert len(stopped) == 1
    step = stopped.pop()
    assert 10 <= step < 10**6
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:08d}").exists()
