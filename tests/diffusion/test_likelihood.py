"""Likelihoods against exact densities of Gaussians and mixtures, with the exact trace and with Hutchinson's."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from diffusion import hutchinson
from diffusion.likelihood import estimate, gaussian_prior, log_likelihood
from diffusion.schedules import SCHEDULES, Schedule
from toy.field import Field
from toy.mixture import Mixture, gaussian

pytestmark = pytest.mark.slow  # ODEs solved to the end

DOUBLE = torch.float64
CORRELATED = torch.tensor([[1.0, 0.6], [0.6, 0.5]])
WORLDS = {
    "gaussian": Mixture("gaussian", torch.ones(1), torch.tensor([[0.4, -0.3]]), CORRELATED),
    "mixture": Mixture(
        "mixture", torch.tensor([0.3, 0.7]), torch.tensor([[-1.2, 0.0], [0.9, 0.8]]), torch.tensor([0.3, 0.5])
    ),
}
START = 1e-3


def exact(world: Mixture, schedule: Schedule, t: float) -> Callable[[Tensor], Tensor]:
    time = torch.tensor(t, dtype=DOUBLE)
    return lambda x: world.log_density(x, schedule.alpha(time), schedule.sigma(time))


def denoiser(world: Mixture, schedule: Schedule) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, t: world.denoiser(x, schedule.alpha(t), schedule.sigma(t))


def points(world: Mixture, n: int) -> Tensor:
    return world.sample(n, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("schedule_name", ["vp_linear", "cosine", "flow", "edm"])
def test_exact_trace_gives_the_exact_density(schedule_name: str, name: str) -> None:
    """Wrong direction of time, sign of the divergence or trace would each be off by a nat or more."""
    world, schedule = WORLDS[name], SCHEDULES[schedule_name]()
    x, log_prior = points(world, 5), exact(world, schedule, 1.0)
    value = log_likelihood(
        denoiser(world, schedule), schedule, x, start=START, log_prior=log_prior, rtol=1e-8, atol=1e-8
    )
    torch.testing.assert_close(value, exact(world, schedule, START)(x), rtol=0, atol=1e-6)
    assert (log_prior(x) - value).abs().max() > 0.1


def test_default_prior_is_normal_noise_of_the_schedules_end() -> None:
    """Where x_1 is pure noise the default is exact; there the density starts at p_start, close to the data's."""
    world, schedule = WORLDS["gaussian"], SCHEDULES["flow"]()
    x = points(world, 5)
    value = log_likelihood(denoiser(world, schedule), schedule, x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(value, world.log_density(x), rtol=0, atol=2e-4)


@pytest.mark.parametrize("probes", [1, 3])
def test_hutchinson_is_exact_on_average_over_all_signs(probes: int) -> None:
    """In two dimensions e^T J e takes two values, equally likely; their mean is the trace.

    32 copies of one point, each with its own signs: at one probe just two likelihoods occur, symmetric about the exact
    one (both occur but for a chance of 2^-31); at k probes, k + 1 equally spaced ones.
    """
    world, schedule = WORLDS["gaussian"], SCHEDULES["vp_linear"]()
    x = points(world, 1).expand(32, 2).clone()

    def run(**how: object) -> Tensor:
        prior = exact(world, schedule, 1.0)
        return log_likelihood(
            denoiser(world, schedule), schedule, x, start=START, log_prior=prior, rtol=1e-8, atol=1e-8, **how
        )

    trace = run()[0]
    estimates = run(probes=probes, generator=torch.Generator().manual_seed(0))
    levels = sorted({round(value, 5) for value in (estimates - trace).tolist()})
    assert levels[0] < -0.1, "the Jacobian is not diagonal, so the estimate must vary"
    assert len(levels) == probes + 1
    steps = torch.tensor(levels, dtype=DOUBLE).diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), rtol=1e-3, atol=0)
    assert levels[0] + levels[-1] == pytest.approx(0, abs=2e-5)


@pytest.mark.parametrize("schedule_name", ["vp_linear", "sub_vp", "cosine", "flow", "ve", "edm"])
def test_images_of_a_random_field_under_every_schedule(schedule_name: str) -> None:
    """[batch, 1, 4, 4], the denoiser a Wiener filter over all pixels: every off-diagonal and every time counts.

    The exact prior; then the one for mean 0 and the pixels' variance, whose error is KL-small but not nothing.
    """
    world, schedule = Field("field", (1, 4, 4)), SCHEDULES[schedule_name]()
    x = world.image(world.sample(3, torch.Generator().manual_seed(0)))

    def at(t: float) -> Callable[[Tensor], Tensor]:
        alpha, sigma = (f(torch.tensor(t, dtype=DOUBLE)) for f in (schedule.alpha, schedule.sigma))
        return lambda x: world.log_density(world.flat(x), alpha, sigma)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        return world.image(world.denoiser(world.flat(x), schedule.alpha(t), schedule.sigma(t)))

    run = {"start": 0.01, "rtol": 1e-7, "atol": 1e-7}
    value = log_likelihood(denoiser, schedule, x, log_prior=at(1.0), **run)
    torch.testing.assert_close(value, at(0.01)(x), rtol=0, atol=2e-5)
    matched = log_likelihood(denoiser, schedule, x, log_prior=gaussian_prior(schedule, 0.0, 1.0), **run)
    assert (matched - value).abs().max() < 0.05


