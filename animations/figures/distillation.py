"""Figures of `theory/distillation.py`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from animations.figures.page import DATA, MODEL, NOISE, OTHER, QUIET, TRUTH, Page
from diffusion import distillation as distil
from toy.flow import trajectory
from toy.worlds import bimodal

SIGMA_MIN = 0.05
STEPS = np.geomspace(2e-3, 0.3, 12)


def student(theta: Tensor) -> distil.Network:
    """A smooth consistency function on the line, of one weight."""
    return distil.consistency_function(lambda x, c: theta * torch.tanh(2 * x) + torch.sin(c)[:, None], 1.0, SIGMA_MIN)


def both(x: Tensor, level: Tensor, h: float) -> tuple[Tensor, Tensor]:
    """(gradient, loss) of training and of distillation at x: summed over the noise given x, by the trapezoid rule."""
    world, d = bimodal(), torch.tensor(h, dtype=torch.float64)
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x_0 = torch.linspace(-2.5, 2.5, 2001, dtype=torch.float64)[:, None]
    weight = torch.softmax(world.log_density(x_0) - ((x - x_0) ** 2).squeeze(1) / (2 * level**2), 0)
    f = student(theta)
    trained = weight @ distil.consistency_training_loss(f, x_0, (x - x_0) / level, level, d)
    taught = distil.consistency_distillation_loss(f, lambda x, s: world.denoiser(x, 1.0, s), x[None], level, d).sum()
    found = [torch.stack((torch.autograd.grad(loss, theta)[0], loss.detach())) for loss in (trained, taught)]
    return found[0], found[1]


def leading(x: Tensor, level: Tensor) -> tuple[float, float]:
    """-f_theta f_xx Var(eps | x) and f_x^2 Var(eps | x)."""
    variance = float(bimodal().posterior_covariance(x[None], 1.0, level)) / float(level) ** 2

    def f(theta: Tensor, x: Tensor) -> Tensor:
        return student(theta)(x[None], level)[0, 0]

    at = torch.tensor(0.7, dtype=torch.float64), x
    by_theta, by_x = (torch.func.jacrev(f, argnums=i)(*at) for i in (0, 1))
    curved = torch.func.hessian(f, argnums=1)(*at)
    return -float(by_theta * curved) * variance, float(by_x) ** 2 * variance


def consistency_training() -> Page:
    """Training less distillation: the gradient over h falls like h, the loss over h^2 stays."""
    page = Page("distillation.consistency_training", columns=2, panel=(5.6, 4.4))
    left, right = page.axes
    x = torch.tensor([0.9], dtype=torch.float64)
    for hue, level in ((DATA, 0.4), (OTHER, 0.8), (MODEL, 2.0)):
        sigma = torch.tensor(level, dtype=torch.float64)
        pairs = [both(x, sigma, float(h)) for h in STEPS]
        gap = np.array([abs(float(trained[0] - taught[0])) for trained, taught in pairs])
        slope, _ = leading(x, sigma)
        left.loglog(STEPS, gap / STEPS, "o", color=hue, label=rf"$\sigma$ = {level}")
        left.loglog(STEPS, abs(slope) * STEPS, color=TRUTH, linestyle="--", linewidth=1.2)

    left.plot([], [], color=TRUTH, linestyle="--", linewidth=1.2, label="leading term of the claim")
    sigma = torch.tensor(0.8, dtype=torch.float64)
    pairs = [both(x, sigma, float(h)) for h in STEPS]
    for hue, name, of in ((NOISE, "training", 0), (DATA, "distillation", 1)):
        losses = [float(pair[of][1]) / h**2 for pair, h in zip(pairs, STEPS, strict=True)]
        right.semilogx(STEPS, losses, "o-", color=hue, label=name)
    end = float(pairs[0][1][1]) / STEPS[0] ** 2
    right.axhline(end + leading(x, sigma)[1], color=TRUTH, linestyle="--", linewidth=1.2)
    right.annotate(
        "", (2.4e-3, end + leading(x, sigma)[1]), (2.4e-3, end), arrowprops={"arrowstyle": "<->", "color": QUIET}
    )
    right.text(2.7e-3, end + leading(x, sigma)[1] / 2, r"$f_x^2\,\mathrm{Var}(\varepsilon\,|\,x)$", color=QUIET)
    left.set(
        xlabel="step h in sigma",
        ylabel="difference of the gradients / h",
        title="Targets held: the same, at first order",
    )
    right.set(
        xlabel="step h in sigma", ylabel=r"loss / $h^2$", title="The losses themselves: not the same", ylim=(0, None)
    )
    left.legend(fontsize=9)
    right.legend(fontsize=9, loc="center right")
    return page.say(
        """Two modes on the line, at x = 0.9: consistency training steps along the pair's own noise, distillation along
        the exact score. Left: with the target held, their gradients over h differ by O(h), and no faster (dots:
        summed over the noise given x); at sigma = 0.4 the next orders are of the other sign and soon as large. Right:
        as losses, at sigma = 0.8, they differ where they begin: without the stop-gradient training is paid for a
        function that ignores x."""
    )


def consistency_boundary() -> Page:
    """Paths of the flow, and three functions that are constant along each of them."""
    page = Page("distillation.consistency_boundary", columns=2, panel=(5.6, 4.4))
    left, right = page.axes
    world, levels = bimodal(), torch.logspace(np.log10(3.0), np.log10(SIGMA_MIN), 60, dtype=torch.float64)
    start = torch.linspace(-5, 5, 121, dtype=torch.float64)[:, None]
    paths = trajectory(world, start, torch.ones_like(levels), levels)[..., 0].numpy()
    sigmas = levels.numpy()
    for i in range(0, 121, 8):
        left.plot(paths[:, i], sigmas, color=DATA, linewidth=1.0)
    ends = paths[-1]
    left.plot(ends[::8], np.full(len(ends[::8]), SIGMA_MIN), "o", color=MODEL, label=r"f: the point at $\sigma_{min}$")

    x = start[:, 0].numpy()
    right.plot(x, ends, color=MODEL, label=r"f = x at $\sigma_{min}$")
    for hue, name, values in ((NOISE, "a constant", 0 * ends), (OTHER, r"$g(f)$, here $\sin(2 f)$", np.sin(2 * ends))):
        right.plot(x, values, color=hue, label=f"{name}: no boundary")
    closed = distil.gaussian_consistency(start[:, 0], levels[0], SIGMA_MIN, 1.0).numpy()
    right.plot(x, closed, color=QUIET, linewidth=1.0, linestyle=":", label="f for one Gaussian of that variance")
    left.set(xlabel="x", ylabel=r"$\sigma$", yscale="log", ylim=(0.04, 8), title="Paths of the flow, two modes")
    right.set(xlabel=r"x at $\sigma$ = 3", ylabel="value", title="Three functions constant along every path")
    left.legend(fontsize=9, loc="upper left")
    right.legend(fontsize=9, loc="upper left")
    right.set_ylim(-1.6, 3.0)
    return page.say(
        """Left: every path ends at one point, which is the exact consistency function's value all along it. Right:
        so is any function of that point, a constant as well, and self-consistency costs them nothing; the boundary
        condition, c_skip = 1 and c_out = 0 at sigma_min, leaves the one that says where the path ends."""
    )
