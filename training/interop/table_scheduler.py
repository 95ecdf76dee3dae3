"""Our solver tables as a scheduler of diffusers: any of them, for any schedule, inside its stock pipelines.

A pipeline asks for timesteps, lets the model's input be scaled, and hands the model's output back step by step; here a
step is a row of the table (diffusion/solvers.py), Runge-Kutta stages included. Preconditioning is the run's own, put
around a network whose answer is what the model has said. Pipelines that skip `scale_model_input` (DDPMPipeline) need a
model without preconditioning; those that skip `init_noise_sigma` (DDPMPipeline, DiTPipeline), a schedule that ends at
variance 1.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from diffusion import model, schedules, solvers
from training import networks, preconditioning, sampling
from training.recipes.denoising import DenoisingRecipe
from training.times import Span, T, span


class TableScheduler(SchedulerMixin, ConfigMixin):
    """A solver from the time `latest` to the data, on the grid that suits data of standard deviation `std`.

    The model is called at no time before `earliest`, from which it was trained.
    """

    order = 1

    @register_to_config
    def __init__(
        self,
        solver: str = "ddim",
        schedule: str = "cosine",
        parameterization: str = "v",
        preconditioning: str = "none",
        std: float = 1.0,
        earliest: float = 1e-3,
        latest: float = 0.998,
        num_train_timesteps: int = T,
    ) -> None:
        self.schedule = schedules.SCHEDULES[schedule]()
        self.set_timesteps(num_train_timesteps)

    @property
    def said(self) -> Any:
        """The arguments above, as attributes."""
        return self.config

    @property
    def init_noise_sigma(self) -> float:
        """Standard deviation of x_t at the start."""
        start = torch.tensor(self.said.latest, dtype=torch.float64)
        return math.hypot(self.said.std * self.schedule.alpha(start).item(), self.schedule.sigma(start).item())

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """The table of so many steps; one timestep for each call of the model, as the model counts time."""
        c = self.said
        ends = Span(c.earliest, c.latest)
        self.use(sampling.table(self.schedule, c.solver, num_inference_steps, ends, c.std), device)

    def use(self, table: solvers.Table, device: Any = None) -> None:
        """Begin a table made elsewhere."""
        self.table = table
        self.num_inference_steps = len(table.grid) - 1
        times = table.times[:-1]
        if self.said.preconditioning == "edm":
            asked = _Answering(None)
            self._around(asked)(torch.zeros(len(times), 1, dtype=torch.float64), times)
            self.timesteps = asked.time.float().to(device)
        else:
            self.timesteps = networks.step_of(times, self.said.num_train_timesteps).float().to(device)
        self.row = 0
        self.history: tuple[Tensor, ...] = ()

    def scale_model_input(self, sample: Tensor, timestep: Any = None) -> Tensor:
        """What the run's preconditioning hands on to its network."""
        asked = _Answering(None)
        self._around(asked)(sample, self.time.to(sample).expand(len(sample)))
        return asked.x

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, generator: Any = None, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """The state after the next row of the table."""
        time, row = self.time, self.table.rows[self.row]
        denoise = model.denoiser(self._around(_Answering(model_output)), self.schedule, self.said.parameterization)
        self.history = (denoise(sample, time), *self.history[: self.table.denoised.shape[1] - 1])
        if self.row == 0 or not self.table.inner[self.row - 1]:
            self.start = sample
        x = row.state * self.start
        for k, coefficient in row.denoised:
            x = x + coefficient * self.history[k]
        if row.noise:
            x = x + row.noise * randn_tensor(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        self.row += 1
        return SchedulerOutput(prev_sample=x) if return_dict else (x,)

    def __len__(self) -> int:
        return self.said.num_train_timesteps

    @property
    def time(self) -> Tensor:
        """Where the next row calls the model."""
        if self.row == len(self.table):
            raise ValueError(f"all {self.row} rows of {self.table.name!r} are done: call set_timesteps to begin again")
        return self.table.times[self.row]

    def _around(self, network: nn.Module) -> nn.Module:
        c = self.said
        return preconditioning.around(network, c.preconditioning, self.schedule, c.parameterization, c.std)


class _Answering(nn.Module):
    """A network whose answer is given beforehand (None: x itself); it keeps what it was asked."""

    def __init__(self, answer: Tensor | None) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.x, self.time = x, time
        return x if self.answer is None else self.answer


def of_recipe(recipe: DenoisingRecipe, solver: str) -> TableScheduler:
    """The scheduler for a run's stock model."""
    ends = span(recipe)
    return TableScheduler(
        solver, recipe.schedule, recipe.parameterization, recipe.preconditioning, recipe.std, ends.earliest, ends.latest
    )
