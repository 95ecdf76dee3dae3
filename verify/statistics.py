r"""Statistical tests that state how often they fail for nothing, and what they would see.

Every test has two figures, both printed:

    false_fail          an upper bound on P(fail) when the law is exactly as claimed
    detectable_effect   the size of error at which P(pass) is at most MISS = 1e-6

Most are *pivots*: a function of the sample whose law is known exactly whatever the claimed law was, so false_fail is
exact at any sample size and no asymptotics enter. The rest rest on inequalities that hold at every sample size; they
fail more rarely than they say.

| test       | statistic, under the claim                          | law or inequality              |
| ---------- | --------------------------------------------------- | ------------------------------ |
| scale      | sum r^2, r standardised residuals                   | chi-square: exact              |
| location   | n times the squared length of the mean of r         | chi-square: exact              |
| covariance | Bartlett factors of sum r r^T                       | chi-square and normal: exact   |
| regression | sum r z / norm z, z independent of the residuals    | normal given z: exact          |
| uniform    | sup of the distance of F_n(u) to u                  | Kolmogorov's law: exact        |
| same_law   | sup of the distance of F_n to G_n, two samples      | DKW-Massart, Wei & Dudley 2012 |
| exchange   | sum d / norm d, d symmetric about 0                 | Hoeffding for random signs     |
| mean_zero  | sum x, of mean 0 and known variance given the past  | Delyon 2009, theorem 4         |

The exact pivots see small errors of a conditional law that a test of the marginal does not: at n = 20,000 `scale` sees
the variance off by about 10 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MISS = 1e-6  # the false-pass rate at which effects are stated

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Verdict:
    """What a check found. `value` is compared with `limit`, both in units of the statistic; `unit` is the effect's."""

    value: float
    limit: float
    false_fail: float
    detectable_effect: float
    unit: str

    @property
    def holds(self) -> bool:
        return bool(self.value <= self.limit)


def exact(error: float, allowed: float, unit: str) -> Verdict:
    """A deterministic check: it cannot fail for nothing, and sees anything above what it allows."""
    return Verdict(float(error), allowed, 0.0, allowed, unit)


def _residuals(r: ArrayLike, name: str) -> Array:
    x = np.asarray(r, dtype=np.float64)
    x = x.reshape(len(x), -1)
    if len(x) < 2 or not np.isfinite(x).all():
        raise ValueError(f"{name}: expected at least two finite residuals [n] or [n, d], got shape {list(np.shape(r))}")
    return x


def scale(r: ArrayLike, false_fail: float) -> Verdict:
    """Standardised residuals have variance 1: sum r^2 is chi-square. Effect: relative error of the variance.

    value is the two-sided p-value's smallness, -log10 p.
    """
    x = _residuals(r, "scale")
    total = float((x**2).sum())
    low, high, least, most = _chi2_points(x.size, false_fail / 2)
    effect = max(high / least - 1, 1 - low / most)
    p = _two_sided(total, x.size)
    return _from_p(p, false_fail, effect, "relative error of the variance")


def location(r: ArrayLike, false_fail: float) -> Verdict:
    """Standardised residuals have mean 0 in each coordinate. Effect: length of the mean, in standard deviations."""
    x = _residuals(r, "location")
    n, d = x.shape
    value = n * float((x.mean(0) ** 2).sum())
    critical = stats.chi2.isf(false_fail, d)
    # |N(m, I)| <= c has probability below MISS once |m| >= c + the MISS-quantile of one normal coordinate
    effect = (math.sqrt(critical) + stats.norm.isf(MISS)) / math.sqrt(n)
    return _from_p(stats.chi2.sf(value, d), false_fail, effect, "standard deviations of the residual")


def covariance(r: ArrayLike, false_fail: float) -> Verdict:
    """Residuals ~ N(0, I): sum r r^T is Wishart, whose Cholesky factor has independent known entries (Bartlett 1933).

    Diagonal entry i squared is chi-square with n - i degrees, those below are standard normal. Bonferroni over the
    entries. Effect: correlation of two coordinates, or relative error of a variance, whichever is seen later.
    """
    x = _residuals(r, "covariance")
    n, d = x.shape
    factor = np.linalg.cholesky(x.T @ x)
    entries = d * (d + 1) // 2
    ps = []
    for i in range(d):
        ps += [_two_sided(factor[i, i] ** 2, n - i), *(2 * stats.norm.sf(abs(factor[i, j])) for j in range(i))]
    each = false_fail / entries
    reach = stats.norm.isf(each / 2) + stats.norm.isf(MISS)
    _, high, least, _ = _chi2_points(n - d + 1, each / 2)
    effect = max(reach / math.sqrt(least), high / least - 1)
    return _from_p(min(1.0, entries * min(ps)), false_fail, effect, "correlation, or relative error of a variance")


def regression(r: ArrayLike, z: ArrayLike, false_fail: float) -> Verdict:
    """Residuals know nothing of z: given z, sum r z / |z| is standard normal for each pair of coordinates.

    Effect: slope of the residual on z, z in units of its root mean square.
    """
    x, y = _residuals(r, "regression"), _residuals(z, "regression")
    cross = x.T @ (y / np.sqrt((y**2).sum(0)))
    p = 2 * stats.norm.sf(np.abs(cross).max())
    reach = stats.norm.isf(false_fail / (2 * cross.size)) + stats.norm.isf(MISS)
    effect = reach / math.sqrt(len(x))
    return _from_p(min(1.0, cross.size * p), false_fail, effect, "slope of the residual on the standardised regressor")


