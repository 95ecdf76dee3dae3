"""Image recipes: settings, networks, preconditioning, times, batches, and a run from its data to its pictures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from torch import Tensor, nn

from diffusion import schedules
from diffusion.parameterization import PARAMETERIZATIONS
from seminar.main import main as seminar
from training import draw, loop, networks, preconditioning, recipes, run_folder, runs, sampling, times
from training.data import catalog
from training.data.source import Memory
from training.families.images import Images
from training.families.toy import Toy
from training.recipes import ImageRecipe
from training.recipes.images import IMAGES
from training.streams import Streams

DIGITS = recipes.find("images.digits-unet")
SMALL = {"network": "dit", "channels": (32,), "layers": 1, "attention": (True,), "batch": 32}


def family(**settings: Any) -> Images:
    recipe = recipes.change(DIGITS, **settings)
    assert isinstance(recipe, ImageRecipe)
    return Images(recipe)


# ------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"data": "imagenet"}, "data = 'imagenet'"),
        ({"data": "hub:../../etc"}, "data = 'hub:../../etc'"),
        ({"shift": 8}, "shift = 8, size = 8: expected fewer pixels"),
        ({"flip": True}, "a mirrored digit is no digit"),
        ({"flip": 1}, "flip = 1: expected bool"),
        ({"classes": -1}, "classes = -1"),
        ({"classes": 1001}, "classes = 1001"),
        ({"size": 9}, "size = 9: expected a multiple of 2"),
        ({"attention": (True,)}, "one of each"),
        ({"channels": (32, 48)}, "channels = 48, head = 32"),
        ({"channels": (32, 48), "attention": (True, False)}, "channels = 48, head = 32"),  # the middle attends too
        ({"network": "dit"}, "expected one number"),
        (SMALL | {"head": 24}, "channels = 32, head = 24"),
        (SMALL | {"patch": 3}, "size = 8, patch = 3"),
        ({"preconditioning": "edm"}, "expected 'x0'"),
        ({"earliest": 0.6, "latest": 0.5}, "expected earliest < latest"),
        ({"label_dropout": 1.5}, "label_dropout = 1.5"),
        ({"std": 0}, "std = 0"),
        ({"times_std": 0}, "times_std = 0"),
        ({"times": "normal"}, "times = 'normal'"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], told: str) -> None:
    with pytest.raises((ValueError, TypeError), match=r"\A[^\n]+\Z") as error:
        recipes.change(DIGITS, **settings)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"batch": 1498}, "digits  has 1497 images, batch = 1498"),
        ({"classes": 9}, "classes = 9: digits  has 10 classes"),
        ({"colour": "rgb"}, "1 x 8 x 8"),
        ({"data": "folder", "path": "/nowhere"}, "/nowhere does not exist"),
    ],
)
def test_data_that_do_not_fit_leave_no_folder(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:
        loop.train(recipes.change(DIGITS, **settings), tmp_path / "run", quiet=True)
    assert told in str(error.value)
    assert not (tmp_path / "run").exists()


def test_labels_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    unlabelled = Memory(torch.zeros(200, 1, 8, 8, dtype=torch.uint8))
    monkeypatch.setattr(catalog, "open_source", lambda *_: unlabelled)
    with pytest.raises(ValueError, match="has no labels"):
        family(classes=10).facts()


@pytest.mark.parametrize("name", IMAGES)
def test_every_preset_denoises(name: str) -> None:
    """On the meta device: shapes alone, whatever the size."""
    task = Images(recipes.find(name))  # type: ignore[arg-type]
    with torch.device("meta"):
        network = networks.make(task.recipe, task.shape)
        x = torch.zeros(2, *task.shape)
        label = torch.zeros(2, dtype=torch.long) if task.classes else None
        assert network(x, torch.zeros(2), label).shape == x.shape


def test_ddpms_network_has_its_number_of_parameters() -> None:
    """35.7 million (Ho et al. 2020, appendix B)."""
    task = Images(recipes.find("images.cifar10-unet"))  # type: ignore[arg-type]
    with torch.device("meta"):
        network = networks.make(task.recipe, task.shape)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == 35.7


# ------------------------------------------------------------------------------------------------ networks


class Seen(nn.Module):
    """In place of a diffusers model: says nothing, and remembers what it was shown."""

    def forward(self, x: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Any:
        self.x, self.timestep, self.labels = x, timestep, class_labels
        return type("Output", (), {"sample": torch.zeros_like(x)})


def test_a_stock_model_counts_time_in_whole_steps() -> None:
    seen, x = Seen(), torch.zeros(1000, 1, 2, 2)
    networks.Stock(seen, None)(x, (torch.arange(1, 1001, dtype=torch.float64) / 1000).float())
    assert torch.equal(seen.timestep, torch.arange(1000.0))
    networks.Stock(seen, None)(x, torch.tensor(0.4321, dtype=torch.float64))
    assert seen.timestep.tolist() == pytest.approx([431.1] * 1000)


def test_no_label_is_a_label_of_its_own() -> None:
    seen, x, t = Seen(), torch.zeros(3, 1, 8, 8), torch.full((3,), 0.5)
    for settings, number in (({"classes": 10}, 10), (SMALL | {"classes": 10}, 1000), (SMALL, 1000)):
        network = networks.make(family(**settings).recipe, (1, 8, 8))
        network.model = seen
        network(x, t)
        assert seen.labels is not None and seen.labels.tolist() == [number] * 3
        network(x, t, torch.tensor([4, 2, 9]))
        assert seen.labels.tolist() == [4, 2, 9]
    network = networks.make(family().recipe, (1, 8, 8))
    network.model = seen
    network(x, t)
    assert seen.labels is None


@pytest.mark.parametrize("settings", [{"classes": 3}, SMALL | {"classes": 3}])
def test_a_new_network_says_nothing_and_then_listens_to_labels(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = networks.make(family(**settings).recipe, (1, 8, 8))
    x, t = torch.randn(4, 1, 8, 8), torch.full((4,), 0.5)
    assert not network(x, t).any()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    network.train()  # as a dit of diffusers would withhold labels of its own accord
    told, again, other = (network(x, t, torch.full((4,), k)) for k in (1, 1, 2))
    assert torch.equal(told, again)
    assert not torch.equal(told, other)


@pytest.mark.parametrize("settings", [{"channels": (8, 16), "head": 8}, *IMAGES])
def test_attention_and_norms_are_as_wide_as_the_recipe_says(settings: Any) -> None:
    """`head` channels a head; and four channels a group or more, as the mean of one alone would be lost."""
    recipe = recipes.find(settings) if isinstance(settings, str) else family(**settings).recipe
    assert isinstance(recipe, ImageRecipe)
    with torch.device("meta"):
        network = networks.make(recipe, recipe.shape)
    attending = [module for module in network.modules() if hasattr(module, "to_q")]
    assert {module.to_q.out_features / module.heads for module in attending} == {recipe.head}
    assert {module.to_q.in_features for module in attending} <= set(recipe.channels)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            assert module.num_channels / module.num_groups >= 4


@pytest.mark.parametrize("settings", [{}, SMALL])
def test_dropout_is_the_recipes(settings: dict[str, Any]) -> None:
    for dropout in (0.0, 0.4):
        torch.manual_seed(0)
        network = networks.make(family(**settings, dropout=dropout).recipe, (1, 8, 8))
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.2)
        x, t = torch.randn(4, 1, 8, 8), torch.full((4,), 0.5)
        first, second = (network.train()(x, t) for _ in range(2))
        assert torch.equal(first, second) == (dropout == 0)
        assert torch.equal(network.eval()(x, t), network(x, t))


def test_a_new_transformers_blocks_are_the_identity() -> None:
    """And its labels nearly alike: numbers of standard deviation 0.02 (Peebles & Xie 2023)."""
    model = networks.make(family(**SMALL | {"layers": 2}, classes=10).recipe, (1, 8, 8)).model
    passed = []
    for block in model.transformer_blocks:
        block.register_forward_hook(lambda module, inputs, output: passed.append((inputs[0], output)))
        assert block.norm1.emb.class_embedder.embedding_table.weight.std().item() == pytest.approx(0.02, rel=0.05)
    model(torch.randn(3, 1, 8, 8), torch.tensor([5, 500, 999]), torch.tensor([0, 9, 1000]))
    assert len(passed) == 2
    for before, after in passed:
        assert before.std() > 0.1
        assert torch.equal(before, after)


# ------------------------------------------------------------------------------------------------ preconditioning


class Linear(nn.Module):
    """F(y, c) = 0.3 y + c: a network whose every consequence can be written down."""

    def forward(self, y: Tensor, c: Tensor, *told: Tensor) -> Tensor:
        return 0.3 * y + c.reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("name", ["cosine", "flow", "edm", "vp_linear"])
@pytest.mark.parametrize("kind, around", [("eps", "none"), ("x0", "unit"), ("v", "unit"), ("velocity", "unit"),
                                          ("score", "unit"), ("x0", "edm")])  # fmt: skip
def test_the_denoiser_of_a_linear_network(name: str, kind: str, around: str) -> None:
    """Against the papers' formulas in numbers: a row (a, b) of the table is solved for x_0 by hand."""
    task = family(parameterization=kind, schedule=name, preconditioning=around, std=0.6)
    time = torch.tensor(0.37, dtype=torch.float64)
    alpha, sigma, alpha_dot, sigma_dot = (value.item() for value in task.schedule.kernel(time))
    network = preconditioning.around(Linear(), around, task.schedule, kind, 0.6)
    x = torch.randn(5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = task.denoiser(network)(x, time)
    if around == "edm":
        y, s = x / alpha, sigma / alpha
        total = s**2 + 0.6**2
        F = 0.3 * y / math.sqrt(total) + math.log(s) / 4
        expected = 0.36 / total * y + s * 0.6 / math.sqrt(total) * F
    else:
        a, b = {"x0": (1, 0), "eps": (0, 1), "v": (-sigma, alpha), "velocity": (alpha_dot, sigma_dot),
                "score": (0, -1 / sigma)}[kind]  # fmt: skip
        scale_in = 1 if around == "none" else math.hypot(0.6 * alpha, sigma)
        scale_out = 1 if around == "none" else math.hypot(0.6 * a, b)
        p = scale_out * (0.3 * x / scale_in + 0.37)
        expected = (b * x - sigma * p) / (alpha * b - sigma * a)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("around, kind", [("unit", "v"), ("edm", "x0"), ("unit", "x0")])
@pytest.mark.parametrize("name", ["cosine", "edm"])
def test_the_unit_loss_is_the_plain_error_of_the_inner_network(around: str, kind: str, name: str) -> None:
    """With F = 0 it is the mean square of F's target: 1 for Gaussian data of the std it is told of, at any times.

    20,000 x 4 squares of unit normals: 5 standard errors are 5 sqrt(2/80,000) = 2.5 %.
    """
    task = family(parameterization=kind, schedule=name, preconditioning=around, std=0.6, times="logit_normal",
                  times_mean=0.3, times_std=0.8)  # fmt: skip
    network = preconditioning.around(networks.Stock(Seen(), None), around, task.schedule, kind, 0.6)
    x_0 = 0.6 * torch.randn(20_000, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    streams = Streams(0, 0)
    loss = task.loss(network, task.timed(x_0, None, streams), streams)
    assert loss.item() == pytest.approx(1, rel=0.025)


@pytest.mark.parametrize("around", ["none", "unit", "edm"])
def test_labels_go_through_every_preconditioning(around: str) -> None:
    told: list[tuple[Tensor, ...]] = []

    class Hearing(nn.Module):
        def forward(self, x: Tensor, t: Tensor, *words: Tensor) -> Tensor:
            told.append(words)
            return x

    network = preconditioning.around(Hearing(), around, schedules.cosine(), "x0", 0.6)
    x, t, label = torch.zeros(3, 1, 2, 2), torch.full((3,), 0.5), torch.tensor([4, 0, 9])
    network(x, t, label), network(x, t)
    assert [[word.tolist() for word in words] for words in told] == [[[4, 0, 9]], []]


# ------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize("law", ["lognormal", "logit_normal"])
def test_normal_laws_of_times_are_scipys(law: str) -> None:
    schedule, u = schedules.cosine(), torch.linspace(0, 1, 11, dtype=torch.float64)
    ends, mean, std = torch.tensor([0.02, 0.9], dtype=torch.float64), -0.4, 0.9
    t = times.quantile(law, u, schedule, ends, mean, std)
    place = (lambda t: -schedule.half_log_snr(t)) if law == "lognormal" else torch.logit
    low, high = (place(ends).numpy() - mean) / std
    expected = scipy.stats.truncnorm(low, high, loc=mean, scale=std).ppf(u.numpy())
    np.testing.assert_allclose(place(t).numpy(), expected, atol=1e-9)
    assert t[0] == pytest.approx(0.02) and t[-1] == pytest.approx(0.9)


@pytest.mark.parametrize("name", ["images.digits-unet", "images.cifar10-edm"])
@pytest.mark.parametrize("law, mean, std", [("logit_normal", 0.0, 1.0), ("lognormal", -1.2, 1.2)])
def test_a_normal_law_is_its_papers_unless_a_recipe_says_another(name: str, law: str, mean: float, std: float) -> None:
    """20,000 stratified draws: their quantiles are the law's to a ten-thousandth or so."""
    recipe = recipes.change(recipes.find(name), times=law, earliest=1e-6, latest=1 - 1e-6)
    schedule = schedules.SCHEDULES[recipe.schedule]()  # type: ignore[attr-defined]

    def found(**settings: Any) -> list[float]:
        t = times.draw(recipes.change(recipe, **settings), schedule, 20_000, torch.Generator())  # type: ignore[arg-type]
        place = torch.logit(t) if law == "logit_normal" else -schedule.half_log_snr(t)
        low, middle, high = place.quantile(torch.tensor([0.15865525, 0.5, 0.84134475], dtype=torch.float64)).tolist()
        return [middle, (high - low) / 2]

    assert found() == pytest.approx([mean, std], abs=2e-3)
    assert found(times_mean=0.4) == pytest.approx([0.4, std], abs=2e-3)
    assert found(times_std=0.7) == pytest.approx([mean, 0.7], abs=2e-3)


@pytest.mark.parametrize("settings", [{}, {"times_mean": 0.4}, {"times": "lognormal", "times_std": 0.5}])
def test_what_a_recipe_leaves_to_its_law_is_left_in_its_folder_too(settings: dict[str, Any], tmp_path: Path) -> None:
    recipe = recipes.change(DIGITS, **settings)
    run_folder.create(tmp_path / "run", recipe, 0)
    assert run_folder.open_run(tmp_path / "run").recipe == recipe


def test_a_run_that_says_all_is_what_it_says() -> None:
    """As those do that were made when every recipe had numbers, used or not."""
    table = recipes.as_table(DIGITS) | {"times_mean": -1.2, "times_std": 1.2}
    recipe = recipes.from_table(table)
    assert recipes.as_table(recipe) == table and recipe != DIGITS


def test_the_chains_times_are_its_steps_equally_often() -> None:
    recipe = recipes.find("images.cifar10-unet")
    assert isinstance(recipe, ImageRecipe)
    t = times.draw(recipe, schedules.ddpm_linear(), 5000, torch.Generator().manual_seed(0))
    steps, counts = (t * 1000).round().long().unique(return_counts=True)
    assert steps.tolist() == list(range(1, 1001))
    assert torch.equal(steps[:3] / 1000, t.unique()[:3].float())
    assert counts.min() >= 4 and counts.max() <= 6  # stratified


def test_each_time_by_itself_is_uniform() -> None:
    """The first of ten, 2,000 times: 5 standard errors of a mean are 0.032, and it is in no stratum of its own."""
    first = torch.stack([times.strata(10, torch.Generator().manual_seed(seed))[0] for seed in range(2000)])
    assert first.mean().item() == pytest.approx(0.5, abs=0.032)
    assert first.min() < 0.05 and first.max() > 0.95


def test_unknown_law_of_times() -> None:
    with pytest.raises(ValueError, match="times = 'beta'"):
        times.quantile("beta", torch.zeros(1), schedules.cosine(), torch.tensor([0.1, 0.9]), 0, 1)


# ------------------------------------------------------------------------------------------------ batches and loss


def test_shares_of_a_batch_are_the_batch() -> None:
    task = family(classes=10, batch=48)
    for step in (0, 31, 32):  # 1497 images: the epoch ends in step 31
        whole = task.batch(48, Streams(3, step))
        parts = [task.batch(12, Streams(3, step, share, 4)) for share in range(4)]
        assert torch.equal(whole[0], torch.cat([part[0] for part in parts]))
        assert torch.equal(whole[2], torch.cat([part[2] for part in parts]))
    assert not torch.equal(task.batch(48, Streams(3, 1))[0], task.batch(48, Streams(4, 1))[0])


def test_an_image_keeps_its_label() -> None:
    task = family(classes=10)
    source = task.source
    each = torch.arange(1497)
    known = {i.numpy().tobytes(): k for i, k in zip(source.images(each), source.labels(each).tolist(), strict=True)}
    x_0, _, labels = task.batch(128, Streams(0, 5))
    for image, label in zip(x_0, labels.tolist(), strict=True):
        assert known[task.as_data(image[None]).numpy().tobytes()] == label


def test_labels_are_withheld_as_often_as_the_recipe_says() -> None:
    """10,000 coins of 0.25: 5 standard deviations are 217."""

    class Told(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
            self.label = label
            return torch.zeros_like(x)

    for dropout, low, high in ((0.25, 2283, 2717), (0.0, 0, 0), (1.0, 10_000, 10_000)):
        task, told = family(classes=10, label_dropout=dropout), Told()
        labels = torch.arange(10_000) % 10
        batch = task.timed(torch.zeros(10_000, 1, 1, 1), labels, Streams(0, 0))
        task.loss(told, batch, Streams(0, 0))
        withheld = told.label == 10
        assert low <= int(withheld.sum()) <= high
        assert torch.equal(told.label[~withheld], labels[~withheld])


def purposes(task: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a step of a task draws random numbers for."""
    asked, draw = [], Streams.__call__

    def watched(self: Streams, purpose: str, device: Any = None) -> torch.Generator:
        asked.append(purpose)
        return draw(self, purpose, device)

    with monkeypatch.context() as patch:
        patch.setattr(Streams, "__call__", watched)
        streams = Streams(0, 0)
        task.loss(lambda x, *_: torch.zeros_like(x), task.batch(8, streams), streams)
    return asked


def test_no_two_draws_of_a_step_are_by_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise made of the data's own draws would be the data's shadow."""
    for task, most in ((family(classes=10), 3), (Toy(recipes.find("toy.ring")), 3)):  # type: ignore[arg-type]
        asked = purposes(task, monkeypatch)
        assert len(asked) == len(set(asked)) == most


@pytest.mark.parametrize("weights, same", [("simple", True), ("elbo", False)])
def test_a_weight_is_that_of_its_name(weights: str, same: bool) -> None:
    """`simple` is the squared error of eps whatever the network predicts: 0 for v is sigma x_t for eps, of a VP x_t."""
    settings = {"parameterization": "v", "schedule": "cosine", "weights": weights}
    for task in (
        family(**settings, preconditioning="none"),
        Toy(recipes.change(recipes.find("toy.ring"), **settings)),  # type: ignore[arg-type]
    ):
        streams = Streams(0, 0)
        batch = task.batch(64, streams)
        found = task.loss(lambda x, *_: torch.zeros_like(x), batch, streams)  # type: ignore[arg-type]
        task.recipe = recipes.change(task.recipe, parameterization="eps", weights="plain")  # type: ignore[assignment]
        sigma = task.schedule.sigma(batch[1]).reshape(64, *[1] * (batch[0].ndim - 1))
        expected = task.loss(lambda x, *_, sigma=sigma: sigma * x, batch, streams)  # type: ignore[arg-type]
        assert (found.item() == pytest.approx(expected.item(), rel=1e-3)) == same


@pytest.mark.slow
@pytest.mark.parametrize(
    "around, kind", [*((a, k) for k in PARAMETERIZATIONS for a in ("none", "unit")), ("edm", "x0")]
)
def test_every_parameterization_learns_under_every_preconditioning(around: str, kind: str) -> None:
    """A new network says 0, so its loss is that of knowing nothing."""
    torch.manual_seed(0)
    task = family(**SMALL, parameterization=kind, preconditioning=around)
    network = task.network()
    held_out = Streams(1, 0)

    def loss() -> float:
        with torch.no_grad():
            return task.loss(network, task.batch(128, held_out), held_out).item()

    ignorant = loss()
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for step in range(40):
        streams = Streams(0, step)
        optimizer.zero_grad()
        task.loss(network, task.batch(32, streams), streams).backward()
        optimizer.step()
    assert loss() < 0.8 * ignorant


# ------------------------------------------------------------------------------------------------ samples


class Constant(nn.Module):
    """Predicts that x_0 is the label's number, and 10 where it is told none."""

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        value = torch.full((len(x),), 10) if label is None else label
        return value.to(x).reshape(-1, 1, 1, 1).expand_as(x)


def test_guidance_goes_from_unlabelled_to_labelled_and_on() -> None:
    task = family(classes=10, parameterization="x0", preconditioning="none")
    x, t, labels = torch.zeros(3, 1, 8, 8), torch.tensor(0.5), torch.tensor([3, 0, 9])
    for weight, expected in ((1.0, [3, 0, 9]), (0.0, [10, 10, 10]), (2.0, [-4, -10, 8])):
        found = task.denoiser(Constant(), labels, weight)(x, t)
        assert found[:, 0, 0, 0].tolist() == pytest.approx(expected)
    assert task.denoiser(Constant())(x, t).unique().item() == 10


@pytest.mark.parametrize(
    "settings, labels, guidance, told",
    [
        ({}, [1], 1.0, "trained without labels"),
        ({"classes": 10}, [10], 1.0, "expected 0 to 9"),
        ({"classes": 10}, [-1], 1.0, "expected 0 to 9"),
        ({"classes": 10}, None, 2.0, "guidance needs labels"),
        ({"classes": 10, "label_dropout": 0.0}, [1], 2.0, "no unguided model"),
        ({"classes": 10, "label_dropout": 0.0}, None, 1.0, "no model without a label"),
    ],
)
def test_labels_that_can_not_be_asked_for(settings: Any, labels: Any, guidance: float, told: str) -> None:
    task = family(**settings)
    sampler = sampling.sampler(task.schedule, "ddim", 1, task.span, 0.5)
    with pytest.raises(ValueError, match=told):
        task.draw(Constant(), sampler, 1, torch.Generator(), labels and torch.tensor(labels), guidance)


def test_each_sample_is_of_its_label_however_they_are_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    task = family(classes=10, parameterization="x0", preconditioning="none")
    sampler = sampling.sampler(task.schedule, "ddim", 3, task.span, 0.5)
    labels = torch.tensor([3, 0, 9, 1, 1, 2, 7])
    monkeypatch.setattr(sampling, "CHUNK", 2 * 64)
    drawn = task.draw(Constant(), sampler, 7, torch.Generator().manual_seed(0), labels)
    assert drawn.shape == (7, 1, 8, 8)
    torch.testing.assert_close(drawn[:, 0, 4, 4], labels.float())


def test_a_grid_has_a_row_for_each_label(tmp_path: Path) -> None:
    labels = torch.tensor([1, 0, 1, 4])
    shades = torch.tensor([10, 20, 30, 40], dtype=torch.uint8)
    path = draw.grid(shades.reshape(4, 1, 1, 1).expand(4, 1, 3, 3), tmp_path / "grid.png", labels)
    pixels = np.asarray(Image.open(path))
    cell = pixels.shape[0] // 11  # three rows of three pixels and two gaps
    margin = pixels.shape[1] - 7 * cell
    texts, pixels = np.split(pixels, [margin], axis=1)
    for row in np.split(texts[: 11 * cell // 3 * 3], 3):
        dark = np.argwhere(row < 128)  # the row's name: there, in the middle of the row, and inside of the margin
        assert len(dark) and abs(dark.mean(0)[0] - len(row) / 2) < len(row) / 10
        assert dark[:, 1].min() > 0 and dark[:, 1].max() < margin - 1
    middles = pixels[cell * 3 // 2 :: 4 * cell, cell * 3 // 2 :: 4 * cell]
    assert middles.tolist() == [[20, draw.GAP], [10, 30], [40, draw.GAP]]
    contents = path.read_bytes()
    for names, same in ((("class 0", "class 1", "class 4"), True), (("class 0", "class 4", "class 1"), False)):
        draw.grid(shades.reshape(4, 1, 1, 1).expand(4, 1, 3, 3), path, labels, names)
        assert (path.read_bytes() == contents) == same


# ------------------------------------------------------------------------------------------------ a run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = recipes.change(DIGITS, **SMALL, classes=10, steps=4, log_every=2, save_every=2)
    return loop.train(recipe, tmp_path_factory.mktemp("images") / "run", quiet=True).folder


def test_a_run_ends_in_pictures(run: Path) -> None:
    grid = Image.open(run / "samples.png")
    factor, rest = divmod(grid.size[1], 10 * 9 - 1)  # ten classes, eight of each, and their names
    assert rest == 0 and grid.size[0] > factor * (8 * 9 - 1)
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_preview_is_by_the_runs_seed_and_its_datas_spread(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, shown, asked = runs.load(run), [], []
    make = sampling.sampler

    def watched(schedule: Any, solver: str, steps: int, span: Any, std: float, *rest: Any) -> Any:
        asked.append((span, std))
        return make(schedule, solver, 1, span, std, *rest)

    monkeypatch.setattr(sampling, "sampler", watched)
    monkeypatch.setattr(draw, "grid", lambda images, *_: shown.append(images))
    for seed in (0, 0, 1):
        trained.task.preview(trained.network, dataclasses.replace(trained.folder, seed=seed))
    assert torch.equal(shown[0], shown[1]) and not torch.equal(shown[0], shown[2])
    assert set(asked) == {(trained.span, DIGITS.std)}  # type: ignore[attr-defined]


def test_samples_need_no_data(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise AssertionError("the data were opened")

    monkeypatch.setattr(catalog, "open_source", gone)
    out = tmp_path / "drawn.png"
    words = ("--n", "5", "--solver", "heun", "--steps", "2", "--label", "3", "--guidance", "2", "--out", str(out))
    assert seminar(["sample", str(run), *words]) == 0
    array = np.load(out.with_suffix(".npy"))
    assert (array.shape, array.dtype) == ((5, 1, 8, 8), np.uint8)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert seminar(["sample", str(run), "--label", "10", "--out", str(out)]) == 2
    assert seminar(["sample", str(run), "--guidance", "2", "--out", str(out)]) == 2


def test_sampling_is_by_seed(run: Path) -> None:
    assert len(runs.sample_run(run, steps=1)) == runs.IMAGES
    one, again, other = (runs.sample_run(run, 3, steps=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_data_edited_since_are_seen_on_resume(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(8):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(folder / f"{i}.png")
    recipe = recipes.change(
        DIGITS, **SMALL | {"batch": 8}, data="folder", path=str(folder), held_out=0, steps=2, save_every=2
    )
    path = loop.train(recipe, tmp_path / "run", quiet=True).folder
    Image.fromarray(np.full((8, 8), 99, np.uint8)).save(folder / "3.png")
    catalog.open_source.cache_clear()
    (path / "ema.safetensors").unlink()  # as if it had been stopped short
    with pytest.raises(ValueError, match="data"):
        loop.resume(path, quiet=True)


def test_an_image_run_stopped_half_way_ends_in_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With dropout, mirrored and moved images and withheld labels, over the end of an epoch of 40 images."""
    pixels = torch.randint(256, (40, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    source = Memory(pixels, torch.arange(40) % 2, 2)
    monkeypatch.setattr(catalog, "open_source", lambda *_: source)
    settings = SMALL | {
        "batch": 16,
        "data": "folder",
        "flip": True,
        "shift": 2,
        "classes": 2,
        "dropout": 0.2,
        "steps": 6,
    }
    recipe = recipes.change(DIGITS, **settings, save_every=3, log_every=1)
    whole = loop.train(recipe, tmp_path / "whole", quiet=True).folder
    folder = run_folder.create(tmp_path / "again", recipe, 0)
    folder.checkpoints.mkdir()
    first = sorted((whole / "checkpoints").iterdir())[0]
    first.rename(folder.checkpoints / first.name)
    outcome = loop.resume(folder.path, quiet=True)
    assert outcome.start == 3
    for name in ("weights.safetensors", "ema.safetensors"):
        assert (whole / name).read_bytes() == (folder.path / name).read_bytes()
