"""Statistics of scores over architectures and seeds: shares of variance, intervals, partial correlations.

Values have the shape (n_architectures, n_seeds). Architectures are drawn at random, so the bootstrap resamples them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


class Interval(NamedTuple):
    """Estimate with its interval."""

    estimate: float
    low: float
    high: float

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high

    def __str__(self) -> str:
        return f"{self.estimate:.2f} ({self.low:.2f} to {self.high:.2f})"


def icc(values: ArrayLike) -> float:
    """Return the share of variance due to the architecture rather than the seed, from (n_architectures, n_seeds).

    ICC(1), one-way random effects: (B - W) / (B + (s - 1) W) with B and W the mean squares between and within
    architectures of s seeds. 1: seeds do not matter; 0: architectures do not; an estimate may be negative. NaN if all
    values are equal. Source: Shrout and Fleiss, "Intraclass correlations", Psychological Bulletin, 1979.

    >>> icc([[1, 3], [5, 7], [9, 11]])  # B = 2 * 16 = 32, W = 2
    0.8823529411764706
    """
    table = np.asarray(values, dtype=np.float64)
    _, seeds = table.shape
    between = seeds * table.mean(axis=1).var(ddof=1)
    within = table.var(axis=1, ddof=1).mean()
    total = between + (seeds - 1) * within
    return float((between - within) / total) if total > 0 else float("nan")


def bootstrap(
    statistic: Callable[[NDArray[np.int64]], float],
    n: int,
    *,
    seed: int = 0,
    level: float = 0.9,
    resamples: int = 1000,
) -> Interval:
    """Return a statistic with its percentile interval over resamples. Undefined resamples (NaN) are left out.

    Args:
        statistic: of the indices of the items, (n,).
        n: number of items.
        seed: of the resampling.
        level: of the interval.
        resamples: number of resamples.
    """
    generator = np.random.default_rng(seed)
    found = np.array([statistic(generator.integers(0, n, n)) for _ in range(resamples)])
    found = found[np.isfinite(found)]
    tail = (1 - level) / 2
    low, high = np.quantile(found, [tail, 1 - tail]) if found.size else (np.nan, np.nan)
    return Interval(statistic(np.arange(n)), float(low), float(high))


def icc_interval(values: ArrayLike, *, seed: int = 0, level: float = 0.9, resamples: int = 1000) -> Interval:
    """Return the ICC with its bootstrap interval over architectures.

    Args:
        values: (n_architectures, n_seeds).
        seed: of the resampling.
        level: of the interval.
        resamples: number of resamples.
    """
    table = np.asarray(values, dtype=np.float64)
    return bootstrap(lambda rows: icc(table[rows]), len(table), seed=seed, level=level, resamples=resamples)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return the rank correlation of two variables, (n,) each; NaN if either is constant.

    >>> round(spearman([1, 2, 3, 4], [1, 8, 9, 100]), 6)
    1.0
    """
    return _pearson(stats.rankdata(x), stats.rankdata(y))


def partial_spearman(x: ArrayLike, y: ArrayLike, given: ArrayLike) -> float:
    """Return the rank correlation of two variables at equal values of others.

    The correlation of the residuals of the ranks after regression on the ranks of `given`. NaN if either has no
    residuals.

    Args:
        x: (n,).
        y: (n,).
        given: variables to control for, (n, n_given).

    >>> given = [[1], [2], [3], [4], [5]]
    >>> bool(np.isnan(partial_spearman([1, 2, 3, 4, 5], [1, 3, 2, 5, 4], given)))  # x has the ranks of given
    True
    """
    ranks = stats.rankdata(np.column_stack([x, y, given]), axis=0)
    both, known = ranks[:, :2], np.column_stack([np.ones(len(ranks)), ranks[:, 2:]])
    left = both - known @ np.linalg.lstsq(known, both, rcond=None)[0]
    left[np.abs(left) < 1e-9 * len(ranks)] = 0  # rounding errors
    return _pearson(left[:, 0], left[:, 1])


def _pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))
