r"""VAEs whose optimum is known: bounds against evidence, optima against gradient ascent, averages against enumeration.

On the world `ppca` evidence, posterior and best decoder are in closed form. What a trained VAE would do is found by
gradient ascent of the averaged objective, which is exact, with no data drawn. Statements about any weights, encoders or
hierarchies are enumerated on laws of a few states, drawn at random.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from diffusion import vae
from toy.ppca import LinearGaussian, best_W, mean_bound, mean_rates
from toy.world import World
from verify.checks.chains import scalar
from verify.statistics import exact
from verify.worlds import Outcome, world_check

BETAS = (0.5, 1.0, 3.0, 8.0)
STATES = 5


def _linear(world: World) -> LinearGaussian:
    assert isinstance(world, LinearGaussian)
    return world


def _covariance(world: LinearGaussian) -> Tensor:
    return world.W @ world.W.T + world.v * torch.eye(world.dim, dtype=torch.float64)


def _largest(objective: Callable[[], Tensor], free: list[Tensor], steps: int = 100) -> float:
    """Gradient ascent on the free tensors, in place; the value reached."""
    optimizer = torch.optim.LBFGS(
        free, max_iter=steps, tolerance_grad=1e-11, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -objective()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return float(objective().detach())


def _random(*shape: int, generator: Generator) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------ Gaussian encoders


@world_check("vae.elbo", "vae.gap_linear_gaussian", worlds=("ppca",))
def evidence_gap(world: World, generator: Generator) -> Iterator[Outcome]:
    """Evidence less bound is the encoder's divergence from the posterior: 0 at the posterior, and for no other."""
    law = _linear(world)
    x = law.sample(20, generator)
    m, S = law.encoder(x)
    evidence = law.log_density(x)
    yield "at the posterior", exact(float((law.bound(x, m, S) - evidence).abs().max()), 1e-12, "nats")
    root = _random(3, 3, generator=generator)
    other, T = m + 0.3 * _random(*m.shape, generator=generator), S + 0.1 * root @ root.T
    gap = kl_divergence(MultivariateNormal(other, T), MultivariateNormal(m, S))
    error = (evidence - law.bound(x, other, T) - gap).abs().max()
    yield "at another encoder", exact(float(error), 1e-12, "nats")


@world_check("vae.beta_bound", "vae.beta_encoder", worlds=("ppca",))
def one_direction_at_a_time(world: World, generator: Generator) -> Iterator[Outcome]:
    """With the columns of W along eigenvectors the averaged objective is a sum of one-latent formulas."""
    law = _linear(world)
    l, U = torch.linalg.eigh(_covariance(law))
    slopes, a, c = (_random(law.dim, generator=generator) for _ in range(3))
    v, c = scalar(law.v), c.exp()
    for beta in BETAS:
        whole = mean_bound(U * slopes, (U * a).T, torch.diag(c), law.v, _covariance(law), beta)
        parts = vae.beta_bound(a, c, slopes, l, v, scalar(beta)).sum()
        yield f"any encoder, beta = {beta:g}", exact(float((whole - parts).abs()), 1e-11, "nats")
        mine = LinearGaussian("rotated", U * slopes, law.mean, law.v).encoder(law.mean + U.T, beta)
        a_best, c_best = (f(slopes, v, scalar(beta)) for f in (vae.encoder_slope, vae.encoder_variance))
        error = (mine[0].diagonal() - a_best).abs().max() + (mine[1].diagonal() - c_best).abs().max()
        yield f"best encoder, beta = {beta:g}", exact(float(error), 1e-12, "slope and variance")
        trained = mean_bound(U * slopes, (U * a_best).T, torch.diag(c_best), law.v, _covariance(law), beta)
        gain = float((trained - vae.best_bound(slopes, l, v, scalar(beta)).sum()).abs())
        yield f"its objective, beta = {beta:g}", exact(gain, 1e-11, "nats")


