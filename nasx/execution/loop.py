"""The search loop: between the algorithm that asks, the executor that evaluates, and the journal that remembers.

An executor takes jobs with `next_job` and brings evaluations back with `complete`; everything else happens here, in one
thread. **The journal is the truth**: a resumed loop starts from a fresh algorithm, which asks what it asked before, and
answers from the journal until it comes to a network that no one has trained.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from nasx import pareto
from nasx.errors import RunError
from nasx.execution.limits import Budget, Progress, SearchLimits
from nasx.execution.replication import due_replicates
from nasx.protocols import SearchAlgorithm, SearchSpace
from nasx.rundir import prune_weights, weights_file
from nasx.store import RunStore
from nasx.trial import (
    Candidate,
    Evaluation,
    Genotype,
    Job,
    Objective,
    Reason,
    Trial,
    TrialStatus,
    arch_id,
    cost_matrix,
    costs,
    derive_seed,
)

MAX_FREE_ANSWERS = 1000  # candidates in a row that were known: then the space has nothing new

# what may be the machine's fault and is tried again; the others would come out the same from the same seed
WORTH_RETRYING = frozenset({Reason.OUT_OF_MEMORY, Reason.TIMEOUT, Reason.ERROR})


Key = tuple[str, int]  # of a trial: its network's arch_id, and which training of it


class SearchLoop:
    """Turns candidates into jobs and evaluations into answers, each recorded before the next step.

    `finished` tells that no job will come any more; until then `next_job` gives None only while jobs are out.
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
        self.trials: dict[str, Trial] = {}  # answered in this session, by arch_id: trained, or replayed
        self.front: list[Trial] = []
        self.stopping: str | None = None  # why no further job is given
        recorded = store.trials()
        self._journal = {trial.arch_id: trial for trial in recorded if trial.replicate == 0}
        self._replicates = {_key(trial): trial for trial in recorded if trial.replicate > 0}
        self._pending: dict[Key, Candidate] = {}  # trials that wait for their evaluation
        self._again: deque[Job] = deque()  # jobs of pending networks that came back without one
        self._waiting: dict[str, list[Candidate]] = {}  # further candidates of a pending network
        self._retries: Counter[Key] = Counter()
        self._cached = self._generation = 0
        self._status: Counter[TrialStatus] = Counter()
        self._session: list[Trial] = []  # trained in this session
        self._budget = Budget(limits, objectives, store.info.n_classes)
        prune_weights(run_dir, {_key(trial) for trial in self._front_of_journal()} | self._replicates.keys())

    @property
    def finished(self) -> bool:
        """Whether all is done: no job is out, and no more will be given."""
        if self.running:
            return False
        return self.stopping is not None or (self._evaluated >= self.limits.evaluations and not self._due())

    @property
    def running(self) -> int:
        """Jobs that are out."""
        return len(self._pending) - len(self._again)

    @property
    def all_trials(self) -> list[Trial]:
        """What has been answered so far, replicates included."""
        return [*self.trials.values(), *self._replicates.values()]

    @property
    def _evaluated(self) -> int:
        return self._budget.evaluated

    def stop(self, why: str) -> None:
        """Give no further job; those that are out may finish."""
        self.stopping = self.stopping or why

    def next_job(self) -> Job | None:
        """The next network to train; None while the algorithm waits for jobs that are out, and when the search ends."""
        if not self.finished and (spent := self._budget.spent()):
            self.stop(spent)
        if self._again and self.stopping is None:
            return self._give(self._again.popleft())
        known_in_a_row = 0
        while self.stopping is None and self._evaluated + len(self._pending) < self.limits.evaluations:
            if known_in_a_row >= MAX_FREE_ANSWERS:
                if not self._pending:
                    self.stop(f"{known_in_a_row} candidates in a row were known: the space has no network left to try")
                return None
            candidate = self.algorithm.ask()
            if candidate is None:
                if not self._pending:
                    raise RuntimeError(f"{type(self.algorithm).__name__}.ask gives nothing though all is answered")
                return None
            self._generation = candidate.generation
            cached = self._cached
            job = self._take(candidate)
            if job is not None:
                return self._give(job)
            known_in_a_row = known_in_a_row + 1 if self._cached > cached else 0
        return self._next_replicate()

    def _next_replicate(self) -> Job | None:
        """Once the budget is spent: the next training of a network on or near the front with a further seed."""
        if self.stopping is not None or self._evaluated < self.limits.evaluations:
            return None
        for first, number in self._due():
            if (first.arch_id, number) not in self._pending:
                self._pending[first.arch_id, number] = first.candidate
                return self._give(self._job(first.genotype, first.arch_id, number))
        return None

    def _due(self) -> list[tuple[Trial, int]]:
        if self.limits.replicates == 0:
            return []
        return due_replicates(self.all_trials, self.objectives, self.limits.replicates)

    def _give(self, job: Job) -> Job:
        self.store.record_attempt(job.arch_id, job.replicate)
        return job

    def _job(self, canonical: Genotype, identity: str, replicate: int) -> Job:
        return Job(
            arch_id=identity,
            replicate=replicate,
            genotype=canonical,
            seed=derive_seed(self.store.info.seed, identity, replicate),
            weights_file=weights_file(self.run_dir.resolve(), identity, replicate),
        )

    def _take(self, candidate: Candidate) -> Job | None:
        """The job that a candidate needs; None where the journal, or the space, answers it."""
        canonical = self.space.canonical(candidate.genotype)
        identity = arch_id(self.space.name, self.space.settings, canonical)
        known = self.trials.get(identity)
        is_new = known is None and (identity, 0) not in self._pending
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
        self._pending[identity, 0] = candidate
        return self._job(canonical, identity, 0)

    def complete(self, job: Job, evaluation: Evaluation) -> None:
        """Record what came of a job, then tell the algorithm; or try again what may have been the machine's fault.

        Raises RunError when most trials fail for one reason.
        """
        if evaluation.reason in WORTH_RETRYING and self._retries[_key(job)] < self.limits.retries:
            if evaluation.reason is Reason.OUT_OF_MEMORY:
                job = replace(job, micro_batches=2 * job.micro_batches)
            self._try_again(job, f"{evaluation.reason}: {_last_line(evaluation.detail)}")
            return
        candidate = self._pending.pop(_key(job))
        if job.replicate > 0:
            self._replicates[_key(job)] = self._write(candidate, job.genotype, job.arch_id, evaluation, job.replicate)
            return
        trial = self._record(candidate, job.genotype, job.arch_id, evaluation)
        self._session.append(trial)
        self._budget.trained()
        for other in self._waiting.pop(job.arch_id, []):
            self._tell(other, trial)
        self._check_failures()

    def lose(self, job: Job, how: str, reason: Reason = Reason.ERROR) -> None:
        """The job's worker is gone: try again as often as `retries` allows, then record the trial as failed."""
        tries = self._retries[_key(job)] + 1
        self.complete(job, Evaluation.failed(reason, how if tries == 1 else f"{how}, at the last of {tries} attempts"))

    def requeue(self, job: Job) -> None:
        """Take back a job that was stopped through no fault of its own; it is given again."""
        self.store.withdraw_attempt(job.arch_id, job.replicate)
        self._again.append(job)

    def close(self) -> None:
        """Take back every job that is out: a resumed search asks for it again, and its attempt does not count."""
        given_back = {_key(job) for job in self._again}
        for identity, replicate in self._pending.keys() - given_back:
            self.store.withdraw_attempt(identity, replicate)
            weights_file(self.run_dir, identity, replicate).unlink(missing_ok=True)

    def _try_again(self, job: Job, why: str) -> None:
        self._retries[_key(job)] += 1
        with_less = f", in {job.micro_batches} parts a batch" if job.micro_batches > 1 else ""
        self.store.record_event("retry", f"trial {job.arch_id}{with_less}: {why}")
        self._again.append(job)

    def _record(self, candidate: Candidate, canonical: Genotype, identity: str, evaluation: Evaluation) -> Trial:
        trial = self._write(candidate, canonical, identity, evaluation, 0)
        self._answer(candidate, trial)
        return trial

    def _write(
        self, candidate: Candidate, canonical: Genotype, identity: str, evaluation: Evaluation, replicate: int
    ) -> Trial:
        trial = Trial(
            arch_id=identity,
            replicate=replicate,
            genotype=canonical,
            architecture=self.space.describe(canonical),
            seed=derive_seed(self.store.info.seed, identity, replicate),
            evaluation=evaluation,
            candidate=candidate,
            retries=self._retries[identity, replicate],
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self.store.record_trial(trial)
        return trial

    def _answer(self, candidate: Candidate, trial: Trial) -> None:
        """Take in a trial, trained now or found in the journal, as the answer to the first candidate of its network."""
        self.trials[trial.arch_id] = trial
        self._status[trial.status] += 1
        changed = trial.is_complete and self._update_front(trial)
        if trial.evaluation.reason is Reason.DISCONNECTED:
            self._cached += 1
        else:
            self._budget.count(trial, self.front if changed else None)
        self._tell(candidate, trial)

    def _tell(self, candidate: Candidate, trial: Trial) -> None:
        self.algorithm.tell(candidate.number, costs(trial.metrics, self.objectives) if trial.is_complete else None)

    def _update_front(self, trial: Trial) -> bool:
        """Let the trial into the front, or not, and drop the weights of whatever is off it."""
        rivals = [*self.front, trial]
        mask = pareto.front_mask(cost_matrix(rivals, self.objectives))
        self.front = [t for t, stays in zip(rivals, mask, strict=True) if stays]
        for rival in (t for t, stays in zip(rivals, mask, strict=True) if not stays):
            # while replaying, a later trial of the journal may have dropped it before
            weights_file(self.run_dir, rival.arch_id, rival.replicate).unlink(missing_ok=True)
        return bool(mask[-1])

    def _front_of_journal(self) -> list[Trial]:
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
            raise RunError(
                f"{n} of the first {len(first)} trials failed for the same reason, {reason}: "
                f"{_last_line(last.evaluation.detail)}. The search stops; what has finished is kept in {self.run_dir}. "
                f"`nasx runs show` prints every failure."
            )

    def progress(self) -> Progress:
        """Where the search stands."""
        return Progress(
            evaluations=self.limits.evaluations,
            evaluated=self._evaluated,
            running=self.running,
            complete=self._status[TrialStatus.COMPLETE],
            failed=self._status[TrialStatus.FAILED],
            infeasible=self._status[TrialStatus.INFEASIBLE],
            cached=self._cached,
            generation=self._generation,
            replicated=len(self._replicates),
            front=tuple(self.front),
            hypervolume=self._budget.hypervolume(self.front),
            elapsed=self._budget.elapsed,
            forecast=self._budget.forecast(),
        )


def _key(trial: Trial | Job) -> Key:
    return trial.arch_id, trial.replicate


def _last_line(text: str) -> str:
    """Of a traceback, what was raised."""
    return text.strip().splitlines()[-1]
