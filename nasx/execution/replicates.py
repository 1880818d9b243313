"""Extra rounds after the evaluations (`search.replicates`): train networks on or near the front again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from nasx import pareto
from nasx.algorithms.estimates import estimate
from nasx.execution.front import RecordedTrials
from nasx.execution.jobs import Key, is_requested
from nasx.trial import Objective, Trial

RIVAL_RANK = 1  # networks up to this non-domination rank are front members (0) or near-front rivals


class Replicates:
    """Trainings that are due in the extra rounds of a running search."""

    def __init__(self, recorded: RecordedTrials, objectives: Sequence[Objective], rounds: int) -> None:
        """Start with the trainings that are recorded.

        Args:
            recorded: trials of the run; it may grow.
            objectives: define the front.
            rounds: number of extra rounds; 0: none.
        """
        self.recorded = recorded
        self.objectives = tuple(objectives)
        self.rounds = rounds
        self._cache: tuple[int, list[tuple[Trial, int]]] = (-1, [])  # number of recorded trials, trainings due then

    def due(self) -> list[tuple[Trial, int]]:
        """Return the trainings that are due, see `due_replicates`; computed once per recorded trial."""
        if self.rounds == 0:
            return []
        n_recorded = len(self.recorded.by_key)
        if self._cache[0] != n_recorded:
            alleles = self.recorded.store.info.alleles
            due = due_replicates(self.recorded.all_trials, self.objectives, self.rounds, alleles)
            self._cache = n_recorded, due
        return self._cache[1]

    def next(self, pending: Collection[Key]) -> tuple[Trial, int] | None:
        """Return the first due training that is not `pending`; None if there is none."""
        return next(((first, number) for first, number in self.due() if (first.arch_id, number) not in pending), None)


def due_replicates(
    trials: Iterable[Trial], objectives: Sequence[Objective], rounds: int, alleles: Sequence[Sequence[str]] = ()
) -> list[tuple[Trial, int]]:
    """Return the trainings that are due: (first trial of a network, number of the training), in a fixed order.

    A round trains each network of the front and its rivals once more, by the estimates from all trainings before the
    round. The next round begins when each of these trainings has ended, successfully or not. The trainings of a network
    are numbered without gaps.

    Args:
        trials: all recorded trials.
        objectives: define the front.
        rounds: number of rounds.
        alleles: names of each gene's alleles, for the estimates.

    Returns:
        Trainings of the current round that are not recorded yet; empty after the last round.
    """
    recorded: dict[str, dict[int, Trial]] = {}
    for trial in trials:
        recorded.setdefault(trial.arch_id, {})[trial.replicate] = trial
    # number of trainings by the search itself, and by the rounds so far
    planned = {arch_id: _n_requested(own) for arch_id, own in recorded.items()}
    for _ in range(rounds):
        before = [t for a, own in recorded.items() for n, t in sorted(own.items()) if n < planned[a]]
        estimates = estimate(before, objectives, alleles)
        ranks = pareto.ranks(estimates.means) if len(estimates.means) else np.empty(0)
        chosen = [a for a, rank in zip(estimates.arch_ids, ranks, strict=True) if rank <= RIVAL_RANK]
        due = [(recorded[a][0], planned[a]) for a in chosen if planned[a] not in recorded[a]]
        if due:
            return sorted(due, key=lambda training: training[0].candidate.number)
        for arch_id in chosen:
            planned[arch_id] += 1
    return []


def _n_requested(trainings: dict[int, Trial]) -> int:
    """Return the number of trainings of a network that the algorithm requested."""
    return 1 + max((n for n, trial in trainings.items() if is_requested(trial.candidate, n)), default=0)
