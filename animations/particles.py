r"""ParticleCloud: thousands of round particles, painted by numpy.

A particle of radius r at c covers a pixel with centre p by

    a(p) = opacity * clip(r + 1/2 - |p - c|, 0, 1)          (a disc with a one-pixel soft edge; r in pixels)

Particles are draws from a law, and draws have no order: the picture must not depend on which of them comes first.
Painting them one over another does depend on it, so light is counted per pixel instead:

    T = prod_i (1 - a_i)                                    the part of the background that still shows
    C = sum_i a_i colour_i / sum_i a_i                      the mean colour of what covers it
    pixel <- T * pixel + (1 - T) * C

For particles of one colour this is exactly painting them one over another, in any order. Products become sums
of logarithms, so a frame is one `bincount` over all pixels of all particles.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from manim import Camera

from animations.raster import Raster
from animations.style import rgb


def splat(pixels: np.ndarray, centres: np.ndarray, radius: float, colours: np.ndarray, opacity: np.ndarray) -> None:
    """Paint discs into `pixels` in place.

    pixels uint8 [H, W, 4]; centres [N, 2] in pixels, (x, y) with y downwards, pixel (i, j) having its centre at
    (j + 1/2, i + 1/2); radius in pixels; colours [1, 3] or [N, 3] in [0, 1]; opacity [1] or [N] in [0, 1].
    Particles outside the picture are left out.
    """
    height, width = pixels.shape[:2]
    reach = int(np.ceil(radius + 0.5))
    seen = np.all((centres > -reach) & (centres < np.array([width, height]) + reach), axis=1)
    if not seen.any():
        return
    cell = np.floor(centres[seen]).astype(np.int64)
    within = (centres[seen] - cell).astype(np.float32)  # where in its pixel a particle's centre lies, in [0, 1)
    offset = _offsets(radius)
    to_pixel = (offset + 0.5).astype(np.float32)
    distance2 = (to_pixel[:, 0] - within[:, :1]) ** 2 + (to_pixel[:, 1] - within[:, 1:]) ** 2
    cover = np.clip(np.float32(radius + 0.5) - np.sqrt(distance2), 0, 1)  # [n, m]
    cover *= (opacity[seen] if len(opacity) > 1 else opacity)[:, None].astype(np.float32)

    corner = cell.min(0) - reach  # light is counted in the box the cloud touches, which may reach out of the picture
    columns, rows = cell.max(0) + reach + 1 - corner
    index = ((cell - corner) @ [1, columns])[:, None] + offset @ [1, columns]

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(index.ravel(), weights=weights.ravel(), minlength=rows * columns)

    with np.errstate(divide="ignore"):  # a full cover is log 0: nothing shows through
        log_through = total(np.log(1 - cover))
    touched = np.flatnonzero(log_through != 0)
    row, column = np.divmod(touched, columns) + corner[::-1, None]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    touched, target = touched[inside], (row * width + column)[inside]
    shade = -np.expm1(log_through[touched])[:, None]
    source = colours
    if len(colours) > 1:
        light = [total(cover * c[:, None])[touched] for c in colours[seen].T.astype(np.float32)]
        source = np.stack(light, axis=1) / total(cover)[touched][:, None]
    source = np.pad(source, ((0, 0), (0, 1)), constant_values=1.0)  # paint is opaque where it covers
    words = pixels.reshape(-1, 4).view(np.uint32)[
        :, 0
    ]  # a pixel moved as one word: ten times faster than as four bytes
    ground = words[target, None].view(np.uint8)
    words[target] = np.rint(ground * (1 - shade) + 255 * source * shade).astype(np.uint8).view(np.uint32)[:, 0]


def _offsets(radius: float) -> np.ndarray:
    """Pixels (x, y), relative to the one a particle's centre lies in, that it can touch."""
    reach = int(np.ceil(radius + 0.5))
    x, y = np.meshgrid(*2 * [np.arange(-reach, reach + 1)])
    nearest = np.hypot(np.maximum(np.abs(x) - 0.5, 0), np.maximum(np.abs(y) - 0.5, 0))
    return np.stack([x, y], axis=-1)[nearest <= radius + 0.5].astype(np.int32)


class ParticleCloud(Raster):
    """N particles as one mobject.

    positions [N, 2] or [N, 3] in scene units; radius in scene units; colour a hue '#RRGGBB' or rgb [N, 3] in [0, 1];
    opacity of the whole cloud, alpha [N] of each particle within it.
    """

    def __init__(
        self,
        positions: np.ndarray,
        *,
        colour: str | np.ndarray,
        radius: float = 0.03,
        alpha: np.ndarray | None = None,
        **options: Any,
    ) -> None:
        if radius <= 0:
            raise ValueError(f"ParticleCloud: radius is {radius}, expected a positive length in scene units")
        self.radius = radius
        super().__init__(_lifted(positions), **options)
        self.set_colours(colour)
        self.alpha = np.ones(1) if alpha is None else np.asarray(alpha, dtype=float)
        if len(self.alpha) not in (1, len(self.points)) or self.alpha.min() < 0 or self.alpha.max() > 1:
            raise ValueError(
                f"ParticleCloud: alpha has shape {self.alpha.shape}, expected [{len(self.points)}] numbers in [0, 1]"
            )

    def set_colours(self, colour: str | np.ndarray) -> Self:
        """One hue for all, or one colour for each particle."""
        colours = np.atleast_2d(rgb(colour) if isinstance(colour, str) else np.asarray(colour, dtype=float))
        if colours.shape not in ((1, 3), (len(self.points), 3)) or colours.min() < 0 or colours.max() > 1:
            raise ValueError(
                f"ParticleCloud: colours {colours.shape}, expected [3] or [{len(self.points)}, 3] numbers in [0, 1]"
            )
        self.colours = colours
        return self

    def move_particles(self, positions: np.ndarray) -> Self:
        """Put the particles elsewhere; their number stays."""
        points = _lifted(positions)
        if points.shape != self.points.shape:
            raise ValueError(f"ParticleCloud: got {len(points)} positions for {len(self.points)} particles")
        self.points = points
        return self

    def paint(self, camera: Camera, pixels: np.ndarray) -> None:
        centres = camera.points_to_subpixel_coords(self, self.points)
        radius = self.radius * camera.pixel_width / camera.frame_width
        splat(pixels, centres, radius, self.colours, self.alpha * self.opacity)


def _lifted(positions: np.ndarray) -> np.ndarray:
    """[N, 2] -> [N, 3] in the plane z = 0; what is not finite is refused, for it would vanish without a word."""
    positions = np.asarray(positions, dtype=float)
    if positions.ndim != 2 or positions.shape[1] not in (2, 3) or not np.isfinite(positions).all():
        raise ValueError(f"ParticleCloud: positions {positions.shape}, expected finite numbers [N, 2] or [N, 3]")
    return np.pad(positions, ((0, 0), (0, 3 - positions.shape[1])))
