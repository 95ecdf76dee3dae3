"""A step of the loop against the same step written out with torch's own parts; averages; what must not matter."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
from accelerate import DistributedType
from torch import Tensor, nn

from diffusion.ema_profiles import power_of
from training import (
    averages,
    draw,
    durable,
    launch,
    loop,
    optimization,
    progress,
    recipes,
    run_folder,
    runs,
    speed,
)
from training.families.toy import Toy
from training.feed import Feed
from training.keeper import MACHINE
from training.optimization import learning_rate
from training.recipes import Recipe
from training.state import State
from training.streams import Streams
from training.task import Batch, build

TINY = recipes.change(recipes.find("toy.ring"), steps=20, batch=8, width=4, depth=1, log_every=5, save_every=10)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "preview", lambda *_: None)
    monkeypatch.setattr(draw, "curves", lambda *_: None)


def begin(recipe: Recipe) -> tuple[State, Feed]:
    processes, built = launch.join(), build(recipe)
    return State(recipe, 0, processes, processes.accelerator(recipe), built), Feed(built, recipe, 0, processes)


def weights(folder: Path, name: str = "weights") -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / f"{name}.safetensors")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clip": 0.05},  # cuts every gradient
        {"clip": math.inf},  # cuts none
        {"accumulate": 4, "clip": 0.05},
        {"accumulate": 4, "weight_decay": 0.3},  # beside a decay of the weights the gradient's size is seen
        {"optimizer": "adam", "weight_decay": 0.3},
        {"optimizer": "adamw", "weight_decay": 0.3},
    ],
)
def test_a_step_is_torchs_own(settings: dict[str, Any]) -> None:
    """Clipping inside the optimizer's kernel, accumulation, decay: as torch writes them, one after the other."""
    recipe = recipes.change(TINY, warmup=0.0, **settings)
    state, feed = begin(recipe)
    plain, task = begin(recipe)[0].network, build(recipe)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    other = kind(plain.parameters(), lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), weight_decay=recipe.weight_decay)
    sizes = []
    for step in range(6):
        state.advance(step, 1e-2, feed(step))
        other.zero_grad()
        for batch, streams in feed(step):
            (task.loss(plain, batch, streams) / recipe.accumulate).backward()
        sizes.append(nn.utils.clip_grad_norm_(plain.parameters(), recipe.clip).item())
        other.param_groups[0]["lr"] = 1e-2
        other.step()
    assert (min(sizes) > recipe.clip) == (recipe.clip < 1)
    for mine, theirs in zip(state.network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_loss_scaling_changes_no_bit_and_finds_its_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of two are exact in float32; a broken step halves the scale and trains nothing, good ones double it."""
    monkeypatch.setattr(optimization, "GROWTH", 3)
    (plain, feed), (scaled, _) = begin(TINY), begin(TINY)
    scaled.optimization.scaling = True
    seen = []
    for step in range(8):
        shares = feed(step)
        if step == 4:
            [((x_0, *rest), streams)] = shares
            shares = [((x_0 * math.nan, *rest), streams)]
        plain.advance(step, 1e-2, shares)
        scaled.advance(step, 1e-2, shares)
        seen.append(math.log2(scaled.optimization.scale["scale"].item()))
    assert seen == [16, 16, 17, 17, 16, 16, 16, 17]
    for name, tensor in plain.tensors().items():
        torch.testing.assert_close(scaled.tensors()[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)
    assert scaled.tensors().keys() - plain.tensors().keys() == {"loss_scale.scale", "loss_scale.good_steps"}


def test_weights_begin_by_the_seed() -> None:
    processes, built = launch.join(), build(TINY)
    accelerator = processes.accelerator(TINY)
    first, again, other = (
        torch.cat([p.flatten() for p in State(TINY, seed, processes, accelerator, built).network.parameters()])
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_facts_tell_of_all_that_the_bits_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thing changed, one fact is another; and another machine's facts are those that may be forgiven."""
    state, _ = begin(TINY)
    before, threads = state.facts(0), torch.get_num_threads()

    def changed() -> set[str]:
        after = state.facts(0)
        assert after.keys() == before.keys()
        return {name for name, fact in after.items() if fact != before[name]}

    assert state.facts(1) == before | {"seed": 1}
    machine: set[str] = set()
    for part, change in {
        "torch": lambda patch: patch.setattr(torch, "__version__", "2.0"),
        "device": lambda patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another"),
        "threads": lambda patch: patch.setattr(torch, "get_num_threads", lambda: threads + 1),
        "processes": lambda patch: patch.setattr(state.processes, "count", 2),
        "distribution": lambda patch: patch.setattr(
            state, "accelerator", SimpleNamespace(distributed_type=DistributedType.FSDP)
        ),
    }.items():
        with monkeypatch.context() as patch:
            change(patch)
            assert changed() == {part}
        machine.add(part)
    assert machine == set(MACHINE)
    monkeypatch.setattr(state, "recipe", recipes.change(TINY, lr=0.5))
    assert changed() == {"recipe"}


def test_layers_draw_anew_for_every_share_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout's masks of 64 coins: no two alike, and the same ones when the steps are taken again."""
    masks: list[tuple[float, ...]] = []

    def loss(self: Toy, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        masks.append(tuple(network.get_submodule("0")(torch.ones(64)).tolist()))
        return network(torch.ones(64)).mean()

    monkeypatch.setattr(Toy, "network", lambda self: nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1)))
    monkeypatch.setattr(Toy, "loss", loss)
    for _ in range(2):
        state, feed = begin(recipes.change(TINY, accumulate=2))
        for step in range(3):
            state.advance(step, 1e-2, feed(step))
        torch.rand(3)  # another's draws in between
    assert len(set(masks[:6])) == 6
    assert masks[6:] == masks[:6]


