"""Gaussian random fields: every answer against the dense Gaussian of the same covariance, built without a transform."""

import math

import pytest
import torch

from toy.field import Field
from toy.worlds import make

LEVELS = ((1.0, 0.3), (0.6, 0.8), (0.0, 1.0), (1.0, 4.0), (1.0, 0.0))
AT_LEVELS = pytest.mark.parametrize("alpha, sigma", LEVELS)
SHAPES = ((1, 4, 6), (2, 3, 5), (1, 1, 6), (3, 4, 1), (1, 1, 1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def covariance(shape: tuple[int, int, int], exponent: float, variance: float) -> torch.Tensor:
    """Cov(x_i, x_j) as a sum of cosines of the pixels' distance: sum_k S(k) cos(2 pi k (i - j) / N) / pixels."""
    channels, height, width = shape

    def signed(n: int, side: int) -> int:
        return n if 2 * n < side else n - side

    waves = [
        (
            (i / height, j / width),
            max(math.hypot(signed(i, height) / height, signed(j, width) / width) * max(height, width), 1),
        )
        for i in range(height)
        for j in range(width)
    ]
    mean = sum(k**-exponent for _, k in waves) / len(waves)
    places = [(c, y, x) for c in range(channels) for y in range(height) for x in range(width)]
    C = torch.zeros(len(places), len(places), dtype=torch.float64)
    for a, (c, y, x) in enumerate(places):
        for b, (c2, y2, x2) in enumerate(places):
            if c == c2:
                terms = (k**-exponent * math.cos(2 * math.pi * (u * (y - y2) + w * (x - x2))) for (u, w), k in waves)
                C[a, b] = variance / mean * sum(terms) / len(waves)
    return C


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("exponent, variance", [(2.0, 1.0), (0.0, 3.0), (3.5, 0.2)])
def test_everything_is_the_dense_gaussians(shape, exponent, variance):
    world, C = Field("f", shape, exponent, variance), covariance(shape, exponent, variance)
    eye = torch.eye(world.dim, dtype=torch.float64)
    assert torch.allclose(C.diagonal(), torch.full((world.dim,), variance, dtype=torch.float64))
    normal = torch.distributions.MultivariateNormal(torch.zeros(world.dim, dtype=torch.float64), C)
    assert world.entropy() == pytest.approx(float(normal.entropy()), rel=1e-12)
    for alpha, sigma in LEVELS:
        S = alpha**2 * C + sigma**2 * eye
        _, x = world.noised(5, alpha, sigma, seeded())
        law = torch.distributions.MultivariateNormal(torch.zeros(world.dim, dtype=torch.float64), S)
        gain = alpha * torch.linalg.solve(S, C).T
        assert torch.allclose(world.log_density(x, alpha, sigma), law.log_prob(x), rtol=1e-9)
        assert torch.allclose(world.score(x, alpha, sigma), -torch.linalg.solve(S, x.T).T, rtol=1e-7, atol=1e-9)
        assert torch.allclose(world.denoiser(x, alpha, sigma), x @ gain.T, rtol=1e-7, atol=1e-9)
        assert torch.allclose(world.posterior_covariance(x, alpha, sigma)[0], C - alpha * gain @ C, atol=1e-9)


@AT_LEVELS
def test_score_is_the_gradient_and_covariance_the_jacobian(alpha, sigma):
    world = make("field")
    x = world.noised(3, alpha, sigma, seeded(1))[1].requires_grad_()
    (gradient,) = torch.autograd.grad(world.log_density(x, alpha, sigma).sum(), x)
    assert torch.allclose(world.score(x, alpha, sigma), gradient, rtol=1e-9, atol=1e-10)
    left, right = alpha * world.denoiser(x, alpha, sigma) - x, sigma**2 * world.score(x, alpha, sigma)
    assert torch.allclose(left, right, rtol=1e-11, atol=1e-12)
    if sigma:
        jacobian = torch.autograd.functional.jacobian(lambda y: world.denoiser(y[None], alpha, sigma)[0], x[0].detach())
        expected = alpha / sigma**2 * world.posterior_covariance(x[:1], alpha, sigma)[0]
        assert torch.allclose(jacobian, expected, rtol=1e-9, atol=1e-12)


def test_draws_have_the_spectrum():
    """2,000 fields of 64 pixels: the modes' mean square within 5 standard errors of S, each mode's within 5.5."""
    world, n = make("field"), 2_000
    for x in (
        world.sample(n, seeded(2)),
        world.posterior_sample(world.noised(n, 0.6, 0.8, seeded(3))[1], 0.6, 0.8, seeded(4)),
    ):
        square = world.hartley(x) ** 2 / world.spectrum
        assert abs(float(square.mean()) - 1) < 5 * math.sqrt(2 / (64 * n))
        assert float((square.mean(0) - 1).abs().max()) < 5.5 * math.sqrt(2 / n)


def test_posterior_draws_have_its_moments():
    """4,000 draws at one x: the standardised mean of every mode within 5 standard errors, their variance too."""
    world, n = make("field"), 4_000
    x = world.noised(1, 0.8, 0.6, seeded(5))[1]
    away = world.hartley(world.posterior_sample(x.expand(n, -1), 0.8, 0.6, seeded(6)) - world.denoiser(x, 0.8, 0.6))
    v = 0.36 * world.spectrum / (0.64 * world.spectrum + 0.36)
    assert float((away.mean(0) / (v / n).sqrt()).abs().max()) < 5
    assert float((away**2 / v).mean() - 1) == pytest.approx(0, abs=5 * math.sqrt(2 / (64 * n)))


def test_spectra_fall_as_they_say_and_shifts_change_nothing():
    """S(k) k^a is one number; a shifted image is as likely as it was (stationarity)."""
    world = Field("f", (1, 16, 16), exponent=3.0, variance=2.0)
    assert torch.allclose(world.spectrum * world.frequency**3, world.spectrum[0].expand(256))
    assert float(world.spectrum.mean()) == pytest.approx(2.0)
    image = world.image(world.sample(4, seeded(7)))
    shifted = image.roll((3, -5), (2, 3))
    assert torch.allclose(world.log_density(world.flat(shifted)), world.log_density(world.flat(image)), rtol=1e-12)


def test_large_images_are_cheap_and_float32_is_rounded_once():
    world = Field("f", (3, 64, 64))
    x = world.noised(2, 0.7, 0.7, seeded(8))[1].float()
    for method in (world.log_density, world.score, world.denoiser):
        single, double = method(x, 0.7, 0.7), method(x.double(), 0.7, 0.7)
        assert single.dtype == torch.float32
        assert torch.equal(single, double.float())


def test_one_level_for_each_row_equals_one_call_for_each_level():
    world = make("field")
    alpha, sigma = torch.tensor([1.0, 0.6, 0.0, 0.2]), torch.tensor([0.0, 0.8, 1.0, 3.0])
    _, x = world.noised(4, alpha, sigma, seeded(9))
    for method in (world.log_density, world.score, world.denoiser, world.posterior_covariance):
        whole = method(x, alpha, sigma)
        for i in range(4):
            assert torch.allclose(whole[i : i + 1], method(x[i : i + 1], float(alpha[i]), float(sigma[i])), atol=1e-13)


@pytest.mark.parametrize(
    "shape, exponent, variance, message",
    [((8, 8), 2.0, 1.0, "shape"), ((1, 0, 8), 2.0, 1.0, "shape"), ((1, 8, 8), math.inf, 1.0, "exponent"),
     ((1, 8, 8), 2.0, 0.0, "variance"), ((1, 8, 8), 2.0, math.nan, "variance")],
)  # fmt: skip
def test_impossible_fields_are_refused(shape, exponent, variance, message):
    with pytest.raises(ValueError, match=message) as caught:
        Field("bad", shape, exponent, variance)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="field"):
        make("fild")
    with pytest.raises(ValueError, match=r"\[batch, 64\]"):
        make("field").denoiser(torch.zeros(1, 8, 8), 1.0, 1.0)
