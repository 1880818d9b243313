"""Compare runs: groups of seeds, attainment surfaces, hypervolume from one reference point, rank tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, wilcoxon

from nasx import pareto
from nasx.errors import RunError
from nasx.reports.summary import FrontSummary, hypervolume_growth, summarise
from nasx.trial import Objective, Trial, costs


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


FEWEST = 2  # values on either side


@dataclass(frozen=True)
class RankTest:
    """A two-sided test of two sets of values, where larger is better."""

    name: str
    p: float | None  # None: too few values
    superiority: float  # effect size: the chance that a value of the first is the larger, a tie counting one half


def rank_test(first: Sequence[tuple[int, float]], second: Sequence[tuple[int, float]]) -> RankTest:
    """Compare values that are each given with the seed of its run.

    The same seeds on both sides, each once, are paired (Wilcoxon's signed ranks), all else is not (Mann and Whitney).
    Effect size: Vargha and Delaney's A, over all pairs or over those of the same seed.

    >>> rank_test([(0, 1.0), (1, 2.0)], [(2, 0.0), (3, 0.5)]).superiority
    1.0
    """
    paired = _by_seed(first), _by_seed(second)
    if paired[0] and paired[1] and paired[0].keys() == paired[1].keys():
        a = np.array([paired[0][seed] for seed in paired[0]])
        b = np.array([paired[1][seed] for seed in paired[0]])
        name, signs = "Wilcoxon, paired by seed", np.sign(a - b)
        p = 1.0 if not signs.any() else float(wilcoxon(a, b).pvalue)  # scipy has no answer where nothing differs
    else:
        a, b = (np.array([value for _, value in values]) for values in (first, second))
        name, signs = "Mann-Whitney", np.sign(a[:, None] - b[None, :])
        p = float(mannwhitneyu(a, b, alternative="two-sided").pvalue)
    return RankTest(name, p if min(len(a), len(b)) >= FEWEST else None, float((signs.mean() + 1) / 2))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down correction of several p values: none of them may claim more than all of them bear.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(np.argsort(ps, kind="stable")):
        highest = max(highest, (len(ps) - rank) * ps[i])
        corrected[i] = min(1.0, highest)
    return corrected


def _by_seed(values: Sequence[tuple[int, float]]) -> Mapping[int, float]:
    """The values by seed; empty where a seed comes twice."""
    found = dict(values)
    return found if len(found) == len(values) else {}


# keys that change where, how fast or under which name something is searched, and the seed
ASIDE = (
    "seed",
    "name",
    "runs_dir",
    "provenance",
    "execution",
    "dataset.root",
    "evaluation.seconds",
    "evaluation.table",
)
TARGET = "_target_"


def group_labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each run the label of its group: equal for runs that differ in the seed alone.

    A label tells what differs between the groups, e.g. "algorithm=RandomSearch, training.epochs=3". A component that
    differs as a whole is told by its class, without its settings.

    >>> group_labels([{"seed": 0, "a": {"b": 1}}, {"seed": 1, "a": {"b": 1}}, {"seed": 0, "a": {"b": 2}}])
    ['a.b=1', 'a.b=1', 'a.b=2']
    """
    leaves = [_flat(config) for config in configs]
    keys = list(dict.fromkeys(key for own in leaves for key in own))
    differing = [key for key in keys if len({repr(own.get(key)) for own in leaves}) > 1]
    classes = {key.removesuffix(TARGET) for key in differing if key.endswith(TARGET)}
    told = [k for k in differing if k.endswith(TARGET) or not any(k.startswith(prefix) for prefix in classes)]
    rest = [k for k in differing if k not in told]  # settings of one class may differ too, beside another class
    labels = [", ".join(_told(key, own) for key in told if key in own) for own in leaves]
    for label in set(labels):
        same = [i for i, found in enumerate(labels) if found == label]
        more = [k for k in rest if len({repr(leaves[i].get(k)) for i in same}) > 1]
        for i in same:
            labels[i] = ", ".join(filter(None, [label, *(_told(k, leaves[i]) for k in more)])) or "all"
    return labels


def _told(key: str, leaves: Mapping[str, Any]) -> str:
    value = leaves.get(key)
    if key.endswith(TARGET):
        return f"{key.removesuffix('.' + TARGET)}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf by its full key, without what is set aside."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if key not in ASIDE:
            leaves |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return leaves


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
        """The attainment surfaces of the quartiles; see `nasx.reports.comparison`.

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
