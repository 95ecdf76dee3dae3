r"""Latent diffusion on worlds: bounds against optimisers and quadratures, codebooks, bins, turned pixels.

Nothing here is statistical: Gaussians by linear algebra, integrals by quadrature, laws on the line by their
distribution function, gradients by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from diffusion import gaussian, latent, vdm
from diffusion.schedules import cosine
from toy import line
from toy import mixture as law_of
from toy.mixture import Mixture
from toy.points import Points
from toy.ppca import mean_bound
from toy.world import World
from verify.checks.chains import scalar
from verify.checks.vae import _covariance, _largest, _linear, _random
from verify.checks.vdm import legendre
from verify.statistics import exact
from verify.worlds import Outcome, world_check

# ---------------------------------------------------------------------------------------------------------- the bound


@world_check("latent.ppca_bound", "latent.ppca", "latent.bound", worlds=("ppca",))
def latent_ppca(world: World, generator: Generator) -> Iterator[Outcome]:
    """Any linear model along the eigenvectors: its bound, its gap, and where gradient ascent on all of it ends.

    A prior N(0, tau) of z is N(0, 1) for z/sqrt(tau), which is what the world's own bound knows.
    """
    law = _linear(world)
    covariance = _covariance(law)
    l, U = torch.linalg.eigh(covariance)
    v = scalar(law.v)
    entropy = torch.logdet(2 * math.pi * math.e * covariance) / 2
    w, a = (_random(law.dim, generator=generator) for _ in range(2))
    c, tau = (_random(law.dim, generator=generator).exp() for _ in range(2))
    mine = latent.linear_bound(a, c, w, v, tau, l).sum()
    scaled = mean_bound(U * w * tau.sqrt(), (U * a / tau.sqrt()).T, torch.diag(c / tau), law.v, covariance)
    yield "closed form", exact(float((mine + scaled).abs()), 1e-10, "nats")
    slope, variance = latent.encoder_slope(w, v, tau), latent.encoder_variance(w, v, tau)
    total = w**2 * tau + v
    zero = torch.zeros_like(l)
    gap = gaussian.kl(zero, l, zero, total) + gaussian.kl((a - slope) * l.sqrt(), c, zero, variance)
    yield "gap", exact(float((mine - entropy - gap.sum()).abs()), 1e-10, "nats")

    alive = (l - v).clamp(min=0)
    tau = torch.full_like(l, 2.0)
    w = (alive / tau).sqrt()
    best = latent.linear_bound(
        latent.encoder_slope(w, v, tau), latent.encoder_variance(w, v, tau), w, v, tau, w**2 * tau + v
    )
    yield "tight at the optimum", exact(float((best.sum() - entropy).abs()), 1e-10, "nats")
    free = [_random(law.dim, generator=generator).requires_grad_() for _ in range(4)]
    reached = _largest(
        lambda: -latent.linear_bound(free[0], free[1].exp(), free[2], v, free[3].exp(), l).sum(), free, 100
    )
    yield "by gradient ascent", exact(abs(reached + float(entropy)), 1e-6, "nats")


@world_check("latent.gaussian_nelbo", worlds=("gaussian",))
def latent_nelbo(world: World, generator: Generator) -> Iterator[Outcome]:
    """A Gaussian latent of each of the world's variances pays -log p(z) at each z, whatever the finest SNR.

    Prior term, integral of the exact denoiser's error, reconstruction by the exact decoder N(D, posterior variance),
    by quadrature over noise and time.
    """
    assert isinstance(world, Mixture)
    x, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(10))
    weights, zero = weights / weights.sum(), torch.zeros(3, dtype=torch.float64)
    z = torch.tensor([-1.3, 0.4, 2.0], dtype=torch.float64)
    for V in world.variances[0]:
        law = law_of.gaussian("latent", torch.zeros(1), float(V))
        for fine in (0.5, 2.0):
            times = cosine().time_of(torch.tensor([fine, -5.0], dtype=torch.float64))
            t, dt = legendre(float(times[0]), float(times[1]), 40)
            alpha, sigma, *_ = cosine().kernel(t)
            weight = dt * vdm.continuous_weight(alpha, sigma, -cosine().half_log_snr_dot(t))
            paid = weight @ torch.stack([_error(law, z, a, s, x) @ weights for a, s in zip(alpha, sigma, strict=True)])
            alpha, sigma, *_ = cosine().kernel(times)
            far = (alpha[1] * z, (sigma[1] ** 2).expand(3), zero, (alpha[1] ** 2 * V + sigma[1] ** 2).expand(3))
            spread = law.posterior_covariance(zero[:1, None], float(alpha[0]), float(sigma[0]))[0, 0, 0]
            decoder = -(_error(law, z, alpha[0], sigma[0], x) / spread + torch.log(2 * math.pi * spread)) / 2
            nelbo = gaussian.kl(*far) + paid - decoder @ weights
            missed = (nelbo + law.log_density(z[:, None])).abs().max()
            yield f"variance {float(V):.2f}, half_log_snr to {fine:g}", exact(float(missed), 1e-9, "nats")


def _error(law: World, z: Tensor, alpha: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """(z - D(alpha z + sigma eps))^2 for each z and each node of the noise."""
    seen = alpha * z[:, None] + sigma * noise
    denoised = law.denoiser(seen.reshape(-1, 1), float(alpha), float(sigma)).reshape(seen.shape)
    return (z[:, None] - denoised) ** 2


@world_check("latent.rate_information", "latent.rate_distortion", worlds=("ppca",))
def rates(world: World, generator: Generator) -> Iterator[Outcome]:
    """Linear models in each direction: R - I and D + R - H are the divergences that the claims name, and none below 0.

    The decoder is linear, the prior N(0, tau), both at random; information and entropy from covariances.
    """
    law = _linear(world)
    l = torch.linalg.eigvalsh(_covariance(law))
    a, w = (_random(20, len(l), generator=generator) for _ in range(2))
    c, tau = (_random(20, len(l), generator=generator).exp() for _ in range(2))
    zero, v = torch.zeros_like(a), scalar(law.v)
    rate = gaussian.kl(a * l.sqrt(), c, zero, tau)
    aggregate = a**2 * l + c
    information = vdm.gaussian_information(a**2 / c, l.expand_as(a))
    missed = rate - information - gaussian.kl(zero, aggregate, zero, tau)
    yield "R - I", exact(float(missed.abs().max()), 1e-10, "nats")
    entropy = torch.log(2 * math.pi * math.e * l) / 2
    bound = latent.linear_bound(a, c, w, v, tau, l.expand_as(a))
    distortion = bound - rate
    direct = (torch.log(2 * math.pi * v) + ((1 - w * a) ** 2 * l + w**2 * c) / v) / 2
    yield "D", exact(float((distortion - direct).abs().max()), 1e-10, "nats")
    yield "D + R >= H", exact(float((entropy - bound).max()), 0.0, "nats below the entropy")
    yield "R >= I", exact(float((information - rate).max()), 0.0, "nats below the information")


# --------------------------------------------------------------------------------------------------- the scale factor


@world_check("latent.scale_factor", worlds=("gaussian",))
def scaled_latents(world: World, generator: Generator) -> Iterator[Outcome]:
    """Latents of the world's variances, noised by a schedule: what is left of the variance is 1/(1 + SNR)."""
    assert isinstance(world, Mixture)
    alpha, sigma, *_ = cosine().kernel(scalar(0.4))
    origin = torch.zeros(1, 1, dtype=torch.float64)
    for V in world.variances[0]:
        unscaled = law_of.gaussian("latent", torch.zeros(1), float(V))
        for name, k in (("scaled", latent.scale_factor(V)), ("as it is", scalar(1.0)), ("scaled twice", 2 / V.sqrt())):
            left = unscaled.posterior_covariance(origin, float(alpha * k), float(sigma))[0, 0, 0] / V
            missed = (left - 1 / (1 + latent.snr(k, V, alpha, sigma))).abs()
            yield f"variance {float(V):.2f}, {name}", exact(float(missed), 1e-12, "share of the variance left")
        schedule = torch.exp(2 * cosine().half_log_snr(scalar(0.4)))
        off = (latent.snr(latent.scale_factor(V), V, alpha, sigma) / schedule - 1).abs()
        yield f"variance {float(V):.2f}, the schedule's", exact(float(off), 1e-12, "relative error of the SNR")


