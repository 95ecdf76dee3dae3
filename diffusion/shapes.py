"""Shapes, refused when wrong: one number for each sample of a batch against states of any further shape.

A schedule gives alpha(t) for a scalar t or for t of shape [batch]; a state has shape [batch, ...]. Broadcasting would
match [batch] with the *last* axis of the state, which is wrong and silent whenever the sizes agree; so it is spelt out.
"""

from __future__ import annotations

from torch import Tensor

from diffusion.binding import unproved


@unproved("a reshape; it computes nothing")
def per_sample(coefficient: Tensor, x: Tensor) -> Tensor:
    """Coefficient of shape [] or [batch], in the dtype of x [batch, ...], shaped so that coefficient * x is per sample.

    The coefficient is rounded to x's dtype here and nowhere earlier. Raises ValueError on any other shape.
    """
    if coefficient.ndim == 0:
        return coefficient.to(x)
    if coefficient.ndim != 1 or x.ndim == 0 or len(coefficient) != len(x):
        raise ValueError(
            f"a coefficient of shape {tuple(coefficient.shape)} does not fit a batch of shape {tuple(x.shape)}: "
            f"expected a scalar or one value for each sample"
        )
    return coefficient.to(x).reshape(-1, *[1] * (x.ndim - 1))


def same_shape(**tensors: Tensor) -> None:
    """Raise ValueError, naming each, unless all tensors have one shape."""
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"expected equal shapes, got {', '.join(f'{name} {shape}' for name, shape in shapes.items())}")


def same_rank(*arguments: Tensor) -> None:
    """Raise ValueError where tensors of different rank meet: each is 0-dim or has as many axes as the others."""
    ranks = {argument.ndim for argument in arguments if argument.ndim}
    if len(ranks) > 1:
        shapes = ", ".join(str(tuple(argument.shape)) for argument in arguments)
        raise ValueError(f"arguments of shapes {shapes}: bring coefficients to the rank of the state with per_sample")
