"""An evaluation of a run of images as a whole: what is compared with what, what is written, what is refused."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from diffusion.solvers import SOLVERS
from seminar.evaluate import figures
from seminar.main import main
from toy.frechet import frechet
from training import durable, loop, recipes
from training.data import catalog
from training.data.augment import moved
from training.data.digits import digits
from training.data.pixels import to_uint8
from training.data.source import Memory
from training.evaluation import bits, features, kid
from training.evaluation.images import REPORT, Settings, evaluate_images
from training.evaluation.subject import Subject, open_subject

SMALL = {"steps": 2, "batch": 8, "channels": (8,), "attention": (True,), "head": 8, "log_every": 1, "save_every": 2}
FEW = Settings(n=40, bits_n=4, chain=3, calls=(1, 4))


def trained(folder: Path, **settings: Any) -> Path:
    recipe = recipes.change(recipes.find("images.digits-unet"), **SMALL | settings)
    return loop.train(recipe, folder, quiet=True).folder


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> str:
    recipe = recipes.change(
        recipes.find("classifier.digits"), steps=20, channels=(4, 8), features=8, log_every=20, save_every=20
    )
    return str(loop.train(recipe, tmp_path_factory.mktemp("eye") / "classifier", quiet=True).folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("images") / "run")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows classes, and whose network predicts eps on a schedule that ends in noise alone."""
    return trained(tmp_path_factory.mktemp("images") / "told", classes=10, parameterization="eps")


@pytest.mark.slow
def test_everything_at_once(run: Path, eye: str) -> None:
    seen: list[tuple[int, int]] = []
    said: list[str] = []
    settings = dataclasses.replace(FEW, features=eye)
    report, out = evaluate_images(run, settings, say=said.append, progress=lambda _, *n: seen.append(n))
    assert sorted(path.name for path in out.iterdir()) == [REPORT, "memorisation.png", "nfe.png"]
    assert out.parent == run / "evaluation"
    assert json.loads((out / REPORT).read_text()) == json.loads(json.dumps(dataclasses.asdict(report)))
    done = [n for n, _ in seen]
    assert done == sorted(done) and done[0] == 0 and seen[-1][0] == seen[-1][1]
    assert f"{seen[0][1]:,} calls of the network" in said[-1]
    assert report.bits and report.bits.flow and report.bits.images == 4
    assert report.samples and (report.samples.solver, report.samples.calls) == ("ddim", 50)
    assert [point.solver for point in report.curve] == [s for s in SOLVERS for _ in FEW.calls]
    assert [(p.steps, p.calls) for p in report.curve if p.solver == "heun"] == [(1, 1), (2, 3)]  # never more than asked
    assert set(report.memorisation) == {"pixels", "features"}
    assert report.held_out and report.held_out.fid < report.samples.distance.fid  # two steps of training draw noise

    with pytest.raises(ValueError, match="read it, or give --again"):
        evaluate_images(run, settings)
    report_2, out_2 = evaluate_images(run, settings, again=True)
    assert out_2.name == f"{out.name}-2" and report_2 == report  # every draw is a function of the seed
    assert evaluate_images(run, settings, again=True)[1].name == f"{out.name}-3"


