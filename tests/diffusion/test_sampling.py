"""The sampling loop: what it may touch, what it must reproduce, and that it runs a table as the table says."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from diffusion import grids
from diffusion.sampling import prior, sample
from diffusion.schedules import SCHEDULES
from diffusion.solvers import SOLVERS, Table, ddim, ddpm

DOUBLE = torch.float64
FLOW = SCHEDULES["flow"]()


def seeded(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


def shrink(x: Tensor, t: Tensor) -> Tensor:
    """A smooth denoiser that depends on x and t."""
    return torch.tanh(x) * (1 - 0.5 * t)


@pytest.fixture(params=[True, False], ids=["states held", "in place"])
def held(request: pytest.FixtureRequest) -> object:
    """Both ways the loop may keep its state: with gradients enabled it must not write to one, otherwise it does."""
    with torch.set_grad_enabled(request.param):
        yield


@pytest.mark.usefixtures("held")
def test_rows_inner_stages_history_and_noise_by_hand() -> None:
    """A table with all features and small whole numbers, followed by hand."""
    table = Table(
        name="by hand",
        order=0,
        times=torch.tensor([1, 0.75, 0.5, 0], dtype=DOUBLE),
        state=torch.tensor([2, 3, 5], dtype=DOUBLE),
        denoised=torch.tensor([[1, 0], [7, 11], [13, 17]], dtype=DOUBLE),
        noise=torch.tensor([0, 0, 1], dtype=DOUBLE),
        inner=(True, False, False),
    )
    x0, z = torch.tensor([[1.0], [-1.0]], dtype=DOUBLE), torch.randn(2, 1, dtype=DOUBLE, generator=seeded(3))
    d1 = 4 * x0 + 1  # the denoiser below at t = 1
    y = 2 * x0 + d1
    d2 = 4 * y + 0.75
    x1 = 3 * x0 + 7 * d2 + 11 * d1  # an inner stage leaves the start of the step where it was
    d3 = 4 * x1 + 0.5
    expected = 5 * x1 + 13 * d3 + 17 * d2 + z
    assert sample(lambda x, t: 4 * x + t, table, x0, seeded(3)).tolist() == expected.tolist()
    assert sample(lambda x, t: 4 * x + t, table, x0, seeded(3), record=True).tolist() == [
        x0.tolist(),
        x1.tolist(),
        expected.tolist(),
    ]


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("view", [lambda x: x, lambda x: x[:], lambda x: x.view_as(x)])
def test_a_denoiser_may_return_its_input(name: str, view: Callable[[Tensor], Tensor]) -> None:
    """Memory shared between prediction and state must not be overwritten before the prediction is used."""
    table, x = SOLVERS[name](FLOW, grids.uniform(4)), torch.randn(3, 2, generator=seeded(0))
    shared = sample(lambda x, t: view(x), table, x, seeded(1))
    assert torch.equal(shared, sample(lambda x, t: x.clone(), table, x, seeded(1)))


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("name", SOLVERS)
def test_start_is_untouched_and_recording_changes_nothing(name: str) -> None:
    table, x = SOLVERS[name](FLOW, grids.uniform(5)), torch.randn(3, 2, generator=seeded(0))
    before = x.clone()
    plain = sample(shrink, table, x, seeded(1))
    path = sample(shrink, table, x, seeded(1), record=True)
    assert torch.equal(x, before)
    assert path.shape == (len(table.grid), 3, 2)
    assert torch.equal(path[0], x)
    assert torch.equal(path[-1], plain)


@pytest.mark.parametrize("name", SOLVERS)
def test_callback_sees_every_call_of_the_denoiser_and_lasting_states(name: str) -> None:
    table, calls, seen = SOLVERS[name](FLOW, grids.uniform(5)), [], []

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        calls.append((t.item(), shrink(x, t)))
        return calls[-1][1]

    with torch.no_grad():
        y = sample(denoiser, table, torch.ones(2, 1), seeded(0), lambda i, x, d: seen.append((i, x, d)))
    assert [t for t, _ in calls] == table.times[:-1].tolist()
    assert [i for i, _, _ in seen] == list(range(len(table)))
    assert all(d is call for (_, _, d), (_, call) in zip(seen, calls, strict=True))
    assert torch.equal(seen[-1][1], y)
    assert len({x.data_ptr() for _, x, _ in seen}) == len(seen), "a state shown to the callback was overwritten"


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype, ulps", [(torch.float32, 16), (torch.bfloat16, 16)])
def test_state_keeps_its_dtype_and_is_as_exact_as_it_allows(name: str, dtype: torch.dtype, ulps: float) -> None:
    """Of the methods exact on a point mass, all arrive at it within a few roundings."""
    table, x = SOLVERS[name](SCHEDULES["vp_linear"](), grids.uniform(40)), torch.randn(64, 2, generator=seeded(0))
    coarse = sample(lambda x, t: torch.full_like(x, 2), table, x.to(dtype), seeded(1))
    assert coarse.dtype == dtype
    if name in ("ddpm", "ddim", "dpmpp_2m"):
        assert (coarse.double() - 2).abs().max() <= ulps * torch.finfo(dtype).eps


@pytest.mark.parametrize("name", SOLVERS)
def test_noise_is_drawn_just_for_the_rows_that_have_it(name: str) -> None:
    table, used, fresh = SOLVERS[name](FLOW, grids.uniform(5)), seeded(1), seeded(1)
    sample(shrink, table, torch.zeros(3, 2), used)
    for _ in range(int((table.noise != 0).sum())):
        torch.randn(3, 2, generator=fresh)
    assert torch.equal(used.get_state(), fresh.get_state())
    assert int((table.noise != 0).sum()) == (4 if name == "ddpm" else 0)


def test_a_sample_with_its_own_generator_does_not_depend_on_its_batch() -> None:
    table, x = ddpm(FLOW, grids.uniform(6)), torch.randn(4, 3, 2, generator=seeded(0))
    together = sample(shrink, table, x, [seeded(s) for s in range(4)])
    for i in range(4):
        assert torch.equal(together[i : i + 1], sample(shrink, table, x[i : i + 1], [seeded(i)]))
    assert not torch.equal(together, sample(shrink, table, x, seeded(0)))


def test_noise_has_the_variance_the_table_says() -> None:
    """N(m, v) through DDPM rows, coordinates independent: the sum of squared standardised ends is chi-square.

    400,000 coordinates, two-sided 6 sigma: false-fail rate 2e-9; an error of 2.4 % of the final variance passes with
    probability 1e-6.
    """
    schedule, m, v, n = SCHEDULES["vp_linear"](), 0.7, 0.3, 400_000
    table = ddpm(schedule, grids.uniform(8, 0.9, 0.1))
    alpha, sigma = schedule.alpha(table.times), schedule.sigma(table.times)
    total = alpha**2 * v + sigma**2
    gain = alpha * v / total
    variance = total[0]
    for i in range(len(table)):
        variance = (table.state[i] + table.denoised[i, 0] * gain[i]) ** 2 * variance + table.noise[i] ** 2
    x = alpha[0] * m + total[0].sqrt() * torch.randn(n, 1, dtype=DOUBLE, generator=seeded(0))

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        a, s = schedule.alpha(t), schedule.sigma(t)
        return m + a * v / (a**2 * v + s**2) * (x - a * m)

    y = sample(denoiser, table, x, seeded(1))
    chi_square = ((y - alpha[-1] * m) ** 2 / variance).sum().item()
    assert abs(chi_square - n) < 6 * (2 * n) ** 0.5
    assert abs(variance / total[-1] - 1) > 0.05, "the chain's variance and the true one must be told apart"


def test_gradients_flow_through_all_steps() -> None:
    table = ddim(FLOW, grids.uniform(4))
    scale = torch.tensor(0.3, dtype=DOUBLE, requires_grad=True)
    x = torch.tensor([[1.3]], dtype=DOUBLE)
    assert torch.autograd.gradcheck(lambda s: sample(lambda x, t: s * torch.tanh(x), table, x), (scale,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ddim", "euler", "heun", "dpmpp_2m"])
def test_compiles_as_one_graph(name: str) -> None:
    table, x = SOLVERS[name](FLOW, grids.uniform(4)), torch.randn(3, 2, generator=seeded(0))
    compiled = torch.compile(lambda x: sample(shrink, table, x), backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(compiled(x), sample(shrink, table, x))


def test_prior_has_the_schedules_scale() -> None:
    edm = SCHEDULES["edm"]()
    noise = prior(edm, (5, 2), seeded(0), dtype=DOUBLE)
    unit = torch.randn(5, 2, dtype=DOUBLE, generator=seeded(0))
    torch.testing.assert_close(noise, 80 * unit, rtol=1e-12, atol=0)
    assert prior(edm, (5, 2), seeded(0), t=0.5).dtype == torch.float32


X = torch.zeros(3, 2)


@pytest.mark.parametrize(
    "run, error, message",
    [
        (lambda: sample(lambda x, t: x[:, :1], ddim(FLOW, grids.uniform(2)), X), ValueError, r"\(3, 1\)"),
        (lambda: sample(shrink, ddpm(FLOW, grids.uniform(2)), X), ValueError, "torch.Generator"),
        (lambda: sample(shrink, ddpm(FLOW, grids.uniform(2)), X, [seeded(0)]), ValueError, "1 generators"),
        (lambda: sample(shrink, ddim(FLOW, grids.uniform(2)), X.long()), TypeError, "floating-point"),
    ],
)
def test_bad_input_gets_one_clear_line(run: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        run()
    assert "\n" not in str(caught.value)
