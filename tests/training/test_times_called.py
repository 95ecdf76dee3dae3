"""A network is asked only about times at which it was trained, by every sampler, picture and judge."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion import ddpm, grids, schedules
from diffusion.solvers import SOLVERS
from seminar.main import main
from training import loop, networks, recipes, runs, sampling
from training.evaluation.images import Settings, evaluate_images
from training.recipes import Recipe
from training.recipes.denoising import DenoisingRecipe
from training.recipes.imported import ImportedRecipe
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


BETAS = torch.linspace(1e-4, 0.1, 90, dtype=torch.float64)
IMPORTED = ImportedRecipe(
    name="imported.diffusers",
    model="{}",
    chain=json.dumps({"num_train_timesteps": 90, "trained_betas": BETAS.tolist()}),
)


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


def times_of(trained: runs.Trained, sampler: sampling.Sampler, called: list[float]) -> list[float]:
    called.clear()
    sampling.draw(trained.denoiser, sampler, (1,), 2, torch.Generator())
    assert len(called) == len(sampler.coefficients)
    return called


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_no_solver_calls_beyond_what_was_trained(solver: str, kind: str, called: list[float]) -> None:
    settings, earliest, latest = KINDS[kind]
    trained = opened(digits(**settings))
    for steps in COUNTS:
        sampler = trained.sampler(solver, steps)
        times = times_of(trained, sampler, called)
        assert len(times) >= steps
        assert earliest <= min(times) and max(times) <= latest
        assert sampler.coefficients.times[-1] == (earliest if kind in ("edm", "ve") else 0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cosine", "late", "chain", "edm"])
@pytest.mark.parametrize("grid", sampling.SPACED)
@pytest.mark.parametrize("solver", ["ddim", "heun"])
def test_nor_on_another_grid(solver: str, grid: str, kind: str, called: list[float]) -> None:
    settings, earliest, latest = KINDS[kind]
    trained = opened(digits(**settings))
    for steps in COUNTS:
        times = times_of(trained, trained.sampler(solver, steps, grid), called)
        assert earliest <= min(times) and max(times) <= latest
        assert times[0] == trained.latest


def test_an_imported_chain_has_its_own_first_time(called: list[float]) -> None:
    trained = opened(IMPORTED)
    for solver in SOLVERS:
        for steps in (1, 7, 90, 500):
            assert min(times_of(trained, trained.sampler(solver, steps), called)) >= 1 / 90


@pytest.mark.parametrize("n", [2, 10, 50])
def test_few_steps_are_equal_and_many_are_too_but_for_the_jump(n: int) -> None:
    """The angles of the steps; with few of them the jump is one of the equal steps."""
    trained = opened(digits(earliest=0.02))
    times = trained.sampler("ddim", n).coefficients.times
    angles = torch.atan(torch.tan(math.pi / 2 * times) ** sampling.POWER / trained.std**sampling.POWER)
    steps = -angles.diff()
    torch.testing.assert_close(steps[:-1], steps[:1].expand(n - 1))
    if n == 50:
        assert times[-2] == 0.02 and steps[-1] > 1.2 * steps[0]
    else:
        assert times[-2] > 0.02 and steps[-1] == pytest.approx(float(steps[0]))


# --- the grids of papers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe, betas", [(digits(**CHAIN), schedules.linear_betas(1000)), (IMPORTED, BETAS)])
@pytest.mark.parametrize("grid", sampling.OF_A_CHAIN)
def test_with_all_its_steps_ddpm_is_the_chains_own_posterior(grid: str, recipe: Recipe, betas: Tensor) -> None:
    trained, T = opened(recipe), len(betas)
    alpha_bar = schedules.alpha_bars(betas)[:-1].flip(0)  # at the end of each step, from the noise on
    beta, one = betas.flip(0), torch.ones(T, dtype=torch.float64)
    table = trained.sampler("ddpm", T, grid).coefficients
    assert torch.equal(table.times, torch.arange(T, -1, -1) / torch.tensor(T, dtype=torch.float64))
    exact: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-14}
    torch.testing.assert_close(table.state, ddpm.posterior_mean(one, 0 * one, alpha_bar, beta), **exact)
    torch.testing.assert_close(table.denoised[:, 0], ddpm.posterior_mean(0 * one, one, alpha_bar, beta), **exact)
    torch.testing.assert_close(table.noise**2, ddpm.posterior_variance(alpha_bar, beta), **exact)
    larger = trained.sampler("ddpm", T, grid, variance="beta").coefficients
    torch.testing.assert_close(larger.noise[:-1] ** 2, beta[:-1], **exact)


@pytest.mark.parametrize("grid, times", [("leading", grids.leading(1000, 7)), ("trailing", grids.trailing(1000, 7)),
                                         ("linspace", grids.linspace(1000, 7))])  # fmt: skip
def test_a_papers_grid_starts_as_in_the_paper(grid: str, times: Tensor) -> None:
    """N(0, 1), to what is left of the data at the start; our own grid starts from more, as seven steps shrink it."""
    trained = opened(digits(**CHAIN))
    sampler = trained.sampler("ddim", 7, grid)
    assert torch.equal(sampler.coefficients.times, times)
    assert sampler.spread == pytest.approx(1, abs=0.01)
    assert trained.sampler("ddim", 7).spread > 1.05


def test_a_chain_that_ends_early_is_walked_from_there() -> None:
    trained = opened(digits(**CHAIN | {"latest": 0.9005}))
    assert trained.sampler("ddpm", 901, "leading").coefficients.times[[0, -2]].tolist() == [0.901, 0.001]


NO_GRID: list[tuple[dict[str, Any], int, str, str]] = [
    ({}, 5, "angel", "'angel' is unknown; there are angle, uniform"),
    ({}, 5, "leading", "no run of times = 'chain'"),
    (CHAIN, 1001, "trailing", "1001 steps of a chain of T = 1000"),
    (CHAIN | {"earliest": 0.0115}, 5, "linspace", "visits step 1, and training began at 12"),
    (CHAIN | {"schedule": "cosine"}, 5, "trailing", "starts at pure noise, t = 1, where eps says nothing"),
]


@pytest.mark.parametrize("settings, steps, grid, line", NO_GRID)
def test_grids_that_can_not_be_had(settings: dict[str, Any], steps: int, grid: str, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        opened(digits(**settings)).sampler("ddim", steps, grid)
    assert "\n" not in str(caught.value)


# --- a run's whole life -----------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every time that a network of images is told from now on, whoever calls it."""
    seen: list[float] = []
    forward = networks.Stock.forward

    def watched(self: networks.Stock, x: Tensor, t: Tensor, *told: Tensor) -> Tensor:
        seen.extend(t.double().reshape(-1).tolist())
        return forward(self, x, t, *told)

    monkeypatch.setattr(networks.Stock, "forward", watched)
    return seen


