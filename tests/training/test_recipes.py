"""Recipes refuse nonsense in one line, and name the registries they speak of."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from diffusion.losses import LOSS_WEIGHTS
from diffusion.parameterization import PARAMETERIZATIONS
from diffusion.schedules import SCHEDULES
from toy.worlds import WORLDS
from training import recipes, run_folder
from training.optimization import learning_rate
from training.recipes import ImageRecipe, settings, toy

RING = recipes.find("toy.ring")


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_choices_are_the_registries() -> None:
    assert set(toy.WORLDS) == set(WORLDS)
    assert set(get_args(settings.Parameterization)) == set(PARAMETERIZATIONS)
    assert set(get_args(settings.Schedule)) == set(SCHEDULES)
    assert set(get_args(settings.Weights)) == {"unit", *LOSS_WEIGHTS}


@pytest.mark.parametrize(
    "setting, value",
    [
        ("batch", -1),
        ("batch", 0),
        ("batch", 2.5),
        ("batch", True),
        ("steps", 0),
        ("steps", "many"),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", 0.0),
        ("lr", -1e-3),
        ("ema", 1.5),
        ("ema", math.nan),
        ("clip", 0),
        ("clip", math.nan),
        ("clip", -math.inf),
        ("beta1", 1.0),
        ("beta2", 1.0),
        ("beta2", -0.1),
        ("steps", 10**13),
        ("ema", (0.1, 0.1)),
        ("snapshots", 8001),
        ("width", 0),
        ("earliest", 0.0),
        ("latest", 1.0),
        ("parameterization", "noise"),
        ("schedule", "linear"),
        ("weights", "uniform"),
        ("log_every", 0),
        ("ema", (0.1, 0.3)),
        ("ema", (0.1, "wide")),
    ],
)
def test_bad_values_are_named(setting: str, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        recipes.change(RING, **{setting: value})
    assert setting in one_line(error)
    assert str(value if not isinstance(value, tuple) else value[-1]) in one_line(error)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_every_setting_is_explained(name: str) -> None:
    """In a sentence of its own or of the class that it comes from; and whatever is idle is a setting."""
    recipe = recipes.find(name)
    fields = {field.name for field in dataclasses.fields(recipe)} - {"name"}
    told = settings.explanations(type(recipe))
    assert told.keys() == fields
    assert all(words.endswith(".") and len(words) > 10 for words in told.values())
    assert recipe.idle().keys() <= fields


def test_what_is_idle_follows_the_other_settings() -> None:
    digits, code = recipes.find("images.digits-unet"), recipes.find("latent.autoencoder")
    assert digits.idle().keys() == {"lr_flat", "label_dropout", "patch", "times_mean", "times_std"}
    assert recipes.change(digits, lr_decay="inverse_sqrt", classes=10, times="lognormal").idle().keys() == {"patch"}
    assert recipes.change(code, kind="vq").idle().keys() == {"lr_flat"} == code.idle().keys() - {"codes"}


def test_a_gradient_may_go_uncut(tmp_path: Path) -> None:
    """As EDM's: `inf` stands in config.toml and is read from it again."""
    recipe = recipes.find("images.cifar10-edm")
    assert recipe.clip == math.inf
    assert run_folder.create(tmp_path / "run", recipe, 0) == run_folder.open_run(tmp_path / "run")
    assert "clip = inf" in (tmp_path / "run" / run_folder.CONFIG).read_text()


def test_times_in_order() -> None:
    with pytest.raises(ValueError, match=r"earliest = 0\.5.*latest = 0\.4"):
        recipes.change(RING, earliest=0.5, latest=0.4)
    with pytest.raises(ValueError, match=r"earliest = 0\.5.*latest = 0\.5"):
        recipes.change(RING, earliest=0.5, latest=0.5)


def test_misspelt_setting_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"'widht' is unknown.*did you mean width") as error:
        recipes.change(RING, widht=3)
    one_line(error)


def test_unknown_recipe_gets_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"'toy.rnig' is unknown.*toy\.ring"):
        recipes.find("toy.rnig")


def test_table_must_be_complete_and_nothing_more() -> None:
    table = dataclasses.asdict(RING)
    assert recipes.from_table(table) == RING
    with pytest.raises(ValueError, match="lacks lr"):
        recipes.from_table({key: value for key, value in table.items() if key != "lr"})
    with pytest.raises(ValueError, match="'momentum' is unknown"):
        recipes.from_table(table | {"momentum": 0.9})


def test_fingerprint_sees_every_setting() -> None:
    changed = {
        field.name: recipes.change(RING, **{field.name: _other(getattr(RING, field.name))})
        for field in dataclasses.fields(RING)
        if isinstance(getattr(RING, field.name), int | float)
    }
    words = {"schedule": "flow", "parameterization": "eps", "weights": "elbo", "optimizer": "adamw",
             "lr_decay": "linear", "precision": "bf16", "ema": (0.05,)}  # fmt: skip
    changed |= {name: recipes.change(RING, **{name: value}) for name, value in words.items()}
    assert changed.keys() | {"name"} == {field.name for field in dataclasses.fields(RING)}
    changed["name"] = recipes.find("toy.grid")
    prints = {recipes.fingerprint(recipe) for recipe in changed.values()} | {recipes.fingerprint(RING)}
    assert len(prints) == len(changed) + 1


def test_the_other_split_is_the_other() -> None:
    digits = recipes.find("images.digits-unet")
    assert isinstance(digits, ImageRecipe)
    assert digits.other_split == "test"
    assert dataclasses.replace(digits, split="test").other_split == "train"


def _other(value: float) -> float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else value * 0.999 + 1e-7


def test_integers_do_for_floats() -> None:
    assert recipes.change(RING, lr=1) == recipes.change(RING, lr=1.0)


def test_recipes_load_without_torch() -> None:
    code = "import sys, training.recipes; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_learning_rate_at_its_ends() -> None:
    recipe = recipes.change(RING, steps=1000, warmup=0.1, lr=0.5)
    assert learning_rate(0, recipe) == 0.5 / 100
    assert learning_rate(99, recipe) == 0.5
    assert learning_rate(100, recipe) == 0.5
    assert learning_rate(550, recipe) == pytest.approx(0.25)  # half way down the cosine
    assert learning_rate(999, recipe) > 0
    assert learning_rate(1000, recipe) == 0
    assert all(learning_rate(k, recipe) > learning_rate(k + 1, recipe) for k in range(100, 1000))


@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_learning_rate_without_one_of_its_parts(warmup: float) -> None:
    recipe = recipes.change(RING, steps=10, warmup=warmup, lr=0.5)
    rates = [learning_rate(k, recipe) for k in range(10)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert max(rates) == 0.5


@pytest.mark.parametrize("warmup", [0.03, 0.15, 0.17, 0.95])
def test_a_warmup_is_never_steeper_than_asked(warmup: float) -> None:
    """Where it is no whole number of steps, too."""
    recipe = recipes.change(RING, steps=10, warmup=warmup, lr=0.5, lr_decay="constant")
    assert all(learning_rate(k, recipe) <= 0.5 * min(1, (k + 1) / (warmup * 10)) for k in range(10))
