"""Front of a running search: its members, the weights that are kept, and the networks to train again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nasx import pareto
from nasx.algorithms.estimates import estimate
from nasx.execution.budget import Budget
from nasx.execution.jobs import Key
from nasx.reports.summary import FrontSummary, summarise_run
from nasx.runs.directory import kept_weights, prune_weights, weights_file
from nasx.runs.journal import Journal
from nasx.runs.rows import NoiseRecord
from nasx.trial import OBJECTIVES, Objective, Reason, Trial, TrialStatus, cost_matrix

KEPT_BYTES = 2**30  # weights kept while a search runs; beyond them only those of the front and its rivals stay
PATIENCE = 20  # a summary is made again only after this many times the seconds that the last one took


class Findings:
    """Every trial of a run in the order in which it was recorded, and what they say of the front."""

    def __init__(self, run_dir: Path, store: Journal, budget: Budget) -> None:
        self.run_dir = run_dir
        self.store = store
        self.objectives = tuple(OBJECTIVES[name] for name in store.info.objectives)
        self.budget = budget
        self.by_key: dict[Key, Trial] = {}  # all trials, in the order in which they were recorded
        self.trials: dict[str, Trial] = {}  # first trainings, by arch_id
        self.ended: Counter[TrialStatus | Reason | None] = Counter()  # first trainings, by status and by reason
        self.retrained = 0  # trainings of networks that were known
        self._observed_front: list[Trial] = []  # of first trainings: what `search.patience` goes by
        self._summary: FrontSummary | None = None
        self._summarised = -1  # trials that it is of
        self._made_at = self._took = 0.0  # seconds
        for trial in store.trials_by_time():
            self._count(trial)
        prune_weights(run_dir, self.by_key.keys())  # what a killed search has left of trials that it did not record
        self._kept_bytes = self._bytes_on_disk()

    @property
    def all_trials(self) -> list[Trial]:
        """First trainings, then further ones."""
        return [*self.trials.values(), *(t for t in self.by_key.values() if t.replicate > 0)]

    def asked(self, trial: Trial) -> bool:
        """Whether the algorithm asked for this training; else it belongs to the rounds after the search."""
        return trial.replicate == trial.candidate.replicate

    def add(self, trial: Trial) -> None:
        """Take in a trial that the journal has."""
        self._count(trial)
        self._weigh(trial)

    def _count(self, trial: Trial) -> None:
        self.by_key[trial.arch_id, trial.replicate] = trial
        self.budget.gpu_seconds += trial.gpu_seconds
        if trial.replicate > 0:
            self.retrained += 1
            if self.asked(trial):
                self.budget.count(trial, None)
            return
        self.trials[trial.arch_id] = trial
        self.ended.update([trial.status, trial.evaluation.reason])
        changed = trial.is_complete and self._update_observed_front(trial)
        if trial.evaluation.reason is not Reason.DISCONNECTED:
            self.budget.count(trial, self._observed_front if changed else None)

    def _update_observed_front(self, trial: Trial) -> bool:
        rivals = [*self._observed_front, trial]
        mask = pareto.front_mask(cost_matrix(rivals, self.objectives))
        self._observed_front = [t for t, stays in zip(rivals, mask, strict=True) if stays]
        return bool(mask[-1])

    def summary(self, *, at_once: bool = False) -> FrontSummary:
        """The front by all trials so far; unless `at_once`, by those of a moment ago if making it takes long."""
        is_due = self._summary is None or time.monotonic() - self._made_at >= PATIENCE * self._took
        if self._summary is None or (self._summarised != len(self.by_key) and (at_once or is_due)):
            started = time.monotonic()
            self._summary = summarise_run(self.all_trials, self.store.info)
            self._summarised = len(self.by_key)
            self._made_at = time.monotonic()
            self._took = self._made_at - started
        return self._summary

    def close(self) -> None:
        """Record how large the noise is, and keep the weights of the front and its rivals only."""
        summary = self.summary(at_once=True)
        self.store.record_noise(
            [
                NoiseRecord(n.trainings, n.objective, n.std, n.share, n.own_share, n.length_scale, n.repeated)
                for n in summary.noise
            ]
        )
        self._prune(summary)

    def _weigh(self, trial: Trial) -> None:
        """Count the bytes of a trial's weights; if there are too many, drop those of networks far from the front."""
        if not trial.is_complete:
            return
        try:
            self._kept_bytes += weights_file(self.run_dir, trial.arch_id, trial.replicate).stat().st_size
        except FileNotFoundError:
            return
        if self._kept_bytes > KEPT_BYTES:
            self._prune(self.summary(at_once=True))
            self._kept_bytes = self._bytes_on_disk()

    def _bytes_on_disk(self) -> int:
        return sum(path.stat().st_size for path in kept_weights(self.run_dir).values())

    def _prune(self, summary: FrontSummary) -> None:
        """Remove the weights of recorded trials only: those of a trial that is running may be on disk before that."""
        kept = {member.arch_id for member in (*summary.front, *summary.rivals)}
        dropped = {key for key in self.by_key if key[0] not in kept}
        prune_weights(self.run_dir, kept_weights(self.run_dir).keys() - dropped)


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
