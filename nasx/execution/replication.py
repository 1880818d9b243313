"""Which networks to train again with further seeds: those whose place on the front the noise of training leaves open.

A pure function of the journal, so that a resumed search goes on with the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nasx import pareto
from nasx.trial import Objective, Trial, cost_matrix

RIVAL_RANK = 1  # networks up to this non-domination rank are front members (0) or near-front rivals


def due_replicates(
    trials: Iterable[Trial], objectives: Sequence[Objective], replicates: int
) -> list[tuple[Trial, int]]:
    """The trainings that are due: (first trial of a network, number of the replicate), in a fixed order.

    Round r trains replicate r of the front and its rivals by the means of the replicates before r; the next round
    begins when all of it has been answered, be it by failure. Empty when `replicates` rounds are done.
    """
    answered: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        answered.setdefault(trial.arch_id, {})[trial.replicate] = trial
    for number in range(1, replicates + 1):
        first = [own[0] for own in answered.values() if 0 in own and own[0].is_complete]
        if not first:
            return []
        means = np.array([_mean(answered[t.arch_id].values(), objectives, before=number) for t in first])
        chosen = [t for t, rank in zip(first, pareto.ranks(means), strict=True) if rank <= RIVAL_RANK]
        due = [(t, number) for t in chosen if number not in answered[t.arch_id]]
        if due:
            return sorted(due, key=lambda job: job[0].candidate.number)
    return []


def _mean(trials: Iterable[Trial], objectives: Sequence[Objective], *, before: int) -> list[float]:
    """The mean costs of a network's complete trials with replicates below `before`."""
    complete = [t for t in trials if t.is_complete and t.replicate < before]
    mean: list[float] = cost_matrix(complete, objectives).mean(axis=0).tolist()
    return mean
