"""What the training loop itself reads from a recipe, whatever the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_type_hints

from training.recipes.settings import Count, Fraction, Natural, NotNegative, Positive, Width, checked


@dataclass(frozen=True)
class Recipe:
    """A flat table of settings; `ema`, `warmup` and `lr_flat` are fractions of `steps`.

    `batch` is what one optimizer step sees, over all processes and `accumulate` micro-batches together, so that the
    same recipe means the same training on any number of them.
    """

    name: str
    steps: Count = 8000
    batch: Count = 2048
    accumulate: Count = 1  # micro-batches whose gradients are summed for one step
    lr: Positive = 3e-3
    warmup: Fraction = 0.02  # of `steps`, linear from 0
    lr_decay: Literal["cosine", "linear", "inverse_sqrt", "constant"] = "cosine"  # after the warm-up
    lr_flat: Fraction = 0.1  # of `steps`: where inverse_sqrt begins to fall
    optimizer: Literal["adam", "adamw"] = "adam"
    weight_decay: NotNegative = 0.0
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    clip: Positive = 1.0  # largest global norm of the gradient
    ema: tuple[Width, ...] = (0.1,)  # relative widths of the weight averages; samples are drawn with the first
    snapshots: Natural = 0  # how often over the run the averages are stored, to make others of them afterwards
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    compile: bool = False
    log_every: Count = 50
    save_every: Count = 1000
    sample_every: Natural = 0  # steps between pictures while it trains; 0: one at the end

    def __post_init__(self) -> None:
        for field, hint in get_type_hints(type(self), include_extras=True).items():
            object.__setattr__(self, field, checked(field, getattr(self, field), hint))
        if self.batch % self.accumulate:
            raise ValueError(f"batch = {self.batch}, accumulate = {self.accumulate}: expected a divisor of the batch")

    @property
    def family(self) -> str:
        """The part of the name before the dot, which is also the module that builds it."""
        return self.name.partition(".")[0]

    def within_round(self, step: int) -> tuple[int, int]:
        """The step's place in its round of training and that round's length; all training is one round, as a rule."""
        return step, self.steps
