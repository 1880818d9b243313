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
from nasx.config.identity import OLDER_PLACES
from nasx.errors import RunError
from nasx.reports.summary import FrontSummary, hypervolume_growth, summarize
from nasx.trial import Objective, Trial, costs


def attainment_surfaces(fronts: Sequence[NDArray[np.float64]], shares: Sequence[float]) -> NDArray[np.float64]:
    """Return the attainment surfaces of several shares of the runs on common steps, (n_steps, 1 + n_shares).

    The first column contains the ascending first costs at which a surface changes, the others the best second cost
    attained there by at least that share of the runs; infinity if too few runs attain any. Between two steps the value
    of the lower step holds. Without any point there are no steps.

    Args:
        fronts: costs of each run's front, (n_points, 2), smaller is better, in any order.
        shares: of the runs, in (0, 1].

    >>> attainment_surfaces([np.array([[1.0, 3.0]]), np.array([[2.0, 1.0]])], [0.5, 1.0]).tolist()
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


MIN_VALUES = 2  # per group, for a p value


@dataclass(frozen=True)
class RankTest:
    """Two-sided test of two samples; larger values are better."""

    name: str
    p: float | None  # p value; None: too few values
    superiority: float  # effect size: probability that a value of the first sample is larger, a tie counts 1/2


def rank_test(first: Sequence[tuple[int, float]], second: Sequence[tuple[int, float]]) -> RankTest:
    """Test whether two samples of (seed, value) differ.

    Samples with the same seeds, each once, are paired (Wilcoxon's signed-rank test); others are not (Mann-Whitney U
    test). Effect size: Vargha and Delaney's A, over the pairs of equal seed or over all pairs.

    >>> rank_test([(0, 1.0), (1, 2.0)], [(2, 0.0), (3, 0.5)]).superiority
    1.0
    """
    paired = _by_seed(first), _by_seed(second)
    if paired[0] and paired[1] and paired[0].keys() == paired[1].keys():
        a = np.array([paired[0][seed] for seed in paired[0]])
        b = np.array([paired[1][seed] for seed in paired[0]])
        name, signs = "Wilcoxon, paired by seed", np.sign(a - b)
        p = 1.0 if not signs.any() else float(wilcoxon(a, b).pvalue)  # scipy fails without differences
    else:
        a, b = (np.array([value for _, value in values]) for values in (first, second))
        name, signs = "Mann-Whitney", np.sign(a[:, None] - b[None, :])
        p = float(mannwhitneyu(a, b, alternative="two-sided").pvalue)
    return RankTest(name, p if min(len(a), len(b)) >= MIN_VALUES else None, float((signs.mean() + 1) / 2))


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p values for multiple tests by Holm's step-down method.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(np.argsort(ps, kind="stable")):
        highest = max(highest, (len(ps) - rank) * ps[i])
        corrected[i] = min(1.0, highest)
    return corrected


def _by_seed(values: Sequence[tuple[int, float]]) -> Mapping[int, float]:
    """Return the values by seed; empty if a seed occurs twice."""
    found = dict(values)
    return found if len(found) == len(values) else {}


# config keys that change only the name, place, speed or seed of a search
IGNORED_KEYS = (
    "seed",
    "name",
    "runs_dir",
    "provenance",
    "execution",
    "evaluation.seconds",
    *OLDER_PLACES,
)
TARGET = "_target_"


def group_labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the label of each run's group; runs that differ only in the seed have the same label.

    A label contains the settings that differ, e.g. "algorithm=RandomSearch, training.epochs=3". Components of different
    classes are named by their class, without their settings.

    >>> group_labels([{"seed": 0, "a": {"b": 1}}, {"seed": 1, "a": {"b": 1}}, {"seed": 0, "a": {"b": 2}}])
    ['a.b=1', 'a.b=1', 'a.b=2']
    """
    leaves = [_flat(config) for config in configs]
    keys = list(dict.fromkeys(key for own in leaves for key in own))
    differing = [key for key in keys if len({repr(own.get(key)) for own in leaves}) > 1]
    classes = {key.removesuffix(TARGET) for key in differing if key.endswith(TARGET)}
    named = [k for k in differing if k.endswith(TARGET) or not any(k.startswith(prefix) for prefix in classes)]
    rest = [k for k in differing if k not in named]  # settings that differ between groups of the same class
    labels = [", ".join(_setting(key, own) for key in named if key in own) for own in leaves]
    for label in set(labels):
        same = [i for i, found in enumerate(labels) if found == label]
        more = [k for k in rest if len({repr(leaves[i].get(k)) for i in same}) > 1]
        for i in same:
            labels[i] = ", ".join(filter(None, [label, *(_setting(k, leaves[i]) for k in more)])) or "all"
    return labels


