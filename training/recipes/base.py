"""What the training loop itself reads from a recipe, whatever the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_type_hints

from training.recipes.settings import BelowOne, Clip, Count, Fraction, Natural, NotNegative, Positive, Width, checked


@dataclass(frozen=True)
class Recipe:
    """A flat table of settings; `ema`, `warmup` and `lr_flat` are fractions of `steps`.

    `batch` is what one optimizer step sees, over all processes and `accumulate` micro-batches together, so that the
    same recipe means the same training on any number of them.
    """

    name: str
    steps: Count = 8000
    """How many steps the optimizer makes."""
    batch: Count = 2048
    """Samples of one step, over all processes and micro-batches."""
    accumulate: Count = 1
    """Micro-batches that a batch is cut into, one after another in memory; their gradients are summed."""
    lr: Positive = 3e-3
    """Learning rate, at its highest."""
    warmup: Fraction = 0.02
    """The part of all steps over which the learning rate rises linearly from 0."""
    lr_decay: Literal["cosine", "linear", "inverse_sqrt", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    lr_flat: Fraction = 0.1
    """The part of all steps after which inverse_sqrt begins to fall."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """adam adds weight decay to the gradient, adamw shrinks the weights by it."""
    weight_decay: NotNegative = 0.0
    """How strongly weights are drawn to 0."""
    beta1: BelowOne = 0.9
    """Decay of Adam's mean of the gradient."""
    beta2: BelowOne = 0.99
    """Decay of Adam's mean of the squared gradient."""
    clip: Clip = 1.0
    """Largest global norm of the gradient, which is cut to it; inf: it is not cut."""
    ema: tuple[Width, ...] = (0.1,)
    """Relative widths of the weight averages, as parts of all steps; samples are drawn with the first."""
    snapshots: Natural = 0
    """How often over the run the averages are stored, so that `seminar ema` can make others of them; 0: never."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """What the network computes in; fp16 needs a GPU."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps on a GPU."""
    log_every: Count = 50
    """Steps from one line of the log to the next."""
    save_every: Count = 1000
    """Steps from one checkpoint to the next."""
    sample_every: Natural = 0
    """Steps from one picture to the next while it trains; 0: one at the end."""

    def __post_init__(self) -> None:
        for field, hint in get_type_hints(type(self), include_extras=True).items():
            object.__setattr__(self, field, checked(field, getattr(self, field), hint))
        if self.batch % self.accumulate:
            raise ValueError(f"batch = {self.batch}, accumulate = {self.accumulate}: expected a divisor of the batch")
        if len(set(self.ema)) < len(self.ema):
            raise ValueError(f"ema = {self.ema}: expected each width once")
        if self.snapshots > self.steps:
            raise ValueError(f"snapshots = {self.snapshots}, steps = {self.steps}: expected at most one a step")

    @property
    def family(self) -> str:
        """The part of the name before the dot, which is also the module that builds it."""
        return self.name.partition(".")[0]

    def idle(self) -> dict[str, str]:
        """Settings that do nothing as the others are, and the others that make them do something."""
        return {} if self.lr_decay == "inverse_sqrt" else {"lr_flat": "lr_decay = 'inverse_sqrt'"}

    def within_round(self, step: int) -> tuple[int, int]:
        """The step's place in its round of training and that round's length; all training is one round, as a rule."""
        return step, self.steps
