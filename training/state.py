"""The state of a run: everything that changes while it goes on, all of it tensors; and one step of it.

Step k is a function of the state, k and the streams of k alone. Its gradient is the mean over the shares of its batch:
processes side by side and micro-batches one after another. A step whose gradient is not finite, on any process, changes
nothing: the optimizer's kernel skips it on the device, and the log says how many there were.

Accelerate gives device, precision and gradient synchronisation. Its optimizer wrapper is left out: it would cost a
small network a quarter of the step.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from training import optimization, recipes
from training.averages import Averages
from training.launch import Processes
from training.optimization import Optimization
from training.recipes import Recipe
from training.streams import Streams, key
from training.task import Batch, Evolving, Task


class State:
    """Everything that changes while a run goes on, all of it tensors: `tensors()` is what a checkpoint holds.

    The window (the losses since the log's last line, NaN where a step was skipped, and the smoothed loss) is part of
    it, so that the log goes on as if nothing had happened, wherever between two lines the run was stopped.
    """

    def __init__(self, recipe: Recipe, seed: int, processes: Processes, accelerator: Any, built: Task) -> None:
        self.recipe, self.processes, self.accelerator, self.task = recipe, processes, accelerator, built
        self.evolving = built if isinstance(built, Evolving) else None
        with torch.random.fork_rng():
            _seed_layers(key(seed, 0, "weights"), processes.device)
            network = _laid_out(built.network().to(processes.device))
        self.skeleton = copy.deepcopy(network, {id(p): _weightless(p) for p in network.parameters()})
        if recipe.compile:
            network.compile()
        parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.prepared, optimizer = accelerator.prepare(network, optimization.unprepared(recipe, parameters))
        self.network = accelerator.unwrap_model(self.prepared, keep_fp32_wrapper=True, keep_torch_compile=True)
        trained = {name: tensor for name, tensor in self.network.named_parameters() if tensor.requires_grad}
        self.optimization = Optimization(recipe, optimizer.optimizer, trained, processes.device)
        self.averages = Averages(self.network, recipe.ema)
        self.window = {
            "losses": torch.zeros(recipe.log_every, device=processes.device),
            "smoothed": torch.zeros(1, device=processes.device),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, by name; they are the state itself, not copies, and may be sharded."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        named |= {f"ema.{name}": tensor for name, tensor in self.averages.tensors().items()}
        if self.evolving:
            named |= {f"task.{name}": tensor for name, tensor in self.evolving.tensors().items()}
        return named | self.optimization.tensors() | {f"window.{name}": t for name, t in self.window.items()}

    @torch.no_grad()
    def load(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Take the values of a checkpoint made at `step`, which process 0 has; the others are given none."""
        for name, tensor in self.tensors().items():
            if hasattr(tensor, "full_tensor"):
                _scatter(tensor, tensors.get(name))
            else:
                if name in tensors:
                    tensor.copy_(tensors[name])
                self.processes.copy(tensor)
        self.averages.reached(step)

    def advance(self, step: int, lr: float, shares: Sequence[tuple[Batch, Streams]]) -> None:
        """One optimizer step on the shares of its batch that this process has, without waiting for the device."""
        if self.evolving:
            self.evolving.begin(self.network, step)
        self.optimization.forget_gradients()
        losses = []
        for i, (batch, streams) in enumerate(shares, start=1):
            _seed_layers(key(streams.seed, step, "layers", streams.share), self.processes.device)
            with contextlib.nullcontext() if i == len(shares) else self.accelerator.no_sync(self.prepared):
                loss = self.task.loss(self.prepared, batch, streams)
                loss = loss / len(shares) if len(shares) > 1 else loss
                self.optimization.backward(loss)
            losses.append(loss.detach())
        with torch.no_grad():
            loss, norm = sum(losses[1:], start=losses[0]), self.optimization.norm()
            (loss,) = self.processes.mean(loss + 0 * (loss + norm))  # not a number in trouble: on all processes alike
            self.optimization.step(lr, norm, broken=loss.isnan().float())
            self.averages.update()
            self.window["losses"][step % self.recipe.log_every] = loss

    def close_window(self, step: int) -> tuple[float, float, int]:
        """(mean loss, smoothed loss, skipped steps) after `step` steps; the one place where the host waits.

        They are those since the log's last line: a window is log_every steps, and the last may be shorter. Of n windows
        the k-th has the share (k/n)^8 - ((k-1)/n)^8 in the smoothed loss: the last eighth of a run of any length.
        """
        steps, windows = (step - 1) % self.recipe.log_every + 1, math.ceil(step / self.recipe.log_every)
        *losses, smoothed = torch.cat([self.window["losses"][:steps], self.window["smoothed"]]).tolist()
        good = [loss for loss in losses if not math.isnan(loss)]
        mean = math.fsum(good) / len(good) if good else math.nan
        if good:
            smoothed += (mean - smoothed) * (1 - (1 - 1 / windows) ** 8 if smoothed else 1)
        self.window["smoothed"].fill_(smoothed)
        return mean, smoothed, len(losses) - len(good)

    def facts(self, seed: int) -> dict[str, Any]:
        """What must be the same for two runs to agree bit for bit: a checkpoint says it, and resuming compares."""
        cuda = self.processes.device.type == "cuda"
        return {
            "recipe": recipes.fingerprint(self.recipe),
            "seed": seed,
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "processes": self.processes.count,
            "distribution": self.accelerator.distributed_type.value,
            **self.task.facts(),
        }

    def shown(self, average: dict[str, Tensor]) -> nn.Module:
        """A network of its own with these weights, to sample with; this one goes on untouched."""
        network = copy.deepcopy(self.skeleton)
        copies = {name: tensor.to(self.processes.device, copy=True) for name, tensor in average.items()}
        network.load_state_dict(copies, assign=True)
        return network.eval().requires_grad_(False)


def whole(tensors: dict[str, Tensor], main: bool) -> dict[str, Tensor]:
    """The tensors with shards gathered on process 0, in its memory; all processes have to call. The others get none."""
    gathered = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor().cpu() if hasattr(tensor, "full_tensor") else tensor
        if main:
            gathered[name] = full
    return gathered


def _scatter(tensor: Any, values: Tensor | None) -> None:
    """Give every process its shard of what process 0 has."""
    from torch.distributed.tensor import distribute_tensor

    full = torch.empty(tensor.shape, dtype=tensor.dtype) if values is None else values
    tensor.copy_(distribute_tensor(full.to(tensor.device), tensor.device_mesh, tensor.placements))


def _laid_out(network: nn.Module) -> nn.Module:
    """Channels last on a GPU, where convolutions are faster so."""
    for parameter in network.parameters():
        if parameter.device.type == "cuda" and parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return network


def _weightless(parameter: nn.Parameter) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)


def _seed_layers(value: int, device: torch.device) -> None:
    """Seed the generator that dropout and the like draw from (torch.manual_seed takes a hundred times as long)."""
    torch.default_generator.manual_seed(value)
    if device.type == "cuda":
        torch.cuda.default_generators[torch.cuda.current_device()].manual_seed(value)
