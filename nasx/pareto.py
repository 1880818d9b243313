"""Pareto dominance, ranks, crowding distance, hypervolume and knee, as pure functions of arrays.

All objectives are costs: smaller is better. `costs` is always (n_points, n_objectives) and finite; callers exclude
trials without finite costs first. Equal points do not dominate each other.
"""

from __future__ import annotations

from bisect import insort
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

PAIRED = 256  # largest number of points compared pairwise; more are processed in parts


def front_mask(costs: ArrayLike) -> NDArray[np.bool_]:
    """Return True for each point that no other point dominates, (n_points,). Equal points have the same value.

    >>> front_mask([[1, 4], [2, 2], [3, 3], [2, 2]]).tolist()
    [True, True, False, True]
    """
    points = np.asarray(costs, dtype=float)
    if points.ndim == 2 and points.shape[1] == 2:
        return _front_mask_of_two(points)
    return _front_mask_by_pairs(points) if len(points) <= PAIRED else _front_mask_of_many(points)


def _front_mask_of_two(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Compute the mask by sorting: a point is on the front if its second cost is the smallest so far."""
    mask = np.zeros(len(points), dtype=bool)
    if len(points) == 0:
        return mask
    order = np.lexsort((points[:, 1], points[:, 0]))
    ordered = points[order]
    starts = np.concatenate(([True], (ordered[1:] != ordered[:-1]).any(axis=1)))  # of groups of equal points
    second = ordered[starts, 1]
    best = np.concatenate(([np.inf], np.minimum.accumulate(second)[:-1]))
    mask[order] = (second < best)[np.cumsum(starts) - 1]
    return mask


def _front_mask_of_many(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Compute the mask in parts, ordered by the sum of costs, which is larger for dominated points: saves memory."""
    order = np.argsort(points.sum(axis=1), kind="stable")
    front = np.empty(0, dtype=int)
    for part in np.array_split(order, 1 + len(points) // PAIRED):
        together = np.concatenate([front, part])
        front = together[_front_mask_by_pairs(points[together])]
    mask = np.zeros(len(points), dtype=bool)
    mask[front] = True
    return mask


def _front_mask_by_pairs(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Compute the mask by comparing all pairs."""
    no_worse = np.ones((len(points), len(points)), dtype=bool)  # [i, j]: i is not worse than j in any objective
    for column in points.T:  # one objective at a time: reducing over a short last axis is 15 times slower
        no_worse &= column[:, None] <= column
    return np.asarray(~(no_worse & ~no_worse.T).any(axis=0))


def ranks(costs: ArrayLike) -> NDArray[np.int_]:
    """Return the non-domination rank of each point, (n_points,): 0 for the front, 1 for the front of the rest, etc.

    >>> ranks([[1, 4], [2, 2], [3, 3], [4, 4]]).tolist()
    [0, 0, 1, 2]
    """
    points = np.asarray(costs, dtype=float)
    rank = np.full(len(points), -1, dtype=int)
    level = 0
    while (rank < 0).any():
        rest = np.flatnonzero(rank < 0)
        rank[rest[front_mask(points[rest])]] = level
        level += 1
    return rank


def best_by_rank(costs: ArrayLike, n: int) -> NDArray[np.int_]:
    """Return the indices of the `n` best points by non-domination rank; points of the last rank in their given order.

    >>> best_by_rank([[4, 4], [1, 4], [3, 3], [2, 2]], 3).tolist()
    [1, 3, 2]
    """
    points = np.asarray(costs, dtype=float)
    chosen: list[int] = []
    rest = np.arange(len(points))
    while len(chosen) < n and len(rest):
        on_front = front_mask(points[rest])
        chosen += rest[on_front].tolist()
        rest = rest[~on_front]
    return np.array(chosen[:n], dtype=int)


def crowding_distance(costs: ArrayLike) -> NDArray[np.float64]:
    """Return the crowding distance of each point, (n_points,); infinity for the extreme points.

    Each objective adds the gap between the two neighbors of a point divided by the range, or 0 if the range is 0.
    Source: Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II", 2002.

    >>> crowding_distance([[0, 2], [1, 1], [2, 0]]).tolist()
    [inf, 2.0, inf]
    """
    points = np.asarray(costs, dtype=float)
    distance = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        low, high = column[order[0]], column[order[-1]]
        distance[order[[0, -1]]] = np.inf
        if high > low:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / (high - low)
    return distance


def hypervolume(costs: ArrayLike, reference: ArrayLike) -> float:
    """Return the volume dominated by the points, bounded by the reference point, (n_objectives,).

    Points that are not better than the reference point in every objective add nothing; without points the volume is 0.
    Two objectives are summed as steps; more are sliced along the last objective.

    >>> hypervolume([[1, 2], [2, 1]], [3, 3])
    3.0
    """
    corner = np.asarray(reference, dtype=float)
    points = np.asarray(costs, dtype=float).reshape(-1, len(corner))
    points = points[(points < corner).all(axis=1)]
    if len(points) == 0:
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - points.min())
    points = np.unique(points[front_mask(points)], axis=0)
    if len(corner) == 2:
        heights = np.concatenate(([corner[1]], points[:-1, 1])) - points[:, 1]
        return float(((corner[0] - points[:, 0]) * heights).sum())
    points = points[np.argsort(points[:, -1])]
    depths = np.diff(np.append(points[:, -1], corner[-1]))
    return float(sum(d * hypervolume(points[: i + 1, :-1], corner[:-1]) for i, d in enumerate(depths) if d > 0))


def nondominated_boxes(costs: ArrayLike, reference: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the non-dominated region below the reference point as disjoint boxes: their lower and upper corners.

    Both arrays are (n_boxes, n_objectives); lower corners may be minus infinity. With two objectives, a front of n
    points has n + 1 boxes; with more, the region is sliced along the last objective.

    >>> low, high = nondominated_boxes([[1, 2], [2, 1]], [3, 3])
    >>> low.tolist(), high.tolist()
    ([[-inf, -inf], [1.0, -inf], [2.0, -inf]], [[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]])
    """
    corner = np.asarray(reference, dtype=float)
    points = np.asarray(costs, dtype=float).reshape(-1, len(corner))
    points = points[(points < corner).all(axis=1)]
    if len(corner) == 1:
        return np.array([[-np.inf]]), np.array([[min([float(corner[0]), *points[:, 0].tolist()])]])
    points = np.unique(points[front_mask(points)], axis=0)
    if len(corner) == 2:
        return _strips(points, corner)
    points = points[np.argsort(points[:, -1], kind="stable")]
    levels = np.array([-np.inf, *points[:, -1], corner[-1]])
    lows, highs = [], []
    staircase: list[tuple[float, float]] = []  # for three objectives: front of the previous points in the first two
    for i, (bottom, top) in enumerate(pairwise(levels.tolist())):
        if i > 0 and len(corner) == 3:
            staircase = _inserted(staircase, points[i - 1, 0], points[i - 1, 1])
        if top > bottom:
            if len(corner) == 3:
                low, high = _strips(np.array(staircase).reshape(-1, 2), corner[:-1])
            else:
                low, high = nondominated_boxes(points[:i, :-1], corner[:-1])
            lows.append(np.column_stack([low, np.full(len(low), bottom)]))
            highs.append(np.column_stack([high, np.full(len(high), top)]))
    return np.concatenate(lows), np.concatenate(highs)


def _strips(front: NDArray[np.float64], corner: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the boxes of two objectives; `front` is sorted by the first one, without dominated or equal points."""
    low, high = np.full((2, len(front) + 1, 2), -np.inf)
    low[1:, 0] = high[:-1, 0] = front[:, 0]
    high[-1, 0], high[0, 1], high[1:, 1] = corner[0], corner[1], front[:, 1]
    return low, high


def _inserted(front: list[tuple[float, float]], x: float, y: float) -> list[tuple[float, float]]:
    """Return a front of two objectives, sorted by the first, with one more point."""
    if any(a <= x and b <= y for a, b in front):
        return front
    kept = [(a, b) for a, b in front if a < x or b < y]
    insort(kept, (x, y))
    return kept


def expected_hypervolume_improvement(
    means: ArrayLike, deviations: ArrayLike, costs: ArrayLike, reference: ArrayLike
) -> NDArray[np.float64]:
    """Return the expected hypervolume improvement (EHVI) of the front of `costs` by each uncertain point, (n_points,).

    Exact: the sum over the boxes of the non-dominated region of the expected volume that the point dominates. Source:
    Yang et al., "Efficient computation of expected hypervolume improvement using box decomposition algorithms", 2019.

    Args:
        means: (n_points, n_objectives), of independent normal distributions.
        deviations: (n_points, n_objectives), their standard deviations; may be 0.
        costs: (n_costs, n_objectives), of known points.
        reference: (n_objectives,), the reference point.

    >>> means, deviations = [[0.0, 0.0], [2.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]
    >>> expected_hypervolume_improvement(means, deviations, [[1.0, 1.0]], [2.0, 2.0]).tolist()
    [3.0, 0.0]
    """
    from scipy.special import ndtr  # scipy takes 0.1 s to load

    low, high = nondominated_boxes(costs, reference)
    mean, deviation = np.asarray(means, dtype=float), np.asarray(deviations, dtype=float)
    volume = np.ones((len(mean), len(low)))
    for i in range(mean.shape[1]):
        # expected length of the part of [low, high] above a normal variable y: E (high - y)+ - E (low - y)+
        bounds, places = np.unique(np.concatenate([low[:, i], high[:, i]]), return_inverse=True)
        gap = bounds - mean[:, i, None]
        spread = np.maximum(deviation[:, i, None], 1e-12)
        with np.errstate(invalid="ignore"):
            z = gap / spread
            below = np.where(
                np.isneginf(bounds), 0.0, gap * ndtr(z) + spread * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
            )
        volume *= below[:, places[len(low) :]] - below[:, places[: len(low)]]
    result: NDArray[np.float64] = volume.sum(axis=1)
    return result


def knee(costs: ArrayLike) -> int:
    """Return the index of the knee of the front: the point farthest below the line through its extreme points.

    Objectives are scaled to [0, 1] over the front, so that this is the point with the smallest sum; the first one in
    case of ties. Raises ValueError if there are no points.
    Source: Das, "On characterizing the 'knee' of the Pareto curve", 1999.

    >>> knee([[0, 10], [1, 2], [10, 0], [11, 11]])
    1
    """
    points = np.asarray(costs, dtype=float)
    if len(points) == 0:
        raise ValueError("a front without points has no knee")
    front = np.flatnonzero(front_mask(points))
    low, high = points[front].min(axis=0), points[front].max(axis=0)
    scaled = (points[front] - low) / np.where(high > low, high - low, 1.0)
    return int(front[np.argmin(scaled.sum(axis=1))])
