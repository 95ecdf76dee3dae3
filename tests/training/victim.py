"""A process that trains on request and may be killed: the other half of test_resume.py and test_processes.py.

It imports torch once and forks for each request, a line of JSON on stdin; for `processes` = 2 it forks two, which find
each other as launched ones do, through the environment. Of a request,

    folder, settings       a new run of RECIPE with some settings changed, or null: resume
    recipe                 the name of another recipe to change, in its place
    processes, workers     how many processes train together, and how many threads make batches in each
    kill, rank             ["event", k]: process `rank` gets SIGKILL just before its k-th operation on the file system;
                           ["step", k]: in the middle of step k; ["TERM", k]: it gets SIGTERM there instead;
                           ["NaN", k]: its loss is not a number there, on all processes if `rank` is null
    orphaned               the processes get a parent that dies once there is a checkpoint
    sharded                with FSDP2
    drop                   the name of a tensor of the checkpoint that it forgets to load
    slow                   [pause, patience]: each 8 pairs of a reflow take a pause, and processes wait for another no
                           longer than their patience, in seconds

The answer is a line of JSON: {"signals": of every process, "answers": [{"events", "start", "step", "error"}, ...]} and
the first of the answers.
"""

from __future__ import annotations

import datetime
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import accelerate
import torch
from accelerate.state import AcceleratorState
from torch import nn

from toy import worlds
from training import draw, durable, launch, loop, recipes, sampling, state, streams, task
from training.data.order import read_order
from training.distillation import reflow
from training.families.toy import Toy

RECIPE = recipes.change(
    recipes.find("toy.ring"), steps=60, batch=24, width=8, depth=1, log_every=7, save_every=10, parameterization="eps",
    ema=(0.1, 0.05), snapshots=2, sample_every=25,
)  # fmt: skip
FILE_SYSTEM = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}


class Events:
    """Counts the process's operations on the file system under one folder, and kills it before the k-th."""

    def __init__(self, folder: str, kill_at: int | None) -> None:
        self.folder, self.kill_at, self.count = folder, kill_at, 0
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_SYSTEM and str(arguments[0]).startswith(self.folder):
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1


def send_at_step(step: int, which: signal.Signals) -> None:
    """Get a signal in the middle of a step: where its layers' generator is seeded, before the loss."""
    keyed = state.key

    def deadly(seed: int, at: int, purpose: str, share: int = 0) -> int:
        if at == step and purpose == "layers":
            os.kill(os.getpid(), which)
        return keyed(seed, at, purpose, share)

    state.key = deadly


def poison(step: int) -> None:
    """Make the loss of a step NaN."""
    loss = Toy.loss

    def broken(self: Toy, network: nn.Module, batch: task.Batch, streams: streams.Streams) -> torch.Tensor:
        return loss(self, network, batch, streams) * (float("nan") if streams.step == step else 1.0)

    Toy.loss = broken  # type: ignore[method-assign]


def forget(name: str) -> None:
    """Resume without one tensor of the state: what a loop that forgot to save it would do."""
    load = state.State.load

    def forgetful(self: state.State, step: int, tensors: dict[str, torch.Tensor]) -> None:
        load(self, step, tensors | ({name: torch.zeros_like(tensors[name])} if tensors else {}))

    state.State.load = forgetful  # type: ignore[method-assign]


def slow_down(pause: float, patience: float) -> None:
    """Make pairs in small parts that take their time, among processes of little patience."""
    make = reflow.Reflow.make

    def slow(self: reflow.Reflow, rows: torch.Tensor, seed: int) -> dict[str, torch.Tensor]:
        time.sleep(pause * len(rows) / 8)
        return make(self, rows, seed)

    reflow.Reflow.make = slow  # type: ignore[method-assign]
    sampling.CHUNK = 16  # 8 points of the plane
    launch.PATIENCE = datetime.timedelta(seconds=patience)


def blank(folder: Any, *_: Any) -> Path:
    """In place of the pictures, which take longer than the run: a file of the same name, by the same writes."""
    durable.replace(folder.path / "samples.png", b"")
    return folder.path / "samples.png"


def drop_out() -> None:
    """Give the toy's network dropout, so that layers draw random numbers too."""
    build = Toy.network

    def leaky(self: Toy) -> nn.Module:
        network = build(self)
        network.network.x_in = nn.Sequential(network.network.x_in, nn.Dropout(0.1))
        return network

    Toy.network = leaky  # type: ignore[method-assign]


