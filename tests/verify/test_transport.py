"""Checks of flows, correctors, reverse kernels, modes and spectra hold, and fail when an error is planted."""

import pytest
import torch

from diffusion import langevin, schedules, spectrum, transport
from toy import flow, line
from toy.field import Field
from toy.mixture import Mixture
from toy.points import Points
from verify.checks import transport as subject
from verify.worlds import checks, run

pytestmark = pytest.mark.slow  # each check is run, whole and broken

CHECKS = {check.name: check for check in checks() if check.function.__module__ == subject.__name__}
EVERYWHERE = [(name, world) for name, check in CHECKS.items() for world in check.worlds]


def failures(name, world):
    return [row.check for row in run(CHECKS[name], world) if not row.holds]


@pytest.mark.parametrize("name, world", EVERYWHERE)
def test_holds(name, world):
    rows = run(CHECKS[name], world)
    assert [row.check for row in rows if not row.holds] == []
    assert all(row.verdict.detectable_effect >= 0 and row.verdict.unit for row in rows)


def test_other_seeds_hold_too():
    for seed in (1, 2):
        assert all(row.holds for row in run(CHECKS["corrector"], "gaussian", vary=seed))


def twisted(right):
    """The flow, and then a turn about the origin that grows with the noise."""

    def trajectory(world, x, alpha, sigma, tolerance):
        end = right(world, x, alpha, sigma, tolerance)
        return end + 1e-3 * torch.stack([-end[..., 1], end[..., 0]], -1) if world.dim == 2 else end * 1.001

    return trajectory


def scaled(factor):
    return lambda right: lambda *arguments: factor * right(*arguments)


# (check, world, what to break, how): each planted error must be seen.
PLANTED = [
    ("backward_equations", "anisotropic", (schedules, "diffusion2"), scaled(1 + 1e-4)),
    ("backward_equations", "spiral", (schedules, "drift"), scaled(1 + 1e-4)),
    ("backward_equations", "bimodal", (Mixture, "score"), scaled(1 + 1e-4)),
    ("backward_equations", "high_dimensional", (Mixture, "posterior_covariance"), scaled(1 + 1e-4)),
    ("flow_on_the_line", "bimodal", (subject, "trajectory"), twisted),
    ("flow_on_the_line", "bimodal", (line, "quantile"), scaled(1 + 1e-4)),
    ("flow_between_gaussians", "gaussian", (subject, "trajectory"), twisted),
    ("flow_between_gaussians", "gaussian", (transport, "gaussian_map"), scaled(1 + 1e-6)),
    ("flow_between_gaussians", "gaussian", (transport, "gaussian_cost"), scaled(1 + 1e-6)),
    ("flow_jacobians", "gaussian", (subject, "trajectory"), twisted),
    ("flow_in_the_plane", "anisotropic", (Mixture, "posterior_covariance"), scaled(1.01)),
    ("corrector", "gaussian", (langevin, "corrector_step"), lambda f: lambda x, s, z, h: f(x, s, z, 1.02 * h)),
    ("corrector", "gaussian", (langevin, "stationary_variance"), lambda f: lambda v, A: v),
    ("corrector", "gaussian", (langevin, "variance_after"), scaled(1 + 1e-9)),
    ("corrector", "gaussian", (langevin, "step_length"), scaled(1 + 1e-9)),
    ("corrector", "gaussian", (Mixture, "score"), scaled(1.1)),
    ("reverse_kernel", "bimodal", (Points, "log_density"), scaled(1 + 1e-3)),
    ("speciation", "bimodal", (Mixture, "posterior_covariance"), scaled(1 + 1e-6)),
    ("speciation", "bimodal", (Mixture, "score"), scaled(-1.0)),
    ("spectrum_of_images", "field", (spectrum, "snr"), scaled(1 + 1e-6)),
    ("spectrum_of_images", "field", (spectrum, "crossing"), scaled(1 + 1e-6)),
    ("spectrum_of_images", "field", (Field, "denoiser"), scaled(1 + 1e-6)),
]


@pytest.mark.parametrize("name, world, place, broken", PLANTED, ids=[f"{p[0]}-{p[2][1]}" for p in PLANTED])
def test_planted_error_is_seen(name, world, place, broken, monkeypatch):
    module, attribute = place
    monkeypatch.setattr(module, attribute, broken(getattr(module, attribute)))
    assert failures(name, world)


@pytest.mark.parametrize("name", ["flow_in_the_plane", "flow_jacobians"])
def test_a_flow_that_would_be_optimal_is_seen(name, monkeypatch):
    """A gradient map, x/2, in place of the flow: nothing is cheaper, nothing twisted."""
    monkeypatch.setattr(subject, "trajectory", lambda world, x, *rest: torch.stack([x, x / 2]))
    assert failures(name, "anisotropic")


@pytest.mark.parametrize(
    "name, world, part",
    [
        ("flow_in_the_plane", "anisotropic", "twist"),
        ("reverse_kernel", "bimodal", "apart"),
        ("reverse_kernel", "bimodal", "third"),
        ("reverse_kernel", "bimodal", "fourth"),
        ("speciation", "bimodal", "curvature"),
        ("speciation", "bimodal", "margin"),
        ("speciation", "bimodal", "root"),
    ],
)
def test_a_wrong_formula_is_seen(name, world, part, monkeypatch):
    right = subject.said

    def said(claim, asked):
        value = right(claim, asked)
        return (lambda **values: 1.01 * value(**values) + 1e-3) if asked == part else value

    monkeypatch.setattr(subject, "said", said)
    assert failures(name, world)


def test_the_flow_here_is_the_worlds():
    assert subject.trajectory is flow.trajectory
