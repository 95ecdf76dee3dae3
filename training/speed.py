"""How fast a run goes: steps, samples and floating-point operations a second, and the memory it takes.

MFU, model FLOPs utilisation (Chowdhery et al. 2022, appendix B), is the arithmetic of the network's forward and
backward passes a second over the device's peak. The arithmetic is counted once, operator by operator, on a real batch.
The peak is the maker's figure for the device and precision (dense); for a CPU, which has no such figure, it is the rate
of a large matrix product measured at the start with the run's threads. For other devices there is none, and no MFU.
"""

from __future__ import annotations

import resource
import sys
import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from training.state import State
from training.streams import Streams

# 1e12 operations a second, dense, by device name: (bf16 and fp16, float32 without TF32); makers' data sheets
PEAKS = {
    "H200": (989.0, 67.0),
    "H100 PCIe": (756.0, 51.0),
    "H100": (989.0, 67.0),
    "A100": (312.0, 19.5),
    "L40S": (362.0, 91.6),
    "L4": (121.0, 30.3),
    "A10G": (70.0, 35.0),
    "V100": (125.0, 15.7),
    "T4": (65.0, 8.1),
    "RTX 4090": (165.2, 82.6),
    "RTX 3090": (71.0, 35.6),
}
MATRIX, REPEATS = 1024, 3


class Meter:
    """Steps a second between two calls, and seconds since the start; wall-clock time never reaches the state."""

    def __init__(self, step: int) -> None:
        self.start = self.last = time.perf_counter()
        self.step = step
        self.arithmetic: float | None = None  # MFU at one step a second

    def rate(self, step: int) -> float:
        """Steps a second since the call before."""
        now = time.perf_counter()
        rate = (step - self.step) / (now - self.last)
        self.step, self.last = step, now
        return rate

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start


def memory(device: torch.device) -> float:
    """Largest memory taken so far, in GB: the device's, or the process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def utilisation(state: State) -> float | None:
    """MFU at one step a second (MFU = this * steps a second); None where the peak is unknown or the network sharded."""
    if any(hasattr(parameter, "full_tensor") for parameter in state.optimization.trained):
        return None  # sharded: the others would have to take part in counting
    peak = peak_of(state.processes.device, state.recipe.precision)
    return None if peak is None else flops(state) / peak


def flops(state: State) -> int:
    """Operations of this process in a step's forward and backward passes; the state stays as it is."""
    streams = Streams(0, 0, device=state.processes.device)
    batch = state.task.batch(state.processes.share(state.recipe), streams)
    batch = tuple(tensor.to(state.processes.device) for tensor in batch)
    buffers = {name: buffer.clone() for name, buffer in state.network.named_buffers()}
    trained = state.optimization.trained
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        loss = state.task.loss(state.network, batch, streams)
        torch.autograd.grad(loss, trained, allow_unused=True)
    with torch.no_grad():
        for name, buffer in state.network.named_buffers():
            buffer.copy_(buffers[name])
    return counter.get_total_flops() * state.recipe.accumulate


def peak_of(device: torch.device, precision: str) -> float | None:
    """Operations a second that the device could do; None where nobody says."""
    if device.type == "cpu":
        return _measured(torch.bfloat16 if precision == "bf16" else torch.float32)
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    found = next((figures for part, figures in PEAKS.items() if part in name), None)
    return None if found is None else 1e12 * found[precision == "float32"]


def _measured(dtype: torch.dtype) -> float:
    """The best rate of a few products of matrices of ones."""
    matrix = torch.ones(MATRIX, MATRIX, dtype=dtype)
    best = 0.0
    for _ in range(REPEATS):
        start = time.perf_counter()
        matrix @ matrix
        best = max(best, 2 * MATRIX**3 / (time.perf_counter() - start))
    return best
