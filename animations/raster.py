"""Mobjects that paint pixels themselves: the hook into manim's cairo camera.

manim draws every mobject as a path. Two thousand particles, or a density, are pixels by nature: a `Raster` gets
the camera's pixel array and paints itself, in its place in the drawing order, so that it fades, moves and layers as any
other mobject does. `RasterCamera` is a scene's camera that knows them.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from manim import Camera, Mobject


class Raster(Mobject):
    """A mobject painted by its own `paint`; `points` are what moves, `opacity` is what fades.

    It takes part in Transform, FadeIn and `.animate` with a mobject of its own kind and number of points.
    """

    def __init__(self, points: np.ndarray, *, opacity: float = 1.0, **options: Any) -> None:
        self.opacity = opacity
        super().__init__(**options)
        self.points = np.asarray(points, dtype=float)

    def paint(self, camera: Camera, pixels: np.ndarray) -> None:
        """Paint into `pixels`, uint8 [height, width, 4], RGBA with alpha premultiplied (cairo's convention)."""
        raise NotImplementedError

    def fade(self, darkness: float = 0.5, family: bool = True) -> Self:
        self.opacity *= 1 - darkness
        return super().fade(darkness, family)

    def set_opacity(self, opacity: float) -> Self:
        self.opacity = opacity
        return self

    def interpolate_color(self, mobject1: Any, mobject2: Any, alpha: float) -> Self:
        self.opacity = (1 - alpha) * mobject1.opacity + alpha * mobject2.opacity
        return self


class RasterCamera(Camera):
    """manim's camera, and one more kind of mobject."""

    def type_or_raise(self, mobject: Mobject) -> type[Mobject]:
        kind = super().type_or_raise(mobject)  # it fills display_funcs anew, each time
        self.display_funcs[Raster] = self._paint_all  # type: ignore[assignment]
        return Raster if isinstance(mobject, Raster) else kind

    def _paint_all(self, rasters: list[Raster], pixels: np.ndarray) -> None:
        for raster in rasters:
            if raster.opacity > 0:
                raster.paint(self, pixels)
