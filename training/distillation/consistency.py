"""Consistency: f(x, sigma), the same for neighbours on a path, so that f jumps to where the path began.

The neighbour is found by a step of the teacher, or by the noise that made x (`from_data`), and its f is told by an
average of the student's past weights. It is sampled by jumps to the data, with noise between them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion import distillation as distil
from diffusion import schedules, solvers
from diffusion.shapes import per_sample
from diffusion.types import Denoiser
from training import sampling
from training.distillation.follower import Follower, noised, whole
from training.distillation.student import told
from training.recipes.distill import ConsistencyRecipe
from training.runs import Trained
from training.sampling import Sampler
from training.streams import Streams
from training.task import Batch


class Consistency(Follower):
    """Consistency distillation, and training (Song et al. 2023, algorithms 2 and 3), on one grid of noise levels.

    A schedule with alpha != 1 has the levels sigma/alpha, at which x/alpha is what EDM calls x. All levels are places
    on the grid, so that the time which belongs to one is looked up, not solved for.
    """

    recipe: ConsistencyRecipe

    def __init__(self, recipe: ConsistencyRecipe, teacher: Trained) -> None:
        super().__init__(recipe, teacher)
        falling = sampling.angle_grid(self.schedule, recipe.levels, teacher.latest, self.std, end=teacher.earliest)
        self.times = falling.flip(0)
        self.levels = self.schedule.sigma(self.times) / self.schedule.alpha(self.times)

    def beginner(self) -> nn.Module:
        """The teacher's network; without its weights when nothing but data is to be learned from."""
        return self.teacher.task.network() if self.recipe.from_data else super().beginner()

    @torch.no_grad()
    def follow(self, network: nn.Module, step: int) -> None:
        """The average of weights that makes the targets takes in the last step's."""
        new = whole(network)
        for name, held in self.tensors().items():
            held.copy_(held.lerp(new[name], 1 - self.recipe.target_decay) if held.is_floating_point() else new[name])

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """Over the grid's neighbours, equally likely."""
        x_0 = batch[0]
        levels = schedules.resident(self.levels, x_0.device)
        upper = torch.randint(1, len(levels), (len(x_0),), generator=streams("time"), device=x_0.device)
        level, h = levels[upper], levels[upper] - levels[upper - 1]
        labels = self.labels(batch, streams)
        f, target = self.function(network, labels), self.function(self.held, labels)
        if self.recipe.from_data:
            eps = torch.randn(x_0.shape, generator=streams("noise"), device=x_0.device)
            return distil.consistency_training_loss(f, x_0, eps, level, h, target).mean()
        self.teacher.network.to(x_0.device)
        with torch.no_grad():
            denoise = self.at_level(self.taught(self.teacher.network, labels))
            x = noised(x_0, torch.ones_like(level), level, streams)
        return distil.consistency_distillation_loss(f, denoise, x, level, h, target).mean()

    def at_level(self, denoise: Denoiser) -> distil.Network:
        """(x, sigma) -> x_0, at alpha = 1 and a level of the grid, by a denoiser of the schedule's (x_t, t)."""

        def estimate(x: Tensor, level: Tensor) -> Tensor:
            levels, times = (schedules.resident(table, x.device) for table in (self.levels, self.times))
            t = times[torch.bucketize(level, (levels[1:] + levels[:-1]) / 2)]
            return denoise(per_sample(self.schedule.alpha(t), x) * x, t)

        return estimate

    def function(self, network: nn.Module, labels: Tensor | None) -> distil.Network:
        """(x, sigma) -> f by the network."""
        denoise = self.at_level(told(self.teacher.task, network, labels))
        return distil.consistency_of(denoise, self.std, self.levels[0].item())

    def student(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        """(x_t, t) -> f: where the path through x_t began; no posterior mean."""
        f = self.function(network, labels)

        def estimate(x: Tensor, t: Tensor) -> Tensor:
            alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
            return f(x / per_sample(alpha, x), sigma / alpha)

        return estimate

    def sampler(self, steps: int | None = None) -> Sampler:
        """Jumps from evenly spread places of the grid, started as a DDIM over all of it would be."""
        steps = self.recipe.end_steps if steps is None else steps
        if not 1 <= steps <= self.recipe.levels:
            raise ValueError(f"steps = {steps}: expected 1 to {self.recipe.levels}, the levels this student knows")
        falling = self.times.flip(0)
        visited = torch.linspace(0, self.recipe.levels, steps + 1, dtype=torch.float64).round().long()
        spread = sampling.start_std(self.schedule, solvers.ddim(self.schedule, falling), self.std)
        return Sampler(solvers.consistency(self.schedule, falling[visited]), spread)
