"""The region of the front that the user cares about, given as a point to come near.

Source: Deb et al., "Reference point based multi-objective optimization using evolutionary algorithms", 2006
(R-NSGA-II), with the achievement scalarising function of Wierzbicki, "The use of reference objectives in
multiobjective optimization", 1980, in place of the Euclidean distance: it tells a point that betters the wish from one
that misses it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def achievement(costs: ArrayLike, wish: ArrayLike, scale: ArrayLike) -> NDArray[np.float64]:
    """How far each point misses the wish in its worst objective, (n_points,); negative where it betters all of it.

    `costs` (n_points, n_objectives), `wish` and `scale` (n_objectives,): differences are counted in units of `scale`.
    A hundredth of their sum is added, so that of two points that miss alike the one that dominates is smaller.

    >>> achievement([[1, 4], [2, 2]], wish=[2, 3], scale=[1, 1]).round(2).tolist()
    [1.0, -0.01]
    """
    misses = (np.asarray(costs, dtype=float) - np.asarray(wish)) / np.asarray(scale)
    result: NDArray[np.float64] = misses.max(axis=1) + misses.sum(axis=1) / 100
    return result


def ranges(costs: ArrayLike) -> NDArray[np.float64]:
    """The range of each objective over the points, (n_objectives,); 1 where there is none."""
    spread = np.ptp(np.asarray(costs, dtype=float), axis=0)
    return np.where(spread > 0, spread, 1.0)
