r"""The bound of a continuous-time diffusion model, its estimate, and which times to draw for it.

    -log p(x_0) <= prior + reconstruction + int_a^b rate SNR E|x_0 - x0_hat|^2 dt        rate = -half_log_snr'
                 = prior + reconstruction + int_a^b rate E|eps - eps_hat|^2 dt           nats

in time, or per unit of half_log_snr with rate = 1: between the same ends every schedule has the same integral. Over a
grid of steps from t to s the integral is the sum of (SNR_s - SNR_t)/2 E|x_0 - x0_hat|^2 with the prediction made at t.

An estimate draws t from a density p on [a, b] and divides by p(t): unbiased for every p > 0. Its variance is least for
p proportional to sqrt(E[L^2 | t]), L the integrand at one draw. Source: Kingma et al. 2021 (VDM), eq. 11-18.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from diffusion import gaussian
from diffusion.binding import formula, unproved
from diffusion.schedules import Schedule
from diffusion.shapes import per_sample, same_shape
from diffusion.types import Denoiser

Spacing = Literal["independent", "antithetic", "stratified"]


# ---------------------------------------------------------------------------------------------------- the integrand


@formula("vdm.integrand.weight")
def continuous_weight(alpha: Tensor, sigma: Tensor, rate: Tensor) -> Tensor:
    """-SNR'/2 = (alpha/sigma)^2 rate: what |x_0 - x0_hat|^2 costs in nats per unit time; rate = -half_log_snr' > 0."""
    return (alpha / sigma) ** 2 * rate


@formula("vdm.step.weight")
def step_weight(alpha_s: Tensor, sigma_s: Tensor, kappa: Tensor) -> Tensor:
    """(SNR_s - SNR_t)/2 of a step from t to s, kappa = sqrt(SNR_t/SNR_s): nats for |x_0 - x0_hat|^2 (eq. 14)."""
    return (alpha_s / sigma_s) ** 2 * ((1 - kappa) * (1 + kappa)) / 2


@formula("vdm.i_mmse_gaussian.information")
def gaussian_information(s: Tensor, v: Tensor) -> Tensor:
    """Nats that sqrt(s) x_0 + eps tells about x_0 ~ N(0, v): log(1 + v s)/2."""
    return torch.log1p(v * s) / 2


@formula("vdm.i_mmse_gaussian.mmse")
def gaussian_mmse(s: Tensor, v: Tensor) -> Tensor:
    """Variance of x_0 ~ N(0, v) given sqrt(s) x_0 + eps: v/(1 + v s)."""
    return v / (1 + v * s)


# ---------------------------------------------------------------------------------------------------- the bound


@unproved("step_weight along a grid")
def step_weights(schedule: Schedule, times: Float[Tensor, " T+1"]) -> Float[Tensor, " T"]:
    """(SNR(t_(k-1)) - SNR(t_k))/2 for rising times, so that the T-step bound is the sum of step_weights * errors.

    The error of step k is E|x_0 - x0_hat|^2 at t_k, the noisier end. ValueError unless times rise and SNR falls.
    """
    if times.ndim != 1 or len(times) < 2 or not bool((times[1:] > times[:-1]).all()):
        raise ValueError(f"step_weights: times {times.tolist()}, expected [T + 1] rising values, T >= 1")
    alpha, sigma = schedule.alpha(times), schedule.sigma(times)
    kappa = alpha[1:] * sigma[:-1] / (alpha[:-1] * sigma[1:])
    if not bool((sigma[0] > 0) & (kappa < 1).all()):
        raise ValueError(f"step_weights: SNR of {schedule.name!r} must be finite at t = {times[0]} and fall from there")
    return step_weight(alpha[:-1], sigma[:-1], kappa)


@unproved("one draw of the integral's estimate; its mean over the generator is the bound's diffusion part")
def diffusion_loss(
    denoiser: Denoiser,
    schedule: Schedule,
    x_0: Float[Tensor, "batch dim"],
    t: Float[Tensor, " batch"],
    density: Float[Tensor, " batch"],
    generator: torch.Generator,
) -> Float[Tensor, " batch"]:
    """rate SNR |x_0 - denoiser(x_t, t)|^2 / density, nats for each point, x_t ~ q(x_t | x_0) drawn here.

    t has been drawn with the given density (see `times`), density 1/(b - a) for uniform t on [a, b].
    """
    same_shape(t=t, density=density)
    if x_0.ndim != 2:
        raise ValueError(f"diffusion_loss: x_0 {list(x_0.shape)}, expected [batch, dim]; flatten an image")
    kernel = schedule.kernel(t)
    noise = torch.randn(x_0.shape, dtype=x_0.dtype, device=x_0.device, generator=generator)
    x_t = per_sample(kernel.alpha, x_0) * x_0 + per_sample(kernel.sigma, x_0) * noise
    denoised = denoiser(x_t, t)
    same_shape(x_0=x_0, denoised=denoised)
    error = (x_0 - denoised).square().sum(1)
    weight = continuous_weight(kernel.alpha, kernel.sigma, -schedule.half_log_snr_dot(t))
    return weight.to(error) * error / density.to(error)


# ---------------------------------------------------------------------------------------------------- times


@unproved("draws; tested for their law and for the variance they save")
def spaced(n: int, generator: torch.Generator, spacing: Spacing = "stratified") -> Float[Tensor, " n"]:
    """n numbers, each uniform on [0, 1): independent; in pairs u, 1 - u; or one offset for a lattice of n (eq. 46).

    Dependence changes no mean. Of a smooth integrand antithetic pairs take the odd part away, and the lattice lowers
    the standard deviation of the sum's mean to order 1/n from 1/sqrt(n).
    """
    if spacing not in get_args(Spacing):
        raise ValueError(f"spaced: spacing {spacing!r}, expected {', '.join(get_args(Spacing))}")
    if n < 1 or (spacing == "antithetic" and n % 2):
        raise ValueError(f"spaced: n = {n} {spacing} times, expected n >= 1, and an even n for pairs")
    if spacing == "stratified":
        offset = torch.rand(1, dtype=torch.float64, generator=generator, device=generator.device)
        return (offset + torch.arange(n, dtype=torch.float64, device=offset.device) / n) % 1
    drawn = n if spacing == "independent" else n // 2
    u = torch.rand(drawn, dtype=torch.float64, generator=generator, device=generator.device)
    return u if spacing == "independent" else torch.cat([u, 1 - u])


class TimeDensity:
    """A density of t, constant on cells: edges [cells + 1] rising, weight [cells] > 0, in any unit.

    `TimeDensity.of_losses` makes the one of least variance from recorded losses.
    """

    def __init__(self, edges: Float[Tensor, " cells+1"], weight: Float[Tensor, " cells"]) -> None:
        edges, weight = edges.double().contiguous(), weight.double()
        rising = edges.ndim == 1 and bool((edges[1:] > edges[:-1]).all() and edges.isfinite().all())
        if not rising or weight.shape != (len(edges) - 1,):
            raise ValueError(
                f"TimeDensity: edges {list(edges.shape)}, weight {list(weight.shape)}; finite rising edges wanted"
            )
        if not bool((weight > 0).all() and weight.isfinite().all()):
            raise ValueError(f"TimeDensity: weights must be positive and finite, got {weight.tolist()[:8]}")
        self.edges = edges
        self.mass = weight * edges.diff() / (weight * edges.diff()).sum()  # of each cell
        self._below = torch.cat([edges.new_zeros(1), self.mass.cumsum(0)])

    @classmethod
    def uniform(cls, start: float, end: float) -> TimeDensity:
        """1/(end - start)."""
        return cls(torch.tensor([start, end], dtype=torch.float64), torch.ones(1, dtype=torch.float64))

    @classmethod
    def of_losses(
        cls, edges: Float[Tensor, " cells+1"], t: Float[Tensor, " n"], loss: Float[Tensor, " n"]
    ) -> TimeDensity:
        """The density of least variance, sqrt(E[L^2 | t]), from losses L recorded at times t (not divided by any p).

        In a cell: the root of the mean square. ValueError where a cell has no record, or losses of 0 alone, and where a
        loss is not finite.
        """
        same_shape(t=t, loss=loss)
        if not bool(loss.isfinite().all()):
            lost = torch.nonzero(~loss.isfinite()).flatten().tolist()
            raise ValueError(f"TimeDensity.of_losses: losses number {lost[:8]} are not finite; leave them out")
        cell = torch.bucketize(t.double(), edges.double().contiguous()[1:-1], right=True)
        cells = len(edges) - 1
        count = torch.zeros(cells, dtype=torch.float64).index_add_(0, cell, torch.ones_like(t, dtype=torch.float64))
        squares = torch.zeros(cells, dtype=torch.float64).index_add_(0, cell, loss.double() ** 2)
        if not bool((squares > 0).all()):
            empty = torch.nonzero(squares == 0).flatten().tolist()
            raise ValueError(f"TimeDensity.of_losses: no loss above 0 in cells {empty[:8]} of {cells}; record more")
        return cls(edges, (squares / count).sqrt())

    @unproved("looks up a cell")
    def at(self, t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """p(t), for t within the edges, both ends included, as rounded to t's dtype. ValueError outside."""
        low, high = self.edges[[0, -1]].to(t)
        if not bool(((t >= low) & (t <= high)).all()):
            raise ValueError(
                f"TimeDensity.at: times {t.min():.6g} to {t.max():.6g} outside of the edges, {low:.6g} to {high:.6g}"
            )
        cell = torch.bucketize(t.double(), self.edges[1:-1], right=True)
        return (self.mass / self.edges.diff())[cell].to(t)

    @unproved("the inverse of the distribution function, linear within a cell")
    def times(self, u: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """t from u uniform on [0, 1), see `spaced`."""
        cell = torch.bucketize(u.double(), self._below[1:-1], right=True)
        inside = (u.double() - self._below[cell]) / self.mass[cell]
        return (self.edges[cell] + inside * self.edges.diff()[cell]).clamp(self.edges[0], self.edges[-1])


# ---------------------------------------------------------------------------------------------------- the whole


@unproved("one draw of vdm.continuous_bound, of its bound parts")
def nelbo(
    denoiser: Denoiser,
    schedule: Schedule,
    x_0: Float[Tensor, "batch dim"],
    p: TimeDensity,
    generator: torch.Generator,
    spacing: Spacing = "stratified",
) -> Float[Tensor, "3 batch"]:
    """Prior, diffusion, reconstruction: nats for each point; their sum is one draw of a bound on -log p(x_0).

    a and b are the ends of p. The model starts from N(0, I), which wants alpha^2 + sigma^2 near 1 at b, and ends with
    the decoder N(x_0; x_a/alpha, sigma^2/alpha^2), whose mean loss is the entropy of that, whatever x_0 is.
    """
    a, b = p.edges[0], p.edges[-1]
    if not bool(schedule.sigma(a) > 0):
        raise ValueError(f"nelbo: at a = {a:.6g}, the first edge of p, {schedule.name!r} has sigma = 0: begin later")
    t = p.times(spaced(len(x_0), generator, spacing))
    diffusion = diffusion_loss(denoiser, schedule, x_0, t, p.at(t), generator)
    alpha, sigma = schedule.alpha(b).to(x_0), schedule.sigma(b).to(x_0)
    prior = gaussian.kl(alpha * x_0, sigma**2, x_0.new_zeros(()), x_0.new_ones(())).sum(1)
    width = gaussian.entropy((schedule.sigma(a) / schedule.alpha(a)).to(x_0) ** 2)
    return torch.stack([prior, diffusion, (x_0.shape[1] * width).expand(len(x_0))])
