r"""Generative models before diffusion, held against worlds: enumeration, quadrature, autograd and iteration.

A formula says what a sampler, a training loop or a distance would do; here they do it. The next token is drawn, the
layers are inverted, the generator's gradient is taken through its samples, the two players take their steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from diffusion import adversarial, autoregressive, divergence, game, gaussian
from toy.mixture import Mixture
from toy.mixture import gaussian as normal
from toy.points import Points
from toy.world import World
from verify.checks.chains import scalar
from verify.statistics import exact, mean_zero, uniform
from verify.worlds import FALSE_FAIL, Outcome, world_check

N = 20_000
Curve = Callable[[Tensor], Tensor]


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# ----------------------------------------------------------------------------------------- likelihood and divergences


@world_check("generative.max_likelihood", worlds=("gaussian",))
def surprise_beyond_entropy(world: World, generator: Generator) -> Iterator[Outcome]:
    """The mean surprise of the wrong model N(m, v), less the world's entropy, is its divergence from the world."""
    assert isinstance(world, Mixture) and world.basis is not None
    z = (world.sample(N, generator) - world.means[0]) @ world.basis[0]  # independent coordinates of variance l
    l, m, v = world.variances[0], vector(0.3, -0.2), vector(1.2, 0.3)
    right = gaussian.log_normal(z, torch.zeros_like(z), l.expand_as(z))
    wrong = gaussian.log_normal(z, m.expand_as(z), v.expand_as(z))
    divergences = gaussian.kl(0 * m, l, m, v).sum()
    a, b = (1 / v - 1 / l) / 2, -m / v  # the excess surprise is a z^2 + b z and a constant
    variance = (2 * a**2 * l**2 + b**2 * l).sum()
    excess = (right - wrong).sum(1) - divergences
    yield "mean excess", mean_zero(excess.numpy(), variance.expand(N).numpy(), FALSE_FAIL)


@world_check(
    "generative.kl_two_points",
    "generative.reverse_kl",
    "generative.js_two_points",
    "generative.js",
    "generative.total_variation",
    "generative.pinsker",
    worlds=("ring", "spiral"),
)
def events(world: World, generator: Generator) -> Iterator[Outcome]:
    """Two laws on eight places, the world at two noise levels, and the coin that each event makes of them."""
    places = world.sample(8, generator)
    P, Q = (world.log_density(places, alpha, sigma).softmax(0) for alpha, sigma in ((1.0, 0.3), (0.6, 0.8)))
    kinds = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8)), dtype=torch.float64)[1:-1]  # not none, not all
    p, q = kinds @ P, kinds @ Q
    tv, kl, js = (f(p, q) for f in (divergence.total_variation, divergence.kl, divergence.js))
    whole, middle = (P * (P / Q).log()).sum(), (P + Q) / 2
    all_js = ((P * (P / middle).log()).sum() + (Q * (Q / middle).log()).sum()) / 2
    best = float((P - Q).abs().sum() / 2)
    yield "the best event attains half the sum of |P - Q|", exact(abs(float(tv.max()) - best), 1e-14, "probability")
    yield "Pinsker: 2 TV^2 - KL, at most", exact(max(float((2 * tv**2 - kl).max()), 0.0), 1e-15, "nats")
    yield "no event knows more than the place: KL", exact(max(float(kl.max() - whole), 0.0), 1e-15, "nats")
    yield "no event knows more than the place: JS", exact(max(float(js.max() - all_js), 0.0), 1e-15, "nats")
    opposite = divergence.kl(p, 1 - p) - divergence.kl(1 - p, p)
    yield "either way round between opposite coins", exact(float(opposite.abs().max()), 1e-15, "nats")
    two = (divergence.kl(p, (p + q) / 2) + divergence.kl(q, (p + q) / 2)) / 2
    yield "JS is the mean divergence from the middle", exact(float((js - two).abs().max()), 1e-15, "nats")
    yield "JS is at most log 2", exact(max(float(js.max()) - math.log(2), 0.0), 0.0, "nats")


