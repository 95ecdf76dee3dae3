"""Gaussians and mixtures of Gaussians, exact at every noise level.

    x_0 ~ sum_k w_k N(m_k, C_k),    C_k = U_k diag(lambda_k) U_k^T.

Noise keeps the eigenvectors. With v_k = alpha^2 lambda_k + sigma^2 and z_k = U_k^T (x - alpha m_k),

    p_t(x)               = sum_k w_k N(z_k; 0, diag v_k)
    r_k(x)               = w_k N(z_k; 0, diag v_k) / p_t(x)                          responsibilities
    grad log p_t(x)      = -sum_k r_k U_k (z_k / v_k)
    E[x_0 | x, k]        = m_k + U_k (alpha lambda_k / v_k) z_k =: mu_k
    Cov[x_0 | x, k]      = U_k diag(sigma^2 lambda_k / v_k) U_k^T
    E[x_0 | x]           = sum_k r_k mu_k =: mu
    Cov[x_0 | x]         = sum_k r_k (Cov[x_0 | x, k] + (mu_k - mu)(mu_k - mu)^T)

(Bishop 2006, eq. 2.113-2.117, for each component; total expectation and covariance over k.)

Components may carry labels. Given a label only its components remain, with their weights renormalised: the conditional
law. Without one, the marginal law.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor

from toy.world import Level, World, at_level

Label = int | Int[Tensor, " batch"] | None
ENTROPY_ERROR = 1e-6  # nats: two quadratures of unequal step must agree to this


class Mixture(World):
    """sum_k weights[k] N(means[k], covariance).

    weights [K] positive (normalised here); means [K, dim];
    covariance: a variance (float, or [K] one a component), a matrix [dim, dim] shared by all, or [K, dim, dim];
    labels: optional [K] integers, one a component. Positive definite covariances only; others are refused.
    """

    def __init__(
        self,
        name: str,
        weights: Float[Tensor, " K"],
        means: Float[Tensor, "K dim"],
        covariance: float | Tensor,
        labels: Int[Tensor, " K"] | None = None,
    ) -> None:
        if means.ndim != 2 or weights.shape != means.shape[:1]:
            raise ValueError(f"weights [K], means [K, dim] wanted, got {list(weights.shape)}, {list(means.shape)}")
        if not bool((weights > 0).all() and weights.isfinite().all()):
            raise ValueError(f"weights must be positive and finite, got {weights.tolist()[:8]}")
        if labels is not None and (labels.shape != weights.shape or labels.is_floating_point()):
            raise ValueError(f"labels must be integers [{len(weights)}], got {labels.dtype} {list(labels.shape)}")
        self.name, self.dim = name, means.shape[1]
        self.weights = weights.double() / weights.double().sum()
        self.means = means.double()
        self.labels = labels
        self.variances, self.basis = _eigen(covariance, *means.shape)

    @property
    def isotropic(self) -> bool:
        """All covariances are multiples of the identity."""
        return self.basis is None

    def given(self, label: int) -> Mixture:
        """The conditional law of x_0 given its label, as a world of its own."""
        keep = self._carrying(label)
        return Mixture(f"{self.name}[{label}]", self.weights[keep], self.means[keep], self._covariance[keep])

    def at(self, alpha: float, sigma: float) -> Mixture:
        """The law of x_t = alpha x_0 + sigma eps, as a world of its own: covariances alpha^2 C_k + sigma^2 I."""
        _, a, s = at_level(self.means, alpha, sigma, self.dim)
        noise = s[0, 0] ** 2 * (1.0 if self.basis is None else torch.eye(self.dim, dtype=torch.float64))
        C = a[0, 0] ** 2 * self._covariance + noise
        return Mixture(f"{self.name} at ({alpha:g}, {sigma:g})", self.weights, a * self.means, C, self.labels)

    def difference(self) -> Mixture:
        """The law of Y - Y', Y and Y' independent draws of x_0: components (k, l) with m_k - m_l, C_k + C_l."""
        weights = (self.weights[:, None] * self.weights).flatten()
        means = (self.means[:, None] - self.means).flatten(0, 1)
        C = (self._covariance[:, None] + self._covariance).flatten(0, 1)
        return Mixture(f"{self.name} - {self.name}", weights, means, C)

    def offsets(self, x: Float[Tensor, "batch dim"]) -> tuple[Float[Tensor, "batch K dim"], Float[Tensor, "K dim"]]:
        """z_k and lambda_k at alpha = 1: x - Y given component k is N(z_k, diag lambda_k) in the eigenbasis."""
        x, _, _ = at_level(x, 1.0, 0.0, self.dim)
        return self._into_basis(x[:, None] - self.means.to(x)), self.variances.to(x)

    def sample(self, n: int, generator: Generator, label: Label = None) -> Float[Tensor, "n dim"]:
        """n draws of x_0; given labels, of the conditional law of each."""
        k = _choose(self._log_weights(label, n).exp().to(generator.device), n, generator)
        return self._draw(k, self.means.to(k.device)[k], self.variances.to(k.device)[k], generator)

    def sample_labelled(self, n: int, generator: Generator) -> tuple[Float[Tensor, "n dim"], Int[Tensor, " n"]]:
        """n independent pairs (x_0, label)."""
        if self.labels is None:
            raise ValueError(f"world {self.name} has no labels")
        k = _choose(self.weights[None].to(generator.device), n, generator)
        means, variances, labels = (part.to(k.device)[k] for part in (self.means, self.variances, self.labels))
        return self._draw(k, means, variances, generator), labels

    def log_density(self, x: Tensor, alpha: Level = 1.0, sigma: Level = 0.0, label: Label = None) -> Tensor:
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        log_joint, _, _ = self._components(x64, alpha, sigma, label)
        return log_joint.logsumexp(-1).to(x.dtype)

    def score(self, x: Tensor, alpha: Level = 1.0, sigma: Level = 0.0, label: Label = None) -> Tensor:
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        log_joint, z, v = self._components(x64, alpha, sigma, label)
        return -_average(log_joint.softmax(-1), self._out_of_basis(z / v)).to(x.dtype)

    def denoiser(self, x: Tensor, alpha: Level, sigma: Level, label: Label = None) -> Tensor:
        r, mu_k, _ = self._posteriors(x, alpha, sigma, label)
        return _average(r, mu_k).to(x.dtype)

    def posterior_covariance(self, x: Tensor, alpha: Level, sigma: Level, label: Label = None) -> Tensor:
        r, mu_k, spread = self._posteriors(x, alpha, sigma, label)
        away = mu_k - _average(r, mu_k)[:, None]
        between = torch.einsum("bk,bki,bkj->bij", r, away, away)
        if self.basis is None:
            within = torch.diag_embed(_average(r, spread))
        else:
            within = torch.einsum("bk,kie,bke,kje->bij", r, self.basis, spread.expand(len(r), -1, -1), self.basis)
        return (within + between).to(x.dtype)

    def posterior_sample(
        self, x: Tensor, alpha: Level, sigma: Level, generator: Generator, label: Label = None
    ) -> Tensor:
        r, mu_k, spread = self._posteriors(x, alpha, sigma, label)
        k = _choose(r, len(x), generator)
        rows = torch.arange(len(x), device=x.device)
        return self._draw(k, mu_k[rows, k], spread.expand_as(mu_k)[rows, k], generator).to(x.dtype)

    def entropy(self) -> float:
        """One Gaussian: (1/2) log det(2 pi e C). A mixture in one or two dimensions: quadrature, to ENTROPY_ERROR."""
        if len(self.weights) == 1:
            return 0.5 * float((2 * math.pi * math.e * self.variances[0]).log().sum())
        if self.dim > 2:
            raise ValueError(f"entropy of a mixture is known in 1 and 2 dimensions, {self.name} has {self.dim}")
        coarse, fine = (self._entropy_quadrature(steps) for steps in (4, 8))
        if abs(coarse - fine) > ENTROPY_ERROR:
            raise ArithmeticError(f"entropy of {self.name}: quadratures differ by {abs(coarse - fine):.1e} nats")
        return fine

    def _entropy_quadrature(self, steps: int) -> float:
        """-h^dim sum p log p on a lattice, h the least standard deviation / steps, up to 9 of the greatest outside."""
        h = float(self.variances.min().sqrt()) / steps
        reach = 9 * float(self.variances.max().sqrt())
        spans = ((float(m.min()) - reach, float(m.max()) + reach) for m in self.means.T)
        axes = [torch.arange(low, high, h, dtype=torch.float64) for low, high in spans]
        total = 0.0
        for first in axes[0].split(2**20 // (len(self.weights) * math.prod(map(len, axes[1:]))) + 1):
            log_p = self.log_density(torch.cartesian_prod(first, *axes[1:]).reshape(-1, self.dim))
            total -= float((log_p.exp() * log_p).sum())
        return total * h**self.dim

    def _components(self, x: Tensor, alpha: Tensor, sigma: Tensor, label: Label) -> tuple[Tensor, Tensor, Tensor]:
        """log w_k N(z_k; 0, v_k) [batch, K], z [batch, K, dim], v [batch or 1, K, dim]."""
        alpha, sigma = alpha[..., None], sigma[..., None]
        z = self._into_basis(x[:, None] - alpha * self.means.to(x.device))
        v = alpha**2 * self.variances.to(x.device) + sigma**2
        log_normal = -0.5 * (z**2 / v + (2 * math.pi * v).log()).sum(-1)
        return self._log_weights(label, len(x)).to(x.device) + log_normal, z, v

    def _posteriors(self, x: Tensor, alpha: Level, sigma: Level, label: Label) -> tuple[Tensor, Tensor, Tensor]:
        """r [batch, K], mu_k [batch, K, dim], and the variances sigma^2 lambda_k / v_k in the eigenbasis."""
        x64, alpha, sigma = at_level(x, alpha, sigma, self.dim)
        log_joint, z, v = self._components(x64, alpha, sigma, label)
        variances, means = self.variances.to(x.device), self.means.to(x.device)
        mu_k = means + self._out_of_basis(alpha[..., None] * variances / v * z)
        return log_joint.softmax(-1), mu_k, sigma[..., None] ** 2 * variances / v

    def _draw(self, k: Tensor, mean: Tensor, variance: Tensor, generator: Generator) -> Tensor:
        """mean + U_k sqrt(variance) u, u ~ N(0, I), a row for each entry of k."""
        u = torch.randn(mean.shape, generator=generator, dtype=torch.float64, device=mean.device)
        step = variance.sqrt() * u
        return mean + (step if self.basis is None else (self.basis.to(k.device)[k] @ step[..., None])[..., 0])

    @property
    def _covariance(self) -> Tensor:
        """Variances [K] where isotropic, else matrices [K, dim, dim]."""
        return self.variances[:, 0] if self.basis is None else self.basis * self.variances[:, None] @ self.basis.mT

    def _log_weights(self, label: Label, n: int) -> Tensor:
        """log w_k, [1, K]; given labels, log w_k within each label, [n or 1, K]."""
        if label is None:
            return self.weights.log()[None]
        if isinstance(label, Tensor) and label.ndim and label.shape != (n,):
            raise ValueError(f"label must be an integer or have shape [{n}] (the batch), got {list(label.shape)}")
        weights = self.weights * self._carrying(torch.as_tensor(label).reshape(-1, 1).to(self.weights.device))
        return (weights / weights.sum(-1, keepdim=True)).log()

    def _carrying(self, label: Tensor | int) -> Tensor:
        """Which components carry the label."""
        if self.labels is None:
            raise ValueError(f"world {self.name} has no labels")
        carrying = self.labels == label
        if not bool(carrying.any(-1).all()):
            raise ValueError(f"world {self.name} has labels {self.labels.unique().tolist()}, got {label}")
        return carrying

    def _into_basis(self, x: Tensor) -> Tensor:
        return x if self.basis is None else (x[..., None, :] @ self.basis.to(x.device))[..., 0, :]

    def _out_of_basis(self, z: Tensor) -> Tensor:
        return z if self.basis is None else (self.basis.to(z.device) @ z[..., None])[..., 0]


def gaussian(name: str, mean: Float[Tensor, " dim"], covariance: float | Float[Tensor, "dim dim"]) -> Mixture:
    """N(mean, covariance): the mixture of one."""
    return Mixture(name, torch.ones(1), mean[None], covariance)


def _choose(probability: Tensor, n: int, generator: Generator) -> Tensor:
    """n indices: all from the one row of probability, or one from each of its n rows."""
    return torch.multinomial(probability, n // len(probability), replacement=True, generator=generator).flatten()


def _average(r: Tensor, values: Tensor) -> Tensor:
    """sum_k r_k values_k."""
    return (r[..., None] * values).sum(-2)


def _eigen(covariance: float | Tensor, K: int, dim: int) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues [K, dim] and eigenvectors [K, dim, dim] (columns), or None for multiples of the identity."""
    C = torch.as_tensor(covariance, dtype=torch.float64)
    if C.shape in ((), (K,)):
        variances, basis = C.reshape(-1, 1).expand(K, dim), None
    elif C.shape in ((dim, dim), (K, dim, dim)):
        if not torch.allclose(C, C.mT, rtol=1e-12, atol=0):
            raise ValueError("covariance must be symmetric")
        variances, basis = torch.linalg.eigh(C.expand(K, dim, dim))
    else:
        wanted = f"a variance, [{K}], [{dim}, {dim}] or [{K}, {dim}, {dim}]"
        raise ValueError(f"covariance must be {wanted}, got {list(C.shape)}")
    if not bool((variances > 0).all() and variances.isfinite().all()):
        raise ValueError(f"covariance must be positive definite, smallest eigenvalue {float(variances.min()):.3g}")
    return variances, basis
