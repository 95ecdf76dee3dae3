"""Figures of `theory/generative.py`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import sympy as sp
import torch
from scipy.optimize import minimize
from torch import Tensor

from animations.claims import curve, expression
from animations.figures.page import DATA, MODEL, NOISE, OTHER, TRUTH, Page
from diffusion import adversarial, game
from diffusion.gaussian import log_normal
from toy.mixture import Mixture

# --------------------------------------------------------------------------------------------- which way round is KL

AXIS = torch.linspace(-8, 8, 1601, dtype=torch.float64)


def fitted(forward: bool, log_p: Tensor) -> tuple[float, float]:
    """Mean and width of the N(m, s^2) of least KL from the law (forward) or to it: quadrature, best of five starts."""

    def divergence(at: np.ndarray) -> float:
        m, log_s = torch.tensor(at, dtype=torch.float64)
        log_q = log_normal(AXIS, m, torch.exp(2 * log_s))
        weight, gap = (log_p.exp(), log_p - log_q) if forward else (log_q.exp(), log_q - log_p)
        return float(torch.trapezoid(weight * gap, AXIS))

    found = [minimize(divergence, [start, -0.5], method="Nelder-Mead") for start in (-2, -1, 0, 1, 2)]
    m, log_s = min(found, key=lambda result: result.fun).x
    return float(m), float(np.exp(log_s))


def reverse_kl() -> Page:
    """One Gaussian fitted to a law of two modes by either KL; and the two KLs' difference between coins."""
    page = Page("generative.reverse_kl", columns=2, panel=(5.2, 3.9))
    fit, coins = page.axes
    law = Mixture("uneven", torch.tensor([0.6, 0.4]), torch.tensor([[-1.5], [1.5]], dtype=torch.float64), 0.25)
    log_p = law.log_density(AXIS[:, None])
    fit.fill_between(AXIS, log_p.exp(), color=DATA, alpha=0.25, linewidth=0, label="data p")
    for hue, name, forward in ((OTHER, "least KL(p‖q): covers", True), (MODEL, "least KL(q‖p): picks", False)):
        m, s = fitted(forward, log_p)
        variance = torch.tensor(s**2, dtype=torch.float64)
        density = log_normal(AXIS, torch.tensor(m, dtype=torch.float64), variance).exp()
        fit.plot(AXIS, density, color=hue, label=f"q of {name}")
    q = np.linspace(0.005, 0.995, 400)
    difference = curve("generative.reverse_kl", line=1)
    for hue, p in ((DATA, 0.1), (MODEL, 0.2), (OTHER, 0.3)):
        coins.plot(q, difference(p=p, q=q), color=hue, label=f"p = {p:g}")
        coins.plot([p, 1 - p], [0, 0], "o", color=hue, markersize=6)
    coins.axhline(0, color=TRUTH, linewidth=0.8)
    fit.set(xlabel="x", ylabel="density", xlim=(-5, 5), ylim=(0, 1.0))
    coins.set(xlabel="q", ylabel="KL(p‖q) − KL(q‖p), nats", ylim=(-0.3, 0.4))
    fit.legend(loc="upper left", fontsize=8)
    coins.legend(loc="upper center", fontsize=8)
    fit.set_title("the best single Gaussian, two ways")
    coins.set_title("two coins: dots at q = p and q = 1 - p")
    return page.say(
        """Maximum likelihood minimises KL(p||q): q must have mass wherever the data are, and puts much of it where
        there are few. Turned round, q must not be where the data are not, and keeps one mode. The two numbers differ
        already for coins (right): their difference crosses zero at q = p, at third order, and at the
        opposite coin."""
    )


# ------------------------------------------------------------------------------------------------ the bilinear game

H, C = 0.3, 0.6  # the step, and the penalty's weight
STEPS = 60
START = (1.0, 0.0)
PLAYS: tuple[tuple[str, str, float, bool], ...] = (
    (NOISE, "simultaneous", 0.0, False),
    (DATA, "alternating", 0.0, True),
    (OTHER, f"simultaneous, penalty c = {C}", C, False),
)
CHARACTERISTIC = {
    "simultaneous": ("generative.bilinear_simultaneous", 1),
    "alternating": ("generative.bilinear_alternating", 1),
    f"simultaneous, penalty c = {C}": ("generative.gradient_penalty", 5),
}


