"""Students of a teacher that is known exactly, and of small trained ones: what they learn, what a run of them refuses.

For Gaussian data every denoiser is affine in x, so a table of affine maps, one for each time that is asked for, is a
network that holds the exact teacher and the exact student alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from diffusion import ddim, schedules, solvers
from diffusion.sampling import sample
from toy import worlds
from training import draw, evaluate, loop, optimization, prepared, recipes, runs, sampling, tensor_file
from training.distillation import progressive, reflow
from training.distillation.consistency import Consistency
from training.distillation.follower import Follower
from training.distillation.progressive import Progressive
from training.distillation.reflow import Reflow
from training.families import distill
from training.families.toy import Toy
from training.preconditioning import UnitVariance
from training.recipes import Recipe
from training.recipes.distill import ProgressiveRecipe
from training.run_folder import RunFolder
from training.streams import Streams

COSINE, LAW = schedules.cosine(), worlds.make("gaussian")
EARLIEST, LATEST, STEPS = 0.02, 0.95, 8
DIGITS: dict[str, Any] = {"classes": 10, "channels": (8, 16), "layers": 1, "head": 8, "batch": 16}
STD = Toy(recipes.find("toy.gaussian")).std  # type: ignore[arg-type]
GRID = sampling.angle_grid(COSINE, STEPS, LATEST, STD)
PLACES = torch.cat([GRID, sampling.angle_grid(COSINE, STEPS, LATEST, STD, end=EARLIEST)]).unique()
X = torch.tensor([[0.3, -1.2], [2.0, 0.1], [-0.7, 0.9], [0.0, 0.0]], dtype=torch.float64)


def exact(x: Tensor, t: Tensor) -> Tensor:
    """E[x_0 | x_t = x]."""
    return LAW.denoiser(x, COSINE.alpha(t), COSINE.sigma(t))


class Affine(nn.Module):
    """For each of the PLACES an affine map, of which the nearest in time is used."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Parameter(torch.zeros(len(PLACES), 2, 3))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        chosen = self.map.to(x)[(t.double()[:, None] - PLACES).abs().argmin(1)]
        return (chosen[:, :, :2] @ x[:, :, None])[:, :, 0] + chosen[:, :, 2]


def exact_map() -> Tensor:
    """The table of the law's own denoiser, read off at 0 and the two unit vectors."""
    points = torch.cat([torch.zeros(1, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)])
    zero, *unit = torch.stack([exact(points, t) for t in PLACES]).unbind(1)
    return torch.stack([*(image - zero for image in unit), zero], -1).float()


def tiny(name: str, **settings: Any) -> Recipe:
    return recipes.change(recipes.find(name), **{"batch": 64, "log_every": 100, "save_every": 1000} | settings)


distilled = draw.distilled


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for picture in ("samples", "curves", "distilled"):
        monkeypatch.setattr(draw, picture, lambda *_: None)


@pytest.fixture
def affine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of a run whose averaged weights are the exact denoiser; all networks are Affine."""
    monkeypatch.setattr(Toy, "network", lambda self: Affine())
    recipe = tiny("toy.gaussian", parameterization="x0", earliest=EARLIEST, latest=LATEST, steps=1)
    folder = loop.train(recipe, tmp_path / "teacher", quiet=True).folder
    tensor_file.write(folder / "ema.safetensors", {"map": exact_map()})
    return str(folder)


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The folder of a small trained run that predicts v."""
    with pytest.MonkeyPatch.context() as patch:
        for picture in ("samples", "curves"):
            patch.setattr(draw, picture, lambda *_: None)
        recipe = tiny("toy.ring", steps=20, width=8, depth=1)
        yield str(loop.train(recipe, tmp_path_factory.mktemp("ring") / "run", quiet=True).folder)


def student(folder: Path, name: str, teacher: str, **settings: Any) -> runs.Trained:
    loop.train(tiny(name, teacher=teacher, **settings), folder, quiet=True)
    return runs.load(folder)


def ended(trained: runs.Trained, steps: int | None = None) -> Tensor:
    """Where the run's own sampler takes X."""
    return sample(trained.denoiser, trained.sampler(steps=steps).coefficients, X)


