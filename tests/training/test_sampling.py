"""What the samplers of trained models promise: Gaussian variance exact at any number of steps, units of one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion import solvers
from diffusion.schedules import SCHEDULES, cosine
from toy import worlds
from training import draw, evaluate, loop, recipes, runs, sampling
from training.families.toy import Toy, standard_deviation
from training.recipes import ToyRecipe
from training.streams import Streams
from training.times import Span


@pytest.mark.parametrize("name", ["cosine", "flow", "vp_linear", "edm"])
@pytest.mark.parametrize("solver, steps", [("ddim", 3), ("ddim", 50), ("heun", 5), ("dpmpp_2m", 10)])
@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
def test_gaussian_data_come_out_with_their_variance(name: str, solver: str, steps: int, std: float) -> None:
    """The law's own denoiser is linear, so one number tells the whole generated law."""
    schedule = SCHEDULES[name]()
    table = sampling.table(schedule, solver, steps, Span(0.0, 0.99), std)
    start = sampling.start_std(schedule, table, std)

    def exact(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        return alpha * std**2 / (alpha**2 * std**2 + sigma**2) * x

    sampler = sampling.sampler(schedule, solver, steps, Span(0.0, 0.99), std)
    drawn = sampling.draw(exact, sampler, (2,), 4, torch.Generator().manual_seed(0))
    noise = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    end = math.hypot(std, schedule.sigma(torch.zeros(1, dtype=torch.float64)).item())
    torch.testing.assert_close(drawn, noise * end, rtol=1e-5, atol=1e-6)
    spread = math.hypot(std * schedule.alpha(table.times[:1]).item(), schedule.sigma(table.times[:1]).item())
    if solver == "ddim":
        assert start > spread  # it shrinks a Gaussian


def test_the_angle_grid_has_equal_angles() -> None:
    times = sampling.angle_grid(cosine(), 7, 0.9, std=1.0, power=1.0)
    torch.testing.assert_close(
        times.diff(), torch.full((7,), -0.9 / 7, dtype=torch.float64)
    )  # cosine: angle = pi t / 2


@pytest.mark.parametrize("solver", sorted(solvers.SOLVERS))
def test_a_table_is_called_what_it_is_asked_for_by(solver: str) -> None:
    assert sampling.table(cosine(), solver, 4, Span(0.0, 0.9), 1.0).name == solver


@pytest.mark.parametrize(
    "solver, steps, word",
    [("eular", 5, "eular"), ("ddim", 0, "steps = 0"), ("ddim", 2.5, "2.5"), ("ddim", 10**9, "at most 65536")],
)
def test_bad_tables(solver: str, steps: int, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        sampling.table(cosine(), solver, steps, Span(0.0, 0.9), 1.0)


@pytest.mark.parametrize("world", sorted(worlds.WORLDS))
def test_standard_deviation_is_the_laws(world: str) -> None:
    """Against 200,000 draws: 5 standard errors, at most 5 * 1.5 / sqrt(400,000) = 1.2 % of it; false fail < 1e-5."""
    law = worlds.make(world)
    drawn = law.sample(200_000, torch.Generator().manual_seed(0))
    assert standard_deviation(law) == pytest.approx(drawn.var(0).mean().sqrt().item(), rel=0.012)


class Recorder(nn.Module):
    """Stands for the inner network: predicts 0 and remembers what it was shown."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.seen = x
        return torch.zeros_like(x)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("kind", ["eps", "x0", "v", "score", "velocity"])
def test_the_networks_input_and_target_have_unit_variance(schedule: str, kind: str) -> None:
    """With F = 0 the `unit` loss is the mean square of F's target. 40,000 x 2 values: 5 standard errors are 2.5 %."""
    recipe = recipes.change(
        recipes.find("toy.checkerboard"), schedule=schedule, parameterization=kind, batch=40_000, latest=0.98
    )
    assert isinstance(recipe, ToyRecipe)
    toy = Toy(recipe)
    network = toy.network()
    network.network = recorder = Recorder()
    loss = toy.loss(network, toy.batch(toy.recipe.batch, Streams(0, 0)), Streams(0, 0))
    assert loss.item() == pytest.approx(1, rel=0.025)
    assert recorder.seen.var().item() == pytest.approx(1, rel=0.025)


def test_every_time_of_a_batch_is_drawn_from_its_own_stratum() -> None:
    recipe = recipes.change(recipes.find("toy.ring"), batch=10, earliest=0.25, latest=0.75)
    assert isinstance(recipe, ToyRecipe)
    toy, seen = Toy(recipe), []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t)
        return x

    for step in range(3):
        toy.loss(network, toy.batch(toy.recipe.batch, Streams(0, step)), Streams(0, step))  # type: ignore[arg-type]
    for t in seen:
        strata = ((t - 0.25) / 0.05).floor().sort().values
        assert strata.tolist() == list(range(10))
    assert not torch.equal(seen[0], seen[1])


@pytest.mark.slow
@pytest.mark.parametrize("kind, schedule", [("eps", "vp_linear"), ("x0", "edm"), ("score", "ve"), ("velocity", "flow")])
def test_any_row_of_the_table_learns(kind: str, schedule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The `unit` loss starts at 1, where a network that says nothing stays, and sampling runs in each row's terms."""
    monkeypatch.setattr(draw, "samples", lambda *_: None)
    monkeypatch.setattr(draw, "curves", lambda *_: None)
    recipe = recipes.change(
        recipes.find("toy.ring"), parameterization=kind, schedule=schedule, steps=300, batch=256, width=16, depth=1,
        lr=1e-2, log_every=25,
    )  # fmt: skip
    assert loop.train(recipe, tmp_path / "run", quiet=True).loss < 0.93
    drawn = runs.sample_run(tmp_path / "run", n=2000, steps=20)
    assert drawn.shape == (2000, 2)
    # After 100 steps eps on vp_linear draws 1.4 to 2.0: an error in eps at t = 1 comes out 1/alpha(1) = 152-fold.
    assert drawn.std() == pytest.approx(1.005, abs=0.15)  # the law's


def test_pictures(tmp_path: Path) -> None:
    recipe = recipes.change(recipes.find("toy.ring"), steps=2, batch=8, width=4, depth=1, log_every=1)
    folder = loop.train(recipe, tmp_path / "run", quiet=True).folder
    runs.sample_run(folder, n=20, steps=3, out=tmp_path / "drawn.png")
    assert len(runs.sample_run(folder, steps=1)) == runs.POINTS
    for path in (folder / "samples.png", folder / "curves.png", tmp_path / "drawn.png"):
        assert path.read_bytes().startswith(b"\x89PNG")


def test_memory_bounds_the_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 bytes a number, to the byte, before any is drawn."""
    there = 12 * 2 * 1000

    def memory() -> Any:
        return type("Memory", (), {"available": there})

    monkeypatch.setattr(sampling.psutil, "virtual_memory", memory)
    sampler = sampling.sampler(cosine(), "ddim", 2, Span(0.0, 0.9), 1.0)
    assert len(sampling.draw(lambda x, t: x, sampler, (2,), 1000, torch.Generator())) == 1000
    with pytest.raises(ValueError, match=r"\An = 1001: samples of 2 numbers .* draw at most 1000 at once\Z"):
        sampling.draw(lambda x, t: pytest.fail("called"), sampler, (2,), 1001, torch.Generator())


def test_drawing_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After every call of the network, and at the end all is done; in two parts, by a solver of two calls a step."""
    monkeypatch.setattr(draw, "samples", lambda *_: None)
    monkeypatch.setattr(sampling, "CHUNK", 2 * 6)
    recipe = recipes.change(recipes.find("toy.ring"), steps=1, batch=8, width=4, depth=1)
    folder, told = loop.train(recipe, tmp_path / "run", quiet=True).folder, []
    watched = runs.sample_run(folder, n=10, solver="heun", steps=3, progress=lambda _, *n: told.append(n))
    rows = len(runs.load(folder).sampler("heun", 3).coefficients)
    assert told == [(6 * i, 10 * rows) for i in range(1, rows + 1)] + [
        (6 * rows + 4 * i, 10 * rows) for i in range(1, rows + 1)
    ]
    assert torch.equal(watched, runs.sample_run(folder, n=10, solver="heun", steps=3))


def test_an_evaluation_tells_which_figure_is_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of fresh noise, energy and sliced ratios each in its place, and densities at the time training began."""
    monkeypatch.setattr(draw, "samples", lambda *_: None)
    recipe = recipes.change(recipes.find("toy.ring"), steps=1, batch=8, width=4, depth=1, earliest=0.02)
    folder = loop.train(recipe, tmp_path / "run", quiet=True).folder
    compared: list[list[Tensor]] = []
    at: list[float] = []
    done: list[tuple[int, int]] = []

    def log_likelihood(denoiser: Any, schedule: Any, x: Tensor, start: float, **_: Any) -> Tensor:
        at.append(start)
        law = worlds.make("ring")
        t = torch.tensor(0.02, dtype=torch.float64)
        return law.log_density(x.double(), schedule.alpha(t), schedule.sigma(t)) - 3

    monkeypatch.setattr(evaluate.energy, "energy_ratio", lambda world, drawn: compared.append(drawn) or "energy")
    monkeypatch.setattr(evaluate.sliced, "sliced_ratio", lambda *_: "sliced")
    monkeypatch.setattr(evaluate, "log_likelihood", log_likelihood)
    tables, drawn = [], sampling.draw
    monkeypatch.setattr(
        sampling, "draw", lambda denoiser, by, *rest: tables.append(by.coefficients) or drawn(denoiser, by, *rest)
    )
    report = evaluate.evaluate_run(
        folder, sets=2, size=30, ddim_steps=3, ddpm_steps=4, points=5, progress=lambda _, *n: done.append(n)
    )
    assert [(each.energy, each.sliced) for each in report.sampled] == [("energy", "sliced")] * 2
    assert [(each.solver, each.steps) for each in report.sampled] == [("ddim", 3), ("ddpm", 4)]
    assert all(not torch.equal(one, other) for one, other in compared)
    plain = runs.load(folder).sampler("ddpm", 4).coefficients.noise
    assert bool((tables[-1].noise[:-1] > plain[:-1]).all())  # the larger variance: the smaller one shrinks the data
    assert at == [0.02] and report.nll_gap and report.nll_gap.mean == pytest.approx(3, abs=1e-4)
    assert done[0][0] == 0 and done[-1] == (2 * 30 * 7,) * 2


@pytest.mark.slow
def test_the_exact_denoiser_is_nearly_a_perfect_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four sets of 5,000: a ratio of 1 has limits of about +-0.5, and a denoiser that knows nothing is far above 10."""
    monkeypatch.setattr(draw, "samples", lambda *_: None)
    monkeypatch.setattr(draw, "curves", lambda *_: None)
    recipe = recipes.change(recipes.find("toy.ring"), steps=1, batch=8, width=4, depth=1)
    folder = loop.train(recipe, tmp_path / "run", quiet=True).folder
    exact, blank = (evaluate.evaluate_run(folder, sets=4, size=5000, points=20, exact=exact) for exact in (True, False))
    for sampled in exact.sampled:
        assert sampled.energy.mean < 2
    for sampled in blank.sampled:
        assert sampled.energy.mean > 10
    assert abs(exact.nll_gap.mean) < 0.05
    assert blank.nll_gap.mean > 0.5
