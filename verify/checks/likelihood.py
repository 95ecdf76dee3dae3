"""Likelihoods and their bounds on laws whose nats are known in closed form.

Bounds on Gaussian data, coordinate by coordinate along its eigenvectors, means at 0: see `toy/backward.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from scipy.integrate import simpson
from torch import Generator, Tensor

from diffusion import bound, hutchinson
from diffusion.likelihood import log_likelihood
from diffusion.schedules import Schedule, cosine, edm, flow, vp_linear
from toy import backward
from toy.field import Field
from toy.mixture import Mixture
from toy.world import World
from verify.statistics import exact, mean_zero
from verify.worlds import FALSE_FAIL, Outcome, world_check

DOUBLE = torch.float64


def at(t: float) -> Tensor:
    return torch.tensor(t, dtype=DOUBLE)


def levels(schedule: Schedule, t: float) -> tuple[float, float]:
    return float(schedule.alpha(at(t))), float(schedule.sigma(at(t)))


# --------------------------------------------------------------------------------------------- the flow's likelihood


@world_check("sde.flow_likelihood", worlds=("field",))
def flow_likelihood_of_images(world: World, generator: Generator) -> Iterator[Outcome]:
    """Images [batch, 1, 8, 8] under schedules with unlike ends, each with the prior that is the law's at t = 1."""
    assert isinstance(world, Field)
    for schedule, start in ((flow(), 0.05), (edm(), 0.3)):
        _, x = world.noised(2, *levels(schedule, start), generator)
        nats = log_likelihood(
            _denoiser(world, schedule),
            schedule,
            world.image(x),
            start=start,
            log_prior=_law_at_the_end(world, schedule),
            rtol=1e-6,
            atol=1e-6,
        )
        error = float((nats - world.log_density(x, *levels(schedule, start))).abs().max())
        yield schedule.name, exact(error, 1e-3, "nats")


