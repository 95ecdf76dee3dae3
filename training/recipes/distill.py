"""The distillation recipes: a network of few steps learns from a finished run."""

from __future__ import annotations

from dataclasses import dataclass

from training.recipes.base import Recipe
from training.recipes.settings import BelowOne, Count, Natural, NotNegative, Positive, Several, Width


@dataclass(frozen=True)
class DistillRecipe(Recipe):
    """What all three kinds have: data and architecture are the teacher's."""

    teacher: str = ""
    """Folder of a finished generative run, from the working directory."""
    end_steps: Count = 1
    """In how many steps samples will be drawn."""
    guidance: NotNegative = 1.0
    """Classifier-free guidance of a teacher of labels, which goes into the student's weights; 1: none."""
    lr: Positive = 1e-3


@dataclass(frozen=True)
class ProgressiveRecipe(DistillRecipe):
    """Rounds of equal length: in each a student learns to do in one DDIM step what its teacher does in two.

    The averages are narrow, for an average over two rounds is of two different tasks.
    """

    start_steps: Count = 64
    """The first teacher's steps, halved in each round until they are `end_steps`."""
    ema: tuple[Width, ...] = (0.02,)

    def __post_init__(self) -> None:
        super().__post_init__()
        ratio, rest = divmod(self.start_steps, self.end_steps)
        if rest or ratio < 2 or ratio.bit_count() != 1:
            raise ValueError(
                f"start_steps = {self.start_steps}, end_steps = {self.end_steps}: expected the first to be 2, 4, 8, "
                "... times the second, as each round halves the steps"
            )
        if self.steps < self.rounds:
            raise ValueError(f"steps = {self.steps}: expected one at least for each of {self.rounds} rounds")

    @property
    def rounds(self) -> int:
        return (self.start_steps // self.end_steps).bit_length() - 1

    def round_of(self, step: int) -> int:
        """The round, 0 .. rounds - 1, that a step belongs to; steps beyond the last belong to the last."""
        return min(step, self.steps - 1) * self.rounds // self.steps

    def within_round(self, step: int) -> tuple[int, int]:
        """The step's place in its round, and the round's length; each round has its own warm-up and decay."""
        start, end = (-(-r * self.steps // self.rounds) for r in (self.round_of(step), self.round_of(step) + 1))
        return step - start, end - start


@dataclass(frozen=True)
class ConsistencyRecipe(DistillRecipe):
    """One function takes any point of a path to the path's end: neighbouring points to the same place."""

    end_steps: Count = 2
    from_data: bool = False
    """Consistency training: neighbours by one noise, not by the teacher's step."""
    levels: Several = 64
    """Noise levels; neighbours are one apart."""
    target_decay: BelowOne = 0.95
    """Decay of the average of weights that makes the targets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.from_data and self.guidance != 1:
            raise ValueError(f"guidance = {self.guidance}, from_data = True: without a teacher nothing is guided")


@dataclass(frozen=True)
class ReflowRecipe(DistillRecipe):
    """A straight flow between noise and what the teacher's flow makes of it."""

    end_steps: Count = 4
    pairs: Natural = 131_072
    """Pairs of noise and image, made once and kept in the run folder; 0: made anew for each step."""
    pair_steps: Count = 64
    """The teacher's steps for each pair."""


DISTILLATIONS: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        ProgressiveRecipe(name="distill.progressive"),
        ConsistencyRecipe(name="distill.consistency"),
        ReflowRecipe(name="distill.reflow"),
    )
}
