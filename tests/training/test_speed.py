"""Speeds on a clock that the test moves, peaks in the order of the devices, and memory as the kernel counts it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from training import launch, recipes, speed
from training.speed import Meter, peak_of
from training.state import State
from training.task import build

CUDA = torch.device("cuda")
DEVICES = ("Tesla T4", "NVIDIA L4", "NVIDIA L40S", "NVIDIA H100 PCIe", "NVIDIA H100 80GB HBM3")


def at(monkeypatch: pytest.MonkeyPatch, times: Iterator[float]) -> None:
    """Let the clock show these times, one after the other."""
    monkeypatch.setattr(speed.time, "perf_counter", lambda: next(times))


def test_a_rate_is_that_since_the_call_before(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, iter((100.0, 102.0, 103.0, 105.0)))
    meter = Meter(step=10)
    assert (meter.rate(14), meter.rate(20), meter.seconds) == (2, 6, 5)


def test_peaks_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is the next one's lesser, in bf16, and twice as fast or more in 16 bits than in 32; in operations a second.

    L4 and H100 begin the names of L40S and H100 PCIe.
    """
    peaks = {}
    for name in DEVICES:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        peaks[name] = [peak_of(CUDA, precision) or 0 for precision in ("bf16", "fp16", "float32")]
        bf16, fp16, float32 = peaks[name]
        assert bf16 == fp16 > 2 * float32 > 1e13
    assert all(peaks[one][0] < peaks[other][0] for one, other in itertools.pairwise(DEVICES))
    assert peaks[DEVICES[-1]][0] < 1e15
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a device of next year")
    assert peak_of(CUDA, "bf16") is None
    assert peak_of(torch.device("meta"), "bf16") is None


def test_a_cpus_peak_is_its_best_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that take 3, 1 and 2 seconds: the operations of one, as torch counts them, in a second."""
    at(monkeypatch, iter((0.0, 3.0, 3.0, 4.0, 4.0, 6.0)))
    with FlopCounterMode(display=False) as counter:
        peak = peak_of(torch.device("cpu"), "float32")
    assert peak == counter.get_total_flops() / 3


@pytest.mark.parametrize("precision, dtype", [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_a_cpus_peak_is_that_of_the_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    multiplied, product = set(), torch.Tensor.__matmul__

    def watched(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        multiplied.add((left.dtype, right.dtype))
        return product(left[:8, :8], right[:8, :8])

    monkeypatch.setattr(torch.Tensor, "__matmul__", watched)
    peak_of(torch.device("cpu"), precision)
    assert multiplied == {(dtype, dtype)}


def test_memory_is_the_kernels_count() -> None:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    assert speed.memory(torch.device("cpu")) == pytest.approx(int(line.split()[1]) * 1024 / 1e9, rel=0.05)


def test_a_sharded_network_has_no_utilisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting would run its layers on one process, and those of the others would have to take part."""
    recipe = recipes.change(recipes.find("toy.ring"), batch=8, width=4, depth=1)
    processes, built = launch.join(), build(recipe)
    state = State(recipe, 0, processes, processes.accelerator(recipe), built)
    assert speed.utilisation(state) is not None
    next(iter(state.network.parameters())).full_tensor = lambda: None  # type: ignore[attr-defined]  # as a DTensor has
    monkeypatch.setattr(built, "loss", lambda *_: pytest.fail("the network was called"))
    assert speed.utilisation(state) is None
