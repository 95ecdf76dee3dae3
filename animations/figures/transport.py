"""Figures of `theory/transport.py`, and of the paths, correctors, modes and frequencies of `theory/sde.py`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, OTHER, QUIET, TRUTH, Page
from diffusion import langevin, schedules
from diffusion.schedules import Schedule, cosine, vp_linear
from toy.field import Field
from toy.flow import trajectory
from toy.mixture import Mixture
from toy.points import Points
from toy.world import World
from toy.worlds import bimodal, make


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def level(schedule: Schedule, t: float) -> tuple[float, float]:
    """alpha and sigma at time t."""
    alpha, sigma, _, _ = schedule.kernel(torch.tensor(t, dtype=torch.float64))
    return float(alpha), float(sigma)


def densities(world: World, schedule: Schedule, times: np.ndarray, x: np.ndarray) -> np.ndarray:
    """p_t(x) on a grid, [x, t]."""
    column = torch.from_numpy(x)[:, None]
    return np.stack([world.log_density(column, *level(schedule, t)).exp().numpy() for t in times], -1)


# ------------------------------------------------------------------------------------- one family, one set of laws

MARGINALS, CHAINS, STEPS = (0.6, 0.25, 0.1), 10_000, 400


def backward(
    world: World, schedule: Schedule, lam: float, x: Tensor, times: np.ndarray, generator: Generator
) -> Iterator[Tensor]:
    """The state at each of the times, by Euler steps of dx = (f x - (1 + lam^2)/2 g^2 score) dt + lam g dW."""
    yield x
    for t, s in itertools.pairwise(times.tolist()):
        kernel = schedule.kernel(torch.tensor((t + s) / 2, dtype=torch.float64))
        f = schedules.drift(kernel.alpha, kernel.alpha_dot)
        g2 = schedules.diffusion2(*kernel[:3], 2 * kernel.sigma * kernel.sigma_dot)
        score = world.score(x, float(kernel.alpha), float(kernel.sigma))
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = x - (t - s) * (f * x - (1 + lam**2) / 2 * g2 * score) + lam * (g2 * (t - s)).sqrt() * z
        yield x


def lambda_family() -> Page:
    """Paths of the ODE and of the SDE over the heat map of p_t, and their marginals at three times."""
    page = Page("sde.lambda_family", columns=3, panel=(4.6, 4.0))
    world, schedule = bimodal(), vp_linear()
    grid, times = np.linspace(-3, 3, 300), np.linspace(1, 0.02, STEPS)
    heat = densities(world, schedule, np.linspace(0.02, 1, 200), grid)
    kept: dict[float, dict[float, Tensor]] = {}
    for axes, lam, hue, shown, name in (
        (page.axes[0], 0.0, MODEL, 13, r"$\lambda = 0$: the probability-flow ODE"),
        (page.axes[1], 1.0, OTHER, 7, r"$\lambda = 1$: Anderson's SDE"),
    ):
        _, start = world.noised(CHAINS, *level(schedule, 1.0), seeded(2))
        states = list(backward(world, schedule, lam, start, times, seeded(3)))
        spread = start[:, 0].argsort()[np.linspace(0.02 * CHAINS, 0.98 * CHAINS, shown).astype(int)]
        paths = torch.stack([state[spread, 0] for state in states])
        nearest = {t: int(np.abs(times - t).argmin()) for t in MARGINALS}
        kept[lam] = {t: states[i][:, 0] for t, i in nearest.items()}
        axes.imshow(heat**0.5, extent=(0.02, 1, -3, 3), origin="lower", aspect="auto", cmap="Blues", vmax=1.4)
        axes.plot(times, paths, color=hue, linewidth=1.1)
        axes.set(title=name, xlabel="t: the sampler runs to the left", ylabel="x", xlim=(0.02, 1), ylim=(-3, 3))
    axes, bins = page.axes[2], np.linspace(-3, 3, 31)
    middle, width = (bins[1:] + bins[:-1]) / 2, bins[1] - bins[0]
    for row, t in enumerate(MARGINALS):
        truth = densities(world, schedule, np.array([t]), grid)[:, 0]
        axes.plot(grid, truth + row, color=TRUTH, linestyle="--", linewidth=1.3, label="exact" if row == 0 else None)
        axes.text(-2.95, row + 0.12, f"t = {t}", fontsize=9)
        for lam, hue, shift in ((0.0, MODEL, -0.025), (1.0, OTHER, 0.025)):
            share = np.histogram(kept[lam][t].numpy(), bins)[0] / CHAINS
            error = 2 * np.sqrt(share * (1 - share) / CHAINS) / width
            label = rf"$\lambda$ = {lam:g}, {CHAINS:,} paths" if row == 0 else None
            axes.errorbar(middle + shift, share / width + row, error, fmt="o", ms=2.8, lw=1, color=hue, label=label)
    axes.set(title="marginals: the same law at every time", xlabel="x", ylabel="density, shifted", ylim=(0, 3.55))
    axes.legend(loc="upper center", ncols=3, fontsize=8)
    return page.say(
        """Two modes, noised by VP. The ODE's paths never cross and keep their order; the SDE's forget where they
        began. Yet at each time both have the law p_t (blue): the drift (1 + lambda^2)/2 g^2 score carries back
        exactly what the noise lambda g spreads, for every lambda. Dots: histograms of Euler steps with the exact
        score, with twice their standard error."""
    )


# --------------------------------------------------------------------------------------------------- transport

PAIRS = 400
FOUR = {"a": 2.0, "b_1": 0.7, "b_2": 0.9, "q": 0.6, "s": 1.0}


def bars() -> Mixture:
    """Two thin Gaussians that make an L."""
    wide, thin = 0.81, 0.0025
    covariance = torch.tensor([[[wide, 0], [0, thin]], [[thin, 0], [0, wide]]], dtype=torch.float64)
    means = torch.tensor([[0.8, -1.0], [-1.0, 0.8]], dtype=torch.float64)
    return Mixture("L", torch.ones(2), means, covariance)


def to_noise(world: World, x: Tensor) -> Tensor:
    """Where the flow takes data to in pure noise."""
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    return trajectory(world, x, *ends, tolerance=1e-8)[-1]


def best_pairing(x: Tensor, y: Tensor) -> tuple[np.ndarray, float, float]:
    """Which y_j each x_i had better go to; the mean cost of x_i to y_i, and of the best."""
    cost = ((x[:, None] - y) ** 2).sum(-1).numpy()
    _, columns = linear_sum_assignment(cost)
    return columns, float(cost.diagonal().mean()), float(cost[np.arange(len(x)), columns].mean())


def four(variance: float) -> Mixture:
    """Gaussians of this variance at +-(a, 0) and +-(b_1, b_2), the first two of weight q/2."""
    a, b = (FOUR["a"], 0.0), (FOUR["b_1"], FOUR["b_2"])
    means = torch.tensor([a, (-a[0], 0.0), b, (-b[0], -b[1])], dtype=torch.float64)
    q = FOUR["q"]
    return Mixture("four", torch.tensor([q, q, 1 - q, 1 - q], dtype=torch.float64), means, variance)


def twisted(gained: np.ndarray) -> np.ndarray:
    """A_12 - A_21 of the flow's map at the origin, from variance s to s + gained, by differencing exact paths."""
    h, start = 1e-3, FOUR["s"] / 2  # the components' variance is half of s, noise makes up the rest
    around = h * torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    sigma = torch.from_numpy(np.sqrt(start + np.concatenate([[0.0], gained])))
    ends = trajectory(four(start), around, torch.ones_like(sigma), sigma, tolerance=1e-12)[1:]
    J = (ends[:, ::2] - ends[:, 1::2]) / (2 * h)  # [level, j, i]
    return (J[:, 1, 0] - J[:, 0, 1]).numpy()


