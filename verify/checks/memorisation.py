r"""What the best denoiser of a training set does: it is the set's softmax, and its samples are the set.

The set is 64 draws of the world (of `points`, the world itself). The law has more to say than any set of its draws; the
denoiser that minimises the loss on the set does not.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from diffusion import solvers
from diffusion.sampling import prior, sample
from diffusion.schedules import cosine
from toy.points import Points
from toy.world import World
from verify.checks.generative import vector
from verify.statistics import exact
from verify.worlds import Outcome, world_check

LEVELS = ((0.9, 0.3), (0.6, 0.8))
STEPS = 60


def training_set(world: World, generator: Generator) -> Points:
    """The world seen through 64 of its draws."""
    return world if isinstance(world, Points) else Points("set", world.sample(64, generator))


def drawn(world: World, x: Tensor) -> Tensor:
    """x at t = 1 carried to t = 0 by DDIM under the world's own denoiser; sigma falls to 1e-5, then to 0."""
    schedule = cosine()
    times = torch.cat([torch.logspace(0, -5, STEPS, dtype=torch.float64), vector(0)])
    table = solvers.ddim(schedule, times)
    return sample(lambda y, t: world.denoiser(y, float(schedule.alpha(t)), float(schedule.sigma(t))), table, x)


def nearest(x: Tensor, points: Tensor) -> Tensor:
    """The distance of each row of x from the nearest of the points."""
    return (x[:, None] - points).norm(dim=-1).amin(1)


@world_check("score.memorisation", "score.memorisation_share", worlds=("points", "ring", "checkerboard"))
def set_denoiser(world: World, generator: Generator) -> Iterator[Outcome]:
    """At each x_t no answer has less loss over the set, and no farther point pulls more than exp(-g/(2 sigma^2))."""
    points = training_set(world, generator)
    for alpha, sigma in LEVELS:
        _, x = points.noised(200, alpha, sigma, generator)
        squares = ((x[:, None] - alpha * points.points) ** 2).sum(-1)
        share = (-squares / (2 * sigma**2)).softmax(1)

        def loss(f: Tensor, share: Tensor = share) -> Tensor:
            return (share * ((f[:, None] - points.points) ** 2).sum(-1)).sum(1)

        D = points.denoiser(x, alpha, sigma)
        step = vector(0.01, -0.02)
        rise = torch.stack([loss(D + step), loss(D - step)]) - loss(D)
        error = float((rise - step @ step).abs().max())
        yield f"sigma = {sigma}, rise of the loss beside it", exact(error, 1e-13, "squared distance")
        gap = squares - squares.amin(1, keepdim=True)
        closest = points.points[squares.argmin(1)]
        room = (torch.exp(-gap / (2 * sigma**2)) * (points.points - closest[:, None]).norm(dim=-1)).sum(1)
        drawn_off = ((D - closest).norm(dim=-1) - room).max()
        yield f"sigma = {sigma}, pull of farther points", exact(max(float(drawn_off), 0.0), 1e-14, "distance")


@world_check("score.memorisation_flow", "score.memorisation", worlds=("points", "ring", "checkerboard"))
def memorised_samples(world: World, generator: Generator) -> Iterator[Outcome]:
    """DDIM under the set's denoiser ends on the set; the world's own denoiser does not; a boundary ends between."""
    points = training_set(world, generator)
    x = prior(cosine(), (500, world.dim), generator, dtype=torch.float64)
    ends = drawn(points, x)
    yield "distance of samples from the set", exact(float(nearest(ends, points.points).max()), 1e-9, "distance")
    if points is not world:
        far = float(nearest(drawn(world, x), points.points).median())
        yield "the law's own samples are elsewhere", exact(max(0.0, 0.02 - far), 0.0, "distance")

    pair = Points("pair", torch.stack([vector(1, 0), vector(-1, 0)]))
    boundary = torch.stack([torch.zeros(5, dtype=torch.float64), torch.linspace(-2, 2, 5, dtype=torch.float64)], 1)
    between = drawn(pair, boundary).abs().max()
    yield "from the boundary of two points, to their middle", exact(float(between), 1e-9, "distance")
