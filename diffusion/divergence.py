r"""Distances between two laws on two points: how different two coins are, in four ways.

    KL(p || q) = p log(p/q) + (1 - p) log((1 - p)/(1 - q))          nats; KL(q || p) is another number
    JS(p, q)   = (KL(p || m) + KL(q || m))/2,   m = (p + q)/2       symmetric, from 0 to log 2
    TV(p, q)   = |p - q|                                            2 TV^2 <= KL (Pinsker)

p and q are probabilities of one and the same outcome, 0 < p, q < 1; a coin that always falls one way, p = 0 or 1, has
the limit, 0 log 0 = 0, and differs from itself by nothing. All functions act elementwise on one common shape or on
0-dim tensors beside it. Logarithms of ratios are taken as log1p of a relative difference, so that nothing is lost
between two coins that are nearly the same, where all four are small.

Source: Cover & Thomas 2006, Elements of Information Theory, ch. 2; Lin 1991.
"""

from __future__ import annotations

import torch
from torch.special import xlog1py

from diffusion.binding import formula
from diffusion.shapes import same_rank
from diffusion.types import Real


@formula("generative.kl_two_points", trained=True)
def kl(p: Real, q: Real) -> Real:
    """KL(p || q) = p log(p/q) + (1 - p) log((1 - p)/(1 - q)), nats (Cover & Thomas, ex. 2.3.1); 0 only for p = q."""
    same_rank(p, q)
    return xlog1py(p, _share(p - q, q)) + xlog1py(1 - p, _share(q - p, 1 - q))


@formula("generative.js_two_points", trained=True)
def js(p: Real, q: Real) -> Real:
    """JS(p, q) = H(m) - (H(p) + H(q))/2, m = (p + q)/2 and H a coin's entropy, nats (Lin, eq. 4.1)."""
    same_rank(p, q)
    d, e = _share(p - q, p + q), _share(p - q, 2 - p - q)  # of p from m, of 1 - q from 1 - m, as parts of m and 1 - m
    one = xlog1py(p, d) + xlog1py(q, -d)
    other = xlog1py(1 - p, -e) + xlog1py(1 - q, e)
    return (one + other) / 2


@formula("generative.total_variation.distance")
def total_variation(p: Real, q: Real) -> Real:
    """TV(p, q) = |p - q|: no event's probabilities differ by more (Levin et al. 2009, prop. 4.2)."""
    same_rank(p, q)
    return (p - q).abs()


def _share(difference: Real, whole: Real) -> Real:
    """difference/whole, 0/0 = 0: chances that are both 0 do not differ, and log1p(0/0) would make 0 log 0 a NaN."""
    return difference / torch.where((difference == 0) & (whole == 0), 1, whole)
