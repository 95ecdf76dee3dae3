"""Rendering many scenes: in parallel processes, with a progress bar, keeping what is finished.

    outcomes = render(catalog.select(week="week5"), quality="preview")
    exit_code = 0 if all(outcome.ok for outcome in outcomes) else 1

A scene is finished when its file is there with the key it was made for: sources of the scene, of its arrays and of its
claims' topics, library versions, quality. After an interruption, or an edit, only the others are rendered. A scene
that fails, or takes its process down, does not stop the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from animations.catalog import Row
from animations.forms import FORMS, QUALITIES
from theory.proof import cache

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Outcome:
    """What became of one scene: rendered, kept from before, or failed (`error` is a line, `details` a traceback)."""

    row: Row
    status: str = "failed"
    files: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    error: str = "not rendered"
    details: str = ""

    @property
    def ok(self) -> bool:
        return self.status != "failed"


def render(
    rows: Iterable[Row],
    quality: str = "preview",
    form: str = "video",
    out: Path = Path("out/videos"),
    jobs: int | None = None,
    console: Console | None = None,
) -> list[Outcome]:
    """Render scenes into out/week5/ddim_is_euler-preview.mp4 and the like, subtitles and notes beside them.

    quality: preview, lecture or 4k; form: video, still (the last frame) or gif; jobs: processes, by default one a core.
    """
    if quality not in QUALITIES:
        raise ValueError(f"quality {quality!r}: expected one of {', '.join(QUALITIES)}")
    if form not in FORMS:
        raise ValueError(f"form {form!r}: expected one of {', '.join(FORMS)}")
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs is {jobs}: expected at least one process")
    outcomes = [Outcome(row) for row in rows]
    waiting: Queue[tuple[Outcome, Path]] = Queue()
    for outcome in outcomes:
        path = out.resolve() / f"{outcome.row.name}-{quality}{FORMS[form].suffix}"
        if _kept(path, _key(outcome.row, quality, form)):
            outcome.status, outcome.files, outcome.error = "kept", [path], ""
        else:
            waiting.put((outcome, path))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        processes = min(jobs or os.cpu_count() or 1, waiting.qsize())
        threads = [Thread(target=_work, args=(waiting, quality, form, progress), daemon=True) for _ in range(processes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcomes


def _work(waiting: Queue[tuple[Outcome, Path]], quality: str, form: str, progress: Progress) -> None:
    """Give one worker process the next scene until none waits; start another one when it has died."""
    worker: subprocess.Popen[str] | None = None
    with suppress(Empty):
        while True:
            outcome, path = waiting.get_nowait()
            bar = progress.add_task(outcome.row.name, total=None)
            started = time.monotonic()
            if worker is None or worker.poll() is not None:
                worker = _start()
            job = {"scene": outcome.row.name, "quality": quality, "form": form, "path": str(path)}
            for event in _events(worker, job):
                if "duration" in event:
                    progress.update(bar, total=event["duration"])
                elif "time" in event:
                    progress.update(bar, completed=event["time"])
                elif "files" in event:
                    outcome.status, outcome.error = "rendered", ""
                    outcome.files = [Path(file) for file in event["files"]]
                    _keep(path, _key(outcome.row, quality, form))
                else:
                    outcome.error, outcome.details = event["error"], event["details"]
            outcome.seconds = time.monotonic() - started
            total = progress.tasks[bar].total or 1.0
            progress.update(bar, total=total, completed=total if outcome.ok else 0.0)
    if worker is not None and worker.stdin:
        worker.stdin.close()
        worker.wait()


def _events(worker: subprocess.Popen[str], job: dict[str, str]) -> Iterable[dict[str, Any]]:
    """Events of one job; if the process dies, that is the last of them."""
    assert worker.stdin and worker.stdout
    with suppress(BrokenPipeError):
        worker.stdin.write(json.dumps(job) + "\n")
        worker.stdin.flush()
    for line in worker.stdout:
        event = json.loads(line)
        yield event
        if "files" in event or "error" in event:
            return
    yield {"error": f"the process rendering {job['scene']} ended with code {worker.wait()}", "details": ""}


def _start() -> subprocess.Popen[str]:
    """A worker that finds the project at its root whatever the current folder holds (-P)."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", "animations.worker"]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )


def _key(row: Row, quality: str, form: str) -> str:
    scene = ROOT.joinpath(*row.module.split(".")).with_suffix(".py")
    sources = [scene, ROOT / "animations" / "worker.py", *(ROOT / "theory" / f"{topic}.py" for topic in row.topics)]
    return cache.key(sources, *cache.versions("manim", "typst", "numpy", "torch", "sympy"), quality, form)


def _kept(path: Path, key: str) -> bool:
    """Whether the file was finished for this very key."""
    stamp = _stamp(path)
    return path.exists() and stamp.exists() and stamp.read_text() == key


def _keep(path: Path, key: str) -> None:
    _stamp(path).write_text(key)


def _stamp(path: Path) -> Path:
    return path.with_name(f".{path.name}.key")
