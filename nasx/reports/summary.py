"""Result of a run as plain data: the one record that tables, pictures and pages are drawn from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.algorithms.estimates import Estimates, Noise, estimate
from nasx.trial import OBJECTIVES, Objective, Reason, Trial, TrialStatus, costs

if TYPE_CHECKING:
    from nasx.runs.rows import RunInfo

RIVAL_PROBABILITY = 0.25  # of being on the true front, from which a network off the front of the estimates is named
CERTAIN = 0.95  # share of the posterior draws that reach the certain hypervolume


@dataclass(frozen=True, eq=False)
class ArchitectureResult:
    """One network with what its complete trainings, and those of its relatives, say of it."""

    arch_id: str
    architecture: str  # string form
    metrics: Mapping[str, float]  # objectives: estimates of the true values; other metrics: means of its trainings
    observed: Mapping[str, float]  # means of its trainings, of every metric that all of them have
    std: Mapping[str, float]  # uncertainty of each objective's estimate (standard deviation); empty: not known
    trainings: int  # complete ones
    front_probability: float = math.nan  # of being on the true front of the run's networks; NaN: not known


@dataclass(frozen=True, eq=False)
class FrontSummary:
    """The front of a run and where it stands among everything that the run tried."""

    objectives: tuple[Objective, ...]
    architectures: tuple[ArchitectureResult, ...]  # all with a complete trial, in the order of the trials
    front: tuple[ArchitectureResult, ...]  # of the estimates, best first objective first
    knee: str | None  # arch_id of the front's knee; None: no front
    hypervolume: float  # of the front's estimates, in the objectives' own units multiplied; 0 without a front
    reference: tuple[
        float | None, ...
    ]  # an objective's value that hypervolume is measured from; None: no trial gives one
    statuses: Mapping[TrialStatus, int]  # trials by status
    reasons: Mapping[Reason, int]  # trials that are not complete by reason
    rivals: tuple[ArchitectureResult, ...] = ()  # off the front, but perhaps on the true one, likeliest first
    noise: tuple[Noise, ...] = field(default=())  # of one training, by objective; empty: values are observed means
    why_observed: str = ""  # why values are observed means, in words; empty: they are estimates
    certain_hypervolume: float | None = None  # that the front's true values reach with probability CERTAIN

    @property
    def is_estimated(self) -> bool:
        """Whether values are estimates with an uncertainty; else they are the means of the trainings."""
        return bool(self.noise)

    @property
    def is_exact(self) -> bool:
        """Whether every objective is exact, so that there is nothing to estimate."""
        return all(objective.is_exact for objective in self.objectives)


def summarise_run(trials: Iterable[Trial], info: RunInfo) -> FrontSummary:
    """The front of a run's trials in its own objectives."""
    return summarise(trials, info.objectives, n_classes=info.n_classes, alleles=info.alleles)


def read_summary(run_dir: Path) -> FrontSummary:
    """The front of the run in a directory. Raises RunError if there is none."""
    from nasx.runs.journal import Journal

    with Journal.open(run_dir, read_only=True) as store:
        return summarise_run(store.trials(), store.info)


def summarise(
    trials: Iterable[Trial], objectives: Sequence[str], *, n_classes: int, alleles: Sequence[Sequence[str]] = ()
) -> FrontSummary:
    """The front of `trials` in the order of `objectives`, which are names in `nasx.trial.OBJECTIVES`.

    Args:
        n_classes: sets the error of guessing, from which hypervolume is measured.
        alleles: names of each gene's alleles, as `RunInfo` has them.
    """
    trials = list(trials)
    chosen = tuple(OBJECTIVES[name] for name in objectives)
    estimates = estimate(trials, chosen, alleles)
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.is_complete:
            groups.setdefault(trial.arch_id, []).append(trial)
    places = {arch_id: place for place, arch_id in enumerate(estimates.arch_ids)}
    results = {arch_id: _result(own, estimates, places[arch_id], chosen) for arch_id, own in groups.items()}
    front = [results[estimates.arch_ids[place]] for place in estimates.front]
    rivals = [a for a in results.values() if a not in front and a.front_probability >= RIVAL_PROBABILITY]
    reference = tuple(_reference(o, estimates.observed[:, i], n_classes) for i, o in enumerate(chosen))
    corner = [o.sign * r for o, r in zip(chosen, reference, strict=True) if r is not None]
    return FrontSummary(
        objectives=chosen,
        architectures=tuple(results.values()),
        front=tuple(front),
        knee=front[pareto.knee(estimates.means[estimates.front])].arch_id if front else None,
        hypervolume=pareto.hypervolume(estimates.means[estimates.front], corner) if front else 0.0,
        reference=reference,
        statuses=Counter(t.status for t in trials),
        reasons=Counter(t.evaluation.reason for t in trials if t.evaluation.reason is not None),
        rivals=tuple(sorted(rivals, key=lambda a: -a.front_probability)),
        noise=estimates.noise,
        why_observed=estimates.why_not,
        certain_hypervolume=_certain_hypervolume(estimates, corner),
    )


