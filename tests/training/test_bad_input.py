"""Bad input of any kind ends in one line, before the first step, with every file as it was: through the real command.

Each row of a table spoils one thing of a folder in which the command would succeed (the `control` tests say so), names
words that the line must hold, and what is asked for. Left out, for other files hold them to account: kills
(test_resume.py), other processes (test_processes.py), random damage (test_fuzz.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import rtoml
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from seminar.main import main
from training import averages, checkpoint, draw, loop, recipes, run_folder, state, tensor_file
from training.data import catalog
from training.run_folder import CONFIG

TINY = recipes.change(
    recipes.find("toy.ring"), steps=20, batch=8, width=4, depth=1, log_every=5, save_every=10, snapshots=4
)
PICTURES = recipes.change(
    recipes.find("classifier.digits"), steps=4, batch=4, channels=(4,), features=4, save_every=2, log_every=2,
    data="folder", path="pictures", colour="rgb",
)  # fmt: skip
STEP = "run/checkpoints/step-00000010"
TENSORS, VOUCHER = f"{STEP}/{checkpoint.TENSORS}", f"{STEP}/{checkpoint.VOUCHER}"
RESUME = ("train", "--resume", "run", "--quiet")
SAMPLE = ("sample", "run", "--n", "5", "--out", "drawn.png")
EMA = ("ema", "run", "--width", "0.07")
TOY = ("train", "toy.ring", "--out", "new", "--quiet", "--steps", "2", "--batch", "8")
PHOTOS = ("train", "classifier.digits", "--out", "new", "--quiet", "--steps", "2", "--batch", "4", "--channels", "4",
          "--features", "4", "--data", "folder", "--path", "pictures", "--colour", "rgb")  # fmt: skip
Spoil = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """What is spoilt, how, what is asked for, and what the line says."""

    what: str
    spoil: Spoil
    words: str
    argv: tuple[str, ...] = RESUME


def nothing(folder: Path) -> None:
    """The words of the command alone are wrong."""


def edit(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    """A file's bytes, changed."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def flip(position: int) -> Callable[[bytes], bytes]:
    return lambda old: old[:position] + bytes([old[position] ^ 1]) + old[position + 1 :]


def forge(change: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict, **facts: Any) -> Spoil:
    """A checkpoint whose sums are right, of other tensors or with other facts."""

    def forged(folder: Path) -> None:
        claims = json.loads((folder / VOUCHER).read_text())
        tensors = safetensors.torch.load((folder / TENSORS).read_bytes())
        checkpoint.save((folder / STEP).parent, claims["step"], change(tensors), claims["facts"] | facts)

    return forged


def config(**settings: Any) -> Spoil:
    """A config.toml of another recipe, its hash made to agree."""

    def forged(folder: Path) -> None:
        (folder / "run" / CONFIG).unlink()
        run_folder.create(folder / "other", recipes.change(TINY, **settings), 0)
        (folder / "other" / CONFIG).rename(folder / "run" / CONFIG)
        (folder / "other").rmdir()

    return forged


def link(name: str) -> Spoil:
    """A file or folder of the run moved out of it, a link in its place."""

    def linked(folder: Path) -> None:
        (folder / name).rename(folder / "elsewhere")
        (folder / name).symlink_to(folder / "elsewhere")

    return linked


def pickled(name: str) -> Spoil:
    return lambda folder: torch.save({"network.w": torch.ones(3)}, folder / name)


