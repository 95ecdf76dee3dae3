"""The values that settings take: a type, and an interval or a list of choices, checked when a recipe is made."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import math
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


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


MOST = 1e12  # steps, samples, channels: more can't be meant, and nothing overflows

Count = Annotated[int, Between(1, MOST)]
Several = Annotated[int, Between(2, MOST)]
Natural = Annotated[int, Between(0, MOST)]
Positive = Annotated[float, Between(0, 1e300, open_low=True)]
Clip = Annotated[float, Between(0, open_low=True)]
NotNegative = Annotated[float, Between(0, 1e300)]
Fraction = Annotated[float, Between(0, 1)]
BelowOne = Annotated[float, Between(0, 1 - 1e-6)]
Interior = Annotated[float, Between(0, 1 - 1e-6, open_low=True)]
Width = Annotated[float, Between(0, 0.288, open_low=True)]  # relative width of an average: all alike at 1/sqrt(12)

Parameterization = Literal["eps", "x0", "v", "score", "velocity"]
Schedule = Literal["vp_linear", "sub_vp", "cosine", "flow", "ve", "edm", "ddpm_linear", "ddpm_cosine"]
Weights = Literal["unit", "plain", "simple", "elbo", "min_snr", "truncated_snr", "p2", "edm", "sigmoid", "laplace"]


def explanations(recipe: type) -> dict[str, str]:
    """What stands below each setting of a recipe's class and of those that it is made from: a flag's help."""
    told: dict[str, str] = {}
    for kind in reversed(recipe.__mro__):
        if not dataclasses.is_dataclass(kind):
            continue
        [definition] = ast.parse(inspect.getsource(kind)).body
        assert isinstance(definition, ast.ClassDef)
        for field, words in itertools.pairwise(definition.body):
            match field, words:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    told[name] = " ".join(text.split())
    return told


def checked(name: str, value: Any, hint: Any) -> Any:
    """The value as the type its annotation names, inside its interval or choices.

    An integer will do for a float, a list for a tuple. ValueError or TypeError, naming the setting and the value.
    """
    if get_origin(hint) in (Union, UnionType):  # with None, the default: nothing is said
        return None if value is None else checked(name, value, get_args(hint)[0])
    interval = None
    if get_origin(hint) is Annotated:
        hint, interval = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise ValueError(f"{name} = {value!r}: expected one of {', '.join(get_args(hint))}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, tuple | list):
            raise TypeError(f"{name} = {value!r}: expected one value or more, got {type(value).__name__}")
        if not value:
            raise ValueError(f"{name} has no value: expected one or more")
        return tuple(checked(name, item, get_args(hint)[0]) for item in value)
    if hint is float and type(value) is int:
        value = float(value)
    if type(value) is not hint:
        raise TypeError(f"{name} = {value!r}: expected {hint.__name__}, got {type(value).__name__}")
    if interval is not None and value not in interval:
        raise ValueError(f"{name} = {value}: expected {interval}")
    return value