def _denoiser(world: Field, schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, t: world.image(world.denoiser(world.flat(x), schedule.alpha(t), schedule.sigma(t)))


def _law_at_the_end(world: Field, schedule: Schedule) -> Callable[[Tensor], Tensor]:
    return lambda x: world.log_density(world.flat(x), *levels(schedule, 1.0))


@world_check("sde.hutchinson_likelihood", "sde.hutchinson_unbiased", worlds=("field",))
def estimates_of_images(world: World, generator: Generator) -> Iterator[Outcome]:
    """Random signs on 64 pixels: the estimate is the exact likelihood, off by a mean-zero error of the known variance.

    The denoiser is linear, so a probe gathers v^T M v, M = int b J dt: diagonal in the Hartley basis, as J is.
    """
    assert isinstance(world, Field)
    schedule, start, n = cosine(), 0.2, 4000
    _, x = world.noised(n, *levels(schedule, start), generator)
    S = world.spectrum

    def gathered(t: Tensor) -> Tensor:
        alpha, sigma, alpha_dot, sigma_dot = (v[:, None] for v in schedule.kernel(t))
        return (alpha_dot - alpha * sigma_dot / sigma) * alpha * S / (alpha**2 * S + sigma**2)

    basis = world.hartley(torch.eye(world.dim, dtype=DOUBLE))
    M = (basis * backward.over(gathered, start, 1.0)) @ basis
    kinds: tuple[hutchinson.Kind, ...] = ("rademacher", "gaussian")
    for kind in kinds:
        nats = log_likelihood(
            _denoiser(world, schedule),
            schedule,
            world.image(x),
            start=start,
            probes=1,
            generator=generator,
            kind=kind,
            log_prior=_law_at_the_end(world, schedule),
            rtol=1e-3,
            atol=1e-3,
        )
        off = nats - world.log_density(x, *levels(schedule, start))
        variance = hutchinson.variance(M, kind).expand(n)
        yield kind, mean_zero(off.numpy(), variance.numpy(), FALSE_FAIL)


@world_check("sde.hutchinson_variance_gaussian", "sde.hutchinson_variance_rademacher", worlds=("ring", "two_moons"))
def probes_of_a_jacobian(world: World, generator: Generator) -> Iterator[Outcome]:
    """v^T J v of the denoiser over every probe there is: all signs, and Gauss-Hermite nodes, exact to degree 5."""
    alpha, sigma = 0.6, 0.8
    _, x = world.noised(50, alpha, sigma, generator)
    J = alpha / sigma**2 * world.posterior_covariance(x, alpha, sigma)
    root = 3**0.5
    laws: tuple[tuple[hutchinson.Kind, tuple[float, ...], tuple[float, ...]], ...] = (
        ("rademacher", (-1.0, 1.0), (0.5, 0.5)),
        ("gaussian", (-root, 0.0, root), (1 / 6, 2 / 3, 1 / 6)),
    )
    for kind, node, weight in laws:
        grid, w = (torch.cartesian_prod(*[torch.tensor(v, dtype=DOUBLE)] * 2) for v in (node, weight))
        vectors = grid[:, None].expand(-1, len(x), -1)
        with torch.enable_grad():
            _, forms = hutchinson.quadratic_forms(lambda y: world.denoiser(y, alpha, sigma), x, vectors)
        mean, share = w.prod(-1) @ forms, w.prod(-1)
        trace = J.diagonal(dim1=-2, dim2=-1).sum(-1)
        yield f"{kind}, mean", exact(float((mean - trace).abs().max()), 1e-12, "trace")
        spread = share @ (forms - mean) ** 2
        error = float((spread / hutchinson.variance(J, kind) - 1).abs().max())
        yield f"{kind}, variance", exact(error, 1e-9, "relative error of the variance")


# ------------------------------------------------------------------------------------------------- KL along time


@world_check("sde.kl_derivative", "sde.kl_model", worlds=("gaussian",))
def rates_of_kl(world: World, generator: Generator) -> Iterator[Outcome]:
    """d/dt KL, by the chain rule through both variances, against the claims' means of squares over p, x^2 = v."""
    assert isinstance(world, Mixture)
    schedule, t = vp_linear(), at(0.3)
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    f, g2 = schedule.drift(t), schedule.diffusion2(t)
    v = alpha**2 * world.variances[0] + sigma**2
    V = alpha**2 * torch.tensor([0.7, 1.9], dtype=DOUBLE) + sigma**2  # other data, the same noise
    v_dot = 2 * f * v + g2
    rate = torch.func.jvp(backward.kl, (v, V), (v_dot, 2 * f * V + g2))[1]
    scores = ((1 / v - 1 / V) ** 2 * v).sum()  # E (score_p - score_q)^2
    yield "one SDE", exact(float((rate / (-g2 / 2 * scores) - 1).abs()), 1e-12, "relative error of the rate")
    for noise in (0.0, 0.5, 1.0, 2.0):
        wrong = 0.1
        rate = torch.func.jvp(backward.kl, (v, V), (v_dot, backward.model_rate(V, v, f, g2, noise, wrong)))[1]
        model, own, other = -(1 + wrong) / v, -1 / v, -1 / V  # scores over x: the model's, p's, q's
        mean = (v * (own - other) * (model - own + noise**2 * (model - other))).sum()
        error = float((rate / (g2 / 2 * mean) - 1).abs())
        yield f"model, noise {noise} g", exact(error, 1e-12, "relative error of the rate")


def spared(data: Tensor, schedule: Schedule, noise: float, wrong: float, t: Tensor, V: Tensor) -> float:
    """int (g^2/2) E (lambda (score_p - score_q) + (lambda + 1/lambda)/2 (s - score_p))^2 dt, V at times t; Simpson."""
    v, g2 = backward.noised(data, schedule, t), schedule.diffusion2(t)
    square = v * (noise * (1 / V - 1 / v) - (noise + 1 / noise) / 2 * wrong / v) ** 2
    return float(simpson((g2 / 2 * square.sum(-1)).numpy(), x=-t.numpy()))


@world_check("sde.likelihood_weighting", "sde.kl_model", worlds=("gaussian",))
def weighted_loss_bounds_the_sde(world: World, generator: Generator) -> Iterator[Outcome]:
    """A score wrong by one share, noise lambda g: KL is (lambda + 1/lambda)^2/4 losses, less the mean of a square."""
    assert isinstance(world, Mixture)
    schedule, data, wrong = vp_linear(), world.variances[0], 0.1
    loss = backward.weighted_loss(data, schedule, wrong)
    for noise in (0.5, 1.0, 2.0):
        t, V = backward.drawn_back(data, schedule, noise, wrong)
        nats, allowed = float(backward.kl(data, V[-1])), (noise + 1 / noise) ** 2 / 4 * loss
        yield f"noise {noise} g, bound", exact(nats - allowed, 0.0, "nats over the bound")
        left = allowed - spared(data, schedule, noise, wrong, t, V)
        yield f"noise {noise} g, what it spares", exact(abs(left - nats), 1e-5, "nats")


@world_check("sde.ode_exceeds", worlds=("gaussian",))
def weighted_loss_does_not_bound_the_ode(world: World, generator: Generator) -> Iterator[Outcome]:
    """The same score in the probability-flow ODE: KL is more than the loss."""
    assert isinstance(world, Mixture)
    schedule, data = vp_linear(), world.variances[0]
    for wrong in (0.1, -0.1):
        _, V = backward.drawn_back(data, schedule, 0.0, wrong)
        loss, nats = backward.weighted_loss(data, schedule, wrong), backward.kl(data, V[-1])
        yield f"score wrong by {wrong}", exact(1.2 * loss - float(nats), 0.0, "nats under 1.2 losses")


# --------------------------------------------------------------------------------------------------- whole paths


@world_check("sde.girsanov", worlds=("gaussian",))
def path_kl_of_chains(world: World, generator: Generator) -> Iterator[Outcome]:
    """Euler chains of drifts a x and b x: the sum of the steps' KL tends to int (a - b)^2 E x^2/(2 g^2) dt, order 1."""
    assert isinstance(world, Mixture)
    start = world.variances[0]
    a, b, g = -0.5, 0.3, 0.8

    def second(t: Tensor) -> Tensor:
        grown = torch.exp(2 * a * t)[:, None]
        return ((a - b) ** 2 * (grown * start + g**2 * (grown - 1) / (2 * a))).sum(-1) / (2 * g**2)

    whole, errors = float(backward.over(second, 0.0, 1.0)), []
    for steps in (100, 200):
        h, total, m = at(1 / steps), 0.0, start
        for _ in range(steps):
            total += float(bound.path_kl(a * m.sqrt(), b * m.sqrt(), at(g), h).sum())
            m = (1 + a * h) ** 2 * m + g**2 * h
        errors.append(total - whole)
    yield "limit", exact(abs(errors[1]) / whole, 0.01, "relative error at 200 steps")
    yield "order 1", exact(abs(errors[0] / errors[1] - 2), 0.02, "ratio of errors at 100 and 200 steps, less 2")


@world_check("sde.sampler_error", worlds=("gaussian",))
def sampler_error_is_bounded(world: World, generator: Generator) -> Iterator[Outcome]:
    """KL(data || sampler) on Gaussian data, exactly, against prior + score + discretisation: far below it.

    With the exact score the bound falls like h, the KL itself like h^2: marginals are more forgiving than paths. So far
    below that terms a tenth as large would still do; on N(0, 1), which VP keeps, score and discretisation are known.
    """
    assert isinstance(world, Mixture)
    schedule, data, terms = vp_linear(), world.variances[0], {}
    for steps in (50, 100):
        for wrong in (0.0, 0.1):
            terms[steps, wrong] = found = backward.sampled(data, schedule, steps, wrong)
            yield (
                f"{steps} steps, score wrong by {wrong}",
                exact(found.nats - found.bound, 0.0, "nats over the bound"),
            )
    coarse, fine = terms[50, 0.0], terms[100, 0.0]
    for name, ratio, wanted in (
        ("bound on discretisation is O(h)", coarse.discretisation / fine.discretisation, 2),
        ("with the exact score KL is O(h^2)", coarse.nats / fine.nats, 4),
    ):
        yield name, exact(abs(ratio - wanted), 0.2, f"ratio at 50 and 100 steps, less {wanted}")

    levels = torch.log(schedule.alpha(torch.linspace(0, 1, 51, dtype=DOUBLE)))
    spent = -2 * levels.diff()  # int beta dt of each step; a score kept for it changes by 2 (1 - exp(-int beta dt/2))
    found = backward.sampled(torch.ones(1, dtype=DOUBLE), schedule, 50, 0.1)
    for name, term, whole in (
        ("score, N(0, 1)", found.score, 0.01 * spent.sum()),
        ("discretisation, N(0, 1)", found.discretisation, (2 * spent + 4 * torch.expm1(-spent / 2)).sum()),
    ):
        yield name, exact(abs(term / float(whole) - 1), 1e-9, "relative error of the term")