def picture(make: Callable[[Path], object], name: str = "pictures/train/a/0.png") -> Spoil:
    """One of the pictures, made anew."""

    def put(folder: Path) -> None:
        (folder / "pictures/train/a/0.png").unlink()
        make(folder / name)

    return put


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it is 10,000 pixels wide and high: Pillow would let it pass."""
    Image.new("L", (1, 1)).save(path)
    old = path.read_bytes()
    head = old[12:16] + (10_000).to_bytes(4, "big") * 2 + old[24:29]
    path.write_bytes(old[:12] + head + zlib.crc32(head).to_bytes(4, "big") + old[33:])


def parquet(labels: list[Any]) -> Spoil:
    def put(folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        image = (folder / "pictures/train/a/0.png").read_bytes()
        (folder / "tables").mkdir()
        for split, told in (("train", labels), ("test", [0, 1])):
            pq.write_table(pa.table({"image": [image] * len(told), "label": told}), folder / f"tables/{split}.parquet")

    return put


def table(spoilt: Case, *, data: str = "parquet", path: str = "tables") -> Case:
    """A case of a table instead of a folder of pictures."""
    return Case(spoilt.what, spoilt.spoil, spoilt.words, (*PHOTOS, "--data", data, "--path", path))


def without(name: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def turned(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {key: change(tensor) if key == name else tensor for key, tensor in tensors.items()}


W = "network.network.x_in.weight"
INTERRUPTED = [
    Case("empty file", edit(TENSORS, lambda old: b""), r"has 0 bytes, expected \d+: delete the folder"),
    Case("truncated header", edit(TENSORS, lambda old: old[:20]), "has 20 bytes, expected"),
    Case("truncated data", edit(TENSORS, lambda old: old[:-1]), r"has \d+ bytes, expected"),
    Case("grown data", edit(TENSORS, lambda old: old + b"\0"), r"has \d+ bytes, expected"),
    Case("flipped bit", edit(TENSORS, flip(-2)), "state.safetensors is damaged.*delete the folder step-00000010"),
    Case("flipped bit of the header", edit(TENSORS, flip(12)), "state.safetensors is damaged"),
    Case("zeroed data", edit(TENSORS, lambda old: old[:2000] + bytes(len(old) - 2000)), "is damaged"),
    Case("pickle with another name", pickled(TENSORS), r"has \d+ bytes, expected"),
    Case("another shape", forge(turned(W, lambda t: t[:, :1])), rf"another model: {W} is float32\[4, 1\].*\[4, 2\]"),
    Case("another dtype", forge(turned(W, Tensor.double)), rf"another model: {W} is float64.*float32"),
    Case("a tensor more", forge(lambda t: {**t, "network.z": t[W]}), "another model: 1 names .* network.z"),
    Case("a tensor named ../", forge(lambda t: {**t, "../../etc": t[W]}), "another model: .*etc"),
    Case("a tensor less", forge(without(W)), f"another model: .* {W}"),
    Case("JSON cut off", edit(VOUCHER, lambda old: old[:-3]), "state.json is damaged"),
    Case("JSON of another kind", edit(VOUCHER, lambda old: b"[1, 2]"), "state.json is damaged"),
    Case("JSON too deep", edit(VOUCHER, lambda old: b"[" * 100_000), "state.json is damaged"),
    Case("JSON of another step", edit(VOUCHER, lambda old: old.replace(b'"step": 10', b'"step": 12')), "digest"),
    Case("JSON without end", edit(VOUCHER, lambda old: b" " * 2**21), "state.json is damaged.*longer"),
    Case("JSON missing", lambda folder: (folder / VOUCHER).unlink(), "state.json is missing.*delete the folder"),
    Case("tensors missing", lambda folder: (folder / TENSORS).unlink(), "state.safetensors is missing"),
    Case("a folder for a file", lambda folder: ((folder / TENSORS).unlink(), (folder / TENSORS).mkdir()), "is missing"),
    Case("checkpoint out of the run", link(STEP), "is a link that leads out of the run"),
    Case("tensors out of the run", link(TENSORS), "is a link that leads out of the run"),
    Case("another batch", config(batch=16), "was saved with recipe = '.*', here it is"),
    Case("another learning rate", config(lr=0.5), "was saved with recipe ="),
    Case("another width", config(width=5), "was saved with recipe ="),
    Case("edited setting", edit(f"run/{CONFIG}", lambda old: old.replace(b"batch = 8", b"batch = 16")), "was edited"),
    Case("edited seed", edit(f"run/{CONFIG}", lambda old: old.replace(b"seed = 0", b"seed = 1")), "was edited"),
    Case("config empty", edit(f"run/{CONFIG}", lambda old: b""), "config.toml is torn or was edited: .*lacks"),
    Case("config torn", edit(f"run/{CONFIG}", lambda old: old[: old.index(b"batch")]),
         r"config.toml is torn or was edited: the recipe's table lacks batch, accumulate, lr and \d+ more"),
    Case("config torn at its table", edit(f"run/{CONFIG}", lambda old: old[: old.index(b"[recipe]")]),
         "config.toml is torn or was edited: it lacks 'recipe'"),
    Case("config no TOML", edit(f"run/{CONFIG}", lambda old: b"steps = ["), "config.toml is torn or .*: no TOML"),
    Case("config not text", edit(f"run/{CONFIG}", lambda old: b"\xff" + old), "config.toml is torn or .*: no TOML"),
    Case("config missing", lambda folder: (folder / "run" / CONFIG).unlink(), "has no config.toml"),
    Case("another seed", forge(seed=4), "was saved with seed = 4, here it is 0"),
    Case("other threads", forge(threads=77), "was saved with threads = 77, here it is"),
    Case("other processes", forge(processes=3), "was saved with processes = 3, here it is 1"),
    Case("another torch", forge(torch="1.0"), "was saved with torch = '1.0', here it is"),
    Case("another device", forge(device="a GPU"), "was saved with device = 'a GPU', here it is"),
    Case("settings of a run", nothing, "--steps: a run that is resumed keeps its settings.*start a new run",
         (*RESUME, "--steps", "900")),
    Case("seed of a run", nothing, "--seed: a run that is resumed keeps", (*RESUME, "--seed=1")),
    Case("a recipe and a run", nothing, "--resume goes on with a run.*: leave out images.digits-unet",
         ("train", "images.digits-unet", "--resume", "run")),
    Case("misspelt flag", nothing, "--quite is unknown; did you mean --quiet", ("train", "--resume", "run", "--quite")),
    Case("empty name of a run", nothing, "--resume '': expected a path", ("train", "--resume", "")),
    Case("no such run", nothing, "elsewhere is no run folder: it does not exist", ("train", "--resume", "elsewhere")),
    Case("no number of threads", nothing, "workers = -1: expected", (*RESUME, "--workers", "-1")),
    Case("not finished: sample", nothing, "run is not finished: resume it first", SAMPLE),
    Case("not finished: evaluate", nothing, "run is not finished: resume it first", ("evaluate", "run")),
    Case("not finished: teacher", nothing, "run is not finished: resume it first",
         ("train", "distill.progressive", "--teacher", "run", "--out", "new")),
    Case("no teacher", nothing, "nowhere is no run folder",
         ("train", "distill.progressive", "--teacher", "nowhere", "--out", "new")),
    Case("teacher not named", nothing, "teacher", ("train", "distill.reflow", "--out", "new")),
]  # fmt: skip


def _resaved(old: bytes) -> bytes:
    """The same tensors as safetensors alone would write them."""
    return safetensors.torch.save(safetensors.torch.load(old))


STORED = "run/averages/step-00000010.safetensors"
FINISHED = [
    Case(what, change(file), words, argv)
    for file, argv in (("run/ema.safetensors", SAMPLE), (STORED, EMA))
    for what, change, words in (
        ("empty file", lambda file: edit(file, lambda old: b""), "is damaged"),
        ("truncated", lambda file: edit(file, lambda old: old[:-1]), "is damaged"),
        ("flipped bit", lambda file: edit(file, flip(-2)), "is damaged.*put back the file"),
        ("zeroed data", lambda file: edit(file, lambda old: old[:1200] + bytes(len(old) - 1200)), "is damaged"),
        ("pickle", pickled, "is damaged"),
        ("no digest", lambda file: edit(file, _resaved), "it has no digest"),
        ("out of the run", link, "is a link that leads out"),
    )
] + [
    Case(
        "no such width",
        nothing,
        "width = 0.9: expected more than 0 and at most 0.288",
        ("ema", "run", "--width", "0.9"),
    ),
    Case(
        "width not made",
        nothing,
        "run has no average of width 0.2: make it with seminar ema run --width 0.2",
        (*SAMPLE, "--ema", "0.2"),
    ),
    Case(
        "width that can't be", nothing, "ema = 0.9: expected more than 0 and at most 0.288", (*SAMPLE, "--ema", "0.9")
    ),
    Case(
        "weights of another recipe",
        lambda folder: _other_weights(folder / "run/ema.safetensors"),
        "ema.safetensors does not fit toy.ring: it holds another network's weights; put back",
        SAMPLE,
    ),
    Case("no such step", nothing, "step = 99: expected one from 1 to 20", (*EMA, "--step", "99")),
    Case("run overwritten", nothing, "a run is never overwritten", (*TOY, "--out", "run")),
    Case("solver misspelt", nothing, "solver 'ddmi' is unknown; there are .*ddim", (*SAMPLE, "--solver", "ddmi")),
    Case("no samples", nothing, "n = 0: expected", (*SAMPLE, "--n", "0")),
    Case(
        "more samples than memory",
        nothing,
        r"n = 100000000000: .* GiB are free: draw at most \d+ at once",
        (*SAMPLE, "--n", "100000000000"),
    ),
    Case("no steps", nothing, "steps = 0: expected", (*SAMPLE, "--steps", "0")),
    Case("too many steps", nothing, "steps = 1000000000: expected at most 65536", (*SAMPLE, "--steps", "1000000000")),
    Case("negative seed", nothing, "seed = -1: expected an integer >= 0", (*SAMPLE, "--seed", "-1")),
    Case(
        "the run's own picture",
        nothing,
        "run is a run, to which nothing is added",
        (*SAMPLE, "--out", "run/samples.png"),
    ),
    Case(
        "a folder in a run",
        nothing,
        "run is a run, to which nothing is added",
        (*SAMPLE, "--out", "run/../run/new/drawn.png"),
    ),
    Case("a run without config", lambda folder: (folder / "run" / CONFIG).unlink(), "run is no run folder", SAMPLE),
    Case("label of none", nothing, "knows no labels", (*SAMPLE, "--label", "3")),
    Case("no picture", nothing, r"drawn.txt: expected a name that ends in \.png", (*SAMPLE, "--out", "drawn.txt")),
    Case("folder of a picture", nothing, "is not finished|no run folder", ("sample", "nowhere", "--out", "new/a.png")),
]


def _other_weights(file: Path) -> None:
    """Of a network with another name inside."""
    stored = tensor_file.read(file)
    tensor_file.write(file, {f"other.{name}": tensor for name, tensor in stored.items()})


WORDS = [
    Case("unknown recipe", nothing, "'toy.rnig' is unknown; did you mean toy.ring", ("train", "toy.rnig")),
    Case("unknown setting", nothing, "--widht is unknown; did you mean --width", (*TOY, "--widht", "3")),
    Case("unknown switch", nothing, "--no-quite is unknown; did you mean --quiet", (*TOY, "--no-quite")),
    Case("None is no schedule", nothing, "--schedule None: expected one of vp_linear, sub_vp, cosine, flow, ve, edm, d",
         (*TOY, "--schedule", "None")),
    Case("None is no number", nothing, "--seconds None: expected a number", (*TOY, "--seconds", "None")),
    Case("compile neither", nothing, "--compile yes: expected True or False", (*TOY, "--compile", "yes")),
    Case("flag without a value", nothing, "--lr: expected a value after it", (*TOY, "--lr")),
    Case("no average", nothing, "ema has no value: expected one or more", (*TOY, "--ema")),
    Case("average of no number", nothing, r"--ema \['0.1', 'wide'\]: can't be read", (*TOY, "--ema", "0.1", "wide")),
    Case("average twice", nothing, r"ema = \(0.1, 0.1\): expected each width once", (*TOY, "--ema", "0.1", "0.1")),
    Case("more snapshots than steps", nothing, "snapshots = 3, steps = 2: expected", (*TOY, "--snapshots", "3")),
    Case("beta1 of one", nothing, "beta1 = 1.0: expected at least 0 and at most 0.99", (*TOY, "--beta1", "1.0")),
    Case("beta2 of one", nothing, "beta2 = 1.0: expected at least 0 and at most 0.99", (*TOY, "--beta2", "1.0")),
    Case("batch of a slip", nothing, "batch = 1000.*: expected at least 1 and at most 1e.12",
         (*TOY, "--batch", "1" + "0" * 30)),
    Case("clip NaN", nothing, "clip = nan: expected more than 0", (*TOY, "--clip", "nan")),
    Case("setting in vain", nothing, "--lr-flat does nothing without lr_decay = 'inverse_sqrt'",
         (*TOY, "--lr-flat", "0.1")),
    Case("labels withheld of none", nothing, "--label-dropout does nothing without classes > 0: leave it out",
         ("train", "images.digits-unet", "--label-dropout", "0.5")),
    Case("path of none", nothing, "path = '/nowhere', data = 'digits': .*no path",
         ("train", "images.digits-unet", "--path", "/nowhere")),
    Case("too many threads", nothing, "workers = 65: expected at most 64", (*TOY, "--workers", "65")),
    Case("folder of no name", nothing, "--out '': expected a path", (*TOY, "--out", "")),
    Case("folder of the kernel's", nothing, "/proc/foo can't be made .*: choose another folder for the run",
         (*TOY, "--out", "/proc/foo")),
    Case("unknown command", nothing, "unknown command 'trian'", ("trian", "toy.ring")),
    Case("no recipe", nothing, "the recipe comes first, got --steps", ("train", "--steps", "3")),
    Case("lr NaN", nothing, "lr = nan: expected more than 0", (*TOY, "--lr", "nan")),
    Case("lr negative", nothing, "lr = -0.1: expected more than 0", (*TOY, "--lr", "-0.1")),
    Case("lr infinite", nothing, "lr = inf: expected more than 0", (*TOY, "--lr", "inf")),
    Case("lr no number", nothing, "--lr fast: expected a number", (*TOY, "--lr", "fast")),
    Case("batch 0", nothing, "batch = 0: expected at least 1", (*TOY, "--batch", "0")),
    Case("batch not a multiple", nothing, "batch = 8, accumulate = 3: expected", (*TOY, "--accumulate", "3")),
    Case("half precision without a GPU", nothing, "'fp16' needs a GPU", (*TOY, "--precision", "fp16")),
    Case("precision misspelt", nothing, "--precision", (*TOY, "--precision", "fp17")),
    Case("seed negative", nothing, "seed = -1: expected", (*TOY, "--seed", "-1")),
    Case("steps and seconds", nothing, "give one of them", (*TOY, "--seconds", "1")),
    Case("earliest after latest", nothing, "expected earliest < latest", (*TOY, "--earliest", ".5", "--latest", ".4")),
    Case("another's folder", lambda folder: ((folder / "new").mkdir(), (folder / "new/thesis.tex").write_text("...")),
         "new exists and is not an empty folder", TOY),
    Case("a file for a folder", lambda folder: (folder / "new").write_text("..."), "is not an empty folder", TOY),
    Case("a folder in a file", lambda folder: (folder / "file").write_text("."), "file is a file",
         (*TOY, "--out", "file/new")),
    Case("name too long", nothing, "more than 200 bytes", (*TOY, "--out", "n" * 300)),
    Case("name of no bytes", nothing, "null", (*TOY, "--out", "a\0b")),
    Case("data misspelt", nothing, "data = 'digts': expected one of digits", (*PHOTOS, "--data", "digts")),
    Case("data out of the cache", nothing, "data = 'hub:../secret': expected", (*PHOTOS, "--data", "hub:../secret")),
    Case("folder missing", nothing, "nowhere does not exist: expected a folder", (*PHOTOS, "--path", "nowhere")),
    Case("folder empty", lambda folder: (folder / "none").mkdir(), "none holds no images", (*PHOTOS, "--path", "none")),
    Case("fewer than a batch", nothing, "has 6 images, batch = 8: choose a smaller batch", (*PHOTOS, "--batch", "8")),
    Case("image of 0 bytes", picture(Path.touch), "0.png is empty: 0 bytes", PHOTOS),
    Case("image of text", picture(lambda path: path.write_text("hello")), "0.png is no image", PHOTOS),
    Case("image torn", edit("pictures/train/a/0.png", lambda old: old[:-30]), "0.png is torn", PHOTOS),
    Case("image too small", picture(Image.new("RGB", (4, 9)).save), "has 4 x 9 pixels, size = 8", PHOTOS),
    Case("decompression bomb", picture(bomb), "refused as a decompression bomb", PHOTOS),
    Case("image of 16 bits", picture(Image.new("I;16", (8, 8)).save), "more than 8 bits a channel: convert", PHOTOS),
    Case("transparent image", picture(Image.new("RGBA", (8, 8)).save), "is transparent in places: flatten", PHOTOS),
    Case("CMYK image", picture(Image.new("CMYK", (8, 8)).save, "pictures/train/a/0.jpg"), "colour mode CMYK: convert",
         PHOTOS),
    table(Case("label NaN", parquet([float("nan"), 0.0, 1.0]), "row 0 has label nan, expected a whole number")),
    table(Case("label missing", parquet([0, 1, None, 1]), "row 2 has label None, expected a whole number")),
    table(Case("label negative", parquet([0, 1, -2, 1]), "row 2 has label -2, expected a whole number")),
    table(Case("table of text", lambda folder: (folder / "tables").write_text("a,b"), "can't be read as Parquet")),
    table(Case("no table", nothing, "tables does not exist")),
    table(Case("pickled CIFAR", lambda folder: _cifar(folder), "python version"), data="cifar10", path="cifar"),
    Case("no Fashion-MNIST there", nothing, "pictures has neither train-images",
         (*PHOTOS, "--data", "fashion-mnist", "--colour", "grey", "--size", "28")),
]  # fmt: skip


def _cifar(folder: Path) -> None:
    """What the python version of CIFAR-10 unpacks to."""
    (folder / "cifar").mkdir()
    (folder / "cifar/data_batch_1").write_bytes(b"\x80\x02}q\x01.")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders to be spoilt: `interrupted` and `finished` with a toy's run, `seen` with one of pictures."""
    root = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("samples", "curves", "confusion"):
            patch.setattr(draw, name, lambda *_: None)
        loop.train(TINY, root / "finished" / "run", quiet=True)
        shutil.copytree(root / "finished", root / "interrupted")
        _interrupt(root / "interrupted" / "run", "step-00000020")
        _pictures(root / "seen")
        patch.chdir(root / "seen")
        loop.train(PICTURES, "run", quiet=True)
        _interrupt(root / "seen" / "run", "step-00000004")
    return root


