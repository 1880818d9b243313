"""Correlation of two variables, where there is one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def correlations(x: ArrayLike, y: ArrayLike) -> tuple[float | None, float | None]:
    """(Spearman's rho, Pearson's r) of two variables, (n,) each; None where either is constant.

    >>> round(correlations([1, 2, 3], [1, 2, 10])[0], 6), correlations([1, 2], [5, 5])
    (1.0, (None, None))
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None, None
    return float(stats.spearmanr(first, second).statistic), float(stats.pearsonr(first, second).statistic)
