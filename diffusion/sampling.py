"""The sampling loop: runs any table of `diffusion.solvers` with any denoiser.

The loop branches on the table only, never on a tensor's value, so torch.compile and CUDA graphs can unroll it whole.
The coefficients stay float64 numbers; the state keeps the dtype and device it came with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from diffusion.binding import unproved
from diffusion.schedules import Schedule, resident
from diffusion.solvers import Table
from diffusion.types import Denoiser


@unproved("runs a table; the tables' coefficients are proved, the loop is tested on closed forms")
def sample(
    denoiser: Denoiser,
    table: Table,
    x: Float[Tensor, " batch *dims"],
    generator: Generator | Sequence[Generator] | None = None,
    callback: Callable[[int, Tensor, Tensor], None] | None = None,
    record: bool = False,
) -> Tensor:
    """Move x from table.times[0] to table.times[-1]; with `record`, all states [steps + 1, batch, ...], x first.

    generator   one for the batch, or a list with one for each sample (its noise is then its own, whatever the batch);
                needed only if the table has noise.
    callback    called after each row with (row number, new x, D): for progress bars and for what needs D.

    Gradients flow where they are enabled. Under torch.no_grad(), and if no callback or record may hold on to a state,
    the state is updated in place, in a copy of x. Multistep tables keep predictions: a denoiser must not write into one
    that it returned before. ValueError for a denoiser that returns another shape than x's, or a missing or wrong number
    of generators.
    """
    draw = _noise_source(table, x, generator)
    held = record or callback is not None or torch.is_grad_enabled() or torch.compiler.is_compiling()
    start = x = x if held else x.clone()
    states = [x]
    history: tuple[Tensor, ...] = ()
    for i, (t, row) in enumerate(zip(resident(table.times, x.device)[:-1].unbind(), table.rows, strict=True)):
        history = (_predict(denoiser, x, t), *history[: table.denoised.shape[1] - 1])
        x = start * row.state if held or row.inner else start.mul_(row.state)
        for k, coefficient in row.denoised:
            x = x.add_(history[k], alpha=coefficient)
        if row.noise:
            x = x.add_(draw(), alpha=row.noise)
        if not row.inner:
            start = x
            if record:
                states.append(x)
        if callback:
            callback(i, x, history[0])
    return torch.stack(states) if record else x


def _predict(denoiser: Denoiser, x: Tensor, t: Tensor) -> Tensor:
    """The prediction, of x's shape, in memory of its own: a denoiser may return x itself, which is about to change."""
    denoised = denoiser(x, t)
    if denoised.shape != x.shape:
        raise ValueError(f"denoiser: returned shape {tuple(denoised.shape)} for x of shape {tuple(x.shape)}")
    if torch.compiler.is_compiling() or denoised.data_ptr() != x.data_ptr():
        return denoised
    return denoised.clone()


def _noise_source(table: Table, x: Tensor, generator: Generator | Sequence[Generator] | None) -> Callable[[], Tensor]:
    """A function that draws standard normal noise like x; drawn on the generator's device, so that it can be any."""
    if not x.is_floating_point():
        raise TypeError(f"x: got dtype {x.dtype}, expected a floating-point state")

    def normal(shape: torch.Size, generator: Generator) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=x.dtype, device=generator.device).to(x.device)

    if isinstance(generator, Generator):
        return lambda: normal(x.shape, generator)
    if generator is not None:
        if len(generator) != len(x):
            raise ValueError(f"generator: got {len(generator)} generators for a batch of {len(x)}, expected one each")
        return lambda: torch.stack([normal(x.shape[1:], g) for g in generator])
    if any(row.noise for row in table.rows):
        raise ValueError(f"generator: {table.name!r} draws noise; give a torch.Generator, or one for each sample")
    return lambda: x  # never called: no row has noise


@unproved("standard normal noise times sigma: the schedule's end")
def prior(
    schedule: Schedule, shape: Sequence[int], generator: Generator, t: float = 1.0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Noise to start from, N(0, sigma(t)^2 I), on the generator's device; its mean alpha(t) E x_0 is taken as 0."""
    sigma = float(schedule.sigma(torch.tensor(t, dtype=torch.float64)))
    return torch.randn(*shape, generator=generator, dtype=dtype, device=generator.device) * sigma
