"""How much likelihood a model loses: E[log p(x) - log p_model(x)] over x ~ p, in nats.

It is KL(p || p_model) >= 0. Both terms are taken at the same points, so their common fluctuation (the spread of
log p(x) itself) cancels: the error of the mean is that of the difference alone.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from toy.estimate import Estimate, estimate
from toy.world import World


def nll_gap(world: World, x: Float[Tensor, "n dim"], log_p_model: Float[Tensor, " n"]) -> Estimate:
    """Mean and 95 % limits of log p(x) - log_p_model, x drawn from the world, log_p_model the model's at the same x."""
    log_p = world.log_density(x.double())
    if log_p_model.shape != log_p.shape:
        raise ValueError(
            f"log_p_model must have shape [{len(x)}], one for each row of x, got {list(log_p_model.shape)}"
        )
    return estimate((log_p - log_p_model.detach().to(log_p)).tolist())