@world_check("generative.js_disjoint", "generative.wasserstein_shift", worlds=("points",))
def shifted_points(world: World, generator: Generator) -> Iterator[Outcome]:
    """Five points and the same five moved by d: all 120 plans that split no point, and JS by counting."""
    assert isinstance(world, Points)
    x = world.points
    plans = torch.tensor(list(itertools.permutations(range(len(x)))))
    for d in (0.01, 1.0, 100.0):
        y = x + vector(d, 0.0)
        costs = (x[:, None] - y).norm(dim=-1)[torch.arange(len(x)), plans].mean(1)
        yield f"W_1 at d = {d:g}", exact(abs(float(costs.min()) / d - 1), 1e-12, "relative error")
        places, which = torch.cat([x, y]).unique(dim=0, return_inverse=True)
        P, Q = (torch.bincount(side, minlength=len(places)).double() / len(x) for side in which.split(len(x)))
        js = sum(float(torch.special.xlogy(a, 2 * a / (P + Q)).nansum()) for a in (P, Q)) / 2
        yield f"JS at d = {d:g}", exact(abs(js - math.log(2)), 1e-14, "nats")


# --------------------------------------------------------------------------------------------- autoregressive models

BITS = 6


def _law(world: World) -> Tensor:
    """A law of strings of six bits, [64]: the world's density on 8 x 8 places, a bit of x_1 and of x_2 in turn."""
    axis = torch.linspace(-1.75, 1.75, 8, dtype=torch.float64)
    weights = world.log_density(torch.cartesian_prod(axis, axis), 0.9, 0.3).exp().reshape(2, 2, 2, 2, 2, 2)
    return (weights / weights.sum()).permute(0, 3, 1, 4, 2, 5).flatten()


def _conditional(law: Tensor) -> autoregressive.Conditional:
    """The law's own next-bit probabilities, by summing over all that may come later."""

    def conditional(prefix: Tensor) -> Tensor:
        k = prefix.shape[1]
        place = (prefix * 2 ** torch.arange(k - 1, -1, -1)).sum(1)
        pairs = law.reshape(2**k, 2, -1).sum(-1)[place]
        return pairs / pairs.sum(1, keepdim=True)

    return conditional


@world_check(
    "generative.chain_rule", "generative.ancestral_sampling", "generative.any_conditionals", worlds=("ring", "spiral")
)
def strings(world: World, generator: Generator) -> Iterator[Outcome]:
    """All 64 strings by the chain rule, and draws token by token, against the law that the conditionals come from."""
    law = _law(world)
    conditional = _conditional(law)
    every = torch.tensor(list(itertools.product((0, 1), repeat=BITS)))
    nats = autoregressive.log_probability(conditional, every)
    yield "chain rule", exact(float((nats - law.log()).abs().max()), 1e-12, "nats")
    yield "sum of all strings", exact(abs(float(nats.exp().sum()) - 1), 1e-13, "probability")

    drawn = autoregressive.sample(conditional, BITS, N, generator)
    place = (drawn * 2 ** torch.arange(BITS - 1, -1, -1)).sum(1)
    below = law.cumsum(0) - law
    u = below[place] + law[place] * torch.rand(N, generator=generator, dtype=torch.float64)
    yield "draws, spread over their string's share of (0, 1)", uniform(u.clamp(0, 1).numpy(), FALSE_FAIL)


# ------------------------------------------------------------------------------------------------------------- flows


def _to_uniform(world: Mixture, x: Tensor) -> Tensor:
    """Two layers, each moving one coordinate: x_2 to F(x_2 | x_1), then x_1 to F(x_1). Isotropic mixtures."""
    s = world.variances[:, 0].sqrt()
    z = (x[:, None] - world.means) / s[:, None]  # [batch, K, 2]
    first = world.weights * torch.exp(-(z[..., 0] ** 2) / 2) / s
    share = first / first.sum(1, keepdim=True)
    inner = (share * torch.special.ndtr(z[..., 1])).sum(1)
    outer = (world.weights * torch.special.ndtr(z[..., 0])).sum(1)
    return torch.stack([outer, inner], 1)