@pytest.mark.parametrize(
    "precision, broken, stopped_at", [("float32", 20, 5), ("fp16", 15, None), ("fp16", 16, None), ("fp16", 20, 20)]
)
def test_a_loss_scale_that_still_falls_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, precision: str, broken: int, stopped_at: int | None
) -> None:
    """2^16 falls to 1 in 16 broken steps; until then a window without a good step is no reason to stop.

    Loss scaling around float32: a CPU has no fp16.
    """
    loss = Toy.loss

    def breaking(self: Toy, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        return loss(self, network, batch, streams) * (math.inf if streams.step < broken else 1)

    monkeypatch.setattr(Toy, "loss", breaking)
    monkeypatch.setitem(launch.PRECISION, "fp16", "no")
    monkeypatch.setattr(launch.Processes, "share", lambda self, recipe: recipe.batch)
    recipe = recipes.change(TINY, precision=precision, steps=25)
    if stopped_at:
        with pytest.raises(ValueError, match=f"no step up to {stopped_at} had a finite loss"):
            loop.train(recipe, tmp_path / "run", quiet=True)
    else:
        assert loop.train(recipe, tmp_path / "run", quiet=True).finished
    log = run_folder.read_log(tmp_path / "run" / "metrics.jsonl")
    assert sum(line["skipped"] for line in log) == (stopped_at or broken)


def test_the_smoothed_loss_is_that_of_the_last_part_of_a_run() -> None:
    """A 256th of its weight lies in the first half; windows that were skipped do nothing."""
    state, _ = begin(recipes.change(TINY, log_every=1))

    def smoothed(step: int, loss: float) -> float:
        state.window["losses"][0] = loss
        return state.close_window(step)[1]

    first, *later = [smoothed(step, 1.0 + (step <= 12)) for step in range(1, 25)]
    assert first == 2 and later[10] == pytest.approx(2)
    assert later[-1] == pytest.approx(1 + 1 / 256, rel=1e-5)
    assert smoothed(25, math.nan) == pytest.approx(later[-1])
    assert smoothed(26, 5.0) - 5 == pytest.approx((later[-1] - 5) * (25 / 26) ** 8, rel=1e-5)


def test_half_precision_runs_the_network_in_it_and_keeps_the_weights() -> None:
    state, feed = begin(recipes.change(TINY, precision="bf16"))
    seen = set()
    state.network.network.out.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    state.advance(0, 1e-2, feed(0))
    assert seen == {torch.bfloat16}
    assert {tensor.dtype for tensor in state.tensors().values()} == {torch.float32}
    assert state.window["losses"][0].isfinite()
    with pytest.raises(ValueError, match="'fp16' needs a GPU"):
        begin(recipes.change(TINY, precision="fp16"))


def test_threads_that_feed_change_no_bit(tmp_path: Path) -> None:
    for workers in (0, 1, 3):
        assert loop.train(TINY, tmp_path / str(workers), quiet=True, workers=workers).finished
    first = weights(tmp_path / "0", "ema")
    for workers in (1, 3):
        assert all(torch.equal(first[name], tensor) for name, tensor in weights(tmp_path / str(workers), "ema").items())
    with pytest.raises(ValueError, match="workers = -1"):
        loop.train(TINY, tmp_path / "run", quiet=True, workers=-1)
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_made_ends_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever a worker's thread raises is raised here, at the step that needs it."""
    make = Toy.batch

    def torn(self: Toy, n: int, streams: Streams) -> Batch:
        if streams.step == 13:
            raise ValueError("picture 13 is torn")
        return make(self, n, streams)

    monkeypatch.setattr(Toy, "batch", torn)
    with pytest.raises(ValueError, match="picture 13 is torn"):
        loop.train(TINY, tmp_path / "run", quiet=True, workers=2)
    monkeypatch.undo()
    assert loop.resume(tmp_path / "run", quiet=True).start == 10


def test_pictures_on_the_way_show_the_average_and_change_no_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert loop.train(TINY, tmp_path / "none", quiet=True).finished
    shown: list[dict[str, Tensor]] = []

    def preview(self: Toy, network: nn.Module, folder: run_folder.RunFolder) -> None:
        torch.rand(3)  # a careless one
        assert not network.training
        shown.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        for tensor in network.state_dict().values():
            tensor.zero_()

    monkeypatch.setattr(Toy, "preview", preview)
    recipe = recipes.change(TINY, sample_every=4, save_every=4)
    assert loop.train(recipe, tmp_path / "run", quiet=True).finished
    assert len(shown) == 5  # after 4, 8, 12, 16 and 20 steps
    for name in ("weights", "ema"):
        first, second = weights(tmp_path / "none", name), weights(tmp_path / "run", name)
        assert all(torch.equal(first[key], second[key]) for key in first)
    saved = safetensors.torch.load_file(tmp_path / "run" / "checkpoints" / "step-00000016" / "state.safetensors")
    assert all(torch.equal(saved[f"ema.0.1.{name}"], tensor) for name, tensor in shown[3].items())


def test_averages_of_the_past_after_training(tmp_path: Path) -> None:
    """Of a stored width after a stored step: what was stored there."""
    loop.train(recipes.change(TINY, ema=(0.05, 0.1), snapshots=4), tmp_path / "run", quiet=True)
    for step, width in ((5, 0.1), (15, 0.05), (15, 0.1)):
        stored = weights(tmp_path / "run" / "averages", f"step-{step:08d}")
        again = safetensors.torch.load_file(averages.reconstruct(tmp_path / "run", width, step))
        for name, tensor in again.items():
            torch.testing.assert_close(tensor, stored[f"{width}.{name}"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_averages_of_other_widths_after_training(tmp_path: Path) -> None:
    """A stored width comes back exactly; another, as a run that kept it has it, but for what snapshots can't tell."""
    recipe = recipes.change(TINY, steps=320, ema=(0.05, 0.1), snapshots=32, lr_decay="constant", log_every=320)
    loop.train(recipe, tmp_path / "run", quiet=True)
    kept = recipes.change(recipe, ema=(0.075,), snapshots=0)
    loop.train(kept, tmp_path / "kept", quiet=True)
    names = [path.name for path in sorted((tmp_path / "run" / "averages").iterdir())]
    assert names == [f"step-{step:08d}.safetensors" for step in range(10, 321, 10)]

    def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        return math.sqrt(sum(((one[name] - other[name]) ** 2).sum().item() for name in one))

    again = safetensors.torch.load_file(averages.reconstruct(tmp_path / "run", 0.1))
    between = safetensors.torch.load_file(averages.reconstruct(tmp_path / "run", 0.075))
    wide = {
        name.removeprefix("0.1."): tensor
        for name, tensor in weights(tmp_path / "run" / "averages", "step-00000320").items()
        if name.startswith("0.1.")
    }
    truth, plain = weights(tmp_path / "kept", "ema"), weights(tmp_path / "run", "ema")
    shown = runs.load(tmp_path / "run", 0.075).network.state_dict()
    assert all(torch.equal(shown[name], tensor) for name, tensor in between.items())
    assert apart(again, wide) < 1e-5 * apart(wide, plain)
    assert apart(between, truth) < 0.03 * min(apart(wide, truth), apart(plain, truth))


@pytest.mark.parametrize(
    "width, step, words",
    [(0.5, None, "at most 0.288"), (0.1, 300, "step = 300"), (0.1, 0, "step = 0"), (math.nan, None, "width = nan")],
)
def test_averages_that_cannot_be_made(tmp_path: Path, width: float, step: int | None, words: str) -> None:
    loop.train(recipes.change(TINY, snapshots=2), tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match=words):
        averages.reconstruct(tmp_path / "run", width, step)


def test_a_run_without_snapshots_has_no_other_average(tmp_path: Path) -> None:
    loop.train(TINY, tmp_path / "run", quiet=True)
    with pytest.raises(ValueError, match="--snapshots"):
        averages.reconstruct(tmp_path / "run", 0.1)


@pytest.mark.parametrize("snapshots", [1, 3, 7, 20])
def test_snapshots_are_as_many_as_asked(snapshots: int) -> None:
    recipe = recipes.change(TINY, snapshots=snapshots)
    due = [step for step in range(1, 21) if averages.stored_at(step, recipe)]
    assert len(due) == snapshots
    assert due[-1] == 20


class Counting(nn.Module):
    """A network that counts its calls, as batch normalisation does."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.network(x, t)


def test_averages_are_those_of_ema(monkeypatch: pytest.MonkeyPatch) -> None:
    """The update without names is `EMA.update`: a counter is copied, as whole numbers have no average."""
    network = Toy.network
    monkeypatch.setattr(Toy, "network", lambda self: Counting(network(self)))
    state, feed = begin(recipes.change(TINY, ema=(0.1, 0.2)))
    from diffusion.ema import EMA

    plain = {width: EMA(state.network, decay=1.0, gamma=power_of(width)) for width in (0.1, 0.2)}
    for step in range(5):
        state.advance(step, 1e-2, feed(step))
        for width, ema in plain.items():
            ema.update(state.network)
            for name, tensor in ema.average.items():
                assert torch.equal(state.averages.by_width[width].average[name], tensor)
            assert ema.average["calls"] == step + 1


@pytest.mark.parametrize(
    "shape, after, half, last",
    [
        ("cosine", 0.5, 0.25, 0.0),
        ("linear", 0.5, 0.25, 0.0),
        ("constant", 0.5, 0.5, 0.5),
        ("inverse_sqrt", 0.5, 0.5 * math.sqrt(100 / 550), 0.5 * math.sqrt(0.1)),
    ],
)
def test_learning_rates_at_their_ends(shape: Any, after: float, half: float, last: float) -> None:
    recipe = recipes.change(TINY, steps=1000, warmup=0.1, lr=0.5, lr_decay=shape, lr_flat=0.1)
    assert [learning_rate(k, recipe) for k in (0, 49, 99)] == [0.005, 0.25, 0.5]
    assert [learning_rate(k, recipe) for k in (100, 550, 1000)] == pytest.approx([after, half, last])


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 5, bias=False)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.line(x)


def test_arithmetic_is_counted_and_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A product of [8, 3] and [3, 5] and the gradient of its weights, 2 * 8 * 3 * 5 each, in two micro-batches."""
    monkeypatch.setattr(Toy, "network", lambda self: Line())
    monkeypatch.setattr(Toy, "batch", lambda self, n, streams: (torch.ones(n, 3),))
    monkeypatch.setattr(Toy, "loss", lambda self, network, batch, streams: network(batch[0]).mean())
    state, _ = begin(recipes.change(TINY, batch=16, accumulate=2))
    before = {name: tensor.clone() for name, tensor in state.tensors().items()}
    assert speed.flops(state) == 2 * 2 * (2 * 8 * 3 * 5)
    assert all(torch.equal(before[name], tensor) for name, tensor in state.tensors().items())
    assert all(parameter.grad is None for parameter in state.network.parameters())
    assert 0 < speed.utilisation(state) < 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Toy, "preview", lambda *_: None)
        loop.train(recipes.change(TINY, snapshots=2), folder, quiet=True)
    return folder


WRITES = range(1, 12)  # config; snapshots, checkpoints, log's cut; weights, curves, average


@pytest.mark.slow
@pytest.mark.parametrize("fails", WRITES)
@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
def test_a_full_disk_stops_the_run_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, whole: Path, fails: int, reason: int
) -> None:
    folder, write, count = tmp_path / "run", durable.write, iter(range(100))

    def full(path: Path, contents: bytes) -> None:
        if next(count) >= fails:
            write(path, contents[: len(contents) // 2])
            raise OSError(reason, "no room")
        write(path, contents)

    monkeypatch.setattr(durable, "write", full)
    try:
        assert loop.train(recipes.change(TINY, snapshots=2), folder, quiet=True).finished
    except OSError as error:
        message = str(error)
        assert "\n" not in message and "no room" in message and "seminar train --resume" in message
        assert not [*folder.rglob(durable.PARTIAL + "*")]  # the room is given back
    else:
        assert next(count) <= fails
    monkeypatch.setattr(durable, "write", write)
    assert loop.resume(folder, quiet=True).finished
    assert all(torch.equal(weights(whole, "ema")[n], tensor) for n, tensor in weights(folder, "ema").items())


def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    yield from capsys.readouterr().err.splitlines()


def test_without_a_terminal_a_line_now_and_then(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    loop.train(recipes.change(TINY, log_every=1), tmp_path / "run")
    first, last = lines(capsys)
    assert first.startswith("toy.ring 1/20  loss ")
    assert last.startswith("toy.ring 20/20  loss ") and "MFU" in last and "GB" in last


@pytest.mark.parametrize("track, words", [("tensorbord", "expected one of tensorboard, wandb, trackio"), ("wandb", "")])
def test_trackers_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, track: str, words: str) -> None:
    monkeypatch.setattr(progress.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=words or "pip install wandb"):
        loop.train(TINY, tmp_path / "run", quiet=True, track=track)
    assert not (tmp_path / "run").exists()


TRACKIO = """
told, lines, ended = {}, [], []

class config:
    def update(values, **_): told.update(values)

class Run:
    def __init__(self, **names): self.names = names
    def log(self, values, step, **_): lines.append((step, values))
    def finish(self): ended.append(self.names)

def init(**names): return Run(**names)
"""


def test_a_tracker_gets_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Through Accelerate, to a stand-in for the package."""
    (tmp_path / "trackio.py").write_text(TRACKIO)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("accelerate.tracking.is_trackio_available", lambda: True)
    tracking = importlib.import_module("accelerate.tracking")
    kinds = [*tracking._available_trackers, tracking.LoggerType.TRACKIO]
    monkeypatch.setattr(tracking, "_available_trackers", kinds)
    loop.train(TINY, tmp_path / "run", quiet=True, track="trackio")
    heard = importlib.import_module("trackio")
    assert heard.told["lr"] == TINY.lr and heard.told["seed"] == 0
    logged = run_folder.read_log(tmp_path / "run" / "metrics.jsonl")
    assert [(step, line["loss"]) for step, line in heard.lines] == [(line["step"], line["loss"]) for line in logged]
    assert heard.ended == [{"project": "diffusion-seminar", "name": "run"}]


@pytest.mark.slow
def test_compiled_it_resumes_in_the_same_bits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = recipes.change(TINY, compile=True)
    loop.train(recipe, tmp_path / "whole", quiet=True)
    with monkeypatch.context() as patch:
        advance = State.advance

        def dying(self: State, step: int, *rest: Any) -> None:
            if step == 13:
                raise MemoryError
            advance(self, step, *rest)

        patch.setattr(State, "advance", dying)
        with pytest.raises(MemoryError):
            loop.train(recipe, tmp_path / "run", quiet=True)
    torch.compiler.reset()
    assert loop.resume(tmp_path / "run", quiet=True).start == 10
    first = weights(tmp_path / "whole")
    assert all(torch.equal(first[name], tensor) for name, tensor in weights(tmp_path / "run").items())
    eager = begin(dataclasses.replace(recipe, compile=False))[0]
    assert first.keys() == eager.network.state_dict().keys()
