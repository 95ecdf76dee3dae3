"""Sources against archives of the same format that the test makes itself; what is broken is refused by name."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from training import recipes
from training.data import catalog, encoded, fashion_mnist, pixels
from training.data.source import Memory, Source
from training.recipes import ImageRecipe

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def opened_afresh() -> None:
    catalog.open_source.cache_clear()


def opened(data: str, path: Path | str = "", split: str = "train", channels: int = 3, size: int = 4) -> Source:
    return catalog.open_source(data, str(path), split, channels, size)


def refused(data: str, path: Path | str = "", **options: Any) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as error:  # one line
        opened(data, path, **options)
    return str(error.value)


def all_of(source: Source) -> torch.Tensor:
    return source.images(torch.arange(len(source)))


# ------------------------------------------------------------------------------------------------ digits


def test_digits_are_scikit_learns_in_two_parts() -> None:
    train, test = opened("digits", channels=1, size=8), opened("digits", split="test", channels=1, size=8)
    assert (len(train), len(test), train.classes, train.shape) == (1497, 300, 10, (1, 8, 8))
    truth = load_digits()
    both = torch.cat([all_of(test), all_of(train)]).flatten(1).double()
    order = [*range(0, 1797, 6), *(i for i in range(1797) if i % 6)]
    assert (both - torch.tensor(truth.data[order]) * 255 / 16).abs().max() <= 0.5
    assert {0, 255, 128, 16} <= set(both.flatten().int().tolist())
    assert test.labels(torch.arange(4)).tolist() == truth.target[[0, 6, 12, 18]].tolist()
    assert train.fingerprint != test.fingerprint


# ------------------------------------------------------------------------------------------------ idx files


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, n: int = 5, compress: bool = True) -> dict[str, np.ndarray]:
    images = {split: RNG.integers(0, 256, (n, 4, 4)) for split in ("train", "test")}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        for name, array in (("images-idx3", images[split]), ("labels-idx1", np.arange(n))):
            path = folder / f"{prefix}-{name}-ubyte{'.gz' if compress else ''}"
            path.write_bytes(gzip.compress(idx(array)) if compress else idx(array))
    return images


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("split", ["train", "test"])
def test_idx(tmp_path: Path, compress: bool, split: str) -> None:
    images = write_mnist(tmp_path, compress=compress)[split]
    source = opened("fashion-mnist", tmp_path, split, channels=1)
    assert (all_of(source).squeeze(1).numpy() == images).all()
    assert source.labels(torch.tensor([3, 1])).tolist() == [3, 1]
    assert source.classes == 5


def test_idx_where_the_package_put_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path)
    listed = f"/.\n{tmp_path}\n{tmp_path}/train-images-idx3-ubyte.gz\n"
    monkeypatch.setattr(fashion_mnist.subprocess, "run", lambda *_, **__: type("Done", (), {"stdout": listed}))
    assert len(opened("fashion-mnist", channels=1)) == 5
    monkeypatch.setattr(fashion_mnist.subprocess, "run", lambda *_, **__: type("Done", (), {"stdout": ""}))
    catalog.open_source.cache_clear()
    assert "apt-get install dataset-fashion-mnist" in refused("fashion-mnist", channels=1)


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda whole: b"", "nothing"),
        (lambda whole: b"\x89PNG" + whole[4:], "89504e47"),
        (lambda whole: whole[:-1], "got 79"),
        (lambda whole: whole + b"\0", "got more"),
        (lambda whole: whole[:9], "torn or wrong"),
        (lambda whole: whole[:4] + b"\xff" * 12 + whole[16:], "torn or wrong"),
        (lambda whole: idx(np.zeros((6, 4, 4))), "don't fit"),
    ],
)
@pytest.mark.parametrize("compress", [True, False])
def test_broken_idx(tmp_path: Path, spoil: Callable[[bytes], bytes], told: str, compress: bool) -> None:
    write_mnist(tmp_path, compress=compress)
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if compress else ''}"
    whole = path.read_bytes()
    path.write_bytes(gzip.compress(spoil(gzip.decompress(whole))) if compress else spoil(whole))
    message = refused("fashion-mnist", tmp_path, channels=1)
    assert told in message and str(tmp_path) in message


def test_torn_gzip(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    assert str(path) in refused("fashion-mnist", tmp_path, channels=1)
    path.unlink()
    assert "has neither" in refused("fashion-mnist", tmp_path, channels=1)


# ------------------------------------------------------------------------------------------------ CIFAR-10


def cifar_files(n: int = 2, last_label: int = 9) -> tuple[dict[str, bytes], np.ndarray]:
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    records = RNG.integers(0, 256, (len(names), n, 3073)).astype(np.uint8)
    records[:, :, 0] = np.arange(n)
    records[-2, -1, 0] = last_label
    return {name: r.tobytes() for name, r in zip(names, records, strict=True)}, records


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, contents in files.items():
            entry = tarfile.TarInfo(f"cifar-10/{name}")
            entry.size = len(contents)
            archive.addfile(entry, io.BytesIO(contents))
    return path


@pytest.mark.parametrize("archived", [True, False])
def test_cifar10(tmp_path: Path, archived: bool) -> None:
    files, records = cifar_files()
    where = write_tar(tmp_path / "cifar.tar.gz", files) if archived else tmp_path / "folder"
    if not archived:
        where.mkdir()
        for name, contents in files.items():
            (where / name).write_bytes(contents)
    train, test = opened("cifar10", where, size=32), opened("cifar10", where, "test", size=32)
    assert (len(train), len(test), train.classes) == (10, 2, 10)
    red = all_of(train)[3, 0].flatten().numpy()  # the second record of the second file
    assert (red == records[1, 1, 1:1025]).all()
    assert train.labels(torch.tensor([3, 9])).tolist() == [1, 9]
    assert (all_of(test).numpy().reshape(2, -1) == records[5, :, 1:]).all()


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was read",))


def test_the_python_version_of_cifar10_is_not_unpickled(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "cifar.tar.gz", {"data_batch_1": pickle.dumps(Payload())})
    assert "looks like the python version" in refused("cifar10", archive, size=32)


def test_broken_cifar10(tmp_path: Path) -> None:
    files, _ = cifar_files()
    whole = write_tar(tmp_path / "whole.tar.gz", files).read_bytes()
    torn = tmp_path / "torn.tar.gz"
    for contents in (b"", whole[: len(whole) // 2], b"no archive"):
        torn.write_bytes(contents)
        assert "torn" in refused("cifar10", torn, size=32)
    assert "label 17" in refused("cifar10", write_tar(tmp_path / "l.tar.gz", cifar_files(last_label=17)[0]), size=32)
    short = files | {"data_batch_2.bin": files["data_batch_2.bin"][:-1]}
    assert "data_batch_2.bin has 6145 bytes" in refused("cifar10", write_tar(tmp_path / "s.tar.gz", short), size=32)
    del files["data_batch_3.bin"]
    assert "has no data_batch_3.bin" in refused("cifar10", write_tar(tmp_path / "m.tar.gz", files), size=32)
    assert "does not exist" in refused("cifar10", tmp_path / "nowhere", size=32)


# ------------------------------------------------------------------------------------------------ folders


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def png(array: np.ndarray, mode: str | None = None, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array, mode).save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_folder_of_classes(tmp_path: Path) -> None:
    images = {"b/two.png": noise(4, 4, 3), "a/one.png": noise(4, 4, 3), "b/sub/three.PNG": noise(4, 4, 3)}
    for name, array in images.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(array))
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "a" / "._one.png").write_bytes(b"what macOS knows of one.png")
    source = opened("folder", tmp_path)
    in_order = [images[name] for name in ("a/one.png", "b/sub/three.PNG", "b/two.png")]
    assert (all_of(source).permute(0, 2, 3, 1).numpy() == np.stack(in_order)).all()
    assert source.classes == 2 and source.labels(torch.arange(3)).tolist() == [0, 1, 1]
    (tmp_path / "stray.png").write_bytes(png(noise(4, 4, 3)))
    catalog.open_source.cache_clear()
    assert opened("folder", tmp_path).classes == 0


def test_a_folder_with_splits(tmp_path: Path) -> None:
    for split, n in (("train", 3), ("test", 1)):
        (tmp_path / split).mkdir()
        for i in range(n):
            (tmp_path / split / f"{i}.png").write_bytes(png(noise(4, 4)))
    assert [len(opened("folder", tmp_path, split, channels=1)) for split in ("train", "test")] == [3, 1]
    assert "no split 'test'" in refused("folder", tmp_path / "train", split="test")


def test_a_class_has_one_number_in_both_splits(tmp_path: Path) -> None:
    for place in ("train/cat", "train/dog", "train/fox", "test/cat", "test/bee"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "0.png").write_bytes(png(noise(4, 4, 3)))
    for split, labels in (("train", [1, 2, 3]), ("test", [0, 1])):  # in the order of names, whichever split has them
        source = opened("folder", tmp_path, split)
        assert source.classes == 4 and source.labels(torch.arange(len(labels))).tolist() == labels


def test_what_is_decoded_without_a_guess(tmp_path: Path) -> None:
    grey, colour = noise(4, 4), noise(4, 4, 3)
    (tmp_path / "0.png").write_bytes(png(np.dstack([colour, np.full((4, 4), 255, np.uint8)])))  # opaque alpha
    (tmp_path / "1.bmp").write_bytes(png(colour, kind="BMP"))
    (tmp_path / "2.png").write_bytes(png(grey))
    turned = Image.Exif()
    turned[0x112] = 6  # stored lying on its left side: to be turned clockwise
    (tmp_path / "3.tiff").write_bytes(png(colour, kind="TIFF", exif=turned))
    wide = np.concatenate([noise(4, 3, 3), colour, noise(4, 3, 3)], axis=1)
    (tmp_path / "4.png").write_bytes(png(wide))  # cropped about its centre
    read = all_of(opened("folder", tmp_path)).permute(0, 2, 3, 1).numpy()
    for i, wanted in enumerate((colour, colour, np.dstack([grey] * 3), np.rot90(colour, -1), colour)):
        assert (read[i] == wanted).all(), i
    assert (all_of(opened("folder", tmp_path, channels=1))[2, 0].numpy() == grey).all()


def test_larger_images_are_scaled_down(tmp_path: Path) -> None:
    flat = np.full((9, 16, 3), 77, np.uint8)
    (tmp_path / "flat.jpg").write_bytes(png(flat, kind="JPEG", quality=100))
    assert (all_of(opened("folder", tmp_path)).int() - 77).abs().max() <= 1


def test_scaled_down_every_pixel_counts(tmp_path: Path) -> None:
    """A board of black and white pixels is grey from afar, whichever of them lie at the centres."""
    board = 255 * (np.indices((32, 32)).sum(0) % 2).astype(np.uint8)
    (tmp_path / "board.png").write_bytes(png(board))
    assert (all_of(opened("folder", tmp_path, channels=1)).int() - 127).abs().max() <= 8


BOMB = png(np.zeros((2**13 + 1, 2**13), np.uint8))
BROKEN = {
    "empty": (b"", "is empty"),
    "no image": (b"hello", "is no image"),
    "torn": (png(noise(64, 64, 3))[:-400], "is torn"),
    "torn head": (png(noise(64, 64, 3))[:20], "is "),
    "bomb": (BOMB, "decompression bomb"),
    "transparent": (png(np.dstack([noise(4, 4, 3), np.full((4, 4), 254, np.uint8)])), "transparent"),
    "cmyk": (png(noise(4, 4, 4), mode="CMYK", kind="JPEG"), "CMYK"),
    "16 bits": (png(RNG.integers(0, 2**16, (4, 4)).astype(np.uint16)), "more than 8 bits"),
    "float": (png(np.ones((4, 4), np.float32), kind="TIFF"), "more than 8 bits"),
    "small": (png(noise(3, 9, 3)), "9 x 3 pixels"),
    "film": (png(noise(4, 4), kind="TIFF", save_all=True, append_images=[Image.new("L", (4, 4))]), "frames"),
}


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("name", BROKEN)
def test_broken_images_are_named(tmp_path: Path, name: str, in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    contents, told = BROKEN[name]
    (tmp_path / "good.png").write_bytes(png(noise(4, 4, 3)))
    (tmp_path / "bad.png").write_bytes(contents)
    monkeypatch.setattr(encoded, "IN_MEMORY", 2**31 if in_memory else 0)
    with pytest.raises(ValueError, match=rf"bad\.png .*{told}"):
        all_of(opened("folder", tmp_path))


def test_decoded_on_demand_is_the_same_from_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(40):
        (tmp_path / f"{i:02}.png").write_bytes(png(noise(9, 7, 3)))
    memory = opened("folder", tmp_path)
    monkeypatch.setattr(encoded, "IN_MEMORY", 0)
    catalog.open_source.cache_clear()
    demand = opened("folder", tmp_path)
    assert isinstance(demand, encoded.Encoded)
    parts = torch.randperm(40, generator=torch.Generator().manual_seed(0)).repeat(4).split(10)
    with ThreadPoolExecutor(4) as pool:
        for part, images in zip(parts, pool.map(demand.images, parts), strict=True):
            assert torch.equal(images, memory.images(part))
    before = demand.fingerprint
    catalog.open_source.cache_clear()
    assert opened("folder", tmp_path).fingerprint == before
    (tmp_path / "07.png").write_bytes(png(noise(9, 7, 3)))
    catalog.open_source.cache_clear()
    assert opened("folder", tmp_path).fingerprint != before


def test_the_fingerprint_of_what_is_decoded_on_demand_sees_labels_and_lengths() -> None:
    """A label edited in a table, where no name changes; and contents that differ beyond the heads alone."""
    data = png(noise(64, 64, 3))
    assert len(data) > encoded.HEAD + 100

    def fingerprint(contents: bytes, label: int) -> str:
        return encoded.Encoded(["row 0"], lambda i: contents, (3, 64, 64), torch.tensor([label]), 2).fingerprint

    assert len({fingerprint(data, 0), fingerprint(data, 1), fingerprint(data + b"0", 0)}) == 3


def test_the_fingerprint_sees_pixels_labels_and_shape() -> None:
    pixels_of = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    edited = pixels_of.clone()
    edited[1, 0, 1, 1] = 1
    labels = torch.tensor([0, 1])
    given = [(pixels_of, None), (edited, None), (pixels_of, labels), (pixels_of, labels.flip(0)),
             (pixels_of.reshape(2, 2, 2, 1), None)]  # fmt: skip
    assert len({Memory(p, told).fingerprint for p, told in given}) == len(given)
    with pytest.raises(ValueError, match="no labels"):
        Memory(pixels_of).labels(labels)


def test_bad_folders(tmp_path: Path) -> None:
    assert "does not exist" in refused("folder", tmp_path / "nowhere")
    assert "holds no images" in refused("folder", tmp_path)
    (tmp_path / "file").write_bytes(b"")
    assert "is no folder" in refused("folder", tmp_path / "file")
    assert "needs a path" in refused("folder")


# ------------------------------------------------------------------------------------------------ tables


def test_parquet(tmp_path: Path) -> None:
    arrays = [noise(4, 4, 3) for _ in range(3)]
    cells = [{"bytes": png(a), "path": "x.png"} for a in arrays]
    pq.write_table(pa.table({"note": ["a", "b", "c"], "img": cells, "label": [3, 0, 1]}), tmp_path / "train-0.parquet")
    source = opened("parquet", tmp_path)
    assert (all_of(source).permute(0, 2, 3, 1).numpy() == np.stack(arrays)).all()
    assert source.labels(torch.arange(3)).tolist() == [3, 0, 1] and source.classes == 4
    pq.write_table(pa.table({"anything": [png(arrays[0])]}), tmp_path / "test-0.parquet")
    test = opened("parquet", tmp_path, "test")
    assert (len(test), test.classes) == (1, 0)


@pytest.mark.parametrize(
    "columns, told",
    [
        ({"label": [1]}, "expected one column of images"),
        ({"a": [b"1"], "b": [b"2"]}, "expected one column of images"),
        ({"image": pa.array([None], pa.binary())}, "row 0 has no image"),
        ({"image": [b"junk"]}, "row 0 is no image"),
        ({"image": [png(noise(4, 4))], "label": [-1]}, "row 0 has label -1"),
        ({"image": [png(noise(4, 4))], "label": pa.array([None], pa.int64())}, "row 0 has label None"),
        ({"image": [png(noise(4, 4))], "label": ["cat"]}, "row 0 has label 'cat'"),
        ({"image": pa.array([], pa.binary())}, "is empty"),
    ],
)
def test_bad_parquet(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    assert told in refused("parquet", tmp_path / "t.parquet")


def test_no_parquet(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no more")
    assert "can't be read as Parquet" in refused("parquet", tmp_path / "t.parquet")
    assert "does not exist" in refused("parquet", tmp_path / "nowhere")
    (tmp_path / "t.parquet").unlink()
    assert "no .parquet files" in refused("parquet", tmp_path)


def test_hub(tmp_path: Path) -> None:
    arrays = [noise(4, 4, 3) for _ in range(2)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=2)})
    table = {"image": [{"bytes": png(a), "path": None} for a in arrays], "label": [1, 0]}
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_dict(table, features=features)})
    saved.save_to_disk(tmp_path / "saved")
    source = opened("hub:some/where", tmp_path / "saved")
    assert (all_of(source).permute(0, 2, 3, 1).numpy() == np.stack(arrays)).all()
    assert source.labels(torch.arange(2)).tolist() == [1, 0]
    assert "split 'test' is not here" in refused("hub:some/where", tmp_path / "saved", split="test")
    assert "fetch it once" in refused("hub:some/where")
    assert not catalog.has_test("hub:some/where", str(tmp_path / "saved"))
    saved["test"] = saved["train"]
    saved.save_to_disk(tmp_path / "both")
    assert catalog.has_test("hub:some/where", str(tmp_path / "both"))
    saved["train"].save_to_disk(tmp_path / "one")
    assert "a Dataset, without splits" in refused("hub:some/where", tmp_path / "one")


# ------------------------------------------------------------------------------------------------ all


def test_a_run_learns_from_its_own_split() -> None:
    for split, n in (("train", 1497), ("test", 300)):
        recipe = recipes.change(recipes.find("images.digits-unet"), split=split)
        assert isinstance(recipe, ImageRecipe)
        assert len(catalog.learned_from(recipe)) == n


def test_another_shape_than_asked_for() -> None:
    assert "1 x 8 x 8" in refused("digits", channels=3, size=8)


def test_pixels_there_and_back() -> None:
    k = torch.arange(256, dtype=torch.uint8)
    x = pixels.to_model(k)
    assert (x[0], x[255]) == (-1, 1)
    torch.testing.assert_close(x.diff(), torch.full((255,), pixels.BIN), rtol=1e-4, atol=0)
    assert torch.equal(pixels.to_uint8(x), k)
    assert pixels.to_uint8(torch.tensor([-1.2, 7.0])).tolist() == [0, 255]
    with pytest.raises(ValueError, match="1 of 2 values"):
        pixels.to_uint8(torch.tensor([torch.nan, 0.0]))
