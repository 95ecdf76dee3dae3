"""Where memory runs out a command says so in one line; whatever else goes wrong inside keeps its traceback."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch

from seminar.main import main

CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 14.56 GiB of which 3 GiB is free."
)


def _raising(error: BaseException) -> Any:
    def allocate() -> None:
        raise error

    return allocate


ENDED = [
    (lambda: torch.empty(2**46), "256 TiB wanted at once"),
    (lambda: torch.empty(2**40, 2**40), "out of memory: "),
    (lambda: np.empty(2**52), "32.0 PiB wanted at once"),
    (lambda: bytearray(2**50), "out of memory: "),
    (_raising(MemoryError()), "out of memory: "),
    (_raising(CUDA), "20.00 GiB wanted at once"),
    (_raising(torch.OutOfMemoryError("CUDA out of memory.")), "out of memory: "),
]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that stands behind `seminar train` and `seminar show`."""

    def behind(allocate: Any) -> None:
        monkeypatch.setattr(importlib.import_module("seminar.train"), "main", lambda args: allocate())
        monkeypatch.setattr(importlib.import_module("seminar.show"), "main", lambda args: allocate())

    return behind


@pytest.mark.parametrize("allocate, told", ENDED)
def test_out_of_memory_is_one_line(allocate: Any, told: str, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command(allocate)
    assert main(["train"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("seminar: train: out of memory") and line.count("\n") == 1
    assert told in line
    assert all(flag in line for flag in ("--batch", "--accumulate", "--width", "--channels"))


@pytest.mark.parametrize("allocate, told", ENDED)
def test_the_traceback_is_there_if_asked_for(allocate: Any, told: str, command: Any) -> None:
    command(allocate)
    with pytest.raises((RuntimeError, MemoryError)):
        main(["train", "--traceback"])


def test_a_command_without_advice_of_its_own(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    command(lambda: torch.empty(2**46))
    assert main(["show"]) == 2
    assert capsys.readouterr().err == "seminar: show: out of memory, 256 TiB wanted at once: ask for less at once\n"


@pytest.mark.parametrize(
    "fail",
    [
        lambda: torch.zeros(2) @ torch.zeros(3),
        _raising(RuntimeError("out of memory")),
        _raising(NotImplementedError("CUDA out of memory. Tried to allocate 20.00 GiB")),
        _raising(RecursionError("maximum recursion depth exceeded")),
    ],
)
def test_no_other_error_is_taken_for_it(fail: Any, command: Any) -> None:
    command(fail)
    with pytest.raises(RuntimeError):
        main(["train"])


def test_a_run_that_is_too_large(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the sizes come from: the words of the command."""
    words = ["--out", str(tmp_path / "run"), "--quiet", "--steps", "2"]
    assert main(["train", "toy.ring", "--width", "1000000000000", *words]) == 2
    assert "TiB wanted at once" in capsys.readouterr().err
