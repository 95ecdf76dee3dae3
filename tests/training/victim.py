"""A process that trains on request and may be killed: the other half of test_resume.py.

It imports torch once and forks for each request, a line of JSON on stdin:
{"folder", "settings" (a new run) or null (resume), "kill": null | ["event", k] | ["step", k], "drop": null | name}.
The child does what is asked and is killed with SIGKILL just before its k-th operation on the file system, or in the
middle of step k; `drop` makes it forget one tensor of the checkpoint it resumes from. The answer is a line of JSON:
{"signal", "events", "start", "step", "error"}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import accelerate
import torch

from training import draw, durable, loop, recipes, state, streams, task

RECIPE = recipes.change(
    recipes.find("toy.ring"), steps=60, batch=16, width=8, depth=1, log_every=7, save_every=10, parameterization="eps"
)
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


def kill_at_step(step: int) -> None:
    """Die after the step's times and before its noise are drawn."""
    draw = streams.Streams.__call__

    def deadly(self: streams.Streams, purpose: str, device: Any = None) -> torch.Generator:
        if self.step == step and purpose == "noise":
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(self, purpose, device)

    streams.Streams.__call__ = deadly  # type: ignore[method-assign]


def forget(name: str) -> None:
    """Resume without one tensor of the state: what a loop that forgot to save it would do."""
    load = state.State.load

    def forgetful(self: state.State, step: int, tensors: dict[str, torch.Tensor]) -> None:
        load(self, step, tensors | {name: torch.zeros_like(tensors[name])})

    state.State.load = forgetful  # type: ignore[method-assign]


def blank(folder: Any, *_: Any) -> Path:
    """In place of the pictures, which take longer than the run: a file of the same name, by the same writes."""
    durable.replace(folder.path / "samples.png", b"")
    return folder.path / "samples.png"


def serve(request: dict[str, Any]) -> dict[str, Any]:
    kind, at = request["kill"] or (None, None)
    if kind == "step":
        kill_at_step(at)
    if request["drop"]:
        forget(request["drop"])
    draw.samples = draw.curves = blank
    folder = Path(request["folder"])
    events = Events(str(folder), at if kind == "event" else None)
    try:
        if request["settings"] is None:
            outcome = loop.resume(folder, quiet=True)
        else:
            outcome = loop.train(recipes.change(RECIPE, **request["settings"]), folder, quiet=True)
    except ValueError as error:
        return {"signal": 0, "error": str(error)}
    return {"signal": 0, "events": events.count, "start": outcome.start, "step": outcome.step, "error": None}


def main() -> None:
    torch.set_num_threads(1)
    state.State(
        RECIPE, 0, accelerate.Accelerator(), task.build(RECIPE)
    )  # what torch imports lazily, once for all forks
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            os.write(writer, json.dumps(serve(json.loads(line))).encode())
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        answer = json.loads(os.read(reader, 65536) or b"{}")
        os.close(reader)
        print(json.dumps({"signal": os.waitstatus_to_exitcode(status)} | answer), flush=True)


if __name__ == "__main__":
    main()
