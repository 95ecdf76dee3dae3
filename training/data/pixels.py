"""Pixels: k in 0..255 on disk, x = 2 k / 255 - 1 in [-1, 1] for the network, and back.

`BIN` is the distance of two neighbouring values of x: a density p(x) is worth p(x) BIN as a probability of k.
"""

from __future__ import annotations

from torch import Tensor

BIN = 2 / 255


def to_model(k: Tensor) -> Tensor:
    """uint8 pixels as float32 in [-1, 1]."""
    return k.float() * BIN - 1


def to_uint8(x: Tensor) -> Tensor:
    """The nearest pixels; what lies outside [-1, 1] becomes black or white. ValueError for NaN and infinity."""
    if not bool(x.isfinite().all()):
        raise ValueError(f"{int((~x.isfinite()).sum())} of {x.numel()} values are NaN or infinite: no pixels")
    return ((x.float() + 1) / BIN).round().clamp(0, 255).byte()
