"""The average against its stated impulse response: feed it unit impulses and read the weights off."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from diffusion.ema import EMA


class Bag(nn.Module):
    """A module that is one row of weights and one counter."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights.clone())
        self.register_buffer("seen", torch.tensor(0))


def impulses(n: int, **options: float | None) -> tuple[EMA, Tensor]:
    """The average after iterates e_0 (initial), e_1, .., e_n: its entry k is the weight of iterate k."""
    iterates = torch.eye(n + 1, dtype=torch.float64)
    bag = Bag(iterates[0])
    ema = EMA(bag, **options)  # type: ignore[arg-type]
    for iterate in iterates[1:]:
        bag.weights.data.copy_(iterate)
        ema.update(bag)
    return ema, ema.average["weights"]


@pytest.mark.parametrize("options", [{"decay": 0.9}, {"decay": 1.0}, {"decay": 0.8, "gamma": None}, {"decay": 0.0}])
def test_the_response_is_the_average_of_impulses(options: dict[str, float | None]) -> None:
    ema, weights = impulses(40, **options)
    torch.testing.assert_close(weights, ema.response(40), rtol=1e-12, atol=1e-15)
    assert float(weights.sum()) == pytest.approx(1, rel=1e-13)


def test_warm_up_is_the_power_function_average() -> None:
    """The first k of n iterates carry (k/n)^(gamma + 1); the initial weights none."""
    n, gamma = 50, 3.5
    _, weights = impulses(n, decay=1.0, gamma=gamma)
    k = torch.arange(n + 1, dtype=torch.float64)
    torch.testing.assert_close(weights.cumsum(0), (k / n) ** (gamma + 1), rtol=1e-11, atol=1e-14)
    assert weights[0] == 0


def test_after_warm_up_it_is_exponential() -> None:
    """gamma = 6.94 reaches decay = 0.9 at k = 76: from there on each weight is the next one times 0.9."""
    ema, weights = impulses(200, decay=0.9)
    assert [k for k in range(1, 200) if ema.decay_at(k) < 0.9][-1] == 75
    torch.testing.assert_close(weights[80:-1] / weights[81:], torch.full((120,), 0.9, dtype=torch.float64))
    assert float(weights[-1]) == pytest.approx(0.1)


def test_without_warm_up_the_start_keeps_decay_to_the_n() -> None:
    _, weights = impulses(10, decay=0.5, gamma=None)
    assert float(weights[0]) == 0.5**10
    assert float(weights[-1]) == 0.5


def test_bfloat16_weights_are_averaged_in_float32() -> None:
    """In bfloat16 an average at 1 never moves towards 1 + 1/128 in steps of a hundredth of it."""
    bag = Bag(torch.ones(1, dtype=torch.bfloat16))
    ema = EMA(bag, decay=0.99, gamma=None)
    bag.weights.data += 1 / 128
    for _ in range(1000):
        ema.update(bag)
    assert ema.average["weights"].item() == pytest.approx(1 + 1 / 128, rel=1e-5)


def test_it_goes_on_from_a_saved_state_as_if_never_stopped() -> None:
    def run(stop: int | None) -> Tensor:
        g = torch.Generator().manual_seed(1)
        bag = Bag(torch.randn(5, generator=g))
        ema = EMA(bag, decay=0.9)
        for k in range(30):
            if k == stop:
                saved = ema.state_dict()
                ema = EMA(Bag(torch.zeros(5)), decay=0.9)
                ema.load_state_dict(saved)
            bag.weights.data.copy_(torch.randn(5, generator=g))
            ema.update(bag)
        return ema.average["weights"]

    assert torch.equal(run(stop=None), run(stop=17))
    assert not torch.equal(run(stop=None), run(stop=None) + 1e-3)


def test_copy_to_writes_the_average_and_the_latest_buffers() -> None:
    bag = Bag(torch.tensor([1.0]))
    ema = EMA(bag, decay=0.75, gamma=None)
    bag.weights.data.fill_(5.0)
    bag.seen.fill_(3)
    ema.update(bag)
    other = Bag(torch.tensor([0.0]))
    ema.copy_to(other)
    assert (other.weights.item(), other.seen.item()) == (2.0, 3)
    assert bag.weights.item() == 5.0


def test_the_average_is_no_alias_of_the_weights() -> None:
    bag = Bag(torch.tensor([1.0]))
    ema = EMA(bag)
    bag.weights.data.fill_(9.0)
    assert ema.average["weights"].item() == 1.0


@pytest.mark.parametrize("options", [{"decay": 1.5}, {"decay": -0.1}, {"decay": 1.0, "gamma": None}, {"gamma": -1.0}])
def test_bad_settings_are_refused(options: dict[str, float | None]) -> None:
    with pytest.raises(ValueError, match=r"decay =|gamma ="):
        EMA(Bag(torch.zeros(1)), **options)  # type: ignore[arg-type]


def test_another_network_is_refused() -> None:
    ema = EMA(Bag(torch.zeros(3)))
    for other in (Bag(torch.zeros(4)), nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="another network: '"):
            ema.update(other)
        with pytest.raises(ValueError, match="another network: '"):
            ema.load_state_dict(EMA(other).state_dict())
    with pytest.raises(ValueError, match="counted from 1"):
        ema.decay_at(0)
