"""Exports draw the samples of the run in stock diffusers; imports draw those of the stock sampler; the rest is refused.

Samples of one noise are compared: in float32, where stock schedulers keep their tables, within 1e-4 of the samples'
largest value; and in float64, with the same tables put into the stock scheduler, within 1e-9 (DDPMScheduler adds noise
of standard deviation 1e-10 where there should be none).
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion import grids, sampling, schedules, solvers
from seminar.main import main
from training import recipes, run_folder, runs, tensor_file
from training.interop import chain
from training.interop.export import export, stock
from training.interop.importing import import_folder, recipe_of
from training.loop import train
from training.streams import Streams
from training.task import build

diffusers = pytest.importorskip("diffusers")
diffusers.utils.logging.disable_progress_bar()

FLOAT32, FLOAT64 = 1e-4, 1e-9
NEAR_ONE = 1 - 1e-6
UNET: dict[str, Any] = {"channels": (8, 16), "head": 8, "layers": 1, "preconditioning": "none"}
DIT: dict[str, Any] = {"network": "dit", "channels": (16,), "attention": (True,), "head": 8, "layers": 1, "patch": 2}


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights that make outputs of order one, the layers that begin at zero included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in network.parameters():
            if tensor.ndim > 1:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / tensor[0].numel() ** 0.5)
    return network


def finished(path: Path, name: str = "images.digits-unet", **settings: Any) -> Path:
    """The folder of a run that ended with random weights; its averages are other ones."""
    recipe = recipes.change(recipes.find(name), **(UNET | settings))
    folder = run_folder.create(path, recipe, seed=0)
    for seed, file in enumerate((folder.weights, folder.ema)):
        tensor_file.write(file, randomise(build(recipe).network(), seed).state_dict())
    return path


def noise(n: int = 3, shape: tuple[int, ...] = (1, 8, 8), dtype: torch.dtype = torch.float32) -> tuple[Tensor, Any]:
    """What a stock pipeline starts from, and the generator that it goes on with."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(n, *shape, generator=generator, dtype=dtype), generator


