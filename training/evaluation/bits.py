r"""Bits per dimension of images by a trained denoiser: what coding a pixel would take with the model, by two bounds.

**Variational.** A chain of T noise levels up to `latest`, equally far apart in log(alpha/sigma), of Gaussian steps,
with a discretised Gaussian decoder at its end: `ddpm.variational_bound`, in nats of the levels themselves. The bound is
that of a variance-preserving chain; x_t of any schedule is one, scaled:

    y = x_t / s = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps,      s^2 = alpha^2 + sigma^2,  alpha_bar = (alpha/s)^2

It begins where sigma/alpha is the width of a bin (`first_time`): from noise far below it each pixel pays the log of
width/sigma for where in its bin the noise has put it, which says nothing of the image; Ho et al. begin at 0.01, bins
being 0.008 wide. Each step has the best one variance for all pixels, `ddpm.optimal_variance`, from the denoiser's mean
squared error there; on images of training, so that on others the bound stays one.

**By the flow.** The probability-flow ODE has a density, so the levels are first spread over their bins: with u uniform
in [-1/2, 1/2]^d and b the width of a bin, Jensen's inequality gives

    -log P(x) = -log \int p(x + b u) b^d du <= -E log p(x + b u) - d log b              nats    (Theis et al. 2016)

The ODE is followed from the time `earliest`, a = alpha(earliest), where its law is taken for that of a x:
log p(x) = log p_earliest(a x) + d log a. Its trace is Hutchinson's estimate, unbiased for log p.

Both are means over images, of one draw each: the limits are Student's and hold the noise of the draws.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from diffusion import ddpm, grids, likelihood, schedules
from diffusion.model import Denoiser
from diffusion.schedules import Schedule
from training.data import pixels

LEVELS = 256
TOLERANCE = 1e-3  # of the ODE: a trained network's bits move by 0.002 from here to 1e-4, its cost doubles


def first_time(schedule: Schedule, earliest: float, width: float = pixels.BIN) -> float:
    """The time at which sigma/alpha is the width of a bin; `earliest`, where a network has begun to learn, if later."""
    wanted = -math.log(width)
    finest = float(schedule.half_log_snr(torch.tensor(earliest, dtype=torch.float64)))
    return earliest if finest <= wanted else float(schedule.time_of(torch.tensor(wanted, dtype=torch.float64)))


class Chain:
    """A denoiser under a schedule as a variance-preserving chain of flat points, for `ddpm.variational_bound`."""

    def __init__(self, schedule: Schedule, T: int, first: float, latest: float) -> None:
        self.times = grids.log_snr(schedule, T - 1, latest, first).flip(0)
        alpha, sigma = schedule.alpha(self.times), schedule.sigma(self.times)
        self.scale = torch.hypot(alpha, sigma)
        self.alpha_bar = torch.cat([alpha.new_ones(1), (alpha / self.scale) ** 2])
        self.betas = schedules.betas_from(self.alpha_bar)

    def model(self, denoiser: Denoiser, shape: tuple[int, ...]) -> Denoiser:
        """(y, k/T) -> E[x_0 | y], points [batch, d], float64; the denoiser itself is called in float32."""

        def predict(y: Tensor, t: Tensor) -> Tensor:
            k = round(float(t) * len(self.times)) - 1
            x = (self.scale[k] * y).reshape(-1, *shape).float()
            return denoiser(x, self.times[k].to(x.device)).flatten(1).double()

        return predict

    def variances(self, denoiser: Denoiser, x_0: Tensor, generator: Generator) -> Tensor:
        """The best variance of each step, [T]; the first is the decoder's."""
        points, predict = x_0.flatten(1).double(), self.model(denoiser, tuple(x_0.shape[1:]))
        errors = []
        for k, alpha_bar in enumerate(self.alpha_bar[1:].tolist(), start=1):
            noise = torch.randn(points.shape, generator=generator, dtype=points.dtype, device=points.device)
            y = math.sqrt(alpha_bar) * points + math.sqrt(1 - alpha_bar) * noise
            errors.append((points - predict(y, torch.tensor(k / len(self.times)))).square().mean().cpu())
        return ddpm.optimal_variance(self.alpha_bar[:-1], self.betas, torch.stack(errors))

    def bits(
        self, denoiser: Denoiser, Sigma: Tensor, x_0: Tensor, generator: Generator, levels: int = LEVELS
    ) -> Tensor:
        """Bits per dimension of images [n, ...] on the levels 2 k/(levels - 1) - 1: one draw of the bound each, [n]."""
        points = x_0.flatten(1).double()
        betas, Sigma = self.betas.to(points.device), Sigma.to(points.device)
        predict = self.model(denoiser, tuple(x_0.shape[1:]))
        terms = ddpm.variational_bound(predict, points, betas, Sigma, generator, levels)
        return ddpm.bits_per_dim(terms.sum(0), points.shape[1]).cpu()


def by_flow(
    denoiser: Denoiser,
    schedule: Schedule,
    x_0: Tensor,
    generator: Generator,
    earliest: float,
    std: float,
    probes: int | None = 1,
    width: float = pixels.BIN,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """Bits per dimension of images [n, ...] whose levels are `width` apart, spread over their bins: one draw each, [n].

    std      of the data, which the law at t = 1 is taken to have.
    probes   of Hutchinson's estimate for each image; None: the exact trace, one backward pass a pixel.
    """
    d = x_0[0].numel()
    u = torch.rand(x_0.shape, generator=generator, dtype=x_0.dtype, device=x_0.device) - 0.5
    a = float(schedule.alpha(torch.tensor(earliest, dtype=torch.float64)))
    prior = likelihood.gaussian_prior(schedule, 0.0, std**2)
    log_p = likelihood.log_likelihood(
        denoiser, schedule, a * (x_0 + width * u), start=earliest, probes=probes, generator=generator,
        log_prior=prior, rtol=tolerance, atol=tolerance,
    )  # fmt: skip
    return bits_of_density(log_p.double() + d * math.log(a), d, width).cpu()


def bits_of_density(log_p: Tensor, d: int, width: float = pixels.BIN) -> Tensor:
    """Bits per dimension of levels `width` apart, from log densities in nats at points spread over their bins."""
    return ddpm.bits_per_dim(-(log_p + d * math.log(width)), d)
