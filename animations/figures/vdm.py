"""Figures of `theory/vdm.py`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, OTHER, QUIET, TRUTH, Page
from diffusion import vdm
from diffusion.schedules import Schedule, cosine, flow, ve, vp_linear
from diffusion.vdm import TimeDensity
from toy.mixture import Mixture

NEAR, FAR = 2.0, -2.0  # half_log_snr at the two ends
VARIANCE = 1.0  # of Gaussian data in one dimension
SCHEDULES: tuple[tuple[str, Callable[[], Schedule]], ...] = (
    (DATA, cosine),
    (OTHER, ve),
    (MODEL, flow),
)


def snr(half_log_snr: Tensor) -> Tensor:
    return torch.exp(2 * half_log_snr)


def information(half_log_snr: float) -> float:
    """Nats that x_t tells about Gaussian data, from the claim."""
    return float(curve("vdm.i_mmse_gaussian", "information")(s=math.exp(2 * half_log_snr), v=VARIANCE))


def gaussian_denoiser(schedule: Schedule) -> vdm.Denoiser:
    """The exact one, v SNR/(1 + v SNR) x_t/alpha."""

    def denoised(x: Tensor, t: Tensor) -> Tensor:
        share = VARIANCE * snr(schedule.half_log_snr(t)) / (1 + VARIANCE * snr(schedule.half_log_snr(t)))
        return (share / schedule.alpha(t))[:, None] * x

    return denoised


def ends(schedule: Schedule) -> tuple[float, float]:
    a, b = schedule.time_of(torch.tensor([NEAR, FAR], dtype=torch.float64)).tolist()
    return a, b


def measured(schedule: Schedule, until: Tensor, n: int, generator: Generator) -> tuple[list[float], list[float]]:
    """The integral from t = a to each time, and its standard error, from n draws of the loss."""
    values, errors = [], []
    a, _ = ends(schedule)
    for end in until.tolist():
        p = TimeDensity.uniform(a, end)
        t = p.times(vdm.spaced(n, generator))
        x_0 = math.sqrt(VARIANCE) * torch.randn(n, 1, dtype=torch.float64, generator=generator)
        loss = vdm.diffusion_loss(gaussian_denoiser(schedule), schedule, x_0, t, p.at(t), generator)
        values.append(float(loss.mean()))
        errors.append(float(loss.std()) / math.sqrt(n))
    return values, errors


def schedule_invariance() -> Page:
    """Integrands over time and their running integrals, for three schedules and for one that turns back on its way."""
    page = Page("vdm.schedule_invariance", columns=2, panel=(5.6, 4.4))
    left, right = page.axes
    generator = torch.Generator().manual_seed(0)
    for hue, make in SCHEDULES:
        schedule = make()
        a, b = ends(schedule)
        t = torch.linspace(a, b, 2001, dtype=torch.float64)
        rate, s = -schedule.half_log_snr_dot(t), snr(schedule.half_log_snr(t))
        weight = vdm.continuous_weight(schedule.alpha(t), schedule.sigma(t), rate)
        integrand = weight * vdm.gaussian_mmse(s, torch.tensor(VARIANCE, dtype=torch.float64))
        share = (t - a) / (b - a)
        left.plot(share, (b - a) * integrand, color=hue, label=schedule.name)
        running = torch.cat([t.new_zeros(1), torch.cumulative_trapezoid(integrand, t)])
        right.plot(share, running, color=hue, label=schedule.name)
        stops = torch.tensor([0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
        values, errors = measured(schedule, a + stops * (b - a), 4000, generator)
        right.errorbar(stops, values, yerr=2 * np.array(errors), color=hue, fmt="o", markersize=4, capsize=2)

    share = torch.linspace(0, 1, 2001, dtype=torch.float64)
    detour = NEAR + (FAR - NEAR) * share + 1.6 * torch.sin(2 * math.pi * share)
    slope = FAR - NEAR + 2 * math.pi * 1.6 * torch.cos(2 * math.pi * share)
    s = snr(detour)
    integrand = -slope * s * vdm.gaussian_mmse(s, torch.tensor(VARIANCE, dtype=torch.float64))
    left.plot(share, integrand, color=NOISE, label="turns back")
    left.fill_between(share, integrand, 0, where=(integrand < 0).numpy(), color=NOISE, alpha=0.2)
    for value, dashes, name in (
        (integrand, "-", "turns back"),
        (integrand.abs(), ":", "turns back, weighed by |SNR'|"),
    ):
        running = torch.cat([share.new_zeros(1), torch.cumulative_trapezoid(value, share)])
        right.plot(share, running, color=NOISE, linestyle=dashes, label=name)
    truth = information(NEAR) - information(FAR)
    right.axhline(truth, color=TRUTH, linestyle="--", linewidth=1.2, label="I(a) - I(b), closed form")
    left.axhline(0, color=QUIET, linewidth=0.8)
    left.set(xlabel="share of the way from a to b", ylabel="nats per unit of that share", title="What is integrated")
    right.set(xlabel="share of the way from a to b", ylabel="nats", title="Its integral so far", ylim=(-1, 5.6))
    left.legend(fontsize=9)
    right.legend(fontsize=9, loc="upper left")
    return page.say(
        """Gaussian data, exact denoiser, half_log_snr from 2 to -2. Each schedule spends its nats at other times, and
        all arrive at one number, the information lost on the way. So does a schedule that turns back: it is the bound,
        not the integral, that needs a falling SNR, for where SNR rises (shaded) errors count negatively and no
        diffusion goes there; counted by size, each stretch passed again is paid for again. Dots: draws, with two
        standard errors."""
    )


# ------------------------------------------------------------------------------------------------ refinement

FAULT = 0.01  # error of the faulty network beyond the exact denoiser's, in units of SNR


def refinement() -> Page:
    """T-step bounds against T, for the exact denoiser and one that grows worse near the data, with the integrals."""
    page = Page("vdm.refinement", columns=2, panel=(5.6, 4.4))
    left, right = page.axes
    schedule = cosine()
    a, b = ends(schedule)
    v = torch.tensor(VARIANCE, dtype=torch.float64)

    def exact(half_log_snr: Tensor) -> Tensor:
        return vdm.gaussian_mmse(snr(half_log_snr), v)

    def faulty(half_log_snr: Tensor) -> Tensor:
        return exact(half_log_snr) + FAULT * snr(half_log_snr)

    grids = [2**k for k in range(1, 10)]
    l = torch.linspace(FAR, NEAR, 4001, dtype=torch.float64)
    for hue, name, error in ((DATA, "exact", exact), (NOISE, "worse again near the data", faulty)):
        left.plot(l, error(l), color=hue, label=name)
        bounds = []
        for T in grids:
            times = torch.linspace(a, b, T + 1, dtype=torch.float64)
            bounds.append(float(vdm.step_weights(schedule, times) @ error(schedule.half_log_snr(times[1:]))))
        right.plot(grids, bounds, "o-", color=hue, markersize=5, label=name)
        limit = float(torch.trapezoid(snr(l) * error(l), l))
        right.axhline(limit, color=TRUTH, linestyle="--", linewidth=1.2, label="integral" if error is exact else None)
    left.set(xlabel="half_log_snr, data to the right", ylabel=r"$E|x_0 - \hat x_0|^2$", title="A prediction's error")
    right.set(xlabel="steps T", ylabel="diffusion part of the bound, nats", title="The T-step bound", ylim=(0, 15))
    right.set_xscale("log", base=2)
    left.legend(fontsize=9)
    right.legend(fontsize=9)
    return page.say(
        """Gaussian data, half_log_snr from 2 to -2 in T equal steps of the cosine schedule. The exact denoiser's error
        falls as SNR rises: every split of a step lowers its bound, down to the integral (dashed), never below. The
        other network's error rises again near the data. A step is charged by the error at its noisier end, so coarse
        grids flatter it: from 8 steps on each refinement raises its bound, which is below its integral there."""
    )


# ------------------------------------------------------------------------------------------------ which times to draw

TWO_MODES = Mixture("two modes", torch.ones(2), torch.tensor([[0.97], [-0.97]]), 0.06)


def loss_moments(world: Mixture, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    """E[L | t] and E[L^2 | t] of one-dimensional data, by quadrature over x_0 and eps."""
    x, h = torch.linspace(-2.5, 2.5, 301, dtype=torch.float64), 5 / 300
    eps, w = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(24))
    chance = (world.log_density(x[:, None]).exp() * h)[:, None] * (w / w.sum())
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    weight = vdm.continuous_weight(alpha, sigma, -schedule.half_log_snr_dot(t))
    first, second = [], []
    for a, s, cost in zip(alpha, sigma, weight, strict=True):
        x_t = (a * x[:, None] + s * eps).reshape(-1, 1)
        loss = cost * (x[:, None] - world.denoiser(x_t, a, s).reshape(len(x), -1)) ** 2
        first.append((chance * loss).sum())
        second.append((chance * loss**2).sum())
    return torch.stack(first), torch.stack(second)


def time_density() -> Page:
    """Time densities, and the variance of the loss over the density when times are drawn from each."""
    page = Page("vdm.time_density", columns=2, panel=(5.6, 4.4))
    left, right = page.axes
    schedule, generator, draws = vp_linear(), torch.Generator().manual_seed(0), 80_000
    l = torch.linspace(3, -3, 121, dtype=torch.float64)
    edges = schedule.time_of(l)
    t, widths = (edges[1:] + edges[:-1]) / 2, edges.diff()
    first, second = loss_moments(TWO_MODES, schedule, t)
    whole, least = float(first @ widths), float(second.sqrt() @ widths)

    def losses(p: TimeDensity, n: int) -> tuple[Tensor, Tensor]:
        times = p.times(vdm.spaced(n, generator, "independent"))
        x_0 = TWO_MODES.sample(n, generator)
        loss = vdm.diffusion_loss(
            lambda x, t: TWO_MODES.denoiser(x, schedule.alpha(t), schedule.sigma(t)),
            schedule, x_0, times, p.at(times), generator,
        )  # fmt: skip
        return times, loss

    uniform = TimeDensity.uniform(float(edges[0]), float(edges[-1]))
    times, loss = losses(uniform, draws)
    recorded = TimeDensity.of_losses(edges[::3], times, loss * uniform.at(times))
    densities = (
        (OTHER, "uniform in t", uniform),
        (QUIET, "uniform in half_log_snr", TimeDensity(edges, -schedule.half_log_snr_dot(t))),
        (DATA, "mean loss", TimeDensity(edges, first)),
        (MODEL, "recorded losses", recorded),
    )
    rate = -schedule.half_log_snr_dot(t)
    middle = schedule.half_log_snr(t)
    for place, (hue, name, p) in enumerate(densities):
        left.step(middle, p.at(t) / rate, color=hue, label=name, where="mid")
        _, loss = losses(p, draws)
        spread = loss.reshape(40, -1).var(1)
        exact = float((second / p.at(t)) @ widths) - whole**2
        right.bar(place, float(spread.mean()), color=hue, alpha=0.75, width=0.6)
        right.errorbar(
            place, float(spread.mean()), yerr=2 * float(spread.std()) / math.sqrt(40), color=TRUTH, capsize=4
        )
        right.plot([place - 0.3, place + 0.3], [exact, exact], color=TRUTH, linewidth=1.2)
    left.plot(
        middle,
        second.sqrt() / least / rate,
        color=TRUTH,
        linestyle="--",
        linewidth=1.4,
        label=r"$\sqrt{E[L^2 | t]}$, scaled",
    )
    right.axhline(least**2 - whole**2, color=TRUTH, linestyle="--", linewidth=1.4, label="least of all densities")
    right.set_xticks(
        range(len(densities)), [name.replace(" in ", "\nin ").replace(" loss", "\nloss") for _, name, _ in densities]
    )
    left.set(xlabel="half_log_snr, data to the right", ylabel="density per unit of it", title="Where times are drawn")
    right.set(xlabel="density", ylabel=r"variance of $L/p(t)$, nats$^2$", title="What it costs")
    left.legend(fontsize=9)
    right.legend(fontsize=9)
    return page.say(
        """Two narrow modes, exact denoiser, linear beta. The mean of L/p is the bound for every p; its variance is
        not. It is least for p proportional to the root mean square of the loss, which counts rare large losses, not
        for the mean loss; a histogram of 80,000 recorded losses comes to it. Bars: draws, with two standard
        errors; black bars across: the exact variance."""
    )