# -- what students learn -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("end_steps", [1, 2])
def test_progressive_ends_where_the_teacher_ends(affine: str, tmp_path: Path, end_steps: int) -> None:
    """One step, or two, in the place of eight: the same map of the plane, to what training left."""
    steps = 300 * (3 if end_steps == 1 else 2)
    trained = student(
        tmp_path / "run", "distill.progressive", affine, start_steps=8, end_steps=end_steps, steps=steps, lr=0.05
    )
    eight = solvers.ddim(COSINE, GRID)
    assert len(trained.sampler().coefficients) == end_steps
    assert float((ended(trained) - sample(exact, eight, X)).abs().max()) < 0.01
    assert trained.sampler().spread == sampling.start_std(COSINE, eight, STD)
    assert float((sample(exact, trained.sampler().coefficients, X) - ended(trained)).abs().max()) > 0.3  # the teacher


@pytest.mark.slow
@pytest.mark.parametrize("from_data, within", [(False, 0.02), (True, 0.15)])
def test_consistency_ends_where_the_levels_lead(affine: str, tmp_path: Path, from_data: bool, within: float) -> None:
    """One jump in the place of eight Euler steps in sigma (DDIM's); without a teacher, by its noise, less exactly."""
    trained = student(
        tmp_path / "run", "distill.consistency", affine,
        from_data=from_data, levels=8, steps=1500, lr=0.05, target_decay=0.8, batch=256,
    )  # fmt: skip
    levels = sampling.angle_grid(COSINE, 8, LATEST, STD, end=EARLIEST)
    walked = sample(exact, solvers.ddim(COSINE, levels), X)
    assert len(trained.sampler(steps=1).coefficients) == 1
    assert float((ended(trained, 1) - walked).abs().max()) < within
    one = ddim.step(
        X, exact(X, levels[0]), *(level(t) for t in levels[[0, -1]] for level in (COSINE.alpha, COSINE.sigma))
    )
    assert float((one - walked).abs().max()) > 0.3  # what the teacher makes of one step


def test_several_jumps_draw_the_law(affine: str) -> None:
    """The exact function of the Gaussian law in the student's place: 4 jumps with noise, moments to five errors."""
    task = distill.build(tiny("distill.consistency", teacher=affine, levels=8))
    end = task.sampler(1).coefficients.times[-1]

    def jump(x: Tensor, t: Tensor) -> Tensor:
        """Along the exact flow, each eigenvector by itself."""
        basis, mean, variances = LAW.basis[0], LAW.means[0], LAW.variances[0]  # type: ignore[attr-defined]
        spread = (COSINE.alpha(t) ** 2 * variances + COSINE.sigma(t) ** 2).sqrt()
        ends = (COSINE.alpha(end) ** 2 * variances + COSINE.sigma(end) ** 2).sqrt()
        away = (x.double() - COSINE.alpha(t) * mean) @ basis / spread * ends
        return (mean + away @ basis.mT / COSINE.alpha(end)).to(x)

    n = 20_000
    start = LAW.noised(n, COSINE.alpha(PLACES[-1]), COSINE.sigma(PLACES[-1]), torch.Generator().manual_seed(1))[1]
    drawn = sample(jump, task.sampler(4).coefficients, start, torch.Generator().manual_seed(2))
    wanted = LAW.noised(n, COSINE.alpha(end), COSINE.sigma(end), torch.Generator().manual_seed(3))[1]
    assert float((drawn.mean(0) - wanted.mean(0)).abs().max()) < 5 * 2**0.5 * 1.5 / n**0.5
    assert float((drawn.T.cov() - wanted.T.cov()).abs().max()) < 5 * 2 * 2.25 / n**0.5


