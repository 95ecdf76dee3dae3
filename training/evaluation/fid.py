r"""FID at infinitely many samples.

FID (toy/frechet.py) between samples of one law is not 0: it falls like 1/n (`probability.fid_bias`), by as much as a
law's spread asks for, so that FIDs of two runs cannot be compared unless n is the same, and the better one may lose.
Against fixed reference images FID(n) = FID_inf + c/n + O(1/n^2), so a line through FID at several n, in 1/n, meets
1/n = 0 at FID_inf (Chong & Forsyth 2020, sec. 4). What the reference's own number adds stays in it.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from toy.frechet import frechet

SIZES = 8  # numbers of samples that the line is laid through
ENOUGH = 20  # points a dimension that the law in 1/n takes


def at_infinity(x: Tensor, reference: Tensor, generator: Generator, draws: int = 4) -> float:
    """FID of features x [n, d] against the reference [m, d] as n -> infinity, from random parts of x.

    Sizes at equal distances in 1/n, from half of x to the whole; each is the mean over `draws` parts. ValueError if
    there are fewer than ENOUGH points a dimension: there the next order of the law still counts.
    """
    n, d = x.shape
    if n < ENOUGH * d:
        raise ValueError(f"FID at infinity: {n} samples of {d} features, expected {ENOUGH * d} or more")
    sizes = (1 / torch.linspace(2 / n, 1 / n, SIZES, dtype=torch.float64)).round().long()
    mean = [
        sum(float(frechet(x[torch.randperm(n, generator=generator)[:size]], reference)) for _ in range(draws)) / draws
        for size in sizes.tolist()
    ]
    line = torch.stack([torch.ones(SIZES, dtype=torch.float64), 1 / sizes.double()], 1)
    return torch.linalg.lstsq(line, torch.tensor(mean, dtype=torch.float64)[:, None]).solution[0, 0].item()
