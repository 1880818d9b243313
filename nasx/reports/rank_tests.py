"""Whether one set of runs is better than another: rank tests, which ask no distribution of the values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu, wilcoxon

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