@pytest.mark.parametrize("pairs", [64, 0])
def test_the_exact_velocity_of_straight_paths_costs_nothing(affine: str, tmp_path: Path, pairs: int) -> None:
    """The teacher's flow is affine, data = M noise + c: the point on the straight line says which line it is."""
    task = distill.build(tiny("distill.reflow", teacher=affine, pairs=pairs, pair_steps=STEPS))
    assert isinstance(task, Reflow)
    prepared.ready(task, RunFolder(tmp_path, task.recipe, seed=3))
    points = torch.cat([torch.zeros(1, 2), torch.eye(2)])
    c, *columns = task.carried(points).double()
    M = torch.stack(columns, -1) - c[:, None]
    sd = sampling.start_std(COSINE, solvers.ddim(COSINE, GRID), STD)
    torch.testing.assert_close(task.carried(X), sample(exact, solvers.ddim(COSINE, GRID), sd * X), atol=1e-4, rtol=0)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        t = t.double()[:, None, None]
        noise = torch.linalg.solve((1 - t) * M + t * torch.eye(2), (x.double() - (1 - t[:, :, 0]) * c)[:, :, None])
        return (noise[:, :, 0] - (noise[:, :, 0] @ M.mT + c)).float()

    streams = Streams(3, 5)
    cost = task.loss(velocity, task.batch(32, streams), streams)  # type: ignore[arg-type]
    assert cost.item() < 1e-8
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    for steps in (1, 4):
        assert task.sampler(steps).spread == 1
        arrived = sample(task.denoiser(velocity), task.sampler(steps).coefficients, x)  # type: ignore[arg-type]
        torch.testing.assert_close(arrived, task.carried(x), atol=1e-4, rtol=0)
    wrong = task.loss(lambda x, t: -velocity(x, t), task.batch(32, streams), streams)  # type: ignore[arg-type]
    assert wrong.item() > 1


@pytest.mark.slow
def test_straight_paths_are_learned(ring: str, tmp_path: Path) -> None:
    before = student(tmp_path / "one", "distill.reflow", ring, pairs=512, steps=1)
    after = student(tmp_path / "many", "distill.reflow", ring, pairs=512, steps=400, lr=1e-2)
    pairs = safetensors.torch.load_file(tmp_path / "many" / reflow.PAIRS)
    batch = pairs["noise"], pairs["data"]
    losses = [distill.build(t.recipe).loss(t.network, batch, Streams(9, 9)).item() for t in (before, after)]
    assert losses[1] < losses[0] / 2


# -- what follows the student ------------------------------------------------------------------------------------------


def test_every_step_belongs_to_one_round() -> None:
    for steps, start, end in ((7, 8, 1), (100, 64, 1), (3, 8, 1), (50, 4, 2)):
        recipe = tiny("distill.progressive", steps=steps, start_steps=start, end_steps=end)
        assert isinstance(recipe, ProgressiveRecipe)
        rounds = [recipe.round_of(step) for step in range(steps)]
        assert rounds == sorted(rounds)
        assert set(rounds) == set(range(recipe.rounds))
        lengths = [rounds.count(r) for r in rounds]
        assert max(lengths) - min(lengths) <= 1
        places = [place for length in (rounds.count(r) for r in range(recipe.rounds)) for place in range(length)]
        assert [recipe.within_round(step) for step in range(steps)] == list(zip(places, lengths, strict=True))
        assert recipe.round_of(steps + 5) == recipe.rounds - 1
    assert tiny("distill.progressive", start_steps=64, end_steps=2).rounds == 5  # type: ignore[attr-defined]