@pytest.mark.parametrize("schedule_name", ["ddpm_linear", "ddpm_cosine"])
def test_kinks_of_a_discrete_schedule_leave_a_thousandth_of_a_nat(schedule_name: str) -> None:
    world, schedule = WORLDS["gaussian"], SCHEDULES[schedule_name]()
    x, run = points(world, 4), {"start": 0.01, "rtol": 1e-5, "atol": 1e-5}
    value = log_likelihood(denoiser(world, schedule), schedule, x, log_prior=exact(world, schedule, 1.0), **run)
    torch.testing.assert_close(value, exact(world, schedule, 0.01)(x), rtol=0, atol=3e-3)


def test_priors_say_which_gaussian_stands_at_the_end() -> None:
    """VE: sigma(1) = 50 and alpha(1) = 1, so data of mean 40 is not noise of mean 0; given its moments all is exact."""
    world, schedule = (
        gaussian("far", torch.tensor([40.0, -10.0]), torch.diag(torch.tensor([4.0, 1.0]))),
        SCHEDULES["ve"](),
    )
    x, run = torch.tensor([[40.0, -10.0]], dtype=DOUBLE), {"start": 0.1, "rtol": 1e-8, "atol": 1e-8}
    truth = exact(world, schedule, 0.1)(x)
    known = gaussian_prior(schedule, torch.tensor([40.0, -10.0]), torch.tensor([4.0, 1.0]))
    noise = gaussian_prior(schedule)
    z = torch.tensor([[3.0, -7.0]], dtype=DOUBLE)
    torch.testing.assert_close(known(z), exact(world, schedule, 1.0)(z), rtol=1e-12, atol=0)
    torch.testing.assert_close(noise(z), -(z**2).sum(1) / 5000 - math.log(2 * math.pi * 2500), rtol=1e-12, atol=0)
    value = log_likelihood(denoiser(world, schedule), schedule, x, log_prior=known, **run)
    torch.testing.assert_close(value, truth, rtol=0, atol=1e-6)
    default = log_likelihood(denoiser(world, schedule), schedule, x, **run)
    lost = 1700 / 5000 - math.log(2504 * 2501 / 2500**2) / 2  # by the wrong mean, and won by the smaller variances
    torch.testing.assert_close(truth - default, torch.full_like(truth, lost), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind, d", [("rademacher", 4), ("gaussian", 3)])
def test_variance_of_the_quadratic_form(kind: hutchinson.Kind, d: int) -> None:
    """Mean and variance of v^T A v over all 2^d signs, or Gauss-Hermite nodes, which are exact for fourth moments."""
    A = torch.randn(d, d, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    if kind == "rademacher":
        node, weight = torch.tensor([-1.0, 1.0], dtype=DOUBLE), torch.tensor([0.5, 0.5], dtype=DOUBLE)
    else:
        node, weight = (
            torch.tensor(v, dtype=DOUBLE) for v in ([-math.sqrt(3), 0, math.sqrt(3)], [1 / 6, 2 / 3, 1 / 6])
        )
    v, w = torch.cartesian_prod(*[node] * d), torch.cartesian_prod(*[weight] * d).prod(-1)
    forms = torch.einsum("ni,ij,nj->n", v, A, v)
    mean = w @ forms
    assert float(mean) == pytest.approx(float(A.trace()), rel=1e-12)
    assert float(w @ (forms - mean) ** 2) == pytest.approx(float(hutchinson.variance(A, kind)), rel=1e-12)
    symmetric = (A + A.T) / 2
    norm, diagonal = float((symmetric**2).sum()), float((A.diagonal() ** 2).sum())
    expected = 2 * (norm - (diagonal if kind == "rademacher" else 0))
    assert float(hutchinson.variance(A.expand(2, d, d), kind)[1]) == pytest.approx(expected, rel=1e-12)


def test_probes_are_what_they_are_called() -> None:
    x = torch.zeros(3, 1, 2, 2)
    signs = hutchinson.probes("rademacher", 500, x, torch.Generator().manual_seed(0))
    normal = hutchinson.probes("gaussian", 500, x, torch.Generator().manual_seed(0))
    assert signs.shape == normal.shape == (500, 3, 1, 2, 2)
    assert signs.dtype == normal.dtype == torch.float32
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 5 / math.sqrt(6000)
    assert float(normal.var()) == pytest.approx(1, abs=5 * math.sqrt(2 / 6000))


@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_quadratic_forms_of_networks_are_those_of_their_jacobians() -> None:
    """A convolution with group norm, and attention: between the probes stands each sample's own Jacobian."""
    torch.manual_seed(0)
    convolution = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 1, 3))
    attention = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    padded = nn.Sequential(nn.ZeroPad2d(1), convolution)
    for network, shape in ((padded.double().eval(), (2, 1, 4, 4)), (attention.double().eval(), (2, 3, 4))):
        x = torch.randn(shape, dtype=DOUBLE)
        v = hutchinson.probes("gaussian", 3, x, torch.Generator().manual_seed(1))
        y, forms = hutchinson.quadratic_forms(network, x, v)
        torch.testing.assert_close(y, network(x))
        for i, sample in enumerate(x):
            J = torch.autograd.functional.jacobian(lambda z, f=network: f(z[None])[0].flatten(), sample)
            flat = v[:, i].flatten(1)
            expected = torch.einsum("ki,ij,kj->k", flat, J.reshape(len(flat[0]), -1), flat)
            torch.testing.assert_close(forms[:, i], expected)
            trace = hutchinson.quadratic_forms(network, x, hutchinson.axes(x))[1].sum(0)
            torch.testing.assert_close(trace[i], J.reshape(len(flat[0]), -1).trace())


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_estimates_are_unbiased_and_know_their_standard_error(kind: hutchinson.Kind) -> None:
    """400 copies of one point, 4 probes each: z = (estimate - exact) has the mean 0 and the standard error that the
    Jacobian's integral gives, which the average of the squared standard errors is too; 5 standard errors each."""
    world, schedule, n, k = WORLDS["gaussian"], SCHEDULES["cosine"](), 400, 4
    x = points(world, 1).expand(n, 2).clone()
    D = denoiser(world, schedule)
    run = {"start": 0.05, "log_prior": exact(world, schedule, 1.0), "rtol": 1e-5, "atol": 1e-5}
    truth = log_likelihood(D, schedule, x[:1], **run)
    nats, error = estimate(D, schedule, x, k, torch.Generator().manual_seed(1), kind=kind, **run)
    off = nats - truth
    assert abs(float(off.mean())) < 5 * float(off.std()) / math.sqrt(n)
    # A Gaussian's denoiser is linear, so v^T (int b J dt) v is what each probe gathers.
    t = torch.linspace(0.05, 1, 4001, dtype=DOUBLE)
    a, s, a_dot, s_dot = schedule.kernel(t)
    weight = (a_dot - a * s_dot / s)[:, None, None] * (a / s**2)[:, None, None]
    J = torch.stack([world.posterior_covariance(x[:1], float(u), float(w))[0] for u, w in zip(a, s, strict=True)])
    variance = float(hutchinson.variance(torch.trapezoid(weight * J, t, dim=0), kind)) / k
    assert float((off**2).mean()) == pytest.approx(variance, rel=5 * math.sqrt(3 / n))
    assert float((error**2).mean()) == pytest.approx(variance, rel=5 * math.sqrt(3 / n))


