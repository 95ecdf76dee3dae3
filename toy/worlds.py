"""The worlds by name. Coordinates have a variance near 1 (but in `gaussian`), as a network likes them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from toy.checkerboard import checkerboard
from toy.field import field
from toy.mixture import Mixture, gaussian
from toy.points import Points
from toy.ppca import ppca
from toy.world import World

STD = 0.1  # of a component, in every mixture here


def correlated() -> Mixture:
    """One Gaussian, correlation 0.8, standard deviations 1.5 and 0.5, off the origin."""
    covariance = torch.tensor([[2.25, 0.6], [0.6, 0.25]], dtype=torch.float64)
    return gaussian("gaussian", torch.tensor([0.5, -1.0]), covariance)


def ring(components: int = 8, radius: float = math.sqrt(2), std: float = STD) -> Mixture:
    """Equal components evenly on a circle."""
    return Mixture("ring", torch.ones(components), _circle(components, radius), std**2)


def conditional_ring(classes: int = 4) -> Mixture:
    """The ring of 8 with labels 0 .. classes - 1 dealt round it: with 4, opposite components share a label."""
    labels = torch.arange(8) % classes
    return Mixture("conditional_ring", torch.ones(8), _circle(8, math.sqrt(2)), STD**2, labels)


def grid(side: int = 5) -> Mixture:
    """side x side equal components on a square lattice."""
    axis = torch.linspace(-1, 1, side, dtype=torch.float64) * math.sqrt(2)
    return Mixture("grid", torch.ones(side**2), torch.cartesian_prod(axis, axis), STD**2)


def two_moons(components: int = 64) -> Mixture:
    """Two interlocking half circles as a chain of components, closer together than their standard deviation."""
    angle = math.pi * (torch.arange(components // 2, dtype=torch.float64) + 0.5) / (components // 2)
    upper = torch.stack((angle.cos() - 0.5, angle.sin() - 0.25), -1)
    return Mixture("two_moons", torch.ones(components), 1.2 * torch.cat((upper, -upper)), STD**2)


def anisotropic() -> Mixture:
    """Three unequal components of rotated, unequal covariances."""
    angle = torch.tensor([0.3, 1.4, 2.4], dtype=torch.float64)
    spread = torch.tensor([[0.5, 0.12], [0.45, 0.15], [0.35, 0.2]], dtype=torch.float64)  # standard deviations
    basis = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), -1).reshape(3, 2, 2)
    means = torch.tensor([[-1.1, -0.7], [1.1, 0.2], [-0.2, 1.2]], dtype=torch.float64)
    covariance = basis * spread[:, None] ** 2 @ basis.mT
    return Mixture("anisotropic", torch.tensor([0.5, 0.3, 0.2]), means, (covariance + covariance.mT) / 2)


def spiral(components: int = 200, turns: float = 2.5) -> Mixture:
    """A thin spiral: components evenly along it, closer together than their standard deviation."""
    # radius and angle grow together, so the length grows as angle^2: equal lengths are equal steps of its square
    inner, outer = 0.15, 1.0
    share = (inner**2 + (1 - inner**2) * (torch.arange(components, dtype=torch.float64) + 0.5) / components).sqrt()
    angle = 2 * math.pi * turns * share
    means = 2 * outer * share[:, None] * torch.stack((angle.cos(), angle.sin()), -1)
    return Mixture("spiral", torch.ones(components), means, STD**2)


def bimodal(m: float = math.sqrt(0.96), v: float = 0.04) -> Mixture:
    """Two equal modes on the line, N(+-m, v); variance m^2 + v = 1."""
    return Mixture("bimodal", torch.ones(2), torch.tensor([[m], [-m]], dtype=torch.float64), v)


def unequal_pair() -> Mixture:
    """Two Gaussians on the line: label 0 a conditional law, N(1, 0.36), label 1 the wider law of all, N(0, 1)."""
    means, variances = torch.tensor([[1.0], [0.0]], dtype=torch.float64), torch.tensor([0.36, 1.0], dtype=torch.float64)
    return Mixture("unequal_pair", torch.ones(2), means, variances, torch.tensor([0, 1]))


def high_dimensional(dim: int = 16) -> Mixture:
    """One component on each axis, 4 from the origin: orthogonal classes, as embeddings of tokens are."""
    return Mixture("high_dimensional", torch.ones(dim), 4 * torch.eye(dim, dtype=torch.float64), STD**2)


def pentagon() -> Points:
    """Five points: the corners of a regular pentagon with coordinates of unit variance."""
    return Points("points", _circle(5, math.sqrt(2)))


def _circle(n: int, radius: float) -> torch.Tensor:
    angle = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return radius * torch.stack((angle.cos(), angle.sin()), -1)


WORLDS: dict[str, Callable[[], World]] = {
    "gaussian": correlated,
    "ring": ring,
    "grid": grid,
    "two_moons": two_moons,
    "conditional_ring": conditional_ring,
    "anisotropic": anisotropic,
    "spiral": spiral,
    "checkerboard": checkerboard,
    "points": pentagon,
}
ELSEWHERE: dict[str, Callable[[], World]] = {  # worlds not in the plane: on the line, in space, of images
    "bimodal": bimodal,
    "high_dimensional": high_dimensional,
    "unequal_pair": unequal_pair,
    "field": field,
    "ppca": ppca,
}


def make(name: str) -> World:
    """The world of that name."""
    known = WORLDS | ELSEWHERE
    if name not in known:
        raise ValueError(f"no world {name!r}; there are {', '.join(known)}")
    return known[name]()
