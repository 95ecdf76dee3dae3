r"""The phi functions of exponential integrators.

    phi_k(h) = \int_0^1 exp((1 - u) h) u^(k-1) / (k-1)! du,   k >= 1,

so that phi_1(h) = (e^h - 1)/h, phi_2(h) = (e^h - 1 - h)/h^2, phi_3(h) = (e^h - 1 - h - h^2/2)/h^3, with
phi_(k+1)(h) = (phi_k(h) - 1/k!)/h and phi_k(0) = 1/k! (Hochbruck and Ostermann 2010, eq. 2.10-2.11).
A step of size h (a half_log_snr difference, dimensionless) of a multistep or Runge-Kutta exponential method is a
combination of these.

The closed forms subtract numbers that agree in all but the last digits when h is small: phi_3(1e-5) would have none
right. Below |h| = 1 the functions are therefore summed from their Taylor series, which starts at 1/k! and falls by
more than a factor of two a term; above, the closed forms lose less than two bits. From h = 64 on e^h/h^k is all that
a double can hold of them; it is written with e^(h/2) twice, one divided first, and overflows where phi_k does.
"""

from __future__ import annotations

from math import factorial

import torch
from torch import Tensor

from diffusion.binding import formula

_TAYLOR = {k: [1 / factorial(k + j) for j in range(18)] for k in range(1, 7)}
"""Coefficients of 1, h, h^2, ... in phi_k; the first one left out is below float64's last digit."""


def _phi(k: int, h: Tensor) -> Tensor:
    if not h.is_floating_point():
        raise TypeError(f"phi_{k}: h has dtype {h.dtype}, expected a floating-point tensor")
    small, large = h.abs() < 1, h > 64
    near = torch.where(small, h, torch.zeros_like(h))
    far = torch.where(small | large, torch.ones_like(h), h)  # keeps 0/0 out of the value and of its gradient
    root = torch.exp(torch.where(large, h, torch.zeros_like(h)) / 2)
    head = torch.where(large, h, torch.ones_like(h))
    series = torch.zeros_like(h)
    for coefficient in reversed(_TAYLOR[k]):
        series = series * near + coefficient
    closed = torch.expm1(far) / far
    for j in range(1, k):
        closed = (closed - 1 / factorial(j)) / far
    return torch.where(large, root / head**k * root, torch.where(small, series, closed))


@formula("solver.phi_1")
def phi_1(h: Tensor) -> Tensor:
    """phi_1(h) = (e^h - 1)/h, 1 at h = 0. Any shape, floating point."""
    return _phi(1, h)


@formula("solver.phi_2")
def phi_2(h: Tensor) -> Tensor:
    """phi_2(h) = (e^h - 1 - h)/h^2, 1/2 at h = 0. Any shape, floating point."""
    return _phi(2, h)


@formula("solver.phi_3")
def phi_3(h: Tensor) -> Tensor:
    """phi_3(h) = (e^h - 1 - h - h^2/2)/h^3, 1/6 at h = 0. Any shape, floating point."""
    return _phi(3, h)