def test_images_float32_and_constant_denoisers() -> None:
    """[batch, 1, 2, 2] of a standard normal, whose probability-flow ODE under VP stands still: log p is the prior's."""
    schedule, x = SCHEDULES["vp_linear"](), torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    value = log_likelihood(lambda x, t: schedule.alpha(t) * x, schedule, x, log_prior=standard_normal)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, standard_normal(x), rtol=0, atol=1e-4)
    edm = SCHEDULES["edm"]()  # the law of a point at 0 is N(0, sigma^2) all the way to sigma = 80
    point = log_likelihood(lambda x, t: torch.zeros_like(x), edm, x.double(), start=0.5)
    variance = edm.sigma(torch.tensor(0.5, dtype=DOUBLE)) ** 2
    normal = -0.5 * (x.double() ** 2 / variance + torch.log(2 * math.pi * variance)).flatten(1).sum(1)
    torch.testing.assert_close(point, normal, rtol=0, atol=1e-4)


def standard_normal(x: Tensor) -> Tensor:
    return (-0.5 * x**2 - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


@pytest.mark.parametrize(
    "how, message",
    [
        ({"start": 0.0}, "start"),
        ({"start": 1.0}, "start"),
        ({"probes": 0, "generator": torch.Generator()}, "at least 1"),
        ({"probes": 2}, "torch.Generator"),
        ({"probes": 2, "generator": torch.Generator(), "kind": "sphere"}, "rademacher or gaussian"),
    ],
)
def test_bad_input_gets_one_clear_line(how: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        log_likelihood(lambda x, t: x, SCHEDULES["flow"](), torch.zeros(2, 2, dtype=DOUBLE), **how)
    assert "\n" not in str(caught.value)


def test_a_denoiser_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        log_likelihood(lambda x, t: x[:, :1], SCHEDULES["flow"](), torch.zeros(2, 2, dtype=DOUBLE))


@pytest.mark.parametrize("x", [torch.zeros(0, 2), torch.zeros(3), torch.zeros(3, 2, dtype=torch.long)], ids=str)
def test_what_is_no_batch_of_states_is_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected floats \[batch, \.\.\.\], at least one sample"):
        log_likelihood(lambda x, t: x, SCHEDULES["flow"](), x)


def test_a_standard_error_needs_two_probes() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        estimate(lambda x, t: x, SCHEDULES["flow"](), torch.zeros(2, 2, dtype=DOUBLE), 1, torch.Generator())
    with pytest.raises(ValueError, match="sphere"):
        hutchinson.variance(torch.eye(2), "sphere")
