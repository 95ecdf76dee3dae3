"""Sliced Wasserstein distance of samples, beside the same distance between two perfect samples.

    SW(x, y) = mean over unit vectors theta of W_1(theta . x, theta . y)

(Bonneel et al. 2015, with p = 1.) On a line W_1 of two samples of equal size is the mean distance of their order
statistics. In the plane the mean is over equally spaced angles in [0, pi); in more dimensions directions are drawn.

Two finite samples of one law differ too: the mean of SW over pairs of independent perfect samples of N rows is the
noise floor, which falls as N^(-1/2). `sliced_ratio` gives the mean of SW(model's set, fresh perfect set) over the
floor: 1 for a perfect sampler. Unlike the energy distance it is measured against a sample, and its floor is estimated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from toy.estimate import Estimate, estimate
from toy.world import World


def directions(dim: int, count: int = 64, generator: Generator | None = None) -> Float[Tensor, "count dim"]:
    """Unit vectors: the one direction of a line, equally spaced in the plane, else drawn uniformly."""
    if dim == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if dim == 2:
        angle = math.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count
        return torch.stack((angle.cos(), angle.sin()), -1)
    if generator is None:
        raise ValueError(f"directions in {dim} dimensions are drawn: pass a torch.Generator")
    drawn = torch.randn(count, dim, generator=generator, dtype=torch.float64, device=generator.device)
    return drawn / drawn.norm(dim=-1, keepdim=True)


def sliced_wasserstein(
    x: Float[Tensor, "n dim"], y: Float[Tensor, "n dim"], theta: Float[Tensor, "count dim"]
) -> float:
    """SW(x, y) over the directions theta, in the units of x; float64."""
    if x.ndim != 2 or x.shape != y.shape or x.shape[1] != theta.shape[-1]:
        raise ValueError(
            f"two samples of one shape [n, dim] and directions [count, dim] wanted, "
            f"got {list(x.shape)}, {list(y.shape)} and {list(theta.shape)}"
        )
    if not bool(x.isfinite().all() and y.isfinite().all()):
        raise ValueError("a sample has rows that are not finite")
    x_line, y_line = ((theta.to(x.device) @ sample.double().T).sort(-1).values for sample in (x, y))
    return float((x_line - y_line).abs().mean())


def noise_floor(world: World, n: int, pairs: int, generator: Generator, theta: Tensor | None = None) -> Estimate:
    """Mean SW between two independent perfect samples of n rows, over `pairs` pairs."""
    theta = directions(world.dim, generator=generator) if theta is None else theta
    return estimate(
        sliced_wasserstein(world.sample(n, generator), world.sample(n, generator), theta) for _ in range(pairs)
    )


def sliced_ratio(
    world: World, sets: Iterable[Tensor], floor: Estimate, generator: Generator, theta: Tensor | None = None
) -> Estimate:
    """Mean and 95 % limits of SW(set, fresh perfect sample)/floor.mean over independent sets of one size.

    The floor's own uncertainty, (floor.upper - floor.lower)/floor.mean, is not in these limits.
    """
    theta = directions(world.dim, generator=generator) if theta is None else theta
    return estimate(sliced_wasserstein(x, world.sample(len(x), generator), theta) / floor.mean for x in sets)
