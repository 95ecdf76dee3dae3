"""Figures of `theory/latent.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from animations.claims import curve
from animations.figures.page import DATA, MODEL, NOISE, OTHER, TRUTH, Page
from diffusion import latent
from diffusion.schedules import cosine
from toy.mixture import gaussian

DOUBLE = torch.float64


def scale_factor() -> Page:
    """SNR of latents of several variances under one schedule, and what it says is left of them."""
    page = Page("latent.scale_factor", columns=2, panel=(5.4, 4.2))
    left, right = page.axes
    t = torch.linspace(0.02, 0.98, 200, dtype=DOUBLE)
    alpha, sigma, *_ = cosine().kernel(t)
    snr = curve("latent.scale_factor", "snr")
    levels = {"alpha": alpha.numpy(), "sigma": sigma.numpy()}
    for hue, std in ((NOISE, 5.5), (OTHER, 0.2)):
        V = torch.tensor(std**2, dtype=DOUBLE)
        for k, dashes in ((torch.tensor(1.0, dtype=DOUBLE), "-"), (latent.scale_factor(V), "--")):
            scaled = dashes == "--"
            shown: dict[str, Any] = {"color": TRUTH if scaled else hue, "linestyle": dashes}
            law = gaussian("latent", torch.zeros(1), float(V))
            at = torch.zeros(len(t), 1, dtype=DOUBLE)
            share = law.posterior_covariance(at, alpha * k, sigma)[:, 0, 0] / V
            label = "scaled by 1/std" if scaled else f"std(z) = {std:g}, as it is"
            right.plot(t, share, **shown, label=label if not (scaled and hue == OTHER) else None)
            said = snr(k=float(k), V=float(V), **levels)
            left.plot(t, said, **shown, label=label if not (scaled and hue == OTHER) else None)
            points = slice(10, None, 30)
            left.plot(t[points], 1 / share[points] - 1, "o", color=TRUTH if scaled else hue, markersize=4)
    left.set(xlabel="time t, cosine schedule", ylabel="SNR of the noised latent", yscale="log", title="SNR")
    right.set(xlabel="time t, cosine schedule", ylabel=r"Var$(z\,|\,z_t)$ / Var $z$", title="What is left to denoise")
    left.legend(fontsize=9)
    return page.say(
        """Latents of an autoencoder come at any scale, and the SNR is Var z times what the schedule says: of wide
        latents most of the schedule hides next to nothing, of narrow ones it leaves next to nothing. Multiplied by
        1/std(z) both follow the schedule (dashed). Dots: SNR by a Gaussian latent's posterior variance."""
    )


def pixel_latent_discrete() -> Page:
    """Nats of a bin against those of the density, for a normal law: at a point, on average, and with bins laid out."""
    page = Page("latent.pixel_latent_discrete", columns=2, panel=(5.4, 4.2))
    left, right = page.axes
    widths = np.geomspace(0.02, 2, 60)
    tried = np.geomspace(0.02, 2, 13)
    for hue, x in ((DATA, 0.0), (MODEL, 2.0), (OTHER, 1.3)):
        leading = -(x**2 - 1) / 24
        left.plot(widths, abs(leading) * widths**2, color=TRUTH, linestyle="--", linewidth=1.2)
        excess = np.array([_excess(x, d) for d in tried])
        left.plot(tried, np.abs(excess), "o", color=hue, label=f"x = {x:g}, {'cheaper' if leading < 0 else 'dearer'}")
    right.plot(widths, widths**2 / 24, color=TRUTH, linestyle="--", linewidth=1.2, label=r"$d^2/24$")
    right.plot(tried, [_laid_out(d) for d in tried], "o", color=NOISE, label="bins side by side")
    right.plot(tried, [_average(d) for d in tried], "s", color=DATA, label="a bin centred on each datum")
    left.plot([], [], color=TRUTH, linestyle="--", linewidth=1.2, label=r"$|p''|/(24\,p)\;d^2$")
    for axes in page.axes:
        axes.set(xscale="log", yscale="log", xlabel="width d of a bin, in standard deviations")
        axes.legend(fontsize=9)
    left.set(ylabel="| -log P(bin) + log p + log d |, nats", title="At a point")
    right.set(ylabel="the same, on average, nats", title="On average over the data", ylim=(1e-10, 1))
    return page.say(
        """A discrete model of bins and a density compare by -log P(bin) = -log p - log d. Left: for a normal law the
        rest follows the claim's leading term (dashed), of the sign of -p''. Right: on average the terms of order d^2
        cancel if each bin is centred on its datum; bins that lie side by side, as pixel values do, cost
        E score^2/24 d^2 more than the density: 8 bits over 6 standard deviations, 2e-5 nats."""
    )


def _mass(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Of a normal law, between."""
    parts = (torch.special.ndtr(torch.as_tensor(-np.abs(e))) for e in (low, high))
    near, far = (part.numpy() for part in parts)
    same = np.sign(low) == np.sign(high)
    return np.where(same, np.abs(near - far), 1 - near - far)


def _excess(x: np.ndarray | float, d: float) -> np.ndarray:
    """-log P(bin about x) + log p(x) + log d."""
    x = np.asarray(x)
    return -np.log(_mass(x - d / 2, x + d / 2)) - x**2 / 2 - math.log(2 * math.pi) / 2 + math.log(d)


def _average(d: float) -> float:
    """Size of the mean of the excess over the data."""
    x = np.linspace(-8, 8, 40_001)
    return abs(float(np.trapezoid(np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * _excess(x, d), x)))


def _laid_out(d: float) -> float:
    """Entropy of the index of the bin, with an edge at 0, plus log d less the law's entropy."""
    edges = np.arange(-math.ceil(9 / d), math.ceil(9 / d) + 1) * d
    P = torch.as_tensor(_mass(edges[:-1], edges[1:]))
    return float(torch.special.entr(P).sum()) + math.log(d) - math.log(2 * math.pi * math.e) / 2
