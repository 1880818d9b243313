"""Empirical attainment surfaces: what a share of several runs has reached, for fronts of two objectives.

A run attains a goal where some network of its is no worse in either objective. The surface of a share is the border of
the goals that at least this share of the runs attained: that of 0.5 is the median front.
Source: Fonseca and Fleming, "On the performance assessment and comparison of stochastic multiobjective optimizers",
1996.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def attainment(fronts: Sequence[NDArray[np.float64]], shares: Sequence[float]) -> NDArray[np.float64]:
    """The surfaces of some shares in (0, 1] on common steps, (n_steps, 1 + n_shares).

    `fronts`: costs (n_points, 2) of each run, smaller is better, in any order. The first column holds the ascending
    first costs at which something changes, the others the best second cost attained there by at least that share of
    the runs; infinity: by too few. Between two steps the value of the lower one holds. No point at all gives no step.

    >>> attainment([np.array([[1.0, 3.0]]), np.array([[2.0, 1.0]])], [0.5, 1.0]).tolist()
    [[1.0, 3.0, inf], [2.0, 1.0, 3.0]]
    """
    steps = np.unique(np.concatenate([front[:, 0] for front in fronts]))
    best = np.full((len(fronts), len(steps)), np.inf)  # (n_runs, n_steps)
    for row, front in zip(best, fronts, strict=True):
        np.minimum.at(row, np.searchsorted(steps, front[:, 0]), front[:, 1])
    best = np.sort(np.minimum.accumulate(best, axis=1), axis=0)
    # a share of 1/3 of 3 runs is 1 run, though 1/3 * 3 may come out a little above 1
    chosen = [best[math.ceil(share * len(fronts) - 1e-9) - 1] for share in shares]
    return np.column_stack([steps, *chosen])
