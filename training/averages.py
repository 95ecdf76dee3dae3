"""Averages of a run's weights: kept up at every step, stored at some, and put together to any other afterwards.

One `diffusion.ema.EMA` for each relative width of the recipe. `averages/step-00001000.safetensors` holds them all as
they stood after that many steps, the recipe's `snapshots` files at equal distances, the last at the end; from these
`reconstruct` makes an average of any width after training (Karras et al. 2024, section 3).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion import ema_profiles
from diffusion.ema import EMA
from diffusion.ema_profiles import Snapshot, power_of
from training import run_folder, tensor_file
from training.recipes import Recipe
from training.recipes.settings import Width, checked
from training.run_folder import RunFolder


class Averages:
    """The averages of a network that trains; `by_width` holds them."""

    def __init__(self, network: nn.Module, widths: tuple[float, ...]) -> None:
        self.by_width = {width: EMA(network, decay=1.0, gamma=power_of(width)) for width in widths}
        iterates = {name: _local(tensor) for name, tensor in network.state_dict().items()}
        floating = [name for name, tensor in iterates.items() if tensor.is_floating_point()]
        self.iterates = [iterates[name] for name in floating]
        self.averaged = [[_local(ema.average[name]) for name in floating] for ema in self.by_width.values()]
        self.counters = [
            (_local(ema.average[name]), iterates[name])
            for ema in self.by_width.values()
            for name in iterates.keys() - floating
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's present weights: `EMA.update`, less the look-ups by name, for every step."""
        for ema, averaged in zip(self.by_width.values(), self.averaged, strict=True):
            ema.updates += 1
            torch._foreach_lerp_(averaged, self.iterates, 1 - ema.decay_at(ema.updates))
        for counter, iterate in self.counters:
            counter.copy_(iterate)

    def tensors(self) -> dict[str, Tensor]:
        """All averages' tensors by `width.name`."""
        return {f"{width}.{name}": t for width, ema in self.by_width.items() for name, t in ema.average.items()}

    def reached(self, step: int) -> None:
        """Set the number of updates: one a step."""
        for ema in self.by_width.values():
            ema.updates = step


def stored_at(step: int, recipe: Recipe) -> bool:
    """Whether a snapshot is due after `step` steps: at k * steps / snapshots, rounded up, k = 1, 2, ..."""
    return (step * recipe.snapshots) // recipe.steps > ((step - 1) * recipe.snapshots) // recipe.steps


def store(folder: RunFolder, step: int, tensors: dict[str, Tensor]) -> Path:
    """Write a snapshot of the averages after `step` steps."""
    folder.averages.mkdir(exist_ok=True)
    path = folder.averages / f"step-{step:08d}.safetensors"
    tensor_file.write(path, tensors)
    return path


def reconstruct(path: Path | str, width: float, step: int | None = None) -> Path:
    """Write the average of relative width `width` after `step` steps (all) to RUN/ema-<width>.safetensors."""
    width = checked("width", width, Width)
    folder = run_folder.open_run(Path(path))
    files = sorted(folder.averages.glob("step-*.safetensors"))
    if not files:
        raise ValueError(f"{path} has no averages/ to make another of: train with --snapshots 16, say")
    if step is not None and not 1 <= step <= _step_of(files[-1]):
        raise ValueError(f"step = {step}: expected one from 1 to {_step_of(files[-1])}, the last stored")
    snapshots = [
        Snapshot(power_of(stored), _step_of(file), _average(tensors, stored))
        for file, tensors in ((file, tensor_file.read(file)) for file in files)
        for stored in folder.recipe.ema
    ]
    average = ema_profiles.reconstruct(snapshots, width, step)
    tensor_file.write(folder.ema_of(width), average)
    return folder.ema_of(width)


def _average(tensors: dict[str, Tensor], width: float) -> dict[str, Tensor]:
    """One width's average of a snapshot."""
    prefix = f"{width}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _step_of(file: Path) -> int:
    step = file.stem.removeprefix("step-")
    if not step.isdecimal():
        raise ValueError(f"{file} is no snapshot: expected a name like step-00001000.safetensors")
    return int(step)


def _local(tensor: Tensor) -> Tensor:
    """This process's shard of a sharded tensor; a whole tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
