"""A network is asked only about times at which it was trained, by every sampler, picture and judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion.solvers import SOLVERS
from training import recipes, runs, sampling
from training.recipes import Recipe
from training.task import build

NET = {"steps": 2, "batch": 8, "channels": (8,), "attention": (True,), "head": 8, "log_every": 1, "save_every": 2}
CHAIN = {"times": "chain", "schedule": "ddpm_linear", "parameterization": "eps", "preconditioning": "none",
         "latest": 1 - 1e-6}  # fmt: skip
EDM = {"schedule": "edm", "parameterization": "x0", "preconditioning": "edm"}
COUNTS = (1, 2, 20, 37, 1000)

KINDS: dict[str, tuple[dict[str, Any], float, float]] = {  # settings, and the times between which such a run is trained
    "cosine": ({}, 1e-3, 0.998),
    "late": ({"earliest": 0.3, "latest": 0.4}, 0.3, 0.4),
    "chain": (CHAIN, 0.001, 1.0),
    "part of a chain": (CHAIN | {"earliest": 0.0115, "latest": 0.9005}, 0.012, 0.901),
    "vp": ({"schedule": "vp_linear"}, 1e-3, 0.998),
    "edm": (EDM, 1e-3, 0.998),
    "ve": ({"schedule": "ve", "parameterization": "x0"}, 1e-3, 0.998),
}


def digits(**settings: Any) -> Recipe:
    return recipes.change(recipes.find("images.digits-unet"), **NET | settings)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every time at which a denoiser is called from now on, by whatever runs a table."""
    seen: list[float] = []
    move = sampling.sampling.sample

    def watched(denoiser: Callable[[Tensor, Tensor], Tensor], *args: Any, **options: Any) -> Tensor:
        def watch(x: Tensor, t: Tensor) -> Tensor:
            seen.append(t.item())
            return denoiser(x, t)

        return move(watch, *args, **options)

    monkeypatch.setattr(sampling.sampling, "sample", watched)
    return seen


def opened(recipe: Recipe) -> runs.Trained:
    """A run of this recipe that knows nothing: D = 0."""
    task: Any = build(recipe)
    folder: Any = None
    return runs.Trained(lambda x, t: 0 * x, task.schedule, recipe, task.std, folder, task, torch.nn.Identity())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_solver_calls_beyond_what_was_trained(solver: str, kind: str, called: list[float]) -> None:
    settings, earliest, latest = KINDS[kind]
    trained = opened(digits(**settings))
    for steps in COUNTS:
        sampler = trained.sampler(solver, steps)
        called.clear()
        sampling.draw(trained.denoiser, sampler, (1,), 2, torch.Generator())
        assert len(called) == len(sampler.coefficients) >= steps
        assert earliest <= min(called) and max(called) <= latest
        assert sampler.coefficients.times[-1] == (earliest if kind in ("edm", "ve") else 0)