@world_check("generative.flow_density", "generative.flow_layers", worlds=("ring", "grid", "two_moons"))
def layers(world: World, generator: Generator) -> Iterator[Outcome]:
    """A normalizing flow from the world to the unit square: its log-determinant is the world's log density."""
    assert isinstance(world, Mixture) and world.isotropic
    x = world.sample(N, generator)
    u = _to_uniform(world, x)
    yield "x_1 made uniform", uniform(u[:, 0].clamp(0, 1).numpy(), FALSE_FAIL)
    yield "x_2 made uniform, given x_1", uniform(u[:, 1].clamp(0, 1).numpy(), FALSE_FAIL)
    with torch.enable_grad():
        at = x[:200].clone().requires_grad_()
        rows = [torch.autograd.grad(c.sum(), at, retain_graph=True)[0] for c in _to_uniform(world, at).T]
    nats = torch.stack(rows, 1).det().abs().log()
    yield "log determinant", exact(float((nats - world.log_density(x[:200])).abs().max()), 1e-8, "nats")


# ----------------------------------------------------------------------------------------------------------- energies


@world_check("generative.energy_score", "generative.energy_gradient", worlds=("ring", "two_moons"))
def tilted_energy(world: World, generator: Generator) -> Iterator[Outcome]:
    """The energy E + t <a, x>, whose law is again a mixture: Z leaves the score, and not the derivative in t."""
    assert isinstance(world, Mixture) and world.isotropic
    a, v = vector(0.7, -0.4), world.variances[:, 0]
    x, rise = world.sample(200, generator), world.means @ a

    def tilted(t: Tensor) -> Mixture:
        """exp(-E - t <a, x>)/Z: component k moves by -t v_k a, its weight by exp(-t <a, m_k> + t^2 v_k |a|^2/2)."""
        weights = world.weights * torch.exp(-t * rise + t**2 * v * (a @ a) / 2)
        return Mixture("tilted", weights, world.means - t * v[:, None] * a, v)

    t, h = scalar(0.3), 1e-4
    law = tilted(t)
    score = world.score(x) - t * a
    error = float((law.score(x) - score).abs().max() / score.abs().max())
    yield "score, without Z", exact(error, 1e-12, "relative error")
    slope = (tilted(t + h).log_density(x) - tilted(t - h).log_density(x)) / (2 * h)
    mean = (law.weights @ law.means) @ a
    yield "slope in t, with the mean that Z leaves", exact(float((slope - (mean - x @ a)).abs().max()), 1e-6, "nats")


# --------------------------------------------------------------------------------------------------------------- GANs

LINE = torch.linspace(-14, 14, 5601, dtype=torch.float64)


def _integral(values: Tensor) -> float:
    return float(torch.trapezoid(values, LINE))


@world_check("generative.optimal_discriminator", "generative.gan_value", worlds=("bimodal",))
def discriminator(world: World, generator: Generator) -> Iterator[Outcome]:
    """The data against N(0.5, 0.8): D* gains 2 JS - log 4, JS by entropies; any other discriminator gains less."""
    assert isinstance(world, Mixture)
    fake = normal("fake", vector(0.5), 0.8)
    p, q = (law.log_density(LINE[:, None]).exp() for law in (world, fake))
    best = adversarial.optimal_discriminator(p, q)

    def gain(D: Tensor) -> float:
        return _integral(torch.special.xlogy(p, D) + torch.special.xlogy(q, 1 - D))

    halves = torch.cat([world.weights / 2, fake.weights / 2])
    both = Mixture(
        "both", halves, torch.cat([world.means, fake.means]), torch.cat([world.variances, fake.variances])[:, 0]
    )
    js = both.entropy() - (world.entropy() + fake.entropy()) / 2
    yield "gain of D*", exact(abs(gain(best) - (2 * js - math.log(4))), 1e-5, "nats")
    for k in range(3):
        nudge = torch.sin((k + 1) * LINE + k)
        worse = [torch.sigmoid(torch.logit(best, eps=1e-300) + step * nudge) for step in (-0.1, 0.1)]
        yield f"gain of others, {k}", exact(max(0.0, max(map(gain, worse)) - gain(best)), 0.0, "nats")


def _slope(f: Curve, theta: float) -> float:
    """df/dtheta by autograd."""
    with torch.enable_grad():
        at = scalar(theta).requires_grad_()
        (slope,) = torch.autograd.grad(f(at), at)
    return float(slope)


def _log_normal(x: Tensor, mean: Tensor) -> Tensor:
    return gaussian.log_normal(x, mean, scalar(1.0))