def played(h: float, c: float, alternating: bool, steps: int) -> np.ndarray:
    """The pair (x, y) from START, [steps + 1, 2]."""
    x, y, size, weight = (torch.tensor(value, dtype=torch.float64) for value in (*START, h, c))
    places = [torch.stack([x, y])]
    for _ in range(steps):
        moved = game.generator_step(x, y, size)
        x, y = moved, game.discriminator_step(moved if alternating else x, y, size, weight)
        places.append(torch.stack([x, y]))
    return torch.stack(places).numpy()


def eigenvalues(claim: str, line: int, h: np.ndarray, c: float) -> np.ndarray:
    """The roots in lambda of the claim's characteristic polynomial, [len(h), 2]."""
    polynomial = expression(claim, line=line)
    names = {str(symbol): symbol for symbol in polynomial.free_symbols}
    if "c" in names:
        polynomial = polynomial.subs(names["c"], c)
    coefficients = sp.Poly(polynomial, names["lambda"]).all_coeffs()
    of_h = [sp.lambdify(names["h"], coefficient) for coefficient in coefficients]
    return np.stack([np.roots([float(f(value)) for f in of_h]) for value in h])


def bilinear_alternating() -> Page:
    """Two players of the game x y: their orbits, the eigenvalues of their step, how far they get."""
    page = Page("generative.bilinear_alternating", columns=3, panel=(4.3, 3.9))
    orbits, circle, distance = page.axes
    angle, steps = np.linspace(0, 2 * np.pi, 400), np.arange(STEPS + 1)
    sizes = np.linspace(0.02, 2, 100)
    for hue, name, c, alternating in PLAYS:
        places = played(H, c, alternating, STEPS)
        shown = places if alternating or c else places[:22]
        orbits.plot(*shown.T, "o-", color=hue, markersize=3, linewidth=0.8, label=name, zorder=3)
        roots = eigenvalues(*CHARACTERISTIC[name], sizes, c)
        circle.plot(roots.real, roots.imag, color=hue, linewidth=2)
        at = eigenvalues(*CHARACTERISTIC[name], np.array([H]), c)[0]
        circle.plot(at.real, at.imag, "o", color=hue, markersize=6)
        distance.semilogy(steps[::3], np.hypot(*places.T)[::3], "o", color=hue, markersize=4)
        if not alternating:
            distance.semilogy(steps, abs(at[0]) ** steps, color=TRUTH, linestyle="--", linewidth=1.2)
    runaway = np.hypot(*played(2.0, 0.0, True, STEPS).T)
    distance.semilogy(
        steps[::3], runaway[::3], "^", color=DATA, markersize=4, markerfacecolor="none", label="alternating, h = 2"
    )
    x, y = np.cos(angle), np.sin(angle)
    radius = np.sqrt(START[0] ** 2 / curve("generative.alternating_orbits", line=1)(h=H, x=x, y=y))
    orbits.plot(radius * x, radius * y, color=TRUTH, linestyle="--", linewidth=1.2, label="$x^2 - hxy + y^2$ kept")
    circle.plot(x, y, color=TRUTH, linestyle="--", linewidth=1.2)
    orbits.set(xlabel="generator x", ylabel="discriminator y", aspect="equal", xlim=(-2.7, 2.7), ylim=(-2.3, 3.9))
    circle.set(xlabel=r"Re $\lambda$", ylabel=r"Im $\lambda$", aspect="equal", xlim=(-1.35, 1.75), ylim=(-1.6, 1.6))
    distance.set(xlabel="step", ylabel="distance from equilibrium", xlim=(0, STEPS))
    orbits.set_title(f"orbits, h = {H}")
    circle.set_title("eigenvalues for h in (0, 2], dots h = 0.3")
    distance.set_title(r"dashed: $|\lambda|$ to the power of the step")
    orbits.legend(loc="upper left", fontsize=8)
    distance.legend(loc="upper left", fontsize=8)
    return page.say(
        """The smallest GAN, x y. Both players stepping at once spiral out at every step size; a discriminator that
        sees the generator's move keeps the pair on an ellipse, its eigenvalues being on the unit circle; a gradient
        penalty pulls them inside, for h < c. Being on the circle is not enough: at h = 2 both eigenvalues are -1 with
        one eigenvector, and the pair runs away, linearly (triangles)."""
    )


# --------------------------------------------------------------------------------------------- distances of two laws