@world_check(
    "vae.posterior_collapse_beta", "vae.posterior_collapse", "vae.beta_ppca", "vae.latent_rate", worlds=("ppca",)
)
def collapse(world: World, generator: Generator) -> Iterator[Outcome]:
    """Gradient ascent on decoder and encoder at once: it ends at PPCA's optimum for beta v, with the rates foretold."""
    law = _linear(world)
    covariance = _covariance(law)
    l = torch.linalg.eigvalsh(covariance).flip(0)[: law.latents]
    for beta in BETAS:
        W, A = (_random(*shape, generator=generator) for shape in ((5, 3), (3, 5)))
        log_s = torch.zeros(3, dtype=torch.float64)
        free = [part.requires_grad_() for part in (W, A, log_s)]

        def objective(beta: float = beta, W: Tensor = W, A: Tensor = A, log_s: Tensor = log_s) -> Tensor:
            return mean_bound(W, A, log_s.exp().diag(), law.v, covariance, beta)

        reached = _largest(objective, free, steps=400)
        w = vae.best_slope(l, scalar(law.v), scalar(beta))
        rest = torch.linalg.eigvalsh(covariance).flip(0)[law.latents :]
        foretold = vae.best_bound(w, l, scalar(law.v), scalar(beta)).sum()
        foretold += vae.best_bound(torch.zeros(2, dtype=torch.float64), rest, scalar(law.v), scalar(beta)).sum()
        yield f"objective, beta = {beta:g}", exact(abs(reached - float(foretold)), 1e-9, "nats")
        rates = mean_rates(A.detach(), log_s.detach().exp().diag(), covariance).sort(descending=True).values
        error = float((rates - vae.latent_rate(w, scalar(law.v), scalar(beta))).abs().max())
        yield f"rates, beta = {beta:g}", exact(error, 1e-6, "nats")
        known = mean_bound(best_W(covariance, law.v, 3, beta), *_posterior(law, beta), law.v, covariance, beta)
        yield f"PPCA, beta = {beta:g}", exact(float((known - foretold).abs()), 1e-12, "nats")


def _posterior(law: LinearGaussian, beta: float) -> tuple[Tensor, Tensor]:
    """A and S of the best encoder for the best W."""
    best = LinearGaussian("best", best_W(_covariance(law), law.v, law.latents, beta), law.mean, law.v)
    slopes, S = best.encoder(law.mean + torch.eye(law.dim, dtype=torch.float64), beta)
    return slopes.T, S


@world_check("vae.diagonal_encoder", "vae.diagonal_gap", "vae.diagonal_kl", "vae.posterior_precision", worlds=("ppca",))
def best_diagonal_encoder(world: World, generator: Generator) -> Iterator[Outcome]:
    """For each pair of columns of W: what gradient ascent over diagonal encoders still misses, against the formula."""
    law = _linear(world)
    for i, j in itertools.combinations(range(law.latents), 2):
        pair = LinearGaussian("pair", law.W[:, [i, j]], law.mean, law.v)
        x = pair.sample(1, generator)
        m, log_c = (torch.zeros(n, dtype=torch.float64).requires_grad_() for n in (2, 2))

        def objective(pair: LinearGaussian = pair, x: Tensor = x, m: Tensor = m, log_c: Tensor = log_c) -> Tensor:
            return pair.bound(x, m[None], log_c.exp().diag())[0]

        reached = _largest(objective, [m, log_c])
        P = pair.precision()
        rho = P[0, 1].abs() / (P[0, 0] * P[1, 1]).sqrt()
        missed = float(pair.log_density(x)) - reached
        yield f"columns {i}, {j}", exact(abs(missed - float(vae.diagonal_gap(rho))), 1e-9, "nats")
        turned = LinearGaussian("turned", pair.W @ torch.linalg.svd(pair.W).Vh.T, law.mean, law.v)
        mean, S = turned.encoder(x)
        tight = turned.log_density(x) - turned.bound(x, mean, S.diagonal().diag())
        yield f"columns {i}, {j} made orthogonal", exact(float(tight.abs()), 1e-12, "nats")


# ------------------------------------------------------------------------------------------------ by enumeration


def _probabilities(*shape: int, generator: Generator) -> Tensor:
    """Random laws on the last axis."""
    return _random(*shape, generator=generator).softmax(-1)


@world_check("vae.iwae_monotone", "vae.leave_one_out", "vae.iwae_bound", worlds=("ppca",))
def importance_weights(world: World, generator: Generator) -> Iterator[Outcome]:
    """z takes five values: every draw of K of them is summed over, K = 1 .. 5."""
    law = _linear(world)
    z, x = _random(STATES, 3, generator=generator), law.sample(1, generator).expand(STATES, -1)
    encoder = _probabilities(STATES, generator=generator).log()
    log_w = law.log_joint(x, z) - encoder
    evidence = float(torch.logsumexp(log_w + encoder, 0))
    bounds, gains = [], []
    for K in range(1, 6):
        draws = torch.cartesian_prod(*[torch.arange(STATES)] * K).reshape(-1, K)
        p = encoder[draws].sum(-1).exp()
        mean = vae.importance_weighted(log_w[draws])
        bounds.append(float(p @ mean))
        if K > 1:  # the gain as a divergence: p against p times a leave-one-out mean over the mean
            left = vae.importance_weighted(log_w[draws[:, 1:]])
            gains.append((float(p @ (left - mean).exp()), float(p @ (mean - left))))
    steps = [b - a for a, b in itertools.pairwise(bounds)]
    yield "K = 1 is the ELBO", exact(abs(bounds[0] - float(encoder.exp() @ log_w)), 1e-12, "nats")
    yield "no step goes down", exact(-min(steps), 0.0, "nats")
    yield "all are below the evidence", exact(max(bounds) - evidence, 0.0, "nats")
    yield "leave-one-out means are right on average", exact(max(abs(q - 1) for q, _ in gains), 1e-12, "relative")
    error = max(abs(kl - step) for (_, kl), step in zip(gains, steps, strict=True))
    yield "a step is a divergence", exact(error, 1e-12, "nats")


