"""A checkpoint that is not exactly what was saved is refused, in one line that says which file and why."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from training import checkpoint, durable

FACTS = {"recipe": "0123abcd", "seed": 3}


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"a": torch.full((4, 3), value), "b": torch.arange(5), "c": torch.tensor(value, dtype=torch.float64)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return checkpoint.save(tmp_path, 7, tensors(), FACTS)


def refused(path: Path, *words: str, like: dict[str, torch.Tensor] | None = None) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the words are checked below)
        checkpoint.load(path, like or tensors(), FACTS)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in (str(path), *words)), message


def test_comes_back_as_it_went(saved: Path) -> None:
    step, found = checkpoint.load(saved, tensors(), FACTS)
    assert step == 7
    for name, tensor in tensors().items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_odd_memory_is_saved_too(tmp_path: Path) -> None:
    """Transposed, shared and channels-last tensors, which safetensors itself refuses or rearranges."""
    base = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    odd = {"t": base.mT, "shared": base, "last": base.clone(memory_format=torch.channels_last)}
    path = checkpoint.save(tmp_path, 1, odd, FACTS)
    _, found = checkpoint.load(path, odd, FACTS)
    assert all(torch.equal(found[name], odd[name]) for name in odd)


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.VOUCHER])
def test_every_flipped_bit_is_seen(saved: Path, name: str) -> None:
    file = saved / name
    whole = file.read_bytes()
    positions = range(len(whole)) if name == checkpoint.VOUCHER else random.Random(0).sample(range(len(whole)), 60)
    for position in positions:
        broken = bytearray(whole)
        broken[position] ^= 1 << (position % 8)
        if name == checkpoint.VOUCHER and _same_json(bytes(broken), whole):
            continue  # white space: nothing was said differently
        file.write_bytes(broken)
        refused(saved, name, "damaged")


def _same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.VOUCHER])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated(saved: Path, name: str, keep: float) -> None:
    contents = (saved / name).read_bytes()
    (saved / name).write_bytes(contents[: int(keep * len(contents))])
    refused(saved, name)


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.VOUCHER])
def test_missing_file(saved: Path, name: str) -> None:
    (saved / name).unlink()
    refused(saved, name, "missing")


@pytest.mark.parametrize("contents", [b"[]", b"null", b"{}", b'"text"', b"\xff\xfe", b'{"digest": 1}'])
def test_json_that_is_no_voucher(saved: Path, contents: bytes) -> None:
    (saved / checkpoint.VOUCHER).write_bytes(contents)
    refused(saved, "damaged")


def test_files_of_two_checkpoints_mixed(saved: Path, tmp_path: Path) -> None:
    other = checkpoint.save(tmp_path, 8, tensors(2.0), FACTS)
    shutil.copy(other / checkpoint.TENSORS, saved / checkpoint.TENSORS)
    refused(saved, "damaged")


def test_pickle_is_never_loaded(saved: Path) -> None:
    torch.save(tensors(), saved / checkpoint.TENSORS)
    refused(saved, checkpoint.TENSORS)


@pytest.mark.parametrize(
    "change, word",
    [
        (lambda t: {**t, "d": t["a"]}, "d"),
        (lambda t: {"a": t["a"], "b": t["b"]}, "c"),
        (lambda t: {**t, "a": t["a"].T}, "a is float32[4, 3]"),
        (lambda t: {**t, "b": t["b"].int()}, "b is int64[5]"),
    ],
)
def test_another_model(saved: Path, change: Callable[..., dict[str, torch.Tensor]], word: str) -> None:
    refused(saved, "another model", word, like=change(tensors()))


def test_another_run(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 7, tensors(), FACTS | {"seed": 4})
    refused(path, "seed = 4", "3")


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 9):
        checkpoint.save(tmp_path, step, tensors(float(step)), FACTS)
    assert [path.name for path in checkpoint.saved(tmp_path)] == ["step-00000009", "step-00000010"]
    assert checkpoint.load(checkpoint.saved(tmp_path)[-1], tensors(), FACTS)[0] == 10


def test_the_last_one_goes_after_the_next_has_come(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, contents: bytes) -> None:
        raise OSError("no room")

    monkeypatch.setattr(durable, "write", full)
    with pytest.raises(OSError, match="no room"):
        checkpoint.save(saved.parent, 8, tensors(), FACTS, keep=1)
    assert checkpoint.saved(saved.parent) == [saved]


def test_a_step_saved_again_takes_its_place(saved: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 7, tensors(2.0), FACTS)
    assert checkpoint.load(saved, tensors(), FACTS)[1]["a"][0, 0] == 2


def test_leftovers_of_a_killed_save_are_swept(saved: Path, tmp_path: Path) -> None:
    leftover = tmp_path / (durable.PARTIAL + "step-00000008")
    leftover.mkdir()
    (leftover / checkpoint.TENSORS).write_bytes(safetensors.torch.save(tensors())[:50])
    (tmp_path / (durable.PARTIAL + "file")).write_bytes(b"half")
    assert checkpoint.saved(tmp_path) == [saved]
    durable.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [saved]
