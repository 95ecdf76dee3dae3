"""Errors planted in the continuous-time bound and in EDM's scales are seen by the checks of their worlds."""

import pytest
import torch

from diffusion import edm, solvers, vdm
from toy.mixture import Mixture
from verify.checks import vdm as checks_vdm
from verify.worlds import checks, run

pytestmark = pytest.mark.slow  # each check is run, whole and broken

CHECKS = {check.name: check for check in checks()}

# (check, world, what to break, how)
PLANTED = [
    ("bound_without_slack", "gaussian", (vdm, "continuous_weight"), lambda f: lambda a, s, r: f(a, s, r) * (1 + 1e-5)),
    ("bound_without_slack", "ring", (vdm, "continuous_weight"), lambda f: lambda a, s, r: f(a, s, r) * (1 + 1e-4)),
    ("bound_without_slack", "ring", (Mixture, "denoiser"), lambda f: lambda *a: 0.99 * f(*a)),
    ("one_bound_for_all_schedules", "ring", (vdm, "continuous_weight"), lambda f: lambda a, s, r: f(a, s**2, r)),
    ("refined_grids", "ring", (vdm, "step_weight"), lambda f: lambda a, s, k: f(a, s, k) * (1 - 1e-1)),
    ("refined_grids", "ring", (vdm, "step_weight"), lambda f: lambda a, s, k: (a / s) ** 2 * (1 - k)),
    ("information_rate", "ring", (Mixture, "posterior_covariance"), lambda f: lambda *a: f(*a) * (1 + 1e-5)),
    ("least_variance", "gaussian", (vdm, "diffusion_loss"), lambda f: lambda *a: 1.1 * f(*a)),
    ("least_variance", "gaussian", (vdm.TimeDensity, "at"), lambda f: lambda self, t: f(self, t) * 0.9),
    ("unit_variance", "points", (edm, "c_in"), lambda f: lambda s, d: 1 / (s + d)),
    ("unit_variance", "points", (edm, "c_out"), lambda f: lambda s, d: f(s, d) / d),
    ("unit_variance", "points", (edm, "c_skip"), lambda f: lambda s, d: d / (s + d)),
    ("unit_variance", "points", (edm, "loss_weight"), lambda f: lambda s, d: 1 / s**2),
    ("linear_denoiser", "gaussian", (edm, "c_skip"), lambda f: lambda s, d: f(s, d) * (1 + 1e-10)),
    ("linear_denoiser", "gaussian", (edm, "c_out"), lambda f: lambda s, d: f(s, d) * (1 + 1e-10)),
    ("churned", "ring", (edm, "churn_noise"), lambda f: lambda s, g, n: s * n * torch.sqrt(torch.tensor(2 * g))),
    ("churned", "ring", (edm, "churned_sigma"), lambda f: lambda s, g: s * (1 + g / 2)),
    ("heun_in_sigma", "gaussian", (solvers, "heun_second"), lambda f: lambda h, b: -h / 3 * b),
    ("heun_in_sigma", "gaussian", (solvers, "heun_first"), lambda f: lambda h, a, b: -h / 2 * b),
]


def failures(name, world):
    return [row.check for row in run(CHECKS[name], world) if not row.holds]


@pytest.mark.parametrize("name, world, place, broken", PLANTED, ids=[f"{p[0]}-{p[2][1]}" for p in PLANTED])
def test_planted_error_is_seen(name, world, place, broken, monkeypatch):
    module, attribute = place
    monkeypatch.setattr(module, attribute, broken(getattr(module, attribute)))
    assert failures(name, world)


def test_a_detour_that_comes_back_elsewhere_is_seen(monkeypatch):
    monkeypatch.setattr(checks_vdm, "FAR", -1.9)
    right = checks_vdm.ends
    monkeypatch.setattr(checks_vdm, "ends", lambda schedule: (right(schedule)[0], 0.85))
    assert failures("there_and_back", "ring")
