"""Recorded trials of a running search: counts, the front with its hypervolume, and the weights that are kept."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from nasx import pareto
from nasx.execution.budget import Budget
from nasx.execution.jobs import Key, is_requested
from nasx.protocols import SearchSpace
from nasx.reports.summary import FrontSummary, summarize_run
from nasx.runs.check import require_identity
from nasx.runs.directory import kept_weights, prune_weights, weights_file
from nasx.runs.journal import Journal
from nasx.runs.rows import NoiseRecord, recordable
from nasx.trial import OBJECTIVES, Candidate, Evaluation, Job, Reason, Trial, TrialStatus, cost_matrix

MAX_WEIGHT_BYTES = 2**30  # while a search runs; above it, only weights of the front and its rivals are kept
SUMMARY_PAUSE = 20  # pause between summaries, in multiples of the time that the last one took to compute


class RecordedTrials:
    """Every trial of a run in the order of recording, and the front of these trials."""

    def __init__(self, run_dir: Path, store: Journal, space: SearchSpace, budget: Budget) -> None:
        """Load the trials of the journal, and delete weights of trials that it does not have.

        Args:
            run_dir: directory of the run.
            store: journal of the run.
            space: of the networks.
            budget: counts every trial.
        """
        self.run_dir = run_dir
        self.store = store
        self.space = space
        self.objectives = tuple(OBJECTIVES[name] for name in store.info.objectives)
        self.budget = budget
        self.by_key: dict[Key, Trial] = {}  # all trials, in the order of recording
        self.first_trials: dict[str, Trial] = {}  # first trainings, by arch_id
        self.counts: Counter[TrialStatus | Reason | None] = Counter()  # first trainings, by status and by reason
        self.retrained = 0  # further trainings of networks
        self._observed_front: list[Trial] = []  # of first trainings; `search.patience` uses it
        self._summary: FrontSummary | None = None
        self._summarized = -1  # number of trials in the summary
        self._summary_at = self._summary_took = 0.0  # seconds
        trials = store.trials_by_time()
        require_identity(space, ((t.genotype, t.arch_id) for t in trials))
        require_identity(space, ((entry.candidate.genotype, entry.arch_id) for entry in store.candidates()))
        for trial in trials:
            self._count(trial)
        prune_weights(run_dir, self.by_key.keys())  # a killed search leaves weights of trials that it has not recorded
        self._weight_bytes = self._bytes_on_disk()

    @property
    def all_trials(self) -> list[Trial]:
        """First trainings, then further ones."""
        return [*self.first_trials.values(), *(t for t in self.by_key.values() if t.replicate > 0)]

    def record(
        self, job: Job, candidate: Candidate, evaluation: Evaluation, retries: int = 0, gpu_seconds: float = 0.0
    ) -> Trial:
        """Record the trial of a job in the journal, and delete weights if there are too many.

        Args:
            job: the training.
            candidate: of the job.
            evaluation: its result.
            retries: attempts before the last.
            gpu_seconds: of all attempts.

        Returns:
            The trial.
        """
        evaluation = recordable(evaluation, self.store.info)
        trial = Trial(
            arch_id=job.arch_id,
            replicate=job.replicate,
            genotype=job.genotype,
            architecture=self.space.describe(job.genotype),
            seed=job.seed,
            evaluation=evaluation,
            candidate=candidate,
            retries=retries,
            gpu_seconds=gpu_seconds,
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self.store.record_trial(trial)
        self.store.check_place()  # after recording: if the directory was moved, the journal there has the trial
        self._count(trial)
        self._limit_weights(trial)
        return trial

    def _count(self, trial: Trial) -> None:
        self.by_key[trial.arch_id, trial.replicate] = trial
        self.budget.gpu_seconds += trial.gpu_seconds
        if trial.replicate > 0:
            self.retrained += 1
            if is_requested(trial.candidate, trial.replicate):
                self.budget.count(trial, None)
            return
        self.first_trials[trial.arch_id] = trial
        self.counts.update([trial.status, trial.evaluation.reason])
        changed = trial.is_complete and self._update_observed_front(trial)
        if trial.evaluation.reason is not Reason.DISCONNECTED:
            self.budget.count(trial, self._observed_front if changed else None)

    def _update_observed_front(self, trial: Trial) -> bool:
        """Add a trial to the observed front; return whether it is a member."""
        rivals = [*self._observed_front, trial]
        mask = pareto.front_mask(cost_matrix(rivals, self.objectives))
        self._observed_front = [t for t, is_member in zip(rivals, mask, strict=True) if is_member]
        return bool(mask[-1])

    def summary(self, *, up_to_date: bool = False) -> FrontSummary:
        """Return the front and its hypervolume.

        Args:
            up_to_date: include all trials; otherwise a recent summary may be returned if computing one takes long.
        """
        is_due = self._summary is None or time.monotonic() - self._summary_at >= SUMMARY_PAUSE * self._summary_took
        if self._summary is None or (self._summarized != len(self.by_key) and (up_to_date or is_due)):
            started = time.monotonic()
            self._summary = summarize_run(self.all_trials, self.store.info)
            self._summarized = len(self.by_key)
            self._summary_at = time.monotonic()
            self._summary_took = self._summary_at - started
        return self._summary

    def close(self) -> None:
        """Record the noise of the objectives, and keep only the weights of the front and its rivals."""
        summary = self.summary(up_to_date=True)
        self.store.record_noise(
            [
                NoiseRecord(n.trainings, n.objective, n.std, n.share, n.own_share, n.length_scale, n.repeated)
                for n in summary.noise
            ]
        )
        self._prune(summary)

    def _limit_weights(self, trial: Trial) -> None:
        """Count the bytes of a trial's weights; if there are too many, delete those of networks far from the front."""
        if not trial.is_complete:
            return
        try:
            self._weight_bytes += weights_file(self.run_dir, trial.arch_id, trial.replicate).stat().st_size
        except FileNotFoundError:
            return
        if self._weight_bytes > MAX_WEIGHT_BYTES:
            self._prune(self.summary(up_to_date=True))
            self._weight_bytes = self._bytes_on_disk()

    def _bytes_on_disk(self) -> int:
        return sum(path.stat().st_size for path in kept_weights(self.run_dir).values())

    def _prune(self, summary: FrontSummary) -> None:
        """Delete weights of recorded trials only: a running trial may write its weights before it is recorded."""
        kept = {member.arch_id for member in (*summary.front, *summary.rivals)}
        dropped = {key for key in self.by_key if key[0] not in kept}
        prune_weights(self.run_dir, kept_weights(self.run_dir).keys() - dropped)
