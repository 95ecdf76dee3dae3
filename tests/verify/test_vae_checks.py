"""The checks of VAEs and of probabilities fail when an error is planted in a formula, or in the world."""

import pytest
import torch

from diffusion import vae
from toy import ppca
from toy.ppca import LinearGaussian
from verify.checks import probability
from verify.checks import vae as checks_of_vaes
from verify.worlds import checks, run

pytestmark = pytest.mark.slow  # each check is run, whole and broken

CHECKS = {check.name: check for check in checks()}
OURS = [c for c in CHECKS.values() if c.function.__module__ in (probability.__name__, checks_of_vaes.__name__)]


def failures(name: str) -> list[str]:
    (world,) = CHECKS[name].worlds
    return [row.check for row in run(CHECKS[name], world) if not row.holds]


@pytest.mark.parametrize("check", OURS, ids=[c.name for c in OURS])
def test_everything_holds_with_other_draws_too(check) -> None:
    for world in check.worlds:
        for vary in (None, 1):
            assert [row.check for row in run(check, world, vary) if not row.holds] == []


PLANTED = [
    (
        "evidence_gap",
        (LinearGaussian, "encoder"),
        lambda f: lambda self, x, beta=1.0: (1.001 * f(self, x)[0], f(self, x)[1]),
    ),
    ("evidence_gap", (LinearGaussian, "bound"), lambda f: lambda self, *a: f(self, *a) * (1 + 1e-9)),
    ("one_direction_at_a_time", (vae, "beta_bound"), lambda f: lambda a, c, w, l, v, b: f(a, c, w, l, v, 1.001 * b)),
    ("one_direction_at_a_time", (vae, "encoder_slope"), lambda f: lambda w, v, b: f(w, v, b**0)),
    ("one_direction_at_a_time", (vae, "encoder_variance"), lambda f: lambda w, v, b: f(w, v, b) / b),
    ("one_direction_at_a_time", (vae, "best_bound"), lambda f: lambda w, l, v, b: f(w, l, v, b) / b),
    ("collapse", (vae, "best_slope"), lambda f: lambda l, v, b: (l - v).clamp(min=0).sqrt()),
    ("collapse", (vae, "latent_rate"), lambda f: lambda w, v, b: f(w, v, b) / 2),
    ("collapse", (checks_of_vaes, "best_W"), lambda f: lambda C, v, K, beta: f(C, v, K)),
    ("best_diagonal_encoder", (vae, "diagonal_gap"), lambda f: lambda rho: rho**2 / 2),
    ("best_diagonal_encoder", (LinearGaussian, "precision"), lambda f: lambda self: f(self) - torch.eye(2)),
    ("importance_weights", (vae, "importance_weighted"), lambda f: lambda log_w: log_w.logsumexp(-1)),
    ("importance_weights", (vae, "importance_weighted"), lambda f: lambda log_w: log_w.mean(-1)),
    ("constrained_optimum", (torch, "logsumexp"), lambda f: lambda x, d: f(x, d) * (1 + 1e-9)),
    ("hierarchy", (checks_of_vaes, "by_bayes"), lambda f: lambda step, before: f(step, before**0)),
    ("moved_line", (probability, "moved"), lambda f: lambda p, i, y: f(p, i, y) ** 1.01),
    ("moved_plane", (probability, "moved"), lambda f: lambda p, i, y: p(torch.func.vmap(i)(y)).exp()),
    ("moved_plane", (probability, "unbend"), lambda f: lambda y: 1.3 * f(y)),
    ("frechet_of_one_law", (probability, "frechet"), lambda f: lambda x, y: f(x, y) * (11 / 12)),
    ("frechet_of_one_law", (probability, "std_moment"), lambda f: lambda k, n: f(k, n) * (0.98 if k == 1 else 1)),
    ("error_of_the_mean", (probability, "first_coordinate"), lambda f: lambda w: (f(w)[0], 1.25 * f(w)[1])),
]


@pytest.mark.parametrize("name, place, broken", PLANTED, ids=[f"{p[0]}-{p[1][1]}-{i}" for i, p in enumerate(PLANTED)])
def test_planted_error_is_seen(name, place, broken, monkeypatch) -> None:
    owner, attribute = place
    monkeypatch.setattr(owner, attribute, broken(getattr(owner, attribute)))
    assert failures(name)


def test_one_branch_of_a_square_is_not_enough(monkeypatch) -> None:
    (name, g, branches, folded) = probability.LINE[-1]
    monkeypatch.setattr(probability, "LINE", ((name, g, branches[:1], folded),))
    assert len(failures("moved_line")) == 2


def test_dependent_draws_are_seen(monkeypatch) -> None:
    """The mean of copies that are not independent: every other draw repeats the one before."""
    world_type = type(ppca.ppca()).__mro__[1]
    sample = world_type.sample
    monkeypatch.setattr(world_type, "sample", lambda self, n, g: sample(self, n // 2, g).repeat_interleave(2, 0))
    assert failures("error_of_the_mean")
