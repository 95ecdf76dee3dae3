"""HeatMap: a density as light. One hue, its opacity the value: brighter is likelier, and no colour scale to learn.

Values are cell averages or cell centres of a regular grid over the rectangle; between centres they are interpolated
linearly, beyond the outermost centres they are constant. A pixel with value v in [0, 1] becomes

    pixel <- (1 - v) * pixel + v * hue
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from manim import Camera
from PIL import Image

from animations.raster import Raster
from animations.style import Box, rgb


class HeatMap(Raster):
    """values [rows, columns] in [0, 1], first row at the bottom (y grows with the row); colour a hue or rgb [3]."""

    def __init__(self, values: np.ndarray, box: Box, *, colour: str | np.ndarray, **options: Any) -> None:
        corners = [
            [box.left, box.bottom, 0],
            [box.right, box.bottom, 0],
            [box.left, box.top, 0],
            [box.right, box.top, 0],
        ]
        super().__init__(np.array(corners), **options)
        self.set_values(values)
        self.set_colour(colour)

    def set_values(self, values: np.ndarray) -> Self:
        values = np.asarray(values, dtype=np.float32)
        if values.ndim != 2 or not (values.min() >= 0 and values.max() <= 1):  # NaN fails this, too
            raise ValueError(f"HeatMap: values {values.shape}, expected numbers in [0, 1], shape [rows, columns]")
        self.values = values
        return self

    def set_colour(self, colour: str | np.ndarray) -> Self:
        self.colour = rgb(colour) if isinstance(colour, str) else np.asarray(colour, dtype=float)
        return self

    def paint(self, camera: Camera, pixels: np.ndarray) -> None:
        corners = camera.points_to_subpixel_coords(self, self.points)
        (left, top), (right, bottom) = np.rint(corners.min(0)).astype(int), np.rint(corners.max(0)).astype(int)
        height, width = pixels.shape[:2]
        rows, columns = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return
        picture = Image.fromarray(self.values[::-1]).resize((right - left, bottom - top), Image.Resampling.BILINEAR)
        inside = np.asarray(picture)[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
        ground = pixels[rows, columns]
        light = np.append(255 * self.colour, 255).astype(np.float32)
        ground[:] = np.rint(ground + (light - ground) * (self.opacity * inside)[:, :, None])
