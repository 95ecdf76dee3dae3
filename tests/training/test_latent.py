"""The autoencoder's loss is the bound, latents have variance 1, and stock pipelines of latents draw our samples."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from diffusion import grids, sampling, solvers
from seminar.main import main
from training import prepared, recipes, runs, tensor_file
from training.autoencoders import Autoencoding
from training.data import pixels
from training.families.latent import LATENTS, Latent
from training.interop.export import export
from training.loop import resume, train
from training.quantised import Quantised, Quantising
from training.runs import Trained
from training.streams import Streams
from training.task import build

diffusers = pytest.importorskip("diffusers")
diffusers.utils.logging.disable_progress_bar()

AUTOENCODER: dict[str, Any] = {"data": "digits", "size": 8, "channels": (8, 16), "latents": 2, "batch": 64}
DIT: dict[str, Any] = {"channels": (16,), "head": 8, "layers": 1, "patch": 2, "batch": 16}
UNET: dict[str, Any] = {"channels": (8, 16), "head": 8, "layers": 1, "batch": 16}
FLOAT32 = 1e-4


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = recipes.change(recipes.find("latent.autoencoder"), **AUTOENCODER, steps=30, lr=3e-3)
    return train(recipe, out=tmp_path_factory.mktemp("runs") / "autoencoder", quiet=True).folder


def trained(autoencoder: Path, name: str, out: Path, **settings: Any) -> Path:
    recipe = recipes.change(recipes.find(name), autoencoder=str(autoencoder), steps=2, lr=0.05, **settings)
    return train(recipe, out=out, quiet=True).folder


@pytest.fixture(scope="module")
def dit(autoencoder: Path) -> Path:
    return trained(autoencoder, "latent.dit", autoencoder.parent / "dit", **DIT)


@pytest.fixture(scope="module")
def unet(autoencoder: Path) -> Path:
    return trained(autoencoder, "latent.unet", autoencoder.parent / "unet", **UNET, preconditioning="unit")


def latent(run: Path) -> tuple[Trained, Latent]:
    loaded = runs.load(run)
    assert isinstance(loaded.task, Latent)
    return loaded, loaded.task


@pytest.mark.slow
def test_the_autoencoders_loss_is_the_bound_in_nats_a_pixel(autoencoder: Path) -> None:
    folder = runs.finished(autoencoder)
    for beta in (1.0, 0.25):
        recipe = recipes.change(folder.recipe, beta=beta)
        task = build(recipe)
        assert isinstance(task, Autoencoding)
        network, streams = runs.trained_network(folder, task), Streams(0, 5)
        (x,) = batch = task.batch(6, streams)
        code = network.model.encode(x).latent_dist  # type: ignore[union-attr, operator]
        eps = torch.randn(6, 2, 4, 4, generator=streams("noise"))
        likelihood = Normal(network.model.decode(code.mean + code.std * eps).sample, 0.1).log_prob(x)  # type: ignore[union-attr, operator]
        divergence = kl_divergence(Normal(code.mean, code.std), Normal(0.0, 1.0))
        wanted = (-likelihood.sum() + beta * divergence.sum()) / x.numel()
        torch.testing.assert_close(task.loss(network, batch, streams), wanted, rtol=1e-5, atol=1e-5)


def test_an_autoencoder_learns_and_shows_it(autoencoder: Path) -> None:
    log = [line["loss"] for line in runs.run_folder.read_log(autoencoder / "metrics.jsonl")]
    assert log[-1] < 0.7 * log[0]
    assert (autoencoder / "samples.png").stat().st_size > 0


def of_a_codebook(out: Path, steps: int) -> Path:
    settings = AUTOENCODER | {"kind": "vq", "codes": 64}
    recipe = recipes.change(recipes.find("latent.autoencoder"), **settings, steps=steps, lr=5e-3)
    return train(recipe, out=out, quiet=True).folder


@pytest.fixture(scope="module")
def codebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_a_codebook(tmp_path_factory.mktemp("runs") / "codebook", steps=20)


def quantised(folder: Path) -> tuple[Quantising, Quantised, Tensor]:
    task = build(runs.finished(folder).recipe)
    assert isinstance(task, Quantising)
    network = runs.trained_network(runs.finished(folder), task)
    assert isinstance(network, Quantised)
    return task, network, pixels.to_model(task.source.images(torch.arange(len(task.source))))


@pytest.mark.slow
def test_a_codebooks_loss_is_van_den_oords(codebook: Path) -> None:
    """Value and gradients: the decoder's and a quarter of the code's go to the encoder, the code's to the book."""
    task, network, x = quantised(codebook)
    x = x[:6]
    network.requires_grad_(True)
    task.loss(network, (x,), Streams(0, 0)).backward()
    book = network.model.quantize.embedding.weight
    found = [p.grad.clone() for p in (book, network.model.quant_conv.bias, network.model.decoder.conv_out.bias)]
    z = network.model.encode(x).latents
    flat = z.permute(0, 2, 3, 1).reshape(-1, 2)
    nearest = (flat[:, None] - book[None]).square().sum(2).argmin(1)
    e = book[nearest].reshape(6, 4, 4, 2).permute(0, 3, 1, 2)
    decoded = network.model.decode(z + (e - z).detach(), force_not_quantize=True).sample
    code = (z.detach() - e).square().mean() + (z - e.detach()).square().mean() / 4
    wanted = -Normal(decoded, 0.1).log_prob(x).mean() + code / (2 * 0.1**2)
    torch.testing.assert_close(task.loss(network, (x,), Streams(0, 0)), wanted)
    network.zero_grad()
    wanted.backward()
    for gradient, p in zip(
        found, (book, network.model.quant_conv.bias, network.model.decoder.conv_out.bias), strict=True
    ):
        torch.testing.assert_close(gradient, p.grad)


