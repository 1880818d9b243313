"""The search loop: between the algorithm that asks, the executor that evaluates, and the journal that remembers.

An executor takes jobs with `next_job` and brings evaluations back with `complete`; everything else happens here, in one
thread. **The journal is the truth**: a resumed loop starts from a fresh algorithm, which asks what it asked before, and
answers from the journal until it comes to a network that no one has trained.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nasx import pareto
from nasx.errors import RunError
from nasx.evaluation import Job
from nasx.protocols import SearchAlgorithm, SearchSpace
from nasx.rundir import prune_weights, weights_file
from nasx.store import RunStore
from nasx.trial import (
    Candidate,
    Evaluation,
    Genotype,
    Objective,
    Reason,
    Trial,
    TrialStatus,
    arch_id,
    cost_matrix,
    costs,
    derive_seed,
)

MAX_FREE_ANSWERS = 1000  # candidates in a row that cost no training: then the space has nothing new


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """When a search ends, and what it puts up with."""

    evaluations: int  # networks trained, those that fail included
    retries: int = 1  # further attempts for a trial whose worker died
    max_crashes: int = 6  # searches that may die while a trial runs, before the trial counts as failed
    failure_window: int = 20  # first trials of a session that are watched for a common failure
    max_failure_share: float = 0.5  # of them, for one reason, from the fourth trial on


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a search stands: plain data for displays."""

    evaluations: int  # the budget
    evaluated: int  # networks trained so far, in this session or before
    running: int
    complete: int
    failed: int
    infeasible: int
    cached: int  # candidates answered from the journal, or known to be no network
    generation: int  # of the candidate last asked
    front: Sequence[Trial]
    hypervolume: float
    elapsed: float  # seconds of this session
    forecast: float | None  # seconds until the budget is spent; None until it can be told


