"""A small residual network for worlds of few dimensions.

Time enters as Fourier features (cos 2 pi f_k t, sin 2 pi f_k t), the frequencies f_k in geometric progression from
1/4 to `fastest` (after Tancik et al. 2020): without them a small network cannot follow how fast the target turns near
t = 0. Every block is h + W_2 silu(W_1 silu(h) + W_c context), the context made of time and label; W_2 = 0 at the start,
so the network begins as a linear map, and its last layer too: the first prediction is 0.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Network(nn.Module):
    """(x [batch, dim], t scalar or [batch], label [batch] or None) -> prediction [batch, dim].

    labels: how many labels there are (0: none). Label `labels`, one beyond the last, means "not told"; None means it
    for the whole batch.
    """

    f: Tensor

    def __init__(
        self,
        dim: int = 2,
        width: int = 128,
        depth: int = 3,
        labels: int = 0,
        frequencies: int = 16,
        fastest: float = 16.0,
    ) -> None:
        super().__init__()
        self.dim, self.labels = dim, labels
        self.register_buffer("f", torch.logspace(-2, float(torch.tensor(fastest).log2()), frequencies, base=2))
        self.x_in = nn.Linear(dim, width)
        self.time_in = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))
        self.label_in = nn.Embedding(labels + 1, width) if labels else None
        self.blocks = nn.ModuleList(_Block(width) for _ in range(depth))
        self.out = nn.Linear(width, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, x: Float[Tensor, "batch dim"], t: Tensor | float, label: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch dim"]:
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x must have shape [batch, {self.dim}], got {list(x.shape)}")
        t = torch.as_tensor(t, dtype=x.dtype, device=x.device)
        if t.ndim > 1 or (t.ndim == 1 and len(t) != len(x)):
            raise ValueError(f"t must be a scalar or have shape [{len(x)}] (the batch), got {list(t.shape)}")
        turns = 2 * torch.pi * t.reshape(-1, 1) * self.f
        context = self.time_in(torch.cat((turns.cos(), turns.sin()), -1))
        if self.label_in is not None:
            told = torch.full((len(x),), self.labels, device=x.device) if label is None else label
            if told.shape != (len(x),):
                raise ValueError(f"label must have shape [{len(x)}] (the batch), got {list(told.shape)}")
            context = context + self.label_in(told)
        elif label is not None:
            raise ValueError("this network was built without labels (labels=0), got a label")
        h = self.x_in(x)
        for block in self.blocks:
            h = block(h, context)
        return self.out(nn.functional.silu(h))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.context, self.second = (
            nn.Linear(width, width),
            nn.Linear(width, width),
            nn.Linear(width, width),
        )
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        inner = self.first(nn.functional.silu(h)) + self.context(context)
        return h + self.second(nn.functional.silu(inner))
