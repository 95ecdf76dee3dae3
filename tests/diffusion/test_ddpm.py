"""DDPM's formulas against conditioning of the joint Gaussian, enumeration, quadrature and 50 digits."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from diffusion import ddpm


def f64(value: object) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


# ------------------------------------------------------------------------------- the chain as one joint Gaussian


def joint(betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and covariance of (x_1, ..., x_T) given x_0: x_k = gain_k x_0 + noise, by multiplying out the chain."""
    T = len(betas)
    step = np.eye(T)  # step @ x = noise (+ the x_0 term): x_k - sqrt(1 - beta_k) x_(k-1) = sqrt(beta_k) z_k
    for k in range(1, T):
        step[k, k - 1] = -np.sqrt(1 - betas[k])
    solve = np.linalg.inv(step)
    from_data = np.zeros(T)
    from_data[0] = np.sqrt(1 - betas[0])
    return solve @ from_data, solve @ np.diag(betas) @ solve.T


@pytest.mark.parametrize("betas", [[0.3], [0.9], [0.01, 0.5], [0.02, 0.2, 0.05, 0.7, 0.999]], ids=len)
def test_marginals_and_posteriors_are_those_of_the_joint_gaussian(betas: list[float]) -> None:
    """Every pair s < t of the chain, skipped steps included, by the Schur complement of the joint covariance."""
    gain, covariance = joint(np.array(betas))
    gain, T = np.concatenate([[1.0], gain]), len(betas)
    covariance = np.pad(covariance, ((1, 0), (1, 0)))
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - np.array(betas))])
    x_0, x_t = 0.7, -1.9
    for t in range(1, T + 1):
        for s in range(t):
            alpha_bar_s, beta_t = f64(alpha_bar[s]), f64(1 - alpha_bar[t] / alpha_bar[s])
            assert ddpm.forward_mean(f64(x_0), alpha_bar_s, beta_t).item() == pytest.approx(gain[t] * x_0, rel=1e-12)
            assert ddpm.forward_variance(alpha_bar_s, beta_t).item() == pytest.approx(covariance[t, t], rel=1e-12)
            regress = covariance[s, t] / covariance[t, t]
            mean = gain[s] * x_0 + regress * (x_t - gain[t] * x_0)
            variance = covariance[s, s] - regress * covariance[s, t]
            got = ddpm.posterior_mean(f64(x_t), f64(x_0), alpha_bar_s, beta_t).item()
            assert got == pytest.approx(mean, rel=1e-11)
            assert ddpm.posterior_variance(alpha_bar_s, beta_t).item() == pytest.approx(variance, rel=1e-11, abs=1e-15)
            eps = (x_t - gain[t] * x_0) / math.sqrt(covariance[t, t])
            got = ddpm.posterior_mean_eps(f64(x_t), f64(eps), alpha_bar_s, beta_t).item()
            assert got == pytest.approx(mean, rel=1e-11)


def test_one_step_is_the_first_marginal() -> None:
    """From alpha_bar_s = 1 the marginal is the kernel itself; at beta_t = 1 nothing of x_0 is left."""
    x, one = f64(0.7), f64(1.0)
    for beta in (1e-12, 0.3, 1.0):
        assert torch.equal(ddpm.forward_mean(x, one, f64(beta)), ddpm.step_mean(x, f64(beta)))
        assert ddpm.forward_variance(one, f64(beta)).item() == beta
    assert ddpm.forward_mean(x, f64(0.4), one).item() == 0
    assert ddpm.forward_variance(f64(0.4), one).item() == 1


