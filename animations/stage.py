"""Stage: what every scene has. A title on entry, captions below, the claims' ids and hashes in the corner.

A scene says its script line by line; each line is at once the caption on the screen, a subtitle and the speaker's
note, and stays at least as long as it takes to read. Subclasses write `lecture`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import srt
from manim import DOWN, LEFT, RIGHT, UP, Animation, FadeIn, FadeOut, Mobject, Scene, VGroup

from animations import catalog, style
from animations.formula import proved
from animations.raster import RasterCamera
from animations.text import Typeset, code, plain, words


@dataclass(frozen=True)
class Line:
    """A line of the script: when it is said (seconds), its words, and what the speaker may add."""

    start: float
    text: str
    note: str = ""


class Stage(Scene):
    """A lecture scene. `self.say(words, *animations)` moves it on."""

    def __init__(self, on_frame: Callable[[float], None] = lambda at: None, **options: Any) -> None:
        """`on_frame` is told the scene's time as frames are drawn."""
        super().__init__(camera_class=RasterCamera, **options)
        self.on_frame = on_frame
        self.row = catalog.of(type(self).__module__)
        self.script: list[Line] = []
        self.caption: Typeset | None = None

    def lecture(self) -> None:
        raise NotImplementedError

    def construct(self) -> None:
        self._enter()
        self.lecture()
        self.finish_reading()

    def say(self, text: str, *animations: Animation, note: str = "") -> None:
        """Show the next caption, and play the animations while it is read."""
        self.finish_reading()
        before, self.caption = self.caption, _caption(text)
        self.script.append(Line(self.time, text, note))
        leave = [FadeOut(before, run_time=style.QUICK / 2)] if before else []
        enter = FadeIn(self.caption, run_time=style.QUICK, rate_func=style.late)
        self.play(*leave, enter, *animations)

    def finish_reading(self) -> None:
        """Wait until the caption on the screen can have been read."""
        if self.script:
            line = self.script[-1]
            rest = line.start + style.LINGER + len(plain(line.text)) / style.READING_SPEED - self.time
            if rest > 1 / self.camera.frame_rate:
                self.wait(rest)

    def update_to_time(self, t: float) -> None:
        super().update_to_time(t)
        self.on_frame(self.time)

    def _enter(self) -> None:
        """The title alone, then small at the top left, with the claims' stamp at the right."""
        week = words(self.row.week.replace("week", "Week "), style.LABEL, style.QUIET)
        title = words(self.row.title, style.TITLE)
        card = VGroup(week, title).arrange(DOWN, buff=0.3)
        self.play(FadeIn(card, shift=0.2 * UP, run_time=style.NORMAL))
        self.wait(style.NORMAL)
        corner = (style.HEAD.left, style.HEAD.centre[1], 0.0)
        heading = title.animate.scale(style.HEADING / style.TITLE).move_to(corner, aligned_edge=LEFT)
        self.play(FadeOut(week, run_time=style.QUICK), heading, FadeIn(self._stamp()))

    def _stamp(self) -> Mobject:
        """Ids and short hashes of the claims, a line each."""
        claims = [proved(claim) for claim in self.row.claims]
        lines = [code(f"{claim.id} {claim.hash[:8]}") for claim in claims]
        corner = (style.HEAD.right, style.HEAD.centre[1], 0.0)
        return VGroup(*lines).arrange(DOWN, buff=0.1, aligned_edge=RIGHT).move_to(corner, aligned_edge=RIGHT)

    def write_script(self, path: Path) -> list[Path]:
        """The script as path.srt, path.vtt and path.md (speaker notes); call it after rendering."""
        ends = [line.start for line in self.script[1:]] + [self.time]
        cues = [
            srt.Subtitle(i, timedelta(seconds=line.start), timedelta(seconds=end), plain(line.text))
            for i, (line, end) in enumerate(zip(self.script, ends, strict=True), 1)
        ]
        subtitles = srt.compose(cues)
        notes = [f"# {self.row.title}", *(f"{plain(line.text)}\n{line.note}".strip() for line in self.script)]
        texts = {".srt": subtitles, ".vtt": _vtt(cues), ".md": "\n\n".join(notes) + "\n"}
        files = []
        for suffix, text in texts.items():
            files.append(path.with_suffix(suffix))
            files[-1].write_text(text, encoding="utf-8")
        return files


def _vtt(cues: list[srt.Subtitle]) -> str:
    def clock(at: timedelta) -> str:
        return srt.timedelta_to_srt_timestamp(at).replace(",", ".")

    return "\n\n".join(["WEBVTT", *(f"{clock(cue.start)} --> {clock(cue.end)}\n{cue.content}" for cue in cues)]) + "\n"


def _caption(text: str) -> Typeset:
    """The line as it stands below the picture: one line, or two of about equal length."""
    caption = words(text, style.CAPTION)
    if caption.width > style.FOOT.width:
        caption = words(text, style.CAPTION, width=min(style.FOOT.width, 0.54 * caption.width))
    if caption.height > style.FOOT.height or caption.width > style.FOOT.width:
        raise ValueError(f"a caption has at most two lines, this one is too long: {plain(text)!r}")
    return caption.move_to(style.FOOT.centre)
