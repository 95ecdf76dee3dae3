"""Milliseconds a frame: 2,000 moving particles as one ParticleCloud against a stock VGroup of Dot.

Both scenes move the same particles along the same random walks, each particle on its own, and are rendered by the same
renderer, side by side in one run: with encoding ("video") and without it ("picture": positions and pixels).
Run: `python -P benchmarks/particles.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from manim import Dot, Scene, UpdateFromAlphaFunc, VGroup, tempconfig

from animations import style
from animations.particles import ParticleCloud
from animations.raster import RasterCamera

PARTICLES, FRAMES, RADIUS = 2000, 20, 0.03
SIZES = {"480p": (854, 480), "1080p": (1920, 1080)}
STEPS = np.random.default_rng(0).normal(size=(FRAMES + 1, PARTICLES, 3)) * [0.4, 0.25, 0.0]
WALK = np.cumsum(STEPS, axis=0)


class Timed(Scene):
    """Notes the clock at each frame of one play."""

    def construct(self) -> None:
        self.ticks: list[float] = []
        self.particles = self.build()
        self.add(self.particles)
        self.play(UpdateFromAlphaFunc(self.particles, self.frame, run_time=1, rate_func=lambda at: at))

    def frame(self, particles: ParticleCloud | VGroup, at: float) -> None:
        self.ticks.append(time.perf_counter())
        self.move(WALK[round(at * FRAMES)])

    def build(self) -> ParticleCloud | VGroup:
        raise NotImplementedError

    def move(self, positions: np.ndarray) -> None:
        raise NotImplementedError


class Cloud(Timed):
    def build(self) -> ParticleCloud:
        return ParticleCloud(WALK[0], colour=style.DATA, radius=RADIUS)

    def move(self, positions: np.ndarray) -> None:
        self.particles.move_particles(positions)


class Dots(Timed):
    def build(self) -> VGroup:
        return VGroup(*(Dot(point, radius=RADIUS, color=style.DATA) for point in WALK[0]))

    def move(self, positions: np.ndarray) -> None:
        for dot, position in zip(self.particles, positions, strict=True):
            dot.move_to(position)


def milliseconds(scene_class: type[Timed], size: tuple[int, int], video: bool) -> float:
    """Median time between two frames."""
    with TemporaryDirectory() as folder:
        options = {"pixel_width": size[0], "pixel_height": size[1], "frame_rate": FRAMES, "media_dir": folder}
        options |= {"dry_run": not video, "disable_caching": True, "progress_bar": "none", "verbosity": "ERROR"}
        with tempconfig(options):
            scene = scene_class(camera_class=RasterCamera)
            scene.render()
    return 1000 * float(np.median([b - a for a, b in pairwise(scene.ticks)]))


def rows() -> Iterator[tuple[str, str, float, float]]:
    for name, size in SIZES.items():
        for what in ("picture", "video"):
            yield name, what, milliseconds(Cloud, size, what == "video"), milliseconds(Dots, size, what == "video")


if __name__ == "__main__":
    print(f"{PARTICLES} particles, ms a frame (median of {FRAMES} frames), {Path(__file__).stem}")
    for name, what, cloud, dots in rows():
        print(f"{name:>6} {what:8} ParticleCloud {cloud:7.1f}   VGroup of Dot {dots:7.1f}   {dots / cloud:5.1f} x")
