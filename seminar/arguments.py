"""Arguments of a command: a dataclass read by tyro; a mistake is one line, and help is tyro's own."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import Any

import tyro

_BOX = re.compile(r"[│╭╮╰╯─|]+")
_NO_NUMBER = re.compile(r"^Error parsing (\S+): .*(?:(int\(\))|to float).*?: '([^']*)'$")


def parse(cls: Any, command: str, args: Sequence[str], default: Any = None) -> Any:
    """An instance of the dataclass from command-line words; ValueError with one line for words that do not fit."""
    rest = [a for a in args if a != "--traceback"]
    options: dict[str, Any] = {} if default is None else {"default": default}
    if any(a in ("-h", "--help") for a in rest):
        tyro.cli(cls, prog=f"seminar {command}", args=rest, **options)
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured), contextlib.redirect_stdout(captured):
            return tyro.cli(cls, prog=f"seminar {command}", args=rest, **options)
    except SystemExit:
        pass
    told = " ".join(_BOX.sub(" ", captured.getvalue()).split())
    told = re.sub(r"\x1b\[[0-9;]*m", "", told)
    told = re.split(r"For full helptext|Full helptext|Are you sure", told)[0]
    told = re.sub(r"^.*?-{3,}|-{3,}.*$", "", told).strip()  # the box's title and its lower edge
    if number := _NO_NUMBER.match(told):
        flag, whole, given = number.groups()
        told = f"{flag} {given}: expected a {'whole ' if whole else ''}number"
    raise ValueError(f"{told.rstrip('. ')}; see seminar {command} --help" if told else f"see seminar {command} --help")


def interactive() -> bool:
    """Whether somebody is watching."""
    return sys.stderr.isatty()
