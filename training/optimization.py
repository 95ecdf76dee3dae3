"""From gradients to new weights in one kernel: clipping, loss scaling and skipped steps ride along.

The fused Adam divides gradients by `grad_scale` and does nothing where `found_inf` is 1, both read on the device.
Clipping to a norm and undoing the loss scale are one such divisor, so they cost no pass over the gradients, and a step
whose gradient is not finite is skipped without the host knowing. It is called as torch's function, on the tensors that
a checkpoint names: torch's class, which looks all of them up anew, takes a third longer on a small network.

Loss scale, for fp16, whose smallest number is 6e-8: gradients are made of scale * loss. It halves when a step was not
finite and doubles after GROWTH steps that all were (Micikevicius et al. 2018, section 3.2). It is state, on the device.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from training.recipes import Recipe

GROWTH = 2000
OPTIMIZERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def learning_rate(step: int, recipe: Recipe) -> float:
    """lr at step 0 .. steps - 1: linear from lr/w to lr over the w = warmup * steps first ones, then `lr_decay`.

    cosine, linear   to 0 at `steps`, one past the last step, so that every step learns something.
    inverse_sqrt     lr / sqrt(k / flat) from k = flat = lr_flat * steps on (Karras et al. 2024, section 2).

    A recipe of several rounds does this in each.
    """
    step, steps = recipe.within_round(step)
    rising = math.ceil(recipe.warmup * steps)
    if step < rising:
        return recipe.lr * (step + 1) / rising
    done = (step - rising) / max(1, steps - rising)
    match recipe.lr_decay:
        case "cosine":
            return recipe.lr * (1 + math.cos(math.pi * done)) / 2
        case "linear":
            return recipe.lr * (1 - done)
        case "inverse_sqrt":
            return recipe.lr / math.sqrt(max(1.0, step / max(1.0, recipe.lr_flat * steps)))
        case _:
            return recipe.lr


def unprepared(recipe: Recipe, parameters: Sequence[Tensor]) -> torch.optim.Optimizer:
    """The recipe's optimizer: adam adds weight_decay * weight to the gradient, adamw shrinks the weights by it."""
    return OPTIMIZERS[recipe.optimizer](
        parameters,
        lr=recipe.lr,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
    )


class Optimization:
    """What the optimizer would do, what changes in it laid open as tensors."""

    def __init__(self, recipe: Recipe, optimizer: Any, parameters: dict[str, Tensor], device: torch.device) -> None:
        self.recipe, self.parameters = recipe, parameters
        self.trained = list(parameters.values())
        self.kernel = functools.partial(adam, **_settings(optimizer.param_groups[0]))
        self.scaling = recipe.precision == "fp16"
        self.on_cpu = device.type == "cpu"
        self.scale = {"scale": torch.full((), 2.0**16, device=device), "good_steps": torch.zeros((), device=device)}
        self.items = {
            "exp_avg": [torch.zeros_like(parameter) for parameter in self.trained],
            "exp_avg_sq": [torch.zeros_like(parameter) for parameter in self.trained],
            "step": [torch.zeros((), device=device) for _ in self.trained],
        }
        self.rows = list(zip(self.trained, *self.items.values(), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint has to hold."""
        named = {
            f"optimizer.{item}.{name}": tensor
            for item, tensors in self.items.items()
            for name, tensor in zip(self.parameters, tensors, strict=True)
        }
        return named | ({f"loss_scale.{name}": tensor for name, tensor in self.scale.items()} if self.scaling else {})

    def forget_gradients(self) -> None:
        for parameter in self.trained:
            parameter.grad = None

    def backward(self, loss: Tensor) -> None:
        (loss * self.scale["scale"] if self.scaling else loss).backward()

    def norm(self) -> Tensor:
        """The gradient's global norm."""
        gradients = [parameter.grad for parameter in self.trained if parameter.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # of shards: over all of them
        return norm / self.scale["scale"] if self.scaling else norm

    def step(self, lr: float, norm: Tensor, broken: Tensor) -> None:
        """One step with the gradient cut to `clip`; none at all where `broken` is 1."""
        grad_scale = found_inf = None
        if not (self.on_cpu and norm <= self.recipe.clip and not broken and not self.scaling):  # a CPU's can be seen
            divisor = torch.clamp_min(norm / self.recipe.clip, 1.0)
            grad_scale, found_inf = divisor * self.scale["scale"] if self.scaling else divisor, broken
        touched = [row for row in self.rows if row[0].grad is not None]
        weights, *moments, steps = map(list, zip(*touched, strict=True))
        columns = weights, [weight.grad for weight in weights], *moments, [], steps
        self.kernel(*columns, lr=lr, grad_scale=grad_scale, found_inf=found_inf)
        if self.scaling:
            self._rescale(broken)

    def searching(self) -> bool:
        """Whether skipped steps may be the loss scale still on its way down; the host waits for the device."""
        return self.scaling and self.scale["scale"].item() >= 1

    def _rescale(self, broken: Tensor) -> None:
        good = torch.where(broken > 0, 0.0, self.scale["good_steps"] + 1)
        change = torch.where(broken > 0, 0.5, torch.where(good == GROWTH, 2.0, 1.0))
        self.scale["scale"].mul_(change)
        self.scale["good_steps"].copy_(good % GROWTH)


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's settings as its function takes them."""
    beta1, beta2 = group["betas"]
    same = ("weight_decay", "decoupled_weight_decay", "eps", "amsgrad", "maximize", "fused")
    return {"beta1": beta1, "beta2": beta2, **{name: group[name] for name in same}}
