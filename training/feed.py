"""Batches for the loop: this process's shares of each step, made in line or ahead of time in threads.

`Task.batch` is a pure function of (seed, step, share), so what is made does not depend on when, in which thread or
after what: any number of workers feeds the same bits, and nothing of the feed belongs to the state.

In line, small batches are made several at a time: a network's step empties the processor's caches, so that the first
batch after it costs as much as the four that follow.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from training.launch import Processes
from training.recipes import Recipe
from training.streams import Streams
from training.task import Batch, Task

AHEAD = 2  # steps made ahead by each worker
MOST = 64  # threads: beyond it they hand on Python's lock and hold AHEAD batches each, and nothing gets faster
AT_ONCE = 2**17  # bytes made at a time in line, where a step takes less


def refuse_no_number(workers: int) -> None:
    """ValueError for a number of threads that is none."""
    if type(workers) is not int or workers < 0:
        raise ValueError(f"workers = {workers!r}: expected an integer >= 0")
    if workers > MOST:
        raise ValueError(
            f"workers = {workers}: expected at most {MOST}, as each holds {AHEAD} batches and more threads than cores "
            f"make none of them sooner"
        )


class Feed:
    """`feed(step)` is that step's micro-batches with their streams, on the device. A context: it ends its threads."""

    def __init__(self, task: Task, recipe: Recipe, seed: int, processes: Processes, workers: int = 0) -> None:
        self.task, self.recipe, self.seed, self.processes = task, recipe, seed, processes
        self.n = processes.share(recipe)
        self.pool = ThreadPoolExecutor(workers, thread_name_prefix="feed") if workers else None
        self.ahead: deque[tuple[int, list[Batch] | Future[list[Batch]]]] = deque()
        self.depth = AHEAD * workers

    def __call__(self, step: int) -> list[tuple[Batch, Streams]]:
        if self.ahead and self.ahead[0][0] != step:
            self.ahead.clear()
        if self.pool:
            self._begin(step, self.pool)
        elif not self.ahead:
            self._make_several(step)
        made = self.ahead.popleft()[1]
        batches = made.result() if isinstance(made, Future) else made
        return [(self._on_device(batch), self._streams(step, micro)) for micro, batch in enumerate(batches)]

    def __enter__(self) -> Feed:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def _streams(self, step: int, micro: int) -> Streams:
        share = micro * self.processes.count + self.processes.index
        return Streams(self.seed, step, share, self.processes.count * self.recipe.accumulate, self.processes.device)

    @torch.no_grad()
    def _make(self, step: int) -> list[Batch]:
        made = [self.task.batch(self.n, self._streams(step, micro)) for micro in range(self.recipe.accumulate)]
        if self.processes.device.type == "cuda":
            made = [tuple(tensor.pin_memory() for tensor in batch) for batch in made]
        return made

    def _begin(self, step: int, pool: ThreadPoolExecutor) -> None:
        """Have the step's batches made, and others: up to `depth` steps, none beyond the recipe's last."""
        first = self.ahead[-1][0] + 1 if self.ahead else step
        for later in range(first, max(step + 1, min(step + self.depth, self.recipe.steps))):
            self.ahead.append((later, pool.submit(self._make, later)))

    def _make_several(self, step: int) -> None:
        """The step's batches, and those after it while they are small; none beyond the recipe's last."""
        made = self._make(step)
        several = AT_ONCE // max(1, sum(tensor.nbytes for batch in made for tensor in batch))
        self.ahead.append((step, made))
        self.ahead += [(later, self._make(later)) for later in range(step + 1, min(step + several, self.recipe.steps))]

    def _on_device(self, batch: Batch) -> Batch:
        if self.processes.device.type == "cpu":
            return batch
        return tuple(self._sent(tensor) for tensor in batch)

    def _sent(self, tensor: Tensor) -> Tensor:
        layout = torch.channels_last if tensor.ndim == 4 else torch.preserve_format
        return tensor.to(self.processes.device, non_blocking=True, memory_format=layout)
