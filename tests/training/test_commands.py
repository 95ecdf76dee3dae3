"""The commands hand on every word they are told, and say how it ended."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from seminar.main import main
from training import loop, recipes, runs
from training.families import denoising
from training.interop import export, importing
from training.loop import Outcome
from training.recipes import settings

Asked = list[tuple[Any, ...]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the functions behind the commands are called with; a run is told to have stopped at step 7 of 20."""
    calls: Asked = []

    def instead(module: Any, name: str, answer: Any) -> None:
        monkeypatch.setattr(module, name, lambda *given, **how: calls.append((name, given, how)) or answer)

    stopped = Outcome(Path("RUN"), start=0, step=7, steps=20, loss=0.5, seconds=1.0)
    instead(loop, "train", stopped)
    instead(loop, "resume", stopped)
    instead(export, "export", export.Exported(Path("OUT"), None, ("unet", "scheduler"), ("a note",)))
    instead(importing, "import_folder", importing.RunFolder(Path("RUN"), recipes.find("imported.diffusers"), 0))
    return calls


def test_train(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """Zeros and what is the recipe's already among the settings, and all that is no setting."""
    settings = ["--warmup", "0", "--lr", "0.01", "--ema", "0.05", "0.1", "--batch", "2048", "--lr-decay", "linear"]
    machine = ["--out", "RUN", "--seed", "5", "--seconds", "8", "--workers", "2", "--track", "wandb", "--quiet"]
    assert main(["train", "toy.ring", *settings, *machine]) == 0
    recipe = recipes.change(recipes.find("toy.ring"), warmup=0.0, lr=0.01, ema=(0.05, 0.1), lr_decay="linear")
    how = {"out": Path("RUN"), "seed": 5, "seconds": 8.0, "workers": 2, "track": "wandb", "quiet": True}
    assert asked == [("train", (recipe,), how)]
    told = capsys.readouterr().out
    assert "step 7 of 20" in told and "stopped; go on with: seminar train --resume RUN" in told


@pytest.mark.parametrize(
    ("start", "step", "loss", "told"),
    [
        (0, 20, 0.5, "step 20 of 20 in 1.0 s, loss 0.5: RUN"),
        (20, 20, 0.5, "step 20 of 20 in 1.0 s, loss 0.5: RUN (it had ended before: nothing was left to do)"),
        (0, 1, None, "step 1 of 20 in 1.0 s: RUN (stopped; go on with: seminar train --resume RUN)"),
    ],
)
def test_train_says_how_it_ended(
    start: int, step: int, loss: float | None, told: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(loop, "train", lambda *_, **__: Outcome(Path("RUN"), start, step, 20, loss, 1.0))
    assert main(["train", "toy.ring"]) == 0
    assert capsys.readouterr().out == told + "\n"


@pytest.mark.parametrize("name", ["toy.ring", "images.digits-unet", "classifier.digits", "latent.autoencoder"])
def test_help_says_of_every_setting_what_it_is(name: str, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the recipe's own words, with its own value and the choices in their own order; None is never one of them."""
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        main(["train", name, "--help"])
    assert ended.value.code == 0
    told = " ".join(re.sub("[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    recipe = recipes.find(name)
    for setting, words in settings.explanations(type(recipe)).items():
        assert f" --{setting.replace('_', '-')} " in told
        assert f" {words} (default: " in told
    assert f"makes. (default: {recipe.steps})" in told and f"at its highest. (default: {recipe.lr})" in told
    assert "{cosine,linear,inverse_sqrt,constant}" in told
    assert "None" not in told


@pytest.mark.parametrize("words", [["--resume", "RUN"], ["--resume=RUN"]])
def test_resume(asked: Asked, words: list[str]) -> None:
    assert main(["train", *words]) == 0
    assert main(["train", "--workers", "3", "--allow-inexact", "--track", "trackio", "--quiet", *words]) == 0
    plain = {"quiet": False, "allow_inexact": False, "workers": 0, "track": None}
    told = {"quiet": True, "allow_inexact": True, "workers": 3, "track": "trackio"}
    assert asked == [("resume", (Path("RUN"),), how) for how in (plain, told)]


def test_two_ways_to_say_how_long(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "toy.ring", "--steps", "5", "--seconds", "8"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert not asked


@pytest.mark.parametrize("n, told", [(1, "1 sample: "), (2, "2 samples: ")])
def test_sample(n: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(runs, "sample_run", lambda *_, **how: torch.zeros(how["n"], 2))
    assert main(["sample", "RUN", "--n", str(n), "--out", str(tmp_path / "drawn.png")]) == 0
    assert capsys.readouterr().out.startswith(told)


@pytest.mark.parametrize(
    "labels, told", [([12, 12], "label 12: expected 0 to 9"), ([-1, 10], "labels -1 to 10: expected")]
)
def test_labels_that_there_are_not(labels: list[int], told: str) -> None:
    denoising.check_labels(torch.tensor([0, 9]), 10, "a")
    with pytest.raises(ValueError, match=told):
        denoising.check_labels(torch.tensor(labels), 10, "a")


def test_export(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "RUN"]) == 0
    assert main(["export", "RUN", "--out", "OUT", "--weights", "last"]) == 0
    assert asked == [("export", (Path("RUN"), *how), {}) for how in ((None, "ema"), (Path("OUT"), "last"))]
    told = capsys.readouterr().out
    assert "OUT: unet, scheduler; no pipeline, load part by part" in told and "a note" in told


def test_import(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--out", "RUN", "--scheduler", "S", "--data", "cifar10", "--path", "P", "--classes", "9", "--std", "0.4"]
    assert main(["import", "FOLDER", *words]) == 0
    how = {"folder": Path("FOLDER"), "out": Path("RUN"), "scheduler": Path("S"), "data": "cifar10", "path": "P",
           "classes": 9, "std": 0.4}  # fmt: skip
    assert asked == [("import_folder", (), how)]
    assert "go on with: seminar sample RUN" in capsys.readouterr().out
