r"""Hutchinson's estimate of a trace, and how far it strays.

    E v^T A v = tr A                  for probes v with E v v^T = I
    Var v^T A v = 2 ||sym A||_F^2                                  v ~ N(0, I)         "gaussian"
                = 2 (||sym A||_F^2 - sum_i A_ii^2)                 v_i = +-1, equally  "rademacher"

with sym A = (A + A^T)/2: each pair of coordinates adds (A_ij + A_ji)^2 and, with Gaussian probes only, each coordinate
2 A_ii^2. For a Jacobian v^T J v costs one backward pass, the trace as many as there are dimensions; k probes, averaged,
divide the variance by k. Source: Hutchinson 1990; Avron & Toledo 2011.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from diffusion.binding import formula, unproved

Kind = Literal["rademacher", "gaussian"]
TOGETHER = 64  # probes whose backward passes run as one: it takes the memory of so many batches


@unproved("draws random numbers; the moments they need are sde.hutchinson_unbiased's")
def probes(kind: Kind, k: int, like: Tensor, generator: Generator) -> Float[Tensor, " k *like"]:
    """k independent probes in the shape, dtype and device of `like`; drawn on the generator's device.

    ValueError for an unknown kind or k < 1.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"probe kind {kind!r}: expected {' or '.join(get_args(Kind))}")
    if k < 1:
        raise ValueError(f"probes: got {k}, expected at least 1")
    shape = (k, *like.shape)
    if kind == "rademacher":
        return (2 * torch.randint(2, shape, generator=generator, device=generator.device) - 1).to(like)
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=generator.device).to(like)


@unproved("autograd of the caller's function; its mean is sde.hutchinson_likelihood's trace")
def quadratic_forms(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, " batch *dims"], probes: Float[Tensor, "k batch *dims"]
) -> tuple[Float[Tensor, " batch *dims"], Float[Tensor, "k batch"]]:
    """function(x), and v^T J v per sample for each of the k probes v, J the Jacobian of the sample's own value."""
    y, pullback = torch.func.vjp(function, x)[:2]
    if y.shape != x.shape:
        raise ValueError(f"function returned shape {tuple(y.shape)} for x of shape {tuple(x.shape)}: expected the same")

    def form(v: Tensor) -> Tensor:
        return (pullback(v)[0] * v).flatten(1).sum(1)

    if len(probes) == 1:
        return y, form(probes[0])[None]
    with torch.enable_grad():  # without it vmap meets kernels of convolutional networks that it has no rule for
        return y, torch.func.vmap(form, chunk_size=TOGETHER)(probes)


@unproved("one-hot vectors")
def axes(like: Float[Tensor, " batch *dims"]) -> Float[Tensor, "d batch *dims"]:
    """All d coordinate vectors, each for every sample: the quadratic forms they give add up to the trace."""
    n, d = len(like), math.prod(like.shape[1:])
    return torch.eye(d, dtype=like.dtype, device=like.device)[:, None].expand(d, n, d).reshape(d, *like.shape)


@formula("sde.hutchinson_variance_rademacher.pair")
def pair_variance(A_12: Tensor, A_21: Tensor) -> Tensor:
    """What a pair of coordinates adds to Var v^T A v: (A_12 + A_21)^2, with either kind of probe."""
    return (A_12 + A_21) ** 2


@formula("sde.hutchinson_variance_gaussian.own")
def own_variance(A_ii: Tensor) -> Tensor:
    """What a coordinate by itself adds to Var v^T A v with Gaussian probes: 2 A_ii^2; with random signs nothing."""
    return 2 * A_ii**2


@unproved("sums pair_variance and own_variance, which are bound, over the matrix")
def variance(A: Float[Tensor, "*stack d d"], kind: Kind) -> Float[Tensor, " *stack"]:
    """Var v^T A v for one probe; k of them, averaged, have a k-th of it. ValueError for an unknown kind."""
    if kind not in get_args(Kind):
        raise ValueError(f"probe kind {kind!r}: expected {' or '.join(get_args(Kind))}")
    pairs = pair_variance(A, A.mT).triu(1).sum((-2, -1))
    return pairs if kind == "rademacher" else pairs + own_variance(A.diagonal(dim1=-2, dim2=-1)).sum(-1)