REPEATS = 10
LINE = torch.linspace(-12, 18, 6001, dtype=torch.float64)


def density(mean: Tensor, width: float) -> Tensor:
    """N(mean, width^2) on LINE, not below what float64 holds (log 0 has no place in a divergence)."""
    variance = torch.tensor(width**2, dtype=torch.float64)
    return log_normal(LINE, mean, variance).exp().clamp(min=1e-300)


def js(p: Tensor, q: Tensor) -> float:
    """JS by quadrature of the claim's integrand."""
    at_a_point = curve("generative.js", line=0)
    return float(torch.trapezoid(torch.from_numpy(at_a_point(p=p.numpy(), q=q.numpy())), LINE))


def sampled_distances(d: float, width: float, n: int, generator: torch.Generator) -> tuple[float, float]:
    """From n draws of each law: W_1 (draws matched in order), and JS (mean of its log ratios)."""
    x, y = width * torch.randn(2, n, generator=generator, dtype=torch.float64)
    variance, zero, shift = (torch.tensor(value, dtype=torch.float64) for value in (width**2, 0.0, d))
    y = y + shift
    odds = [log_normal(z, shift, variance) - log_normal(z, zero, variance) for z in (x, y)]
    nats = torch.stack([torch.nn.functional.logsigmoid(-odds[0]), torch.nn.functional.logsigmoid(odds[1])])
    return float((x.sort()[0] - y.sort()[0]).abs().mean()), float(nats.mean()) + np.log(2)


def wasserstein_shift() -> Page:
    """W_1 and JS of N(0, s^2) and its shift by d, and their slopes in d, for four widths s."""
    page = Page("generative.wasserstein_shift", columns=2, panel=(5.2, 3.9))
    value, slope = page.axes
    shifts = np.linspace(0, 3, 121)
    zero = torch.zeros((), dtype=torch.float64)
    for hue, width in ((OTHER, 1.0), (DATA, 0.3), (MODEL, 0.1), (NOISE, 0.03)):
        nats = np.array([js(density(zero, width), density(zero + d, width)) for d in shifts])
        value.plot(shifts, nats, color=hue, label=f"JS, width {width:g}")
        slope.plot((shifts[1:] + shifts[:-1]) / 2, np.diff(nats) / np.diff(shifts), color=hue)
        for k, d in enumerate((0.25, 0.6, 1.2)):
            generator = torch.Generator().manual_seed(k)
            found = np.array([sampled_distances(d, width, 1000, generator) for _ in range(REPEATS)])
            bars = 2 * found.std(0, ddof=1) / np.sqrt(REPEATS)
            for mark, mean, bar in zip("so", found.mean(0), bars, strict=True):
                value.errorbar(d, mean, bar, fmt=mark, color=hue, markersize=4, mfc="none" if mark == "s" else hue)
    value.plot(
        shifts, curve("generative.wasserstein_shift", line=3)(d=shifts), color=TRUTH, linewidth=1.2, label="$W_1 = d$"
    )
    bit = float(expression("generative.js_disjoint"))
    value.axhline(bit, color=TRUTH, linestyle="--", linewidth=1.2, label="log 2, no common support")
    slope.axhline(1, color=TRUTH, linewidth=1.2)
    slope.text(2.95, 1.04, "$W_1$", ha="right")
    wide = slope.lines[0].get_ydata()  # of width 1; at width s the shift counts d/s, and slopes are 1/s times as steep
    for at, top, hue, width in ((0.3, 2.15, MODEL, 0.1), (0.22, 2.36, NOISE, 0.03)):
        slope.text(at, top, f"JS, width {width:g}: up to {np.max(wide) / width:.1f}", color=hue, fontsize=8)
    value.set(xlabel="shift d", ylabel="nats (JS), length ($W_1$)", xlim=(0, 3), ylim=(0, 1.5))
    slope.set(xlabel="shift d", ylabel="slope in d", xlim=(0, 3), ylim=(-0.05, 2.5))
    value.legend(loc="upper right", fontsize=8)
    value.set_title("lines exact; dots JS, squares $W_1$ of draws")
    slope.set_title("what a generator could learn from")
    return page.say(
        """A generator misses the data by d. W_1 is d, whatever the laws' width. JS is log 2 where laws share no
        support. Gaussians always share some, but JS is as good as log 2 at a few widths, the narrower they are the
        sooner; there its slope is all but 0, and says not which way to go. Of two point masses JS is log 2 at once.
        Dots and squares: means of ten times 1,000 draws of each law, two standard errors."""
    )


