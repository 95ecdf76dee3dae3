"""Checks of likelihoods and their bounds fail when an error is planted in the formula, the world or the probes."""

from __future__ import annotations

import pytest
import torch

from diffusion import bound, gaussian, hutchinson, schedules, solvers
from toy import backward
from toy.field import Field
from verify.worlds import checks, run

pytestmark = pytest.mark.slow  # each check is run, whole and broken

CHECKS = {check.name: check for check in checks()}

# (check, world, what to break, how): each planted error must be seen.
PLANTED = [
    ("flow_likelihood_of_images", "field", (solvers, "velocity_denoised"), lambda f: lambda *a: f(*a) * (1 + 1e-4)),
    ("flow_likelihood_of_images", "field", (hutchinson, "axes"), lambda f: lambda x: f(x)[:-1]),
    ("estimates_of_images", "field", (hutchinson, "probes"), lambda f: lambda *a: 1.1 * f(*a)),
    ("probes_of_a_jacobian", "ring", (hutchinson, "pair_variance"), lambda f: lambda a, b: a**2 + b**2),
    ("probes_of_a_jacobian", "two_moons", (hutchinson, "own_variance"), lambda f: lambda a: a**2),
    ("rates_of_kl", "gaussian", (gaussian, "kl"), lambda f: lambda *a: 1.001 * f(*a)),
    ("rates_of_kl", "gaussian", (backward, "model_rate"), lambda f: lambda *a: f(*a) * 1.001),
    ("weighted_loss_bounds_the_sde", "gaussian", (backward, "weighted_loss"), lambda f: lambda *a: f(*a) / 2),
    ("weighted_loss_bounds_the_sde", "gaussian", (backward, "model_rate"), lambda f: lambda *a: f(*a) * 1.001),
    ("weighted_loss_does_not_bound_the_ode", "gaussian", (backward, "weighted_loss"), lambda f: lambda *a: 5 * f(*a)),
    ("path_kl_of_chains", "gaussian", (bound, "path_kl"), lambda f: lambda a, b, g, h: 2 * f(a, b, g, h)),
    ("sampler_error_is_bounded", "gaussian", (backward, "carried"), lambda f: lambda *a: (f(*a)[0], 2 * f(*a)[1])),
    ("sampler_error_is_bounded", "gaussian", (schedules, "diffusion2"), lambda f: lambda *a: f(*a) / 10),
    ("sampler_error_is_bounded", "gaussian", (backward, "_change"), lambda f: lambda *a: lambda r: f(*a)(r) / 2),
]


def failures(name: str, world: str) -> list[str]:
    return [row.check for row in run(CHECKS[name], world) if not row.holds]


def row(i: int) -> object:
    """Images take seconds."""
    marks = [pytest.mark.slow] if PLANTED[i][1] == "field" else []
    return pytest.param(*PLANTED[i], id=f"{PLANTED[i][0]}-{PLANTED[i][2][1]}-{i}", marks=marks)


@pytest.mark.parametrize("name, world, place, broken", [row(i) for i in range(len(PLANTED))])
def test_planted_error_is_seen(name, world, place, broken, monkeypatch):
    assert not failures(name, world)
    module, attribute = place
    monkeypatch.setattr(module, attribute, broken(getattr(module, attribute)))
    assert failures(name, world)


@pytest.mark.slow
def test_a_field_of_another_spectrum_is_seen(monkeypatch):
    right = Field.denoiser
    monkeypatch.setattr(Field, "denoiser", lambda self, x, a, s: right(self, x, a, 1.01 * torch.as_tensor(s)))
    assert failures("flow_likelihood_of_images", "field")
