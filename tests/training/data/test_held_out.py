"""Where data have no test split, some images are held out of training: always the same, and a run is judged by them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from seminar.main import main
from training import loop, recipes
from training.data import catalog
from training.data.held_out import Part, divided
from training.data.source import Memory, Source
from training.recipes import ImageRecipe
from training.recipes.classifier import of_data

N = 40
SMALL = {"size": 8, "steps": 2, "batch": 8, "channels": (8,), "attention": (True,), "head": 8, "save_every": 1}


@pytest.fixture(autouse=True)
def opened_afresh() -> None:
    catalog.open_source.cache_clear()


def pixels(i: int) -> np.ndarray:
    return np.full((8, 8), 5 * i, np.uint8)


def pictures(where: Path, numbers: range = range(N)) -> Path:
    """Images i.png, all of value 5 i."""
    where.mkdir(parents=True, exist_ok=True)
    for i in numbers:
        Image.fromarray(pixels(i)).save(where / f"{i}.png")
    return where


def recipe(path: Path | str, **settings: Any) -> ImageRecipe:
    found = recipes.change(
        recipes.find("images.digits-unet"), **{"data": "folder", **SMALL, **settings}, path=str(path)
    )
    assert isinstance(found, ImageRecipe)
    return found


def values(source: Source) -> list[int]:
    """Which images these are."""
    return (source.images(torch.arange(len(source)))[:, 0, 0, 0] // 5).tolist()


def table(path: Path, **columns: Any) -> Path:
    files = [(path / f"{i}.png").read_bytes() for i in range(N)]
    pq.write_table(pa.table({"image": files, **columns}), path / "all.parquet")
    return path / "all.parquet"


def saved(path: Path) -> Path:
    cells = {"image": [{"bytes": (path / f"{i}.png").read_bytes(), "path": None} for i in range(N)]}
    data = datasets.Dataset.from_dict(cells, features=datasets.Features({"image": datasets.Image()}))
    datasets.DatasetDict({"train": data}).save_to_disk(path / "saved")
    return path / "saved"


KINDS: dict[str, Callable[[Path], Path]] = {"folder": lambda path: path, "parquet": table, "hub:a/b": saved}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_both_parts_are_disjoint_and_together_everything(kind: str, share: float, tmp_path: Path) -> None:
    path = KINDS[kind](pictures(tmp_path))
    asked = recipe(path, data=kind, held_out=share)
    learned, out = values(catalog.learned_from(asked)), values(catalog.held_out(asked))
    assert sorted(learned + out) == list(range(N)) and learned and out


def test_an_image_is_chosen_by_its_name_alone(tmp_path: Path) -> None:
    """Wherever the folder lies, whatever else is in it, and however it is written; here by the rule itself."""
    here, there = pictures(tmp_path / "here"), pictures(tmp_path / "there", range(0, N, 2))
    out = values(catalog.held_out(recipe(here, held_out=0.3)))
    assert values(catalog.held_out(recipe(there, held_out=0.3))) == [i for i in out if i % 2 == 0]
    assert values(catalog.held_out(recipe(f"{here}/../here/", held_out=0.3))) == out

    def chance(name: str) -> float:
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, person=b"held out").digest(), "little")

    assert sorted(out) == [i for i in range(N) if chance(f"{i}.png") < 0.3 * 2**64]
    pictures(tmp_path / "classes" / "a" / "b")
    out_of_class = values(catalog.held_out(recipe(tmp_path / "classes", held_out=0.3)))
    assert sorted(out_of_class) == [i for i in range(N) if chance(f"a/b/{i}.png") < 0.3 * 2**64] != sorted(out)
    more = values(catalog.held_out(recipe(here, held_out=0.5)))
    assert set(out) < set(more)


def test_a_share_is_one(tmp_path: Path) -> None:
    """Of 40,000 images, 4000 +- 5 standard deviations of 60."""
    whole = Memory(torch.zeros(40_000, 1, 1, 1, dtype=torch.uint8))
    assert abs(len(divided(whole, 0.1)[1]) - 4000) < 300
    assert [len(part) for part in divided(whole, 0.0)] == [40_000, 0]


def test_a_part_is_the_images_with_their_labels() -> None:
    whole = Memory(torch.arange(N, dtype=torch.uint8).reshape(N, 1, 1, 1), torch.arange(N) + 1, N + 1)
    for part in divided(whole, 0.4):
        numbers = part.images(torch.arange(len(part))).flatten()
        assert part.labels(torch.tensor([2, 0])).tolist() == [int(numbers[2]) + 1, int(numbers[0]) + 1]
        assert (part.classes, part.shape, len(part.known_as)) == (N + 1, (1, 1, 1), len(part))
        again = divided(part, 0.4)  # the names are those of the whole
        assert {len(each) for each in again} == {0, len(part)}


def test_the_fingerprint_says_what_is_held_out() -> None:
    one, other = (Memory(torch.full((N, 1, 1, 1), value, dtype=torch.uint8)) for value in (0, 1))
    told = [part.fingerprint for part in (*divided(one, 0.3), *divided(one, 0.6), *divided(other, 0.3))]
    assert len({*told, one.fingerprint, other.fingerprint}) == 8
    assert divided(one, 0.3)[0].fingerprint == told[0]


@pytest.mark.slow
def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    asked = recipe(pictures(tmp_path))
    code = (
        "import sys; from training import recipes; from training.data import catalog; "
        "r = recipes.change(recipes.find('images.digits-unet'), data='folder', path=sys.argv[1], batch=8); "
        "print(catalog.learned_from(r).fingerprint, catalog.held_out(r).fingerprint)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": salt, "PYTHONPATH": str(Path(__file__).parents[3])},
        ).stdout.strip()
        for salt in ("1", "2")
    }  # fmt: skip
    assert told == {f"{catalog.learned_from(asked).fingerprint} {catalog.held_out(asked).fingerprint}"}


def test_a_split_of_its_own_is_used_and_a_share_refused(tmp_path: Path) -> None:
    pictures(tmp_path / "train", range(30))
    pictures(tmp_path / "test", range(30, N))
    asked = recipe(tmp_path)
    assert sorted(values(catalog.learned_from(asked))) == list(range(30))
    assert sorted(values(catalog.held_out(asked))) == list(range(30, N))
    assert not isinstance(catalog.learned_from(asked), Part)
    for data, path in (("folder", tmp_path), ("digits", "")):
        for use in (catalog.learned_from, catalog.held_out):
            with pytest.raises(ValueError, match=r"\Aheld_out = 0.2: .* has a split to judge by: leave held_out out\Z"):
                use(recipe(path, data=data, held_out=0.2))
    assert len(catalog.learned_from(recipe(tmp_path, held_out=0))) == 30  # nothing of them is
    other = recipe(tmp_path, split="test")
    assert sorted(values(catalog.learned_from(other))) == list(range(30, N))
    assert sorted(values(catalog.held_out(other))) == list(range(30))


def test_a_split_that_is_not_there_is_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no split 'test'"):
        catalog.learned_from(recipe(pictures(tmp_path), split="test"))
    with pytest.raises(ValueError, match="does not exist"):
        catalog.learned_from(recipe(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="folder needs a path"):
        catalog.learned_from(recipe(""))


def test_a_share_of_few_images_that_takes_none_or_all(tmp_path: Path) -> None:
    pictures(tmp_path, range(3))
    for share in (None, 0.9):
        learned, out = (len(part) for part in divided(catalog.learned(recipe(tmp_path, held_out=0)), share or 0.1))
        assert not (learned and out)  # or else take other names
        with pytest.raises(ValueError, match=rf"takes {out} of the 3 images .* or 0 to learn from all\Z"):
            catalog.learned_from(recipe(tmp_path, held_out=share, batch=1))


def test_a_batch_larger_than_what_is_left(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has 3\d images to learn from, batch = 40: choose a smaller batch"):
        catalog.learned_from(recipe(pictures(tmp_path), batch=N))
    assert len(catalog.learned_from(recipe(tmp_path, batch=N, held_out=0))) == N


@pytest.mark.parametrize("share", [-0.1, 0.95, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(ValueError, match="held_out"):
        recipe("x", held_out=share)


def test_the_classifier_that_fid_looks_through_holds_out_the_same(tmp_path: Path) -> None:
    asked = recipe(pictures(tmp_path), held_out=0.3)
    assert values(catalog.held_out(of_data(asked))) == values(catalog.held_out(asked))


def test_of_an_imported_model_nothing_is_taken_for_held_out(tmp_path: Path) -> None:
    """Who trained it may have seen all."""
    imported = recipes.find("imported.diffusers")
    assert isinstance(imported, ImageRecipe)
    asked = recipes.change(imported, path=str(pictures(tmp_path)), colour="grey", size=8)
    assert isinstance(asked, ImageRecipe)
    assert len(catalog.learned_from(asked)) == N
    with pytest.raises(ValueError, match="has no test split"):
        catalog.held_out(asked)


# ------------------------------------------------------------------------------------------------ runs


@pytest.mark.slow
def test_a_run_learns_from_none_of_them_and_is_resumed_with_the_same(tmp_path: Path) -> None:
    asked = recipe(pictures(tmp_path / "data"), held_out=0.3)
    folder = loop.train(asked, tmp_path / "run", quiet=True).folder
    (folder / "ema.safetensors").unlink()  # as if it had been stopped short
    catalog.open_source.cache_clear()
    assert loop.resume(folder, quiet=True).finished
    (folder / "ema.safetensors").unlink()
    out = values(catalog.held_out(asked))
    Image.fromarray(pixels(0)).save(tmp_path / "data" / f"{out[0]}.png")
    catalog.open_source.cache_clear()
    with pytest.raises(ValueError, match="data"):  # what it is to be judged by was edited
        loop.resume(folder, quiet=True)


@pytest.mark.slow
def test_through_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run on a folder without a test split is judged by what was held out, or says what to do."""
    path = pictures(tmp_path / "data")
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if not isinstance(value, tuple)]
    train = ["train", "images.digits-unet", "--data", "folder", "--path", str(path), *flags, "--channels", "8",
             "--attention", "True", "--quiet"]  # fmt: skip
    judge = ["--bits", "--memorisation", "--n", "4", "--bits-n", "2", "--chain", "2"]
    assert main([*train, "--held-out", "0.4", "--out", str(tmp_path / "run")]) == 0
    assert main(["evaluate", str(tmp_path / "run"), *judge]) == 0
    assert "held-out" in capsys.readouterr().out
    assert main([*train, "--held-out", "0", "--out", str(tmp_path / "all")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "all"), *judge]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "has no test split" in line and "held_out = 0.1" in line
    assert not (tmp_path / "all" / "evaluation").exists()
