"""A number and its 95 % limits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Estimate:
    """A mean over n independent parts and Student's 95 % limits for what it estimates."""

    mean: float
    lower: float
    upper: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.4g} [{self.lower:.4g}, {self.upper:.4g}]"


def estimate(values: Iterable[float]) -> Estimate:
    """mean +- t_(0.975, n-1) s/sqrt(n), from at least two independent values."""
    v = np.asarray(list(values), dtype=float)
    if v.ndim != 1 or len(v) < 2 or not np.isfinite(v).all():
        raise ValueError(f"limits need two or more finite values, got {v.tolist()[:4]} (shape {list(v.shape)})")
    return _limits(float(v.mean()), float(v.std(ddof=1)) / math.sqrt(len(v)), len(v))


def jackknife(whole: float, without_one: Sequence[float]) -> Estimate:
    """A statistic of n independent parts, with limits from its values v without each: (n-1)/n sum (v - mean v)^2."""
    v = np.asarray(without_one, dtype=float)
    return _limits(whole, math.sqrt((len(v) - 1) / len(v) * float(((v - v.mean()) ** 2).sum())), len(v))


def _limits(mean: float, error: float, n: int) -> Estimate:
    half = float(student.ppf(0.975, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, n)
