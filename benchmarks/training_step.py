"""Cost of the loop's step beside the network's own: python -m benchmarks.training_step [toy] [unet]

The bare step is the network alone on fixed tensors: forward, squared error, backward, and the same fused optimizer. The
loop's step draws data, times and noise besides, makes x_t and the target, clips, looks for numbers that are none,
averages the weights and keeps the loss. Both are timed in turn, in a random order, in seconds of processor time of the
process, so that what else runs on the machine counts little (its caches are shared all the same: take the figures on a
quiet one). Printed are the median of the ratio of neighbours with its quartiles, and what the loop's parts take.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from training import launch, optimization, recipes
from training.feed import Feed
from training.optimization import learning_rate
from training.recipes import Recipe
from training.state import State
from training.task import build

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "toy": ("toy.ring", {"width": 256, "depth": 3, "batch": 1024}),
    "unet": ("images.digits-unet", {"batch": 128}),
}
LIMIT = 1.03


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def bare_step(recipe: Recipe, state: State, feed: Feed) -> Callable[[], None]:
    """A step of a network like the state's on the inputs it had once."""
    network, seen = build(recipe).network().to(state.processes.device), []
    if state.processes.device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # as the loop lays it out
    hook = network.register_forward_hook(
        lambda _, args, kwargs, out: seen.append((args, kwargs, out)), with_kwargs=True
    )
    state.task.loss(network, *feed(0)[0])
    hook.remove()
    args, kwargs, out = seen[0]
    target = torch.randn(out.shape, generator=torch.Generator().manual_seed(0))
    optimizer = optimization.unprepared(recipe, list(network.parameters()))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.mse_loss(network(*args, **kwargs), target).backward()
        optimizer.step()

    return step


def measure(name: str, repeats: int, workers: int) -> tuple[list[str], dict[str, float]]:
    """A line of the table, and milliseconds of the loop's parts."""
    base, settings = CASES[name]
    recipe = recipes.change(recipes.find(base), steps=10**6, **settings)
    processes, built = launch.join(), build(recipe)
    state = State(recipe, 0, processes, processes.accelerator(recipe), built)
    feed, steps = Feed(built, recipe, 0, processes, workers), iter(range(10**6))
    bare = bare_step(recipe, state, feed)

    def ours() -> None:
        step = next(steps)
        state.advance(step, learning_rate(step, recipe), feed(step))

    pairs = []
    for _ in range(3):
        bare(), ours()
    for _ in range(repeats):
        first = random.random() < 0.5
        runs = (bare, ours) if first else (ours, bare)
        times = [seconds(run) for run in runs]
        pairs.append(times if first else times[::-1])
    low, middle, high = statistics.quantiles([mine / plain for plain, mine in pairs], n=4)
    plain, mine = (1e3 * statistics.median(column) for column in zip(*pairs, strict=True))
    line = [name, f"{plain:.2f}", f"{mine:.2f}", f"{middle:.3f}", f"{low:.3f} - {high:.3f}"]
    return [*line, "met" if middle <= LIMIT else "missed"], parts(state, feed)


def parts(state: State, feed: Feed, repeats: int = 20) -> dict[str, float]:
    """Milliseconds of what the loop adds, each timed by itself, caches warm: least of several."""
    one = torch.ones(())
    timed = {
        "data": lambda: feed._make(1),
        "norm": state.optimization.norm,
        "averages": state.averages.update,
        "optimizer": lambda: state.optimization.step(0.0, one, 0 * one),
    }
    return {name: 1e3 * min(seconds(run) for _ in range(repeats)) for name, run in timed.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="which to measure (all)")
    parser.add_argument("--repeats", type=int, default=100, help="pairs of steps (default 100)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.repeats < 2:
        parser.error("--repeats must be at least 2")
    torch.set_num_threads(arguments.threads)
    table = Table(
        title=f"one step, milliseconds of processor time (torch {torch.__version__}, {arguments.threads} thread)"
    )
    for heading in ("case", "bare", "the loop's", "ratio", "quartiles", f"wanted: {LIMIT}"):
        table.add_column(heading, justify="left" if heading == "case" else "right")
    told = {}
    for name in arguments.cases or CASES:
        line, told[name] = measure(name, arguments.repeats, arguments.workers)
        table.add_row(*line)
    Console().print(table)
    for name, taken in told.items():
        print(f"{name}, of that: " + ", ".join(f"{part} {value:.2f} ms" for part, value in taken.items()))


if __name__ == "__main__":
    main()
