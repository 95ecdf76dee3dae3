r"""Langevin correctors: steps that stay at one noise level and mend what the sampler got wrong there.

    step           x + h score + sqrt(2 h) z,    z ~ N(0, I)
    length         h = 2 (r |z|/|score|)^2,      r the signal-to-noise ratio of a step, 0.16 in the paper
                   norms over the whole batch: h must not depend on a sample's own noise (see `step_length`)
    on N(0, v)     variance w becomes v/(1 - A) + (1 - 2 A)^(2 n) (w - v/(1 - A)) in n steps,    A = h/(2 v) < 1

The chain would keep the law exactly if steps were infinitely short. At length h it settles at the variance
v/(1 - h/(2 v)) instead, too wide by the factor 1/(1 - r^2) at any noise level, and diverges from h = 2 v on.

All functions act elementwise but `step_length` and `correct`. Source: Song et al. 2021 (arXiv 2011.13456), algorithms
4 and 5.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from diffusion.binding import formula, unproved
from diffusion.shapes import same_rank, same_shape
from diffusion.types import Real


@formula("sde.corrector_bias.step")
def corrector_step(x: Real, score: Real, z: Real, h: Real) -> Real:
    """x + h score + sqrt(2 h) z: one step of length h, z standard normal."""
    same_rank(x, score, z, h)
    return x + h * score + torch.sqrt(2 * h) * z


@formula("sde.corrector_bias.stationary")
def stationary_variance(v: Real, A: Real) -> Real:
    """v/(1 - A): where the chain's variance settles on N(0, v), A = h/(2 v)."""
    return v / (1 - A)


@formula("sde.corrector_bias.after")
def variance_after(w: Real, v: Real, A: Real, n: Real) -> Real:
    """The chain's variance on N(0, v) after n steps from variance w: v/(1 - A) + (1 - 2 A)^(2 n) (w - v/(1 - A))."""
    log_kept = 2 * n * torch.log1p(-2 * torch.minimum(A, 1 - A))  # of (1 - 2 A)^(2 n), the same for A and 1 - A
    return torch.exp(log_kept) * w - torch.expm1(log_kept) * stationary_variance(v, A)


@unproved("a ratio of two norms; sde.corrector_snr says what it comes to on a Gaussian")
def step_length(score: Float[Tensor, "batch ..."], z: Float[Tensor, "batch ..."], r: float) -> Float[Tensor, ""]:
    """h = 2 (r |z|/|score|)^2, 0 < r < 1, norms over all of the batch: one length for all samples.

    The paper's text takes each sample's own norms, its code their batch means. With norms of their own a loud z gets a
    long step and so does a small x, and in d dimensions either widens N(0, v) by (d + 2)/d even as r -> 0: in 16
    dimensions by 27 % together, in those of an image by nothing.
    """
    if not 0 < r < 1:
        raise ValueError(f"r = {r}: a step's signal-to-noise ratio lies between 0 and 1 (the chain diverges from 1 on)")
    same_shape(score=score, z=z)
    pull = score.square().sum()
    if score.numel() and not bool((pull > 0) & pull.isfinite()):
        raise ValueError(f"score: squared norm {float(pull)} over the batch, expected a finite one above 0")
    return 2 * r**2 * z.square().sum() / pull


@unproved("n corrector steps; each is bound")
def correct(
    score: Callable[[Tensor], Tensor], x: Float[Tensor, "batch ..."], n: int, r: float, generator: Generator
) -> Float[Tensor, "batch ..."]:
    """x after n corrector steps of signal-to-noise ratio r; `score` takes the state, at one noise level."""
    if n < 0:
        raise ValueError(f"n = {n}: expected a number of steps, 0 or more")
    for _ in range(n):
        pull, z = score(x), torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = corrector_step(x, pull, z, step_length(pull, z, r))
    return x
