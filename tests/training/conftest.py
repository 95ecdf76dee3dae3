"""Training in processes of their own, which may be killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MACHINE = ("steps_per_second", "samples_per_second", "memory_gb", "mfu")


class Victim:
    """Trains in processes of its own, which may be killed: see victim.py."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin and process.stdout
        self.stdin, self.stdout = process.stdin, process.stdout

    def __call__(self, folder: Path, settings: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
        """Train in a new folder, or resume (settings = None); how it ended."""
        print(json.dumps({"folder": str(folder), "settings": settings} | request), file=self.stdin, flush=True)
        return json.loads(self.stdout.readline())

    def left(self, folder: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
        """All weights, averages and optimizer states that a run left, and its log without the machine's part."""
        log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        *_, newest = sorted(folder.glob("checkpoints/step-*/state.safetensors"))
        files = [*folder.glob("*.safetensors"), *folder.glob("averages/*.safetensors"), newest]
        tensors = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        return tensors, [{name: value for name, value in line.items() if name not in MACHINE} for line in log]


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    script = Path(__file__).with_name("victim.py")
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Victim(process)
        Victim(process).stdin.close()