def read_in_epochs(points: int = 96) -> None:
    """Let the toy learn from so many points, in the shuffled epochs of an image run: four of RECIPE's steps."""
    data, drawn = worlds.make(RECIPE.world).sample(points, torch.Generator().manual_seed(0)).float(), Toy.batch

    def batch(self: Toy, n: int, streams: streams.Streams) -> task.Batch:
        first = (streams.step * streams.shares + streams.share) * n
        _, *rest = drawn(self, n, streams)
        return data[read_order(torch.arange(first, first + n), points, streams.seed)[1]], *rest

    Toy.batch = batch  # type: ignore[method-assign]


def serve(request: dict[str, Any], rank: int) -> dict[str, Any]:
    kind, at = request["kill"] or (None, None)
    mine = request["rank"] in (rank, None)
    if kind == "NaN" and mine:
        poison(at)
    if kind in ("step", "TERM") and mine:
        send_at_step(at, signal.SIGKILL if kind == "step" else signal.SIGTERM)
    if request["sharded"]:
        shard()
    if request["drop"]:
        forget(request["drop"])
    if request["slow"]:
        slow_down(*request["slow"])
    draw.curves = draw.distilled = blank
    Toy.preview = lambda self, network, folder: blank(folder)  # type: ignore[method-assign]
    folder = Path(request["folder"])
    events = Events(str(folder), at if kind == "event" and mine else None)
    try:
        if request["settings"] is None:
            outcome = loop.resume(folder, quiet=True, workers=request["workers"])
        else:
            asked = recipes.find(request["recipe"]) if request["recipe"] else RECIPE
            recipe = recipes.change(asked, **request["settings"])
            outcome = loop.train(recipe, folder, quiet=True, workers=request["workers"])
    except (ValueError, OSError, SystemExit) as error:
        return {"events": events.count, "error": str(error)}
    return {"events": events.count, "start": outcome.start, "step": outcome.step, "error": None}


def launched(rank: int, processes: int, port: int) -> None:
    """The environment that torchrun or accelerate would make."""
    AcceleratorState._reset_state(reset_partial_state=True)
    launch.join.cache_clear()
    if processes > 1:
        os.environ |= {
            **{"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)},
            **{"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
        }


def shard() -> None:
    """Train with FSDP2. Accelerate offers it to GPUs only, torch to CPUs too: say that these processes have GPUs."""
    os.environ |= {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    }
    os.environ |= {"FSDP_TRANSFORMER_CLS_TO_WRAP": "_Block", "FSDP_RESHARD_AFTER_FORWARD": "true"}
    launch.join()
    accelerate.PartialState().distributed_type = accelerate.DistributedType.MULTI_GPU


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def fork(request: dict[str, Any], pipes: list[tuple[int, int]]) -> list[int]:
    """Children that serve the request together, each answering through its pipe; their ids."""
    port, children = free_port(), []
    for rank, (_, writer) in enumerate(pipes):
        child = os.fork()
        if not child:
            launched(rank, request["processes"], port)
            os.write(writer, json.dumps(serve(request, rank)).encode())
            os._exit(0)
        children.append(child)
    return children


def orphan(request: dict[str, Any], pipes: list[tuple[int, int]]) -> list[int]:
    """The same with a process between that kills itself after the first checkpoint: its id."""
    launcher = os.fork()
    if not launcher:
        fork(request, pipes)
        while not [*Path(request["folder"]).glob("checkpoints/step-*")]:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    return [launcher]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    pipes = [os.pipe() for _ in range(request["processes"])]
    children = (orphan if request["orphaned"] else fork)(request, pipes)
    for _, writer in pipes:
        os.close(writer)
    signals = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    answers = [json.loads(os.read(reader, 65536) or b"{}") for reader, _ in pipes]
    for reader, _ in pipes:
        os.close(reader)
    return {"signals": signals, "answers": answers} | answers[0]


DEFAULTS = {
    "recipe": None,
    "processes": 1,
    "workers": 0,
    "sharded": False,
    "rank": 0,
    "kill": None,
    "drop": None,
    "slow": None,
    "orphaned": False,
}


def main() -> None:
    torch.set_num_threads(1)
    drop_out()
    read_in_epochs()
    processes = launch.join()  # what torch imports lazily, once for all forks
    state.State(RECIPE, 0, processes, processes.accelerator(RECIPE), task.build(RECIPE))
    for line in sys.stdin:
        print(json.dumps(answer(DEFAULTS | json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
