"""Reflow: the velocity of straight paths from noise to what the teacher's flow makes of it; sampled by Euler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusion import distillation as distil
from diffusion import grids, schedules, solvers
from diffusion.losses import denoising_loss
from diffusion.sampling import sample
from diffusion.shapes import per_sample
from diffusion.types import Denoiser
from training import launch, recipes, sampling, tensor_file
from training.distillation.student import Student, of_labels
from training.recipes import Recipe
from training.recipes.distill import ReflowRecipe
from training.runs import Trained
from training.sampling import Sampler
from training.streams import Streams
from training.task import Batch
from training.task import build as build_task

PAIRS = "pairs.safetensors"


class Reflow(Student):
    """Straight paths between paired noise and data (Liu et al. 2023, algorithm 1, one round): a run is a teacher again.

    The flow schedule, alpha = 1 - t and sigma = t, whatever the teacher's; pairs are noise of unit variance, and the
    end of the teacher's path from that noise.
    """

    recipe: ReflowRecipe
    table = PAIRS
    pairs: dict[str, Tensor]  # "noise" and "data", and "labels" if there are any
    digest: str

    def __init__(self, recipe: ReflowRecipe, teacher: Trained) -> None:
        super().__init__(recipe, teacher)
        self.schedule = schedules.SCHEDULES["flow"]()
        self.path = teacher.sampler(steps=recipe.pair_steps)
        if self.path.coefficients.noise.any():
            raise ValueError(f"teacher {recipe.teacher} draws noise on the way: reflow needs a deterministic sampler")
        straight = straightened(self.data)
        self.architecture = build_task(straight)
        self.inherits = isinstance(teacher.task, Reflow) or straight == teacher.recipe

    def parts(self) -> Sequence[Tensor]:
        n = self.recipe.pairs
        return torch.arange(n).split(sampling.sizes(n, self.shape)) if n else ()

    def make(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """As many pairs [n, *shape], from a stream that the first row's number names."""
        drawn, device = self.starts(len(rows), Streams(seed, int(rows[0]))("pairs")), launch.join().device
        data = self.carried(*(tensor.to(device) for tensor in drawn)).cpu()
        return dict(zip(("noise", "labels"), drawn, strict=False)) | {"data": data}

    def take(self, table: dict[str, Tensor]) -> None:
        self.pairs, self.digest = table, tensor_file.digest(table)

    def starts(self, n: int, generator: torch.Generator) -> Batch:
        """n times unit noise, and labels if there are any, all equally likely."""
        noise = torch.randn(n, *self.shape, generator=generator)
        return (noise, torch.randint(self.classes, (n,), generator=generator)) if self.classes else (noise,)

    @torch.no_grad()
    def carried(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The end of the teacher's path from unit noise, as its sampler draws it."""
        network = self.teacher.network.to(noise.device)
        denoiser = of_labels(self.teacher.task.denoiser, network, labels, self.recipe.guidance)
        return sample(denoiser, self.path.coefficients, self.path.spread * noise)

    def facts(self) -> dict[str, Any]:
        """The teacher and what it made: of its data nothing is asked."""
        return {"teacher": self.origin} | ({"pairs": self.digest} if self.recipe.pairs else {})

    def network(self) -> nn.Module:
        """The teacher's architecture for velocities of the flow schedule; its weights too, if it predicts those."""
        return super().network() if self.inherits else self.architecture.network()

    def batch(self, n: int, streams: Streams) -> Batch:
        """Noise and data of n pairs, without data where these are made in the step; labels if there are any."""
        generator = streams("data", "cpu")
        if not self.recipe.pairs:
            return self.starts(n, generator)
        chosen = torch.randint(len(self.pairs["noise"]), (n,), generator=generator)
        return tuple(self.pairs[name][chosen] for name in ("noise", "data", "labels") if name in self.pairs)

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """The squared error of the velocity noise - data at x_t between them, t uniform."""
        noise, data = batch[0], batch[1] if self.recipe.pairs else self.carried(*batch)
        t = torch.rand(len(noise), generator=streams("time"), device=noise.device)
        velocity = self.velocity(network, self.labels(batch, streams))
        return denoising_loss(velocity, self.schedule, data, t, noise, "velocity").mean()

    def velocity(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        return network if labels is None else lambda x, t: network(x, t, labels)

    def student(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        """(x_t, t) -> the point at time 0 of a straight path through x_t."""
        velocity = self.velocity(network, labels)
        return lambda x, t: distil.straight_student(x, velocity(x, t.to(x).expand(len(x))), per_sample(t, x))

    def sampler(self, steps: int | None = None) -> Sampler:
        """Euler in equal steps from unit noise."""
        steps = self.recipe.end_steps if steps is None else steps
        sampling.check_steps(steps)
        return Sampler(solvers.euler(self.schedule, grids.uniform(steps)), 1.0)


def straightened(recipe: Recipe) -> Recipe:
    """The recipe of a network like this one's for velocities of straight paths."""
    settings = {"schedule": "flow", "parameterization": "velocity"}
    if getattr(recipe, "preconditioning", None) == "edm":  # it is of denoisers alone: velocities go with unit variance
        settings["preconditioning"] = "unit"
    return recipes.change(recipe, **settings)
