"""Sources by the name a recipe gives them."""

from __future__ import annotations

import functools

from training.data.held_out import Part, divided
from training.data.source import Source
from training.recipes.pixels import PixelRecipe

HELD_OUT = 0.1  # of the images, where a recipe does not say it


def learned_from(recipe: PixelRecipe) -> Source:
    """The images a recipe learns from; ValueError, in one line, if there are not enough of them for a batch."""
    source = learned(recipe)
    if len(source) < recipe.batch:
        apart = " to learn from" if isinstance(source, Part) else ""
        raise ValueError(
            f"{recipe.data} {recipe.path} has {len(source)} images{apart}, batch = {recipe.batch}: choose a smaller "
            f"batch"
        )
    return source


def learned(recipe: PixelRecipe) -> Source:
    """The images a recipe learns from: all of its split, or where there is no other, all but those held out."""
    share = _share(recipe)
    return _divided(recipe, share)[0] if share else _of_split(recipe, recipe.split)


def held_out(recipe: PixelRecipe) -> Source:
    """The images a recipe does not learn from; ValueError, in one line, if there are none."""
    share = _share(recipe)
    if share == 0:
        raise ValueError(
            f"{recipe.data} {recipe.path} has no test split, and none of its images was held out (held_out = 0), so "
            f"there are none that the run has not seen: train one with held_out = {HELD_OUT}, or give the data a test "
            f"split"
        )
    return _of_split(recipe, recipe.other_split) if share is None else _divided(recipe, share)[1]


def _share(recipe: PixelRecipe) -> float | None:
    """The share of images that are held out of those there are; None: they have a split of their own."""
    if recipe.split == "train" and not has_test(recipe.data, recipe.path):
        return HELD_OUT if recipe.held_out is None else recipe.held_out
    if recipe.held_out:
        raise ValueError(
            f"held_out = {recipe.held_out:g}: {recipe.data} {recipe.path} has a split to judge by: leave held_out out"
        )
    return None


def _divided(recipe: PixelRecipe, share: float) -> tuple[Part, Part]:
    whole = _of_split(recipe, recipe.split)
    parts = divided(whole, share)
    if not all(map(len, parts)):
        raise ValueError(
            f"held_out = {share:g} takes {len(parts[1])} of the {len(whole)} images of {recipe.data} {recipe.path}: "
            f"choose another share, or 0 to learn from all"
        )
    return parts


def _of_split(recipe: PixelRecipe, split: str) -> Source:
    return open_source(recipe.data, recipe.path, split, recipe.shape[0], recipe.size)


def has_test(data: str, path: str) -> bool:
    """Whether the named data set has images of its own to judge by."""
    if data == "folder":
        from training.data import folder

        return folder.has_test(path)
    if data == "parquet":
        from training.data.table import parquet_has_test

        return parquet_has_test(path)
    if data.startswith("hub:"):
        from training.data.table import hub_has_test

        return hub_has_test(data.removeprefix("hub:"), path)
    return True


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
