"""Several runs compared: the fronts of their estimates, hypervolumes from one reference point, and rank tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.errors import RunError
from nasx.reports.attainment import attainment
from nasx.reports.growth import hypervolume_growth
from nasx.reports.rank_tests import RankTest, holm, rank_test
from nasx.reports.summary import FrontSummary, summarise
from nasx.trial import Objective, Trial, costs

QUARTILES: Final = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunToCompare:
    """A run before it is compared."""

    name: str  # as the user named it
    label: str  # of its group
    seed: int
    objectives: tuple[str, ...]
    n_classes: int
    trials: Sequence[Trial]
    alleles: tuple[tuple[str, ...], ...] = ()  # names of each gene's alleles, as `RunInfo` has them


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """A run among others."""

    name: str
    seed: int
    front: NDArray[np.float64]  # estimated costs, (n_members, n_objectives); without a model, observed means
    hypervolume: float  # of that front, from the common reference point
    growth: tuple[float, ...]  # hypervolume of the networks known after each trial
    networks: int  # that were tried, failed ones included
    is_estimated: bool  # whether the front is that of estimates, not of observed means
    why_observed: str = ""  # why it is of observed means although these are noisy, in words

    @property
    def trials(self) -> int:
        return len(self.growth)


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ only in the seed."""

    label: str
    runs: tuple[ComparedRun, ...]

    @property
    def hypervolumes(self) -> NDArray[np.float64]:
        """(n_runs,)"""
        return np.array([run.hypervolume for run in self.runs])

    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of the hypervolumes, interpolated."""
        low, median, high = np.quantile(self.hypervolumes, QUARTILES)
        return float(low), float(median), float(high)

    def surfaces(self) -> NDArray[np.float64]:
        """The attainment surfaces of the quartiles; see `nasx.reports.attainment`.

        The first cost is the second objective's, the x axis of the picture, as in `nasx pareto`.
        """
        return attainment([run.front[:, ::-1] for run in self.runs], QUARTILES)

    def growths(self) -> NDArray[np.float64]:
        """Quartiles of the hypervolume after each trial, (n_trials, 3); a run that has ended stays where it was."""
        longest = max(run.trials for run in self.runs)
        curves = [np.pad(run.growth, (0, longest - run.trials), mode="edge") for run in self.runs if run.trials]
        return np.quantile(curves, QUARTILES, axis=0).T if curves else np.empty((0, 3))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Groups of runs, and the tests of every pair of them."""

    objectives: tuple[Objective, ...]
    reference: tuple[float | None, ...]  # values of the objectives, common to all runs
    groups: tuple[Group, ...]  # in the order of their first runs
    tests: tuple[tuple[str, str, RankTest], ...]  # labels of two groups; p values corrected for their number (Holm)


def compare(runs: Sequence[RunToCompare]) -> Comparison:
    """Measure all runs from one reference point and compare the groups' hypervolumes.

    The reference value of an objective without a fixed one is the worst value of all runs.
    Raises RunError if the runs do not share their objectives and their number of classes.
    """
    first = runs[0]
    for run in runs[1:]:
        _check_comparable(first, run)
    summaries = [summarise(run.trials, run.objectives, n_classes=run.n_classes, alleles=run.alleles) for run in runs]
    objectives = summaries[0].objectives
    reference = tuple(_worst(o, [s.reference[i] for s in summaries]) for i, o in enumerate(objectives))
    compared: dict[str, list[ComparedRun]] = {}
    for run, summary in zip(runs, summaries, strict=True):
        compared.setdefault(run.label, []).append(_measured(run, summary, reference))
    groups = tuple(Group(label, tuple(own)) for label, own in compared.items())
    return Comparison(objectives, reference, groups, _tests(groups))


def _worst(objective: Objective, values: Sequence[float | None]) -> float | None:
    """The worst value of all runs; None if none has a value."""
    known = [objective.sign * value for value in values if value is not None]
    return objective.sign * max(known) if known else None


def _measured(run: RunToCompare, summary: FrontSummary, reference: Sequence[float | None]) -> ComparedRun:
    corner = [o.sign * r for o, r in zip(summary.objectives, reference, strict=True) if r is not None]
    rows = [costs(member.metrics, summary.objectives) for member in summary.front]
    front = np.array(rows, dtype=float).reshape(-1, len(summary.objectives))
    volume = pareto.hypervolume(front, corner) if rows else 0.0
    growth = tuple(hypervolume_growth(run.trials, summary, reference))
    networks = len({trial.arch_id for trial in run.trials})
    return ComparedRun(
        name=run.name,
        seed=run.seed,
        front=front,
        hypervolume=volume,
        growth=growth,
        networks=networks,
        is_estimated=summary.is_estimated,
        why_observed="" if summary.is_exact else summary.why_observed,
    )


def _tests(groups: Sequence[Group]) -> tuple[tuple[str, str, RankTest], ...]:
    """Every pair of groups; only the p values that there are count for the correction."""
    pairs = list(combinations(groups, 2))
    tests = [rank_test(_values(a), _values(b)) for a, b in pairs]
    corrected = iter(holm([t.p for t in tests if t.p is not None]))
    tests = [t if t.p is None else replace(t, p=next(corrected)) for t in tests]
    return tuple((a.label, b.label, test) for (a, b), test in zip(pairs, tests, strict=True))


def _values(group: Group) -> list[tuple[int, float]]:
    return [(run.seed, run.hypervolume) for run in group.runs]


def _check_comparable(first: RunToCompare, other: RunToCompare) -> None:
    if other.objectives != first.objectives:
        raise RunError(
            f"{first.name} and {other.name} cannot be compared: the objectives of the first are "
            f"{', '.join(first.objectives)}, of the second {', '.join(other.objectives)}."
        )
    if other.n_classes != first.n_classes:
        raise RunError(
            f"{first.name} and {other.name} cannot be compared: the first tells {first.n_classes} classes apart, "
            f"the second {other.n_classes}, and hypervolume is measured from guessing."
        )
