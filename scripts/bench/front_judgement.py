"""Quality of recommended networks, by the mean values of further trainings.

Pure functions of `scripts.bench.front_truth`. The two objectives are the validation error, which is minimized, and
introspectability, which is maximized.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nasx import pareto

CORNER = (0.9, 0.0)  # costs of the reference point: the error of guessing one of ten classes, introspectability 0
MARGIN = 0.1  # of the true front's extent: the reference point of normalized hypervolume is this far beyond it


class Point(NamedTuple):
    """Network with its two objectives: values of one training, means, or estimates."""

    arch_id: str
    error: float  # share of the validation images
    introspectability: float


@dataclass(frozen=True)
class Verdict:
    """Quality of the recommendations of one tool. NaN: undefined."""

    recommended: int  # distinct networks
    promised: float  # hypervolume of the values that the tool shows
    true: float  # hypervolume of the true values
    nondominated: float  # share of the recommended networks that no other retrained network dominates by true values
    nondominated_own: float  # the same, among only the retrained networks that the tool itself has trained
    promised_share: float  # of the true front's hypervolume, normalized to its extent
    true_share: float

    @property
    def optimism(self) -> float:
        """Relative excess of the promised hypervolume over the true one."""
        return self.promised / self.true - 1 if self.true > 0 else math.nan


def costs(points: Iterable[Point]) -> NDArray[np.float64]:
    """Return the objectives as costs, (n_points, 2).

    >>> costs([Point("a", 0.25, 0.5)]).tolist()
    [[0.25, -0.5]]
    """
    return np.array([(p.error, -p.introspectability) for p in points], dtype=float).reshape(-1, 2)


def means(points: Iterable[Point]) -> list[Point]:
    """Return one point per network, the mean of its points, in the order of first appearance.

    >>> means([Point("a", 0.25, 0.5), Point("b", 0.5, 0.5), Point("a", 0.75, 1.0)])[0]
    Point(arch_id='a', error=0.5, introspectability=0.75)
    """
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.arch_id, []).append(point)
    return [
        Point(arch_id, fmean(p.error for p in group), fmean(p.introspectability for p in group))
        for arch_id, group in groups.items()
    ]


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other point dominates, in their order."""
    return [point for point, is_best in zip(points, pareto.front_mask(costs(points)), strict=True) if is_best]


def nearest_to_front(observed: Iterable[Point], excluded: Collection[str], n: int) -> list[str]:
    """Return at most `n` networks nearest to the front of the means of the observed points.

    Ordered by non-domination rank, then by crowding distance within the rank, the most isolated first.

    Args:
        observed: one or more points per network.
        excluded: networks that are ranked but not returned.
        n: maximum number.

    >>> nearest_to_front([Point("a", 0.1, 0.5), Point("b", 0.3, 0.3), Point("c", 0.2, 0.4)], ["a"], 1)
    ['c']
    """
    points = means(observed)
    values = costs(points)
    ranks = pareto.ranks(values)
    crowding = np.zeros(len(points))
    for rank in np.unique(ranks):
        crowding[ranks == rank] = pareto.crowding_distance(values[ranks == rank])
    order = np.lexsort((-crowding, ranks))
    return [points[i].arch_id for i in order if points[i].arch_id not in excluded][:n]


def normalized_share(points: ArrayLike, true_front: ArrayLike) -> float:
    """Return the hypervolume of `points` as a share of that of `true_front`, both costs, (n, 2).

    Objectives are scaled so that the true front extends from 0 to 1; the reference point is at 1 + MARGIN. Exceeds 1
    for values that are better than the true front; NaN if the true front has no extent in an objective.

    >>> normalized_share([[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]])
    1.0
    """
    best = np.asarray(true_front, dtype=float).reshape(-1, 2)
    low, extent = best.min(axis=0), np.ptp(best, axis=0)
    if not (extent > 0).all():
        return math.nan
    corner = [1 + MARGIN] * 2
    scaled = (np.asarray(points, dtype=float).reshape(-1, 2) - low) / extent
    return pareto.hypervolume(scaled, corner) / pareto.hypervolume((best - low) / extent, corner)


