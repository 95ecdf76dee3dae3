"""Every scene, played fast and small: the geometry and the picture of each play's last frame.

Snapshots are small grey pictures of these frames, made by `python -P tests/animations/snapshots.py`; renderings by
other cairo versions differ in soft edges, so pictures are compared after averaging, to 6 levels of 255 on each cell.
"""

from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from manim import Mobject, VMobject, config, tempconfig

from animations import catalog, style
from animations.formula import Formula
from animations.particles import ParticleCloud
from animations.stage import Stage
from animations.text import Typeset
from animations.worker import stage_of

pytestmark = pytest.mark.slow  # every scene is played

SMALL = {"dry_run": True, "pixel_width": 427, "pixel_height": 240, "frame_rate": 2, "progress_bar": "none",
         "background_color": style.BACKGROUND, "verbosity": "ERROR", "disable_caching": True}  # fmt: skip
SNAPSHOTS = Path(__file__).parent / "snapshots.npz"
CELL = 10  # pixels


def shown(mobject: Mobject) -> bool:
    """Whether anything of this very mobject (not its parts) is to be seen."""
    if not len(mobject.points):
        return False
    if isinstance(mobject, VMobject):
        stroke = mobject.get_stroke_opacity() if mobject.get_stroke_width() > 0 else 0
        return max(mobject.get_fill_opacity(), stroke) > 0.02
    return getattr(mobject, "opacity", 1) > 0.02


def texts(scene: Stage) -> list[Typeset]:
    family = [part for mobject in scene.mobjects for part in mobject.get_family()]
    unique = {id(part): part for part in family if isinstance(part, Typeset) and any(map(shown, part.get_family()))}
    return list(unique.values())


def box(mobject: Mobject) -> np.ndarray:
    """(left, bottom), (right, top)."""
    points = np.concatenate([part.points for part in mobject.get_family() if shown(part)])
    return np.stack([points.min(0), points.max(0)])[:, :2]


def faults(scene: Stage) -> list[str]:
    """What a viewer would complain about in the frame as it is."""
    found = []
    half = np.array([config.frame_width, config.frame_height]) / 2
    for mobject in scene.mobjects:
        for part in mobject.get_family():
            if shown(part) and not (np.abs(part.points[:, :2]) <= half).all():
                found.append(f"{part} leaves the frame")
    for text in texts(scene):
        least = text.em * (style.SCRIPT if isinstance(text, Formula) else 1)
        if least < style.LEAST_TEXT:
            found.append(f"{text.source!r} is set at {least:.3f}, too small to read")
    for one, other in combinations(texts(scene), 2):
        a, b = box(one), box(other)
        if (np.maximum(a[0], b[0]) < np.minimum(a[1], b[1])).all():
            found.append(f"{one.source!r} and {other.source!r} overlap")
    return found


@cache
def play_through(row: catalog.Row) -> tuple[Stage, list[str], np.ndarray]:
    """The scene after its last play, all faults of all plays' last frames, and these frames, reduced."""
    found: list[str] = []
    frames: list[np.ndarray] = []

    class Watched(stage_of(row)):  # type: ignore[misc]
        __module__ = row.module

        def play(self, *animations, **options):
            super().play(*animations, **options)
            found.extend(f"{self.time:.1f} s: {fault}" for fault in faults(self))
            self.renderer.static_image = None
            self.renderer.update_frame(self)
            frames.append(reduced(self.renderer.get_frame()))

    with tempconfig(SMALL):
        scene = Watched()
        scene.render()
        return scene, found, np.stack(frames)


def reduced(frame: np.ndarray) -> np.ndarray:
    """Grey means of cells, uint8, below the heading: hashes stand there, which are another matter."""
    heading = round((config.frame_height / 2 - style.STAGE.top) / config.frame_height * frame.shape[0])
    frame = frame[heading:]
    height, width = (n // CELL * CELL for n in frame.shape[:2])
    cells = frame[:height, :width, :3].reshape(height // CELL, CELL, width // CELL, CELL, 3)
    return cells.mean(axis=(1, 3, 4)).round().astype(np.uint8)


@pytest.fixture(scope="module", params=catalog.SCENES, ids=lambda row: row.name)
def played(request):
    return request.param, *play_through(request.param)


def test_nothing_leaves_the_frame_overlaps_or_is_too_small(played):
    assert not played[2], "\n".join(dict.fromkeys(played[2]))


def test_lasts_between_20_and_60_seconds(played):
    assert 20 <= played[1].time <= 60


def test_every_line_stays_long_enough_to_be_read(played):
    scene = played[1]
    ends = [line.start for line in scene.script[1:]] + [scene.time]
    for line, end in zip(scene.script, ends, strict=True):
        assert end - line.start >= len(line.text) / 25, line.text  # 25 characters a second, marks included, is haste


def test_every_claim_it_names_is_stamped_and_every_formula_is_from_one(played):
    row, scene, _, _ = played
    stamps = " ".join(text.source for text in texts(scene) if style.CODE_FONT in text.source)
    assert all(claim.replace("_", "\\_") in stamps for claim in row.claims)
    assert {text.claim for text in texts(scene) if isinstance(text, Formula)} <= set(row.claims)


def test_frames_are_the_kept_ones(played):
    row, _, _, frames = played
    kept = np.load(SNAPSHOTS)[row.name].astype(int)
    assert frames.shape == kept.shape
    assert np.abs(frames - kept).max() <= 6, (
        f"{row.name}: look at the scene; if it is right, run tests/animations/snapshots.py"
    )


def test_particles_follow_their_arrays():
    """In the forward process, at the end, the cloud is the chain's last state on the plane: checked in plot units."""
    from animations import arrays
    from animations.week4.forward_process import REACH, SQUARE

    scene, _, _ = play_through(catalog.of("animations.week4.forward_process"))
    (cloud,) = [m for mobject in scene.mobjects for m in mobject.get_family() if isinstance(m, ParticleCloud)]
    units = (cloud.points[:, :2] - SQUARE.centre[:2]) / (SQUARE.width / (2 * REACH))
    assert np.allclose(units, arrays.forward_chain(reach=REACH)["x"][-1], atol=1e-6)
