"""Guided denoisers against their definitions written out, and against exact posteriors."""

import pytest
import torch
from torch import tensor

from diffusion import guidance
from diffusion.schedules import cosine
from toy.inverse import LinearInverse
from toy.worlds import make

generator = torch.Generator().manual_seed(2)
x = torch.randn(6, 5, generator=generator, dtype=torch.float64)
t = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)


def cond(x, t):
    return 0.5 * x + t[:, None]


def uncond(x, t):
    return 0.2 * x - 1


def never(x, t):
    raise AssertionError("called without need")


def test_scale_1_is_the_conditional_model_and_asks_no_other():
    assert torch.equal(guidance.classifier_free(cond, never, 1.0)(x, t), cond(x, t))


def test_scales_0_and_3():
    torch.testing.assert_close(guidance.classifier_free(cond, uncond, 0.0)(x, t), uncond(x, t))
    expected = 3 * cond(x, t) - 2 * uncond(x, t)
    torch.testing.assert_close(guidance.classifier_free(cond, uncond, 3.0)(x, t), expected)


def test_interval_is_cfg_inside_and_the_conditional_model_outside():
    inside = (t > 0.3) & (t < 0.6)
    got = guidance.interval(cond, uncond, 4.0, lambda t: (t > 0.3) & (t < 0.6))(x, t)
    assert 0 < int(inside.sum()) < len(t)
    assert torch.equal(got[~inside], cond(x, t)[~inside])
    torch.testing.assert_close(got[inside], guidance.classifier_free(cond, uncond, 4.0)(x, t)[inside])
    assert torch.equal(guidance.interval(cond, never, 4.0, lambda t: t > 2)(x, t), cond(x, t))


def test_rescaled_has_the_conditional_std_at_phi_1_and_is_cfg_at_phi_0():
    plain = guidance.classifier_free(cond, uncond, 7.0)(x, t)
    torch.testing.assert_close(guidance.rescaled(cond, uncond, 7.0, 0.0)(x, t), plain)
    full = guidance.rescaled(cond, uncond, 7.0, 1.0)(x, t)
    torch.testing.assert_close(full.std(1), cond(x, t).std(1))
    torch.testing.assert_close(full / plain, (full / plain)[:, :1].expand_as(plain))
    half = guidance.rescaled(cond, uncond, 7.0, 0.5)(x, t).std(1)
    torch.testing.assert_close(half, (plain.std(1) + cond(x, t).std(1)) / 2)


def test_replacement_keeps_what_is_unknown_and_noises_what_is_known():
    known, noise = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    mask = torch.tensor([True, False, True, False, False]).expand(6, 5)
    got = guidance.replace(x, known, mask, t, 1 - t, noise)
    assert torch.equal(got[~mask], x[~mask])
    torch.testing.assert_close(got[mask], (t[:, None] * known + (1 - t)[:, None] * noise)[mask])
    clean = guidance.replace(x, known, mask, tensor(1.0), tensor(0.0), noise)
    assert torch.equal(clean[mask], known[mask])


def test_posterior_is_bayes_rule_at_every_level():
    """log p_t(x) E[p(y | x_0) | x_t = x], the mean over many exact posterior draws, up to one constant."""
    prior = make("anisotropic")
    problem = LinearInverse(prior, tensor([[1.0, -0.5]], dtype=torch.float64), 0.6)
    y = tensor([0.4], dtype=torch.float64)
    posterior = problem.posterior(y)
    point = tensor([[0.3, 0.1], [-1.0, -0.5], [0.8, 0.9]], dtype=torch.float64)
    joint = prior.log_density(point) - problem.residual(y, point).square().sum(1) / (2 * 0.6**2)
    constant = posterior.log_density(point) - joint
    torch.testing.assert_close(constant, constant[:1].expand(3))
    draws = 20_000
    for at, (alpha, sigma) in zip(point, ((0.8, 0.6), (0.3, 0.9), (1.0, 0.5)), strict=True):
        x_0 = prior.posterior_sample(at.expand(draws, 2), alpha, sigma, generator)
        weight = (-problem.residual(y, x_0).square().sum(1) / (2 * 0.6**2)).exp()
        ratio = (posterior.log_density(at[None], alpha, sigma) - prior.log_density(at[None], alpha, sigma)).exp()
        mean, error = weight.mean() * constant[0].exp(), weight.std() * constant[0].exp() / draws**0.5
        assert abs(float(mean - ratio)) < 6 * float(error)


def test_bad_input_is_told():
    with pytest.raises(ValueError, match="phi is 2"):
        guidance.rescaled(cond, uncond, 2.0, 2.0)
    with pytest.raises(ValueError, match="two coordinates"):
        guidance.rescaled(cond, uncond, 2.0, 1.0)(x[:, :1], t)
    with pytest.raises(ValueError, match="s_y is 0"):
        guidance.dps(cond, lambda x_0: x_0, 0.0, cosine())
    with pytest.raises(ValueError, match="expected \\(6,\\)"):
        guidance.gradient(lambda z: z.sum(), x)
    with pytest.raises(ValueError, match="lower w"):
        guidance.tilted_gaussian(*(tensor(v) for v in (0.0, 2.0, 0.0, 1.0, 3.0)))
    with pytest.raises(ValueError, match="A has shape"):
        LinearInverse(make("anisotropic"), torch.eye(3), 1.0)
    with pytest.raises(ValueError, match="s_y is the standard"):
        LinearInverse(make("anisotropic"), torch.eye(2), 0.0)
    with pytest.raises(ValueError, match="expected \\[2\\]"):
        LinearInverse(make("anisotropic"), torch.eye(2), 1.0).posterior(torch.zeros(3))
