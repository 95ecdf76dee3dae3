"""The classifier family, and what FID and KID see through it."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from toy.frechet import frechet
from training import loop, recipes, run_folder, runs
from training.data import catalog
from training.data.digits import digits
from training.data.source import Memory
from training.evaluation import features, kid
from training.families import classifier
from training.recipes.classifier import of_data

TINY = {"steps": 80, "channels": (8, 16), "features": 12, "log_every": 40, "save_every": 80}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = recipes.change(recipes.find("classifier.digits"), **TINY)
    return loop.train(recipe, tmp_path_factory.mktemp("classifier") / "run", quiet=True).folder


@pytest.fixture(scope="module")
def eye(run: Path) -> features.Eye:
    return features.open_eye(str(run), recipes.find("images.digits-unet"), say=lambda line: None)


def test_it_learns_and_says_how_well(run: Path) -> None:
    """A guess is right in a tenth of the cases, and a fraction 0.1 +- 0.02 of 300."""
    report = json.loads((run / "accuracy.json").read_text())
    assert report["images"] == 300 and report["accuracy"] > 0.85
    folder = runs.finished(run)
    task = classifier.build(folder.recipe)
    confusion = task.confusion(runs.trained_network(folder, task))
    assert (
        confusion.sum(1).tolist() == digits("test").labels(torch.arange(300)).bincount().tolist()
    )  # rows: true classes
    assert int(confusion.trace()) / 300 == report["accuracy"]
    with Image.open(run / "confusion.png") as picture:
        assert picture.format == "PNG"


def test_an_images_features_are_its_own(eye: features.Eye) -> None:
    """Of mean 0 and variance 1, the same in any company, and read off before dropout."""
    images = digits("test").pixels
    seen = eye.look(images)
    assert seen.dtype == torch.float64 and seen.shape == (300, 12)
    torch.testing.assert_close(seen[17:19], eye.look(images[17:19]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen.mean(1), torch.zeros(300).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.var(1, correction=0), torch.ones(300).double(), atol=1e-2, rtol=0)


def noise(n: int) -> Tensor:
    return torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


def test_fid_and_kid_put_images_in_order(eye: features.Eye) -> None:
    """Itself, then images not learned from, then two classes too few, then noise: each more than twice as far."""
    test, train = digits("test"), digits("train")
    labels = test.labels(torch.arange(300))
    few = test.pixels[labels < 8]
    of_test, of_train, of_few, of_noise = (eye.look(x) for x in (test.pixels, train.pixels, few, noise(300)))
    itself, held_out, missing, far = (float(frechet(x, y)) for x, y in (
        (of_test, of_test), (of_test, of_train), (of_few, of_train), (of_noise, of_train),
    ))  # fmt: skip
    assert abs(itself) < 1e-8
    assert 0 < 4 * held_out < 2 * missing < far
    kids = [kid.kid(x, of_train) for x in (of_test, of_few, of_noise)]
    assert kids[0].lower < 0.02 and kids[0].upper < kids[1].lower and kids[1].upper < kids[2].lower


@pytest.mark.slow
def test_a_classifier_is_trained_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = recipes.change(recipes.find("classifier.digits"), **TINY | {"steps": 4, "save_every": 4, "log_every": 2})
    monkeypatch.setattr(features, "of_data", lambda recipe: tiny)
    said: list[str] = []
    first = features.open_eye(None, recipes.find("images.digits-unet"), said.append)
    assert len(said) == 1 and "training it now, once, 4 steps: runs/classifier.digits-" in said[0]
    again = features.open_eye(None, recipes.find("images.digits-unet"), said.append)
    assert len(said) == 1 and again.name == first.name
    [folder] = (tmp_path / "runs").iterdir()
    (folder / "ema.safetensors").unlink()  # as if it had been stopped short: it goes on
    resumed = features.open_eye(None, recipes.find("images.digits-unet"), said.append)
    assert len(said) == 2 and resumed.name == first.name
    monkeypatch.setattr(features, "of_data", lambda recipe: recipes.change(tiny, lr=1e-4))
    assert features.open_eye(None, recipes.find("images.digits-unet"), said.append).name != first.name


def test_the_classifier_is_of_the_same_pixels() -> None:
    recipe = recipes.find("images.cifar10-unet")
    found = of_data(recipes.change(recipe, path="/data", size=16))
    assert (found.name, found.data, found.path, found.shape) == ("classifier.images", "cifar10", "/data", (3, 16, 16))
    assert of_data(recipes.find("images.digits-unet")) == recipes.find("classifier.digits")
    assert recipes.from_table(vars(found)) == found  # a run can be made of it, and opened again


def test_a_block_adds_to_what_it_is_given() -> None:
    block, x = classifier.Block(4), torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(block(x), x)
    for parameter in block.second.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(block(x), x)


def test_classes_are_those_of_both_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class of which there is nothing to learn can still be held out, and the matrix has a row for it."""
    pixels = torch.zeros(64, 1, 8, 8, dtype=torch.uint8)
    for of_train, of_test in ((2, 3), (3, 2)):
        classes = {"train": of_train, "test": of_test}
        monkeypatch.setattr(
            catalog,
            "open_source",
            lambda data, path, split, *_, classes=classes: Memory(pixels, torch.zeros(64).long(), classes[split]),
        )
        task = classifier.build(recipes.change(recipes.find("classifier.digits"), **TINY))
        assert task.network()(torch.zeros(2, 1, 8, 8)).shape == (2, 3)
        assert task.confusion(task.network()).shape == (3, 3)


