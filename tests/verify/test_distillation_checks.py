"""Errors planted in targets and losses of distillation are seen by the checks of their worlds."""

import pytest

from diffusion import distillation
from verify.worlds import checks, run

pytestmark = pytest.mark.slow  # each check is run, whole and broken

CHECKS = {check.name: check for check in checks()}

# (check, world, what to break, how)
PLANTED = [
    ("one_step_for_two", "ring", "progressive_x0", lambda f: lambda x, y, a, s, r, k: f(x, y, a, s, r, k**2)),
    ("one_step_for_two", "ring", "progressive_eps", lambda f: lambda x, y, *rest: f(y, x, *rest)),
    ("one_step_for_two", "ring", "progressive_v", lambda f: lambda *a: -f(*a)),
    ("gaussian_jump", "gaussian", "gaussian_consistency", lambda f: lambda x, s, m, d: f(x, s, 0.0, d)),
    ("along_the_flow", "ring", "c_out", lambda f: lambda s, m, d: f(s, 0.0, d)),
    ("along_the_flow", "ring", "c_skip", lambda f: lambda s, m, d: f(s, 0.0, d)),
    ("pairs_for_a_teacher", "points", "consistency_distillation_loss", lambda f: lambda *a: (1 + 1e-6) * f(*a)),
    (
        "pairs_for_a_teacher",
        "points",
        "consistency_training_loss",
        lambda f: lambda g, x, e, s, h: f(g, x, 0.9 * e, s, h),
    ),
    ("mean_velocity", "ring", "meanflow_target", lambda f: lambda v, d, t, r: v + (t - r) * d),
    ("losses_of_exact_jumps", "gaussian", "meanflow_target", lambda f: lambda v, d, t, r: f(v, d, t, 0 * r)),
    ("losses_of_exact_jumps", "gaussian", "shortcut_target", lambda f: lambda a, b: b),
    ("divergence_of_gaussians", "gaussian", "dmd_difference", lambda f: lambda a, b, *rest: f(b, a, *rest)),
    ("divergence_of_gaussians", "gaussian", "dmd_loss", lambda f: lambda x, d: f(x, d) / 2),
    ("one_velocity", "gaussian", "straight_student", lambda f: lambda x, v, t: x - v),
]


@pytest.mark.parametrize("name, world, attribute, broken", PLANTED, ids=[f"{p[0]}-{p[2]}" for p in PLANTED])
def test_planted_error_is_seen(name, world, attribute, broken, monkeypatch):
    monkeypatch.setattr(distillation, attribute, broken(getattr(distillation, attribute)))
    assert not all(row.holds for row in run(CHECKS[name], world))