@pytest.mark.slow
def test_a_codebook_is_learned_and_used(tmp_path: Path) -> None:
    """Far below the error of the best constant, the mean image; diffusers' own first entries leave two in use."""
    codebook = of_a_codebook(tmp_path / "run", steps=100)
    task, network, x = quantised(codebook)
    error = (network.back(x) - x).square().mean() / (x - x.mean(0)).square().mean()
    assert error < 0.35
    counts = task.use(network)
    assert counts.sum() == 16 * len(x) and len(counts) == 64
    assert Categorical(counts / counts.sum()).perplexity() > 8
    assert (codebook / "codebook.png").stat().st_size > 0 and (codebook / "samples.png").stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("name, settings", [("latent.unet", UNET), ("latent.dit", DIT)])
def test_latents_before_a_codebook_go_through_stock_pipelines(
    codebook: Path, tmp_path: Path, name: str, settings: dict[str, Any]
) -> None:
    loaded, task = latent(trained(codebook, name, tmp_path / "run", **settings))
    moments = tensor_file.read(tmp_path / "run" / LATENTS)["moments"]
    x = pixels.to_model(task.source.images(torch.arange(8)))
    with torch.no_grad():
        torch.testing.assert_close(moments[:8, :2], task.autoencoder.model.encode(x).latents)
    assert not moments[:, 2:].any()
    exported = export(tmp_path / "run", tmp_path / "out")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(exported.folder)
    pipeline.set_progress_bar_config(disable=True)
    part, asked, labels = ("vae", [0, 3, 9], torch.tensor([0, 3, 9])) if name == "latent.dit" else ("vqvae", 3, None)
    assert type(getattr(pipeline, part)) is diffusers.VQModel
    z = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    denoiser = task.denoiser(loaded.network, labels)
    ours = sampling.sample(denoiser, solvers.ddim(task.schedule, grids.trailing(1000, 10)), z)
    guided = {"guidance_scale": 1.0} if name == "latent.dit" else {}
    generator = torch.Generator().manual_seed(3)
    drawn = pipeline(asked, generator=generator, num_inference_steps=10, output_type="np", **guided)
    near(torch.from_numpy(drawn.images).permute(0, 3, 1, 2), decoded(task, ours))