def test_the_posterior_at_both_ends() -> None:
    """The first step's posterior is x_0 exactly; where x_t has no signal it is q(x_s | x_0)."""
    x_t, x_0, one = f64(-3.0), f64(0.7), f64(1.0)
    for beta in (1e-15, 1e-3, 0.9):
        assert ddpm.posterior_mean(x_t, x_0, one, f64(beta)).item() == pytest.approx(0.7, rel=1e-15)
        assert ddpm.posterior_variance(one, f64(beta)).item() == 0
    alpha_bar_s = f64(0.3)
    assert ddpm.posterior_mean(x_t, x_0, alpha_bar_s, one).item() == pytest.approx(math.sqrt(0.3) * 0.7, rel=1e-15)
    assert ddpm.posterior_variance(alpha_bar_s, one).item() == pytest.approx(0.7, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("noise_s", "beta"), [(1e-6, 1e-7), (1e-4, 1e-6), (0.5, 1e-8), (1.0, 1e-3)])
def test_nothing_cancels_near_the_data(dtype: torch.dtype, noise_s: float, beta: float) -> None:
    """At the rounded arguments the posterior and the weights keep all but a few units of the last place."""
    alpha_bar_s, beta_t = torch.tensor(1 - noise_s, dtype=dtype), torch.tensor(beta, dtype=dtype)
    Sigma = ddpm.posterior_variance(alpha_bar_s, beta_t)
    with mp.workdps(50):
        A, b, S = (mp.mpf(v.item()) for v in (alpha_bar_s, beta_t, Sigma))
        left = 1 - A * (1 - b)
        expected = {
            "posterior_variance": ((1 - A) * b / left, Sigma),
            "weight_x0": (A * b**2 / left**2 / (2 * S), ddpm.weight_x0(alpha_bar_s, beta_t, Sigma)),
            "weight_eps": (b**2 / (2 * S * (1 - b) * left), ddpm.weight_eps(alpha_bar_s, beta_t, Sigma)),
        }
        for name, (exact, got) in expected.items():
            assert abs(mp.mpf(got.item()) / exact - 1) < 8 * torch.finfo(dtype).eps if exact else got == 0, name


# ---------------------------------------------------------------------------------------------- terms of the bound


@pytest.mark.parametrize(("alpha_bar_s", "beta"), [(0.999, 0.01), (0.6, 0.3), (0.01, 0.9)])
@pytest.mark.parametrize("ratio", [1.0, 0.3, 5.0], ids=["matched", "narrow", "wide"])
def test_each_weight_gives_the_kl_of_the_two_reverse_steps(alpha_bar_s: float, beta: float, ratio: float) -> None:
    """KL(q(x_s|x_t,x_0) || p(x_s|x_t)) by torch.distributions, with the model's error said in x0, eps, v and score."""
    A, b, x_0, D, eps = f64(alpha_bar_s), f64(beta), f64(0.7), f64(-0.4), f64(1.3)
    alpha, sigma = torch.sqrt(A * (1 - b)), torch.sqrt(1 - A * (1 - b))
    x_t = alpha * x_0 + sigma * eps
    eps_hat = (x_t - alpha * D) / sigma
    Sigma = ratio * ddpm.posterior_variance(A, b)
    exact = kl_divergence(
        Normal(ddpm.posterior_mean(x_t, x_0, A, b), torch.sqrt(ddpm.posterior_variance(A, b))),
        Normal(ddpm.posterior_mean(x_t, D, A, b), torch.sqrt(Sigma)),
    )
    errors = {
        ddpm.weight_x0(A, b, Sigma): x_0 - D,
        ddpm.weight_eps(A, b, Sigma): eps - eps_hat,
        ddpm.weight_v(A, b, Sigma): (alpha * eps - sigma * x_0) - (alpha * eps_hat - sigma * D),
        ddpm.weight_score(b, Sigma): (eps - eps_hat) / sigma,
    }
    for weight, error in errors.items():
        torch.testing.assert_close(weight * error**2 + ddpm.variance_kl(A, b, Sigma), exact, rtol=1e-11, atol=0)
    squared_error = (exact - ddpm.variance_kl(A, b, Sigma)) * ddpm.simple_weight(A, b, Sigma)
    torch.testing.assert_close(squared_error, (eps - eps_hat) ** 2, rtol=1e-11, atol=0)