class SearchLoop:
    """Turns candidates into jobs and evaluations into answers, each recorded before the next step.

    `finished` tells that no job will come any more; until then `next_job` gives None only while jobs are running.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        store: RunStore,
        algorithm: SearchAlgorithm,
        space: SearchSpace,
        objectives: Sequence[Objective],
        limits: SearchLimits,
    ) -> None:
        self.run_dir = run_dir
        self.store = store
        self.algorithm = algorithm
        self.space = space
        self.objectives = tuple(objectives)
        self.limits = limits
        self.reference = _reference(objectives, store.info.n_classes)
        self.trials: dict[str, Trial] = {}  # answered in this session, by arch_id: trained, or replayed
        self.front: list[Trial] = []
        self.stopping: str | None = None  # why no further job is given
        self._journal = {trial.arch_id: trial for trial in store.trials() if trial.replicate == 0}
        self._running: dict[str, Candidate] = {}
        self._waiting: dict[str, list[Candidate]] = {}  # candidates of a network that is being trained
        self._evaluated = self._cached = self._generation = 0
        self._retry: deque[Job] = deque()  # lost with their workers
        self._lost: dict[str, int] = {}
        self._status: Counter[TrialStatus] = Counter()
        self._session: list[Trial] = []  # trained in this session
        self._started = time.monotonic()
        prune_weights(run_dir, {(trial.arch_id, 0) for trial in self._final_front()})

    @property
    def finished(self) -> bool:
        """Whether all is done: nothing runs, and nothing more will be asked."""
        return not self._running and (self.stopping is not None or self._evaluated >= self.limits.evaluations)

    def stop(self, why: str) -> None:
        """Give no further job; what runs may finish."""
        self.stopping = self.stopping or why

    def next_job(self) -> Job | None:
        """The next network to train; None while the algorithm waits for running jobs, and when the search ends."""
        if self._retry and self.stopping is None:
            again = self._retry.popleft()
            self.store.record_attempt(again.arch_id)
            return again
        free = 0
        while self.stopping is None and self._evaluated + len(self._running) < self.limits.evaluations:
            candidate = self.algorithm.ask()
            if candidate is None:
                return None
            self._generation = candidate.generation
            job = self._take(candidate)
            if job is not None:
                return job
            free += 1
            if free >= MAX_FREE_ANSWERS and not self._running:
                self.stop(f"{free} candidates in a row were known already: the space has no network left to try")
        return None

    def _take(self, candidate: Candidate) -> Job | None:
        """The job that a candidate needs; None where the journal, or the space, answers it."""
        canonical = self.space.canonical(candidate.genotype)
        identity = arch_id(self.space.name, self.space.settings, canonical)
        known = self.trials.get(identity)
        is_new = known is None and identity not in self._running
        # written before anything is trained: the journal then refuses a search that asks for something else
        self.store.record_candidate(candidate, identity, answered=not is_new)
        if known is not None:
            self._cached += 1
            self._tell(candidate, known)
            return None
        if not is_new:
            self._cached += 1
            self._waiting.setdefault(identity, []).append(candidate)
            return None
        recorded = self._journal.get(identity)
        if recorded is not None:
            self._answer(candidate, recorded)
            return None
        if not self.space.is_connected(candidate.genotype):
            detail = "no path leads from the cell's input to its output"
            self._record(candidate, canonical, identity, Evaluation.infeasible(Reason.DISCONNECTED, detail))
            return None
        crashes = self.store.attempts(identity)
        if crashes >= self.limits.max_crashes:
            detail = f"the search died {crashes} times while this network was trained (search.max_crashes)"
            self._record(candidate, canonical, identity, Evaluation.failed(Reason.ERROR, detail))
            return None
        self.store.record_attempt(identity)
        self._running[identity] = candidate
        return self._job(canonical, identity)

    def _job(self, canonical: Genotype, identity: str) -> Job:
        return Job(
            arch_id=identity,
            replicate=0,
            genotype=canonical,
            seed=derive_seed(self.store.info.seed, identity, 0),
            weights_file=weights_file(self.run_dir, identity, 0),
        )

    def complete(self, job: Job, evaluation: Evaluation) -> Trial:
        """Record what came of a job, then tell the algorithm. Raises RunError when most trials fail alike."""
        candidate = self._running.pop(job.arch_id)
        trial = self._record(candidate, job.genotype, job.arch_id, evaluation)
        self._session.append(trial)
        for other in self._waiting.pop(job.arch_id, []):
            self._tell(other, trial)
        self._check_failures()
        return trial

    def lose(self, job: Job, how: str) -> None:
        """The job's worker is gone: try again as often as `retries` allows, then record it as failed."""
        lost = self._lost[job.arch_id] = self._lost.get(job.arch_id, 0) + 1
        self.store.record_event("lost", f"trial {job.arch_id}, attempt {lost}: {how}")
        if lost <= self.limits.retries:
            self._retry.append(job)
        else:
            self.complete(job, Evaluation.failed(Reason.ERROR, f"{how}, {lost} times"))

    def abandon(self, job: Job) -> None:
        """Take back a job that was stopped through no fault of its own: a resumed search asks for it again."""
        del self._running[job.arch_id]
        self._waiting.pop(job.arch_id, None)
        self.store.withdraw_attempt(job.arch_id)
        job.weights_file.unlink(missing_ok=True)

    def _record(self, candidate: Candidate, canonical: Genotype, identity: str, evaluation: Evaluation) -> Trial:
        trial = Trial(
            arch_id=identity,
            replicate=0,
            genotype=canonical,
            architecture=self.space.describe(canonical),
            seed=derive_seed(self.store.info.seed, identity, 0),
            evaluation=evaluation,
            candidate=candidate,
            retries=self._lost.get(identity, 0),
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self.store.record_trial(trial)
        self._answer(candidate, trial)
        return trial

    def _answer(self, candidate: Candidate, trial: Trial) -> None:
        """Take in a trial, trained now or found in the journal, as the answer to the first candidate of its network."""
        self.trials[trial.arch_id] = trial
        self._status[trial.status] += 1
        if trial.evaluation.reason is Reason.DISCONNECTED:
            self._cached += 1
        else:
            self._evaluated += 1
        if trial.is_complete:
            self._update_front(trial)
        self._tell(candidate, trial)

    def _tell(self, candidate: Candidate, trial: Trial) -> None:
        self.algorithm.tell(candidate.number, costs(trial.metrics, self.objectives) if trial.is_complete else None)

    def _update_front(self, trial: Trial) -> None:
        """Let the trial into the front, or drop the weights of whatever is off it."""
        rivals = [*self.front, trial]
        mask = pareto.front_mask(cost_matrix(rivals, self.objectives))
        self.front = [t for t, stays in zip(rivals, mask, strict=True) if stays]
        for rival in (t for t, stays in zip(rivals, mask, strict=True) if not stays):
            # while replaying, a later trial of the journal may have dropped it before
            weights_file(self.run_dir, rival.arch_id, rival.replicate).unlink(missing_ok=True)

    def _final_front(self) -> list[Trial]:
        """The front of all that the journal holds."""
        complete = [trial for trial in self._journal.values() if trial.is_complete]
        if not complete:
            return []
        mask = pareto.front_mask(cost_matrix(complete, self.objectives))
        return [trial for trial, is_front in zip(complete, mask, strict=True) if is_front]

    def _check_failures(self) -> None:
        first = self._session[: self.limits.failure_window]
        reasons = Counter(t.evaluation.reason for t in first if t.status is TrialStatus.FAILED)
        if len(self._session) > len(first) or len(first) < 4 or not reasons:
            return
        reason, n = reasons.most_common(1)[0]
        if n / len(first) > self.limits.max_failure_share:
            last = next(t for t in reversed(first) if t.evaluation.reason is reason)
            detail = last.evaluation.detail.strip().splitlines()[-1]
            raise RunError(
                f"{n} of the first {len(first)} trials failed for the same reason, {reason}: {detail}. "
                f"The search stops; what has finished is kept in {self.run_dir}. "
                f"`nasx runs show` prints every failure."
            )

    def progress(self) -> Progress:
        elapsed = time.monotonic() - self._started
        left = self.limits.evaluations - self._evaluated
        per_trial = elapsed / len(self._session) if len(self._session) >= 3 else None
        return Progress(
            evaluations=self.limits.evaluations,
            evaluated=self._evaluated,
            running=len(self._running),
            complete=self._status[TrialStatus.COMPLETE],
            failed=self._status[TrialStatus.FAILED],
            infeasible=self._status[TrialStatus.INFEASIBLE],
            cached=self._cached,
            generation=self._generation,
            front=tuple(self.front),
            hypervolume=self.hypervolume(),
            elapsed=elapsed,
            forecast=None if per_trial is None else per_trial * left,
        )

    def hypervolume(self) -> float:
        """The hypervolume of the front; 0 while it is empty."""
        if not self.front:
            return 0.0
        worst = cost_matrix([t for t in self.trials.values() if t.is_complete], self.objectives).max(axis=0)
        reference = [w if r is None else r for r, w in zip(self.reference, worst, strict=True)]
        return pareto.hypervolume(cost_matrix(self.front, self.objectives), reference)


def _reference(objectives: Sequence[Objective], n_classes: int) -> tuple[float | None, ...]:
    """The reference point of the hypervolume as costs; None where the worst value seen stands in."""
    values = [(o, o.reference(n_classes)) for o in objectives]
    return tuple(None if value is None else o.sign * value for o, value in values)
