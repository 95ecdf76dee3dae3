"""The checks of generative models fail when an error is planted in the code, the world or the way it is used."""

import pytest
import torch

from diffusion import adversarial, autoregressive, divergence, game, gaussian
from toy.mixture import Mixture
from toy.points import Points
from verify.checks import generative, memorisation
from verify.worlds import checks, run

pytestmark = pytest.mark.slow  # each check is run, whole and broken

OURS = {c.name: c for c in checks() if c.function.__module__ in (generative.__name__, memorisation.__name__)}


def failures(name, world):
    return [row.check for row in run(OURS[name], world) if not row.holds]


@pytest.mark.parametrize("name, world", [(c.name, world) for c in OURS.values() for world in c.worlds])
def test_everything_holds(name, world):
    assert failures(name, world) == []


def blind(conditional, length, n, generator):
    """Tokens drawn with the model told of the last token alone."""
    tokens = torch.empty(n, 0, dtype=torch.long)
    for k in range(length):
        law = conditional(torch.cat([torch.zeros_like(tokens[:, :-1]), tokens[:, -1:]], 1) if k else tokens)
        tokens = torch.cat([tokens, torch.multinomial(law, 1, generator=generator)], 1)
    return tokens


# (check, world, what to break, how)
PLANTED = [
    ("surprise_beyond_entropy", "gaussian", (gaussian, "kl"), lambda f: lambda *a: 1.15 * f(*a)),
    ("surprise_beyond_entropy", "gaussian", (gaussian, "kl"), lambda f: lambda m, v, n, w: f(n, w, m, v)),
    ("events", "ring", (divergence, "kl"), lambda f: lambda p, q: f(q, p)),
    ("events", "ring", (divergence, "kl"), lambda f: lambda p, q: f(p, q) / 4),
    ("events", "spiral", (divergence, "js"), lambda f: lambda p, q: f(p, q) + f(p, 1 - q)),
    ("events", "ring", (divergence, "total_variation"), lambda f: lambda p, q: 2 * f(p, q)),
    ("strings", "ring", (autoregressive, "sample"), lambda f: blind),
    ("strings", "spiral", (autoregressive, "log_probability"), lambda f: lambda c, t: f(c, t.flip(1))),
    ("layers", "ring", (torch.special, "ndtr"), lambda f: lambda z: f(1.15 * z)),
    ("layers", "two_moons", (generative, "_to_uniform"), lambda f: lambda w, x: f(w, x).mul(2)[:, [1, 0]].sin()),
    ("tilted_energy", "ring", (Mixture, "score"), lambda f: lambda w, x: 1.001 * f(w, x)),
    ("tilted_energy", "two_moons", (Mixture, "log_density"), lambda f: lambda w, x: f(w, x) + w.means.sum()),
    ("discriminator", "bimodal", (adversarial, "optimal_discriminator"), lambda f: lambda p, q: q / (p + q)),
    ("discriminator", "bimodal", (Mixture, "entropy"), lambda f: lambda w: f(w) * 1.001),
    ("generator_gradients", "bimodal", (adversarial, "saturating_loss"), lambda f: lambda l: -torch.sigmoid(l)),
    ("generator_gradients", "bimodal", (adversarial, "non_saturating_loss"), lambda f: lambda l: f(l + 1e-6)),
    ("bilinear_game", "gaussian", (game, "generator_step"), lambda f: lambda x, y, h: f(x, y, 1.0001 * h)),
    ("bilinear_game", "gaussian", (game, "discriminator_step"), lambda f: lambda x, y, h, c: f(x, y, h, 2 * c)),
    ("shifted_points", "points", (torch, "bincount"), lambda f: lambda x, minlength: f(x // 2, minlength=minlength)),
    ("set_denoiser", "ring", (Points, "denoiser"), lambda f: lambda w, x, a, s: 0.999 * f(w, x, a, s)),
    ("set_denoiser", "points", (Points, "denoiser"), lambda f: lambda w, x, a, s: f(w, x, a, 1.01 * s)),
    ("memorised_samples", "ring", (Points, "denoiser"), lambda f: lambda w, x, a, s: f(w, x, a, max(s, 0.05))),
]


@pytest.mark.parametrize("name, world, place, broken", PLANTED, ids=[f"{p[0]}-{p[2][1]}" for p in PLANTED])
def test_planted_error_is_seen(name, world, place, broken, monkeypatch):
    module, attribute = place
    monkeypatch.setattr(module, attribute, broken(getattr(module, attribute)))
    assert failures(name, world)


def test_a_discriminator_that_follows_has_another_gradient(monkeypatch):
    """What the claim's hypothesis is for: without `held` two of three generator gradients are wrong."""
    monkeypatch.setattr(torch.Tensor, "detach", lambda self: self)
    found = failures("generator_gradients", "bimodal")
    assert [name for name in found if "non-saturating, held" in name]


def test_the_share_bound_is_tight_for_two_points():
    """Of two points the farther has the share r/(1 + r), r the bound: it is attained as r falls."""
    generator = torch.Generator().manual_seed(0)
    pair = Points("pair", torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64))
    _, x = pair.noised(200, 1.0, 0.2, generator)
    squares = ((x[:, None] - pair.points) ** 2).sum(-1)
    far = (-squares / 0.08).softmax(1).amin(1)
    bound = torch.exp(-(squares.amax(1) - squares.amin(1)) / 0.08)
    torch.testing.assert_close(far, bound / (1 + bound), rtol=1e-12, atol=0)
