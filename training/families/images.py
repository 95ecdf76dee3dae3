"""The image family: a denoiser of the pixels of a data set, scaled to [-1, 1]."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training import draw, sampling
from training.data import pixels
from training.data.catalog import learned_from
from training.data.reading import read
from training.data.source import Source
from training.families.denoising import Denoising
from training.recipes import ImageRecipe, Recipe
from training.run_folder import RunFolder
from training.streams import Streams
from training.task import Batch

PER_CLASS, STEPS = 8, 20  # of a preview


class Images(Denoising):
    """What the loop needs of an image recipe. The data are opened when they are first asked for: samplers need none."""

    recipe: ImageRecipe

    def __init__(self, recipe: ImageRecipe) -> None:
        super().__init__(recipe, recipe.shape)

    @functools.cached_property
    def source(self) -> Source:
        """The recipe's data; ValueError, in one line, if this recipe can't be trained on them."""
        r = self.recipe
        source = learned_from(r)
        if r.classes and r.classes != source.classes:
            found = f"{source.classes} classes" if source.classes else "no labels"
            raise ValueError(f"classes = {r.classes}: {r.data} {r.path} has {found}")
        return source

    def facts(self) -> dict[str, Any]:
        """The data's fingerprint."""
        return {"data": self.source.fingerprint}

    def batch(self, n: int, streams: Streams) -> Batch:
        """This share's next n images in the run's order, [n, channels, size, size], with times and labels."""
        images, indices = read(self.source, n, streams, self.recipe.flip)
        return self.timed(pixels.to_model(images), self.source.labels(indices) if self.classes else None, streams)

    def preview(self, network: nn.Module, folder: RunFolder) -> Path:
        """samples.png in the run folder: a grid of samples, by 20 steps of Heun; one row for each class, if told."""
        device = next(network.parameters()).device
        labels = torch.arange(self.classes, device=device).repeat_interleave(PER_CLASS) if self.classes else None
        n = draw.IMAGES if labels is None else len(labels)
        sampler = sampling.sampler(self.schedule, "heun", STEPS, self.recipe.latest, self.std)
        generator = Streams(folder.seed, self.recipe.steps, device=device)("preview")
        drawn = self.draw(network, sampler, n, generator, labels)
        return draw.grid(self.as_data(drawn), folder.path / "samples.png", labels)

    def as_data(self, drawn: Tensor) -> Tensor:
        """uint8 pixels."""
        return pixels.to_uint8(drawn)

    def picture(self, drawn: Tensor, path: Path, title: str, generator: torch.Generator) -> Path:
        """A grid of the samples."""
        return draw.grid(self.as_data(drawn), path)


def build(recipe: Recipe) -> Images:
    """The family's entry, for the loop."""
    if not isinstance(recipe, ImageRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected an ImageRecipe")
    return Images(recipe)