@pytest.mark.parametrize("end_steps", [1, 2])
def test_a_students_step_is_two_of_its_rounds_teacher(
    affine: str, monkeypatch: pytest.MonkeyPatch, end_steps: int
) -> None:
    """The first teacher walks GRID; in each round all steps of the halved grid are learned, and no others."""
    learned: list[tuple[Tensor, Tensor, Tensor]] = []

    def heard(*arguments: Any) -> Tensor:
        learned.append(arguments[4])
        return torch.zeros(1)

    monkeypatch.setattr(progressive.distil, "progressive_loss", heard)
    recipe = tiny("distill.progressive", teacher=affine, start_steps=STEPS, end_steps=end_steps, steps=30)
    task = distill.build(recipe)
    assert isinstance(recipe, ProgressiveRecipe)
    network, walked = task.network(), GRID.tolist()
    for step in range(0, 30, 30 // recipe.rounds):
        streams = Streams(0, step)
        task.loss(network, task.batch(256, streams), streams)
        pairs = {tuple(times) for times in torch.stack(learned.pop(), 1).tolist()}
        assert pairs == set(zip(walked[:-2:2], walked[1:-1:2], walked[2::2], strict=True))
        walked = walked[::2]
    assert task.sampler().coefficients.times.tolist() == walked


def test_every_round_has_its_own_learning_rates() -> None:
    recipe = tiny("distill.progressive", steps=30, start_steps=8, end_steps=1, warmup=0.2, lr=1.0)
    rates = [optimization.learning_rate(step, recipe) for step in range(30)]
    assert rates[:10] == rates[10:20] == rates[20:]
    assert rates[0] == 0.5
    assert rates[1] == 1
    assert rates[9] < 0.1


def test_a_student_becomes_the_teacher_at_the_start_of_a_round(ring: str) -> None:
    task = distill.build(tiny("distill.progressive", teacher=ring, start_steps=4, steps=6))
    assert isinstance(task, Progressive)
    network = task.network()
    first = runs.load(ring).network.state_dict()
    seen = []
    for step in range(6):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(step)  # what the step before made of it
        task.begin(network, step)
        held = task.tensors()
        seen.append(
            "teacher" if all(torch.equal(held[k], first[k]) for k in held) else float(held["network.out.bias"][0])
        )
    assert seen == ["teacher"] * 3 + [3.0] * 3


def test_consistencys_targets_come_from_an_average(ring: str) -> None:
    task = distill.build(tiny("distill.consistency", teacher=ring, target_decay=0.75))
    assert isinstance(task, Consistency)
    network = task.network()
    bias = task.tensors()["network.out.bias"]
    average = start = bias.clone()
    task.begin(network, 0)
    assert torch.equal(bias, start)
    for step in (1, 2):
        with torch.no_grad():
            dict(network.named_parameters())["network.out.bias"].fill_(step)
        task.begin(network, step)
        average = 0.75 * average + 0.25 * step
        torch.testing.assert_close(bias, average)
    assert not any(parameter.requires_grad for parameter in task.held.parameters())


def test_only_the_student_gets_a_gradient(ring: str) -> None:
    for name, settings in (
        ("progressive", {"start_steps": 2}),
        ("consistency", {}),
        ("consistency", {"from_data": True}),
    ):
        task = distill.build(tiny(f"distill.{name}", teacher=ring, **settings))
        assert isinstance(task, Follower)
        network, streams = task.network(), Streams(0, 0)
        task.held.requires_grad_(True)
        task.teacher.network.requires_grad_(True)
        with torch.no_grad():
            network.network.out.bias += 0.3  # type: ignore[union-attr, operator]
        task.loss(network, task.batch(16, streams), streams).backward()
        assert all(p.grad is not None for p in network.parameters())
        assert all(p.grad is None for held in (task.held, task.teacher.network) for p in held.parameters())


def test_students_begin_as_their_teachers(ring: str) -> None:
    """Where these predict the same; consistency training is told nothing by a teacher."""
    weights = runs.load(ring).network.state_dict()

    def same(name: str, **settings: Any) -> bool:
        network = distill.build(tiny(f"distill.{name}", teacher=ring, **settings)).network()
        return all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())

    assert same("progressive")
    assert same("consistency")
    assert not same("consistency", from_data=True)
    assert not same("reflow")  # from v of cosine to velocities of flow


def test_a_reflowed_run_is_a_teacher_again(ring: str, tmp_path: Path) -> None:
    once = student(tmp_path / "once", "distill.reflow", ring, pairs=64, steps=2)
    again = distill.build(tiny("distill.reflow", teacher=str(once.folder.path), pairs=64, pair_steps=3))
    assert isinstance(again, Reflow)
    assert again.path.coefficients.name == "euler"
    assert len(again.path.coefficients) == 3
    assert again.data.name == "toy.ring"
    for name, tensor in again.network().state_dict().items():
        assert torch.equal(tensor, once.network.state_dict()[name])


