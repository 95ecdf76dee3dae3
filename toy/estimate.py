"""A mean and its 95 % limits."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Estimate:
    """The mean of n independent values and Student's 95 % limits for what it estimates."""

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
    half = float(student.ppf(0.975, len(v) - 1)) * float(v.std(ddof=1)) / math.sqrt(len(v))
    return Estimate(float(v.mean()), float(v.mean()) - half, float(v.mean()) + half, len(v))