def saved(folder: Path, name: str, pixels: Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.numpy()).save(folder / name)


def test_bad_eyes(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    digit = recipes.find("images.digits-unet")
    (tmp_path / "inception.pt").write_bytes(b"PK")
    pictures = tmp_path / "pictures"
    for i in range(3):
        saved(pictures / "train", f"{i}.png", digits("train").pixels[i, 0])
        saved(pictures / "test", f"{i}.png", digits("test").pixels[i, 0])
    unlabelled = recipes.change(digit, data="folder", path=str(pictures))
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    cases = {
        "a file is not loaded": (str(tmp_path / "inception.pt"), digit),
        "no run folder": (str(tmp_path / "nowhere"), digit),
        "1 x 8 x 8, the run's are of 1 x 16 x 16": (str(run), recipes.change(digit, size=16)),
        "needs torch-fidelity": ("inception", digit),
        "give --features": (None, unlabelled),
    }
    for told, (given, recipe) in cases.items():
        with pytest.raises(ValueError, match=told) as caught:
            features.open_eye(given, recipe, say=lambda line: None)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_run_of_another_family_is_no_eye(tmp_path: Path) -> None:
    recipe = recipes.change(recipes.find("toy.ring"), steps=1, batch=8, width=4, depth=1)
    folder = run_folder.create(tmp_path / "ring", recipe, 0)
    with pytest.raises(ValueError, match="is not finished"):
        features.open_eye(str(folder.path), recipes.find("images.digits-unet"), say=lambda line: None)
    folder.ema.touch()
    with pytest.raises(ValueError, match=r"a run of toy\.ring, expected one of a classifier"):
        features.open_eye(str(folder.path), recipes.find("images.digits-unet"), say=lambda line: None)


def test_inception_sees_grey_images_in_three_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in of torch-fidelity's interface: made of name and features, called with uint8 [n, 3, h, w]."""

    class Extractor:
        def __init__(self, name: str, wanted: list[str]) -> None:
            assert (name, wanted) == ("inception-v3-compat", ["2048"])

        def __call__(self, x: Tensor) -> tuple[Tensor]:
            assert x.dtype == torch.uint8 and x.shape[1] == 3 and len(x) <= features.TOGETHER
            return (x.float().flatten(1),)

    module = types.ModuleType("torch_fidelity.feature_extractor_inceptionv3")
    module.FeatureExtractorInceptionV3 = Extractor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_fidelity", types.ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    eye = features.open_eye("inception", recipes.find("images.digits-unet"), say=lambda line: None)
    images = digits("test").pixels
    assert torch.equal(eye.look(images), images.double().flatten(1).repeat(1, 3))


def test_unlabelled_data_make_no_classifier(tmp_path: Path) -> None:
    for split in ("train", "test"):
        saved(tmp_path / split, "0.png", digits("train").pixels[0, 0])
    recipe = recipes.change(
        recipes.find("classifier.images"), data="folder", path=str(tmp_path), size=8, colour="grey", batch=1
    )
    with pytest.raises(ValueError, match="has no train labels"):
        loop.train(recipe, tmp_path / "run", quiet=True)


@pytest.mark.parametrize("settings, told", [({"size": 1}, "size = 1"), ({"features": 1}, "features = 1")])
def test_bad_classifiers(settings: dict[str, int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recipes.change(recipes.find("classifier.digits"), **settings)
