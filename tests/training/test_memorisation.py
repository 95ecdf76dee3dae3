"""Copies are caught and new images are not; neighbours against every distance computed one by one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.data.digits import digits
from training.evaluation import memorisation


def flat(split: str) -> Tensor:
    return digits(split).pixels.flatten(1)


def ratios(x: Tensor) -> Tensor:
    return memorisation.neighbours(x, [[flat("train")]]).ratio


def test_a_model_that_returns_training_images_is_caught() -> None:
    copies = flat("train")[torch.randperm(1497, generator=torch.Generator().manual_seed(0))[:150]]
    found = memorisation.compare(ratios(copies), ratios(flat("test")))
    assert found.auc == 1 and found.share_below == 1 and found.median_sample == 0


def test_one_that_hides_them_under_noise_is_caught() -> None:
    generator = torch.Generator().manual_seed(0)
    copies = flat("train")[torch.randperm(1497, generator=generator)[:150]].double()
    noisy = (copies + 12 * torch.randn(copies.shape, generator=generator, dtype=torch.float64)).clamp(0, 255).byte()
    found = memorisation.compare(ratios(noisy), ratios(flat("test")))
    assert found.auc > 0.5 + 6 * found.standard_error and found.share_below > 0.2


def test_one_that_copies_a_third_is_caught() -> None:
    test, train = flat("test"), flat("train")
    found = memorisation.compare(ratios(torch.cat([test[:100], train[:50]])), ratios(test[150:]))
    assert found.auc > 0.5 + 3 * found.standard_error and 0.3 < found.share_below < 0.4


def test_one_that_returns_test_images_is_not() -> None:
    """Halves of the test split, ten ways: |AUC - 1/2| within 4.5 standard errors, false fail 7e-5."""
    held_out = ratios(flat("test"))
    for seed in range(10):
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        found = memorisation.compare(held_out[order[:150]], held_out[order[150:]])
        assert abs(found.auc - 0.5) < 4.5 * found.standard_error
        assert found.share_below < 0.08


def test_neighbours_are_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, 256, (n, 5), generator=generator).byte() for n in (11, 40))
    found = memorisation.neighbours(x, ([part] for part in y.split(7)))  # the last one is shorter
    for i, point in enumerate(x.tolist()):
        distances = sorted((math.dist(point, other), j) for j, other in enumerate(y.tolist()))
        assert found.distance[i].tolist() == pytest.approx([d for d, _ in distances[:2]], rel=1e-12)
        assert found.index[i].tolist() == [j for _, j in distances[:2]]


def test_a_mirrored_copy_is_a_copy_and_its_original_no_second_neighbour() -> None:
    train = digits("train").pixels
    mirrored = train[:50].flip(-1).flatten(1)
    plain = memorisation.neighbours(mirrored, [[train.flatten(1)]])
    both = memorisation.neighbours(mirrored, [[train.flatten(1), train.flip(-1).flatten(1)]])
    assert float(plain.ratio.median()) > 0.5
    assert bool((both.ratio == 0).all())
    assert both.index[:, 0].tolist() == list(range(50)) and bool((both.index[:, 1] != both.index[:, 0]).all())


def test_a_copy_of_an_image_that_is_there_twice() -> None:
    y = torch.tensor([[3, 4], [3, 4], [9, 9]])
    assert memorisation.neighbours(torch.tensor([[3, 4], [9, 9]]), [[y]]).ratio.tolist() == [0, 0]


def test_ties_count_half() -> None:
    found = memorisation.compare(torch.tensor([0.5, 0.5]).double(), torch.tensor([0.5, 0.5, 0.5]).double())
    assert found.auc == 0.5
    assert memorisation.compare(torch.tensor([0.1, 0.5]).double(), torch.tensor([0.5, 0.9]).double()).auc == 0.875


def test_medians_are_each_their_own() -> None:
    found = memorisation.compare(torch.tensor([0.9, 0.125, 0.25]).double(), torch.tensor([0.3, 0.5, 0.6]).double())
    assert (found.median_sample, found.median_held_out) == (0.25, 0.5)


def test_one_training_image_is_refused() -> None:
    with pytest.raises(ValueError, match="1 training images"):
        memorisation.neighbours(torch.zeros(2, 3), [[torch.zeros(1, 3)]])
