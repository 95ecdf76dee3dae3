r"""The smallest GAN: a generator x and a discriminator y = dD/dx play for x y, by gradient steps of size h.

    generator       x' = x - h y                                     wants x y small
    discriminator   y' = y + h (x - c y)                             wants x y - (c/2) y^2 large

    simultaneous, c = 0      both from (x, y): each step leads away by sqrt(1 + h^2)
    alternating, c = 0       y' from x': stays on the ellipse x^2 - h x y + y^2, for h < 2
    simultaneous, 0 < c < 2  eigenvalues of modulus sqrt(1 - c h + h^2), inside the circle for h < c

c is the weight of a penalty (c/2) |dD/dx|^2 on the discriminator's gradient. Source: Mescheder et al. 2018.
"""

from __future__ import annotations

from diffusion.binding import formula
from diffusion.shapes import same_rank
from diffusion.types import Real


@formula("generative.gradient_penalty.generator")
def generator_step(x: Real, y: Real, h: Real) -> Real:
    """x' = x - h y: down the gradient of x y (Mescheder et al., sec. 2)."""
    same_rank(x, y, h)
    return x - h * y


@formula("generative.gradient_penalty.discriminator")
def discriminator_step(x: Real, y: Real, h: Real, c: Real) -> Real:
    """y' = y + h (x - c y): up the gradient of x y - (c/2) y^2; alternating steps give it the x that has moved."""
    same_rank(x, y, h, c)
    return y + h * (x - c * y)
