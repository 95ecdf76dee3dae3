"""Figures of `theory/probability.py`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, OTHER, TRUTH, Page
from toy.frechet import frechet

# ------------------------------------------------------------------------------------------------ change of variables

MEAN, DRAWS = 0.5, 40_000


def normal(x: np.ndarray) -> np.ndarray:
    """The density of N(MEAN, 1)."""
    return np.exp(-((x - MEAN) ** 2) / 2) / np.sqrt(2 * np.pi)


def change_of_variables_1d() -> Page:
    """Draws of sinh x and of x^2, and the densities that the formula gives with one branch and with two."""
    page = Page("probability.change_of_variables_1d", columns=2, panel=(4.9, 4.0))
    left, right = page.axes
    x = MEAN + torch.randn(DRAWS, generator=Generator().manual_seed(0), dtype=torch.float64).numpy()

    y, bins = np.linspace(-4, 6, 400), np.linspace(-4, 6, 61)
    weights = np.full(DRAWS, 1 / DRAWS / (bins[1] - bins[0]))
    left.hist(np.sinh(x), bins.tolist(), weights=weights, color=DATA, alpha=0.45, label="draws")
    left.plot(y, normal(np.arcsinh(y)) / np.sqrt(1 + y**2), color=TRUTH, linestyle="--", label="p(x)/g'(x)")
    left.set(title="y = sinh x, rising", xlabel="y", ylabel="density")
    left.legend(loc="upper right")

    y, bins = np.linspace(0.01, 4, 600), np.linspace(0, 4, 61)
    root, weights = np.sqrt(y), np.full(DRAWS, 1 / DRAWS / (bins[1] - bins[0]))
    right.hist(x**2, bins.tolist(), weights=weights, color=DATA, alpha=0.45, label="draws")
    both = (normal(root) + normal(-root)) / (2 * root)
    right.plot(y, both, color=TRUTH, linestyle="--", label="both branches, mass 1")
    kept = float((x > 0).mean())
    one = f"one branch, x > 0: mass {kept:.2f}"
    right.plot(y, normal(root) / (2 * root), color=NOISE, label=one)
    right.set(title=r"y = x$^2$, not monotone", xlabel="y", ylabel="density", ylim=(0, 1.2))
    right.legend(loc="upper right")
    return page.say(
        """x ~ N(1/2, 1). Where g is monotone, the density of y = g(x) is p(x)/|g'(x)|, and normalised. Where it is not,
        the same formula at the one x that comes to mind is no density: what came from the other x is lost. Every x with
        g(x) = y has to be counted. A normalising flow is invertible so that there is one."""
    )


# ------------------------------------------------------------------------------------------------ FID of few samples

SIZES = np.array([5, 10, 20, 50, 100, 200, 500, 1000, 2000])
POINTS = 400_000  # drawn for each size, shared out among pairs of samples


def fid_bias() -> Page:
    """The mean FID of two samples against their size: of one law, and of two laws of FID 0.01."""
    page = Page("probability.fid_bias", panel=(8, 4.4))
    (axes,) = page.axes
    generator, means = Generator().manual_seed(0), curve("probability.fid_positive", line=-1)
    for hue, name, shift, dim in (
        (OTHER, "the law itself, in 8 dimensions", 0.0, 8),
        (MODEL, "the model N(0.1, 1), whose FID is 0.01", 0.1, 1),
        (DATA, "the law itself", 0.0, 1),
    ):
        middle, error = [], []
        for n in SIZES.tolist():
            pairs = max(POINTS // (n * dim**2), 60)
            x = torch.randn(2, pairs, n, dim, generator=generator, dtype=torch.float64)
            fids = frechet(x[0], x[1] + shift)
            middle.append(float(fids.mean()))
            error.append(1.96 * float(fids.std()) / len(fids) ** 0.5)
        axes.errorbar(SIZES, middle, error, color=hue, marker="o", linestyle="none", capsize=3, label=name)
    n = np.geomspace(4, 2500, 200)
    leading = curve("probability.fid_bias", "leading")
    axes.plot(n, leading(v=1.0, h=1 / (n - 1)), color=TRUTH, linestyle="--", linewidth=1.2, label="3 v/(N - 1)")
    axes.plot(n, means(v=1.0, N=n), color=TRUTH, linestyle=":", linewidth=1.2, label="2 v/N, from the means alone")
    axes.axhline(0.01, color=MODEL, linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="N, size of each of the two samples", ylabel="mean FID, v = 1")
    axes.legend(loc="upper right")
    return page.say(
        """FID between two samples of N(0, I): two samples of one law are never alike, and in one dimension their FID
        is on average about 3 v/N; in eight (green) it is not eight times as large, but nearly twenty. With 95 % limits.
        The model that is off (orange) scores better with 1,000 draws than the true law with 100: FIDs of unequal N, or
        of features of unequal dimension, must not be compared."""
    )
