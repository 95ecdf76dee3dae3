"""Recipes: everything a training run is made from, as frozen data that loads without torch.

A recipe is a flat table of named settings; `RECIPES` holds the ready ones by name (`toy.ring`, ...). The part of the
name before the dot is the family: `training/<family>.py` turns a recipe of that family into a network, a loss and a
preview, and `training/loop.py` trains it. A new kind of data is a new dataclass here and a new module there.

A run is repeated from its recipe and seed alone, so a recipe says nothing about the machine, and what it says is
checked when it is made: a misspelt key, a negative batch or a learning rate that is no number is one clear line here.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

Parameterization = Literal["eps", "x0", "v", "score", "velocity"]
Schedule = Literal["vp_linear", "sub_vp", "cosine", "flow", "ve", "edm", "ddpm_linear", "ddpm_cosine"]
Weights = Literal["unit", "plain", "simple", "elbo", "min_snr", "truncated_snr", "p2", "edm", "sigmoid", "laplace"]


@dataclass(frozen=True)
class Between:
    """The legal interval of a number; `open_low` leaves its lower end out."""

    low: float
    high: float = math.inf
    open_low: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.open_low else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        above = f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        return above if self.high == math.inf else f"{above} and at most {self.high:g}"


Count = Annotated[int, Between(1)]
Positive = Annotated[float, Between(0, 1e300, open_low=True)]
Fraction = Annotated[float, Between(0, 1)]
Interior = Annotated[float, Between(0, 1 - 1e-6, open_low=True)]


def _checked(name: str, value: Any, hint: Any) -> Any:
    """The value as the type its annotation names (an integer will do for a float), inside its interval or choices."""
    interval = None
    if get_origin(hint) is Annotated:
        hint, interval = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} = {value!r}: expected one of {', '.join(get_args(hint))}")
        return value
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise TypeError(f"{name} = {value!r}: expected {hint.__name__}, got {type(value).__name__}")
    if interval is not None and value not in interval:
        raise ValueError(f"{name} = {value}: expected {interval}")
    return value


@dataclass(frozen=True)
class Recipe:
    """What the training loop itself needs, whatever the data; `ema` and `warmup` are fractions of `steps`."""

    name: str
    steps: Count = 8000
    batch: Count = 2048
    lr: Positive = 3e-3
    warmup: Fraction = 0.02  # of `steps`, linear from 0
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    clip: Positive = 1.0  # largest global norm of the gradient
    ema: Fraction = 0.1  # relative width of the weight average
    log_every: Count = 50
    save_every: Count = 1000

    def __post_init__(self) -> None:
        for field, hint in get_type_hints(type(self), include_extras=True).items():
            object.__setattr__(self, field, _checked(field, getattr(self, field), hint))

    @property
    def family(self) -> str:
        """The part of the name before the dot, which is also the module that builds it."""
        return self.name.partition(".")[0]


@dataclass(frozen=True)
class ToyRecipe(Recipe):
    """A small network on a world of `toy/`, whose exact answer is known."""

    parameterization: Parameterization = "v"
    schedule: Schedule = "cosine"
    weights: Weights = "unit"  # the squared error of targets brought to unit variance; the others: diffusion/losses.py
    width: Count = 64
    depth: Count = 3
    earliest: Interior = 1e-3  # times are drawn between these two, and samplers run from the later one
    latest: Interior = 0.998

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.earliest < self.latest:
            raise ValueError(f"earliest = {self.earliest}, latest = {self.latest}: expected earliest < latest")

    @property
    def world(self) -> str:
        """The part of the name after the dot: a key of toy.worlds.WORLDS."""
        return self.name.partition(".")[2]


WORLDS = (
    *("gaussian", "ring", "grid", "two_moons", "conditional_ring", "anisotropic", "spiral", "checkerboard", "points"),
)
RECIPES: dict[str, Recipe] = {f"toy.{world}": ToyRecipe(name=f"toy.{world}") for world in WORLDS}


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
    """The recipe that `dataclasses.asdict` (or a config.toml) describes; every setting must be there, and no other."""
    if "name" not in table:
        raise ValueError("the recipe's table has no name")
    recipe = change(find(table["name"]), **table)
    if missing := [field.name for field in dataclasses.fields(recipe) if field.name not in table]:
        raise ValueError(f"the recipe's table lacks {', '.join(missing)}")
    return recipe


def fingerprint(recipe: Recipe) -> str:
    """Eight hex digits that name the recipe's contents: blake2b of its sorted JSON."""
    contents = json.dumps(dataclasses.asdict(recipe), sort_keys=True)
    return hashlib.blake2b(contents.encode(), digest_size=4).hexdigest()


def _suggestion(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=3)
    return f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(known)}"
