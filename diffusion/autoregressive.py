r"""Autoregressive models: one token at a time, each from its law given the ones before it.

    log p(x_1 .. x_L) = sum_k log p(x_k | x_1 .. x_(k-1))

A model is a function of a batch of prefixes [n, k] to the next token's probabilities [n, V]; rows sum to one. Drawing
in turn draws from the law exactly, whatever the order of the tokens and however long the memory: nothing is iterated to
convergence, and nothing else has to be normalised.

Source: Bengio et al. 2003, eq. 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from diffusion.binding import unproved

Tokens = Int[Tensor, "n length"]
Conditional = Callable[[Tokens], Float[Tensor, "n V"]]

SUMS_TO_ONE = 1e-5  # float32 rows of a softmax over 10^5 tokens do


@unproved("draws, whose law the world checks enumerate")
def sample(conditional: Conditional, length: int, n: int, generator: Generator) -> Tokens:
    """n strings of `length` tokens, drawn token by token."""
    if length < 1 or n < 1:
        raise ValueError(f"sample: length {length} and n {n} must be at least 1")
    tokens = torch.empty(n, 0, dtype=torch.long, device=generator.device)
    for _ in range(length):
        drawn = torch.multinomial(_next(conditional, tokens), 1, generator=generator)
        tokens = torch.cat([tokens, drawn], 1)
    return tokens


@unproved("a sum of the caller's own log-probabilities, which the world checks enumerate")
def log_probability(conditional: Conditional, tokens: Tokens) -> Float[Tensor, " n"]:
    """log p(x_1 .. x_L) of each row, nats: the chain rule."""
    if tokens.ndim != 2 or 0 in tokens.shape or tokens.is_floating_point():
        raise ValueError(f"tokens must be whole numbers [n, length], got {tokens.dtype} {list(tokens.shape)}")
    parts = [_next(conditional, tokens[:, :k]).gather(1, tokens[:, k : k + 1]).log() for k in range(tokens.shape[1])]
    return torch.cat(parts, 1).sum(1)


def _next(conditional: Conditional, prefix: Tokens) -> Float[Tensor, "n V"]:
    """The next token's probabilities; refused unless there is a law for each prefix."""
    probability = conditional(prefix)
    if probability.ndim != 2 or len(probability) != len(prefix):
        raise ValueError(f"conditional: probabilities [{len(prefix)}, V] wanted, got {list(probability.shape)}")
    if bool((probability < 0).any()):
        raise ValueError(f"conditional: a probability of {float(probability.min()):.2g}, below 0; a law has none")
    off = float((probability.sum(1) - 1).abs().max())
    if not off <= SUMS_TO_ONE:
        raise ValueError(f"conditional: probabilities of {prefix.shape[1]} tokens' next one sum to 1 but for {off:.2g}")
    return probability