def _interrupt(run: Path, last: str) -> None:
    """Leave of a finished run what a kill before its last checkpoint would have left."""
    shutil.rmtree(run / "checkpoints" / last)
    for name in ("weights.safetensors", "ema.safetensors"):
        (run / name).unlink()


def _pictures(folder: Path) -> None:
    for split in ("train/a", "train/b", "test/a", "test/b"):
        (folder / "pictures" / split).mkdir(parents=True)
        for i in range(3):
            image = Image.effect_noise((9, 8), 50).convert("RGB")
            image.save(folder / "pictures" / split / f"{i}.png")


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A copy of one of them, which is the working directory."""
    copy = tmp_path / "copy"
    shutil.copytree(made / request.param, copy)
    monkeypatch.chdir(copy)
    for name in ("samples", "curves", "confusion"):
        monkeypatch.setattr(draw, name, lambda *_: None)
    return copy


def contents(folder: Path) -> dict[str, object]:
    """All there is below a folder: the bytes of files, the ends of links."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def cases(*rows: Case) -> Any:
    names = [f"{row.what}, {row.argv[0]}" for row in rows]
    return pytest.mark.parametrize("case", rows, ids=names)


def refused(case: Case, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped(*_: object) -> None:
        pytest.fail("a step was made")

    monkeypatch.setattr(state.State, "advance", stepped)
    case.spoil(folder)
    catalog.open_source.cache_clear()  # a process opens a data set once
    before = contents(folder)
    assert main(case.argv) != 0
    told = capsys.readouterr().err
    assert told.startswith("seminar: ") and told.count("\n") == 1, told
    assert re.search(case.words, told), told
    assert contents(folder) == before


@cases(*INTERRUPTED)
@pytest.mark.parametrize("folder", ["interrupted"], indirect=True)
def test_a_run_to_go_on_with(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(case, folder, capsys, monkeypatch)


@cases(*FINISHED)
@pytest.mark.parametrize("folder", ["finished"], indirect=True)
def test_a_finished_run(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(case, folder, capsys, monkeypatch)


@cases(*WORDS)
@pytest.mark.parametrize("folder", ["seen"], indirect=True)
def test_a_new_run(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(case, folder, capsys, monkeypatch)


@pytest.mark.parametrize("folder", ["seen"], indirect=True)
@pytest.mark.parametrize(
    "change",
    [
        picture(Image.new("RGB", (9, 8), (1, 2, 3)).save),
        lambda folder: shutil.copy(folder / "pictures/train/a/0.png", folder / "pictures/train/a/3.png"),
        lambda folder: (folder / "pictures/train/a/0.png").rename(folder / "pictures/train/b/9.png"),
    ],
    ids=["an image repainted", "one more", "one of another class"],
)
def test_data_edited_since(
    change: Spoil, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(Case("", change, "was saved with data = '.*', here it is"), folder, capsys, monkeypatch)


@pytest.mark.parametrize("folder", ["interrupted"], indirect=True)
def test_two_runs_in_one_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_folder.locked(run_folder.open_run(folder / "run")):
        refused(Case("", nothing, "run is being trained by another process"), folder, capsys, monkeypatch)


@pytest.mark.parametrize(
    "folder, argv",
    [("interrupted", RESUME), ("finished", SAMPLE), ("finished", EMA),
     ("seen", TOY), ("seen", PHOTOS), ("seen", RESUME)],
    indirect=["folder"],
)  # fmt: skip
def test_control_unspoilt_it_succeeds(folder: Path, argv: tuple[str, ...]) -> None:
    assert main(argv) == 0


@pytest.mark.parametrize("folder", ["seen"], indirect=True)
def test_control_a_table_is_read(folder: Path) -> None:
    parquet([0, 1, 0, 1])(folder)
    assert main((*PHOTOS, "--data", "parquet", "--path", "tables")) == 0


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["interrupted"], indirect=True)
@pytest.mark.parametrize("what", ["flipped bit", "other threads", "JSON too deep", "not finished: sample"])
def test_in_a_process_of_its_own(what: str, folder: Path) -> None:
    [case] = [case for case in INTERRUPTED if case.what == what]
    case.spoil(folder)
    before = contents(folder)
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-m", "seminar.main", *case.argv], capture_output=True, text=True,
                          env=os.environ | root)  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1 and re.search(case.words, done.stderr), done.stderr
    assert contents(folder) == before


def _mount(*words: str) -> bool:
    return shutil.which("mount") is not None and subprocess.run(["mount", *words], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Any:
    """A disk of 64 KB, and a function that gives it other options: `size=8m`, `ro`."""
    place = tmp_path / "disk"
    place.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)):
        pytest.skip("no rights to mount a disk")
    try:
        yield place, lambda options: _mount("-o", f"remount,{options}", str(place))
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("folder", ["interrupted"], indirect=True)
@pytest.mark.parametrize("options, reason", [("size=64k", "No space left"), ("ro", "Read-only file system")])
def test_a_disk_that_takes_no_more(
    made: Path, folder: Path, disk: Any, options: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was written before is whole, and the run goes on to the same bits when there is room."""
    place, remount = disk
    shutil.copytree(folder / "run", place / "run")
    (place / "filler").write_bytes(bytes(4096 * (os.statvfs(place).f_bavail - 1)))
    checkpoints = contents(place / "run" / "checkpoints")
    remount(options)
    again = ("train", "--resume", str(place / "run"), "--quiet")
    assert main(again) != 0
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and reason in told, told
    assert contents(place / "run" / "checkpoints") == checkpoints
    remount("rw,size=8m")
    assert main(again) == 0
    for name in ("ema.safetensors", "weights.safetensors"):
        assert (place / "run" / name).read_bytes() == (made / "finished" / "run" / name).read_bytes()


@pytest.mark.parametrize("folder", ["finished"], indirect=True)
def test_a_snapshot_by_another_name_is_no_snapshot(folder: Path) -> None:
    (folder / STORED).rename(folder / "run/averages/step-mine.safetensors")
    with pytest.raises(ValueError, match="step-mine"):
        averages.reconstruct("run", 0.07)


def test_the_config_says_which_run_it_is(made: Path) -> None:
    assert rtoml.loads((made / "finished" / "run" / CONFIG).read_text())["hash"] == f"{recipes.fingerprint(TINY)}-s0"