def _result(
    trials: Sequence[Trial], estimates: Estimates, place: int, objectives: Sequence[Objective]
) -> ArchitectureResult:
    first, *others = sorted(trials, key=lambda t: t.replicate)
    shared = [name for name in first.metrics if all(name in t.metrics for t in others)]
    observed = {name: fmean(t.metrics[name] for t in trials) for name in shared}
    if not estimates.noise:
        return ArchitectureResult(first.arch_id, first.architecture, observed, observed, {}, len(trials))
    values = {o.name: _within_range(o, estimates.means[place, i]) for i, o in enumerate(objectives)}
    std = {o.name: float(estimates.deviations[place, i]) for i, o in enumerate(objectives)}
    return ArchitectureResult(
        first.arch_id,
        first.architecture,
        {**observed, **values},
        observed,
        std,
        len(trials),
        float(estimates.front_chances[place]),
    )


def _within_range(objective: Objective, cost: float) -> float:
    """A cost as a value of the objective; an estimate beyond what is possible becomes the nearest possible value."""
    return min(max(objective.sign * float(cost), objective.low), objective.high)


def _certain_hypervolume(estimates: Estimates, corner: Sequence[float]) -> float | None:
    """What the true values of the front reach with probability CERTAIN; None if that is not known."""
    if not len(estimates.front_draws) or len(corner) < estimates.means.shape[1]:
        return None
    return float(np.quantile([pareto.hypervolume(draw, corner) for draw in estimates.front_draws], 1 - CERTAIN))


def _reference(objective: Objective, column: NDArray[np.float64], n_classes: int) -> float | None:
    fixed = objective.reference(n_classes)
    if fixed is not None or len(column) == 0:
        return fixed
    return float(objective.sign * column.max())


def hypervolume_growth(
    trials: Sequence[Trial], summary: FrontSummary, reference: Sequence[float | None] | None = None
) -> list[float]:
    """Return the hypervolume of the networks known after 1, 2, ... trials, by their estimates in `summary`.

    All networks are judged by what is known of them at the end, not by what was observed at the time: the best of many
    noisy values is partly luck, so a curve of observed values grows without anything better being found. The curve ends
    at the hypervolume of the summary's front. A trial that adds no complete network (it failed, or it trains a known
    network again) adds nothing.

    Args:
        trials: of any number of networks, in any order; they are taken in the order of finishing.
        summary: of the same trials.
        reference: the objectives' own values that hypervolume is measured from; None: the summary's. If it lacks a
            value, every volume is 0.
    """
    objectives = summary.objectives
    reference = summary.reference if reference is None else reference
    corner = [o.sign * r for o, r in zip(objectives, reference, strict=True) if r is not None]
    points = {a.arch_id: np.array(costs(a.metrics, objectives)) for a in summary.architectures}
    front = np.empty((0, len(objectives)))
    volume, volumes = 0.0, []
    for trial in in_order(trials):
        point = points.pop(trial.arch_id, None) if trial.is_complete else None
        if point is not None and len(corner) == len(objectives) and not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            volume = pareto.hypervolume(front, corner)
        volumes.append(volume)
    return volumes


def in_order(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials in the order of finishing."""
    return sorted(trials, key=lambda t: (t.finished, t.candidate.number, t.replicate))