@pytest.mark.slow
def test_a_distilled_run_is_sampled_and_judged_by_its_own_sampler(
    ring: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student of two steps that began as its teacher: exactly the teacher's own two steps, started as its four."""
    trained = student(tmp_path / "run", "distill.progressive", ring, start_steps=4, end_steps=2, steps=1, lr=1e-12)
    drawn = runs.sample_run(tmp_path / "run", n=500)
    two = solvers.ddim(COSINE, sampling.angle_grid(COSINE, 2, 0.998, trained.std))
    start = torch.randn(500, 2, generator=Streams(0, 0)("samples")) * trained.sampler().spread
    torch.testing.assert_close(drawn, sample(runs.load(ring).denoiser, two, start), atol=1e-5, rtol=1e-4)

    report = evaluate.evaluate_run(tmp_path / "run", sets=2, size=500)
    (own,) = report.sampled
    assert (own.solver, own.steps, report.nll_gap) == ("ddim", 2, None)
    assert own.energy.mean > 10  # an untrained teacher's
    with pytest.raises(ValueError, match=r"exact: .* is distilled"):
        evaluate.evaluate_run(tmp_path / "run", exact=True)


# -- images, and labels ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small run on digits that was told them, its last layer moved off its first zeros."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "curves", lambda *_: None)
        patch.setattr(draw, "grid", lambda *_: None)
        recipe = tiny("images.digits-unet", **DIGITS, steps=20, lr=1e-2)
        return str(loop.train(recipe, tmp_path_factory.mktemp("digits") / "run", quiet=True).folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, settings",
    [
        ("progressive", {"start_steps": 4, "end_steps": 2, "guidance": 2.0}),
        ("consistency", {"levels": 4}),
        ("consistency", {"levels": 4, "from_data": True}),
        ("reflow", {"pairs": 32, "pair_steps": 2, "guidance": 2.0}),
        ("reflow", {"pairs": 0, "pair_steps": 2}),
    ],
)
def test_a_teacher_of_labels_has_a_student_of_labels(
    digits: str, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    folder = tmp_path / "run"
    student(folder, f"distill.{name}", digits, batch=16, steps=3, **settings)
    three, again, four = (runs.sample_run(folder, n=2, label=label, seed=1) for label in (3, 3, 4))
    assert three.dtype == torch.uint8
    assert three.shape == (2, 1, 8, 8)
    assert torch.equal(three, again)
    assert not torch.equal(three, four)
    assert runs.sample_run(folder, n=2, out=tmp_path / "drawn.png").shape == (2, 1, 8, 8)
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="expected 0 to 9"):
        runs.sample_run(folder, n=2, label=10)
    with pytest.raises(ValueError, match=r"guidance = 2\.0: a student is not guided"):
        runs.sample_run(folder, n=2, label=3, guidance=2.0)


@pytest.mark.slow
def test_guidance_goes_into_the_first_round(digits: str) -> None:
    """Later rounds' teachers were students: guided twice, they would be guided more."""

    def cost(step: int, guidance: float) -> float:
        torch.manual_seed(0)
        recipe = tiny("distill.progressive", teacher=digits, start_steps=4, steps=10, guidance=guidance)
        task = distill.build(recipe)
        network, streams = task.network(), Streams(0, step)
        network.eval()
        return task.loss(network, task.batch(16, streams), streams).item()

    assert cost(4, 3.0) != cost(4, 1.0)
    assert cost(5, 3.0) == cost(5, 1.0)


@pytest.mark.slow
def test_pairs_of_labels_end_where_the_guided_teacher_ends(digits: str) -> None:
    task = distill.build(tiny("distill.reflow", teacher=digits, pair_steps=3, guidance=2.5))
    assert isinstance(task, Reflow)
    pairs, teacher = task.make(torch.arange(6), seed=4), runs.load(digits)
    table = teacher.sampler("ddim", 3)
    guided = teacher.task.denoiser(teacher.network, pairs["labels"], 2.5)  # type: ignore[call-arg]
    torch.testing.assert_close(pairs["data"], sample(guided, table.coefficients, table.spread * pairs["noise"]))
    assert len(pairs["labels"].unique()) > 1


def test_labels_where_there_are_none(ring: str, tmp_path: Path) -> None:
    assert "knows no labels to be guided by" in refused(tmp_path / "run", "distill.reflow", teacher=ring, guidance=2.0)
    with pytest.raises(ValueError, match=r"guidance = 2\.0, from_data = True"):
        tiny("distill.consistency", from_data=True, guidance=2.0)
    student(tmp_path / "run", "distill.consistency", ring, steps=1)
    with pytest.raises(ValueError, match=r"toy\.ring was trained without labels"):
        runs.sample_run(tmp_path / "run", n=2, label=1)


@pytest.fixture(scope="module")
def always_told(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a run that was never without a label."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "curves", lambda *_: None)
        recipe = tiny("images.digits-unet", **DIGITS, label_dropout=0.0, steps=1)
        return str(loop.train(recipe, tmp_path_factory.mktemp("told") / "run", quiet=True).folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, settings", [("progressive", {"start_steps": 4, "end_steps": 2}), ("reflow", {"pairs": 8})]
)
def test_a_teacher_that_was_always_told(
    always_told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, settings: dict[str, Any]
) -> None:
    """Its students draw with labels, their pictures too; guidance is refused before there is a folder."""
    asked = {"teacher": always_told, "batch": 4} | settings
    words = refused(tmp_path / "guided", f"distill.{name}", guidance=2.0, **asked)
    assert words == f"teacher {always_told}: guidance = 2.0: trained with label_dropout = 0, it has no unguided model"
    monkeypatch.setattr(draw, "distilled", distilled)
    trained = student(tmp_path / "run", f"distill.{name}", steps=1, **asked)
    assert (tmp_path / "run" / "samples.png").stat().st_size > 0
    assert runs.sample_run(tmp_path / "run", n=2, label=3).shape == (2, 1, 8, 8)
    again = refused(tmp_path / "again", "distill.reflow", teacher=str(tmp_path / "run"), guidance=2.0)
    assert again.endswith("run: guidance = 2.0: a student is not guided, its teacher was, by 1.0")
    with pytest.raises(ValueError, match="it has no model without a label: give one"):
        trained.draw(trained.sampler(), 2, Streams(0, 0)("samples"))


def test_a_preview_has_a_row_for_each_class(always_told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Tensor] = []
    monkeypatch.setattr(draw, "grid", lambda images, path, labels: told.append(labels) or path)
    task = distill.build(tiny("distill.progressive", teacher=always_told, start_steps=2))
    distilled(RunFolder(tmp_path, task.recipe, 0), task, task.network())
    assert torch.equal(told[0], torch.arange(10).repeat_interleave(8))
    assert len(draw.classes(1000, torch.device("cpu"))) == 160  # not a thousand rows


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["edm", "cosine"])
def test_straight_paths_of_a_teacher_of_edm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str) -> None:
    """The student is a network of velocities: it has the scales of these and learns of a denoiser all the same."""
    monkeypatch.setattr(draw, "curves", lambda *_: None)
    monkeypatch.setattr(draw, "grid", lambda *_: None)
    edm = {"preconditioning": "edm", "parameterization": "x0", "schedule": schedule, "times": "lognormal"}
    recipe = tiny("images.digits-unet", **DIGITS | edm, steps=1, earliest=0.01)
    teacher = str(loop.train(recipe, tmp_path / "teacher", quiet=True).folder)
    once = student(tmp_path / "once", "distill.reflow", teacher, pairs=8, pair_steps=2, steps=1, batch=4)
    assert isinstance(once.network, UnitVariance)
    assert (once.network.kind, once.network.schedule.name) == ("velocity", "flow")
    again = distill.build(tiny("distill.reflow", teacher=str(once.folder.path), pairs=8, pair_steps=2))
    assert again.network().load_state_dict(once.network.state_dict())