def test_matched_variances_weight_x0_by_half_the_gain_in_snr() -> None:
    snr = lambda alpha_bar: alpha_bar / (1 - alpha_bar)  # noqa: E731
    for A, b in [(0.999, 0.01), (0.5, 0.5), (1e-3, 0.2)]:
        weight = ddpm.weight_x0(f64(A), f64(b), ddpm.posterior_variance(f64(A), f64(b))).item()
        assert weight == pytest.approx((snr(A) - snr(A * (1 - b))) / 2, rel=1e-11)


@pytest.mark.parametrize("alpha_bar_T", [0.9, 0.25, 0.2, 1e-3, 4e-5, 1e-12])
def test_the_prior_term_keeps_its_digits_as_the_signal_vanishes(alpha_bar_T: float) -> None:
    for x in (0.0, 1e-6, 1.5):
        with mp.workdps(50):
            a, x_0 = mp.mpf(alpha_bar_T), mp.mpf(x)
            exact = (a * x_0**2 - a - mp.log(1 - a)) / 2
            assert abs(ddpm.prior_kl(f64(x), f64(alpha_bar_T)).item() / exact - 1) < 2e-15
    assert ddpm.prior_kl(f64(1.5), f64(0.0)).item() == 0
    reference = kl_divergence(Normal(f64(math.sqrt(0.3) * 1.5), f64(math.sqrt(0.7))), Normal(f64(0.0), f64(1.0)))
    torch.testing.assert_close(ddpm.prior_kl(f64(1.5), f64(0.3)), reference)


# ----------------------------------------------------------------------------------------------------- the decoder


def exact_log_bin(c: float, w: float) -> mp.mpf:
    with mp.workdps(60):
        centre, width = abs(mp.mpf(c)), mp.mpf(w)
        below, above = ((centre - width / 2) / mp.sqrt(2), (centre + width / 2) / mp.sqrt(2))
        return mp.log((mp.erfc(below) - mp.erfc(above)) / 2)


@pytest.mark.parametrize("w", [1e-8, 1e-3, 0.3, 0.999, 1.001, 4.0, 20.0])
def test_a_bin_keeps_its_digits_at_any_width_and_distance(w: float) -> None:
    for c in (0.0, 0.5, -1.0, 3.0, -11.0, 40.0, 200.0):
        exact = exact_log_bin(c, w)
        got = ddpm.log_bin(f64(c), f64(w)).item()
        assert abs(got - exact) < 1e-14 * (1 + abs(exact)), (c, w)
        single = ddpm.log_bin(torch.tensor(c), torch.tensor(w)).item()
        assert abs(single - exact) < 1e-5 * (1 + abs(exact)), (c, w)


@pytest.mark.parametrize("levels", [2, 3, 32, 256])
@pytest.mark.parametrize("std", [1e-4, 0.02, 0.5, 30.0])
def test_the_decoder_sums_to_one_over_all_levels(levels: int, std: float) -> None:
    x_0 = 2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1
    for mean in (0.0, 0.3, -1.0, 1.2, 7.0):
        total = ddpm.decoder_log_prob(x_0, f64(mean), f64(std), levels).exp().sum().item()
        assert total == pytest.approx(1, abs=1e-13 + 1e-16 / std)  # edges are rounded before they are divided by std


def test_the_decoder_gives_each_level_its_own_bin() -> None:
    """Sums alone miss bins shifted by one; each level's probability is the mass between the half-way points."""
    levels, mean, std = 5, 0.2, 0.4
    x_0 = 2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1
    cdf = Normal(f64(mean), f64(std)).cdf
    edges = torch.cat([f64([0.0]), cdf((x_0[1:] + x_0[:-1]) / 2), f64([1.0])])
    torch.testing.assert_close(ddpm.decoder_log_prob(x_0, f64(mean), f64(std), levels).exp(), edges.diff())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("std", [1e-3, 0.1, 10.0])
