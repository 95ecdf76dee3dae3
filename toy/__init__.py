"""Truth in closed form: data laws that are known exactly at every noise level.

A world is a law p_0 of data x_0. Its noised law at the level (alpha, sigma) is that of

    x_t = alpha x_0 + sigma eps,    eps ~ N(0, I) independent of x_0,

and a world answers exactly what a diffusion model can only estimate: the density p_t, the score grad log p_t, the
denoiser E[x_0 | x_t], the posterior's covariance and draws from it, the entropy of p_0 in nats.

    from toy.worlds import make
    ring = make("ring")
    x_0 = ring.sample(1000, generator)
    ring.denoiser(x_t, alpha, sigma)            # alpha, sigma: scalars, or one per row of x_t

| file          | idea                                                                         |
| ------------- | ---------------------------------------------------------------------------- |
| world         | what every world can do, and the check of its arguments                      |
| mixture       | Gaussians and mixtures of Gaussians, any dimension and covariance, labels    |
| interval      | a uniform law on an interval, noised: truncated normals, stable everywhere   |
| checkerboard  | squares: products of noised intervals                                        |
| points        | finitely many points: the denoiser that has memorised its data               |
| ppca          | Gaussians made from latent factors: a VAE whose optimum is known             |
| worlds        | the worlds by name                                                           |
| line          | laws on the line: quantiles, exact Wasserstein distances                     |
| flow          | the exact probability-flow map                                               |
| couplings     | pairs of Gaussians coupled; optimal pairing of batches; interpolants         |
| distance      | mean distances to a law, within a law, within a sample                       |
| energy        | energy distance to the law, in units of a perfect sampler's mean             |
| sliced        | sliced Wasserstein distance beside the sampling noise's                      |
| frechet       | Frechet distance of Gaussians fitted to two samples                          |
| nll           | likelihood lost, E[log p - log p_model], in nats                             |
| estimate      | a number and its 95 % limits                                                 |
| network       | a small residual network with Fourier time features                          |

Conventions: alpha and sigma are scales, not variances, alpha, sigma >= 0 and not both 0. sigma = 0 means the limit
sigma -> 0+. Batch first; a wrong shape is refused. Truth is computed in float64 and returned in the dtype of x.
Randomness comes from an explicit torch.Generator.
"""
