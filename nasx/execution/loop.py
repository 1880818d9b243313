"""Search loop: connects the algorithm, the execution that evaluates trials, and the journal.

An execution takes jobs with `next_job` and returns evaluations with `complete`; everything else happens here, in one
thread. **The journal is the truth**: a resumed loop starts with a fresh algorithm, replays the recorded candidates and
results (`nasx.execution.replay`), and continues with the first training that is not recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from nasx.errors import NasxError
from nasx.execution.budget import Budget, Progress, SearchLimits, check_failures
from nasx.execution.candidates import Candidates
from nasx.execution.front import RecordedTrials
from nasx.execution.jobs import Jobs, is_requested, key
from nasx.execution.replicates import Replicates
from nasx.protocols import SearchAlgorithm, SearchSpace
from nasx.reports.summary import ArchitectureResult, FrontSummary
from nasx.runs.journal import Journal
from nasx.trial import Evaluation, Job, Objective, Reason, Trial, TrialStatus

SHOWN_FAILURES = 3  # in `progress`
MAX_REPLACED = 3  # broken workers of a job before its attempts count


class SearchLoop:
    """Turns candidates into jobs and evaluations into results, each recorded before the next step.

    `next_job` returns None while the algorithm waits for results, and after the search has `finished`.
    """

    def __init__(
        self,
        *,
        run_dir: Path,
        store: Journal,
        algorithm: SearchAlgorithm,
        space: SearchSpace,
        objectives: Sequence[Objective],
        limits: SearchLimits,
        early_stopping: bool = False,
        gpus: float = 0.0,
        max_parts: int | None = None,
    ) -> None:
        """Start or resume the search of a journal.

        Args:
            run_dir: directory of the run.
            store: journal of the run.
            algorithm: a fresh one.
            space: of the candidates.
            objectives: define the costs and the front.
            limits: stopping criteria and failure tolerance.
            early_stopping: stop trainings that cannot reach the front.
            gpus: GPUs of a trial; 0 on the CPU.
            max_parts: maximum number of parts of a batch, see `Jobs`.
        """
        self.run_dir = run_dir
        self.store = store
        self.algorithm = algorithm
        self.space = space
        self.objectives = tuple(objectives)
        self.limits = limits
        self.stopping: str | None = None  # why no further job is assigned
        self._session: list[Trial] = []  # trained in this session at the algorithm's request
        self._latest: deque[Trial] = deque(maxlen=limits.failure_window)  # trained in this session
        self._jobs = Jobs(
            store, run_dir, retries=limits.retries, max_crashes=limits.max_crashes, gpus=gpus, max_parts=max_parts
        )
        self._budget = Budget(limits, objectives, store.info.n_classes)
        self._recorded = RecordedTrials(run_dir, store, space, self._budget)
        self._replicates = Replicates(self._recorded, self.objectives, limits.replicates)
        self._budget.begin_session()
        self._candidates = Candidates(
            algorithm=algorithm,
            space=space,
            objectives=objectives,
            recorded=self._recorded,
            jobs=self._jobs,
            early_stopping=early_stopping,
        )

    @property
    def finished(self) -> bool:
        """True if no job is running and no further job will be assigned."""
        if self.running:
            return False
        return self.stopping is not None or not (
            self._jobs.returned or self._needs_candidates or self._replicates.due()
        )

    @property
    def running(self) -> int:
        """Number of jobs that workers have."""
        return self._jobs.running

    @property
    def incidents(self) -> str:
        """Repeated attempts and replaced workers of this session, in words; empty if there were none."""
        return self._jobs.incidents

    @property
    def trials(self) -> Mapping[str, Trial]:
        """First training of each network, by arch_id, in the order of recording."""
        return self._recorded.first_trials

    @property
    def all_trials(self) -> list[Trial]:
        """All trials of the journal, including replicates."""
        return self._recorded.all_trials

    @property
    def front(self) -> Sequence[ArchitectureResult]:
        """Front of the estimates from all trials so far."""
        return self.summary().front

    def summary(self) -> FrontSummary:
        """Return the front and its hypervolume, from all trials so far."""
        return self._recorded.summary(up_to_date=True)

    @property
    def enough(self) -> str | None:
        """Why no further candidate is requested before the last evaluation; None: the search continues.

        Replicates are still trained. Depends only on the journal, so that a resumed search decides alike. The result of
        a running trial may change it back to None.
        """
        stagnation = self._budget.stagnation() if self._candidates.is_replayed else None
        return self._candidates.exhausted or stagnation

    @property
    def _needs_candidates(self) -> bool:
        return self._budget.evaluated + self._jobs.requested < self.limits.evaluations and self.enough is None

    def stop(self, why: str) -> None:
        """Assign no further job; running jobs may finish."""
        self.stopping = self.stopping or why

    def next_job(self) -> Job | None:
        """Return the next training; None while the algorithm waits for results, and when the search ends."""
        self.store.check_place()
        if not self.finished and (why := self._budget.time_is_over(self._jobs.clocks.gpu_seconds)):
            self.stop(why)
        if self.stopping is not None:
            return None
        if self._jobs.returned:
            return self._jobs.assign_again()
        while self._needs_candidates:
            candidate = self._candidates.ask()
            if candidate is None:
                return None
            if (job := self._candidates.take(candidate)) is not None:
                return self._jobs.assign(job, candidate)
        return self._next_replicate()

    def _next_replicate(self) -> Job | None:
        """Return the next training of the extra rounds; None while the front may still change."""
        if self._jobs.requested:
            return None
        while (training := self._replicates.next(self._jobs.pending)) is not None:
            first, number = training
            job = self._jobs.make(first.genotype, first.arch_id, number)
            if (failure := self._jobs.too_many_crashes(key(job))) is None:
                return self._jobs.assign(job, first.candidate)
            self._recorded.record(job, first.candidate, failure)
        return None

    def begin(self, job: Job) -> None:
        """Note that a worker has begun with the job."""
        self._jobs.clocks.begin(key(job))

    def complete(self, job: Job, evaluation: Evaluation) -> None:
        """Record the evaluation of a job and pass it to the algorithm, or retry a failure of the machine.

        Raises RunError if most of the latest trials have failed for one reason, or if the run directory was removed.
        """
        if evaluation.status is not TrialStatus.COMPLETE:
            self.store.check_place()  # it may have failed because its directory was removed: then it does not count
        if self._jobs.retry(job, evaluation):
            return
        candidate, retries, gpu_seconds = self._jobs.finish(job)
        trial = self._recorded.record(job, candidate, evaluation, retries, gpu_seconds)
        self._latest.append(trial)
        if is_requested(candidate, job.replicate):
            self._session.append(trial)
            self._budget.count_session_training()
            self._candidates.tell(candidate, trial)
        check_failures(self._latest, self.limits.max_failure_share, self.run_dir)

    def lose(self, job: Job, how: str, reason: Reason = Reason.ERROR) -> None:
        """Retry a job whose worker has died; after the last attempt, record the trial as failed.

        Args:
            job: of the worker.
            how: the worker died, for the journal.
            reason: of the failure.
        """
        tries = self._jobs.attempts(job)
        self.complete(job, Evaluation.failed(reason, how if tries == 1 else f"{how}, at the last of {tries} attempts"))

    def requeue(self, job: Job) -> None:
        """Take back a job that stopped for a reason outside of it; it is assigned again."""
        self._jobs.requeue(job)

    def replace_worker(self, job: Job, why: str) -> None:
        """Take back the job of a broken worker. The attempt counts only if the job has broken several workers."""
        self.store.record_event("worker_replaced", f"trial {job.arch_id}: {why}")
        if (times := self._jobs.count_replaced(job)) > MAX_REPLACED:
            self.lose(job, f"{why}. It has broken {times} workers")
        else:
            self.requeue(job)

    def close(self) -> None:
        """Take back all running jobs without counting their attempts, so that a resumed search assigns them again.

        Then record the noise, and keep only the weights of the front and its rivals.
        """
        if self.store.is_in_place:
            self.take_back(self.store)
            self._recorded.close()
            return
        with suppress(NasxError):  # of the directory, which is the error that is reported
            self.take_back(self.store)

    def take_back(self, store: Journal) -> None:
        """Take back all running jobs. `store`: the journal, opened by the current thread."""
        self._jobs.close(store)

    def progress(self) -> Progress:
        """Return the progress of the search."""
        failed = (trial for trial in reversed(self._session) if trial.status is TrialStatus.FAILED)
        counts, gpu_seconds = self._recorded.counts, self._jobs.clocks.gpu_seconds
        return Progress(
            evaluations=self.limits.evaluations,
            evaluated=self._budget.evaluated,
            jobs=self._jobs.active(self.space),
            complete=counts[TrialStatus.COMPLETE],
            failed=counts[TrialStatus.FAILED],
            infeasible=counts[TrialStatus.INFEASIBLE],
            dominated=counts[Reason.DOMINATED],
            cached=self._candidates.cached,
            generation=self._candidates.generation,
            retrained=self._recorded.retrained,
            summary=self._recorded.summary(),
            failures=tuple(islice(failed, SHOWN_FAILURES)),
            elapsed=self._budget.elapsed,
            gpu_hours=(self._budget.gpu_seconds + gpu_seconds) / 3600,
            forecast=self._budget.forecast(gpu_seconds),
        )
