"""A run from its folder's point of view: never overwritten, never confused, stopped with care."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import rtoml
import torch
from torch import Tensor, nn

from training import draw, durable, loop, recipes, run_folder, runs, state, tensor_file
from training.families.toy import Toy
from training.run_folder import CONFIG
from training.streams import Streams, key
from training.task import Batch

TINY = recipes.change(recipes.find("toy.ring"), steps=20, batch=8, width=4, depth=1, log_every=5, save_every=10)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draw, "samples", lambda *_: None)
    monkeypatch.setattr(draw, "curves", lambda *_: None)


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "samples", lambda *_: None)
        assert loop.train(TINY, folder, quiet=True).finished
    return folder


def test_a_run_folder_holds_all_of_the_run(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert {CONFIG, "metrics.jsonl", "checkpoints", "weights.safetensors", "ema.safetensors", "curves.png"} <= names
    assert run_folder.open_run(finished) == run_folder.RunFolder(finished, TINY, 0)


def test_named_after_recipe_hash_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = loop.train(TINY, steps=1, seed=5, quiet=True)
    recipe = recipes.change(TINY, steps=1)
    assert outcome.folder == Path("runs") / f"toy.ring-{recipes.fingerprint(recipe)}-s5"
    assert run_folder.open_run(outcome.folder).seed == 5


def test_a_run_is_never_overwritten(finished: Path) -> None:
    before = contents(finished)
    with pytest.raises(ValueError, match="never overwritten") as error:
        loop.train(TINY, finished, quiet=True)
    one_line(error)
    assert contents(finished) == before


def test_resuming_a_finished_run_changes_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(finished)
    monkeypatch.setattr(draw, "samples", lambda *_: pytest.fail("a picture was drawn again"))
    outcome = loop.resume(finished, quiet=True)
    assert (outcome.start, outcome.step, outcome.finished) == (20, 20, True)
    assert contents(finished) == before


def test_advice_names_the_newest_checkpoint(tmp_path: Path) -> None:
    folder = run_folder.RunFolder(tmp_path / "run", TINY, 0)
    assert "no checkpoint yet" in folder.advice()
    for step in (900, 1000, 80):
        (folder.checkpoints / f"step-{step:08d}").mkdir(parents=True)
    assert f"is {folder.checkpoints / 'step-00001000'};" in folder.advice()


def test_a_name_is_as_long_as_its_bytes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a name of more than 200 bytes"):
        run_folder.refuse_existing(tmp_path / ("é" * 101))
    run_folder.refuse_existing(tmp_path / ("é" * 100))


def test_a_path_in_a_run_is_told_from_one_beside_somebody_elses_config(tmp_path: Path) -> None:
    folder = run_folder.create(tmp_path / "run", recipes.find("toy.ring"), 0).path
    (tmp_path / "run-2").mkdir()
    (tmp_path / "link").symlink_to(folder)
    for text in ("seed = 3", "seed = ", "\0"):
        (tmp_path / CONFIG).write_text(text)
        assert run_folder.around(tmp_path / "out" / "drawn.png") is None
        assert run_folder.around(tmp_path / "run-2" / "drawn.png") is None
    for inside in ("run/a.png", "run/new/a.png", "link/a.png", "run-2/../run/a.png"):
        assert run_folder.around(tmp_path / inside) == folder.resolve()


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(ValueError, match="not an empty folder"):
        loop.train(TINY, tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"steps": 0}, "steps = 0"),
        ({"steps": -5}, "steps = -5"),
        ({"seconds": 0.0}, "seconds = 0"),
        ({"seconds": math.nan}, "seconds = nan"),
        ({"seconds": -1.0}, "seconds = -1"),
        ({"steps": 5, "seconds": 5.0}, "one of them"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 0.5}, "seed = 0.5"),
    ],
)
def test_bad_arguments_before_anything_is_made(tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words) as error:
        loop.train(TINY, tmp_path / "run", quiet=True, **arguments)
    one_line(error)
    assert not (tmp_path / "run").exists()


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        loop.resume(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=f"has no {CONFIG}"):
        loop.resume(tmp_path)


@pytest.mark.parametrize(
    "edit, words",
    [
        (lambda config: config["recipe"].update(lr=0.5), "was edited"),
        (lambda config: config["recipe"].update(lr=-1.0), "lr = -1"),
        (lambda config: config["recipe"].update(widht=3), "'widht' is unknown"),
        (lambda config: config["recipe"].pop("batch"), "lacks batch"),
        (lambda config: config["recipe"].update(name="toy.rnig"), "did you mean toy.ring"),
        (lambda config: config.update(seed="one"), "seed = 'one'"),
        (lambda config: config.pop("hash"), "torn or was edited: it lacks 'hash'"),
        (lambda config: config.update(extra=1), "'extra' is unknown"),
    ],
)
def test_an_edited_config_is_refused(tmp_path: Path, edit: Any, words: str) -> None:
    folder = run_folder.create(tmp_path / "run", TINY, 0).path
    config = rtoml.loads((folder / CONFIG).read_text())
    edit(config)
    (folder / CONFIG).write_text(rtoml.dumps(config))
    with pytest.raises(ValueError, match=words) as error:
        loop.resume(folder, quiet=True)
    assert str(folder) in one_line(error)


@pytest.mark.parametrize("text", ["", "recipe = [", "recipe = 3\nseed = 0\nhash = ''", "\x00"])
def test_a_config_that_is_none(tmp_path: Path, text: str) -> None:
    folder = run_folder.create(tmp_path / "run", TINY, 0).path
    (folder / CONFIG).write_text(text)
    with pytest.raises(ValueError, match=CONFIG) as error:
        loop.resume(folder, quiet=True)
    one_line(error)


def test_a_run_has_one_owner(tmp_path: Path) -> None:
    folder = run_folder.create(tmp_path / "run", TINY, 0)
    with run_folder.locked(folder), pytest.raises(ValueError, match="another process"):
        loop.resume(folder.path, quiet=True)
    assert loop.resume(folder.path, quiet=True).finished


def test_the_log_is_cut_to_the_step(tmp_path: Path) -> None:
    log = tmp_path / "metrics.jsonl"
    lines = [run_folder.log_line({"step": step}) for step in (5, 10, 15, 20)]
    log.write_text("".join(lines) + '{"step": 2')
    run_folder.cut_log(log, 15)
    assert log.read_text() == "".join(lines[:3])
    run_folder.cut_log(log, 0)
    assert log.read_text() == ""


def test_a_line_torn_at_its_very_end_is_no_line(tmp_path: Path) -> None:
    """It reads as JSON, but the next one would be written behind it, on the same line."""
    log, lines = tmp_path / "metrics.jsonl", [run_folder.log_line({"step": step}) for step in (5, 10)]
    for torn in (lines[1].removesuffix("\n"), '{"step": 1'):
        log.write_text(lines[0] + torn)
        assert run_folder.read_log(log) == [{"step": 5}]
        run_folder.cut_log(log, 10)
        assert log.read_text() == lines[0]


def test_another_machine_is_refused_unless_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        _break_at(patch, 13, lambda loss: _interrupt())
        outcome = loop.train(TINY, folder, quiet=True)
    assert outcome.step == 14
    [state, *_] = (folder / "checkpoints").glob("step-00000014/state.json")
    voucher = json.loads(state.read_text())
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        with pytest.raises(ValueError, match=f"threads = {threads}, here it is {threads + 1}"):
            loop.resume(folder, quiet=True)
        assert voucher["facts"]["threads"] == threads
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Toy, "facts", lambda self: {"data": "others"})  # no machine's doing, so never forgiven
            with pytest.raises(ValueError, match="data = None, here it is 'others'"):
                loop.resume(folder, quiet=True, allow_inexact=True)
        assert loop.resume(folder, quiet=True, allow_inexact=True).finished
    finally:
        torch.set_num_threads(threads)


def test_ctrl_c_saves_and_stops_and_the_run_goes_on_as_if_nothing_was(finished: Path, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        _break_at(patch, 6, lambda loss: _interrupt())
        outcome = loop.train(TINY, tmp_path / "run", quiet=True)
    assert (outcome.step, outcome.finished) == (7, False)
    assert signal.getsignal(signal.SIGINT) is handler
    assert loop.resume(tmp_path / "run", quiet=True).start == 7
    for name in ("weights.safetensors", "ema.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


def test_a_run_that_died_goes_on_with_the_log_of_its_checkpoint(finished: Path, tmp_path: Path) -> None:
    """What was logged after the checkpoint is logged again."""
    folder = tmp_path / "run"

    def die(loss: Tensor) -> None:
        raise MemoryError

    recipe = recipes.change(TINY, save_every=8)
    with pytest.MonkeyPatch.context() as patch:
        _break_at(patch, 13, die)
        with pytest.raises(MemoryError):
            loop.train(recipe, folder, quiet=True)
    (folder / "averages").mkdir()
    for place in (folder, folder / "averages", folder / "checkpoints"):
        (place / (durable.PARTIAL + "of a write that was cut short")).write_bytes(b"torn")
    outcome = loop.resume(folder)
    assert (outcome.start, outcome.finished) == (8, True)
    mine, other = (run_folder.read_log(path / "metrics.jsonl") for path in (folder, finished))
    same = ("step", "loss", "smoothed_loss", "skipped", "lr")
    assert [[line[name] for name in same] for line in mine] == [[line[name] for name in same] for line in other]
    assert mine[-1]["mfu"] is not None and other[-1]["mfu"] is None  # counted at every start, and not for nobody
    assert not [*folder.rglob(durable.PARTIAL + "*")]


def test_a_run_whose_picture_failed_is_not_finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(draw, "samples", fail)
        with pytest.raises(MemoryError):
            loop.train(TINY, tmp_path / "run", quiet=True)
    assert not run_folder.open_run(tmp_path / "run").finished
    drawn: list[Any] = []
    monkeypatch.setattr(draw, "samples", lambda *given: drawn.append(given))
    assert loop.resume(tmp_path / "run", quiet=True).finished
    assert len(drawn) == 1


def test_a_second_ctrl_c_aborts(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _break_at(patch, 6, lambda loss: (_interrupt(), _interrupt()))
        with pytest.raises(KeyboardInterrupt):
            loop.train(TINY, tmp_path / "run", quiet=True)
    assert loop.resume(tmp_path / "run", quiet=True).finished


def _no_number(loss: Tensor) -> Tensor:
    return loss * math.nan


def _no_gradient(loss: Tensor) -> Tensor:
    """The same number, whose gradient is none: that of a square root at 0."""
    return loss + 0 * torch.sqrt(0 * loss)


@pytest.mark.parametrize("clip", [1.0, math.inf])
@pytest.mark.parametrize("broken", [_no_number, _no_gradient])
def test_a_step_that_is_not_finite_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: Callable[[Tensor], Tensor], clip: float
) -> None:
    before: dict[str, Tensor] = {}
    advance = state.State.advance

    def watched(self: state.State, step: int, *rest: Any) -> None:
        kept = {name: tensor.clone() for name, tensor in self.tensors().items() if name.startswith(("net", "opt"))}
        advance(self, step, *rest)
        if step == 7:
            before.update(kept)
            assert all(torch.equal(self.tensors()[name], tensor) for name, tensor in kept.items())
        if step == 8:
            assert any(not torch.equal(self.tensors()[name], tensor) for name, tensor in before.items())

    monkeypatch.setattr(state.State, "advance", watched)
    _break_at(monkeypatch, 7, broken)
    assert loop.train(recipes.change(TINY, clip=clip), tmp_path / "run", quiet=True).finished
    assert before
    log = run_folder.read_log(tmp_path / "run" / "metrics.jsonl")
    assert [line["skipped"] for line in log] == [0, 1, 0, 0]
    assert all(math.isfinite(line["loss"]) for line in log)


def test_a_line_of_the_log_tells_of_its_window(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The mean loss of the steps since the line before, without those skipped; the last window is a short one."""
    losses: dict[int, float] = {}
    rates: dict[int, float] = {}
    advance = state.State.advance

    def watched(self: state.State, step: int, lr: float, *rest: Any) -> None:
        rates[step] = lr
        advance(self, step, lr, *rest)

    _break_at(monkeypatch, 7, _no_number)
    loss = Toy.loss

    def told(self: Toy, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        value = loss(self, network, batch, streams)
        losses[streams.step] = losses.get(streams.step, 0) + value.item() / 2
        return value

    monkeypatch.setattr(Toy, "loss", told)
    monkeypatch.setattr(state.State, "advance", watched)
    loop.train(recipes.change(TINY, steps=12, accumulate=2), tmp_path / "run", quiet=True)
    log = run_folder.read_log(tmp_path / "run" / "metrics.jsonl")
    windows = ((0, 1, 2, 3, 4), (5, 6, 8, 9), (10, 11))
    assert [line["loss"] for line in log] == pytest.approx([fmean(losses[k] for k in window) for window in windows])
    assert [line["lr"] for line in log] == [rates[step] for step in (4, 9, 11)]
    seen = [line["loss"] for line in log]
    assert [line["smoothed_loss"] for line in log] == pytest.approx(
        [seen[0], (seen[0] + 255 * seen[1]) / 256, (seen[0] + 255 * seen[1] + (3**8 - 2**8) * seen[2]) / 3**8], rel=1e-5
    )
    for line in log:
        assert line["samples_per_second"] / line["steps_per_second"] == pytest.approx(TINY.batch, rel=0.01)


def test_a_loss_that_stays_broken_stops_the_run_with_its_last_good_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    for step in range(10, 20):
        _break_at(monkeypatch, step, lambda loss: loss * math.inf)
    with pytest.raises(ValueError, match=r"no step up to 15 had a finite loss.*step-00000010") as error:
        loop.train(TINY, folder, quiet=True)
    one_line(error)
    monkeypatch.undo()
    monkeypatch.setattr(draw, "samples", lambda *_: None)
    outcome = loop.resume(folder, quiet=True)
    assert (outcome.start, outcome.finished) == (10, True)


def test_seconds_become_steps_and_are_forgotten(tmp_path: Path) -> None:
    outcome = loop.train(TINY, tmp_path / "run", seconds=0.05, quiet=True)
    text = (tmp_path / "run" / CONFIG).read_text()
    assert f"steps = {outcome.steps}" in text
    assert "seconds" not in text
    again = loop.train(TINY, tmp_path / "again", steps=outcome.steps, quiet=True)
    assert again.loss == outcome.loss == loop.resume(tmp_path / "run", quiet=True).loss


def test_a_run_that_is_stopped_before_its_first_line_has_no_loss(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(loop.launch.Vote, "__call__", lambda *_: True)
    stopped = loop.train(TINY, tmp_path / "run", quiet=True)
    assert (stopped.step, stopped.loss) == (1, None)


@pytest.mark.parametrize("step_takes, steps", [(0.01, 1000), (7.0, 1), (300.0, 1)])
def test_seconds_are_filled_with_steps_and_a_twentieth_of_them_spent(
    monkeypatch: pytest.MonkeyPatch, step_takes: float, steps: int
) -> None:
    """On a clock that only steps move; the first takes a fifth of a second longer, which no later one does."""
    now = [0.0]

    def advance(self: state.State, step: int, *rest: Any) -> None:
        now[0] += step_takes + 0.2 * (step == 0)

    monkeypatch.setattr(state.State, "advance", advance)
    monkeypatch.setattr(loop.time, "perf_counter", lambda: now[0])
    assert loop.steps_in(TINY, seconds=10) == steps
    assert now[0] <= 0.2 + max(2 * step_takes, 3 * 0.5)  # with the last doubling it may be three times a twentieth


def test_the_global_generator_is_not_drawn_from(tmp_path: Path) -> None:
    """Whatever the caller did with torch's global generator, a run is its recipe and its seed."""
    losses = set()
    for drawn in (1, 2):
        torch.manual_seed(drawn)
        losses.add(loop.train(TINY, tmp_path / str(drawn), quiet=True).loss)
    assert len(losses) == 1
    assert loop.train(TINY, tmp_path / "seed", seed=1, quiet=True).loss not in losses


def test_streams_differ_in_each_of_their_keys() -> None:
    base = (0, 0, "noise", 0)
    keys = {key(*base), key(1, *base[1:]), key(0, 1, "noise", 0), key(0, 0, "data", 0), key(0, 0, "noise", 1)}
    assert len(keys) == 5
    first, second = (torch.rand(3, generator=Streams(0, 5)("time")) for _ in range(2))
    assert torch.equal(first, second)


def test_a_run_is_opened_to_be_used(finished: Path) -> None:
    """Without dropout, and without a gradient of its own; by its averages, or by its last weights."""
    for weights, file in (("ema", "ema.safetensors"), ("last", "weights.safetensors")):
        network = runs.load(finished, weights).network  # type: ignore[arg-type]
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())
        stored = tensor_file.read(finished / file)
        assert all(torch.equal(tensor, stored[name]) for name, tensor in network.state_dict().items())
    assert (finished / "ema.safetensors").read_bytes() != (finished / "weights.safetensors").read_bytes()


def test_no_two_streams_of_runs_steps_and_shares_are_one() -> None:
    """Whatever their numbers look like side by side (seed 1, step 11; seed 11, step 1), and whatever they add up to."""
    seeds = [
        Streams(seed, step, share)("noise").initial_seed()
        for seed in (0, 1, 11, 111)
        for step in (0, 1, 2, 11, 111)
        for share in (0, 1, 2, 11)
    ]
    assert len(set(seeds)) == len(seeds)


def test_weights_of_another_network_are_refused(finished: Path, tmp_path: Path) -> None:
    other = recipes.change(TINY, width=5)
    folder = run_folder.create(tmp_path / "run", other, 0).path
    (folder / "ema.safetensors").write_bytes((finished / "ema.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"does not fit toy\.ring") as error:
        runs.load(folder)
    one_line(error)
    (folder / "ema.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(ValueError, match=r"ema\.safetensors is damaged"):
        runs.load(folder)


def test_an_unfinished_run_is_not_loaded(tmp_path: Path) -> None:
    run_folder.create(tmp_path / "run", TINY, 0)
    with pytest.raises(ValueError, match="not finished"):
        runs.load(tmp_path / "run")


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def _break_at(patch: pytest.MonkeyPatch, at: int, act: Any) -> None:
    """Do something to the loss of step `at`."""
    loss = Toy.loss

    def changed(self: Toy, network: nn.Module, batch: Batch, streams: Streams) -> Tensor:
        value = loss(self, network, batch, streams)
        return result if streams.step == at and isinstance(result := act(value), Tensor) else value

    patch.setattr(Toy, "loss", changed)