def test_latents_are_the_encoders_with_variance_one(unet: Path, autoencoder: Path) -> None:
    loaded, task = latent(unet)
    k = task.scale.clone()
    prepared.ready(task, loaded.folder)
    assert torch.equal(k, task.scale)  # the weights' k is the latents'
    n = len(task.latents)
    x = pixels.to_model(task.pixels.source.images(torch.arange(n)))
    with torch.no_grad():
        law = task.autoencoder.model.encode(x).latent_dist
    variance = law.mean.double().var(correction=0) + law.std.double().square().mean()
    torch.testing.assert_close(k.double() ** 2 * variance, torch.ones_like(variance), rtol=1e-5, atol=0)
    z = torch.cat([task.batch(n // 3, Streams(0, step))[0] for step in range(3)])
    assert abs(z.var().item() - 1) < 0.02


def test_latents_are_made_once(dit: Path) -> None:
    loaded, task = latent(dit)
    before = (dit / LATENTS).stat().st_mtime_ns
    prepared.ready(task, loaded.folder)
    (rows,) = task.parts()
    again = task.make(rows, seed=0)
    assert (dit / LATENTS).stat().st_mtime_ns == before
    for name, tensor in tensor_file.read(dit / LATENTS).items():
        assert torch.equal(tensor, again[name])
    z, t, labels = task.batch(5, Streams(0, 7))
    assert all(torch.equal(a, b) for a, b in zip((z, t, labels), task.batch(5, Streams(0, 7)), strict=True))
    assert not torch.equal(z, task.batch(5, Streams(1, 7))[0])


def test_mirrored_images_have_latents_of_their_own(autoencoder: Path, tmp_path: Path) -> None:
    from PIL import Image

    for i in range(6):
        Image.frombytes("L", (8, 8), bytes((i * j) % 256 for j in range(64))).save(tmp_path / f"{i}.png")
    settings = AUTOENCODER | {"data": "folder", "path": str(tmp_path), "held_out": 0, "flip": True, "batch": 4}
    recipe = recipes.change(recipes.find("latent.autoencoder"), **settings, steps=1)
    folder = train(recipe, out=tmp_path / "autoencoder", quiet=True).folder
    task = build(recipes.change(recipes.find("latent.unet"), autoencoder=str(folder), **UNET))
    assert isinstance(task, Latent)
    (rows,) = task.parts()
    assert len(rows) == 12
    moments = task.make(rows, seed=0)["moments"]
    x = pixels.to_model(task.source.images(torch.arange(6)))
    with torch.no_grad():
        torch.testing.assert_close(moments[6:, :2], task.autoencoder.encode(x.flip(-1))[0])


def test_facts_name_the_autoencoder(dit: Path, autoencoder: Path, tmp_path: Path) -> None:
    loaded, task = latent(dit)
    prepared.ready(task, loaded.folder)
    facts = task.facts()
    file = autoencoder / "ema.safetensors"
    kept = file.read_bytes()
    try:
        tensor_file.write(file, {name: t + 1e-3 for name, t in tensor_file.read(file).items()})
        assert task.facts()["autoencoder"] != facts["autoencoder"] and task.facts()["latents"] == facts["latents"]
    finally:
        file.write_bytes(kept)


@pytest.mark.slow
def test_a_resumed_latent_run_ends_in_the_same_bits(autoencoder: Path, tmp_path: Path) -> None:
    run = trained(autoencoder, "latent.unet", tmp_path / "run", **UNET, save_every=1)
    whole = {name: (run / name).read_bytes() for name in ("weights.safetensors", "ema.safetensors")}
    for name in whole:
        (run / name).unlink()
    shutil.rmtree(run / "checkpoints" / "step-00000002")
    outcome = resume(run, quiet=True)
    assert (outcome.start, outcome.step) == (1, 2)
    assert whole == {name: (run / name).read_bytes() for name in whole}


def test_a_resumed_run_refuses_another_autoencoder(autoencoder: Path, tmp_path: Path) -> None:
    shutil.copytree(autoencoder, tmp_path / "code")
    run = trained(tmp_path / "code", "latent.unet", tmp_path / "run", **UNET, save_every=1)
    (run / "ema.safetensors").unlink()
    file = tmp_path / "code" / "ema.safetensors"
    tensor_file.write(file, {name: t + 1e-3 for name, t in tensor_file.read(file).items()})
    with pytest.raises(ValueError, match="autoencoder"):
        resume(run, quiet=True)


def decoded(task: Latent, z: Tensor) -> Tensor:
    with torch.no_grad():
        return (task.autoencoder.model.decode(z / task.scale).sample / 2 + 0.5).clamp(0, 1)


def near(x: Tensor, y: Tensor) -> None:
    assert x.isfinite().all() and x.std() > 0.01
    assert (x - y).abs().max() <= FLOAT32


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_stock_dit_pipeline_draws_our_samples(dit: Path, tmp_path: Path, guidance: float) -> None:
    exported = export(dit, tmp_path / "out")
    assert exported.pipeline == "DiTPipeline"
    assert "call the pipeline with num_inference_steps that divide 1000: others end in noise" in exported.notes
    pipeline = diffusers.DiTPipeline.from_pretrained(exported.folder)
    pipeline.set_progress_bar_config(disable=True)
    loaded, task = latent(dit)
    assert pipeline.vae.config.scaling_factor == task.scale.item()
    assert (
        type(pipeline.scheduler) is diffusers.DDIMScheduler and pipeline.transformer.config.num_embeds_ada_norm == 1000
    )
    labels = torch.tensor([0, 3, 9])
    z = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    table = solvers.ddim(task.schedule, grids.trailing(1000, 10))
    ours = sampling.sample(task.denoiser(loaded.network, labels, guidance), table, z)
    drawn = pipeline(
        labels.tolist(), guidance, torch.Generator().manual_seed(3), num_inference_steps=10, output_type="np"
    )
    near(torch.from_numpy(drawn.images).permute(0, 3, 1, 2), decoded(task, ours))
    assert torch.equal(task.as_data(ours), (decoded(task, ours) * 255).round().byte())


def test_guidance_changes_the_samples(dit: Path) -> None:
    loaded, task = latent(dit)
    x, t, labels = torch.randn(3, 2, 4, 4), torch.tensor(0.5), torch.tensor([0, 3, 9])
    one, four = (task.denoiser(loaded.network, labels, w)(x, t) for w in (1.0, 4.0))
    assert (one - four).abs().max() > 1e-3


def test_stock_ldm_pipeline_draws_our_samples(unet: Path, tmp_path: Path) -> None:
    exported = export(unet, tmp_path / "out")
    assert exported.pipeline == "LDMPipeline"
    pipeline = diffusers.DiffusionPipeline.from_pretrained(exported.folder)
    assert type(pipeline) is diffusers.LDMPipeline
    pipeline.set_progress_bar_config(disable=True)
    loaded, task = latent(unet)
    z = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    ours = sampling.sample(loaded.denoiser, solvers.ddim(task.schedule, grids.trailing(1000, 10)), z)
    generator = torch.Generator().manual_seed(3)
    drawn = pipeline(3, generator=generator, num_inference_steps=10, output_type="np")
    near(torch.from_numpy(drawn.images).permute(0, 3, 1, 2), decoded(task, ours))


@pytest.mark.slow
def test_a_latent_run_samples_and_teaches(unet: Path, tmp_path: Path) -> None:
    assert main(["sample", str(unet), "--n", "4", "--steps", "3", "--out", str(tmp_path / "x.png")]) == 0
    student = recipes.change(
        recipes.find("distill.progressive"), teacher=str(unet), start_steps=4, end_steps=2, steps=1, batch=4
    )
    folder = train(student, out=tmp_path / "student", quiet=True).folder
    drawn = runs.sample_run(folder, n=2)
    assert drawn.shape == (2, 1, 8, 8) and drawn.dtype == torch.uint8


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "none": ("latent.dit", {}, "needs an autoencoder"),
    "nowhere": ("latent.dit", {"autoencoder": "nowhere"}, "nowhere is no run folder"),
    "another run": ("latent.dit", {"autoencoder": "DIT"}, "is a run of latent.dit"),
    "patches": ("latent.dit", {"autoencoder": "AUTOENCODER", "patch": 3}, "expected patches to fill the image"),
    "halves": (
        "latent.unet",
        {"autoencoder": "AUTOENCODER", "channels": "8 8 8 8", "head": 8, "attention": None},
        "multiple of 8",
    ),
    "classes": ("latent.dit", {"autoencoder": "AUTOENCODER", "classes": 7}, "have 10 classes"),
    "size": ("latent.autoencoder", {"data": "digits", "size": 7}, "expected a multiple of 2"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(
    autoencoder: Path, dit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    name, settings, told = BAD[what]
    places = {"AUTOENCODER": str(autoencoder), "DIT": str(dit)}
    words = [name, "--out", str(tmp_path / "run")]
    for key, value in settings.items():
        words += [f"--{key}", *("False False False False" if value is None else str(places.get(value, value))).split()]
    assert main(["train", *words]) == 2
    line = capsys.readouterr().err
    assert told in line and line.count("\n") == 1
    assert not (tmp_path / "run").exists()
