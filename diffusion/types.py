"""What the signatures of this room speak of."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

Real = Float[Tensor, "..."]
"""Elementwise: tensors of one floating dtype whose shapes broadcast."""

Network = Callable[[Tensor, Tensor], Tensor]
"""(x [batch, ...], the noise level as a scalar or [batch]) -> a prediction of x's shape."""

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x [batch, ...], t a scalar or [batch]) -> the prediction of x_0, of x's shape."""
