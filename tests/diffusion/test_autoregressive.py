"""Autoregressive models: the tree of all strings, laws with forbidden tokens, and what is refused."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from diffusion.autoregressive import log_probability, sample

LENGTH, V = 4, 3


def counting(prefix: Tensor) -> Tensor:
    """A law with a long memory: token v has the weight 1 + (how often the prefix has had v)."""
    seen = torch.stack([(prefix == v).sum(1) for v in range(V)], 1).double() + 1
    return seen / seen.sum(1, keepdim=True)


def urn(string: tuple[int, ...]) -> float:
    """The same law by another road, Polya's urn: it depends on the counts alone, (V-1)! prod n_v! / (V+L-1)!."""
    counts = [string.count(v) for v in range(V)]
    numerator = math.factorial(V - 1) * math.prod(math.factorial(n) for n in counts)
    return numerator / math.factorial(V + len(string) - 1)


EVERY = list(itertools.product(range(V), repeat=LENGTH))


def test_every_string_has_the_urns_probability() -> None:
    found = log_probability(counting, torch.tensor(EVERY)).exp()
    expected = torch.tensor([urn(string) for string in EVERY], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_the_samplers_decisions_have_the_urns_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every branch of the sampler's tree at once: row r decides for string r, and what it decided by is multiplied."""
    strings, chances = torch.tensor(EVERY), []

    def decide(probability: Tensor, n: int, generator: torch.Generator) -> Tensor:
        choice = strings[:, len(chances)][:, None]
        chances.append(probability.gather(1, choice)[:, 0])
        return choice

    monkeypatch.setattr(torch, "multinomial", decide)
    assert torch.equal(sample(counting, LENGTH, len(EVERY), torch.Generator()), strings)
    expected = torch.tensor([urn(string) for string in EVERY], dtype=torch.float64)
    torch.testing.assert_close(torch.stack(chances).prod(0), expected, rtol=1e-13, atol=0)


def test_draws_are_the_urns() -> None:
    """Counts of 81 strings in 40,000 draws: chi-square below its 1e-9 point, 169."""
    n = 40_000
    drawn = sample(counting, LENGTH, n, torch.Generator().manual_seed(5))
    assert drawn.shape == (n, LENGTH) and drawn.dtype == torch.long
    place = (drawn * V ** torch.arange(LENGTH - 1, -1, -1)).sum(1)
    found = torch.bincount(place, minlength=V**LENGTH).double()
    expected = n * torch.tensor([urn(string) for string in EVERY], dtype=torch.float64)
    assert float(((found - expected) ** 2 / expected).sum()) < 169


def test_a_string_that_cannot_be_has_probability_zero_and_is_never_drawn() -> None:
    def alternating(prefix: Tensor) -> Tensor:
        if not prefix.shape[1]:
            return torch.full((len(prefix), 2), 0.5, dtype=torch.float64)
        return torch.nn.functional.one_hot(1 - prefix[:, -1], 2).double()

    assert log_probability(alternating, torch.tensor([[0, 1, 0], [0, 0, 1]])).tolist() == [math.log(0.5), -math.inf]
    drawn = sample(alternating, 5, 200, torch.Generator().manual_seed(0))
    assert bool((drawn[:, 1:] == 1 - drawn[:, :-1]).all())
    assert 60 < int(drawn[:, 0].sum()) < 140


def test_the_seed_is_the_generators() -> None:
    one, other = (sample(counting, 6, 10, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, other)


def negative(prefix):
    """Rows that sum to 1 and are no law."""
    return torch.tensor([[1.5, -0.5]]).expand(len(prefix), 2)


@pytest.mark.parametrize(
    "call, told",
    [
        (lambda g: sample(counting, 0, 5, g), "length 0"),
        (lambda g: sample(counting, 3, 0, g), "n 0"),
        (lambda g: sample(lambda prefix: torch.full((len(prefix), 4), 0.3), 3, 5, g), "sum to 1 but for 0.2"),
        (lambda g: sample(lambda prefix: torch.full((len(prefix),), 1.0), 3, 5, g), r"\[5, V\] wanted, got \[5\]"),
        (lambda g: sample(lambda prefix: torch.full((len(prefix), 2), math.nan), 3, 5, g), "sum to 1 but for nan"),
        (lambda g: log_probability(negative, torch.zeros(3, 2, dtype=torch.long)), "a probability of -0.5, below 0"),
        (lambda g: sample(negative, 3, 5, g), "a probability of -0.5, below 0"),
        (lambda g: log_probability(counting, torch.zeros(3, dtype=torch.long)), r"\[n, length\]"),
        (lambda g: log_probability(counting, torch.zeros(3, 2)), "float32"),
        (lambda g: log_probability(counting, torch.zeros(3, 0, dtype=torch.long)), r"got torch.int64 \[3, 0\]"),
    ],
)
def test_what_is_no_law_is_refused(call, told) -> None:
    with pytest.raises(ValueError, match=told):
        call(torch.Generator().manual_seed(0))