@torch.no_grad()
def stock_samples(model: Any, scheduler: Any, steps: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The loop of DDPMPipeline, without its cut to [0, 1]."""
    x, generator = noise(dtype=dtype)
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(model(x, t).sample, t, x, generator=generator).prev_sample
    return x


def as_stock(x: Tensor) -> Tensor:
    return (x / 2 + 0.5).clamp(0, 1)


def near(x: Tensor, y: Tensor, bound: float) -> None:
    assert x.isfinite().all() and x.std() > 0.01
    assert (x - y).abs().max() <= bound * y.abs().max()


def quiet(pipeline: Any) -> Any:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


# --- export -----------------------------------------------------------------------------------------------------------

CHAINS = [
    ("eps", "cosine", 0.998, 998),
    ("v", "cosine", 0.998, 998),
    ("x0", "cosine", NEAR_ONE, 1000),  # ends without signal: beta_T = 1
    ("v", "vp_linear", 0.998, 998),
    ("eps", "ddpm_linear", NEAR_ONE, 1000),
    ("v", "ddpm_linear", 0.9, 900),  # the stock chain cut short: no chain of 900 linear betas
    ("v", "ddpm_cosine", NEAR_ONE, 1000),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind, schedule, latest, length", CHAINS)
def test_stock_samples_are_ours(tmp_path: Path, kind: str, schedule: str, latest: float, length: int) -> None:
    run = finished(tmp_path / "run", parameterization=kind, schedule=schedule, latest=latest)
    folder = export(run).folder
    pipeline = quiet(diffusers.DDPMPipeline.from_pretrained(folder))
    ddpm, ddim = pipeline.scheduler, diffusers.DDIMScheduler.from_pretrained(folder, subfolder="scheduler",
                                                                             timestep_spacing="leading")  # fmt: skip
    assert type(ddpm) is diffusers.DDPMScheduler and ddpm.config.num_train_timesteps == length
    trained = runs.load(run)
    times = torch.arange(1, length + 1, dtype=torch.float64) / 1000
    exact = trained.schedule.alpha(times) ** 2
    assert (ddpm.alphas_cumprod.double() - exact).abs().max() < 1e-6
    scale = length / 1000
    for scheduler, solver, grid in (
        (ddpm, solvers.ddpm, grids.trailing(length, 7) * scale),  # 7 divides neither 998 nor 1000
        (ddim, solvers.ddim, grids.leading(length, 7) * scale),
    ):
        table = solver(trained.schedule, grid)
        ours = sampling.sample(trained.denoiser, table, *noise())
        near(stock_samples(pipeline.unet, scheduler, 7), ours, FLOAT32)
        if scheduler is ddpm:
            drawn = pipeline(3, generator=torch.Generator().manual_seed(3), num_inference_steps=7, output_type="pt")
            near(drawn.images, as_stock(ours), FLOAT32)
        scheduler.alphas_cumprod = exact
        scheduler.one = scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
        trained.network.double()
        ours = sampling.sample(trained.denoiser, table, *noise(dtype=torch.float64))
        near(stock_samples(pipeline.unet.double(), scheduler, 7, torch.float64), ours, FLOAT64)
        trained.network.float(), pipeline.unet.float()


def test_unit_preconditioning_of_unit_data_is_stock(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", preconditioning="unit", std=1.0)
    pipeline, trained = diffusers.DDPMPipeline.from_pretrained(export(run).folder), runs.load(run)
    table = solvers.ddpm(trained.schedule, grids.trailing(998, 7) * 0.998)
    near(
        stock_samples(pipeline.unet, pipeline.scheduler, 7),
        sampling.sample(trained.denoiser, table, *noise()),
        FLOAT32,
    )


def test_averaged_weights_or_the_last(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    x, t = noise()[0], torch.tensor(0.5, dtype=torch.float64)
    for weights, other in (("ema", "last"), ("last", "ema")):
        unet = diffusers.UNet2DModel.from_pretrained(export(run, tmp_path / weights, weights).folder, subfolder="unet")  # type: ignore[arg-type]
        with torch.no_grad():
            drawn = unet(x, 499).sample
        assert torch.equal(drawn, runs.load(run, weights).network(x, t))  # type: ignore[arg-type]
        assert not torch.equal(drawn, runs.load(run, other).network(x, t))  # type: ignore[arg-type]


def test_labels_go_through_the_stock_pipeline_that_takes_them(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", classes=10)
    exported = export(run)
    assert exported.pipeline == "ConsistencyModelPipeline" and '10 says "not told"' in exported.notes[-1]
    pipeline, trained = quiet(diffusers.ConsistencyModelPipeline.from_pretrained(exported.folder)), runs.load(run)
    labels = torch.tensor([0, 9, 10])
    table = solvers.ddpm(trained.schedule, grids.trailing(998, 7) * 0.998)
    ours = sampling.sample(trained.task.denoiser(trained.network, labels), table, *noise())  # type: ignore[call-arg]
    generator = torch.Generator().manual_seed(3)
    drawn = pipeline(3, class_labels=labels.tolist(), num_inference_steps=7, generator=generator, output_type="pt")
    near(drawn.images, as_stock(ours), FLOAT32)


@pytest.mark.parametrize("schedule", ["edm", "ve", "cosine", "flow"])
def test_edm_is_exported_from_any_schedule(tmp_path: Path, schedule: str) -> None:
    run = finished(tmp_path / "run", preconditioning="edm", parameterization="x0", schedule=schedule, earliest=0.01)
    exported = export(run)
    assert exported.pipeline == "ConsistencyModelPipeline"  # DDPMPipeline would not scale the model's input
    pipeline = quiet(diffusers.ConsistencyModelPipeline.from_pretrained(exported.folder))
    trained = runs.load(run)
    assert isinstance(pipeline.scheduler, diffusers.EDMEulerScheduler)
    grid = grids.karras(trained.schedule, 6, 0.998, 0.01)
    noised = noise()[0] * pipeline.scheduler.init_noise_sigma * trained.schedule.alpha(grid[0]).float()
    early = sampling.sample(trained.denoiser, solvers.ddim(trained.schedule, grid), noised)
    ours = trained.denoiser(early, grid[-1])  # its last step goes to noise 0, which ve and edm have at no time
    generator = torch.Generator().manual_seed(3)
    drawn = pipeline(3, num_inference_steps=7, generator=generator, output_type="pt")
    near(drawn.images, as_stock(ours), FLOAT32)


def test_a_transformer_of_pixels_goes_in_parts(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", **DIT, classes=10)
    exported = export(run, tmp_path / "out")
    assert exported.pipeline is None and exported.parts == ("transformer", "scheduler")
    assert exported.notes[-1] == 'labels 0 .. 9; 1000 says "not told"'
    model = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path / "out", subfolder="transformer")
    x, label = noise()[0], torch.tensor([0, 9, 1000])
    with torch.no_grad():
        drawn = model.eval()(x, torch.full((3,), 499), label).sample
    assert torch.equal(drawn, runs.load(run).network(x, torch.tensor(0.5), label))
    back = runs.load(import_folder(tmp_path / "out", tmp_path / "back", classes=10).path)
    assert torch.equal(back.network(x, torch.tensor(500 / 998), label), drawn)


REFUSED = [
    ({"preconditioning": "unit", "std": 0.5}, "--preconditioning none"),
    ({"schedule": "flow", "parameterization": "velocity"}, "--preconditioning edm"),
    ({"schedule": "sub_vp"}, "alpha^2 + sigma^2 = 1"),
    ({"parameterization": "score"}, "eps, x0, v"),
    ({"parameterization": "eps", "latest": NEAR_ONE}, "--parameterization v"),
    (DIT | {"preconditioning": "edm", "parameterization": "x0"}, "unit variance"),
]


@pytest.mark.parametrize("settings, told", REFUSED)
def test_what_no_stock_scheduler_fits_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], told: str
) -> None:
    run = finished(tmp_path / "run", **settings)
    assert main(["export", str(run)]) == 2
    line = capsys.readouterr().err
    assert told in line and line.count("\n") == 1
    assert not (tmp_path / "run-diffusers").exists()


def test_an_export_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(tmp_path / "run")

    def full(self: Any, folder: Path) -> None:
        (Path(folder) / "model_index.json").write_text("{")
        raise OSError("no room")

    monkeypatch.setattr(diffusers.DDPMPipeline, "save_pretrained", full)
    with pytest.raises(OSError, match="no room"):
        export(run)
    assert list(tmp_path.iterdir()) == [run]


@pytest.mark.parametrize("latest, steps", [(0.998, 998), (NEAR_ONE, 1000)])
def test_an_export_says_how_many_steps_it_has(tmp_path: Path, latest: float, steps: int) -> None:
    """And that a pipeline's own thousand would be too many, where they are."""
    told = export(finished(tmp_path / "run", latest=latest)).notes
    assert f"k = 1 .. {steps}" in told[0]
    assert [line for line in told if "at most" in line] == (
        ["call the pipeline with num_inference_steps of at most 998"] if steps < 1000 else []
    )


def test_an_export_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(tmp_path / "run")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


# --- our tables inside stock pipelines --------------------------------------------------------------------------------

ANY = [
    ("ddpm", {}),
    ("ddim", {"preconditioning": "unit", "std": 0.75, "parameterization": "eps"}),
    ("heun", {"preconditioning": "unit", "std": 0.5, "schedule": "flow", "parameterization": "velocity"}),
    ("dpmpp_2m", {"preconditioning": "unit", "std": 0.5, "schedule": "ve", "parameterization": "x0"}),
    ("euler", {"preconditioning": "edm", "std": 0.5, "schedule": "edm", "parameterization": "x0"}),
    ("ddim", {"preconditioning": "edm", "std": 0.5, "schedule": "cosine", "parameterization": "x0"}),
]


@pytest.mark.slow
@pytest.mark.parametrize("solver, settings", ANY)
def test_tables_are_a_scheduler(tmp_path: Path, solver: str, settings: dict[str, Any]) -> None:
    from training.interop.table_scheduler import TableScheduler, of_recipe

    trained = runs.load(finished(tmp_path / "run", classes=10, **settings))
    of_recipe(trained.recipe, solver).save_pretrained(tmp_path / "scheduler")  # type: ignore[arg-type]
    scheduler = TableScheduler.from_pretrained(tmp_path / "scheduler")
    pipeline = quiet(diffusers.ConsistencyModelPipeline(stock(trained.network), scheduler))
    labels, steps = torch.tensor([0, 9, 10]), 5
    for _ in range(2):  # a scheduler is used again
        generator = torch.Generator().manual_seed(3)
        drawn = pipeline(
            3, class_labels=labels.tolist(), num_inference_steps=steps, generator=generator, output_type="pt"
        )
    table = trained.sampler(solver, steps).coefficients
    x, generator = noise()
    denoiser = trained.task.denoiser(trained.network, labels)  # type: ignore[call-arg]
    near(drawn.images, as_stock(sampling.sample(denoiser, table, x * scheduler.init_noise_sigma, generator)), FLOAT32)
    with pytest.raises(ValueError, match="set_timesteps"):
        scheduler.step(x, scheduler.timesteps[-1], x)


@pytest.mark.parametrize("latest", [0.6, 0.998])
def test_a_table_starts_from_the_law_at_its_latest_time(tmp_path: Path, latest: float) -> None:
    """As a stochastic sampler of the run does: at 0.6 there is much left of the data."""
    from training.interop.table_scheduler import of_recipe

    settings = {"preconditioning": "unit", "std": 3.0, "schedule": "flow", "parameterization": "velocity"}
    trained = runs.load(finished(tmp_path / "run", latest=latest, **settings))
    scheduler = of_recipe(trained.recipe, "ddpm")  # type: ignore[arg-type]
    assert scheduler.init_noise_sigma == pytest.approx(trained.sampler("ddpm", 4).spread, rel=1e-12)
    scheduler.set_timesteps(4)
    assert float(scheduler.timesteps[0]) == pytest.approx(1000 * latest - 1)


@pytest.mark.parametrize("latest, n", [(0.998, 7), (0.998, 50), (NEAR_ONE, 10), (NEAR_ONE, 50)])
def test_a_stock_ddim_steps_from_each_of_its_times_to_the_next(latest: float, n: int) -> None:
    """It steps down by T // n whatever the next time is, and from the last one to the data."""
    recipe: Any = recipes.change(recipes.find("latent.unet"), latest=latest, schedule="cosine")
    name, config = chain.scheduler_of(recipe, deterministic=True)
    assert name == "DDIMScheduler"
    scheduler = diffusers.DDIMScheduler(**config)
    scheduler.set_timesteps(n)
    step = config["num_train_timesteps"] // n
    assert set((-scheduler.timesteps.diff()).tolist()) == {step}
    assert 0 <= int(scheduler.timesteps[-1]) < step


# --- import -----------------------------------------------------------------------------------------------------------


def test_round_trip_is_the_same_denoiser(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", classes=10)
    back = runs.load(import_folder(export(run).folder, tmp_path / "back", classes=10, data="digits").path)
    trained = runs.load(run)
    x, label = noise()[0], torch.tensor([0, 9, 10])
    for k in (1, 37, 500, 998):
        here, there = (torch.tensor(k / length, dtype=torch.float64) for length in (1000, 998))
        assert torch.equal(trained.network(x, here, label), back.network(x, there, label))
        for guidance in (1.0, 3.0):
            ours, theirs = (
                r.task.denoiser(r.network, label, guidance)(x, t)  # type: ignore[call-arg]
                for r, t in ((trained, here), (back, there))
            )
            torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    assert back.task.facts() == trained.task.facts()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Made by diffusers alone, with what its schedulers do by default: x_0 cut to [-1, 1]."""
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, freq_shift=1, flip_sin_to_cos=False, downsample_padding=0,
    )  # fmt: skip
    return quiet(diffusers.DDPMPipeline(randomise(unet).eval(), diffusers.DDPMScheduler()))


@pytest.fixture
def checkpoint(pipeline: Any, tmp_path: Path) -> Path:
    pipeline.save_pretrained(tmp_path / "stock")
    return tmp_path / "stock"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2"},
        {"prediction_type": "v_prediction", "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
        {"prediction_type": "sample", "clip_sample": False, "num_train_timesteps": 250},
        {"clip_sample_range": 0.7, "trained_betas": torch.linspace(1e-4, 0.1, 90).tolist(), "num_train_timesteps": 90},
    ],
)
def test_an_import_draws_the_stock_samplers_samples(
    pipeline: Any, checkpoint: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    scheduler = diffusers.DDPMScheduler(timestep_spacing="trailing", **settings)
    scheduler.save_pretrained(checkpoint / "scheduler")
    trained = runs.load(import_folder(checkpoint, tmp_path / "run").path)
    grid = grids.trailing(scheduler.config.num_train_timesteps, 7)
    ours = sampling.sample(trained.denoiser, solvers.ddpm(trained.schedule, grid), *noise())
    near(stock_samples(pipeline.unet, scheduler, 7), ours, FLOAT32)


def test_a_silent_config_means_the_stock_defaults(pipeline: Any, checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "scheduler/scheduler_config.json").write_text('{"_class_name": "DDPMScheduler"}')
    trained = runs.load(import_folder(checkpoint, tmp_path / "run").path)
    ours = sampling.sample(trained.denoiser, solvers.ddpm(trained.schedule, grids.leading(1000, 7)), *noise())
    near(stock_samples(pipeline.unet, diffusers.DDPMScheduler(), 7), ours, FLOAT32)


def test_an_import_samples_and_teaches(checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["import", str(checkpoint), "--out", str(run), "--data", "digits"]) == 0
    assert main(["sample", str(run), "--n", "4", "--steps", "3", "--out", str(tmp_path / "x.png")]) == 0
    reflow = recipes.find("distill.reflow")
    student = recipes.change(reflow, teacher=str(run), pairs=8, pair_steps=2, steps=1, batch=4)
    assert train(student, out=tmp_path / "student", quiet=True).finished


def imported(checkpoint: Path, out: Path, **scheduler: Any) -> runs.Trained:
    diffusers.DDPMScheduler(**scheduler).save_pretrained(checkpoint / "scheduler")
    return runs.load(import_folder(checkpoint, out, data="digits").path)


STUDENTS: list[tuple[str, dict[str, Any]]] = [
    ("progressive", {"start_steps": 2}),
    ("consistency", {"levels": 4}),
    ("consistency", {"levels": 4, "from_data": True}),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind, settings", STUDENTS)
def test_a_student_learns_what_its_teacher_predicts_and_not_where_a_sampler_cuts_it(
    checkpoint: Path, tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    """All of this model's predictions lie beyond +-1e-3: cut off, they would be one constant, without a gradient."""
    learned = []
    for name, cut in (("cut", {"clip_sample_range": 1e-3}), ("free", {"clip_sample": False})):
        teacher = imported(checkpoint, tmp_path / name, prediction_type="sample", **cut)
        x = teacher.denoiser(noise()[0], torch.tensor(0.5)).abs().max()
        assert x <= 1e-3 if name == "cut" else x > 0.1
        torch.manual_seed(0)
        student = recipes.change(recipes.find(f"distill.{kind}"), teacher=str(teacher.folder.path), batch=4, **settings)
        task, streams = build(student), Streams(0, 0)
        network = task.network().eval()
        loss = task.loss(network, task.batch(4, streams), streams)
        loss.backward()
        drawn = task.denoiser(network)(noise()[0], task.sampler(1).coefficients.times[0])  # type: ignore[attr-defined]
        learned.append((loss, drawn, *(p.grad for p in network.parameters())))
    for one, other in zip(*learned, strict=True):
        torch.testing.assert_close(one, other)
    assert max(float(gradient.abs().max()) for gradient in learned[0][2:]) > 1e-4


def test_pairs_are_samples_so_they_are_cut(checkpoint: Path, tmp_path: Path) -> None:
    teacher = imported(checkpoint, tmp_path / "run", clip_sample_range=0.25)
    task = build(recipes.change(recipes.find("distill.reflow"), teacher=str(tmp_path / "run"), pair_steps=2))
    pairs = task.make(torch.arange(4), 0)  # type: ignore[attr-defined]
    table = teacher.sampler("ddim", 2)
    drawn = sampling.sample(teacher.denoiser, table.coefficients, table.spread * pairs["noise"])
    torch.testing.assert_close(pairs["data"], drawn)
    assert drawn.abs().max() == 0.25


def test_a_model_that_was_always_told_has_students_of_labels(tmp_path: Path) -> None:
    """Its table of labels has none that says "not told"."""
    exported = export(finished(tmp_path / "run", classes=9), tmp_path / "out")
    teacher = import_folder(exported.folder, tmp_path / "back", classes=10, data="digits").path
    reflow = recipes.find("distill.reflow")
    student = recipes.change(reflow, teacher=str(teacher), pairs=8, pair_steps=2, steps=1, batch=4)
    folder = train(student, out=tmp_path / "student", quiet=True).folder
    assert (folder / "samples.png").stat().st_size > 0
    for run in (teacher, folder):
        assert runs.sample_run(run, n=2, steps=2, label=9).shape == (2, 1, 8, 8)
        with pytest.raises(ValueError, match="no model without a label: give one"):
            runs.sample_run(run, n=2, steps=2)


def test_labels_are_withheld_once(tmp_path: Path) -> None:
    """A stock transformer forgets a tenth of its labels while it is trained, each block others; our loss does that."""
    exported = export(finished(tmp_path / "run", **DIT, classes=10), tmp_path / "out")
    model = diffusers.DiTTransformer2DModel.from_pretrained(exported.folder, subfolder="transformer").train()
    network = runs.load(import_folder(exported.folder, tmp_path / "back", classes=10).path).network.train()
    x, t, label = torch.randn(64, 1, 8, 8), torch.full((64,), 0.5), torch.arange(64) % 10
    one, two = (network(x, t, label) for _ in range(2))
    assert torch.equal(one, two)
    one, two = (model(x, 499 * t, label).sample for _ in range(2))
    assert not torch.equal(one, two)


def test_an_import_says_what_it_was_told(checkpoint: Path, tmp_path: Path) -> None:
    """And is a finished run only when all of it is there: its averages come last."""
    told = {"std": 0.3, "data": "parquet", "path": "/somewhere"}
    run = import_folder(checkpoint, tmp_path / "run", **told)  # type: ignore[arg-type]
    assert {name: getattr(run.recipe, name) for name in told} == told
    assert run_folder.open_run(run.path).recipe == run.recipe
    written: list[Path] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_file, "write", lambda path, tensors: written.append(path))
        again = import_folder(checkpoint, tmp_path / "again")
    assert written == [again.weights, again.ema]
    assert again.recipe.std == 0.5
    assert json.loads((again.path / "scheduler_config.json").read_text())["_class_name"] == "DDPMScheduler"


@pytest.mark.parametrize("name", ["images.digits-unet", "images.fashion-dit"])
def test_an_import_of_known_data_has_their_standard_deviation(checkpoint: Path, tmp_path: Path, name: str) -> None:
    known = recipes.find(name)
    run = import_folder(checkpoint, tmp_path / "run", data=known.data, path="")  # type: ignore[attr-defined]
    assert run.recipe.std == known.std != 0.5  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["UNet2DModel", "DiTTransformer2DModel"])