# --------------------------------------------------------------------------------------------------------- codebooks


@world_check("latent.straight_through", "latent.commitment", worlds=("points",))
def codebook_gradients(world: World, generator: Generator) -> Iterator[Outcome]:
    """The corners of the pentagon for a codebook: values are codes, gradients those of the loss there, pulls beta."""
    assert isinstance(world, Points)
    z = _random(40, 2, generator=generator)
    q = latent.nearest_code(z, world.points)
    with torch.enable_grad():
        at_z, at_q = z.clone().requires_grad_(), q.clone().requires_grad_()
        y = latent.straight_through(at_z, latent.nearest_code(at_z, world.points))
        (through,), (there,) = (
            torch.autograd.grad(torch.sin(value).prod(1).sum(), at) for value, at in ((y, at_z), (at_q, at_q))
        )
    yield "value", exact(float((y - q).abs().max()), 0.0, "distance to the code")
    yield "gradient", exact(float((through - there).abs().max()), 0.0, "gradient")
    apart = torch.cdist(z, world.points).min(1).values
    yield "nearest", exact(float(((z - q).norm(dim=1) - apart).abs().max()), 1e-12, "distance")
    for beta in (0.25, 1.0):
        with torch.enable_grad():
            at_z, at_e = z.clone().requires_grad_(), q.clone().requires_grad_()
            loss = latent.commitment_loss(at_z, at_e, scalar(beta)).sum()
            of_z, of_e = torch.autograd.grad(loss, (at_z, at_e))
        yield f"ratio, beta = {beta:g}", exact(float((of_z + beta * of_e).abs().max()), 1e-14, "gradient")
        yield f"pull, beta = {beta:g}", exact(float((of_e - 2 * (q - z)).abs().max()), 1e-14, "gradient")
        yield f"value, beta = {beta:g}", exact(float((loss - (1 + beta) * (apart**2).sum()).abs()), 1e-10, "loss")


