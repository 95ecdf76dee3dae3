"""Progressive distillation: the student's step is two of its teacher's, and then the student is the next teacher.

What it knows in the end is DDIM on one grid of few steps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion import distillation as distil
from diffusion import schedules, solvers
from training import sampling
from training.distillation.follower import Follower, noised, whole
from training.recipes.distill import ProgressiveRecipe
from training.runs import Trained
from training.sampling import Sampler
from training.streams import Streams
from training.task import Batch


class Progressive(Follower):
    """Halved steps, round by round (Salimans & Ho 2022, algorithm 2)."""

    recipe: ProgressiveRecipe

    def __init__(self, recipe: ProgressiveRecipe, teacher: Trained) -> None:
        super().__init__(recipe, teacher)
        self.grid = sampling.grid(self.schedule, recipe.start_steps, teacher.span, self.std)

    def follow(self, network: nn.Module, step: int) -> None:
        """At the start of a round the last one's student becomes the teacher."""
        if self.recipe.within_round(step)[0] == 0:
            self.held.load_state_dict(whole(network))

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """Over the student's steps, equally likely, each from the law of x_t at its start."""
        x_0 = batch[0]
        round = self.recipe.round_of(streams.step)
        times = schedules.resident(self.grid, x_0.device)[:: 2**round]  # of the round's teacher
        chosen = torch.randint(len(times) // 2, (len(x_0),), generator=streams("time"), device=x_0.device)
        t, u, s = (times[2 * chosen + k] for k in range(3))
        x_t, labels = noised(x_0, self.schedule.alpha(t), self.schedule.sigma(t), streams), self.labels(batch, streams)
        student = self.student(network, labels)
        # later teachers were students: guidance is in their weights
        teacher = self.student(self.held, labels) if round else self.taught(self.held, labels)
        return distil.progressive_loss(student, teacher, self.schedule, x_t, (t, u, s), self.std).mean()

    def sampler(self, steps: int | None = None) -> Sampler:
        """DDIM on the last round's grid, started as the first teacher's DDIM would be."""
        if steps not in (None, self.recipe.end_steps):
            raise ValueError(f"steps = {steps}: this student knows a grid of {self.recipe.end_steps} and no other")
        first = solvers.ddim(self.schedule, self.grid)
        last = solvers.ddim(self.schedule, self.grid[:: 2**self.recipe.rounds])
        return Sampler(last, sampling.start_std(self.schedule, first, self.std))