def test_the_decoder_can_be_trained_through_however_wrong_the_mean(dtype: torch.dtype, std: float) -> None:
    """Gradient in the mean against 50 digits at every level: no NaN, and no flat spot where the bin is far away."""
    levels = 256
    x_0 = torch.tensor([-1.0, -1 + 2 / 255, 129 / 255, 1.0], dtype=torch.float64).to(dtype)
    for at in (-0.99, 0.1, 0.9):
        mean = torch.full_like(x_0, at).requires_grad_()
        ddpm.decoder_log_prob(x_0, mean, torch.tensor(std, dtype=dtype), levels).sum().backward()
        for x, m, gradient in zip(x_0.tolist(), mean.tolist(), mean.grad.tolist(), strict=True):
            with mp.workdps(50):
                s, half = mp.mpf(torch.tensor(std, dtype=dtype).item()), mp.mpf(1) / 255
                upper, lower = (x + half - m) / s, (x - half - m) / s
                top, bottom = mp.npdf(upper), mp.npdf(lower)
                if x == -1:
                    exact = -top / mp.ncdf(upper)
                elif x == 1:
                    exact = bottom / mp.ncdf(-lower)
                else:
                    sign = -1 if upper + lower > 0 else 1  # the bin seen from the nearer tail
                    mass = abs(mp.ncdf(sign * upper) - mp.ncdf(sign * lower))
                    exact = (bottom - top) / mass
            # x_0 +- half is rounded, by eps, before it is divided by std twice: hence the second term
            assert abs(gradient - exact / s) < 200 * torch.finfo(dtype).eps * (abs(exact / s) + 1 / s**2)


