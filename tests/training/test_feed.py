"""Batches do not depend on when they are made; each is made once, and none that no step asks for."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from training import launch, recipes
from training.feed import AHEAD, AT_ONCE, Feed
from training.recipes import Recipe
from training.streams import Streams
from training.task import Batch, build

STEPS, SHARES = 10, 2
TINY = recipes.change(recipes.find("toy.ring"), steps=STEPS, batch=8, accumulate=SHARES, width=4, depth=1)


class Numbered:
    """A task whose batch is its step and share, of so many bytes; it counts what it made."""

    def __init__(self, size: int) -> None:
        self.size, self.made = size, list[tuple[int, int]]()

    def batch(self, n: int, streams: Streams) -> Batch:
        self.made.append((streams.step, streams.share))
        return (torch.tensor([streams.step, streams.share], dtype=torch.uint8).repeat(self.size // 2),)


def steps_of(shares: list[tuple[Batch, Streams]]) -> list[tuple[int, int]]:
    return [(int(batch[0][0]), int(batch[0][1])) for batch, _ in shares]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("size", [2, AT_ONCE // 2, AT_ONCE // (3 * SHARES), 2 * AT_ONCE])
def test_each_batch_is_made_once_and_none_beyond_the_last(workers: int, size: int) -> None:
    task = Numbered(size)
    with Feed(task, TINY, 0, launch.join(), workers) as feed:  # type: ignore[arg-type]
        for step in range(STEPS):
            assert steps_of(feed(step)) == [(step, share) for share in range(SHARES)]
            assert workers or len(task.made) * size <= max(AT_ONCE, SHARES * size) + step * SHARES * size
    assert sorted(task.made) == [(step, share) for step in range(STEPS) for share in range(SHARES)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_out_of_turn_is_that_step(workers: int) -> None:
    with Feed(Numbered(2), TINY, 0, launch.join(), workers) as feed:  # type: ignore[arg-type]
        for step in (0, 1, 5, 6, 2, 9, 9, 0):
            assert steps_of(feed(step)) == [(step, share) for share in range(SHARES)]


def test_the_bits_are_the_same_with_any_number_of_workers() -> None:
    def all_of(workers: int) -> list[Tensor]:
        with Feed(build(TINY), TINY, 3, launch.join(), workers) as feed:
            return [tensor for step in range(STEPS) for batch, _ in feed(step) for tensor in batch]

    alone = all_of(0)
    assert len({tensor.numpy().tobytes() for tensor in alone}) == len(alone)
    for workers in (1, 2):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(alone, all_of(workers), strict=True))


@dataclass
class One:
    """One of several processes, as far as a feed asks."""

    index: int
    count: int
    device = torch.device("cpu")

    def share(self, recipe: Recipe) -> int:
        return recipe.batch // (self.count * recipe.accumulate)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_share_of_a_step_is_one_processs(count: int) -> None:
    feeds = [Feed(Numbered(2), TINY, 5, One(index, count)) for index in range(count)]  # type: ignore[arg-type]
    streams = [streams for feed in feeds for _, streams in feed(3)]
    assert sorted(each.share for each in streams) == list(range(count * SHARES))
    assert {(each.seed, each.step, each.shares) for each in streams} == {(5, 3, count * SHARES)}


def test_workers_make_batches_before_they_are_asked_for() -> None:
    later = threading.Event()

    class Waited(Numbered):
        def batch(self, n: int, streams: Streams) -> Batch:
            if streams.step == AHEAD - 1:
                later.set()
            return super().batch(n, streams)

    with Feed(Waited(2), TINY, 0, launch.join(), workers=1) as feed:  # type: ignore[arg-type]
        feed(0)
        assert later.wait(timeout=10)
