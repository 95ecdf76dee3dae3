"""Checks of guidance hold, and fail when an error is planted."""

import pytest

from diffusion import guidance
from toy.inverse import LinearInverse
from toy.mixture import Mixture
from verify.checks import guidance as subject
from verify.worlds import checks, run

pytestmark = pytest.mark.slow  # each check is run, whole and broken

CHECKS = {check.name: check for check in checks() if check.function.__module__ == subject.__name__}
EVERYWHERE = [(name, world) for name, check in CHECKS.items() for world in check.worlds]


def failures(name, world):
    return [row.check for row in run(CHECKS[name], world) if not row.holds]


@pytest.mark.parametrize("name, world", EVERYWHERE)
def test_holds(name, world):
    assert failures(name, world) == []


def scaled(factor):
    return lambda right: lambda *arguments: factor * right(*arguments)


def overdone(right):
    return lambda cond, uncond, w: right(cond, uncond, 1.01 * w)


# (check, world, what to break, how): each planted error must be seen.
PLANTED = [
    ("classifier_guidance", "conditional_ring", (guidance, "gradient"), scaled(1.001)),
    ("tilted_step", "bimodal", (Mixture, "score"), scaled(1.001)),
    ("cfg_tilts", "unequal_pair", (guidance, "guided_inside"), scaled(1.001)),
    ("cfg_tilts", "unequal_pair", (guidance, "tilted_gap"), scaled(1.001)),
    ("cfg_tilts", "unequal_pair", (guidance, "tilted_variance"), scaled(1.001)),
    ("cfg_tilts", "unequal_pair", (guidance, "tilted_mean"), scaled(1.001)),
    ("cfg_flow", "unequal_pair", (guidance, "cfg_sampled_variance"), scaled(1.001)),
    ("cfg_flow", "unequal_pair", (guidance, "classifier_free"), overdone),
    ("cfg_equal", "unequal_pair", (guidance, "classifier_free"), overdone),
    ("score_scaling", "gaussian", (Mixture, "denoiser"), scaled(1.001)),
    ("h_transform", "conditional_ring", (Mixture, "score"), scaled(1.001)),
    ("h_transform", "unequal_pair", (subject, "log_classifier"), scaled(1.001)),
    ("inpainting", "gaussian", (guidance, "replaced_mean"), scaled(1.01)),
    ("inpainting", "gaussian", (guidance, "replaced_variance"), scaled(1.01)),
    ("inpainting", "gaussian", (guidance, "replace"), lambda right: lambda x, *rest: x),
    ("measured", "gaussian", (guidance, "likelihood_score"), scaled(1.001)),
    ("measured", "gaussian", (guidance, "dps_score"), scaled(1.001)),
    ("measured", "gaussian", (LinearInverse, "residual"), scaled(1.001)),
    ("dps_draws", "gaussian", (guidance, "dps_mean"), scaled(1.01)),
    ("dps_draws", "gaussian", (guidance, "dps_variance"), scaled(1.01)),
]


@pytest.mark.parametrize("name, world, place, broken", PLANTED, ids=[f"{p[0]}-{p[2][1]}" for p in PLANTED])
def test_planted_error_is_seen(name, world, place, broken, monkeypatch):
    module, attribute = place
    monkeypatch.setattr(module, attribute, broken(getattr(module, attribute)))
    assert failures(name, world)
