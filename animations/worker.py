"""Renders scenes in a process of its own: jobs come in on stdin, events go out on stdout, one JSON object a line.

    in    {"scene": "week5/ddim_is_euler", "quality": "preview", "form": "video", "path": "out/videos/..."}
    out   {"duration": 51.2}        seconds of the scene, found by a pass that draws nothing
          {"time": 3.4}             seconds rendered so far
          {"files": ["..."]}        done, or
          {"error": "...", "details": "..."}

`render` starts these processes; a scene that crashes takes only its own process with it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manim import tempconfig

from animations import catalog, style
from animations.forms import FORMS, QUALITIES
from animations.stage import Stage
from theory.proof import cache

EVERY = 0.2  # seconds of real time between two reports


def stage_of(row: catalog.Row) -> type[Stage]:
    """The one Stage defined in the scene's module."""
    module = importlib.import_module(row.module)
    own = [
        c for c in vars(module).values() if inspect.isclass(c) and issubclass(c, Stage) and c.__module__ == row.module
    ]
    if len(own) != 1:
        raise ValueError(f"{row.module}: expected one Stage, found {len(own)}")
    return own[0]


def settings(row: catalog.Row, quality: str, form: str) -> dict[str, Any]:
    """manim's configuration for one scene. Its working files have a folder of their own: processes share no file."""
    size = QUALITIES[quality]
    return {
        "pixel_width": size.width, "pixel_height": size.height, "frame_rate": size.frame_rate,
        "background_color": style.BACKGROUND, "media_dir": str(cache.home() / "manim" / row.name / f"{quality}-{form}"),
        "disable_caching": True, "progress_bar": "none", "verbosity": "ERROR", **FORMS[form].settings,
    }  # fmt: skip


def render_scene(row: catalog.Row, quality: str, form: str, path: Path, report: Callable[..., None]) -> list[Path]:
    """Render one scene to `path`, and its script beside it; the files are moved there when they are whole."""
    scene_class = stage_of(row)
    with tempconfig(settings(row, quality, form)):
        if form != "still":
            rehearsal = scene_class(skip_animations=True)
            rehearsal.construct()
            report(duration=rehearsal.time)
        last = 0.0

        def on_frame(at: float) -> None:
            nonlocal last
            if time.monotonic() - last > EVERY:
                last = time.monotonic()
                report(time=at)

        scene = scene_class(on_frame)
        scene.render()
        result = Path(getattr(scene.renderer.file_writer, FORMS[form].written))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    shutil.move(result, unfinished)
    unfinished.replace(path)
    return [path] if form == "still" else [path, *scene.write_script(path)]


def main() -> None:
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is not an event

    def report(**event: Any) -> None:
        print(json.dumps(event), file=events)

    for line in sys.stdin:
        job = json.loads(line)
        try:
            (row,) = catalog.select(scene=job["scene"])
            files = render_scene(row, job["quality"], job["form"], Path(job["path"]), report)
            report(files=[str(file) for file in files])
        except Exception as error:  # whatever a scene does, the next one is rendered
            report(error=f"{type(error).__name__}: {error}", details=traceback.format_exc())


if __name__ == "__main__":
    main()