def test_what_a_models_config_leaves_out_is_the_stock_default(name: str) -> None:
    """As diffusers' own signature has it, but for what decides whether it can be imported at all."""
    stock = {
        name: each.default for name, each in inspect.signature(getattr(diffusers, name).__init__).parameters.items()
    }
    said = {"_class_name": name, "sample_size": 8, "in_channels": 1, "out_channels": 1}
    if name == "UNet2DModel":
        said |= {"block_out_channels": [8, 16], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"]}
    recipe = recipe_of(said, {"_class_name": "DDPMScheduler"}, classes=None)
    assert recipe.head == stock["attention_head_dim"] and recipe.dropout == stock["dropout"]
    assert recipe.layers == (stock["layers_per_block"] if name == "UNet2DModel" else stock["num_layers"])
    if name != "UNet2DModel":
        assert recipe.channels == (stock["num_attention_heads"] * stock["attention_head_dim"],)
        assert recipe.patch == stock["patch_size"] and recipe.classes == stock["num_embeds_ada_norm"]


def test_a_model_alone_needs_a_scheduler(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--scheduler FOLDER"):
        import_folder(checkpoint / "unet", tmp_path / "run")
    run = import_folder(checkpoint / "unet", tmp_path / "run", scheduler=checkpoint / "scheduler")
    with pytest.raises(ValueError, match="holds a run"):
        import_folder(checkpoint, tmp_path / "run")
    with pytest.raises(ValueError, match="import it with --data"):
        runs.load(run.path).task.batch(1, Streams(0, 0))


def edit(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


class Payload:
    """What a pickle may do when it is read."""

    def __reduce__(self) -> Any:
        return (Path("/tmp/seminar-payload-ran").touch, ())


WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


def pickled(root: Path) -> None:
    (root / WEIGHTS).unlink()
    (root / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Payload()))


def truncated(root: Path) -> None:
    (root / WEIGHTS).write_bytes((root / WEIGHTS).read_bytes()[:-100])


BAD = {
    "no folder": (shutil.rmtree, "does not exist"),
    "pickled": (pickled, "could run any code"),
    "no weights": (lambda r: (r / WEIGHTS).unlink(), "is missing"),
    "cut short": (truncated, "does not fit config.json"),
    "another model's": (lambda r: edit(r / "unet/config.json", layers_per_block=2), "does not fit config.json"),
    "another width": (lambda r: edit(r / "unet/config.json", block_out_channels=[16, 16]), "does not fit config.json"),
    "no config": (lambda r: (r / "unet/config.json").unlink(), "no config.json"),
    "no JSON": (lambda r: (r / "unet/config.json").write_text("{"), "is no config"),
    "a list": (lambda r: (r / "unet/config.json").write_text("[]"), "expected a table, got list"),
    "another class": (lambda r: edit(r / "unet/config.json", _class_name="os.system"), "expected UNet2DModel or"),
    "text": (lambda r: edit(r / "unet/config.json", _class_name="UNet2DConditionModel"), "expected UNet2DModel or"),
    "latents": (lambda r: edit(r / "unet/config.json", in_channels=4), "expected 1 or 3 of pixels"),
    "learned variance": (lambda r: edit(r / "unet/config.json", out_channels=2), "the same of what is predicted"),
    "no size": (lambda r: edit(r / "unet/config.json", sample_size=None), "sample_size"),
    "fourier": (lambda r: edit(r / "unet/config.json", time_embedding_type="fourier"), "expected 'positional'"),
    "no blocks": (lambda r: edit(r / "unet/config.json", down_block_types=3), "expected a list"),
    "no scheduler": (lambda r: (r / "scheduler/scheduler_config.json").unlink(), "--scheduler FOLDER"),
    "another scheduler": (
        lambda r: edit(r / "scheduler/scheduler_config.json", _class_name="UniPCMultistepScheduler"),
        "expected DDPMScheduler or DDIMScheduler",
    ),
    "flow": (lambda r: edit(r / "scheduler/scheduler_config.json", prediction_type="flow"), "prediction_type"),
    "thresholding": (lambda r: edit(r / "scheduler/scheduler_config.json", thresholding=True), "thresholding"),
    "learned": (
        lambda r: edit(r / "scheduler/scheduler_config.json", variance_type="learned_range"),
        "expected one that is not learned",
    ),
    "beta above 1": (lambda r: edit(r / "scheduler/scheduler_config.json", beta_end=1.5), "between 0 and 1"),
    "sigmoid": (lambda r: edit(r / "scheduler/scheduler_config.json", beta_schedule="sigmoid"), "scaled_linear"),
    "betas": (lambda r: edit(r / "scheduler/scheduler_config.json", trained_betas=[0.1, 2.0]), "trained_betas"),
    "few betas": (lambda r: edit(r / "scheduler/scheduler_config.json", trained_betas=[0.1]), "1 of them"),
    "no steps": (lambda r: edit(r / "scheduler/scheduler_config.json", num_train_timesteps=0), ">= 1"),
    "a vae": (lambda r: (r / "vae").mkdir(), "autoencoder"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_folders_are_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    spoil, told = BAD[what]
    spoil(checkpoint)
    assert main(["import", str(checkpoint), "--out", str(tmp_path / "run")]) == 2
    line = capsys.readouterr().err
    assert told in line and line.count("\n") == 1
    assert not (tmp_path / "run").exists() and not Path("/tmp/seminar-payload-ran").exists()


@pytest.mark.parametrize("schedule", chain.NAMED)
def test_named_betas_are_the_stock_ones(schedule: str) -> None:
    config = chain.chain_config(schedule, 1000)
    betas = diffusers.DDPMScheduler(**config).betas
    torch.testing.assert_close(chain.betas_of(config).float(), betas, rtol=0, atol=1e-7)
    exact = schedules.betas_from(schedules.SCHEDULES[schedule]().alpha(torch.arange(1001).double() / 1000) ** 2)
    torch.testing.assert_close(chain.betas_of(config), exact, rtol=1e-8, atol=0)


def test_what_a_config_leaves_out_or_null_is_the_stock_default() -> None:
    nulls = {"num_train_timesteps": None, "beta_schedule": None, "beta_start": None, "beta_end": None}
    for config in ({}, nulls | {"trained_betas": None, "rescale_betas_zero_snr": None}):
        found = chain.betas_of(config)
        torch.testing.assert_close(found.float(), diffusers.DDPMScheduler().betas, rtol=0, atol=1e-7)


def test_an_imported_recipe_is_not_trained(tmp_path: Path) -> None:
    recipe = recipes.find("imported.diffusers")
    with pytest.raises(ValueError, match="seminar import"):
        build(recipe)
    assert dataclasses.asdict(recipe)["model"] == ""