def _setting(key: str, leaves: Mapping[str, Any]) -> str:
    value = leaves.get(key)
    if key.endswith(TARGET):
        return f"{key.removesuffix('.' + TARGET)}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return every value by its full key, without the ignored keys."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if key not in IGNORED_KEYS:
            leaves |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return leaves


QUARTILES: Final = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True, eq=False)
class RunToCompare:
    """Input of a comparison: one run."""

    name: str  # as given by the user
    label: str  # of its group
    seed: int
    objectives: tuple[str, ...]
    n_classes: int
    trials: Sequence[Trial]
    alleles: tuple[tuple[str, ...], ...] = ()  # names of the alleles of each gene, as in `RunInfo`


@dataclass(frozen=True, eq=False)
class ComparedRun:
    """Result of a comparison: one run."""

    name: str
    seed: int
    front: NDArray[np.float64]  # estimated costs, (n_members, n_objectives); without a model, observed means
    hypervolume: float  # of that front, with the common reference point
    growth: tuple[float, ...]  # hypervolume of the networks known after each trial
    networks: int  # number of networks tried, including failed ones
    is_estimated: bool  # True: the front is by estimates, False: by observed means
    why_observed: str = ""  # reason why noisy objectives are observed means; empty: they are not

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(self.growth)


@dataclass(frozen=True, eq=False)
class Group:
    """Group of runs that differ only in the seed."""

    label: str
    runs: tuple[ComparedRun, ...]

    @property
    def hypervolumes(self) -> NDArray[np.float64]:
        """Return the hypervolume of each run, (n_runs,)."""
        return np.array([run.hypervolume for run in self.runs])

    def quartiles(self) -> tuple[float, float, float]:
        """Return the lower quartile, median and upper quartile of the hypervolumes, interpolated."""
        low, median, high = np.quantile(self.hypervolumes, QUARTILES)
        return float(low), float(median), float(high)

    def surfaces(self) -> NDArray[np.float64]:
        """Return the attainment surfaces of the quartiles; see `attainment_surfaces`.

        The first cost is that of the second objective, the x axis of the figure, as in `nasx pareto`.
        """
        return attainment_surfaces([run.front[:, ::-1] for run in self.runs], QUARTILES)

    def growths(self) -> NDArray[np.float64]:
        """Return the quartiles of the hypervolume after each trial, (n_trials, 3). Shorter runs keep the last value."""
        longest = max(run.trials for run in self.runs)
        curves = [np.pad(run.growth, (0, longest - run.trials), mode="edge") for run in self.runs if run.trials]
        return np.quantile(curves, QUARTILES, axis=0).T if curves else np.empty((0, 3))


@dataclass(frozen=True, eq=False)
class Comparison:
    """Groups of runs, and a test of every pair of groups."""

    objectives: tuple[Objective, ...]
    reference: tuple[float | None, ...]  # values of the objectives, common to all runs
    groups: tuple[Group, ...]  # in the order of their first runs
    tests: tuple[tuple[str, str, RankTest], ...]  # labels of two groups; p values corrected by Holm's method


def compare(runs: Sequence[RunToCompare]) -> Comparison:
    """Compare the hypervolumes of groups of runs, with one reference point for all runs.

    The reference value of an objective without a fixed one is the worst value of all runs.
    Raises RunError if the runs do not share their objectives and their number of classes.
    """
    first = runs[0]
    for run in runs[1:]:
        _check_comparable(first, run)
    summaries = [summarize(run.trials, run.objectives, n_classes=run.n_classes, alleles=run.alleles) for run in runs]
    objectives = summaries[0].objectives
    reference = tuple(_worst(o, [s.reference[i] for s in summaries]) for i, o in enumerate(objectives))
    compared: dict[str, list[ComparedRun]] = {}
    for run, summary in zip(runs, summaries, strict=True):
        compared.setdefault(run.label, []).append(_measured(run, summary, reference))
    groups = tuple(Group(label, tuple(own)) for label, own in compared.items())
    return Comparison(objectives, reference, groups, _tests(groups))


def _worst(objective: Objective, values: Sequence[float | None]) -> float | None:
    """Return the worst value of all runs; None if no run has a value."""
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
    """Test every pair of groups; missing p values are not counted in the correction."""
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
            f"{first.name} and {other.name} cannot be compared: the first has {first.n_classes} classes, the "
            f"second {other.n_classes}, so that the reference points of their hypervolumes differ."
        )
