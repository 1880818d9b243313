"""Result of a run as plain data: the record from which all tables, figures and pages are made."""

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

RIVAL_PROBABILITY = 0.25  # of being on the true front, at least, of a network off the estimated front that is listed
CERTAIN = 0.95  # share of the posterior draws with at least the certain hypervolume


@dataclass(frozen=True, eq=False)
class ArchitectureResult:
    """One network with its metrics, from its complete trainings and those of similar networks."""

    arch_id: str
    architecture: str  # as text
    metrics: Mapping[str, float]  # objectives: estimates of the true values; other metrics: means over its trainings
    observed: Mapping[str, float]  # means over its trainings, of the metrics that all of them have
    std: Mapping[str, float]  # standard deviation of each objective's estimate; empty: unknown
    trainings: int  # number of complete ones
    front_probability: float = math.nan  # of being on the true front of the run's networks; NaN: unknown


@dataclass(frozen=True, eq=False)
class FrontSummary:
    """Front of a run, with its hypervolume, the other networks and the outcomes of all trials."""

    objectives: tuple[Objective, ...]
    architectures: tuple[ArchitectureResult, ...]  # all with a complete trial, in the order of the trials
    front: tuple[ArchitectureResult, ...]  # by the estimates, sorted by the first objective, best first
    knee: str | None  # arch_id of the front's knee; None: no front
    hypervolume: float  # of the front's estimates, in the product of the objectives' units; 0 without a front
    reference: tuple[float | None, ...]  # reference point of the hypervolume; None: unknown without complete trials
    statuses: Mapping[TrialStatus, int]  # trials by status
    reasons: Mapping[Reason, int]  # trials that are not complete, by reason
    rivals: tuple[ArchitectureResult, ...] = ()  # off the front, but possibly on the true one, most likely first
    noise: tuple[Noise, ...] = field(default=())  # of one training, per objective; empty: values are observed means
    why_observed: str = ""  # reason why values are observed means; empty: they are estimates
    certain_hypervolume: float | None = None  # reached by the front's true values with probability CERTAIN
    latency_devices: tuple[str, ...] = ()  # on which the objective latency was measured; empty: not measured

    def __repr__(self) -> str:
        """Return one short line, for notebooks."""
        return f"<nasx summary: {len(self.architectures):,} networks, front of {len(self.front)}>"

    @property
    def is_estimated(self) -> bool:
        """True if values are estimates with an uncertainty, False if they are means of the trainings."""
        return bool(self.noise)

    @property
    def is_exact(self) -> bool:
        """True if every objective is exact, so that nothing is estimated."""
        return all(objective.is_exact for objective in self.objectives)


def summarize_run(trials: Iterable[Trial], info: RunInfo) -> FrontSummary:
    """Summarize the trials of a run with its own objectives."""
    return summarize(trials, info.objectives, n_classes=info.n_classes, alleles=info.alleles)


def read_summary(run_dir: Path) -> FrontSummary:
    """Read and summarize the run in a directory. Raises RunError if there is none."""
    from nasx.runs.stored_run import open_run  # only this function needs SQLite

    with open_run(run_dir) as run:
        return summarize_run(run.journal.trials(), run.info)


def summarize(
    trials: Iterable[Trial], objectives: Sequence[str], *, n_classes: int, alleles: Sequence[Sequence[str]] = ()
) -> FrontSummary:
    """Return the front of `trials` and its properties.

    Args:
        trials: complete or not.
        objectives: names in `nasx.trial.OBJECTIVES`; the front is sorted by the first.
        n_classes: determines the error of guessing, part of the reference point.
        alleles: names of the alleles of each gene, as in `RunInfo`.
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
        latency_devices=_latency_devices(trials) if "latency" in objectives else (),
    )


def _latency_devices(trials: Iterable[Trial]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(device for trial in trials if (device := trial.evaluation.latency_device)))


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
        float(estimates.front_probabilities[place]),
    )


def _within_range(objective: Objective, cost: float) -> float:
    """Return a cost as a value of the objective, clipped to the objective's range."""
    return min(max(objective.sign * float(cost), objective.low), objective.high)


def _certain_hypervolume(estimates: Estimates, corner: Sequence[float]) -> float | None:
    """Return the hypervolume that the front's true values reach with probability CERTAIN; None if unknown."""
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

    The final estimates are used, not the values observed at the time: the best of many noisy values is partly luck, so
    a curve of observed values grows even if no better network is found. The last value is the hypervolume of the
    summary's front. A trial without a new complete network (failed, or a re-training) leaves the value unchanged.

    Args:
        trials: in any order; they are sorted by the time at which they finished.
        summary: of the same trials.
        reference: reference point in the objectives' own units; None: that of the summary. If one of its values is
            None, every hypervolume is 0.
    """
    objectives = summary.objectives
    reference = summary.reference if reference is None else reference
    corner = [o.sign * r for o, r in zip(objectives, reference, strict=True) if r is not None]
    points = {a.arch_id: np.array(costs(a.metrics, objectives)) for a in summary.architectures}
    front = np.empty((0, len(objectives)))
    volume, volumes = 0.0, []
    for trial in in_finishing_order(trials):
        point = points.pop(trial.arch_id, None) if trial.is_complete else None
        if point is not None and len(corner) == len(objectives) and not (front <= point).all(axis=1).any():
            front = np.vstack([front[~(point <= front).all(axis=1)], point])
            volume = pareto.hypervolume(front, corner)
        volumes.append(volume)
    return volumes


def in_finishing_order(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials sorted by the time at which they finished."""
    return sorted(trials, key=lambda t: (t.finished, t.candidate.number, t.replicate))
