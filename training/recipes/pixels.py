"""Settings of recipes whose data are images: which data set, and which of its pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from training.recipes.base import Recipe
from training.recipes.settings import Between, Count, Natural

DATA = ("digits", "fashion-mnist", "cifar10", "folder", "parquet")
Share = Annotated[float, Between(0, 0.9)]


@dataclass(frozen=True)
class PixelRecipe(Recipe):
    """A recipe that learns from the pixels of a data set (training/data)."""

    data: str = "digits"
    """The data set: digits, fashion-mnist, cifar10, folder, parquet, or hub:NAME (of `datasets`)."""
    path: str = ""
    """Where it lies, if not where it usually does; a folder and parquet need it."""
    split: Literal["train", "test"] = "train"
    """The split to learn from; the other is judged by."""
    colour: Literal["grey", "rgb"] = "grey"
    """One channel or three."""
    size: Count = 8
    """Height and width of the images, in pixels."""
    held_out: Share | None = None
    """The part of the images that is not learned from but judged by, of data without a test split; a tenth when left
    out."""
    flip: bool = False
    """Mirror images left to right in half of the epochs."""
    shift: Natural = 0
    """Move images by up to so many pixels, in every epoch anew, reflected at their edges."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.data not in DATA and not re.fullmatch(r"hub:\w[\w.-]*(/\w[\w.-]*)?", self.data):
            raise ValueError(f"data = {self.data!r}: expected one of {', '.join(DATA)} or hub:NAME")
        if self.path and self.data == "digits":
            raise ValueError(f"path = {self.path!r}, data = 'digits': they come with scikit-learn and have no path")
        if self.flip and self.data == "digits":
            raise ValueError("flip = True, data = 'digits': a mirrored digit is no digit")
        if self.shift >= self.size:
            raise ValueError(f"shift = {self.shift}, size = {self.size}: expected fewer pixels than there are")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (1 if self.colour == "grey" else 3, self.size, self.size)

    @property
    def other_split(self) -> Literal["train", "test"]:
        """The images that it does not learn from."""
        return "test" if self.split == "train" else "train"
