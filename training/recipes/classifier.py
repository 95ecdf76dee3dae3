"""The classifier recipes: small networks that tell labelled images apart, whose features FID and KID compare."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from training.recipes.base import Recipe
from training.recipes.pixels import PixelRecipe
from training.recipes.settings import Count, Fraction, NotNegative, Several


@dataclass(frozen=True)
class ClassifierRecipe(PixelRecipe):
    """A residual convolutional network on labelled images; its last layer but one has `features` numbers."""

    channels: tuple[Count, ...] = (32, 64)
    """Of each resolution, the finest first, each half as fine as the one before."""
    layers: Count = 1
    """Residual blocks of each resolution."""
    features: Several = 64
    """Numbers of the last layer but one, which FID and KID compare."""
    dropout: Fraction = 0.1
    """How often a feature is set to 0 in training."""
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: NotNegative = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 2 ** (len(self.channels) - 1):
            raise ValueError(
                f"size = {self.size}, channels = {self.channels}: expected {2 ** (len(self.channels) - 1)} pixels at "
                f"least, as each resolution after the first halves them"
            )


DIGITS = ClassifierRecipe(
    name="classifier.digits",
    steps=600, batch=64, lr=2e-3, log_every=25, save_every=200,
)  # fmt: skip

FASHION_MNIST = ClassifierRecipe(
    name="classifier.fashion-mnist",
    data="fashion-mnist", size=28, flip=True,
    channels=(16, 32, 64),
    steps=3000, batch=64, lr=2e-3, log_every=25, save_every=500,
)  # fmt: skip

IMAGES = ClassifierRecipe(
    name="classifier.images",
    data="folder", colour="rgb", size=32, flip=True,
    channels=(32, 64, 128), features=128,
    steps=10_000, batch=64, lr=1e-3, log_every=50, save_every=1000,
)  # fmt: skip

CLASSIFIERS: dict[str, Recipe] = {recipe.name: recipe for recipe in (DIGITS, FASHION_MNIST, IMAGES)}


def of_data(recipe: PixelRecipe) -> ClassifierRecipe:
    """A classifier of the images that another recipe learns from."""
    own = {"digits": DIGITS, "fashion-mnist": FASHION_MNIST}.get(recipe.data, IMAGES)
    where = {name: getattr(recipe, name) for name in ("data", "path", "split", "colour", "size", "held_out")}
    return dataclasses.replace(own, **where)
