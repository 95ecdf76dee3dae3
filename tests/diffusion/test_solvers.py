"""Solver tables: order against the exact probability-flow map, posteriors by Gaussian conditioning, ends, bad input."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import mpmath
import pytest
import torch
from torch import Tensor

from diffusion import grids
from diffusion.phi import phi_1, phi_2, phi_3
from diffusion.sampling import sample
from diffusion.schedules import SCHEDULES, Schedule, discrete, linear_betas
from diffusion.solvers import SOLVERS, Table, consistency, ddim, ddpm, dpmpp_2m, euler, heun
from toy.mixture import Mixture

DOUBLE = torch.float64
CONTINUOUS = ["vp_linear", "sub_vp", "cosine", "flow", "ve", "edm"]
FROM_NOISE_TO_DATA = ["cosine", "flow"]  # alpha(1) = 0 and sigma(0) = 0
DETERMINISTIC: dict[str, Callable[..., Table]] = {k: v for k, v in SOLVERS.items() if k != "ddpm"}
ANCESTRAL: dict[str, Callable[..., Table]] = {
    "ddim-0.5": partial(ddim, eta=0.5),
    "ddim-1": partial(ddim, eta=1.0),
    "ddpm": ddpm,
}
EXACT_ON_A_POINT: dict[str, Callable[..., Table]] = {"ddim": ddim, "dpmpp_2m": dpmpp_2m, **ANCESTRAL}


def times(*values: float) -> Tensor:
    return torch.tensor(values, dtype=DOUBLE)


# ------------------------------------------------------------------------------------------------ convergence

SMOOTH = Mixture("two hills", torch.tensor([0.6, 0.4]), torch.tensor([[-1.5], [1.2]]), torch.tensor([0.8, 0.5]))
LEVELS = torch.linspace(0.02, 0.98, 25, dtype=DOUBLE)[:, None]


def smooth_cdf(x: Tensor, schedule: Schedule, t: float) -> Tensor:
    alpha, sigma = schedule.alpha(times(t)), schedule.sigma(times(t))
    scale = (alpha**2 * SMOOTH.variances[:, 0] + sigma**2).sqrt()
    return (SMOOTH.weights * torch.special.ndtr((x - alpha * SMOOTH.means[:, 0]) / scale)).sum(-1, keepdim=True)


def smooth_quantiles(schedule: Schedule, t: float) -> Tensor:
    low, high = torch.full_like(LEVELS, -1e3), torch.full_like(LEVELS, 1e3)
    for _ in range(80):
        middle = (low + high) / 2
        below = smooth_cdf(middle, schedule, t) < LEVELS
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


@pytest.mark.slow
@pytest.mark.parametrize("spacing", ["uniform", "log_snr"])
@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("schedule_name", CONTINUOUS)
def test_order(schedule_name: str, name: str, spacing: str) -> None:
    """In one dimension the exact probability-flow map keeps every quantile, so the error needs no reference solver."""
    schedule = SCHEDULES[schedule_name]()
    x = smooth_quantiles(schedule, 0.9)

    def error(n: int) -> float:
        grid = grids.uniform(n, 0.9, 0.1) if spacing == "uniform" else grids.log_snr(schedule, n, 0.9, 0.1)
        table = DETERMINISTIC[name](schedule, grid)
        y = sample(lambda x, t: SMOOTH.denoiser(x, schedule.alpha(t), schedule.sigma(t)), table, x)
        return float((smooth_cdf(y, schedule, 0.1) - LEVELS).square().mean().sqrt())

    measured = math.log2(error(100) / error(200))
    order = DETERMINISTIC[name](schedule, grids.uniform(4, 0.9, 0.1)).order
    assert abs(measured - order) < 0.1, f"{name} on {schedule_name}: order {measured:.3f}, declared {order}"


@pytest.mark.parametrize("name", ANCESTRAL)
@pytest.mark.parametrize("schedule_name", ["vp_linear", "flow"])
def test_weak_order_on_gaussian_data(schedule_name: str, name: str) -> None:
    """On N(m, v) every row is affine, so mean and variance at the end are a recursion: errors fall like 1/n."""
    schedule, m, v = SCHEDULES[schedule_name](), 0.7, 0.3

    def errors(n: int) -> Tensor:
        mean, variance = gaussian_moments(ANCESTRAL[name](schedule, grids.uniform(n, 0.9, 0.1)), schedule, m, v)
        alpha, sigma = schedule.alpha(times(0.1)), schedule.sigma(times(0.1))
        return torch.cat([(mean - alpha * m).abs().reshape(1), (variance - alpha**2 * v - sigma**2).abs()])

    coarse, fine = errors(200), errors(400)
    assert fine[0] < 1e-12  # the mean is exact: the denoiser of a Gaussian maps mean to mean
    assert abs(math.log2(coarse[1] / fine[1]) - 1) < 0.05


def gaussian_moments(table: Table, schedule: Schedule, m: float, v: float) -> tuple[Tensor, Tensor]:
    """Mean and variance after running a one-stage, one-prediction table on N(m, v) from its exact start."""
    alpha, sigma = schedule.alpha(table.times), schedule.sigma(table.times)
    total = alpha**2 * v + sigma**2
    mean, variance = alpha[:1] * m, total[:1]
    for i in range(len(table)):
        gain = alpha[i] * v / total[i]  # D = m + gain (x - alpha m)
        mean = table.state[i] * mean + table.denoised[i, 0] * (m + gain * (mean - alpha[i] * m))
        variance = (table.state[i] + table.denoised[i, 0] * gain) ** 2 * variance + table.noise[i] ** 2
    return mean, variance


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("schedule_name, end", [("cosine", 0.0), ("cosine", 0.05), ("edm", 0.0), ("flow", 0.1)])
def test_consistency_sampling_keeps_every_law(schedule_name: str, end: float, n: int) -> None:
    """N(0, v) with the exact function, which stretches: each state has the variance alpha^2 v + sigma^2 of its time."""
    schedule, v = SCHEDULES[schedule_name](), 0.3
    table = consistency(schedule, grids.uniform(n, 0.9, end))
    alpha, sigma = schedule.alpha(table.times), schedule.sigma(table.times)
    law = alpha**2 * v + sigma**2
    variance = law[0]
    for i in range(n):
        stretch = (law[-1] / law[i]).sqrt() / alpha[-1]  # of x_t to x_e/alpha_e, along the flow
        variance = (table.state[i] + table.denoised[i, 0] * stretch) ** 2 * variance + table.noise[i] ** 2
        torch.testing.assert_close(variance, law[i + 1], rtol=1e-12, atol=0)
    assert table.noise[-1] == 0  # it ends where the function ends, not in new noise


# ------------------------------------------------------------------------------------------------ exactness


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("name", EXACT_ON_A_POINT)
@pytest.mark.parametrize("schedule_name", CONTINUOUS)
def test_a_point_mass_is_sampled_exactly(schedule_name: str, name: str, n: int) -> None:
    """With the denoiser of a point c, every step ends with mean alpha c and variance sigma^2, whatever its size."""
    schedule, c = SCHEDULES[schedule_name](), -2.5
    table = EXACT_ON_A_POINT[name](schedule, grids.uniform(n))
    alpha, sigma = schedule.alpha(table.times), schedule.sigma(table.times)
    share = table.denoised.sum(1)
    torch.testing.assert_close(table.state * alpha[:-1] * c + share * c, alpha[1:] * c, rtol=1e-13, atol=1e-14)
    variance = (table.state * sigma[:-1]) ** 2 + table.noise**2
    torch.testing.assert_close(variance, sigma[1:] ** 2, rtol=1e-13, atol=0)

    x = torch.tensor([[-3.0], [0.1], [40.0]], dtype=DOUBLE)
    y = sample(lambda x, t: torch.full_like(x, c), table, x, torch.Generator().manual_seed(0))
    if sigma[-1] == 0:
        assert (y == alpha[-1] * c).all(), "arrival at clean data must give the prediction itself, to the last bit"


@pytest.mark.parametrize("solver", [euler, heun])
def test_euler_and_heun_are_exact_on_a_point_where_paths_are_straight(solver: Callable[..., Table]) -> None:
    table = solver(SCHEDULES["flow"](), grids.uniform(3))
    y = sample(lambda x, t: torch.full_like(x, 1.5), table, torch.tensor([[0.2], [-7.0]], dtype=DOUBLE))
    torch.testing.assert_close(y, torch.full_like(y, 1.5), rtol=1e-14, atol=0)


@pytest.mark.parametrize("schedule_name", CONTINUOUS)
def test_ddpm_row_is_the_posterior(schedule_name: str) -> None:
    """q(x_s | x_t, x_0) by conditioning the joint Gaussian of (x_s, x_t) given x_0, at 50 digits."""
    schedule = SCHEDULES[schedule_name]()
    grid = times(0.97, 0.6, 0.55, 0.01, 0.002)
    table = ddpm(schedule, grid)
    alpha, sigma = (mp(f(grid)) for f in (schedule.alpha, schedule.sigma))
    with mpmath.workdps(50):
        for i in range(4):
            a_t, s_t, a_s, s_s = alpha[i], sigma[i], alpha[i + 1], sigma[i + 1]
            covariance = s_s**2 * a_t / a_s  # x_t = (a_t / a_s) x_s + independent noise
            gain = covariance / s_t**2
            assert mpmath.almosteq(mpmath.mpf(table.state[i].item()), gain, 1e-13)
            assert mpmath.almosteq(mpmath.mpf(table.denoised[i, 0].item()), a_s - gain * a_t, 1e-12)
            assert mpmath.almosteq(mpmath.mpf(table.noise[i].item()) ** 2, s_s**2 - gain * covariance, 1e-12)
    torch.testing.assert_close(ddim(schedule, grid, eta=1.0).noise, table.noise, rtol=0, atol=0)


def mp(values: Tensor) -> list[mpmath.mpf]:
    return [mpmath.mpf(v) for v in values.tolist()]


@pytest.mark.parametrize("grid", [(1.0, 0.75, 0.5, 0.25, 0.0), (1.0, 0.5, 0.25, 0.0), (0.75, 0.0)])
def test_beta_variance_is_the_forward_kernels_also_when_steps_are_skipped(grid: tuple[float, ...]) -> None:
    betas = times(0.1, 0.2, 0.4, 0.7)
    table = ddpm(discrete(betas), times(*grid), variance="beta")
    chain = [round(4 * t) for t in grid]
    kept = [math.prod(1 - b for b in betas[s:t].tolist()) for t, s in pairwise(chain)]
    assert table.noise[-1] == 0
    for noise, product in zip(table.noise[:-1].tolist(), kept, strict=False):
        assert noise == pytest.approx(math.sqrt(1 - product), rel=1e-14)


def test_2m_weights_against_a_line() -> None:
    """Predictions on a line in half_log_snr: 2M puts in the value at the middle of the step, on unequal steps too."""
    schedule = SCHEDULES["cosine"]()
    table, first_order = (solver(schedule, times(0.9, 0.6, 0.5, 0.2)) for solver in (dpmpp_2m, ddim))
    lam = schedule.half_log_snr(table.times)
    for i in (1, 2):
        put_in = (table.denoised[i, 0] * lam[i] + table.denoised[i, 1] * lam[i - 1]) / first_order.denoised[i, 0]
        torch.testing.assert_close(put_in, (lam[i] + lam[i + 1]) / 2, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("schedule_name", FROM_NOISE_TO_DATA)
def test_one_step_from_pure_noise_to_data_is_the_first_prediction(schedule_name: str, name: str) -> None:
    table = SOLVERS[name](SCHEDULES[schedule_name](), grids.uniform(1))
    if name in ("euler", "heun") and schedule_name == "cosine":
        assert table.denoised[0, 0].item() == pytest.approx(math.pi / 2)  # Euler overshoots a curved path
    else:
        assert table.denoised[0, 0] == 1
        assert table.state[0] == 0
    assert len(table) == 1
    assert table.noise[0] == 0


@pytest.mark.parametrize("schedule_name", FROM_NOISE_TO_DATA)
def test_2m_falls_back_to_first_order_at_both_ends(schedule_name: str) -> None:
    """Infinite half_log_snr on either side: the second step has no slope to use, the last one no middle."""
    table = dpmpp_2m(SCHEDULES[schedule_name](), grids.uniform(4))
    assert (table.denoised[[0, 1, 3], 1] == 0).all()
    assert table.denoised[2, 1] != 0
    assert table.denoised[3].tolist() == [1, 0]


def test_heun_calls_the_denoiser_twice_a_step_and_once_to_clean_data() -> None:
    schedule = SCHEDULES["flow"]()
    to_data, above = heun(schedule, times(1, 0.5, 0)), heun(schedule, times(1, 0.5, 0.1))
    assert to_data.times.tolist() == [1, 0.5, 0.5, 0]
    assert to_data.inner == (True, False, False)
    assert above.times.tolist() == [1, 0.5, 0.5, 0.1, 0.1]
    assert above.inner == (True, False, True, False)
    assert above.grid.tolist() == [1, 0.5, 0.1]


# ------------------------------------------------------------------------------------------------ chains and grids


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [grids.linspace, grids.leading, grids.trailing])
@pytest.mark.parametrize("T", [1, 2, 7, 100, 1000])
def test_chain_grids_are_valid_for_every_number_of_steps(spacing: Callable[[int, int], Tensor], T: int) -> None:
    for n in range(1, T + 1):
        grid = spacing(T, n)
        k = (grid * T).round()
        assert (grid == k / T).all()
        assert len(k) == n + 1
        assert (k[:-1] > k[1:]).all()
        assert k[-1] == 0
        assert k[0] <= T
        strides = -k[:-1].diff()
        if n > 1:
            assert strides.max() - strides.min() <= 1, "strides as equal as whole numbers allow"
        if spacing is grids.leading:
            assert k[-2] == 1
            assert (strides == T // n).all()
        else:
            assert k[0] == T, "the noisy end is visited"
        if spacing is grids.linspace and n > 1:
            assert k[-2] == 1
        if spacing is grids.trailing:
            assert T / n - 0.5 <= k[-2] <= T / n + 0.5, "the step to data is as long as the others"


@pytest.mark.parametrize("spacing", [grids.linspace, grids.leading, grids.trailing])
def test_every_solver_ends_at_clean_data_for_every_number_of_steps(spacing: Callable[[int, int], Tensor]) -> None:
    schedule, T = discrete(linear_betas(20)), 20
    for n in range(1, T + 1):
        for name in ("ddpm", "ddim", "dpmpp_2m"):
            table = SOLVERS[name](schedule, spacing(T, n))
            assert table.times[-1] == 0
            assert (table.state[-1], table.denoised[-1].sum(), table.noise[-1]) == (0, 1, 0)


def test_continuous_grids_are_equally_spaced_in_their_coordinate() -> None:
    schedule = SCHEDULES["vp_linear"]()
    lam = schedule.half_log_snr(grids.log_snr(schedule, 9, 0.8, 0.01))
    torch.testing.assert_close(lam.diff(), lam.diff().mean().expand(9), rtol=1e-9, atol=0)
    t = grids.karras(schedule, 9, 0.8, 0.01, rho=7.0)
    root = (schedule.sigma(t) / schedule.alpha(t)) ** (1 / 7)
    torch.testing.assert_close(root.diff(), root.diff().mean().expand(9), rtol=1e-9, atol=0)
    for grid in (t, grids.uniform(9, 0.8, 0.01), grids.log_snr(schedule, 1, 0.8, 0.01)):
        assert grid[0] == 0.8
        assert grid[-1] == 0.01


# ------------------------------------------------------------------------------------------------ phi functions


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("k, phi", [(1, phi_1), (2, phi_2), (3, phi_3)])
def test_phi_keeps_its_digits_everywhere(k: int, phi: Callable[[Tensor], Tensor], dtype: torch.dtype) -> None:
    """Against the quotient at 60 digits; 8 u (|h| + 1), as the condition number of phi_k is below |h| + 1."""
    size = torch.logspace(-30, 1.9, 300, dtype=DOUBLE)
    h = torch.cat([size, -size, times(1, -1)]).to(dtype)
    h = torch.cat([h, torch.nextafter(h[-2:], 2 * h[-2:]), torch.nextafter(h[-2:], 0 * h[-2:])])  # where branches meet
    with mpmath.workdps(120):
        exact = [(mpmath.exp(x) - sum(x**j / mpmath.factorial(j) for j in range(k))) / x**k for x in mp(h)]
        errors = [abs(mpmath.mpf(y) / e - 1) for y, e in zip(phi(h).tolist(), exact, strict=True)]
    bound = 8 * torch.finfo(dtype).eps / 2 * (h.abs().double() + 1)
    assert all(e <= b for e, b in zip(errors, bound.tolist(), strict=True))
    assert phi(torch.zeros(1, dtype=dtype)).item() == pytest.approx(1 / math.factorial(k), rel=torch.finfo(dtype).eps)


def test_phi_has_a_gradient_at_zero() -> None:
    h = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    (phi_2(h) + phi_3(h)).backward()
    assert h.grad is not None
    assert h.grad.item() == pytest.approx(1 / 6 + 1 / 24, rel=1e-15)


# ------------------------------------------------------------------------------------------------ refusals

FLOW, EDM = SCHEDULES["flow"](), SCHEDULES["edm"]()
TABLE = ddim(FLOW, times(1, 0.5, 0))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ddim(FLOW, times(1)), "n >= 1"),
        (lambda: ddim(FLOW, times(0.5, 0.5)), "strictly decreasing"),
        (lambda: ddim(FLOW, times(0, 1)), "strictly decreasing"),
        (lambda: ddim(FLOW, times(1.5, 0)), r"within \[0, 1\]"),
        (lambda: ddim(FLOW, times(1, math.nan)), "strictly decreasing"),
        (lambda: ddim(FLOW, times(1, 0)[None]), "shape"),
        (lambda: ddim(FLOW, times(1, 0), eta=1.1), "eta"),
        (lambda: ddim(FLOW, times(1, 0), eta=math.nan), "eta"),
        (lambda: ddpm(FLOW, times(1, 0), variance="learned"), "beta_tilde"),
        (lambda: grids.uniform(0), "at least 1"),
        (lambda: grids.uniform(5, 0.2, 0.3), "end < start"),
        (lambda: grids.log_snr(FLOW, 5), "append 0"),
        (lambda: grids.karras(EDM, 5, rho=-1.0), "rho"),
        (lambda: grids.linspace(10, 11), "1 <= n <= T"),
        (lambda: grids.trailing(10, 0), "1 <= n <= T"),
        (lambda: grids.leading(10, 10, offset=1), "offset"),
        (lambda: grids.leading(10, 5, offset=-1), "offset"),
        (lambda: replace(TABLE, noise=TABLE.noise[:1]), "shapes"),
        (lambda: replace(TABLE, state=TABLE.state.float()), "float64"),
        (lambda: replace(TABLE, state=TABLE.state / 0), "finite"),
        (lambda: replace(TABLE, inner=(False, True)), "never ends"),
        (lambda: replace(TABLE, denoised=torch.ones(2, 2, dtype=DOUBLE)), "before the first row"),
    ],
)
def test_bad_input_gets_one_clear_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_times_in_float32_are_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        ddim(FLOW, times(1, 0).float())
    with pytest.raises(TypeError, match="floating-point"):
        phi_1(torch.arange(3))
