"""Scale, linear bound and codebook against sampling-free moments, enumeration and autograd."""

import pytest
import torch

from diffusion import latent
from diffusion.vae import beta_bound

TINY = torch.finfo(torch.float64).eps


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_scaled_latents_have_unit_variance():
    z = 7 * normal(1000) + 3
    assert abs((latent.scale_factor(z.var()) * z).var() - 1) < 1e-12


def test_linear_bound_with_a_standard_prior_is_the_negative_elbo():
    a, w = normal(2, 50)
    c, v, l = normal(3, 50, seed=1).exp()
    one = torch.ones(50, dtype=torch.float64)
    assert torch.allclose(latent.linear_bound(a, c, w, v, one, l), -beta_bound(a, c, w, l, v, one), atol=1e-10)


def test_best_encoder_is_stationary():
    w, v, tau, l = (torch.tensor(value, dtype=torch.float64) for value in (0.8, 0.3, 2.0, 1.1))
    a, c = (f(w, v, tau).requires_grad_() for f in (latent.encoder_slope, latent.encoder_variance))
    slopes = torch.autograd.grad(latent.linear_bound(a, c, w, v, tau, l), (a, c))
    assert max(abs(float(slope)) for slope in slopes) < 1e-14


def test_straight_through_is_exactly_the_code_where_z_is_huge():
    z = torch.tensor([1e9], dtype=torch.float64, requires_grad=True)
    q = torch.tensor([0.1], dtype=torch.float64)
    y = latent.straight_through(z, q)
    assert torch.equal(y.detach(), q)
    assert torch.autograd.grad(y.sum(), z)[0] == 1


def test_straight_through_gives_the_code_no_gradient():
    z, q = normal(2, 5)
    q.requires_grad_()
    assert not latent.straight_through(z, q).requires_grad


def test_commitment_stops_each_side():
    z, e = (normal(5, seed=seed).requires_grad_() for seed in (0, 1))
    beta = torch.tensor(0.25, dtype=torch.float64)
    of_z, of_e = torch.autograd.grad(latent.commitment_loss(z, e, beta).sum(), (z, e))
    assert torch.allclose(of_e, 2 * (e - z), rtol=4 * TINY)
    assert torch.allclose(of_z, -beta * of_e, rtol=4 * TINY)


def test_nearest_code_by_looking_at_each():
    z, codebook = normal(20, 3), normal(7, 3, seed=1)
    found = latent.nearest_code(z, codebook)
    for point, code in zip(z, found, strict=True):
        assert (point - code).norm() == min((point - other).norm() for other in codebook)


@pytest.mark.parametrize("z, codebook", [((5,), (3, 2)), ((5, 2), (3, 3)), ((5, 2), (0, 2))])
def test_codebooks_that_do_not_fit_are_refused(z, codebook):
    with pytest.raises(ValueError, match=r"expected \[batch, dim\] and \[K, dim\]"):
        latent.nearest_code(normal(*z), normal(*codebook))


def test_codes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="equal shapes"):
        latent.straight_through(normal(5, 2), normal(5, 1))
