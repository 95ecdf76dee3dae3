"""Arguments of a command: a dataclass read by tyro; a mistake is one line, and help is tyro's own."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_BOX = re.compile(r"[│╭╮╰╯─|]+")
# tyro's words -> ours
_IN_OTHER_WORDS = (
    (re.compile(r"^Error parsing (\S+): .*int\(\).*?: '([^']*)'$"), r"\1 \2: expected a whole number"),
    (re.compile(r"^Error parsing (\S+): .*to float.*?: '([^']*)'$"), r"\1 \2: expected a number"),
    (re.compile(r"^Error parsing (\S+): Could not find valid parse for arguments: (.*)$"), r"\1 \2: can't be read"),
    (re.compile(r"^Error parsing (\S+): "), r"\1 "),
    (
        re.compile(r"^invalid choice '(.*)' for argument '(\S+)'\. .*'True', 'False'\)$"),
        r"\2 \1: expected True or False",
    ),
    (re.compile(r"^Missing value for argument '(\S+)'.*$"), r"\1: expected a value after it"),
)
_KINDS = ConstructorRegistry()


def parse(cls: Any, command: str, args: Sequence[str]) -> Any:
    """An instance of the dataclass from command-line words; ValueError with one line for words that do not fit."""
    rest = [a for a in args if a != "--traceback"]
    options: dict[str, Any] = {"prog": f"seminar {command}", "args": rest, "registry": _KINDS}
    if any(a in ("-h", "--help") for a in rest):
        tyro.cli(cls, **options)
    _refuse_unknown(cls, command, rest)
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured), contextlib.redirect_stdout(captured):
            return tyro.cli(cls, **options)
    except SystemExit:
        pass
    told = " ".join(_BOX.sub(" ", captured.getvalue()).split())
    told = re.sub(r"\x1b\[[0-9;]*m", "", told)
    told = re.split(r"For full helptext|Full helptext|Are you sure", told)[0]
    told = re.sub(r"^.*?-{3,}|-{3,}.*$", "", told).strip().rstrip(". ")  # the box's title and its lower edge
    for theirs, ours in _IN_OTHER_WORDS:
        told = theirs.sub(ours, told)
    raise ValueError(f"{told}; see seminar {command} --help" if told else f"see seminar {command} --help")


def flags(args: Iterable[str]) -> list[str]:
    """The flags among the words of a command."""
    return [word.partition("=")[0].replace("_", "-") for word in args if re.match(r"--[a-zA-Z]", word)]


def flag(setting: str) -> str:
    """The flag of a dataclass's field."""
    return f"--{setting.replace('_', '-')}"


def near(word: str, known: Iterable[str], otherwise: str) -> str:
    """A question that names what comes nearest, or else where to look."""
    found = difflib.get_close_matches(word, list(dict.fromkeys(known)), n=3)
    return f"did you mean {' or '.join(found)}?" if found else f"see {otherwise}"


def interactive() -> bool:
    """Whether somebody is watching."""
    return sys.stderr.isatty()


def _refuse_unknown(cls: Any, command: str, args: Sequence[str]) -> None:
    """ValueError for a flag that the command does not have."""
    known = [flag(field.name) for field in dataclasses.fields(cls)]
    for given in flags(args):
        if given not in known and given.replace("--no-", "--", 1) not in known:  # tyro knows what has an opposite
            raise ValueError(f"{given} is unknown; {near(given, known, f'seminar {command} --help')}")


@_KINDS.primitive_rule
def _left_out(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A value that may be left out: None says that it was, and is no word to be given."""
    kinds = [kind for kind in get_args(info.type) if kind is not NoneType]
    if info.type_origin not in (Union, UnionType) or len(kinds) != 1:
        return None
    spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kinds[0], info.markers))
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return dataclasses.replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda value: ["none"] if value is None else spec.str_from_instance(value),
    )


@_KINDS.primitive_rule
def _one_of(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A word of a list: named in the list's order where another is given."""
    if info.type_origin is not Literal:
        return None
    names = get_args(info.type)

    def chosen(words: list[str]) -> str:
        if words[0] not in names:
            raise ValueError(f"{words[0]}: expected one of {', '.join(names)}")
        return words[0]

    metavar = f"{{{','.join(names)}}}"
    return PrimitiveConstructorSpec(1, metavar, chosen, lambda value: value in names, lambda value: [value])


@_KINDS.primitive_rule
def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A path of no letters would be the working directory."""
    if info.type is not Path:
        return None

    def named(words: list[str]) -> Path:
        if not words[0]:
            raise ValueError("'': expected a path")
        return Path(words[0])

    return PrimitiveConstructorSpec(1, "PATH", named, lambda value: isinstance(value, Path), lambda value: [str(value)])
