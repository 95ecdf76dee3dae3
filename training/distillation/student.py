"""What all students share: the teacher, its data and labels, and a network of its architecture.

A student is a denoiser with a table of its own (`sampler`), so what samples, judges or draws a run does it with these
too. A teacher of labels has a student of labels, withheld as often; its classifier-free guidance, if any, goes into the
student's weights (Meng et al. 2023, for one weight).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffusion.schedules import Schedule
from diffusion.types import Denoiser
from training import draw, prepared, recipes, sampling
from training.families.denoising import check_labels
from training.recipes import Recipe
from training.recipes.distill import DistillRecipe
from training.run_folder import RunFolder
from training.runs import Trained
from training.sampling import Sampler
from training.streams import Streams
from training.task import Batch, Conditional, Cut, Distilled, Generative


class Student:
    """What the kinds share: the teacher, its data, and a network of its architecture."""

    schedule: Schedule

    def __init__(self, recipe: DistillRecipe, teacher: Trained) -> None:
        self.recipe, self.teacher = recipe, teacher
        self.data: Recipe = teacher.task.data if isinstance(teacher.task, Distilled) else teacher.recipe
        self.schedule, self.std, self.shape = teacher.schedule, teacher.std, teacher.task.shape
        self.classes = teacher.task.classes if isinstance(teacher.task, Conditional) else 0
        if recipe.guidance != 1 and not self.classes:
            raise ValueError(f"guidance = {recipe.guidance}: teacher {recipe.teacher} knows no labels to be guided by")
        try:
            self.taught(teacher.network, torch.zeros(1, dtype=torch.int64) if self.classes else None)
        except ValueError as error:
            raise ValueError(f"teacher {recipe.teacher}: {error}") from None

    def facts(self) -> dict[str, Any]:
        """The teacher, and what its data depend on."""
        return self.lessons.facts() | {"teacher": self.origin}

    @property
    def origin(self) -> str:
        """The teacher's recipe and weights."""
        weights = hashlib.sha256(self.teacher.folder.ema.read_bytes()).hexdigest()
        return f"{recipes.fingerprint(self.teacher.recipe)} {weights}"

    def batch(self, n: int, streams: Streams) -> Batch:
        """The teacher's own."""
        return self.lessons.batch(n, streams)

    @functools.cached_property
    def lessons(self) -> Generative:
        """The teacher's task with all that it was trained on: samplers of a student need nothing of that."""
        prepared.ready(self.teacher.task, self.teacher.folder)
        return self.teacher.task

    def network(self) -> nn.Module:
        """The teacher's network, with its weights."""
        network = self.teacher.task.network()
        network.load_state_dict(self.teacher.network.state_dict())
        return network

    def denoiser(self, network: nn.Module, labels: Tensor | None = None, guidance: float = 1.0) -> Denoiser:
        """The student's own, as `Conditional` has it, but for guidance."""
        if guidance != 1:
            raise ValueError(
                f"guidance = {guidance}: a student is not guided, its teacher was, by {self.recipe.guidance}"
            )
        if labels is None:
            told(self.teacher.task, network, None)  # refused where labels were never withheld
        return self.student(network, labels)

    def student(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        return told(self.teacher.task, network, labels)

    def taught(self, network: nn.Module, labels: Tensor | None) -> Denoiser:
        """What is to be learned: a network of the teacher's, guided."""
        return told(self.teacher.task, network, labels, self.recipe.guidance)

    def withheld(self, labels: Tensor, streams: Streams) -> Tensor:
        """As the teacher was told them."""
        assert isinstance(self.teacher.task, Conditional)
        return self.teacher.task.withheld(labels, streams)

    def labels(self, batch: Batch, streams: Streams) -> Tensor | None:
        """Those of a batch, some withheld: of a teacher of labels they come last."""
        return self.withheld(batch[-1], streams) if self.classes else None

    def draw(
        self, network: nn.Module, sampler: Sampler, n: int, generator: torch.Generator,
        labels: Tensor | None = None, guidance: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """n samples [n, *shape], the i-th with the i-th of the labels if there are any."""
        check_labels(labels, self.classes, self.data.name)

        def denoiser(part: Tensor | None) -> Denoiser:
            return self.denoiser(network, part, guidance)

        return sampling.draw_told(denoiser, sampler, self.shape, n, generator, labels)

    def sampler(self, steps: int | None = None) -> Sampler:
        raise NotImplementedError

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        raise NotImplementedError

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """samples.png in the run folder: what the student draws, beside the truth."""
        return draw.distilled(folder, self, network)

    def as_data(self, drawn: Tensor) -> Tensor:
        return self.teacher.task.as_data(drawn)

    def picture(self, drawn: Tensor, path: Path, title: str, generator: torch.Generator) -> Path:
        """The teacher's own kind."""
        return self.teacher.task.picture(drawn, path, title, generator)


def told(task: Generative, network: nn.Module, labels: Tensor | None, guidance: float = 1.0) -> Denoiser:
    """The task's denoiser as it is learned, of labels if there are any."""
    return of_labels(task.uncut if isinstance(task, Cut) else task.denoiser, network, labels, guidance)


def of_labels(
    denoiser: Callable[..., Denoiser], network: nn.Module, labels: Tensor | None, guidance: float
) -> Denoiser:
    """A task's denoiser, of labels if there are any."""
    return denoiser(network) if labels is None else denoiser(network, labels, guidance)