# -- what a run of them refuses ----------------------------------------------------------------------------------------


def refused(folder: Path, name: str, **settings: Any) -> str:
    """The one line that a run ends with before it has a folder."""
    with pytest.raises((ValueError, TypeError)) as error:
        loop.train(tiny(name, **settings), folder, quiet=True)
    assert not folder.exists()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"start_steps": 6, "end_steps": 2}, "start_steps = 6, end_steps = 2: expected the first to be 2, 4, 8"),
        ({"start_steps": 4, "end_steps": 4}, "start_steps = 4, end_steps = 4"),
        ({"start_steps": 5, "end_steps": 2}, "start_steps = 5"),
        ({"start_steps": 1, "end_steps": 2}, "start_steps = 1"),
        ({"start_steps": 64, "steps": 5}, "steps = 5: expected one at least for each of 6 rounds"),
    ],
)
def test_steps_that_can_not_be_halved(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tiny("distill.progressive", **settings)


def test_teachers_that_are_none(ring: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, name = tmp_path / "run", "distill.consistency"
    assert "needs a teacher: the folder of a finished run" in refused(run, name)
    assert "teacher: nowhere is no run folder: it does not exist" in refused(run, name, teacher="nowhere")
    shutil.copytree(ring, tmp_path / "half")
    (tmp_path / "half" / "ema.safetensors").unlink()
    assert "half is not finished" in refused(run, name, teacher=str(tmp_path / "half"))
    monkeypatch.delattr(Toy, "denoiser")
    assert "is no generative model" in refused(run, name, teacher=ring)


@pytest.mark.parametrize("name", ["distill.progressive", "distill.consistency"])
def test_teachers_of_another_kind(ring: str, tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    eps = loop.train(tiny("toy.ring", steps=1, width=4, depth=1, parameterization="eps"), tmp_path / "eps", quiet=True)
    assert "predicts eps, which says nothing of the data" in refused(run, name, teacher=str(eps.folder))
    straight = student(tmp_path / "straight", "distill.reflow", ring, pairs=8, steps=1).folder.path
    assert "is distilled itself" in refused(run, name, teacher=str(straight))


def test_reflow_of_a_stochastic_sampler(ring: str, tmp_path: Path) -> None:
    jumps = student(tmp_path / "jumps", "distill.consistency", ring, steps=1).folder.path
    assert "draws noise on the way" in refused(tmp_path / "run", "distill.reflow", teacher=str(jumps), pair_steps=2)


def test_only_the_steps_it_knows(ring: str, tmp_path: Path) -> None:
    halved = student(tmp_path / "halved", "distill.progressive", ring, start_steps=4, end_steps=2, steps=2)
    with pytest.raises(ValueError, match="steps = 3: this student knows a grid of 2 and no other"):
        halved.sampler(steps=3)
    with pytest.raises(ValueError, match=r"solver 'heun'.*was distilled for 'ddim'"):
        halved.sampler("heun")
    jumps = student(tmp_path / "jumps", "distill.consistency", ring, levels=4, steps=1)
    for steps in (0, 5):
        with pytest.raises(ValueError, match=f"steps = {steps}: expected 1 to 4"):
            jumps.sampler(steps=steps)
    assert len(jumps.sampler(steps=4).coefficients) == 4


def test_another_teacher_in_the_same_folder_is_refused(ring: str, tmp_path: Path) -> None:
    teacher = shutil.copytree(ring, tmp_path / "teacher")
    student(tmp_path / "run", "distill.reflow", str(teacher), pairs=8, steps=1)
    (tmp_path / "run" / "ema.safetensors").unlink()
    weights = tensor_file.read(teacher / "ema.safetensors")
    weights["network.out.bias"] += 1e-6
    tensor_file.write(teacher / "ema.safetensors", weights)
    with pytest.raises(ValueError, match=r"was saved with teacher = .* here it is"):
        loop.resume(tmp_path / "run", quiet=True)


def test_pairs_are_kept_and_made_again_the_same(ring: str, tmp_path: Path) -> None:
    path = tmp_path / "run" / reflow.PAIRS
    student(tmp_path / "run", "distill.reflow", ring, pairs=8, steps=1)
    (tmp_path / "run" / "ema.safetensors").unlink()
    contents, pairs = path.read_bytes(), tensor_file.read(path)

    path.write_bytes(contents[:-4] + bytes(4))
    with pytest.raises(ValueError, match=r"pairs\.safetensors is damaged.*delete it, and it is made again"):
        loop.resume(tmp_path / "run", quiet=True)
    tensor_file.write(path, {name: tensor + 1e-6 for name, tensor in pairs.items()})
    with pytest.raises(ValueError, match=r"was saved with pairs = .* here it is"):
        loop.resume(tmp_path / "run", quiet=True)
    path.unlink()
    assert loop.resume(tmp_path / "run", quiet=True).finished
    assert path.read_bytes() == contents