@pytest.mark.parametrize(
    ("x_0", "levels", "says"),
    [([0.0], 1, "levels = 1"), ([0.0], 256, "not on the 256 levels"), ([1.5], 5, "not on"), ([math.nan], 3, "not on")],
)
def test_the_decoder_refuses_data_that_are_no_levels(x_0: list[float], levels: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ddpm.decoder_log_prob(f64(x_0), f64(0.0), f64(1.0), levels)


@pytest.mark.parametrize("levels", [2, 32, 256, 65536])
def test_uniform_levels_cost_log2_levels_bits(levels: int) -> None:
    """Dequantised uniform data are uniform on [-1, 1]^d: density 2^-d, so d log 2 nats, and log2(levels) bits each."""
    for d in (1, 3072):
        bits = ddpm.data_bits_per_dim(f64(d * math.log(2)), d, levels).item()
        assert bits == pytest.approx(math.log2(levels), rel=1e-14)
        assert ddpm.bits_per_dim(f64(d * math.log(levels)), d).item() == pytest.approx(math.log2(levels), rel=1e-14)


# -------------------------------------------------------------------------------------------------- reverse variance


def two_points(A: float, b: float) -> tuple[float, float, float]:
    """E Var(x_s | x_t), E Var(x_0 | x_t) and E score^2 for x_0 = +-0.8, each from its definition on a grid."""
    points, width = np.array([-0.8, 0.8]), 0.01
    x_t, x_s = (np.arange(-9, 9, width) for _ in range(2))
    normal = lambda x, m, v: np.exp(-((x - m) ** 2) / (2 * v)) / np.sqrt(2 * np.pi * v)  # noqa: E731
    p_s = normal(x_s[:, None], np.sqrt(A) * points, 1 - A).mean(1)
    law = p_s * normal(x_t[:, None], np.sqrt(1 - b) * x_s, b) * width  # [t, s]
    p_t = law.sum(1)
    moment = lambda k: (law * x_s**k).sum(1) / p_t  # noqa: E731
    step = (p_t * (moment(2) - moment(1) ** 2)).sum() * width
    at_t = normal(x_t[:, None], np.sqrt(A * (1 - b)) * points, 1 - A * (1 - b)) / 2
    share = at_t / at_t.sum(1, keepdims=True)
    data = (p_t * (share @ points**2 - (share @ points) ** 2)).sum() * width
    score = np.gradient(np.log(at_t.sum(1)), width, edge_order=2)
    return step, data, (p_t * score**2).sum() * width


@pytest.mark.parametrize(("A", "b"), [(0.9, 0.3), (0.5, 0.5), (0.2, 0.8)])
def test_the_best_reverse_variance_of_two_points(A: float, b: float) -> None:
    """Both formulas against the mean conditional variance of x_s given x_t, integrated from the joint law."""
    step, data, fisher = two_points(A, b)
    assert ddpm.optimal_variance(f64(A), f64(b), f64(data)).item() == pytest.approx(step, rel=1e-9)
    assert ddpm.analytic_variance(f64(b), f64(fisher)).item() == pytest.approx(step, rel=1e-3)  # np.gradient: O(h^2)


@pytest.mark.parametrize("variance", [0.0, 0.3, 1.0, 4.0, 1e9])
def test_the_best_reverse_variance_of_gaussian_data(variance: float) -> None:
    """Precisions add: 1/best = 1/Var(x_s) + (1 - beta)/beta. At least beta_tilde (points), at most beta up to unit
    variance, never above beta/(1 - beta)."""
    A, b = f64(0.8), f64(0.3)
    of_s, of_t = A * variance + 1 - A, A * (1 - b) * variance + 1 - A * (1 - b)
    C = variance * (1 - A * (1 - b)) / of_t
    best = ddpm.optimal_variance(A, b, C).item()
    assert best == pytest.approx(1 / (1 / of_s + (1 - b) / b).item(), rel=1e-12)
    assert ddpm.analytic_variance(b, 1 / of_t).item() == pytest.approx(best, rel=1e-12)
    lower, upper = ddpm.posterior_variance(A, b).item(), (b / (1 - b)).item()
    assert lower <= best < upper
    assert (best <= b.item() * (1 + 1e-12)) == (variance <= 1)
    if variance in (0.0, 1.0):
        assert best == pytest.approx(lower if variance == 0 else b.item(), rel=1e-12)


def test_learned_variance_runs_from_beta_tilde_to_beta_in_logs() -> None:
    A, b = f64(0.99), f64(0.02)
    log_var = lambda v, A=A: ddpm.learned_log_variance(f64(v), A, b).item()  # noqa: E731
    low, high = ddpm.posterior_variance(A, b).log().item(), b.log().item()
    assert log_var(0.0) == pytest.approx(low, rel=1e-14)
    assert log_var(1.0) == high
    assert log_var(0.25) == pytest.approx(0.75 * low + 0.25 * high, rel=1e-14)  # raw interpolation is 7 % higher
    assert log_var(1.0, f64(1.0)) == high, "the first step: beta_tilde is 0, and v = 1 still means beta"
    assert log_var(0.5, f64(1.0)) == -math.inf


# --------------------------------------------------------------------------------------------------- the whole bound


def exact_bound(x_0: float, betas: np.ndarray, gains: np.ndarray, Sigma: np.ndarray) -> float:
    """E_q[log q(x_1..T | x_0) - log p(x_0..T)] of two joint Gaussians; the model predicts D = gains[k - 1] x_t.

    No telescoping: the entropy of one joint Gaussian and the cross entropy to the other.
    """
    T = len(betas)
    gain, covariance = joint(betas)
    mean, second = gain * x_0, covariance + np.outer(gain, gain) * x_0**2
    entropy = (T * math.log(2 * math.pi * math.e) + np.linalg.slogdet(covariance)[1]) / 2
    alpha_bar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    cross = (second[T - 1, T - 1] + math.log(2 * math.pi)) / 2  # -E log N(x_T; 0, 1)
    for k in range(1, T + 1):
        A, b = alpha_bar[k - 1], betas[k - 1]
        slope = (np.sqrt(A) * b * gains[k - 1] + np.sqrt(1 - b) * (1 - A)) / (1 - A * (1 - b))
        if k == 1:
            squared = x_0**2 - 2 * slope * x_0 * mean[0] + slope**2 * second[0, 0]
        else:
            squared = second[k - 2, k - 2] - 2 * slope * second[k - 2, k - 1] + slope**2 * second[k - 1, k - 1]
        cross += (squared / Sigma[k - 1] + math.log(2 * math.pi * Sigma[k - 1])) / 2
    return cross - entropy


@pytest.mark.parametrize("betas", [[0.4], [0.1, 0.5], [0.05, 0.1, 0.3, 0.6]], ids=len)
@pytest.mark.parametrize("x_0", [0.0, 1.7])
def test_the_bound_is_the_joint_gaussians_bound(betas: list[float], x_0: float) -> None:
    """A linear model, wrong in mean and variance. 40,000 draws at 6 standard errors: fails by chance once in 5e8.

    A standard error is below 0.5 % of the bound, so an error of 6 % in the total is seen for certain (1e-6).
    """
    b = np.array(betas)
    T, rng = len(b), np.random.default_rng(3)
    gains, Sigma = rng.uniform(0.3, 1.2, T), b * rng.uniform(0.5, 1.5, T)
    draws = ddpm.variational_bound(
        lambda x, t: gains[round(t.item() * T) - 1] * x,
        torch.full((40_000, 1), x_0, dtype=torch.float64),
        f64(b),
        f64(Sigma),
        torch.Generator().manual_seed(11),
    )
    assert draws.shape == (T + 1, 40_000)
    total = draws.sum(0)
    error = total.mean().item() - exact_bound(x_0, b, gains, Sigma)
    standard_error = (total.std() / math.sqrt(len(total))).item()
    assert abs(error) < 6 * standard_error + 1e-12
    assert standard_error < 5e-3 * abs(exact_bound(x_0, b, gains, Sigma)) + 2e-2


def test_unit_gaussian_data_with_the_exact_model_have_a_tight_bound() -> None:
    """q(x_s | x_t) = N(sqrt(1 - beta) x_t, beta) exactly, so the bound on each x_0 is -log N(x_0; 0, 1), in nats."""
    T, betas = 5, torch.linspace(0.1, 0.7, 5, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    draws = ddpm.variational_bound(
        lambda x, t: torch.sqrt(alpha_bar[round(t.item() * T) - 1]) * x,
        torch.full((40_000, 2), 0.9, dtype=torch.float64),
        betas,
        betas,
        torch.Generator().manual_seed(5),
    )
    total = draws.sum(0)
    assert total.mean().item() == pytest.approx(0.81 + math.log(2 * math.pi), abs=6 * total.std().item() / 200)


def test_the_discrete_bound_is_that_of_a_probability() -> None:
    """One step, three levels, a constant model: L_0 + L_1 averaged over all x_0 is above log 3, their entropy."""
    x_0 = f64([[-1.0], [0.0], [1.0]])
    terms = ddpm.variational_bound(
        lambda x, t: torch.zeros_like(x), x_0, f64([0.9]), f64([0.5]), torch.Generator().manual_seed(0), levels=3
    )
    cdf = Normal(0.0, math.sqrt(0.5)).cdf(f64(0.5)).item()
    torch.testing.assert_close(terms[0].exp(), f64([1 / (1 - cdf), 1 / (2 * cdf - 1), 1 / (1 - cdf)]))
    assert terms.sum(0).mean().item() > math.log(3)


def test_the_bound_refuses_lists_that_do_not_match() -> None:
    with pytest.raises(ValueError, match=r"betas \(2,\), Sigma \(3,\)"):
        ddpm.variational_bound(
            lambda x, t: x, torch.zeros(1, 1), torch.full((2,), 0.1), torch.ones(3), torch.Generator()
        )
