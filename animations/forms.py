"""Sizes and kinds of output, readable without importing manim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Quality:
    width: int
    height: int
    frame_rate: int


QUALITIES = {
    "preview": Quality(854, 480, 20),
    "lecture": Quality(1920, 1080, 30),
    "4k": Quality(3840, 2160, 60),
}


@dataclass(frozen=True)
class Form:
    """What is written: manim's settings for it, where its file writer leaves it, and the file's ending."""

    settings: dict[str, Any]
    written: str
    suffix: str


FORMS = {
    "video": Form({"write_to_movie": True}, "movie_file_path", ".mp4"),
    "still": Form({"write_to_movie": False, "save_last_frame": True}, "image_file_path", ".png"),
    "gif": Form({"write_to_movie": True, "format": "gif"}, "gif_file_path", ".gif"),
}
