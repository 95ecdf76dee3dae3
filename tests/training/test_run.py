"""A run from its folder's point of view: never overwritten, never confused, stopped with care."""

from __future__ import annotations

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import rtoml
import torch
from torch import Tensor, nn

from training import draw, loop, recipes, run_folder, runs, state
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


def test_resuming_a_finished_run_changes_nothing(finished: Path) -> None:
    before = contents(finished)
    outcome = loop.resume(finished, quiet=True)
    assert (outcome.start, outcome.step, outcome.finished) == (20, 20, True)
    assert contents(finished) == before


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
        (lambda config: config.pop("hash"), "lacks 'hash'"),
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


def test_a_second_ctrl_c_aborts(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _break_at(patch, 6, lambda loss: (_interrupt(), _interrupt()))
        with pytest.raises(KeyboardInterrupt):
            loop.train(TINY, tmp_path / "run", quiet=True)
    assert loop.resume(tmp_path / "run", quiet=True).finished


def test_a_step_that_is_not_finite_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    _break_at(monkeypatch, 7, lambda loss: loss * math.nan)
    assert loop.train(TINY, tmp_path / "run", quiet=True).finished
    assert before
    log = run_folder.read_log(tmp_path / "run" / "metrics.jsonl")
    assert [line["skipped"] for line in log] == [0, 1, 0, 0]
    assert all(math.isfinite(line["loss"]) for line in log)


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
    assert again.loss == outcome.loss


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