@pytest.mark.slow
def test_nor_does_anything_that_is_done_with_a_run(tmp_path: Path, asked: list[float]) -> None:
    """Training, pictures, an evaluation and students of a chain that begins at its step 12 of 1000."""
    chain = digits(**CHAIN | {"parameterization": "v", "earliest": 0.0115})
    run = loop.train(chain, tmp_path / "run", quiet=True).folder
    small = {"steps": 20, "channels": (4, 8), "features": 8, "log_every": 20, "save_every": 20}
    eye = loop.train(recipes.change(recipes.find("classifier.digits"), **small), tmp_path / "eye", quiet=True).folder
    evaluate_images(run, Settings(n=4, bits_n=2, chain=3, calls=(1, 30), features=str(eye)))
    students: dict[str, dict[str, Any]] = {
        "progressive": {"start_steps": 32, "end_steps": 16},
        "consistency": {"levels": 8},
        "reflow": {"pairs": 8, "pair_steps": 30},
    }
    for name, settings in students.items():
        if name == "reflow":
            before = len(asked)
        student = recipes.change(
            recipes.find(f"distill.{name}"), teacher=str(run), steps=2, batch=8, save_every=2, **settings
        )
        loop.train(student, tmp_path / name, quiet=True)
    assert len(asked) > 1000
    assert 0.01199 < min(asked[:before]) < 0.0121 and max(asked) <= 1


@pytest.mark.slow
def test_the_command_samples_on_a_grid(tmp_path: Path, asked: list[float]) -> None:
    run = loop.train(digits(**CHAIN), tmp_path / "run", quiet=True).folder
    asked.clear()
    drawn = tmp_path / "drawn.png"
    said = ["--solver", "ddpm", "--steps", "5", "--grid", "trailing", "--n", "2", "--out", str(drawn)]
    assert main(["sample", str(run), *said]) == 0
    assert asked == pytest.approx([1.0, 1.0, 0.8, 0.8, 0.6, 0.6, 0.4, 0.4, 0.2, 0.2])  # two samples
    assert np.load(drawn.with_suffix(".npy")).shape == (2, 1, 8, 8)


@pytest.mark.slow
def test_a_student_has_a_grid_of_its_own(tmp_path: Path) -> None:
    run = loop.train(digits(), tmp_path / "run", quiet=True).folder
    student = recipes.change(recipes.find("distill.reflow"), teacher=str(run), steps=1, batch=4, pairs=4, pair_steps=1)
    trained = runs.load(loop.train(student, tmp_path / "student", quiet=True).folder)
    with pytest.raises(ValueError, match=r"grid .uniform.: .* was distilled for a grid of its own"):
        trained.sampler(grid="uniform")


def test_nor_does_a_stock_pipeline_with_our_tables() -> None:
    from training.interop.table_scheduler import of_recipe

    for kind in ("late", "part of a chain"):
        settings, earliest, latest = KINDS[kind]
        recipe = digits(**settings)
        assert isinstance(recipe, DenoisingRecipe)
        scheduler = of_recipe(recipe, "heun")
        scheduler.set_timesteps(50)
        assert earliest <= scheduler.table.times[:-1].min() and scheduler.table.times.max() <= latest