# ------------------------------------------------------------------------------------------- pixels, latents and bins


@world_check("latent.pixel_latent_discrete", worlds=("bimodal",))
def bins(world: World, generator: Generator) -> Iterator[Outcome]:
    """Nats of a bin from the distribution function: what -log p - log d leaves, over d^2, is -p''/(24 p), and O(d^2).

    On average over the data it leaves nothing at this order; bins that lie fixed leave E score^2/24 d^2.
    """
    assert isinstance(world, Mixture)
    x = torch.linspace(-1.6, 1.6, 33, dtype=torch.float64)
    score, step = world.score(x[:, None])[:, 0], 1e-4
    bend = (world.score(x[:, None] + step) - world.score(x[:, None] - step))[:, 0] / (2 * step) + score**2
    errors = []
    for d in (0.04, 0.02, 0.01):
        left = excess(world, x, d) / d**2
        errors.append(float((left + bend / 24).abs().max()))
        yield f"d = {d:g}", exact(errors[-1] / float(bend.abs().max()), d**2 / 2, "error over the greatest p''/p")
    order = math.log2(errors[0] / errors[1])
    yield "next order", exact(abs(order - 2), 0.1, "distance to 2 of the order of what is left over d^2")
    grid, p = _density(world)
    centred = float(torch.trapezoid(p * excess(world, grid, 0.05), grid)) / 0.05**2
    yield "on average", exact(abs(centred), 0.02, "nats over d^2")
    information = float(torch.trapezoid(p * world.score(grid[:, None])[:, 0] ** 2, grid))
    for d in (0.05, 0.025):
        relative = fixed_bins(world, d) / (information / 24 * d**2) - 1
        yield f"fixed bins, d = {d:g}", exact(abs(relative), 12 * d**2, "relative error")


def excess(world: Mixture, x: Tensor, d: float) -> Tensor:
    """-log P(bin of width d about x) + log p(x) + log d, nats."""
    inside = line.distribution(world, x + d / 2) - line.distribution(world, x - d / 2)
    return world.log_density(x[:, None]) - torch.log(inside / d)


def fixed_bins(world: Mixture, d: float) -> float:
    """Entropy of the index of the bin, of bins laid side by side, plus log d less the differential entropy; nats."""
    edges = torch.arange(-400, 401, dtype=torch.float64) * d
    P = line.distribution(world, edges).diff()
    return float(torch.special.entr(P).sum()) + math.log(d) - world.entropy()


def _density(world: Mixture) -> tuple[Tensor, Tensor]:
    grid = torch.linspace(-1.9, 1.9, 4001, dtype=torch.float64)
    return grid, world.log_density(grid[:, None]).exp()


@world_check("latent.orthogonal", worlds=("gaussian", "anisotropic", "ring"))
def turned_pixels(world: World, generator: Generator) -> Iterator[Outcome]:
    """Latents k Q x: their density, denoiser and weighted error at equal SNR, against the pixels'; any world."""
    assert isinstance(world, Mixture)
    x_0 = world.sample(100, generator)
    eps = _random(100, 2, generator=generator)
    for k, angle in ((1.0, 0.7), (0.4, 2.0)):
        turn = k * torch.tensor(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
        )
        covariance = torch.stack([_of_component(world, i) for i in range(len(world.weights))])
        turned = turn @ covariance @ turn.T
        latents = Mixture("latents", world.weights, world.means @ turn.T, (turned + turned.mT) / 2)
        nats = (world.log_density(x_0) - latents.log_density(x_0 @ turn.T) - 2 * math.log(k)).abs().max()
        yield f"k = {k:g}, density", exact(float(nats), 1e-10, "nats")
        alpha, sigma = 0.8, 0.6
        x = alpha * x_0 + sigma * eps
        of_pixel, of_latent = world.denoiser(x, alpha, sigma), latents.denoiser(x @ turn.T, alpha, k * sigma)
        yield f"k = {k:g}, denoiser", exact(float((of_pixel @ turn.T - of_latent).abs().max()), 1e-10, "denoised")
        paid = (x_0 - of_pixel).square().sum(1) - (x_0 @ turn.T - of_latent).square().sum(1) / k**2
        yield f"k = {k:g}, SNR times the error", exact(float(paid.abs().max()), 1e-10, "over the pixels' SNR")


def _of_component(world: Mixture, i: int) -> Tensor:
    basis = torch.eye(world.dim, dtype=torch.float64) if world.basis is None else world.basis[i]
    return basis * world.variances[i] @ basis.T
