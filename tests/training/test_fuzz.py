"""Files of a run damaged at random: one line or the very same contents, never a crash, a hang or other numbers.

A flipped, cut, lengthened or rewritten file is refused with a ValueError of one line, unless what it says is to the
letter what it said (white space in a header, say). Nothing read here is run, and nothing is believed about its length.
"""

from __future__ import annotations

import json
import pickle
import random
import resource
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from training import checkpoint, draw, loop, recipes, run_folder, tensor_file
from training.run_folder import CONFIG

TINY = recipes.change(recipes.find("toy.ring"), steps=2, batch=4, width=4, depth=1, log_every=1, save_every=1)
FACTS = {"recipe": "0123abcd", "seed": 3}
MOST = 64 * 2**20  # bytes that reading a damaged file of a few KB may take

Damage = Callable[[random.Random, bytes], bytes]


def flips(chance: random.Random, old: bytes) -> bytes:
    new = bytearray(old)
    for _ in range(chance.choice((1, 1, 1, 2, 8, 100))):
        new[chance.randrange(len(new))] ^= 1 << chance.randrange(8)
    return bytes(new)


def flips_ahead(chance: random.Random, old: bytes) -> bytes:
    """In the length and the header, where a bit means most."""
    return flips(chance, old[:400]) + old[400:]


def cut(chance: random.Random, old: bytes) -> bytes:
    return old[: chance.randrange(len(old))]


def insert(chance: random.Random, old: bytes) -> bytes:
    at = chance.randrange(len(old) + 1)
    return old[:at] + chance.randbytes(chance.choice((1, 8, 1000))) + old[at:]


def remove(chance: random.Random, old: bytes) -> bytes:
    at = chance.randrange(len(old))
    return old[:at] + old[at + chance.choice((1, 8, 100)) :]


def swap(chance: random.Random, old: bytes) -> bytes:
    """Two pieces of the file change places."""
    a, b = sorted(chance.sample(range(len(old)), 2))
    return old[b:] + old[a:b] + old[:a]


def zero(chance: random.Random, old: bytes) -> bytes:
    at = chance.randrange(len(old))
    return old[:at] + bytes(len(old) - at)


def noise(chance: random.Random, old: bytes) -> bytes:
    return chance.randbytes(chance.choice((0, 1, 7, 8, 9, 1000)))


ANYWHERE: tuple[Damage, ...] = (flips, flips_ahead, cut, insert, remove, swap, zero, noise)


def length(chance: random.Random, old: bytes) -> bytes:
    """The header's length, in the first 8 bytes: too long, too short, gigantic."""
    return struct.pack("<Q", chance.choice((0, 1, 7, 2**20, 2**31, 2**63, 2**64 - 1, len(old)))) + old[8:]


def header(change: Callable[[random.Random, dict[str, Any], str], object]) -> Damage:
    """A header whose length is right, one entry of which is changed."""

    def changed(chance: random.Random, old: bytes) -> bytes:
        size = struct.unpack("<Q", old[:8])[0]
        entries = json.loads(old[8 : 8 + size])
        change(chance, entries, chance.choice([name for name in entries if name != "__metadata__"]))
        return with_header(json.dumps(entries).encode(), old)

    return changed


def with_header(text: bytes, old: bytes) -> bytes:
    """The file with another header."""
    return struct.pack("<Q", len(text)) + text + old[8 + struct.unpack("<Q", old[:8])[0] :]


def offsets(chance: random.Random, entries: dict[str, Any], name: str) -> None:
    a, b = entries[name]["data_offsets"]
    wrong = [[b, a], [a, b + 4], [a + 4, b], [-4, b], [a, 2**62], [2**63, 2**64], [a], [a, b, b], [0, b - a], "ab"]
    entries[name]["data_offsets"] = chance.choice(wrong)


def overlap(chance: random.Random, entries: dict[str, Any], name: str) -> None:
    other = chance.choice([key for key in entries if key not in (name, "__metadata__")])
    entries[name]["data_offsets"] = entries[other]["data_offsets"]


def shape(chance: random.Random, entries: dict[str, Any], name: str) -> None:
    old = entries[name]["shape"]
    entries[name]["shape"] = chance.choice([[*old, 1], [*old[::-1], 0], [2**40, 2**40], [-1], [], [*old, 2], "x", None])


def dtype(chance: random.Random, entries: dict[str, Any], name: str) -> None:
    entries[name]["dtype"] = chance.choice(("F64", "I32", "U8", "BF16", "F8_E4M3", "C64", "BOOL", "F33", "", None, 3))


