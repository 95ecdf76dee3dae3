"""Processes side by side, one for each device: who decides, how they agree, and how they end together.

`accelerate launch` or `torchrun` start them; a run that was not launched is a process alone, and all below costs it
nothing. Process 0 decides whatever touches the disk and tells the others (`decide`); it alone writes.

The end. A process that is killed closes its connections, so that the others fail in their next collective and stop in
one clear line (`one_ending`); one that hangs is given up after PATIENCE. When the launcher dies the kernel sends its
workers SIGUSR1, which like a first Ctrl-C asks them to save and stop: nobody goes on writing unseen. Whether to stop is
put to the vote after each step: the host's, so that no device is waited for, and counted one step later.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import datetime
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import accelerate
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from torch import Tensor

from training.recipes import Recipe

PATIENCE = datetime.timedelta(minutes=10)  # longest wait for another process; a save must fit in
PRECISION = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}
PR_SET_PDEATHSIG = 1  # linux/prctl.h

T = TypeVar("T")


@functools.cache
def join() -> Processes:
    """This process among those that train together."""
    return Processes()


class Processes:
    """The processes that train together, as one of them sees it."""

    def __init__(self) -> None:
        launched = int(os.environ.get("WORLD_SIZE", 1)) > 1
        options: dict[str, Any] = {"timeout": PATIENCE} if launched else {}
        if launched:
            _stop_with_the_launcher()
        state = accelerate.PartialState(cpu=launched and not torch.cuda.is_available(), **options)
        self.index, self.count, self.device = state.process_index, state.num_processes, state.device
        self.main = self.index == 0
        if self.device.type == "cuda":
            _repeatable()
        self.hosts = dist.new_group(backend="gloo", timeout=PATIENCE) if self.count > 1 else None
        if self.count > 1:
            atexit.register(_leave)

    def accelerator(self, recipe: Recipe, track: str | None = None, folder: Path | None = None) -> Any:
        """Accelerate as the recipe wants it, its trackers writing to the run's folder."""
        AcceleratorState._reset_state()  # else the precision of this process's last run would be kept
        # From three processes on, the order of a sum depends on how DDP packs gradients, and it packs them anew after
        # the first step of every start unless it looks for unused ones: a resumed run would differ in the last bit.
        packing = accelerate.DistributedDataParallelKwargs(find_unused_parameters=self.count > 2)
        return accelerate.Accelerator(
            mixed_precision=PRECISION[recipe.precision],
            kwargs_handlers=[packing],
            log_with=track,
            project_dir=folder,
        )

    def share(self, recipe: Recipe) -> int:
        """Samples in one micro-batch of one process; ValueError when this recipe can't be trained here."""
        if recipe.precision == "fp16" and self.device.type == "cpu":
            raise ValueError("precision = 'fp16' needs a GPU: on the CPU there are 'bf16' and 'float32'")
        cuts = self.count * recipe.accumulate
        if recipe.batch % cuts:
            raise ValueError(
                f"batch = {recipe.batch} can't be cut into {self.count} processes x {recipe.accumulate} micro-batches: "
                f"expected a multiple of {cuts}"
            )
        return recipe.batch // cuts

    def decide(self, choose: Callable[[], T]) -> T:
        """What process 0 chooses, known to all. Its error ends all; the others are silent about it."""
        if self.count == 1:
            return choose()
        told: list[Any] = [None, None]
        if self.main:
            try:
                told = [choose(), None]
            except BaseException as error:
                dist.broadcast_object_list([None, type(error).__name__], group=self.hosts)
                raise
        dist.broadcast_object_list(told, src=0, group=self.hosts)
        if told[1] is not None:
            sys.exit(2)
        return told[0]

    def gather(self, mine: T) -> list[T]:
        """What each process has, in their order, on process 0; an empty list on the others."""
        if self.count == 1:
            return [mine]
        together: list[Any] | None = [None] * self.count if self.main else None
        dist.gather_object(mine, together, dst=0, group=self.hosts)
        return together or []

    def mean(self, *values: Tensor) -> tuple[Tensor, ...]:
        """The means of numbers over the processes: not finite anywhere, not finite everywhere."""
        if self.count == 1:
            return values
        together = torch.stack(values)
        dist.all_reduce(together)
        return (together / self.count).unbind()

    def copy(self, tensor: Tensor) -> None:
        """Give every process the values of process 0."""
        if self.count > 1:
            dist.broadcast(tensor, src=0, group=self.hosts if tensor.device.type == "cpu" else None)


class Vote:
    """Whether any process was asked to stop. Alone it is known at once; together, one step later, by all alike."""

    def __init__(self, processes: Processes) -> None:
        self.hosts, self.votes = processes.hosts, torch.zeros(())
        self.pending: Any = None

    def __call__(self, asked: bool) -> bool:
        """Cast this step's vote; the outcome of the one before."""
        if self.hosts is None:
            return asked
        stop = self._counted()
        self.votes.fill_(asked)
        self.pending = dist.all_reduce(self.votes, group=self.hosts, async_op=True)
        return stop

    def _counted(self) -> bool:
        if self.pending is None:
            return False
        self.pending.wait()
        return self.votes.item() > 0


@contextlib.contextmanager
def one_ending(processes: Processes, advice: Callable[[], str]) -> Iterator[None]:
    """Turn the loss of another process into one line that says how to go on."""
    try:
        yield
    except RuntimeError as error:
        if processes.count == 1 or not _is_loss(error):
            raise
        raise ValueError(f"another process of this run has ended or does not answer: {advice()}") from error


def _is_loss(error: RuntimeError) -> bool:
    """Whether a collective failed, rather than a computation."""
    words = ("gloo", "Connection", "connection", "Timed out", "timed out", "NCCL")
    return isinstance(error, dist.DistError) or any(word in str(error) for word in words)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """The first SIGINT or SIGTERM asks the loop to stop after its step; the second acts as it always did.

    SIGUSR1, of the launcher's death or a cluster's warning, asks and never aborts.
    """
    asked = False
    before: dict[int, Any] = {}

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        if number != signal.SIGUSR1:
            for which in (signal.SIGINT, signal.SIGTERM):
                signal.signal(which, before[which])

    with contextlib.suppress(ValueError):  # not the main thread: signals are somebody else's
        for which in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            before[which] = signal.signal(which, ask)
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_with_the_launcher() -> None:
    """Have the kernel send SIGUSR1 when the parent dies (Linux; elsewhere the launcher has to be killed kindly)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
        if os.getppid() != parent:
            raise RuntimeError("the launcher of this process has died")


def _repeatable() -> None:
    """Have a GPU add in the same order every time; an operation that can't is named in a warning, once."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