@pytest.mark.slow
def test_all_solvers_start_from_the_same_noise(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.sampling.CHUNK", 64 * 3)  # three images a part
    subject, starts = open_subject(run, seed=5), []
    network = subject.trained.denoiser
    for solver in SOLVERS:
        sampler, seen = subject.sampler(solver, 2), []

        def denoiser(x: Tensor, t: Tensor, seen=seen, first=sampler.coefficients.times[0]) -> Tensor:
            if t == first:
                seen.append(x.clone())
            return network(x, t)

        watched = dataclasses.replace(subject, trained=dataclasses.replace(subject.trained, denoiser=denoiser))
        assert watched.draw(sampler, 7, None, lambda n: None).shape == (7, 1, 8, 8)
        starts.append(torch.cat(seen) / sampler.spread)
    for start in starts[1:]:
        torch.testing.assert_close(start, starts[0])
    assert starts[0].shape[0] == 7 and not torch.equal(starts[0][0], starts[0][3])


def drawing(images: Tensor) -> Any:
    return lambda self, sampler, n, labels, told: images[:n]


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_run_that_returns_its_training_images_is_caught(split: str, run: Path, monkeypatch, tmp_path: Path) -> None:
    """One that returns test images is not: these are the very images held out, in another order."""
    monkeypatch.setattr(Subject, "draw", drawing(digits(split).pixels))
    settings = Settings(bits=False, fid=False, nfe=False, n=300, seed=7)
    found = evaluate_images(run, settings, again=True)[0].memorisation["pixels"]
    if split == "train":
        assert found.auc == 1 and found.share_below == 1
    else:
        assert found.auc == 0.5 and found.share_below <= 0.01


@pytest.mark.slow
def test_the_images_learned_from_are_read_in_parts(run: Path, eye: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, no more than a part of them is held at once; what is found is the same."""
    settings = Settings(bits=False, nfe=False, n=20, features=eye)
    whole = evaluate_images(run, settings, again=True)[0].memorisation
    asked, images = [], Memory.images

    def watched(self: Memory, indices: Tensor) -> Tensor:
        asked.append(len(indices))
        return images(self, indices)

    monkeypatch.setattr(Memory, "images", watched)
    monkeypatch.setattr("training.evaluation.images.REFERENCE", 100)
    monkeypatch.setattr("training.evaluation.memorisation.TOGETHER", 100 * 64)
    assert evaluate_images(run, settings, again=True)[0].memorisation == whole
    assert max(asked) == 100 and asked.count(100) >= 2 * (1497 // 100)  # in pixels and in features


@pytest.mark.slow
def test_what_is_judged_and_what_by(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All 300 held-out images, and as many samples that differ from sampler to sampler: FID and KID of each, by hand.

    The run's own sampler returns images learned from, so that it is its samples that are looked through for copies.
    """
    train, test = digits("train").pixels, digits("test").pixels
    drawn: list[Tensor] = []

    def draw(self: Subject, sampler: Any, n: int, labels: Any, told: Any) -> Tensor:
        assert n == 300
        drawn.append(train[:300].roll(len(drawn), -1) // (1 + len(drawn)))
        return drawn[-1]

    def look(images: Tensor) -> Tensor:
        return images.flatten(1)[:, [11, 20, 37, 52]].double() / 16

    monkeypatch.setattr(Subject, "draw", draw)
    monkeypatch.setattr(features, "open_eye", lambda *_: features.Eye("four pixels", look))
    report, _ = evaluate_images(run, Settings(bits=False, n=300, calls=(3, 2)))
    assert report.samples and report.held_out and len(report.curve) == 2 * len(SOLVERS) == len(drawn) - 1
    assert all(point.calls <= most for point, most in zip(report.curve, (2, 3) * len(SOLVERS), strict=True))
    points = [report.samples.distance, *(point.distance for point in report.curve), report.held_out]
    for found, images in zip(points, [*drawn, test], strict=True):
        assert found.fid == pytest.approx(float(frechet(look(images), look(train))), rel=1e-9)
        assert found.kid.mean == pytest.approx(kid.kid(look(images), look(train)).mean, rel=1e-9)
        assert found.fid_at_infinity is not None and found.fid_at_infinity != found.fid
    assert report.memorisation["pixels"].auc == report.memorisation["pixels"].share_below == 1


@pytest.mark.slow
def test_a_mirrored_or_moved_copy_is_one_where_the_run_does_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = {
        split: Memory(torch.randint(256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(n), dtype=torch.uint8))
        for split, n in (("train", 60), ("test", 30))
    }
    monkeypatch.setattr(catalog, "open_source", lambda data, path, split, *_: sources[split])
    monkeypatch.setattr(catalog, "has_test", lambda *_: True)
    monkeypatch.setattr(Subject, "draw", drawing(sources["train"].pixels.flip(-1)))
    for flip in (True, False):
        folder = trained(tmp_path / str(flip), data="folder", path="x", flip=flip)
        settings = Settings(bits=False, fid=False, nfe=False)
        found = evaluate_images(folder, settings)[0].memorisation["pixels"]
        assert (found.auc == 1) == flip
    by = torch.tensor([[1, -2]]).expand(60, 2)
    monkeypatch.setattr(Subject, "draw", drawing(moved(sources["train"].pixels.flip(-1), by)))
    for shift in (1, 2):
        folder = trained(tmp_path / f"{shift}", data="folder", path="x", flip=True, shift=shift)
        found = evaluate_images(folder, settings)[0].memorisation["pixels"]
        assert (found.auc == 1) == (shift == 2)


def test_bits_are_those_of_images_held_out(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And of their own labels; the chain's variances are fitted on images learned from, up to the latest time."""
    seen: dict[str, list[Any]] = {"fitted": [], "coded": [], "seeds": []}
    labels: list[Tensor] = []
    denoiser = Subject.denoiser

    def asked(self: Subject, told: Tensor, work: Any) -> Any:
        labels.append(told)
        return denoiser(self, told, work)

    def variances(self: bits.Chain, model: Any, x: Tensor, generator: torch.Generator) -> Tensor:
        seen["fitted"] += zip(to_uint8(x), labels.pop(), strict=True)
        assert float(self.times[-1]) == pytest.approx(recipes.find("images.digits-unet").latest)  # type: ignore[attr-defined]
        return torch.full((len(self.betas),), 7.0)

    def coded(self: bits.Chain, model: Any, Sigma: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
        assert Sigma.unique().tolist() == [7.0]
        seen["coded"] += zip(to_uint8(x), labels.pop(), strict=True)
        seen["seeds"].append(generator.initial_seed())
        return torch.arange(len(x)).double()

    monkeypatch.setattr(Subject, "denoiser", asked)
    monkeypatch.setattr(bits.Chain, "variances", variances)
    monkeypatch.setattr(bits.Chain, "bits", coded)
    settings = Settings(fid=False, nfe=False, memorisation=False, bits_n=70, chain=2, seed=11)
    assert evaluate_images(told, settings)[0].bits
    assert (len(seen["fitted"]), len(seen["coded"]), len(set(seen["seeds"]))) == (128, 70, 2)
    for split, what in (("train", "fitted"), ("test", "coded")):
        source = digits(split)
        known = zip(source.pixels, source.labels(torch.arange(len(source))).tolist(), strict=True)
        pairs = {(image.numpy().tobytes(), label) for image, label in known}
        found = {(image.numpy().tobytes(), int(label)) for image, label in seen[what]}
        assert found <= pairs and len(found) == len(seen[what])


def test_the_flow_is_told_the_datas_standard_deviation(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def by_flow(denoiser: Any, schedule: Any, x: Tensor, generator: Any, earliest: float, std: float) -> Tensor:
        given.append((earliest, std))
        return torch.arange(len(x)).double()

    monkeypatch.setattr(bits, "by_flow", by_flow)
    settings = Settings(fid=False, nfe=False, memorisation=False, bits_n=2, chain=2, seed=12)
    assert evaluate_images(run, settings)[0].bits
    recipe: Any = recipes.find("images.digits-unet")
    assert given == [(recipe.earliest, recipe.std)]


def test_samples_have_the_labels_of_the_images_they_are_compared_with(told: Path, monkeypatch) -> None:
    asked: list[Tensor] = []
    subject = open_subject(told, seed=0)
    drawn = Subject.draw

    def draw(self: Subject, sampler: Any, n: int, labels: Tensor, work: Any) -> Tensor:
        asked.append(labels)
        return drawn(self, sampler, n, labels, work)

    monkeypatch.setattr(Subject, "draw", draw)
    report, _ = evaluate_images(told, Settings(fid=False, nfe=False, n=12, bits_n=3, chain=2))
    chosen = subject.some(subject.held_out, 12, "held out")
    assert asked[0].tolist() == subject.held_out.labels(chosen).tolist()
    assert report.bits and report.bits.flow is None  # eps says nothing where nothing is left of the data
    assert report.bits.of_label == pytest.approx(math.log2(10) / 64)
    assert "bits/dim given the label, chain" in printed(report) and "takes 0.052 more at most" in printed(report)


def printed(report: Any) -> str:
    console = Console(width=200)
    with console.capture() as told:
        console.print(figures(report))
    return " ".join(told.get().split())


def test_images_are_chosen_by_the_seed_and_none_twice(run: Path) -> None:
    first, again, other = (open_subject(run, seed).some(digits("test"), 200, "held out") for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(first) == len(first.unique()) == 200
    assert open_subject(run, 0).some(digits("test"), 301, "held out").sort().values.tolist() == list(range(300))


def test_ddpm_has_the_larger_variance(run: Path) -> None:
    """With few steps the smaller one shrinks the data."""
    subject = open_subject(run, seed=0)
    mine, plain = (each.sampler("ddpm", 5).coefficients.noise for each in (subject, subject.trained))
    assert bool((mine[:-1] > plain[:-1]).all())


def test_each_part_is_drawn_by_its_own_labels(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.sampling.CHUNK", 64 * 3)
    subject, asked = open_subject(told, seed=0), list[list[int]]()
    denoiser = Subject.denoiser

    def watched(self: Subject, labels: Tensor, work: Any) -> Any:
        asked.append(labels.tolist())
        return denoiser(self, labels, work)

    monkeypatch.setattr(Subject, "denoiser", watched)
    subject.draw(subject.sampler("ddim", 1), 7, torch.arange(7), lambda n: None)
    assert asked == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.slow
def test_what_was_asked_and_nothing_else(run: Path) -> None:
    report, out = evaluate_images(run, Settings(fid=False, nfe=False, memorisation=False, bits_n=2, chain=2))
    assert [path.name for path in out.iterdir()] == [REPORT]
    assert (report.n, report.eye, report.samples, report.curve, report.memorisation) == (None, None, None, (), {})
    assert report.bits and report.bits.of_label is None and "label" not in printed(report)
    with pytest.raises(ValueError, match="read it, or give --again"):
        evaluate_images(run, Settings(fid=False, nfe=False, memorisation=False, bits_n=2, chain=2))
    before = (out / REPORT).read_bytes()
    for number in (2, 3):  # what is there stays
        settings = Settings(fid=False, nfe=False, memorisation=False, bits_n=2, chain=2)
        assert evaluate_images(run, settings, again=True) == (report, out.with_name(f"{out.name}-{number}"))
    assert (out / REPORT).read_bytes() == before
    report, out = evaluate_images(run, Settings(bits=False, fid=False, nfe=False, n=4))
    assert (report.bits, report.held_out, set(report.memorisation)) == (None, None, {"pixels"})


@pytest.mark.slow
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
def test_an_interrupted_evaluation_leaves_nothing(
    error: type[BaseException], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    settings = Settings(fid=False, nfe=False, bits_n=2, chain=2, n=4)
    before = sorted((tmp_path / "run").rglob("*"))

    def interrupted(self: Subject, *_: Any) -> None:
        raise error("now")

    with monkeypatch.context() as patch:
        patch.setattr(Subject, "draw", interrupted)
        with pytest.raises(error, match="now"):
            evaluate_images(tmp_path / "run", settings)
    assert sorted((tmp_path / "run").rglob("*")) == before
    _, out = evaluate_images(tmp_path / "run", settings)
    before = sorted((tmp_path / "run").rglob("*"))
    monkeypatch.setattr(Subject, "draw", interrupted)
    with pytest.raises(error, match="now"):
        evaluate_images(tmp_path / "run", settings, again=True)
    assert sorted((tmp_path / "run").rglob("*")) == before  # the first one stays
    assert not out.name.startswith(".") and (out / REPORT).exists()


def test_one_that_was_killed_is_not_taken_for_done(run: Path, tmp_path: Path) -> None:
    """What it had written is not where a reader would look, and goes with the next."""
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    settings = Settings(fid=False, nfe=False, memorisation=False, bits_n=2, chain=2)
    left = tmp_path / "run" / "evaluation" / f"{durable.PARTIAL}{settings.fingerprint()}"
    left.mkdir(parents=True)
    (left / "memorisation.png").touch()
    _, out = evaluate_images(tmp_path / "run", settings)
    assert [path.name for path in out.parent.iterdir()] == [settings.fingerprint()]
    assert [path.name for path in out.iterdir()] == [REPORT]


@pytest.mark.slow
def test_a_student_is_judged_by_its_own_steps(run: Path, eye: str, tmp_path: Path) -> None:
    recipe = recipes.change(
        recipes.find("distill.progressive"),
        teacher=str(run),
        start_steps=4,
        end_steps=2,
        steps=2,
        batch=8,
        save_every=2,
    )
    student = loop.train(recipe, tmp_path / "student", quiet=True).folder
    report, out = evaluate_images(student, dataclasses.replace(FEW, n=20, calls=(1, 2, 4), features=eye))
    assert report.bits is None and report.samples and report.samples.calls == 2
    assert [point.calls for point in report.curve] == [2] and (out / "nfe.png").exists()
    with pytest.raises(ValueError, match="has no bits/dim"):
        evaluate_images(student, Settings(fid=False, nfe=False, memorisation=False))


@pytest.mark.slow
def test_a_run_of_latents_is_judged_by_the_pixels_it_decodes(eye: str, tmp_path: Path) -> None:
    code = recipes.change(
        recipes.find("latent.autoencoder"), data="digits", size=8, channels=(8, 8), latents=1, steps=2, batch=8
    )
    autoencoder = loop.train(code, tmp_path / "code", quiet=True).folder
    recipe = recipes.change(
        recipes.find("latent.dit"),
        autoencoder=str(autoencoder),
        channels=(8,),
        head=8,
        layers=1,
        patch=2,
        steps=2,
        batch=8,
    )
    latent = loop.train(recipe, tmp_path / "latent", quiet=True).folder
    report, _ = evaluate_images(latent, dataclasses.replace(FEW, n=20, nfe=False, features=eye))
    assert report.bits is None and report.samples and set(report.memorisation) == {"pixels", "features"}


def test_bad_settings_are_refused_before_anything_is_made(run: Path, tmp_path: Path) -> None:
    before = sorted((run / "evaluation").iterdir()) if (run / "evaluation").exists() else []
    cases = [
        (dataclasses.replace(FEW, n=301), "n = 301: expected 4 to 300"),
        (dataclasses.replace(FEW, n=3), "n = 3: expected 4 to 300"),
        (dataclasses.replace(FEW, bits_n=301), "bits_n = 301: expected 2 to 300"),
        (dataclasses.replace(FEW, features=str(tmp_path)), "no run folder"),
    ]
    for settings, line in cases:
        with pytest.raises(ValueError, match=line) as caught:
            evaluate_images(run, settings)
        assert "\n" not in str(caught.value)
    assert (sorted((run / "evaluation").iterdir()) if (run / "evaluation").exists() else []) == before


NOTHING = {"bits": False, "fid": False, "nfe": False, "memorisation": False}


@pytest.mark.parametrize(
    "settings", [{"chain": 1}, {"chain": 10**9}, {"calls": ()}, {"calls": (5, 0)}, {"calls": (5, 10**9)}, NOTHING]
)
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Settings(**settings)


@pytest.mark.slow
def test_the_command(run: Path, eye: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--n", "24", "--bits-n", "2", "--chain", "2", "--calls", "2", "3", "--features", eye]
    assert main(["evaluate", *small, str(run)]) == 0  # the classifier's folder comes first, and is not the run
    told = capsys.readouterr().out
    for word in ("bits/dim, chain", "FID", "KID", "copies, AUC in features", "dpmpp_2m", "memorisation.png"):
        assert word in told
    assert main(["evaluate", eye]) == 0
    assert "of 300 held-out images right" in capsys.readouterr().out


@pytest.mark.slow
def test_the_commands_refusals(run: Path, eye: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy = recipes.change(recipes.find("toy.ring"), steps=1, batch=8, width=4, depth=1)
    ring = str(loop.train(toy, tmp_path / "ring", quiet=True).folder)
    unfinished = trained(tmp_path / "unfinished")
    (unfinished / "ema.safetensors").unlink()
    cases = {
        (str(run), "--sets", "4"): "--sets is for runs of toy, and this is a run of images.digits-unet",
        (ring, "--nfe"): "--nfe is for runs of images, and this is a run of toy.ring",
        (eye, "--n", "4"): "--n is for runs of images, and this is a run of classifier.digits",
        (str(unfinished),): "is not finished: resume it first",
        ("/nowhere", "--fid"): "/nowhere is no run folder",
        (str(run), "--n", "9999"): "n = 9999: expected 4 to 300",
        (str(run), "--calls", "0"): "calls = (0,)",
        (str(run), "--frobnicate"): "--frobnicate",
    }
    for args, line in cases.items():
        assert main(["evaluate", *args]) == 2
        said = capsys.readouterr().err
        assert line in said and len(said.strip().splitlines()) == 1, said