def rename(chance: random.Random, entries: dict[str, Any], name: str) -> None:
    new = chance.choice(("", "../../x", "\u202e" + name, name + "\0", "ä" * 300, "a" * 10**5, "\ud800", "__class__"))
    entries[new] = entries.pop(name)


def trade(chance: random.Random, entries: dict[str, Any], name: str) -> None:
    """Two tensors under each other's names: of one kind, with nothing else to tell them apart."""
    other = next((k for k, v in entries.items() if k != name and v.get("shape") == entries[name]["shape"]), None)
    if other is None:
        entries.pop(name)
    else:
        entries[name], entries[other] = entries[other], entries[name]


def metadata(chance: random.Random, entries: dict[str, Any], name: str) -> None:
    entries["__metadata__"] = chance.choice(({}, {"digest": "0" * 32}, {"digest": ""}, {"digest": 3}, [], None, "x"))


def twice(chance: random.Random, old: bytes) -> bytes:
    """One name twice in the header."""
    text = old[8 : 8 + struct.unpack("<Q", old[:8])[0]].rstrip()
    entries = json.loads(text)
    name = chance.choice([key for key in entries if key != "__metadata__"])
    again = json.dumps({name: entries[name] | {"shape": [1]}}).encode()
    return with_header(text[:-1] + b"," + again[1:], old)


def deep(chance: random.Random, old: bytes) -> bytes:
    return with_header(chance.choice((b"[", b'{"a":', b'{"__metadata__":')) * chance.choice((10, 1000, 100_000)), old)


STRUCTURED: tuple[Damage, ...] = (
    length, twice, deep,
    *(header(change) for change in (offsets, overlap, shape, dtype, rename, trade, metadata)),
)  # fmt: skip


def told(error: BaseException) -> None:
    """One line, of a kind that the command tells in one line."""
    message = str(error)
    assert message
    assert "\n" not in message
    message.encode()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]) for name in one
    )


