"""Sources by the name a recipe gives them."""

from __future__ import annotations

import functools

from training.data.source import Source
from training.recipes.pixels import PixelRecipe


def learned_from(recipe: PixelRecipe) -> Source:
    """The images a recipe learns from; ValueError, in one line, if there are not enough of them for a batch."""
    source = of_recipe(recipe, recipe.split)
    if len(source) < recipe.batch:
        raise ValueError(
            f"{recipe.data} {recipe.path} has {len(source)} images, batch = {recipe.batch}: choose a smaller batch"
        )
    return source


def of_recipe(recipe: PixelRecipe, split: str) -> Source:
    """A split of a recipe's data set; see `open_source`."""
    return open_source(recipe.data, recipe.path, split, recipe.shape[0], recipe.size)


@functools.lru_cache(maxsize=4)
def open_source(data: str, path: str, split: str, channels: int, size: int) -> Source:
    """The named data set; ValueError, in one line, if it is not there, broken, empty or of another shape.

    data     digits, fashion-mnist, cifar10, folder, parquet or hub:NAME
    path     where it lies; "": where it usually is
    split    train or test

    It is opened once in a process: what is edited later is seen by the next one.
    """
    source = _open(data, path, split, channels, size)
    if len(source) == 0:
        raise ValueError(f"{data} {path} is empty: it has no {split} images")
    if source.shape != (channels, size, size):
        raise ValueError(
            f"{data} has images of {' x '.join(map(str, source.shape))} (channels x height x width), the recipe asks "
            f"for {channels} x {size} x {size}: set colour and size"
        )
    return source


def _open(data: str, path: str, split: str, channels: int, size: int) -> Source:
    # each source's libraries are imported when it is asked for
    if data == "digits":
        from training.data.digits import digits

        return digits(split)
    if data == "fashion-mnist":
        from training.data.fashion_mnist import fashion_mnist

        return fashion_mnist(path, split)
    if data == "cifar10":
        from training.data.cifar10 import cifar10

        return cifar10(path, split)
    if data == "folder":
        from training.data.folder import folder

        return folder(path, split, channels, size)
    from training.data.table import hub, parquet

    if data == "parquet":
        return parquet(path, split, channels, size)
    return hub(data.removeprefix("hub:"), path, split, channels, size)
