"""What a run has found, as plain data: one record that tables, pictures and pages are drawn from.

Replicates of one architecture are one point: the mean of its complete trials.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.trial import OBJECTIVES, Objective, Reason, Trial, TrialStatus, cost_matrix, costs

RIVAL_PROBABILITY = 0.05  # from which a network off the front of the means is named beside it


@dataclass(frozen=True, eq=False)
class ArchitectureResult:
    """One architecture with the means of its complete trials."""

    arch_id: str
    architecture: str  # string form
    metrics: Mapping[str, float]  # those that all its complete trials have
    replicates: int  # complete trials that the means are over
    spread: Mapping[str, float]  # standard deviation of a single training, by metric; empty for one training
    front_probability: float = math.nan  # of being on the front, given the noise of training; NaN: nothing repeated


@dataclass(frozen=True, eq=False)
class FrontSummary:
    """The front of a run and where it stands among everything that the run tried."""

    objectives: tuple[Objective, ...]
    architectures: tuple[ArchitectureResult, ...]  # all with a complete trial, in the order of the trials
    front: tuple[ArchitectureResult, ...]  # best first objective first
    knee: str | None  # arch_id of the front's knee; None: no front
    hypervolume: float  # of the front, in the objectives' own units multiplied; 0 without a front
    reference: tuple[
        float | None, ...
    ]  # an objective's value that hypervolume is measured from; None: no trial gives one
    statuses: Mapping[TrialStatus, int]  # trials by status
    reasons: Mapping[Reason, int]  # trials that are not complete by reason
    rivals: tuple[
        ArchitectureResult, ...
    ] = ()  # off the front of the means, but perhaps on the true one, likeliest first


def summarise(trials: Iterable[Trial], objectives: Sequence[str], *, n_classes: int) -> FrontSummary:
    """The front of `trials` in the order of `objectives`, which are names in `nasx.trial.OBJECTIVES`.

    `n_classes` sets the error of guessing, from which hypervolume is measured.
    """
    trials = list(trials)
    chosen = tuple(OBJECTIVES[name] for name in objectives)
    groups = list(_by_architecture(trials).values())
    architectures = tuple(_result(group) for group in groups)
    points = np.array([costs(a.metrics, chosen) for a in architectures], dtype=float).reshape(-1, len(chosen))
    front = _front_order(points)
    if any(len(group) > 1 for group in groups):
        chances = _front_probabilities(groups, points, chosen)
        architectures = tuple(replace(a, front_probability=p) for a, p in zip(architectures, chances, strict=True))
    rivals = [a for i, a in enumerate(architectures) if i not in front and a.front_probability >= RIVAL_PROBABILITY]
    reference = tuple(_reference(o, points[:, i], n_classes) for i, o in enumerate(chosen))
    return FrontSummary(
        objectives=chosen,
        architectures=architectures,
        front=tuple(architectures[i] for i in front),
        knee=architectures[pareto.knee(points)].arch_id if architectures else None,
        hypervolume=_hypervolume(points, chosen, reference),
        reference=reference,
        statuses=Counter(t.status for t in trials),
        reasons=Counter(t.evaluation.reason for t in trials if t.evaluation.reason is not None),
        rivals=tuple(sorted(rivals, key=lambda a: -a.front_probability)),
    )


def _by_architecture(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.is_complete:
            groups.setdefault(trial.arch_id, []).append(trial)
    return groups


def _result(trials: Sequence[Trial]) -> ArchitectureResult:
    first, *others = trials
    shared = [name for name in first.metrics if all(name in t.metrics for t in others)]
    means = {name: fmean(t.metrics[name] for t in trials) for name in shared}
    spread = {name: stdev(t.metrics[name] for t in trials) for name in shared} if others else {}
    return ArchitectureResult(first.arch_id, first.architecture, means, len(trials), spread)


def _front_probabilities(
    groups: Sequence[Sequence[Trial]], means: NDArray[np.float64], objectives: Sequence[Objective]
) -> list[float]:
    """The noise of training is taken from the networks that were trained more than once, and held to be that of all."""
    residuals = []
    for group, mean in zip(groups, means, strict=True):
        if (n := len(group)) > 1:
            residuals.extend((cost_matrix(group, objectives) - mean) * math.sqrt(n / (n - 1)))
    counts = [len(group) for group in groups]
    probabilities: list[float] = pareto.front_probabilities(means, counts, residuals, seed=0).tolist()
    return probabilities


def _front_order(points: NDArray[np.float64]) -> list[int]:
    """The indices of the front, the smallest first cost first; later costs, then the order given, break ties."""
    return sorted(np.flatnonzero(pareto.front_mask(points)).tolist(), key=lambda i: tuple(points[i]))


def _reference(objective: Objective, column: NDArray[np.float64], n_classes: int) -> float | None:
    fixed = objective.reference(n_classes)
    if fixed is not None or len(column) == 0:
        return fixed
    return float(objective.sign * column.max())


def _hypervolume(
    points: NDArray[np.float64], objectives: Sequence[Objective], reference: Sequence[float | None]
) -> float:
    corner = [o.sign * r for o, r in zip(objectives, reference, strict=True) if r is not None]
    return pareto.hypervolume(points, corner) if len(points) else 0.0
