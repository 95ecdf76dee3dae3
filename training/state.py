"""The state of a run: everything that changes while it goes on, all of it tensors; and one step of it.

Step k is a function of the state, k and the streams of k alone. Its gradient is the mean over the shares of its batch:
processes side by side and micro-batches one after another. A step whose gradient is not finite changes nothing: the
optimizer's kernel skips it on the device, as it does for a gradient scaler, and the count of such steps is part of the
state.

Accelerate gives device, precision and gradient synchronisation. Its optimizer wrapper is left out: it would cost a
small network a quarter of the step.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from typing import Any

import accelerate
import torch
from torch import Tensor, nn

from diffusion.ema import EMA
from diffusion.ema_profiles import power_of
from training import recipes
from training.recipes import Recipe
from training.streams import Streams, key
from training.task import Batch, Evolving, Task


def learning_rate(step: int, recipe: Recipe) -> float:
    """lr at step 0 .. steps - 1: linear from lr/w to lr over the w = warmup * steps first ones, then a cosine to 0.

    The cosine's zero falls on `steps`, one past the last step, so that every step learns something. A recipe of several
    rounds does this in each.
    """
    step, steps = recipe.within_round(step)
    rising = math.ceil(recipe.warmup * steps)
    if step < rising:
        return recipe.lr * (step + 1) / rising
    return recipe.lr * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


class State:
    """Everything that changes while a run goes on, all of it tensors: `tensors()` is what a checkpoint holds.

    The window (sum of losses, how many, how many were skipped, smoothed loss) is part of it, so that the log goes on
    as if nothing had happened, wherever between two lines the run was stopped.
    """

    def __init__(self, recipe: Recipe, seed: int, accelerator: accelerate.Accelerator, built: Task) -> None:
        self.recipe, self.accelerator, self.task = recipe, accelerator, built
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(key(seed, 0, "weights"))
            self.network = built.network().to(accelerator.device)
        self.prepared = accelerator.prepare(self.network)
        self.parameters = dict(self.network.named_parameters())
        self.optimizer = torch.optim.Adam(
            self.parameters.values(), lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), fused=True
        )
        self.averages = {width: EMA(self.network, decay=1.0, gamma=power_of(width)) for width in recipe.ema}
        self.window = {
            name: torch.zeros((), device=accelerator.device) for name in ("loss", "steps", "skipped", "smoothed")
        }
        for parameter in self.parameters.values():
            self.optimizer.state[parameter] = {
                "step": torch.zeros((), device=accelerator.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state, by name; they are the state itself, not copies."""
        named = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for width, ema in self.averages.items():
            named |= {f"ema.{width}.{name}": tensor for name, tensor in ema.average.items()}
        for name, parameter in self.parameters.items():
            named |= {f"optimizer.{item}.{name}": tensor for item, tensor in self.optimizer.state[parameter].items()}
        if isinstance(self.task, Evolving):
            named |= {f"task.{name}": tensor for name, tensor in self.task.tensors().items()}
        return named | {f"window.{name}": tensor for name, tensor in self.window.items()}

    @torch.no_grad()
    def load(self, step: int, tensors: dict[str, Tensor]) -> None:
        """Take the values of a checkpoint made at `step`."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        for ema in self.averages.values():
            ema.updates = step

    def advance(self, step: int, lr: float, shares: Iterable[tuple[Batch, Streams]]) -> None:
        """One optimizer step on the shares of its batch that this process has, without waiting for the device."""
        if isinstance(self.task, Evolving):
            self.task.begin(self.network, step)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.accelerator.device)
        for i, (batch, streams) in enumerate(shares, start=1):
            # dropout and the like draw from here
            torch.default_generator.manual_seed(key(streams.seed, step, "layers", streams.share))
            last = i == self.recipe.accumulate
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.prepared):
                loss = self.task.loss(self.prepared, batch, streams) / self.recipe.accumulate
                self.accelerator.backward(loss)
            total += loss.detach()
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), self.recipe.clip, foreach=True)
        broken = (~torch.isfinite(norm + total)).float()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.found_inf = broken  # type: ignore[attr-defined]
        self.optimizer.step()
        for ema in self.averages.values():
            ema.update(self.network)
        self._record(torch.where(broken > 0, 0.0, total), broken)

    def _record(self, loss: Tensor, broken: Tensor) -> None:
        self.window["loss"] += loss
        self.window["steps"] += 1
        self.window["skipped"] += broken

    def close_window(self) -> tuple[float, float, int]:
        """(mean loss, smoothed loss, skipped steps) since the last call; the one place where the host waits."""
        total, steps, skipped, smoothed = torch.stack(list(self.window.values())).tolist()
        mean = total / (steps - skipped) if steps > skipped else math.nan
        smoothed = 0.9 * smoothed + 0.1 * mean if smoothed else mean
        for name, value in (("loss", 0.0), ("steps", 0.0), ("skipped", 0.0), ("smoothed", smoothed)):
            self.window[name].fill_(value)
        return mean, smoothed, int(skipped)


def facts(recipe: Recipe, seed: int, accelerator: accelerate.Accelerator) -> dict[str, Any]:
    """What must be the same for two runs to agree bit for bit: a checkpoint says it, and resuming compares."""
    cuda = accelerator.device.type == "cuda"
    return {
        "recipe": recipes.fingerprint(recipe),
        "seed": seed,
        "optimizer": "adam",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": accelerator.num_processes,
        "precision": accelerator.mixed_precision,
    }
