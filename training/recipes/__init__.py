"""Recipes: everything a training run is made from, as frozen data that loads without torch.

A recipe is a flat table of named settings; `RECIPES` holds the ready ones by name (`toy.ring`, ...). The part of the
name before the dot is the family: `training/families/<family>.py` turns a recipe of that family into a network,
batches, a loss and a preview, and `training/loop.py` trains it. A new kind of data is a dataclass here, a module there.

A run is repeated from its recipe and seed alone, so a recipe says nothing about the machine, and what it says is
checked when it is made: a misspelt key, a negative batch or a learning rate that is no number is one clear line here.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from training.recipes.base import Recipe
from training.recipes.classifier import CLASSIFIERS, ClassifierRecipe
from training.recipes.distill import DISTILLATIONS
from training.recipes.images import IMAGES, ImageRecipe
from training.recipes.imported import IMPORTED
from training.recipes.latent import LATENTS
from training.recipes.toy import TOYS, ToyRecipe

__all__ = [
    "RECIPES",
    "ClassifierRecipe",
    "ImageRecipe",
    "Recipe",
    "ToyRecipe",
    "as_table",
    "change",
    "find",
    "fingerprint",
    "from_table",
]

RECIPES: dict[str, Recipe] = {**TOYS, **IMAGES, **CLASSIFIERS, **DISTILLATIONS, **IMPORTED, **LATENTS}


def find(name: str) -> Recipe:
    """The recipe of that name; ValueError with the nearest names when there is none."""
    if name not in RECIPES:
        raise ValueError(f"recipe {name!r} is unknown{_suggestion(name, RECIPES)}")
    return RECIPES[name]


def change(recipe: Recipe, **settings: Any) -> Recipe:
    """The recipe with some settings changed; ValueError for a setting it does not have or a value it can't take."""
    known = [field.name for field in dataclasses.fields(recipe)]
    for key in settings:
        if key not in known:
            raise ValueError(f"setting {key!r} is unknown to {recipe.name}{_suggestion(key, known)}")
    return dataclasses.replace(recipe, **settings)


def from_table(table: Mapping[str, Any]) -> Recipe:
    """The recipe that a table (`as_table`, or a config.toml) describes; every setting must be there, and no other.

    A setting that may be None is, where it is not there.
    """
    if "name" not in table:
        raise ValueError("the recipe's table has no name")
    ready = find(table["name"])
    table = {field.name: None for field in dataclasses.fields(ready) if field.default is None} | dict(table)
    recipe = change(ready, **table)
    if missing := [field.name for field in dataclasses.fields(recipe) if field.name not in table]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"the recipe's table lacks {', '.join(missing[:3])}{more}")
    return recipe


def as_table(recipe: Recipe) -> dict[str, Any]:
    """All settings but those that are None, which TOML has no word for."""
    return {name: value for name, value in dataclasses.asdict(recipe).items() if value is not None}


def fingerprint(recipe: Recipe) -> str:
    """Eight hex digits that name the recipe's contents: blake2b of its sorted JSON."""
    contents = json.dumps(dataclasses.asdict(recipe), sort_keys=True)
    return hashlib.blake2b(contents.encode(), digest_size=4).hexdigest()


def _suggestion(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known)}"