def uniform(u: ArrayLike, false_fail: float) -> Verdict:
    """Probability transforms are uniform on (0, 1): Kolmogorov's statistic, exact at any n. Effect: sup |F - u|."""
    x = np.sort(np.asarray(u, dtype=np.float64).ravel())
    n = len(x)
    if n < 2 or not ((x >= 0) & (x <= 1)).all():
        raise ValueError(f"uniform: expected at least two numbers in [0, 1], got {n} of range [{x.min()}, {x.max()}]")
    k = np.arange(n)
    value = float(max((x - k / n).max(), ((k + 1) / n - x).max()))
    critical = _kolmogorov(n, false_fail)
    effect = critical + math.sqrt(math.log(1 / MISS) / (2 * n))
    return Verdict(value, critical, false_fail, effect, "sup |F - claimed F|")


def same_law(x: ArrayLike, y: ArrayLike, false_fail: float) -> Verdict:
    """Two samples of equal size have one law: P(sqrt(n/2) sup |F_n - G_n| >= c) <= 2 exp(-2 c^2), n >= 458.

    (Wei & Dudley 2012, theorem 1.) Samples [n, d] are compared coordinate by coordinate and along the diagonals of the
    first two, with Bonferroni. Effect: sup |F - G| in any of those directions.
    """
    a, b = _residuals(x, "same_law"), _residuals(y, "same_law")
    if a.shape != b.shape or len(a) < 458:
        raise ValueError(f"same_law: expected two samples of one size >= 458, got {list(a.shape)} and {list(b.shape)}")
    n = len(a)
    directions = np.eye(a.shape[1])
    if a.shape[1] > 1:
        directions = np.vstack([directions, directions[0] + directions[1], directions[0] - directions[1]])
    value = max(_distance(a @ w, b @ w) for w in directions)
    limit = math.sqrt(math.log(2 * len(directions) / false_fail) / n)
    # at the point of largest difference two binomial fractions: Hoeffding
    return Verdict(value, limit, false_fail, limit + math.sqrt(math.log(1 / MISS) / n), "sup |F - G| along a direction")


def exchange(d: ArrayLike, false_fail: float) -> Verdict:
    """Differences symmetric about 0, as those of exchangeable pairs are: |sum d| <= c |d| but for 2 exp(-c^2 / 2).

    Holds at every n and for every symmetric law: given |d| the signs are fair coins (Hoeffding 1963, theorem 2).
    Effect: mean of d in its root mean squares, for a bounded or Gaussian d (central limit).
    """
    x = _residuals(d, "exchange")
    value = float(np.max(np.abs(x.sum(0)) / np.sqrt((x**2).sum(0))))
    limit = math.sqrt(2 * math.log(2 * x.shape[1] / false_fail))
    effect = (limit + stats.norm.isf(MISS)) / math.sqrt(len(x))
    return Verdict(value, limit, false_fail, float(effect), "mean difference in root mean squares")


def mean_zero(x: ArrayLike, variance: ArrayLike, false_fail: float) -> Verdict:
    """Sums of martingale differences with known conditional variances, of any law with those variances.

    With Q = sum (x^2 + 2 E[x^2 | past]) / 3, exp(l S - l^2 Q / 2) is a supermartingale (Delyon 2009, theorem 4), so
    |S| <= log(2 / false_fail) / l + l Q / 2 but for false_fail, at any fixed l; l is set by the known variances alone.
    Effect: mean of x in units of its standard deviation.
    """
    a, v = _residuals(x, "mean_zero")[:, 0], np.asarray(variance, dtype=np.float64).ravel()
    n, known = len(a), float(v.sum())
    level = math.log(2 / false_fail)
    rate = math.sqrt(2 * level / known)
    spread = (float((a**2).sum()) + 2 * known) / 3
    value = abs(float(a.sum())) / (level / rate + rate * spread / 2)
    effect = (math.sqrt(2 * level) + stats.norm.isf(MISS)) / math.sqrt(n)
    return Verdict(value, 1.0, false_fail, float(effect), "mean in standard deviations")


def _distance(a: Array, b: Array) -> float:
    """sup |F_n - G_n| of two samples of one size."""
    both = np.concatenate([a, b])
    ranks = (np.searchsorted(np.sort(x), both, side="right") for x in (a, b))
    return float(np.abs(np.subtract(*ranks)).max()) / len(a)


def _two_sided(total: float, degrees: int) -> float:
    """Two-sided p-value of a chi-square total."""
    return 2 * float(min(stats.chi2.cdf(total, degrees), stats.chi2.sf(total, degrees)))


@lru_cache
def _chi2_points(degrees: int, tail: float) -> tuple[float, float, float, float]:
    """Lower and upper critical values at this tail, and the MISS-quantiles from below and above."""
    law = stats.chi2(degrees)
    return law.ppf(tail), law.isf(tail), law.ppf(MISS), law.isf(MISS)


@lru_cache
def _kolmogorov(n: int, false_fail: float) -> float:
    return float(stats.kstwo.isf(false_fail, n))


def _from_p(p: float, false_fail: float, effect: float, unit: str) -> Verdict:
    """The surprise -log10 p against that of the false-fail rate."""
    return Verdict(abs(math.log10(max(p, 1e-300))), -math.log10(false_fail), false_fail, float(effect), unit)