# ------------------------------------------------------------------------------------------ the generator's gradient

DRAWS = 4000
Loss = Callable[[Tensor], Tensor]
TRAINED: tuple[tuple[str, str, Loss, bool], ...] = (
    (NOISE, "log(1 - D), D held", adversarial.saturating_loss, True),
    (DATA, "-log D, D held", adversarial.non_saturating_loss, True),
    (MODEL, "-log D, through D as well", adversarial.non_saturating_loss, False),
)


def aims(theta: float) -> tuple[float, float, float]:
    """2 JS, KL(q || p) - 2 JS and KL(q || p) - KL(q || m) for p = N(0, 1), q = N(theta, 1)."""
    zero = torch.zeros((), dtype=torch.float64)
    p, q = density(zero, 1.0), density(zero + theta, 1.0)
    kl = [float(torch.trapezoid(q * (q / other).log(), LINE)) for other in (p, (p + q) / 2)]
    both = 2 * js(p, q)
    return both, kl[0] - both, kl[0] - kl[1]


def trained_gradient(theta: float, loss: Loss, held: bool, seed: int) -> tuple[float, float]:
    """d/dtheta of the mean loss of DRAWS samples z + theta against D* by autograd, and its error."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(DRAWS, generator=generator, dtype=torch.float64)
    at = torch.full_like(z, theta, requires_grad=True)
    known, one = at.detach() if held else at, torch.ones((), dtype=torch.float64)
    logit = log_normal(z + at, torch.zeros_like(z), one) - log_normal(z + at, known, one)
    (slopes,) = torch.autograd.grad(loss(logit).sum(), at)
    return float(slopes.mean()), float(slopes.std() / DRAWS**0.5)


def non_saturating_gradient() -> Page:
    """The generator's gradient for three ways to train N(theta, 1) towards N(0, 1), and whose gradient it is."""
    page = Page("generative.non_saturating_gradient", columns=2, panel=(5.2, 3.9))
    gradient, ratio = page.axes
    thetas = np.linspace(0, 5, 101)
    middle = (thetas[1:] + thetas[:-1]) / 2
    names = ("2 JS", r"KL(q‖p) $-$ 2 JS", r"KL(q‖p) $-$ KL(q‖m)")
    slopes = np.diff(np.array([aims(theta) for theta in thetas]), axis=0).T / np.diff(thetas)
    for (hue, name, loss, held), slope, aim in zip(TRAINED, slopes, names, strict=True):
        gradient.plot(middle, slope, color=hue, label=f"{name}: that of {aim}")
        for k, theta in enumerate((0.5, 1.5, 2.5, 3.5, 4.5)):
            mean, error = trained_gradient(theta, loss, held, k)
            gradient.errorbar(theta, mean, 2 * error, fmt="o", color=hue, markersize=4)
    ratio.plot(middle, slopes[2] / slopes[1], color=MODEL)
    ratio.axhline(1.5, color=TRUTH, linestyle="--", linewidth=1.2, label="3/2, as q tends to p")
    ratio.axhline(1.0, color=TRUTH, linewidth=0.8)
    gradient.set(
        xlabel=r"generator's mean $\theta$, the data's being 0", ylabel=r"$d/d\theta$ of the loss", xlim=(0, 5)
    )
    ratio.set(xlabel=r"generator's mean $\theta$", ylabel="gradient through D / D held", xlim=(0, 5), ylim=(0.9, 1.6))
    gradient.legend(loc="upper left", fontsize=8)
    ratio.legend(loc="upper right", fontsize=8)
    gradient.set_title("lines: slopes of divergences; dots: autograd through draws")
    ratio.set_title("what holding D still changes")
    return page.say(
        f"""A generator q = N(theta, 1) against the best discriminator of the data p = N(0, 1); m = (p + q)/2. Dots:
        means over {DRAWS:,} draws, two standard errors (most are smaller than the dots). The saturating loss follows
        JS, which says little when the laws are far apart; -log D does not die. But what -log D follows depends on a
        hypothesis that is easily left out: KL(q||p) - 2 JS if D is held while the generator moves, KL(q||p) - KL(q||m)
        if the gradient is also taken through D, and near the data that is half as much again."""
    )