@world_check(
    "generative.non_saturating_gradient",
    "generative.saturating_gradient",
    "generative.discriminator_followed",
    "generative.non_saturating_sign",
    worlds=("bimodal",),
)
def generator_gradients(world: World, generator: Generator) -> Iterator[Outcome]:
    """A generator z + theta, z ~ N(0, 1): the gradient through its samples, D* held or followed, and whose it is."""
    weight = _log_normal(LINE, scalar(0.0)).exp()

    def logit(x: Tensor, theta: Tensor) -> Tensor:
        """log p - log q, the logit of D* against the generator of parameter theta."""
        return world.log_density(x[:, None]) - _log_normal(x, theta)

    def trained(loss: Curve, held: bool) -> Curve:
        def mean(theta: Tensor) -> Tensor:
            stays = theta.detach() if held else theta
            return torch.trapezoid(weight * loss(logit(LINE + theta, stays)), LINE)

        return mean

    def kl(a: Curve, b: Curve) -> Curve:
        return lambda theta: torch.trapezoid(a(theta).exp() * (a(theta) - b(theta)), LINE)

    def data(theta: Tensor) -> Tensor:
        return world.log_density(LINE[:, None])

    def fake(theta: Tensor) -> Tensor:
        return _log_normal(LINE, theta)

    def middle(theta: Tensor) -> Tensor:
        return torch.logaddexp(data(theta), fake(theta)) - math.log(2)

    q_p, q_m, p_m = kl(fake, data), kl(fake, middle), kl(data, middle)
    silent, loud = adversarial.saturating_loss, adversarial.non_saturating_loss
    for theta in (0.1, 0.8, 2.0):
        to_p, to_m, from_p = (_slope(f, theta) for f in (q_p, q_m, p_m))
        pairs = {
            "non-saturating, held": (trained(loud, True), to_p - to_m - from_p),
            "non-saturating, followed": (trained(loud, False), to_p - to_m),
            "saturating, held": (trained(silent, True), to_m + from_p),
        }
        for name, (loss, wanted) in pairs.items():
            yield f"{name}, theta = {theta}", exact(abs(_slope(loss, theta) - wanted), 1e-10, "slope")


# --------------------------------------------------------------------------------------------------------- the game


@world_check(
    "generative.bilinear_simultaneous",
    "generative.bilinear_alternating",
    "generative.alternating_orbits",
    "generative.alternating_at_two",
    "generative.gradient_penalty",
    worlds=("gaussian",),
)
def bilinear_game(world: World, generator: Generator) -> Iterator[Outcome]:
    """The two players from many starts: what a thousand steps do, step by step, for each kind of step."""
    x, y = world.sample(100, generator).T
    h, none = scalar(0.3), scalar(0.0)

    def play(
        x: Tensor, y: Tensor, h: Tensor, c: Tensor, steps: int = 1, alternate: bool = False
    ) -> tuple[Tensor, Tensor]:
        for _ in range(steps):
            moved = game.generator_step(x, y, h)
            y = game.discriminator_step(moved if alternate else x, y, h, c)
            x = moved
        return x, y

    a, b = play(x, y, h, none, steps=100)
    growth = (a.hypot(b) / x.hypot(y)).log() / 100
    yield "simultaneous, growth a step", exact(float((growth - (1 + h**2).log() / 2).abs().max()), 1e-13, "nats a step")

    a, b = play(x, y, h, none, steps=1000, alternate=True)
    ellipse, later = (u**2 - h * u * w + w**2 for u, w in ((x, y), (a, b)))
    yield "alternating, 1000 steps on the ellipse", exact(float((later / ellipse - 1).abs().max()), 1e-11, "relative")

    a, _ = play(x, y, scalar(2.0), none, steps=1000, alternate=True)
    error = float(((a - (x + 2000 * (y - x))) / (y - x)).abs().max())
    yield "alternating at h = 2, runs away", exact(error, 1e-6, "of 2000")

    for c in (0.1, 0.3, 0.9, 1.9):
        jacobian = torch.stack(play(vector(1, 0), vector(0, 1), h, scalar(c)))  # the step is linear
        moduli = torch.linalg.eigvals(jacobian).abs()
        error = float((moduli**2 - (1 - c * h + h**2)).abs().max())
        yield f"penalty {c}, modulus squared", exact(error, 1e-14, "of 1 - c h + h^2")
