"""What a person sees of a run: the time left, on a clock that the test moves, and a bar that begins in place."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich.console import Console

from training import progress, recipes

RECIPE = recipes.change(recipes.find("toy.ring"), steps=100)
LONG = recipes.change(recipes.find("images.cifar10-edm"), steps=390_625)
PARTS = ("left", "━", "12 steps skipped", "images.cifar10-edm", "smoothed", "samples/s", "gone", "MFU 37%", "1.00 GB")
LINE = {"loss": 0.5, "smoothed_loss": 0.5, "samples_per_second": 1, "memory_gb": 1, "skipped": 0, "mfu": 0.37}


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> io.StringIO:
    """What is printed, on a terminal or not."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=request.param, width=160)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    return text


@pytest.mark.parametrize("shown", [False], indirect=True)
def test_time_left_is_that_of_the_steps_left(monkeypatch: pytest.MonkeyPatch, shown: io.StringIO) -> None:
    """Resumed at step 40, ten steps in 20 seconds: the 50 left take 100; then nothing for ten seconds; then the end."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.watched(RECIPE, 40, quiet=False) as show:
        for step, time in ((50, 20.0), (55, 29.9), (60, 30.1), (100, 31.0)):
            now[0] = time
            show(LINE | {"step": step})
    lines = shown.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["50/100", "60/100", "100/100"]
    assert [line.split("  ")[-1] for line in lines] == ["100 s left", "60 s left", "0 s left"]
    assert "MFU 37%" in lines[0] and "skipped" not in lines[0]


@pytest.mark.parametrize("shown", [True], indirect=True)
def test_a_bar_begins_where_the_run_does(shown: io.StringIO) -> None:
    with progress.watched(RECIPE, 40, quiet=False) as show:
        show(LINE | {"step": 70, "skipped": 3})
    text = shown.getvalue()
    assert text.index("40/100") < text.index("70/100")
    assert "3 steps skipped" in text


def _line(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The bar's line on a terminal of that width, as it stands at last."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    with progress.watched(LONG, 0, quiet=False) as show:
        show(LINE | {"step": 200_000, "skipped": 12})
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.getvalue()).replace("\r", "\n").split("\n")
    return [line for line in lines if "200000/" in line][-1]


@pytest.mark.parametrize("width", range(40, 201))
def test_a_bar_fits_its_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    line = _line(width, monkeypatch)
    assert len(line.rstrip()) <= width
    assert "200000/390625" in line and "loss 0.50000" in line
    shown = [part in line for part in PARTS]
    assert shown == sorted(shown, reverse=True)  # what matters less is not shown without what matters more
    assert all(shown[: 3 if width >= 80 else width > 40])
    assert all(shown) or width < 170


@pytest.mark.parametrize(
    "seconds, words", [(None, "-:--:--"), (0.2, "0:00:00"), (59.7, "0:01:00"), (360_061, "100:01:01")]
)
def test_hours_go_on_counting(seconds: float | None, words: str) -> None:
    assert progress._clock(seconds) == words


@pytest.mark.parametrize("shown", [False, True], indirect=True)
def test_quiet_is_silent(shown: io.StringIO) -> None:
    with progress.watched(RECIPE, 0, quiet=True) as show:
        show(LINE | {"step": 100})
    assert not shown.getvalue()


def test_a_tracker_is_told_the_step(tmp_path: Any) -> None:
    from training.run_folder import RunFolder

    told: list[Any] = []

    class Accelerator:
        trackers = ()

        def init_trackers(self, *_: Any, **__: Any) -> None: ...

        def log(self, values: dict[str, Any], step: int) -> None:
            told.append((step, values))

    with progress.tracked(Accelerator(), RunFolder(tmp_path, RECIPE, 0), "trackio") as send:
        send({"step": 7, "loss": 0.5, "mfu": None})
    assert told == [(7, {"loss": 0.5})]
