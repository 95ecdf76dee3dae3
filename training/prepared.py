"""What a task makes once for all its steps: a table, in a file of the run's folder.

All processes make parts of it side by side, and hand them to process 0 one by one: however long the whole takes, nobody
waits for another for longer than a part. A part is a function of its rows, so any number of processes make one table.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from training import launch, tensor_file
from training.launch import Processes
from training.run_folder import RunFolder
from training.task import Prepared, Task

TRIED = 16  # rows


def tried(built: Task, seed: int) -> None:
    """Give the task a few rows: a table that can't be made is refused by now, and steps can be timed with these."""
    if isinstance(built, Prepared) and (parts := built.parts()):
        built.take(built.make(parts[0][:TRIED], seed))


def ready(built: Task, folder: RunFolder) -> None:
    """Give the task the table in its run's folder, which is made first if it isn't there; all processes call alike."""
    if not isinstance(built, Prepared) or not (parts := built.parts()):
        return
    task, processes, path = built, launch.join(), folder.path / built.table
    if not processes.decide(path.exists):
        whole = _made(task, parts, folder.seed, processes)
        processes.decide(lambda: tensor_file.write(path, whole))
    try:
        table = tensor_file.read(path)
    except ValueError as error:
        raise ValueError(f"{error}; or delete it, and it is made again") from None
    task.take(table)


def _made(task: Prepared, parts: Sequence[Tensor], seed: int, processes: Processes) -> dict[str, Tensor]:
    """The whole table on process 0, nothing on the others."""
    done: list[dict[str, Tensor]] = []
    for first in range(0, len(parts), processes.count):
        mine = parts[first + processes.index :][:1]  # in the last round there may be none
        together = processes.gather([task.make(rows, seed) for rows in mine])
        done += [part for parts_of_one in together for part in parts_of_one]
    return {name: torch.cat([part[name] for part in done]) for name in (done[0] if done else ())}
