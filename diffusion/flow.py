r"""Flow matching: velocities of conditional paths, couplings of data and noise, bridges and their noise levels.

    Gaussian path     x_t = alpha x_0 + sigma eps,           velocity (sigma'/sigma) (x - alpha x_0) + alpha' x_0
    one law           velocity = (alpha'/alpha) x - (g^2/2) score,  score = -E[eps | x]/sigma    independent x_0 and eps
    coupled           correlation r of x_0 and eps: both are off, by `score_gap` and `velocity_gap`
    bridge            N((1 - t) x_0 + t x_1, s^2 t (1 - t)), a Brownian motion of variance s^2 t pinned at both ends
    any noise e >= 0  dx = (velocity + e score) dt + sqrt(2 e) dw has the flow's marginals; backward velocity - e score

A velocity by way of x_0 and eps is `parameterization.velocity`; predictions are changed by `parameterization.convert`.
Time runs from data at 0 to noise at 1. Elementwise: each argument has the common shape or is a 0-dim tensor. Sources:
Lipman et al. 2023, thm 3; Liu et al. 2023; Tong et al. 2024; Albergo et al. 2023, thm 9-10.
"""

from __future__ import annotations

from diffusion.binding import formula, unproved
from diffusion.shapes import same_rank
from diffusion.types import Real

# ------------------------------------------------------------------------------------------------------ Gaussian paths


@formula("flow.gaussian_velocity.velocity", trained=True)
def conditional_velocity(x: Real, x_0: Real, alpha: Real, sigma: Real, alpha_dot: Real, sigma_dot: Real) -> Real:
    """(sigma'/sigma) (x - alpha x_0) + alpha' x_0: how the path through x moves, sigma > 0 (thm 3)."""
    same_rank(x, x_0, alpha, sigma, alpha_dot, sigma_dot)
    return sigma_dot / sigma * (x - alpha * x_0) + alpha_dot * x_0


@formula("flow.velocity_score_eps.velocity", trained=True)
def velocity_from_score(x: Real, score: Real, alpha: Real, sigma: Real, alpha_dot: Real, sigma_dot: Real) -> Real:
    """(alpha'/alpha) x - (g^2/2) score, g^2/2 = sigma sigma' - (alpha'/alpha) sigma^2: x_0 and eps independent."""
    same_rank(x, score, alpha, sigma, alpha_dot, sigma_dot)
    rate = alpha_dot / alpha
    return rate * x - sigma * (sigma_dot - rate * sigma) * score


# ---------------------------------------------------------------------------------------------------------- couplings


@formula("flow.velocity_score_dependent.score_gap", trained=True)
def score_gap(x: Real, r: Real, alpha: Real, sigma: Real) -> Real:
    """What -E[eps | x]/sigma errs by as a score, for unit Gaussians x_0 and eps of correlation r; 0 for r = 0."""
    same_rank(x, r, alpha, sigma)
    return -r * alpha * x / (sigma * (alpha**2 + sigma**2 + 2 * r * alpha * sigma))


@formula("flow.velocity_score_dependent.velocity_gap", trained=True)
def velocity_gap(x: Real, r: Real, alpha: Real, sigma: Real, alpha_dot: Real, sigma_dot: Real) -> Real:
    """What `velocity_from_score`, at the right score, errs by for them; 0 for r = 0."""
    same_rank(x, r, alpha, sigma, alpha_dot, sigma_dot)
    return r * (alpha_dot * sigma - alpha * sigma_dot) * x / (alpha**2 + sigma**2 + 2 * r * alpha * sigma)


# ------------------------------------------------------------------------------------------------------------- bridges


@formula("flow.schroedinger_bridge_path.mean", trained=True)
def bridge_mean(x_0: Real, x_1: Real, t: Real) -> Real:
    """(1 - t) x_0 + t x_1."""
    same_rank(x_0, x_1, t)
    return (1 - t) * x_0 + t * x_1


@formula("flow.schroedinger_bridge_path.variance", trained=True)
def bridge_variance(s: Real, t: Real) -> Real:
    """s^2 t (1 - t): nothing at both ends."""
    same_rank(s, t)
    return s**2 * t * (1 - t)


@formula("flow.bridge_velocity.velocity", trained=True)
def bridge_velocity(x: Real, x_0: Real, x_1: Real, t: Real) -> Real:
    """x_1 - x_0 + (1 - 2 t)/(2 t (1 - t)) (x - mean): moves the bridge's law; the same for every s > 0."""
    same_rank(x, x_0, x_1, t)
    return x_1 - x_0 + (1 - 2 * t) / (2 * t * (1 - t)) * (x - bridge_mean(x_0, x_1, t))


@formula("flow.bridge_velocity.score", trained=True)
def bridge_score(x: Real, x_0: Real, x_1: Real, s: Real, t: Real) -> Real:
    """-(x - mean)/(s^2 t (1 - t))."""
    same_rank(x, x_0, x_1, s, t)
    return -(x - bridge_mean(x_0, x_1, t)) / bridge_variance(s, t)


@formula("flow.bridge_velocity.drift", trained=True)
def bridge_drift(x: Real, x_1: Real, t: Real) -> Real:
    """(x_1 - x)/(1 - t): velocity + (s^2/2) score, the Brownian bridge's drift; where it started is forgotten."""
    same_rank(x, x_1, t)
    return (x_1 - x) / (1 - t)


# -------------------------------------------------------------------------------------------------------- noise levels


@unproved("a sum; which laws it keeps is flow.interpolant_noise_level")
def noisy_drift(velocity: Real, score: Real, e: Real) -> Real:
    """velocity + e score: the drift that with noise sqrt(2 e) has the flow's marginals, e >= 0; -e runs backward."""
    same_rank(velocity, score, e)
    return velocity + e * score