def trial(read: Callable[[], object], unchanged: Callable[[Any], bool]) -> bool:
    """Whether reading was refused, in one line and with little memory; else what was read has to be unchanged."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        found = read()
    except ValueError as error:
        told(error)
        return True
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MOST
        assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MOST
    assert unchanged(found)
    return False


def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(4, 3, generator=generator), "b": torch.arange(5), "c": torch.tensor(1.0, dtype=torch.float64),
        "d": torch.randn(4, 3, generator=generator), "empty": torch.zeros(0, 2),
    }  # fmt: skip


def each(kinds: tuple[Damage, ...], n: int, old: bytes) -> list[bytes]:
    """n damaged files, of all kinds alike; each has its own seed."""
    return [kinds[i % len(kinds)](random.Random(i), old) for i in range(n)]


@pytest.mark.parametrize("name", [checkpoint.TENSORS, checkpoint.VOUCHER])
def test_500_damaged_checkpoints(tmp_path: Path, name: str) -> None:
    path = checkpoint.save(tmp_path, 7, tensors(), FACTS)
    old = (path / name).read_bytes()
    kinds = ANYWHERE + (STRUCTURED if name == checkpoint.TENSORS else (spoil_json,))
    refused = 0
    for new in each(kinds, 250, old):
        (path / name).write_bytes(new)
        refused += trial(
            lambda: checkpoint.load(path, tensors(), FACTS), lambda found: found[0] == 7 and same(found[1], tensors())
        )
    assert refused > 240  # damage may strike a blank


def spoil_json(chance: random.Random, old: bytes) -> bytes:
    """JSON that is JSON, and says something else."""
    claims = json.loads(old)
    name = chance.choice(list(claims))
    claims[name] = chance.choice((None, -1, 10**30, "", "\ud800", [], {}, float("nan"), [[[]]], True))
    return json.dumps(claims).encode()


def test_believable_checkpoints_of_other_tensors(tmp_path: Path) -> None:
    """Damage that somebody has made a voucher for: sums are right, what they are the sums of is not."""
    path = checkpoint.save(tmp_path, 7, tensors(), FACTS)
    old = (path / checkpoint.TENSORS).read_bytes()
    for new in each(STRUCTURED, 200, old):
        (path / checkpoint.TENSORS).write_bytes(new)
        (path / checkpoint.VOUCHER).write_bytes(checkpoint._voucher(7, FACTS, new))
        trial(lambda: checkpoint.load(path, tensors(), FACTS), _fits)


def _fits(found: tuple[int, dict[str, Tensor]]) -> bool:
    wanted = tensors()
    return found[1].keys() == wanted.keys() and all(
        (tensor.shape, tensor.dtype) == (wanted[name].shape, wanted[name].dtype) for name, tensor in found[1].items()
    )


def test_damaged_weights(tmp_path: Path) -> None:
    path = tmp_path / "ema.safetensors"
    tensor_file.write(path, tensors())
    old = path.read_bytes()
    refused = 0
    for new in each(ANYWHERE + STRUCTURED, 500, old):
        path.unlink()
        path.write_bytes(new)
        refused += trial(lambda: tensor_file.read(path), lambda found: same(found, tensors()))
    assert refused > 480


def test_the_fuzz_can_fail(tmp_path: Path) -> None:
    """safetensors alone believes damaged weights: what the test above would find without the digest."""
    path = tmp_path / "ema.safetensors"
    tensor_file.write(path, tensors())
    believed = 0
    for new in each(ANYWHERE, 100, path.read_bytes()):
        path.unlink()
        path.write_bytes(new)
        try:
            trial(lambda: _plainly(path), lambda found: same(found, tensors()))
        except AssertionError:
            believed += 1
    assert believed > 5


def _plainly(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:
        raise ValueError(" ".join(str(error).split())) from None


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "samples", lambda *_: None)
        patch.setattr(draw, "curves", lambda *_: None)
        loop.train(TINY, folder, quiet=True)
    return folder


def nested(chance: random.Random, old: bytes) -> bytes:
    return old + b"\nx = " + chance.choice((b"[", b"{a=", b"[[")) * chance.choice((10, 1000, 20_000))


def number(chance: random.Random, old: bytes) -> bytes:
    """Another digit somewhere."""
    at = chance.choice([i for i, byte in enumerate(old) if chr(byte).isdigit()])
    return old[:at] + str(chance.randrange(10)).encode() + old[at + 1 :]


def line(chance: random.Random, old: bytes) -> bytes:
    """A line less, or one twice."""
    lines = old.splitlines(keepends=True)
    at = chance.randrange(len(lines))
    return b"".join(lines[:at] + lines[at + 1 :] if chance.random() < 0.5 else [*lines, lines[at]])


def test_damaged_configs(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    old = (folder / CONFIG).read_bytes()
    wanted = run_folder.open_run(folder)
    refused = 0
    for new in each((*ANYWHERE, number, line, nested), 500, old):
        (folder / CONFIG).write_bytes(new)
        refused += trial(lambda: run_folder.open_run(folder), lambda found: found == wanted)
    assert refused > 450


def test_damaged_logs(finished: Path, tmp_path: Path) -> None:
    """Of a log the lines that can't be read go, and all others stay as they are."""
    path, old = tmp_path / "metrics.jsonl", (finished / "metrics.jsonl").read_bytes() * 3
    for new in each((*ANYWHERE, number, nested), 200, old):
        path.write_bytes(new)
        run_folder.cut_log(path, 2)
        assert set(path.read_bytes().splitlines(keepends=True)) <= set(new.splitlines(keepends=True))
        trial(lambda: run_folder.read_log(path), lambda found: True)


class Payload:
    """Writes a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.write_text, (self.marker, "run")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_payload_is_not_run(finished: Path, tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    payload = pickle.dumps(Payload(marker), protocol)
    pickle.loads(payload)
    assert marker.read_text() == "run"  # it would
    marker.unlink()
    torch.save(Payload(marker), tmp_path / "zip", pickle_protocol=max(2, protocol))
    for contents in (payload, (tmp_path / "zip").read_bytes()):
        run = tmp_path / "run"
        shutil.copytree(finished, run)
        [newest] = checkpoint.saved(run / "checkpoints")[-1:]
        for name in (f"checkpoints/{newest.name}/{checkpoint.TENSORS}", "ema.safetensors", CONFIG):
            (run / name).write_bytes(contents)
        (newest / checkpoint.VOUCHER).write_bytes(checkpoint._voucher(2, {}, contents))
        with pytest.raises(ValueError, match=CONFIG):
            run_folder.open_run(run)
        with pytest.raises(ValueError, match=r"ema\.safetensors is damaged"):
            tensor_file.read(run / "ema.safetensors")
        with pytest.raises(ValueError, match="is no safetensors file"):
            checkpoint.load(newest, {}, {})
        shutil.rmtree(run)
    assert not marker.exists()
