"""Every epoch sees every image once, whatever the batch and however shared out; what is mirrored or moved stays so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import pad

from training import recipes
from training.data.augment import coins, flipped, moved, moves, shifted, versions
from training.data.catalog import open_source
from training.data.order import permutation, read_order
from training.data.pixels import to_model
from training.data.reading import read
from training.data.source import Memory
from training.streams import Streams
from training.task import build


@given(
    n=st.integers(1, 60), per_share=st.integers(1, 9), shares=st.integers(1, 4), steps=st.integers(1, 30),
    seed=st.integers(0, 5),
)  # fmt: skip
def test_every_epoch_sees_every_image_once(n: int, per_share: int, shares: int, steps: int, seed: int) -> None:
    seen: dict[int, list[int]] = {}
    for step in range(steps):
        for share in range(shares):
            first = (step * shares + share) * per_share
            epochs, indices = read_order(torch.arange(first, first + per_share), n, seed)
            for epoch, index in zip(epochs.tolist(), indices.tolist(), strict=True):
                seen.setdefault(epoch, []).append(index)
    whole, rest = divmod(steps * shares * per_share, n)
    for epoch in range(whole):
        assert sorted(seen[epoch]) == list(range(n))
    if rest:
        assert len(set(seen[whole])) == len(seen[whole]) == rest
    assert len(seen) == whole + bool(rest)


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = [permutation(50, seed, epoch).tolist() for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert sorted(range(50)) not in orders


def test_an_image_is_mirrored_by_seed_epoch_and_index_alone() -> None:
    n, images = 7, torch.arange(7 * 2 * 3).reshape(7, 1, 2, 3)
    alone = [flipped(images[i : i + 1], torch.tensor([4]), torch.tensor([i]), n, 1)[0] for i in range(n)]
    order = torch.tensor([5, 0, 3, 6, 1, 2, 4])
    together = flipped(images[order], torch.full((7,), 4), order, n, 1)
    for place, i in enumerate(order.tolist()):
        assert torch.equal(together[place], alone[i])
        backwards = torch.tensor([[row[::-1] for row in images[i, 0].tolist()]])
        assert torch.equal(alone[i], backwards if coins(n, 1, 4)[i] else images[i])


@pytest.mark.parametrize("seed", [0, 3])
def test_what_the_steps_read_is_mirrored_in_some_epochs_and_not_in_others(seed: int) -> None:
    """The k-th time that an image is read is in epoch k: mirrored there if its coin says so, whichever share reads."""
    pixels = torch.arange(5 * 3, dtype=torch.uint8).reshape(5, 1, 1, 3)
    source, seen = Memory(pixels), [0] * 5
    for step in range(8):
        for share in range(2):
            images, indices = read(source, 2, Streams(seed, step, share, 2), flip=True)
            for image, i in zip(images, indices.tolist(), strict=True):
                backwards = bool(coins(5, seed, seen[i])[i])
                assert torch.equal(image, pixels[i].flip(-1) if backwards else pixels[i])
                seen[i] += 1
    assert sum(seen) == 32
    plain, indices = read(source, 5, Streams(seed, 0), flip=False)
    assert torch.equal(plain, pixels[indices])


def test_half_of_the_images_are_mirrored_and_not_always_the_same() -> None:
    """40,000 fair coins: 5 standard deviations are 500."""
    first, second = coins(40_000, 0, 0), coins(40_000, 0, 1)
    assert abs(int(first.sum()) - 20_000) < 500
    assert abs(int((first == second).sum()) - 20_000) < 500


# ------------------------------------------------------------------------------------------------ moved images


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 7)), data=st.data(), channels=st.integers(1, 3),
    count=st.integers(1, 4),
)  # fmt: skip
def test_moved_images_are_cut_out_of_padded_ones(size, data, channels: int, count: int) -> None:
    height, width = size
    most = min(size) - 1
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, *size), generator=generator, dtype=torch.uint8)
    by = data.draw(st.lists(st.tuples(*[st.integers(-most, most)] * 2), min_size=count, max_size=count))
    wide = pad(images.float(), (most,) * 4, mode="reflect").byte()
    found = moved(images, torch.tensor(by))
    assert found.is_contiguous()  # as what is not moved: convolutions ask for the layout
    for image, whole, (down, right) in zip(found, wide, by, strict=True):
        top, left = most - down, most - right
        assert torch.equal(image, whole[:, top : top + height, left : left + width])


def test_an_image_is_moved_by_seed_epoch_and_index_alone() -> None:
    n, images = 7, torch.arange(7 * 16).reshape(7, 1, 4, 4)
    alone = [shifted(images[i : i + 1], torch.tensor([i % 2]), torch.tensor([i]), n, 1, 2)[0] for i in range(n)]
    order = torch.tensor([5, 0, 3, 6, 1, 2, 4])
    together = shifted(images[order], order % 2, order, n, 1, 2)
    for place, i in enumerate(order.tolist()):
        assert torch.equal(together[place], alone[i])
        assert torch.equal(alone[i], moved(images[i : i + 1], moves(n, 1, i % 2, 2)[i : i + 1])[0])


def test_moves_are_all_equally_likely_and_not_always_the_same() -> None:
    """40,000 draws of 25: 5 standard deviations of each count are 200. Two epochs agree by chance alone."""
    first, second = moves(40_000, 0, 0, 2), moves(40_000, 0, 1, 2)
    assert sorted(first.unique().tolist()) == [-2, -1, 0, 1, 2]
    counts = (5 * (first[:, 0] + 2) + first[:, 1] + 2).bincount(minlength=25)
    assert int((counts - 1600).abs().max()) < 200
    assert abs(int((first == second).all(1).sum()) - 1600) < 200
    assert not torch.equal(first, moves(40_000, 1, 0, 2))


def test_what_the_steps_read_is_mirrored_and_moved() -> None:
    seed = 3
    source = Memory(torch.arange(5 * 12, dtype=torch.uint8).reshape(5, 1, 3, 4))
    images, indices = read(source, 5, Streams(seed, 1), flip=True, shift=2)  # the second epoch
    mirrored = torch.where(coins(5, seed, 1)[indices][:, None, None, None], source.pixels[indices].flip(-1),
                           source.pixels[indices])  # fmt: skip
    assert torch.equal(images, moved(mirrored, moves(5, seed, 1, 2)[indices]))
    assert not torch.equal(images, mirrored)


@pytest.mark.parametrize(
    "name, settings",
    [("images.digits-unet", {}), ("classifier.digits", {}), ("latent.autoencoder", {"channels": (8, 8)})],
)
def test_all_families_of_pixels_move_what_they_learn_from(name: str, settings: dict[str, Any]) -> None:
    recipe = recipes.change(recipes.find(name), data="digits", size=8, shift=3, **settings)
    task, streams = build(recipe), Streams(1, 2)
    source = open_source("digits", "", "train", 1, 8)
    expected, plain = (to_model(read(source, 9, streams, shift=shift)[0]) for shift in (3, 0))
    assert torch.equal(task.batch(9, streams)[0], expected) and not torch.equal(expected, plain)


@pytest.mark.parametrize("flip, shift, number", [(False, 0, 1), (True, 0, 2), (False, 1, 9), (True, 2, 50)])
def test_the_versions_are_all_that_can_be_read(flip: bool, shift: int, number: int) -> None:
    source = Memory(torch.randint(256, (2, 1, 7, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    made = torch.stack(list(versions(source.pixels, flip, shift)))
    assert len(made) == number == len({tuple(version.flatten().tolist()) for version in made[:, 0]})
    for step in range(20):
        images, indices = read(source, 2, Streams(0, step), flip, shift)
        for image, i in zip(images, indices.tolist(), strict=True):
            assert bool((made[:, i] == image).flatten(1).all(1).any())
