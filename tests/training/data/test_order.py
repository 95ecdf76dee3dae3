"""Every epoch sees every image once, whatever the batch and however it is shared out; what is mirrored stays so."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from training.data.augment import coins, flipped
from training.data.order import permutation, read_order


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


def test_half_of_the_images_are_mirrored_and_not_always_the_same() -> None:
    """40,000 fair coins: 5 standard deviations are 500."""
    first, second = coins(40_000, 0, 0), coins(40_000, 0, 1)
    assert abs(int(first.sum()) - 20_000) < 500
    assert abs(int((first == second).sum()) - 20_000) < 500