def not_optimal_transport() -> Page:
    """The flow's pairs and the best ones, the excess on six laws, and how the Jacobian twists."""
    page = Page("sde.not_optimal_transport", columns=2, rows=2, panel=(5.0, 4.1))
    flow, best, excess, twist = page.axes
    x = bars().sample(150, seeded(5))
    y = to_noise(bars(), x)
    partner, paid, least = best_pairing(x, y)
    changed = partner != np.arange(len(x))
    for axes, ends, name in (
        (flow, y, f"the flow's pairs: mean square {paid:.3f}"),
        (best, y[partner], f"the best pairs: {least:.3f}, {1 - least / paid:.1%} less"),
    ):
        for i in range(len(x)):
            hue, width = (NOISE, 1.0) if changed[i] else (QUIET, 0.6)
            axes.plot(*torch.stack([x[i], ends[i]]).T, color=hue, lw=width, alpha=0.8)
        axes.scatter(x[:, 0], x[:, 1], s=9, color=DATA, zorder=3, label="data")
        axes.scatter(ends[:, 0], ends[:, 1], s=9, color=MODEL, zorder=3, label="noise")
        axes.set(title=name, xlabel=r"$x_1$", ylabel=r"$x_2$", aspect="equal", xlim=(-3, 3), ylim=(-2.8, 2.8))
    flow.legend(loc="lower left", fontsize=8, markerscale=2)

    laws: tuple[tuple[str, World, str], ...] = (
        ("line, two modes", bimodal(), TRUTH),
        ("plane, one Gaussian", make("gaussian"), TRUTH),
        ("three unequal", make("anisotropic"), NOISE),
        ("two moons", make("two_moons"), NOISE),
        ("four Gaussians", four(0.01), NOISE),
        ("two bars, as above", bars(), NOISE),
    )
    for row, (_, world, hue) in enumerate(laws):
        for seed in range(3):
            drawn = world.sample(PAIRS, seeded(seed))
            _, paid, least = best_pairing(drawn, to_noise(world, drawn))
            excess.plot(paid / least - 1, row, "o", color=hue, ms=6, alpha=0.7)
    excess.set_xscale("symlog", linthresh=1e-4, linscale=0.4)
    excess.set_yticks(range(len(laws)), [name for name, _, _ in laws])
    excess.invert_yaxis()
    title, label = f"the flow's cost over the best's, 3 x {PAIRS} points", "excess of the mean square"
    excess.set(title=title, xlabel=label, ylabel="data", xlim=(-3e-5, 0.1), xticks=[0, 1e-4, 1e-3, 1e-2, 1e-1])

    h = np.geomspace(0.01, 2, 12)
    leading = abs(float(curve("sde.not_optimal_transport", "twist")(**FOUR)))
    twist.loglog(h, leading * h**3, color=TRUTH, linestyle="--", label=r"twist $h^3$")
    twist.loglog(h, np.abs(twisted(h)), "o", color=NOISE, label="measured, four Gaussians")
    label = "variance h of the noise added"
    twist.set(title="the Jacobian loses its symmetry", xlabel=label, ylabel=r"$|A_{12} - A_{21}|$")
    twist.legend()
    return page.say(
        """Above: points of two thin Gaussians and where the flow takes them; vermillion pairs are others in the
        cheapest pairing of the same points. On the line, and for a Gaussian, nothing is cheaper than the flow. In
        the plane an optimal map has a symmetric Jacobian (Brenier), but the flow's turns wherever Hessians of log
        p do not commute along its path: at the centre of four Gaussians by twist h^3. What it pays for that is
        small: per cents at most."""
    )