def judge(
    recommended: Mapping[str, Sequence[Point]], truth: Mapping[str, Point], trained: Mapping[str, Collection[str]]
) -> dict[str, Verdict]:
    """Measure the recommendations of each tool.

    Args:
        recommended: per tool, the networks that it recommends, with the values that it shows. A network that appears
            under several encodings counts once among the networks, and all its values count as promised.
        truth: the true values of every recommended network and of the reference set, by arch_id.
        trained: per tool, the networks that it has trained.
    """
    pool = front(list(truth.values()))
    best = {point.arch_id for point in pool}
    corner = [CORNER[0], -CORNER[1]]
    verdicts = {}
    for tool, shown in recommended.items():
        networks = dict.fromkeys(point.arch_id for point in shown)
        own = {p.arch_id for p in front([p for p in truth.values() if p.arch_id in {*networks, *trained[tool]}])}
        promised, true = costs(shown), costs(truth[arch_id] for arch_id in networks)
        verdicts[tool] = Verdict(
            recommended=len(networks),
            promised=pareto.hypervolume(promised, corner),
            true=pareto.hypervolume(true, corner),
            nondominated=fmean(arch_id in best for arch_id in networks) if networks else math.nan,
            nondominated_own=fmean(arch_id in own for arch_id in networks) if networks else math.nan,
            promised_share=normalized_share(promised, costs(pool)),
            true_share=normalized_share(true, costs(pool)),
        )
    return verdicts


def confirmed(values: ArrayLike, judges: int = 2) -> float:
    """Return the share of a front by some of the fresh trainings that is also on the front by the others.

    The mean over all ways to choose the judging trainings: the resolution that further training can have.

    Args:
        values: costs of further trainings, (n_networks, n_trainings, 2).
        judges: number of judging trainings, whose means form one front; the means of all others form the other front.

    >>> confirmed([[[0.0, 0.0]] * 3, [[1.0, 1.0]] * 3])
    1.0
    """
    costs_ = np.asarray(values, dtype=float)
    trainings = range(costs_.shape[1])
    shares = []
    for judging in combinations(trainings, judges):
        choosing = [i for i in trainings if i not in judging]
        chosen, held = (pareto.front_mask(costs_[:, list(part)].mean(axis=1)) for part in (choosing, judging))
        shares.append(float(held[chosen].mean()))
    return fmean(shares)


class Spread(NamedTuple):
    """Mean and standard deviation over turns. NaN: undefined."""

    mean: float
    std: float

    def __str__(self) -> str:
        return f"{self.mean:.3g}" if math.isnan(self.std) else f"{self.mean:.3g} ± {self.std:.2g}"


def spread(values: Iterable[float]) -> Spread:
    """Return mean and standard deviation of the values that are not NaN.

    >>> spread([1.0, 3.0, float("nan")])
    Spread(mean=2.0, std=1.4142135623730951)
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Spread(math.nan, math.nan)
    return Spread(fmean(known), stdev(known) if len(known) > 1 else math.nan)


class Duel(NamedTuple):
    """Two tools compared turn by turn."""

    ahead: int  # turns in which the first is better
    turns: int
    difference: float  # mean
    error: float  # standard error of the difference; NaN: a single turn


def duel(ours: Sequence[float], theirs: Sequence[float]) -> Duel:
    """Compare values of the same turns; larger is better. Equal values do not count as a lead.

    >>> duel([2.0, 1.0], [1.0, 1.0])
    Duel(ahead=1, turns=2, difference=0.5, error=0.5)
    """
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, std = spread(differences)
    return Duel(sum(d > 0 for d in differences), len(differences), mean, std / math.sqrt(len(differences)))
