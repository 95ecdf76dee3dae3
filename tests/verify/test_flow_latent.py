"""Errors planted in flow matching's and latent diffusion's formulas are seen by the checks of their worlds."""

import pytest
import torch

from diffusion import flow, latent
from diffusion.schedules import Schedule
from toy.couplings import GaussianPair, Interpolant
from toy.mixture import Mixture
from toy.points import Points
from verify.checks import flow as checks_flow
from verify.checks import latent as checks_latent
from verify.worlds import checks, run

pytestmark = pytest.mark.slow  # each check is run, whole and broken

CHECKS = {check.name: check for check in checks()}


def off(share):
    """The function, with its value too large by this share."""
    return lambda f: lambda *a: (1 + share) * f(*a)


def shuffled(x_0, x_1):
    return x_1[torch.arange(len(x_1)).roll(1)]


# (check, world, what to break, how)
PLANTED = [
    ("moves_the_law", "ring", (flow, "conditional_velocity"), off(1e-4)),
    ("moves_the_law", "bimodal", (flow, "velocity_from_score"), lambda f: lambda x, s, *k: f(x, 2 * s, *k)),
    ("moves_the_law", "anisotropic", (Mixture, "denoiser"), lambda f: lambda *a: 0.999 * f(*a)),
    ("quantiles_carried", "bimodal", (flow, "conditional_velocity"), off(1e-5)),
    ("quantiles_carried", "bimodal", (Mixture, "denoiser"), lambda f: lambda *a: 0.9999 * f(*a)),
    ("equal_gradients", "points", (checks_flow, "velocity"), off(1e-4)),
    ("equal_gradients", "points", (Points, "denoiser"), off(1e-4)),
    ("one_path_for_all", "ring", (flow, "conditional_velocity"), off(1e-2)),
    ("one_path_for_all", "ring", (Schedule, "time_of"), lambda f: lambda self, l: f(self, l) + 1e-3),
    ("coupled_noise", "gaussian", (flow, "score_gap"), lambda f: lambda *a: -f(*a)),
    ("coupled_noise", "gaussian", (flow, "score_gap"), lambda f: lambda *a: 0 * f(*a)),
    ("coupled_noise", "gaussian", (flow, "velocity_gap"), lambda f: lambda *a: 0 * f(*a)),
    ("paired_batches", "ring", (checks_flow, "assigned"), lambda f: shuffled),
    ("paired_batches", "ring", (checks_flow, "assigned"), lambda f: lambda x_0, x_1: 1.001 * f(x_0, x_1)),
    ("paired_batches", "bimodal", (checks_flow, "assigned"), lambda f: lambda x_0, x_1: f(x_0, x_1).roll(1, 0)),
    ("bridges", "bimodal", (flow, "bridge_mean"), lambda f: lambda x, y, t: f(x, y, t**2)),
    ("bridges", "bimodal", (flow, "bridge_variance"), off(1e-3)),
    ("bridges", "bimodal", (flow, "bridge_drift"), off(1e-3)),
    ("bridges", "bimodal", (GaussianPair, "schroedinger"), lambda f: lambda self, s: f(self, 1.01 * s)),
    ("bridges", "bimodal", (GaussianPair, "schroedinger"), lambda f: lambda self, s: self.optimal()),
    ("interpolated", "ring", (flow, "bridge_velocity"), lambda f: lambda x, a, b, t: b - a),
    ("interpolated", "bimodal", (flow, "bridge_score"), off(1e-4)),
    ("interpolated", "bimodal", (flow, "noisy_drift"), lambda f: lambda v, s, e: v + e * s / 2),
    ("interpolated", "ring", (flow, "bridge_drift"), off(1e-4)),
    ("interpolated", "ring", (Interpolant, "ends"), lambda f: lambda self, x, t: f(self, x, t)[::-1]),
    ("rectified", "bimodal", (Interpolant, "ends"), lambda f: lambda self, x, t: f(self, x, t)[::-1]),
    ("rectified", "bimodal", (Interpolant, "ends"), lambda f: lambda self, x, t: f(self, x, 1.01 * t)),
    ("rectified", "bimodal", (checks_flow, "COSTS"), lambda f: {"concave": lambda w: -(w**2)}),
    ("latent_ppca", "ppca", (latent, "linear_bound"), lambda f: lambda *a: f(*a) + 1e-6),
    ("latent_ppca", "ppca", (latent, "encoder_slope"), off(1e-3)),
    ("latent_ppca", "ppca", (latent, "encoder_variance"), off(1e-3)),
    ("latent_nelbo", "gaussian", (checks_latent.vdm, "continuous_weight"), off(1e-6)),
    ("latent_nelbo", "gaussian", (Mixture, "denoiser"), lambda f: lambda *a: 0.999 * f(*a)),
    ("rates", "ppca", (latent, "linear_bound"), off(1e-6)),
    ("rates", "ppca", (checks_latent.vdm, "gaussian_information"), off(1e-6)),
    ("scaled_latents", "gaussian", (latent, "snr"), off(1e-6)),
    ("scaled_latents", "gaussian", (latent, "scale_factor"), lambda f: lambda V: 1 / V),
    ("codebook_gradients", "points", (latent, "straight_through"), lambda f: lambda z, q: q + 0 * z),
    ("codebook_gradients", "points", (latent, "straight_through"), lambda f: lambda z, q: z),
    ("codebook_gradients", "points", (latent, "commitment_loss"), lambda f: lambda z, e, b: (1 + b) * (z - e) ** 2),
    ("codebook_gradients", "points", (latent, "nearest_code"), lambda f: lambda z, codebook: f(z + 0.5, codebook)),
    ("bins", "bimodal", (checks_latent, "excess"), lambda f: lambda world, x, d: f(world, x, 1.01 * d)),
    ("bins", "bimodal", (checks_latent, "fixed_bins"), lambda f: lambda world, d: f(world, 1.1 * d)),
    ("turned_pixels", "ring", (Mixture, "denoiser"), lambda f: lambda self, x, a, s: f(self, x, a, 0.6)),
]


@pytest.mark.parametrize("name, world, place, broken", PLANTED, ids=[f"{p[0]}-{p[2][1]}" for p in PLANTED])
def test_planted_error_is_seen(name, world, place, broken, monkeypatch):
    module, attribute = place
    monkeypatch.setattr(module, attribute, broken(getattr(module, attribute)))
    assert [row.check for row in run(CHECKS[name], world) if not row.holds]


def test_every_check_of_both_topics_is_planted_against():
    ours = (checks_flow.__name__, checks_latent.__name__)
    assert {check.name for check in checks() if check.function.__module__ in ours} == {name for name, *_ in PLANTED}