# -------------------------------------------------------------------------------------------------- correctors

SETTLED = 60_000


def settle(step: float, n: int, w: float, chains: int, generator: Generator) -> list[float]:
    """Variances of chains of corrector steps on N(0, 1), from variance w: after 0 .. n steps of that length."""
    h = torch.tensor(step, dtype=torch.float64)
    x = math.sqrt(w) * torch.randn(chains, generator=generator, dtype=torch.float64)
    found = [float(x.square().mean())]
    for _ in range(n):
        x = langevin.corrector_step(x, -x, torch.randn(chains, generator=generator, dtype=torch.float64), h)
        found.append(float(x.square().mean()))
    return found


def own_lengths(d: int, r: float, own: bool, generator: Generator, n: int = 300) -> float:
    """The variance at which chains in d dimensions settle, steps by each sample's own norms or by the batch's."""
    x = torch.randn(40_000 // d, d, generator=generator, dtype=torch.float64)
    tail = []
    for i in range(n):
        z = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        if own:
            h = 2 * (r * z.norm(dim=1, keepdim=True) / x.norm(dim=1, keepdim=True)) ** 2
        else:
            h = langevin.step_length(-x, z, r)
        x = langevin.corrector_step(x, -x, z, h)
        tail += [float(x.square().mean())] if i >= n // 2 else []
    return float(np.mean(tail))


def corrector_bias() -> Page:
    """Where the variance settles against the step, how it gets there, and what a step length of one's own does."""
    page = Page("sde.corrector_bias", columns=3, panel=(4.4, 3.9))
    bias, path, own = page.axes
    A = np.linspace(0, 0.85, 200)
    bias.plot(A, curve("sde.corrector_bias", "stationary")(v=1.0, A=A), color=TRUTH, linestyle="--", label="1/(1 - A)")
    bias.axhline(1, color=DATA, label="the law's own variance")
    steps = np.array([0.1, 0.2, 0.35, 0.5, 0.65, 0.8])
    found = [settle(2 * step, 40, 1.0, SETTLED, seeded(i))[-1] for i, step in enumerate(steps)]
    limits = 2 * np.array(found) * math.sqrt(2 / SETTLED)
    bias.errorbar(steps, found, limits, fmt="o", color=MODEL, label=f"{SETTLED:,} chains, 40 steps")
    bias.plot(0.16**2, 1 / (1 - 0.16**2), "D", color=NOISE, ms=6, label="r = 0.16: A = 0.026")
    label = "A = h/(2 v), the step over the longest stable one"
    bias.set(title="where the variance settles", xlabel=label, ylabel="variance over v", ylim=(0, 7))
    bias.legend(fontsize=8)

    after, n = curve("sde.corrector_bias", "after"), np.arange(31)
    for step, hue in ((0.05, DATA), (0.25, MODEL), (0.9, NOISE)):
        path.plot(n, after(v=1.0, w=4.0, A=step, n=n), color=TRUTH, linestyle="--", linewidth=1)
        path.plot(n, settle(2 * step, 30, 4.0, 20_000, seeded(7)), "o", ms=3.5, color=hue, label=f"A = {step}")
    path.axhline(1, color=QUIET, linewidth=1)
    path.set(title="how it gets there, from 4 v", xlabel="corrector steps", ylabel="variance over v", yscale="log")
    path.legend(fontsize=8, title="dashed: closed form", title_fontsize=8)

    d = np.array([4, 8, 16, 32, 64, 128])
    smooth = np.geomspace(4, 128, 100)
    law = r"$((d + 2)/d)^2$, short steps"
    own.plot(smooth, curve("sde.corrector_own_length", "widened")(d=smooth), color=TRUTH, linestyle="--", label=law)
    for each, hue, name in ((True, NOISE, "each sample's own norms"), (False, OTHER, "norms of the whole batch")):
        values = [own_lengths(int(size), 0.1, each, seeded(9)) for size in d]
        own.plot(d, values, "o", color=hue, label=name)
    own.axhline(1, color=QUIET, linewidth=1)
    own.set(title="whose norms set the step, r = 0.1", xlabel="dimensions d", ylabel="variance over v", xscale="log")
    own.set_xticks(d, [str(size) for size in d])
    own.minorticks_off()
    own.legend(fontsize=8)
    return page.say(
        """Corrector steps on N(0, v) settle not at v but at v/(1 - A): by the rule of Song et al. A = r^2, 2.6 % too
        wide at every noise level. The start is forgotten by (1 - 2 A)^2 a step, soonest at A = 1/2: longer steps
        only widen. Right: |z| and |score| of each sample, as the paper writes the rule, make another law, far too
        wide in few dimensions; norms over the batch, as in its code, do not."""
    )


# ----------------------------------------------------------------------------------------------- reverse kernels


def reverse_density(x_s: np.ndarray, x_t: float, t: float, h: float) -> np.ndarray:
    """q(x_s | x_t) of data at +-1 by Bayes' rule, up to a factor; cosine schedule."""
    pair = Points("pair", torch.tensor([[1.0], [-1.0]], dtype=torch.float64))
    (alpha, sigma), (alpha_s, sigma_s) = level(cosine(), t), level(cosine(), t - h)
    kept = alpha / alpha_s
    v = sigma**2 - (kept * sigma_s) ** 2
    prior = pair.log_density(torch.from_numpy(x_s)[:, None], alpha_s, sigma_s).numpy()
    return np.exp(prior - (x_t - kept * x_s) ** 2 / (2 * v) - np.max(prior - (x_t - kept * x_s) ** 2 / (2 * v)))


def standardised(density: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """x and the density in standard deviations, squared skewness and excess kurtosis."""
    step = x[1] - x[0]
    p = density / density.sum()
    z = x - (p * x).sum()
    std = math.sqrt((p * z**2).sum())
    third, fourth = ((p * (z / std) ** power).sum() for power in (3, 4))
    return z / std, p / step * std, third**2, fourth - 3


def reverse_kernel_gaussian() -> Page:
    """Reverse kernels of a two-point law for four steps, and their departure from a Gaussian against the step."""
    page = Page("sde.reverse_kernel_gaussian", columns=2, panel=(5.4, 4.1))
    shapes, fade = page.axes
    t, x_t = 0.6, 0.15
    x = np.linspace(-5, 5, 40_001)
    for h, hue in ((0.55, NOISE), (0.4, MODEL), (0.2, OTHER), (0.05, DATA)):
        z, p, _, _ = standardised(reverse_density(x, x_t, t, h), x)
        shapes.plot(z, p, color=hue, label=f"h = {h}")
    z = np.linspace(-3.5, 3.5, 300)
    gauss = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    shapes.plot(z, gauss, color=TRUTH, linestyle="--", label="Gaussian")
    label = r"$x_s$ given $x_t$ = 0.15, in its standard deviations"
    shapes.set(title=r"q($x_s$ | $x_t$) at t = 0.6, s = t - h", xlabel=label, ylabel="density")
    shapes.set(xlim=(-3.5, 3.5), ylim=(0, 1.2))
    shapes.legend()

    alpha, sigma = level(cosine(), t)
    rho = 1 / (1 + math.exp(-2 * alpha * x_t / sigma**2))
    cumulant = {name: curve("sde.mixture_cumulants", name) for name in ("variance", "third", "fourth")}
    apart, variance = (curve("sde.reverse_kernel_mixture", part) for part in ("apart", "variance"))
    steps = np.geomspace(0.004, 0.55, 60)
    ratio = [sigma_s / alpha_s for alpha_s, sigma_s in (level(cosine(), t - h) for h in steps)]
    alpha_s = np.cos(np.arctan(ratio))
    kept, w = alpha / alpha_s, 1 - alpha_s**2
    values = {"r": kept, "w": w, "v": sigma**2 - kept**2 * w}
    d, v = apart(mu=alpha_s, **values), variance(**values)
    whole = cumulant["variance"](rho=rho, d=d, v=v)
    skewness, kurtosis = cumulant["third"](rho=rho, d=d) ** 2 / whole**3, cumulant["fourth"](rho=rho, d=d) / whole**2
    fade.loglog(steps, np.abs(kurtosis), color=TRUTH, linestyle="--", label="closed form")
    fade.loglog(steps, skewness, color=TRUTH, linestyle="--")
    some = steps[::6]
    measured = np.array([standardised(reverse_density(x, x_t, t, h), x)[2:] for h in some])
    fade.loglog(some, np.abs(measured[:, 1]), "o", color=NOISE, label="|excess kurtosis|, by Bayes' rule on a grid")
    fade.loglog(some, measured[:, 0], "o", color=OTHER, label="squared skewness, the same")
    for power, at, name in ((3, 3e-7, r"$h^3$"), (2, 3e-3, r"$h^2$")):
        guide = at * (steps[:25] / steps[0]) ** power
        fade.loglog(steps[:25], guide, color=QUIET, linewidth=1)
        fade.text(steps[24] * 1.05, guide[-1], name, color=QUIET)
    fade.set(title="how fast it becomes Gaussian", xlabel="step h", ylabel="departure from a Gaussian")
    fade.legend(fontsize=8, loc="lower right")
    return page.say(
        """Data at +1 and -1 alone. Given the noised x_t, a less noised x_s is a mixture of two Gaussians, one for
        each datum. The square of their distance over their width is four times the step's gain in SNR, so that
        short steps blur them into one: excess kurtosis falls as h^2, squared skewness as h^3. A sampler with
        Gaussian steps (DDPM) has to take many."""
    )


# --------------------------------------------------------------------------------------------- when modes appear


def curvature(world: World, alpha: float) -> float:
    """(log p)'' at 0 at alpha^2 + sigma^2 = 1, by Tweedie's second formula."""
    origin, variance = torch.zeros(1, 1, dtype=torch.float64), 1 - alpha**2
    return float(alpha**2 * world.posterior_covariance(origin, alpha, math.sqrt(variance))) / variance**2 - 1 / variance


def speciation() -> Page:
    """Modes over the heat map of p_t, slopes of the backward drifts at 0, and where each changes sign."""
    page = Page("sde.speciation", columns=3, panel=(4.5, 4.0))
    modes, slopes, turns = page.axes
    world, schedule = bimodal(), cosine()
    m2, v = float(world.means.max()) ** 2, float(world.variances.max())
    times, grid = np.linspace(0.01, 0.99, 300), np.linspace(-2.5, 2.5, 801)
    heat = densities(world, schedule, times, grid)
    modes.imshow(heat**0.5, extent=(0.01, 0.99, -2.5, 2.5), origin="lower", aspect="auto", cmap="Blues", vmax=1.3)
    for i, t in enumerate(times[::6]):
        column = heat[:, 6 * i]
        peaks = grid[1:-1][(column[1:-1] > column[:-2]) & (column[1:-1] >= column[2:])]
        modes.plot([t] * len(peaks), peaks, "o", ms=2.5, color=NOISE, label="modes of $p_t$" if i == 0 else None)
    parting = math.acos(math.sqrt(1 / (1 + m2 - v))) / (math.pi / 2)
    modes.axvline(parting, color=TRUTH, linestyle="--", label=r"$\alpha^2 (m^2 - v) = \sigma^2$")
    modes.set(title="the modes part", xlabel="t: the sampler runs to the left", ylabel="x")
    modes.legend(fontsize=8, loc="upper right")

    a, family = np.linspace(0.005, 0.75, 200), ((0.0, DATA), (0.5, OTHER), (1.0, MODEL), (3.0, NOISE))
    root = curve("sde.speciation_drift", "root")
    bent = np.array([curvature(world, math.sqrt(value / m2)) for value in a])
    for lam, hue in family:
        rate = (1 + (1 + lam**2) * bent) / (1 + lam**2)
        slopes.plot(a, rate, color=hue, label=rf"$\lambda$ = {lam:g}")
        if lam:
            slopes.plot(float(root(**{"lambda": lam})), 0, "o", color=hue, ms=6)
    slopes.plot(a, bent, color=TRUTH, linestyle="--", label=r"$(\log p)''$")
    slopes.axhline(0, color=QUIET, linewidth=1)
    slopes.set(
        title="slope at 0 of the backward drift", ylim=(-1.2, 1.6), ylabel=r"slope over $(1 + \lambda^2) \beta/2$"
    )
    slopes.set(xlabel=r"$a = \alpha^2 m^2$: noise at the left, data at the right")
    slopes.legend(fontsize=8)

    noises = np.geomspace(0.02, 30, 200)
    turns.semilogx(noises, root(**{"lambda": noises}), color=TRUTH, linestyle="--", label="closed form")
    for value, hue in family[1:]:
        turned = np.interp(0, 1 + (1 + value**2) * bent, a)
        turns.plot(value, turned, "o", color=hue, ms=7)
    turns.axhline(0.5, color=QUIET, linewidth=1)
    turns.text(0.02, 0.51, "the density: 1/2", color=QUIET)
    turns.text(1.15, 0.38, r"Anderson: $\sqrt{2} - 1$", color=MODEL)
    turns.set(title="where it turns outward", xlabel=r"$\lambda$, the noise of the sampler", ylabel="a", ylim=(0, 0.56))
    turns.legend(fontsize=8, loc="lower right")
    return page.say(
        """Two modes of overall variance 1 under VP. Denoising, p_t has one mode until alpha^2 (m^2 - v) = sigma^2,
        then two. Each sampler's drift turns outward at 0 at a time of its own (dots), the earlier the less noise
        it adds: Anderson's SDE at a = sqrt(2) - 1, before the density parts; the ODE's drift points outward
        always."""
    )


# ------------------------------------------------------------------------------------------------ coarse to fine

SIDE, LEVELS = 64, (6.0, 1.5, 0.4)


def mosaic(rows: list[list[np.ndarray]]) -> np.ndarray:
    """Images side by side with a white line between, each scaled to its own range."""

    def scaled(image: np.ndarray) -> np.ndarray:
        low, high = np.percentile(image, (1, 99))
        return np.pad(np.clip((image - low) / (high - low), 0, 1), 2, constant_values=1)

    return np.concatenate([np.concatenate([scaled(image) for image in row], 1) for row in rows])


def spectrum_of(world: Field, x: Tensor, k: np.ndarray) -> np.ndarray:
    """Mean power of Hartley's coefficients in rings round each frequency k."""
    power, frequency = world.hartley(x).square().mean(0).numpy(), world.frequency.numpy()
    return np.array([power[np.abs(frequency - value) < 0.1].mean() for value in k])


def spectrum() -> Page:
    """The spectrum of images and of noise, when each frequency rises above it, and what the denoiser sees by then."""
    page = Page("sde.spectrum", columns=3, panel=(4.5, 4.0))
    powers, crossings, pictures = page.axes
    world = Field("images", (1, SIDE, SIDE), exponent=2.0)
    k = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32], dtype=float)
    c = float(world.spectrum.max())  # S = c k^-2
    x = world.sample(32, seeded(0))
    smooth = np.geomspace(1, 32, 100)
    crossing = curve("sde.spectrum", "crossing")
    powers.loglog(smooth, c * crossing(k=smooth, a=2.0) ** 2, color=TRUTH, linestyle="--", label=r"$c\,k^{-2}$")
    powers.loglog(k, spectrum_of(world, x, k), "o", color=DATA, label="32 images")
    for sigma in LEVELS:
        powers.axhline(sigma**2, color=NOISE, linewidth=1.2)
        powers.text(32, sigma**2 * 1.15, rf"noise, $\sigma$ = {sigma:g}", color=NOISE, ha="right", fontsize=8)
    powers.set(title="power of images, and of noise", xlabel="frequency k, cycles an image", ylabel="power")
    powers.legend(fontsize=8, loc="upper right")

    coefficient = {value: int(np.abs(world.frequency.numpy() - value).argmin()) for value in k}
    found = []
    for value in k:
        wave = torch.zeros(1, world.dim, dtype=torch.float64)
        wave[0, coefficient[value]] = 1.0
        ends = [1e-3, 1e4]
        for _ in range(50):
            middle = math.sqrt(ends[0] * ends[1])
            kept = world.hartley(world.denoiser(world.hartley(wave), 1.0, middle))[0, coefficient[value]]
            ends = [middle, ends[1]] if kept > 0.5 else [ends[0], middle]
        found.append(ends[0])
    closed = math.sqrt(c) * crossing(k=smooth, a=2.0)
    crossings.loglog(smooth, closed, color=TRUTH, linestyle="--", label=r"$\sqrt{c}\,k^{-1}$")
    crossings.loglog(k, found, "o", color=MODEL, label="the exact denoiser keeps half")
    crossings.set(title="when a frequency has the noise's power")
    crossings.set(xlabel="frequency k", ylabel=r"$\sigma/\alpha$, which falls as the sampler runs")
    crossings.legend(fontsize=8)

    clean = x[:1]
    z = torch.randn(clean.shape, generator=seeded(1), dtype=torch.float64)
    noised = [clean + sigma * z for sigma in LEVELS]
    rows = noised, [world.denoiser(at, 1.0, sigma) for at, sigma in zip(noised, LEVELS, strict=True)]
    pictures.imshow(mosaic([[world.image(at)[0, 0].numpy() for at in row] for row in rows]), cmap="gray")
    pictures.set_title("noised, and denoised")
    pictures.set_axis_off()
    for i, sigma in enumerate(LEVELS):
        where = ((i + 0.5) / len(LEVELS), -0.03)
        pictures.text(*where, rf"$\sigma$ = {sigma:g}", transform=pictures.transAxes, ha="center", va="top")
    return page.say(
        """Images of spectrum k^-2, like photographs, in white noise. Each frequency crosses the noise at its own
        sigma, as 1/k: the sampler, whose noise falls, makes the coarse first and the fine last, an octave for
        every halving of sigma (log 2 of half log-SNR). Right: an image in three noises, and below its exact
        denoising, which shows the frequencies that have crossed."""
    )
