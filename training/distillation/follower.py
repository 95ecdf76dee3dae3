"""A student with a second network that makes its targets: the round's teacher, or an average of its own past weights.

That network is part of the run's state. Such a student learns at noised data, so its teacher has to be a denoiser at
every noise level.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from diffusion.parameterization import mix
from diffusion.shapes import per_sample
from training import runs
from training.distillation.student import Student
from training.recipes.distill import DistillRecipe
from training.runs import Trained
from training.streams import Streams
from training.task import Distilled


class Follower(Student):
    """A student with a second network, `held`, which is not trained and follows it from step to step."""

    held: nn.Module

    def __init__(self, recipe: DistillRecipe, teacher: Trained) -> None:
        super().__init__(recipe, of_one_network(recipe, teacher))

    def network(self) -> nn.Module:
        network = self.beginner()
        self.held = copy.deepcopy(network).requires_grad_(False).eval()
        return network

    def beginner(self) -> nn.Module:
        return super().network()

    def tensors(self) -> dict[str, Tensor]:
        return self.held.state_dict()

    def begin(self, network: nn.Module, step: int) -> None:
        self.held.to(next(network.parameters()).device)
        if step:
            self.follow(network, step)

    def follow(self, network: nn.Module, step: int) -> None:
        """What a step, any but the first, does to `held` before all else."""
        raise NotImplementedError


def of_one_network(recipe: DistillRecipe, teacher: Trained) -> Trained:
    """The teacher, if its network is a denoiser at all times that says something of the data at each."""
    if isinstance(teacher.task, Distilled):
        raise ValueError(f"teacher {recipe.teacher} is distilled itself: {recipe.name} needs a denoiser at all times")
    kind = getattr(teacher.recipe, "parameterization", None)
    if kind in runs.NOISE_ONLY:
        raise ValueError(
            f"teacher {recipe.teacher} predicts {kind}, which says nothing of the data where x_t is all noise: "
            f"{recipe.name} needs one that predicts x0, v or velocity"
        )
    return teacher


def whole(network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors; all of each, where every process has a shard."""
    return {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in network.state_dict().items()
    }


def noised(x_0: Tensor, alpha: Tensor, sigma: Tensor, streams: Streams) -> Tensor:
    """x_t for fresh noise, alpha and sigma [batch]."""
    eps = torch.randn(x_0.shape, generator=streams("noise"), device=x_0.device)
    return mix(x_0, eps, per_sample(alpha, x_0), per_sample(sigma, x_0))