@world_check("vae.beta_vae_constrained", "vae.beta_optimum", "vae.beta_multiplier", worlds=("ppca",))
def constrained_optimum(world: World, generator: Generator) -> Iterator[Outcome]:
    """z takes five values: no encoder as close to the prior as r reconstructs better; beta is the price of a nat."""
    prior, log_decoder = _probabilities(STATES, generator=generator), _random(STATES, generator=generator)

    def optimum(beta: float) -> Tensor:
        return (prior.log() + log_decoder / beta).softmax(-1)

    def rate(q: Tensor) -> Tensor:
        return (q * (q / prior).log()).sum(-1)

    for beta in BETAS:
        r = optimum(beta)
        C, best = rate(r), r @ log_decoder
        q = _probabilities(20_000, STATES, generator=generator)
        for _ in range(60):  # towards the prior until the constraint holds
            q = torch.where((rate(q) > C)[:, None], 0.9 * q + 0.1 * prior, q)
        q = q[rate(q) <= C]
        yield f"none is better, beta = {beta:g}", exact(float((q @ log_decoder).max() - best), 0.0, "nats")
        evidence = torch.logsumexp(prior.log() + log_decoder / beta, 0)
        error = float((best - beta * evidence - beta * C).abs())
        yield f"the bound is met, beta = {beta:g}", exact(error, 1e-12, "nats")
        near = [optimum(beta * (1 + d)) for d in (-1e-4, 1e-4)]
        price = float((near[1] - near[0]) @ log_decoder / (rate(near[1]) - rate(near[0])))
        yield f"price of a nat, beta = {beta:g}", exact(abs(price / beta - 1), 1e-6, "relative error of beta")


def by_bayes(step: Tensor, before: Tensor) -> Tensor:
    """q(z_(k-1) | z_k, x), a row for each z_k, from the step q(z_k | z_(k-1)) and the law of z_(k-1) before it."""
    joint = step * before[:, None]
    return (joint / joint.sum(0)).T


@world_check("vae.hierarchical_elbo", "vae.hierarchical_level", "ddpm.telescope", worlds=("ppca",))
def hierarchy(world: World, generator: Generator) -> Iterator[Outcome]:
    """Three levels of five states: the bound summed over all 125 paths, against its levels by Bayes' rule."""
    T = 3
    up = [_probabilities(STATES, generator=generator)]  # q(z_1 | x), then q(z_k | z_(k-1)) row by row
    up += [_probabilities(STATES, STATES, generator=generator) for _ in range(T - 1)]
    top, down = (_probabilities(*shape, generator=generator) for shape in ((STATES,), (T - 1, STATES, STATES)))
    log_decoder = _random(STATES, generator=generator)
    total = 0.0
    for path in itertools.product(range(STATES), repeat=T):
        log_q, log_p = float(up[0][path[0]].log()), float(log_decoder[path[0]] + top[path[-1]].log())
        for k in range(1, T):
            log_q += float(up[k][path[k - 1], path[k]].log())
            log_p += float(down[k - 1][path[k], path[k - 1]].log())
        total += math.exp(log_q) * (log_p - log_q)
    marginals = [up[0]]
    for step in up[1:]:
        marginals.append(marginals[-1] @ step)
    parts = float(marginals[0] @ log_decoder - marginals[-1] @ (marginals[-1] / top).log())
    for k in range(1, T):
        back = by_bayes(up[k], marginals[k - 1])
        divergence = (back * (back / down[k - 1]).log()).sum(-1)
        yield f"level {k} takes something off", exact(-float(divergence.min()), 0.0, "nats")
        parts -= float(marginals[k] @ divergence)
    yield "sum of levels", exact(abs(total - parts), 1e-12, "nats")
