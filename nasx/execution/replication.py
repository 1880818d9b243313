"""Extra rounds after a search: which networks to train again because their place on the front is still open.

A pure function of the journal, so that a resumed search goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nasx import pareto
from nasx.estimates import estimate
from nasx.trial import Objective, Trial

RIVAL_RANK = 1  # networks up to this non-domination rank are front members (0) or near-front rivals


def due_replicates(
    trials: Iterable[Trial], objectives: Sequence[Objective], rounds: int, alleles: Sequence[Sequence[str]] = ()
) -> list[tuple[Trial, int]]:
    """The trainings that are due: (first trial of a network, number of the replicate), in a fixed order.

    A round trains the front and its rivals, by the estimates from all trainings before it, once more each; the next
    round begins when all of it has been answered, be it by failure. Trainings of a network are numbered without gaps.
    Empty when all `rounds` are done.
    """
    answered: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        answered.setdefault(trial.arch_id, {})[trial.replicate] = trial
    # trainings by the search itself, and by the rounds so far
    asked = {arch_id: _asked(own) for arch_id, own in answered.items()}
    for _ in range(rounds):
        before = [t for a, own in answered.items() for n, t in sorted(own.items()) if n < asked[a]]
        estimates = estimate(before, objectives, alleles)
        ranks = pareto.ranks(estimates.means) if len(estimates.means) else np.empty(0)
        chosen = [a for a, rank in zip(estimates.arch_ids, ranks, strict=True) if rank <= RIVAL_RANK]
        due = [(answered[a][0], asked[a]) for a in chosen if asked[a] not in answered[a]]
        if due:
            return sorted(due, key=lambda job: job[0].candidate.number)
        for arch_id in chosen:
            asked[arch_id] += 1
    return []


def _asked(trainings: dict[int, Trial]) -> int:
    """How many trainings of a network the algorithm asked for."""
    return 1 + max((n for n, trial in trainings.items() if trial.candidate.replicate == n), default=0)
