"""What families of denoisers share, whatever they denoise: network, loss, and the denoiser that samplers call.

A batch is (x_0, t) or (x_0, t, labels): times are drawn with it on the CPU, as some laws need a search that would make
an accelerator wait.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from diffusion import model, schedules
from diffusion.guidance import classifier_free
from diffusion.losses import denoising_loss
from diffusion.types import Denoiser
from training import draw, networks, preconditioning, sampling, times
from training.recipes.denoising import DenoisingRecipe
from training.run_folder import RunFolder
from training.sampling import Sampler
from training.streams import Streams
from training.task import Batch

STEPS = 20  # of a preview


class Denoising:
    """A denoiser by a recipe; a family adds its data, and how samples become pixels."""

    def __init__(self, recipe: DenoisingRecipe, shape: tuple[int, int, int]) -> None:
        self.recipe, self.shape, self.std = recipe, shape, recipe.std
        self.schedule = schedules.SCHEDULES[recipe.schedule]()
        self.classes = recipe.classes
        self.span = times.span(recipe)

    def network(self) -> nn.Module:
        """(x_t, t, labels or nothing) -> a prediction of the recipe's parameterization."""
        r = self.recipe
        stock = networks.make(r, self.shape)
        return preconditioning.around(stock, r.preconditioning, self.schedule, r.parameterization, self.std)

    def timed(self, x_0: Tensor, labels: Tensor | None, streams: Streams) -> Batch:
        """The batch of x_0 with its times, and its labels if the network is told them."""
        t = times.draw(self.recipe, self.schedule, len(x_0), streams("time", "cpu")).float()
        return (x_0, t) if labels is None else (x_0, t, labels)

    def loss(self, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        """The mean weighted squared error; noise and which labels are withheld are drawn from `streams`."""
        x_0, t, *labels = batch
        r = self.recipe
        told = [self.withheld(label, streams) for label in labels]
        eps = torch.randn(x_0.shape, generator=streams("noise"), device=x_0.device)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return network(x, t, *told).float()

        unit = partial(preconditioning.unit_weight, r.preconditioning, r.parameterization, self.std)
        weights = unit if r.weights == "unit" else r.weights
        return denoising_loss(predict, self.schedule, x_0, t, eps, r.parameterization, weights).mean()

    def withheld(self, labels: Tensor, streams: Streams) -> Tensor:
        """Labels, some of them replaced by the network's number for "not told"."""
        drop = torch.rand(len(labels), generator=streams("label"), device=labels.device) < self.recipe.label_dropout
        return labels.masked_fill(drop, networks.unlabelled(self.recipe))

    def denoiser(self, network: nn.Module, labels: Tensor | None = None, guidance: float = 1.0) -> Denoiser:
        """(x, t) -> E[x_0 | x_t = x], or E[x_0 | x_t = x, label]; with a weight other than 1, guided classifier-free.

        labels: int64 [n], for n samples, some withheld perhaps; ValueError for guidance that the network can't give.
        """
        kind = self.recipe.parameterization
        free = model.denoiser(network, self.schedule, kind)
        if labels is None:
            if guidance != 1:
                raise ValueError(f"guidance = {guidance}: guidance needs labels")
            if self.classes and not self.recipe.label_dropout:
                raise ValueError("trained with label_dropout = 0, it has no model without a label: give one")
            return free
        if guidance != 1 and not self.recipe.label_dropout:
            raise ValueError(f"guidance = {guidance}: trained with label_dropout = 0, it has no unguided model")
        told = model.denoiser(lambda x, t: network(x, t, labels), self.schedule, kind)
        return classifier_free(told, free, guidance)

    def draw(
        self, network: nn.Module, sampler: Sampler, n: int, generator: torch.Generator,
        labels: Tensor | None = None, guidance: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """n samples [n, *shape], the i-th with the i-th of the labels if there are any; see `denoiser`."""
        check_labels(labels, self.classes, self.recipe.name)

        def denoiser(part: Tensor | None) -> Denoiser:
            return self.denoiser(network, part, guidance)

        return sampling.draw_told(denoiser, sampler, self.shape, n, generator, labels)

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """samples.png in the run folder: a grid of samples, by 20 steps of Heun; one row for each class, if told."""
        device = next(network.parameters()).device
        labels = draw.classes(self.classes, device) if self.classes else None
        n = draw.IMAGES if labels is None else len(labels)
        sampler = sampling.sampler(self.schedule, "heun", STEPS, self.span, self.std)
        generator = Streams(folder.seed, self.recipe.steps, device=device)("preview")
        drawn = self.draw(network, sampler, n, generator, labels)
        return draw.grid(self.as_data(drawn), folder.path / "samples.png", labels)

    def as_data(self, drawn: Tensor) -> Tensor:
        """uint8 pixels."""
        raise NotImplementedError

    def picture(self, drawn: Tensor, path: Path, title: str, generator: torch.Generator) -> Path:
        """A grid of the samples."""
        return draw.grid(self.as_data(drawn), path)


def check_labels(labels: Tensor | None, classes: int, name: str) -> None:
    """ValueError unless a network of that many classes was told these labels, if there are any."""
    if labels is None:
        return
    if not classes:
        raise ValueError(f"{name} was trained without labels (classes = 0): it can't be asked for one")
    if not bool(((labels >= 0) & (labels < classes)).all()):
        low, high = int(labels.min()), int(labels.max())
        given = f"label {low}" if low == high else f"labels {low} to {high}"
        raise ValueError(f"{given}: expected 0 to {classes - 1}")
