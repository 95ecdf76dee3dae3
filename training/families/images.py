"""The image family: a denoiser of the pixels of a data set, scaled to [-1, 1]."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from training.data import pixels
from training.data.catalog import learned_from
from training.data.reading import read
from training.data.source import Source
from training.families.denoising import Denoising
from training.recipes import ImageRecipe, Recipe
from training.streams import Streams
from training.task import Batch


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
        images, indices = read(self.source, n, streams, self.recipe.flip, self.recipe.shift)
        return self.timed(pixels.to_model(images), self.source.labels(indices) if self.classes else None, streams)

    def as_data(self, drawn: Tensor) -> Tensor:
        """uint8 pixels."""
        return pixels.to_uint8(drawn)


def build(recipe: Recipe) -> Images:
    """The family's entry, for the loop."""
    if not isinstance(recipe, ImageRecipe):
        raise TypeError(f"{recipe.name} is a {type(recipe).__name__}: expected an ImageRecipe")
    return Images(recipe)
