"""The run folder: one folder holds all that a run is, and only its owner writes to it.

    config.toml            hash, seed and recipe: enough to repeat the run
    metrics.jsonl          one line every `log_every` steps
    checkpoints/           see checkpoint.py
    averages/              weight averages as they stood at some steps; see averages.py
    weights.safetensors    the trained network, written when the run is finished
    ema.safetensors        its averaged weights: the ones to sample with
    ema-<width>.safetensors   those of another width, made of averages/ afterwards
    samples.png curves.png what it looks like so far

It is named runs/<recipe>-<hash8>-s<seed>, appears whole, and is never overwritten: an existing folder is refused, and
going on is asked for by name (`seminar train --resume`). A kernel lock, which dies with its process, keeps a second
writer out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import rtoml

from training import durable, recipes
from training.recipes import Recipe

CONFIG = "config.toml"
LONGEST = 200  # bytes of a name in a path: file systems take 255, and unfinished files have a longer one


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """An existing run: where it is, and what its config.toml says."""

    path: Path
    recipe: Recipe
    seed: int

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def averages(self) -> Path:
        return self.path / "averages"

    @property
    def weights(self) -> Path:
        return self.path / "weights.safetensors"

    @property
    def ema(self) -> Path:
        return self.path / "ema.safetensors"

    def ema_of(self, width: float) -> Path:
        """The average of another relative width, when it has been made."""
        return self.path / f"ema-{width:g}.safetensors"

    @property
    def finished(self) -> bool:
        """True when all steps are done: the averaged weights are the last thing a run writes."""
        return self.ema.exists()

    def kept(self) -> str:
        """What there is to go back to."""
        saved = sorted(self.checkpoints.glob("step-*"))
        return f"the last good checkpoint is {saved[-1]}" if saved else "there is no checkpoint yet"

    def advice(self) -> str:
        """How to go on after this run was stopped."""
        return f"{self.kept()}; go on with: seminar train --resume {self.path}"


def default_path(recipe: Recipe, seed: int) -> Path:
    return Path("runs") / f"{recipe.name}-{_hash(recipe, seed)}"


def _hash(recipe: Recipe, seed: int) -> str:
    """What a run's folder is named after, and what its config.toml must agree with."""
    return f"{recipes.fingerprint(recipe)}-s{seed}"


def create(path: Path, recipe: Recipe, seed: int) -> RunFolder:
    """Make the folder of a new run; ValueError if something is there already."""
    refuse_existing(path)
    config = {"hash": _hash(recipe, seed), "seed": seed, "recipe": recipes.as_table(recipe)}
    try:
        durable.place(path, {CONFIG: rtoml.dumps(config, pretty=True).encode()})
    except OSError as error:
        raise OSError(f"{path} can't be made ({error.strerror}): choose another folder for the run") from error
    return RunFolder(path, recipe, seed)


def refuse_existing(path: Path) -> None:
    """ValueError if `path` is taken by a run or anything else but an empty folder, or can't be a folder."""
    if file := next((parent for parent in path.parents if parent.is_file()), None):
        raise ValueError(f"{path} can't be made, as {file} is a file: choose another folder for the run")
    if any(len(part.encode()) > LONGEST for part in path.parts):
        raise ValueError(f"{path}: a name of more than {LONGEST} bytes: choose a shorter one for the run")
    if path.is_dir() and (path / CONFIG).exists():
        raise ValueError(f"{path} holds a run, and a run is never overwritten: resume it, or choose another folder")
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise ValueError(f"{path} exists and is not an empty folder: choose another folder for the run")


def around(path: Path) -> Path | None:
    """The run folder that a path lies in, if it lies in one."""
    return next((parent for parent in path.resolve().parents if _is_run(parent)), None)


def _is_run(path: Path) -> bool:
    """Whether a folder has the config.toml of a run, and not one of somebody else's; it need not be sound."""
    try:
        return rtoml.loads((path / CONFIG).read_text()).keys() >= {"hash", "seed", "recipe"}
    except (OSError, rtoml.TomlParsingError, UnicodeDecodeError):
        return False


def open_run(path: Path) -> RunFolder:
    """The run in an existing folder; ValueError when there is none or its config.toml is not what was written."""
    if not path.is_dir():
        raise ValueError(f"{path} is no run folder: it does not exist" if not path.exists() else f"{path} is no folder")
    if not (path / CONFIG).exists():
        raise ValueError(f"{path} is no run folder: it has no {CONFIG}")
    torn = f"{path / CONFIG} is torn or was edited"
    try:
        config = rtoml.loads((path / CONFIG).read_text())
        seed, expected, recipe = config.pop("seed"), config.pop("hash"), recipes.from_table(config.pop("recipe"))
    except KeyError as missing:
        raise ValueError(f"{torn}: it lacks {missing}") from None
    except (rtoml.TomlParsingError, UnicodeDecodeError) as error:
        raise ValueError(f"{torn}: no TOML ({' '.join(str(error).split())})") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{torn}: {error}") from None
    if config:
        raise ValueError(f"{path / CONFIG}: key {next(iter(config))!r} is unknown (expected hash, seed, recipe)")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"{path / CONFIG}: seed = {seed!r}, expected an integer >= 0")
    if (found := _hash(recipe, seed)) != expected:
        raise ValueError(f"{path / CONFIG} was edited: its recipe and seed have hash {found}, not {expected!r}")
    for entry in path.rglob("*"):
        if entry.is_symlink() and not entry.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{entry} is a link that leads out of the run: put the file itself there")
    return RunFolder(path, recipe, seed)


@contextlib.contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Hold the run's exclusive lock; ValueError if another process does."""
    with open(folder.path / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder.path} is being trained by another process") from None
        yield


def cut_log(path: Path, step: int) -> None:
    """Keep the log's lines up to `step`; a last line torn by the kill, and all that was logged later, go."""
    if path.exists():
        kept = [line for line in path.read_bytes().splitlines(keepends=True) if _step_of(line) <= step]
        durable.replace(path, b"".join(kept))


def read_log(path: Path) -> list[dict[str, Any]]:
    """The log's whole lines as dictionaries (the last line of a running log may be torn: it is left out)."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def log_line(values: Mapping[str, Any]) -> str:
    return json.dumps(values) + "\n"


def _step_of(line: bytes) -> float:
    """The step a log line speaks of; infinity for a torn one."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else float("inf")
    except (ValueError, OverflowError, RecursionError, KeyError, TypeError):
        return float("inf")
