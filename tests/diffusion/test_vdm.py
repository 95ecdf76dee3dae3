"""The bound's weights and estimate against sums by hand; draws of times against their law and their variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from diffusion import ddpm, vdm
from diffusion.schedules import Schedule, cosine, edm, flow
from diffusion.vdm import TimeDensity

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("schedule", [cosine(), flow(), edm()])
def test_steps_telescope(schedule: Schedule) -> None:
    """With a constant error the bound is half of the whole gain in SNR, whatever the grid."""
    times = torch.tensor([0.1, 0.15, 0.5, 0.9, 1.0], dtype=F64)
    snr = (schedule.alpha(times) / schedule.sigma(times)) ** 2
    torch.testing.assert_close(vdm.step_weights(schedule, times).sum(), (snr[0] - snr[-1]) / 2, rtol=1e-13, atol=0)


def test_a_step_weighs_as_ddpm_does() -> None:
    """ddpm.weight_x0 with the posterior's own variance is the same number."""
    times = torch.linspace(0.2, 0.9, 8, dtype=F64)
    alpha_bar = cosine().alpha(times) ** 2
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1]
    wanted = ddpm.weight_x0(alpha_bar[:-1], beta, ddpm.posterior_variance(alpha_bar[:-1], beta))
    torch.testing.assert_close(vdm.step_weights(cosine(), times), wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("times", [[0.5], [0.5, 0.4], [[0.1, 0.2]], [0.0, 0.5]])
def test_bad_grids_are_refused(times: list[float]) -> None:
    with pytest.raises(ValueError, match="step_weights: "):
        vdm.step_weights(cosine(), torch.tensor(times, dtype=F64))


def test_one_draw_of_the_loss_is_the_formula() -> None:
    """A denoiser that answers 0 leaves |x_0|^2, in float32 too."""
    for dtype in (torch.float64, torch.float32):
        x_0 = torch.tensor([[1.0, 2.0], [0.5, 0.0]], dtype=dtype)
        t, density = torch.tensor([0.2, 0.7], dtype=F64), torch.tensor([2.0, 0.5], dtype=F64)
        loss = vdm.diffusion_loss(lambda x, t: torch.zeros_like(x), flow(), x_0, t, density, seeded())
        snr, rate = ((1 - t) / t) ** 2, 1 / (1 - t) + 1 / t
        torch.testing.assert_close(loss, (snr * rate * torch.tensor([5.0, 0.25]) / density).to(dtype))
    with pytest.raises(ValueError, match="expected equal shapes"):
        vdm.diffusion_loss(lambda x, t: x, flow(), x_0, t, density[:1], seeded())


def test_noise_in_the_loss_is_of_the_level() -> None:
    """The denoiser x/alpha misses by sigma eps/alpha: the loss is rate |eps|^2, of mean rate dim."""
    x_0, t = torch.zeros(40_000, 2, dtype=F64), torch.full((40_000,), 0.4, dtype=F64)
    loss = vdm.diffusion_loss(lambda x, t: x / (1 - t[:, None]), flow(), x_0, t, torch.ones_like(t), seeded())
    rate = 1 / 0.6 + 1 / 0.4
    assert stats.kstest((loss / rate).numpy(), stats.chi2(2).cdf).pvalue > 1e-6


@pytest.mark.parametrize("spacing", ["independent", "stratified"])
def test_the_whole_bound_on_gaussian_data(spacing: vdm.Spacing) -> None:
    """x_0 ~ N(0, I), exact denoiser: entropy plus log(1 + 1/SNR(a))/2 a coordinate, what the decoder's width costs."""
    schedule, n, dim = cosine(), 40_000, 2
    x_0 = torch.randn(n, dim, dtype=F64, generator=seeded())
    p = TimeDensity.uniform(0.2, 1.0)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return schedule.alpha(t)[:, None] * x

    parts = vdm.nelbo(denoiser, schedule, x_0, p, seeded(1), spacing)
    a = torch.tensor(0.2, dtype=F64)
    exact = dim * (np.log(2 * np.pi * np.e) + torch.log1p((schedule.sigma(a) / schedule.alpha(a)) ** 2)) / 2
    total = parts.sum(0)
    assert abs(float(total.mean() - exact)) < 5 * float(total.std()) / n**0.5
    assert float(total.std()) / n**0.5 < 0.02
    assert float(parts[0].abs().max()) < 1e-12  # no signal is left at t = 1


def test_the_prior_part_is_a_divergence() -> None:
    """Up to t = 0.5 of the flow: KL(N(x_0/2, 1/4) || N(0, 1))."""
    x_0 = torch.tensor([[2.0]], dtype=F64)
    prior, _, reconstruction = vdm.nelbo(lambda x, t: x, flow(), x_0, TimeDensity.uniform(0.1, 0.5), seeded())
    assert prior.item() == pytest.approx((0.25 + 1 - 1 - np.log(0.25)) / 2)
    assert reconstruction.item() == pytest.approx(np.log(2 * np.pi * np.e / 81) / 2)
    with pytest.raises(ValueError, match="has sigma = 0: begin later"):
        vdm.nelbo(lambda x, t: x, flow(), x_0, TimeDensity.uniform(0.0, 0.5), seeded())


# ------------------------------------------------------------------------------------------------ times


@pytest.mark.parametrize("spacing", ["independent", "antithetic", "stratified"])
def test_each_time_is_uniform(spacing: vdm.Spacing) -> None:
    """The first and the last of ten, over many draws."""
    drawn = torch.stack([vdm.spaced(10, seeded(k), spacing) for k in range(2000)])
    assert drawn.min() >= 0 and drawn.max() < 1
    for column in (0, 9):
        assert stats.kstest(drawn[:, column].numpy(), "uniform").pvalue > 1e-6


def test_pairs_and_lattices_are_what_they_say() -> None:
    pairs = vdm.spaced(10, seeded(), "antithetic")
    torch.testing.assert_close(pairs[:5] + pairs[5:], torch.ones(5, dtype=F64))
    gaps = vdm.spaced(10, seeded()).sort().values.diff()
    torch.testing.assert_close(gaps, torch.full((9,), 0.1, dtype=F64))


def test_dependence_saves_variance() -> None:
    """Of the mean of exp(u) over 16 draws: (e - 1)(3 - e)/32, 1/31 of it in pairs, (e - 1)^2/(12 16^2) on a lattice."""
    spread = {
        spacing: float(torch.stack([vdm.spaced(16, seeded(k), spacing).exp().mean() for k in range(2000)]).var())
        for spacing in ("independent", "antithetic", "stratified")
    }
    independent = (torch.e - 1) * (3 - torch.e) / 32
    assert spread["independent"] == pytest.approx(independent, rel=0.2)
    assert spread["antithetic"] == pytest.approx(independent / 31, rel=0.2)
    assert spread["stratified"] == pytest.approx((torch.e - 1) ** 2 / (12 * 16**2), rel=0.2)


def density() -> TimeDensity:
    return TimeDensity(torch.tensor([0.1, 0.2, 0.6, 1.0]), torch.tensor([4.0, 1.0, 0.25]))


def test_a_density_integrates_to_one_and_is_drawn_from() -> None:
    p = density()
    middles, widths = (p.edges[1:] + p.edges[:-1]) / 2, p.edges.diff()
    assert float((p.at(middles) * widths).sum()) == pytest.approx(1, rel=1e-14)
    torch.testing.assert_close(p.at(middles)[0] / p.at(middles)[2], torch.tensor(16.0, dtype=F64))
    t = p.times(vdm.spaced(20_000, seeded(), "independent"))

    def cdf(x: Tensor) -> Tensor:
        below = torch.cat([torch.zeros(1, dtype=F64), p.mass.cumsum(0)])
        cell = torch.bucketize(x, p.edges[1:-1])
        return below[cell] + (x - p.edges[cell]) * p.at(x)

    assert stats.kstest(t.numpy(), lambda x: cdf(torch.from_numpy(x)).numpy()).pvalue > 1e-6


def test_the_ends_of_a_density() -> None:
    t = density().times(torch.tensor([0.0, 1 - 2**-53], dtype=F64))
    assert t[0] == density().edges[0] and t[1] <= density().edges[-1]


def test_recorded_losses_give_the_root_mean_square() -> None:
    edges = torch.tensor([0.0, 0.5, 1.0])
    p = TimeDensity.of_losses(edges, torch.tensor([0.1, 0.2, 0.6]), torch.tensor([3.0, 4.0, 1.0]))
    first = (12.5**0.5) / (12.5**0.5 + 1)
    assert p.mass.tolist() == pytest.approx([first, 1 - first])


def test_a_time_outside_the_edges_is_refused() -> None:
    """The ends themselves are within; just outside there is no density, and of NaN none is known."""
    p = density()
    assert torch.equal(p.at(p.edges[[0, -1]]), (p.mass / p.edges.diff())[[0, -1]])
    for t in (0.05, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"TimeDensity.at: .* outside of the edges, 0.1 to 1"):
            p.at(torch.tensor([0.5, t]))


def test_bad_densities_are_refused() -> None:
    edges = torch.tensor([0.0, 0.5, 1.0])
    for bad in (torch.tensor([1.0, 0.0]), torch.tensor([1.0, torch.inf]), torch.tensor([1.0, -1.0])):
        with pytest.raises(ValueError, match="positive and finite"):
            TimeDensity(edges, bad)
    for bad in (edges.flip(0), torch.tensor([0.0, 0.5, torch.inf]), torch.ones(1, 3)):
        with pytest.raises(ValueError, match="finite rising edges wanted"):
            TimeDensity(bad, torch.ones(2))
    with pytest.raises(ValueError, match=r"no loss above 0 in cells \[1\] of 2"):
        TimeDensity.of_losses(edges, torch.tensor([0.1]), torch.tensor([1.0]))
    with pytest.raises(ValueError, match="even n"):
        vdm.spaced(3, seeded(), "antithetic")
    with pytest.raises(ValueError, match="'latin', expected independent, antithetic, stratified"):
        vdm.spaced(4, seeded(), "latin")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"losses number \[1\] are not finite"):
        TimeDensity.of_losses(edges, torch.tensor([0.1, 0.6]), torch.tensor([1.0, torch.nan]))


def test_bad_states_are_refused() -> None:
    """Images [4, 1, 4, 4] would broadcast against the weights [4] along the wrong axis, and so would [4, 1]."""
    t, one = torch.full((4,), 0.5, dtype=F64), torch.ones(4, dtype=F64)
    with pytest.raises(ValueError, match=r"\[4, 1, 4, 4\], expected \[batch, dim\]"):
        vdm.diffusion_loss(lambda x, t: x, flow(), torch.zeros(4, 1, 4, 4, dtype=F64), t, one, seeded())
    with pytest.raises(ValueError, match=r"denoised \(4, 1\)"):
        vdm.diffusion_loss(lambda x, t: x[:, :1], flow(), torch.zeros(4, 3, dtype=F64), t, one, seeded())
