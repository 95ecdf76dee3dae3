"""World checks hold, state their rates, and fail when an error is planted in the formula or in the world."""

import pytest
import torch

from diffusion import ddim, ddpm, gaussian, schedules, solvers
from toy.mixture import Mixture
from toy.worlds import make
from verify.checks import denoising, samplers
from verify.worlds import SUITE_FALSE_FAIL, checks, run, suite_false_fail, world_check

CHECKS = {check.name: check for check in checks()}


def failures(name, world):
    return [row.check for row in run(CHECKS[name], world) if not row.holds]


@pytest.fixture(scope="module")
def suite():
    return [row for check in CHECKS.values() for world in check.worlds for row in run(check, world)]


@pytest.mark.slow
def test_everything_holds(suite):
    assert [row.check for row in suite if not row.holds] == []


@pytest.mark.slow
def test_the_suite_states_its_rate_and_its_effects(suite):
    assert 0 < suite_false_fail(suite) <= SUITE_FALSE_FAIL
    for row in suite:
        told = row.row()
        assert list(told) == ["world", "check", "value", "false_fail", "detectable_effect", "status"]
        assert told["detectable_effect"] >= 0
        assert row.verdict.unit
    statistical = [row.verdict for row in suite if row.verdict.false_fail]
    assert len(statistical) > 100
    assert max(v.detectable_effect for v in statistical) < 0.2
    with pytest.raises(ValueError, match="fail for nothing"):
        suite_false_fail(suite * 10)


def test_other_seeds_hold_too():
    for seed in (1, 2):
        for name in ("posterior_step", "eta_family_marginals", "denoising_minimiser"):
            rows = run(CHECKS[name], "ring", vary=seed)
            assert all(row.holds for row in rows)
    fixed, again, other = (run(CHECKS["posterior_step"], "ring", v)[0].verdict.value for v in (None, None, 1))
    assert fixed == again != other


# (check, world, what to break, how): each planted error must be seen.
PLANTED = [
    ("forward_marginal", "checkerboard", (ddpm, "forward_variance"), lambda f: lambda s, b: f(s, b) * 1.1),
    ("forward_marginal", "points", (ddpm, "step_mean"), lambda f: lambda x, b: (1 - b) * x),
    ("posterior_step", "ring", (ddpm, "posterior_variance"), lambda f: lambda s, b: 1.2 * f(s, b)),
    ("posterior_step", "ring", (ddpm, "posterior_mean"), lambda f: lambda x, x0, s, b: f(x, 0.9 * x0, s, b)),
    ("eta_family_marginals", "grid", (ddim, "std"), lambda f: lambda s, k, e: s * e * torch.sqrt(1 - k)),
    ("eta_family_marginals", "grid", (ddim, "kept"), lambda f: lambda s, k, e: s * (1 - e + e * k)),
    ("table_marginals", "gaussian", (solvers, "ddim_denoised"), lambda f: lambda *a: f(*a) * (1 + 1e-9)),
    ("ddim_on_a_point", "points", (solvers, "ddim_state"), lambda f: lambda t, s, k, e: f(t, s, k, e) * (1 + 1e-9)),
    ("global_orders", "gaussian", (solvers, "extrapolate_newest"), lambda f: lambda r: 1 + 1 / r),
    ("global_orders", "gaussian", (solvers, "heun_second"), lambda f: lambda h, b: -h / 3 * b),
    ("local_orders", "gaussian", (solvers, "heun_first"), lambda f: lambda h, a, b: -h / 2 * b),
    ("ancestral_limit", "gaussian", (solvers, "ddpm_beta_noise"), lambda f: lambda s, k: 0.9 * f(s, k)),
    ("bound_on_gaussian_data", "gaussian", (ddpm, "weight_x0"), lambda f: lambda s, b, S: f(s, b, S) * (1 + 1e-6)),
    (
        "probability_flow_map",
        "gaussian",
        (samplers, "velocity"),
        lambda f: lambda s, t: (f(s, t)[0] * 1.00001, f(s, t)[1]),
    ),
    ("measurement", "gaussian", (gaussian, "posterior_variance"), lambda f: lambda v, a, w: 1.2 * f(v, a, w)),
    ("coordinates", "gaussian", (gaussian, "conditional_mean"), lambda f: lambda x, m, n, s, t: m + s * (x - n)),
    ("mixture", "gaussian", (gaussian, "_log_odds"), lambda f: lambda x, q, *rest: f(x, 1 - q, *rest)),
    ("surprise", "gaussian", (gaussian, "entropy"), lambda f: lambda v: f(v) + 0.1),
    ("moments_of_the_sde", "gaussian", (schedules, "diffusion2"), lambda f: lambda *a: 1.001 * f(*a)),
    ("rates_of_change", "gaussian", (schedules, "half_log_snr_dot"), lambda f: lambda *a: 2 * f(*a)),
    ("probability_flow_likelihood", "ring", (solvers, "velocity_state"), lambda f: lambda s, d: f(s, d) * 1.001),
]


@pytest.mark.parametrize("name, world, place, broken", PLANTED, ids=[f"{p[0]}-{p[2][1]}" for p in PLANTED])
@pytest.mark.slow
def test_planted_error_is_seen(name, world, place, broken, monkeypatch):
    module, attribute = place
    monkeypatch.setattr(module, attribute, broken(getattr(module, attribute)))
    assert failures(name, world)


def test_a_chain_with_the_wrong_rate_is_seen(monkeypatch):
    right = schedules.vp_linear_beta
    monkeypatch.setattr(samplers, "vp_linear_beta", lambda t, low, high: right(t, low, high) * 1.01)
    assert failures("chain_limit", "gaussian")


@pytest.mark.parametrize("name", ["tweedie", "tweedie_second_order", "denoising_minimiser", "conversions"])
def test_a_world_with_a_biased_denoiser_is_seen(name, monkeypatch):
    right = Mixture.denoiser
    monkeypatch.setattr(Mixture, "denoiser", lambda self, x, alpha, sigma: 0.9 * right(self, x, alpha, sigma))
    assert failures(name, "ring")


@pytest.mark.parametrize("name", ["posterior_is_exchangeable", "posterior_draw_marginals"])
def test_a_posterior_draw_that_ignores_the_noise_is_seen(name, monkeypatch):
    monkeypatch.setattr(Mixture, "posterior_sample", lambda self, x, alpha, sigma, generator: x / alpha)
    assert failures(name, "two_moons")


def test_a_flow_that_misses_the_data_is_seen(monkeypatch):
    right = denoising.velocity
    monkeypatch.setattr(denoising, "velocity", lambda s, t: (0.5 * right(s, t)[0], right(s, t)[1]))
    assert failures("probability_flow_marginals", "ring")


def test_registering():
    with pytest.raises(ValueError, match="at least one claim"):
        world_check(worlds=("ring",))
    with pytest.raises(ValueError, match="already a check"):

        @world_check("score.tweedie", worlds=("ring",))
        def tweedie(world, generator):
            yield from ()

    def silent(world, generator):
        yield from ()

    check = type(CHECKS["tweedie"])(("score.tweedie",), ("ring",), "silent", silent)
    with pytest.raises(ValueError, match="looked at nothing"):
        run(check, "ring")
    assert make("ring").name == "ring"
