"""What a family of recipes gives the training loop, and how the loop finds it.

A family is a module `training/families/<family>.py` with a function `build(recipe) -> Task`. The loop knows nothing
else about it: batches are made ahead of time by `batch` (a pure function of its streams, so it may run in other
threads), and `loss` sees only what `batch` made.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from diffusion.schedules import Schedule
from diffusion.types import Denoiser
from training.recipes import Recipe
from training.run_folder import RunFolder
from training.sampling import Sampler
from training.streams import Streams

Batch = tuple[Tensor, ...]


class Task(Protocol):
    """A recipe at work."""

    def facts(self) -> dict[str, Any]:
        """What else than recipe and seed the result depends on, as JSON values: the data's fingerprint, say."""
        ...

    def network(self) -> nn.Module:
        """A new network, its weights drawn from torch's default generator."""
        ...

    def batch(self, n: int, streams: Streams) -> Batch:
        """n samples of the share, on the CPU: a pure function of the streams (their device aside)."""
        ...

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """The mean loss over a batch that lies on the streams' device: a scalar."""
        ...

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """A picture in the run folder: what the network does so far."""
        ...


@runtime_checkable
class Evolving(Task, Protocol):
    """A task with tensors of its own that change from step to step: they are part of the run's state."""

    def tensors(self) -> dict[str, Tensor]:
        """Those tensors themselves, not copies; they exist once the task has made its network."""
        ...

    def begin(self, network: nn.Module, step: int) -> None:
        """Called before each step with the network the last one left: a function of these, the step and `tensors`."""
        ...


@runtime_checkable
class Prepared(Task, Protocol):
    """A task that learns from a table which is made once for all steps, before its facts are asked for."""

    table: str  # its file in the run's folder

    def parts(self) -> Sequence[Tensor]:
        """The numbers of its rows, in the parts it is made by; none: this recipe needs no table."""
        ...

    def make(self, rows: Tensor, seed: int) -> dict[str, Tensor]:
        """Some of its rows, on the CPU: a pure function of their numbers, recipe and seed."""
        ...

    def take(self, table: dict[str, Tensor]) -> None:
        """Learn from this table from now on."""
        ...


@runtime_checkable
class Generative(Task, Protocol):
    """A task whose network is a denoiser that samples can be drawn with; the first tensor of its batches is x_0."""

    schedule: Schedule
    std: float  # of the data, per coordinate
    shape: tuple[int, ...]  # of one sample

    def denoiser(self, network: nn.Module) -> Denoiser:
        """(x, t) -> E[x_0 | x_t = x] by the network."""
        ...

    def as_data(self, drawn: Tensor) -> Tensor:
        """Samples [n, *shape] as the data are given: pixels in uint8, say."""
        ...

    def picture(self, drawn: Tensor, path: Path, title: str, generator: Generator) -> Path:
        """A PNG of samples [n, *shape], with as many draws of the truth if there are any to be had."""
        ...


@runtime_checkable
class Conditional(Generative, Protocol):
    """A generative task that may be asked for samples of a class."""

    classes: int  # 0: for none

    def denoiser(self, network: nn.Module, labels: Tensor | None = None, guidance: float = 1.0) -> Denoiser:
        """(x, t) -> E[x_0 | x_t = x, label] for as many x as there are labels, guided classifier-free by a weight."""
        ...

    def draw(
        self, network: nn.Module, sampler: Sampler, n: int, generator: Generator,
        labels: Tensor | None = None, guidance: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """n samples [n, *shape], each of its label if there are any; ValueError for a label there is none of."""
        ...

    def withheld(self, labels: Tensor, streams: Streams) -> Tensor:
        """Labels [n] as a network is told them in training: some replaced by a number that says nothing."""
        ...


@runtime_checkable
class Cut(Conditional, Protocol):
    """A task whose samplers cut what its network predicts to a range."""

    def uncut(self, network: nn.Module, labels: Tensor | None = None, guidance: float = 1.0) -> Denoiser:
        """The denoiser without that, which students learn: what is cut is no mean of x_0, and has no gradient."""
        ...


@runtime_checkable
class Distilled(Generative, Protocol):
    """A generative task whose network knows one sampler alone, and few steps of it."""

    data: Recipe  # of the run whose data these are

    def sampler(self, steps: int | None = None) -> Sampler:
        """That sampler, in the steps the network was made for, or in so many; ValueError if it does not know those."""
        ...


def build(recipe: Recipe) -> Task:
    """The recipe's family at work."""
    return importlib.import_module(f"training.families.{recipe.family}").build(recipe)
