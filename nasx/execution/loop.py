"""The search loop: between the algorithm that asks, the executor that evaluates, and the journal that remembers.

An executor takes jobs with `next_job` and brings evaluations back with `complete`; everything else happens here, in one
thread. **The journal is the truth**: a resumed loop starts from a fresh algorithm, which is given what it asked before
and the answers of the journal (`nasx.execution.replay`), until it comes to a training that is not recorded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from nasx.evaluation.early_stopping import Prospects
from nasx.execution.budget import Budget, Progress, SearchLimits, check_failures
from nasx.execution.front import Findings, due_replicates
from nasx.execution.jobs import Jobs, Key, key
from nasx.execution.replay import Replay
from nasx.protocols import SearchAlgorithm, SearchSpace
from nasx.reports.summary import ArchitectureResult, FrontSummary
from nasx.runs.directory import weights_file
from nasx.runs.journal import Journal
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
    derive_seed,
)

SHOWN_FAILURES = 3  # in `progress`
MAX_REPLACED = 3  # broken workers for which a job is not to blame
MAX_FREE_ANSWERS = 1000  # candidates in a row that were known: then the space has nothing new


class SearchLoop:
    """Turns candidates into jobs and evaluations into answers, each recorded before the next step.

    `finished` tells that no job will come any more; until then `next_job` gives None only while jobs are out.
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
        """`early_stopping`: whether trainings that cannot reach the front are cut. `gpus`: of a trial; 0 on the CPU.

        `max_parts`: of a batch, see `Jobs`.
        """
        self.run_dir = run_dir
        self.store = store
        self.algorithm = algorithm
        self.space = space
        self.objectives = tuple(objectives)
        self.limits = limits
        self.stopping: str | None = None  # why no further job is given
        self._arch_ids: list[str] = []  # of the candidates, by number
        self._jobs = Jobs(store, run_dir, retries=limits.retries, gpus=gpus, max_parts=max_parts)
        self._waiting: dict[Key, list[Candidate]] = {}  # further candidates of a training whose job is not done
        self._cached = self._known_in_a_row = self._generation = 0
        self._session: list[Trial] = []  # trained in this session because the algorithm asked for it
        self._latest: deque[Trial] = deque(maxlen=limits.failure_window)  # trained in this session
        self._budget = Budget(limits, objectives, store.info.n_classes)
        self._prospects = Prospects(objectives) if early_stopping else None
        self._found = Findings(run_dir, store, self._budget)
        self._budget.begin()
        recorded = (entry.candidate for entry in store.candidates())
        self._replay = Replay(algorithm, objectives, recorded, self._found.by_key)
        self._due_of: tuple[int, list[tuple[Trial, int]]] = (-1, [])  # trials recorded, the extra trainings due then

    @property
    def finished(self) -> bool:
        """Whether all is done: no job is out, and no more will be given."""
        if self.running:
            return False
        return self.stopping is not None or not (self._jobs.come_back or self._wants_networks or self._due())

    @property
    def running(self) -> int:
        """Jobs that are out."""
        return self._jobs.running

    @property
    def incidents(self) -> str:
        """Repeated attempts and replaced workers of this session, in words; empty if there were none."""
        return self._jobs.incidents

    @property
    def trials(self) -> Mapping[str, Trial]:
        """Networks that have been trained, by arch_id, in the order in which that was recorded."""
        return self._found.trials

    @property
    def front(self) -> Sequence[ArchitectureResult]:
        """The front of the estimates from all trials so far."""
        return self.summary().front

    def summary(self) -> FrontSummary:
        """The front and its hypervolume, from all trials so far."""
        return self._found.summary(at_once=True)

    @property
    def all_trials(self) -> list[Trial]:
        """What the journal holds, replicates included."""
        return self._found.all_trials

    @property
    def enough(self) -> str | None:
        """Why no further network is asked for though evaluations are left; replicates are still trained.

        It follows from the journal alone, so that a resumed search goes on where it was. Where a trial that is still
        out changes it, the search goes on too.
        """
        if self._known_in_a_row >= MAX_FREE_ANSWERS:
            return f"{self._known_in_a_row} candidates in a row were known: the space has no network left to try"
        return self._budget.stagnation() if self._replay.is_over else None

    @property
    def _wants_networks(self) -> bool:
        pending = sum(_is_asked(candidate, replicate) for (_, replicate), candidate in self._jobs.pending.items())
        return self._budget.evaluated + pending < self.limits.evaluations and self.enough is None

    def stop(self, why: str) -> None:
        """Give no further job; those that are out may finish."""
        self.stopping = self.stopping or why

    def next_job(self) -> Job | None:
        """The next network to train; None while the algorithm waits for jobs that are out, and when the search ends."""
        if not self.finished and (spent := self._budget.spent(self._jobs.clocks.gpu_seconds)):
            self.stop(spent)
        if self.stopping is not None:
            return None
        if self._jobs.come_back:
            return self._jobs.give_again()
        while self._wants_networks:
            candidate = self._replay.ask()
            if candidate is None:
                if not self._jobs.pending:
                    raise RuntimeError(f"{type(self.algorithm).__name__}.ask gives nothing though all is answered")
                return None
            self._generation = candidate.generation
            cached = self._cached
            job = self._take(candidate)
            self._known_in_a_row = self._known_in_a_row + 1 if self._cached > cached else 0
            if job is not None:
                return self._jobs.give(job, candidate)
        return self._next_replicate()

    def _next_replicate(self) -> Job | None:
        """After the search proper: the next training of a network on or near the front with a further seed."""
        if any(_is_asked(candidate, replicate) for (_, replicate), candidate in self._jobs.pending.items()):
            return None  # the front may still change
        for first, number in self._due():
            training = first.arch_id, number
            if training in self._jobs.pending:
                continue
            if (crashes := self.store.attempts(*training)) >= self.limits.max_crashes:
                self._write(first.candidate, first.genotype, first.arch_id, _crashed(crashes), number)
                return self._next_replicate()
            return self._jobs.give(self._job(first.genotype, *training), first.candidate)
        return None

    def _due(self) -> list[tuple[Trial, int]]:
        if self.limits.replicates == 0:
            return []
        n_recorded = len(self._found.by_key)
        if self._due_of[0] != n_recorded:
            rounds, alleles = self.limits.replicates, self.store.info.alleles
            self._due_of = n_recorded, due_replicates(self.all_trials, self.objectives, rounds, alleles)
        return self._due_of[1]

    def begin(self, job: Job) -> None:
        """A worker has begun with the job."""
        self._jobs.clocks.begin(key(job))

    def _job(self, canonical: Genotype, identity: str, replicate: int) -> Job:
        return Job(
            arch_id=identity,
            replicate=replicate,
            genotype=canonical,
            seed=derive_seed(self.store.info.seed, identity, replicate),
            weights_file=weights_file(self.run_dir.resolve(), identity, replicate),
        )

    def _take(self, candidate: Candidate) -> Job | None:
        """The job that a candidate needs; None if the journal, or the space, answers it."""
        canonical = self.space.canonical(candidate.genotype)
        identity = arch_id(self.space.name, self.space.settings, canonical)
        training = identity, candidate.replicate
        known = self._found.by_key.get(training)
        is_new = known is None and training not in self._jobs.pending
        is_first = is_new or (known is not None and known.candidate.number == candidate.number)
        # written before anything is trained: the journal then refuses a search that asks for something else
        self.store.record_candidate(candidate, identity, answered=not is_first)
        self._arch_ids.append(identity)
        if self._prospects is not None:
            for number in candidate.heard:
                self._prospects.hear(self.trials[self._arch_ids[number]])
        if known is not None:
            self._cached += not is_first or known.evaluation.reason is Reason.DISCONNECTED
            if not is_first and candidate.replicate > 0:  # of an extra round, before the search was extended
                self._budget.count(known, None)
            self._replay.tell(candidate.number, known)
            return None
        if not is_new:
            self._cached += 1
            self._waiting.setdefault(training, []).append(candidate)
            return None
        if candidate.replicate > 0 and identity not in self.trials:
            raise RuntimeError(
                f"{type(self.algorithm).__name__} asks for training {candidate.replicate + 1} of {identity}, which was "
                "never trained"
            )
        if not self.space.is_connected(candidate.genotype):
            self._cached += 1
            detail = "no path leads from the cell's input to its output"
            self._settle(candidate, canonical, identity, Evaluation.infeasible(Reason.DISCONNECTED, detail))
            return None
        crashes = self.store.attempts(*training)
        if crashes >= self.limits.max_crashes:
            self._settle(candidate, canonical, identity, _crashed(crashes))
            return None
        job = self._job(canonical, identity, candidate.replicate)
        # only first trainings are cut: a network whose bad re-trainings are missing would be known by its lucky ones
        if self._prospects is not None and candidate.replicate == 0 and (rungs := self._prospects.rungs):
            return replace(job, rungs=rungs, rivals=self._prospects.rivals)
        return job

    def complete(self, job: Job, evaluation: Evaluation) -> None:
        """Record what came of a job, then tell the algorithm; or try again what may have been the machine's fault.

        Raises RunError if most of the latest trials have failed for one reason.
        """
        if self._jobs.tries_again(job, evaluation):
            return
        candidate, retries, gpu_seconds = self._jobs.end(job)
        trial = self._write(candidate, job.genotype, job.arch_id, evaluation, job.replicate, retries, gpu_seconds)
        self._latest.append(trial)
        if _is_asked(candidate, job.replicate):
            self._replay.tell(candidate.number, trial)
            self._session.append(trial)
            self._budget.trained()
            for other in self._waiting.pop(key(job), []):
                self._replay.tell(other.number, trial)
        check_failures(self._latest, self.limits.max_failure_share, self.run_dir)

    def lose(self, job: Job, how: str, reason: Reason = Reason.ERROR) -> None:
        """The job's worker is gone: try again as often as `retries` allows, then record the trial as failed."""
        tries = self._jobs.attempts(job)
        self.complete(job, Evaluation.failed(reason, how if tries == 1 else f"{how}, at the last of {tries} attempts"))

    def requeue(self, job: Job) -> None:
        """Take back a job that was stopped through no fault of its own; it is given again."""
        self._jobs.take_back(job)

    def replace_worker(self, job: Job, why: str) -> None:
        """Take back the job of a broken worker: the attempt does not count, unless the job has broken several."""
        self.store.record_event("worker_replaced", f"trial {job.arch_id}: {why}")
        if (times := self._jobs.replaced(job)) > MAX_REPLACED:
            self.lose(job, f"{why}. It has broken {times} workers")
        else:
            self.requeue(job)

    def close(self) -> None:
        """Take back every job that is out: a resumed search asks for it again, and its attempt does not count.

        Then record the noise, and keep the weights of the front only.
        """
        self._jobs.close()
        self._found.close()

    def _settle(self, candidate: Candidate, canonical: Genotype, identity: str, evaluation: Evaluation) -> None:
        """Record and tell what needs no training."""
        trial = self._write(candidate, canonical, identity, evaluation, candidate.replicate)
        self._replay.tell(candidate.number, trial)

    def _write(
        self,
        candidate: Candidate,
        canonical: Genotype,
        identity: str,
        evaluation: Evaluation,
        replicate: int = 0,
        retries: int = 0,
        gpu_seconds: float = 0.0,
    ) -> Trial:
        trial = Trial(
            arch_id=identity,
            replicate=replicate,
            genotype=canonical,
            architecture=self.space.describe(canonical),
            seed=derive_seed(self.store.info.seed, identity, replicate),
            evaluation=evaluation,
            candidate=candidate,
            retries=retries,
            gpu_seconds=gpu_seconds,
            finished=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        self.store.record_trial(trial)
        self._found.add(trial)
        return trial

    def progress(self) -> Progress:
        """Where the search stands."""
        failed = (trial for trial in reversed(self._session) if trial.status is TrialStatus.FAILED)
        return Progress(
            evaluations=self.limits.evaluations,
            evaluated=self._budget.evaluated,
            jobs=self._jobs.out(self.space),
            complete=self._found.ended[TrialStatus.COMPLETE],
            failed=self._found.ended[TrialStatus.FAILED],
            infeasible=self._found.ended[TrialStatus.INFEASIBLE],
            dominated=self._found.ended[Reason.DOMINATED],
            cached=self._cached,
            generation=self._generation,
            retrained=self._found.retrained,
            summary=self._found.summary(),
            failures=tuple(islice(failed, SHOWN_FAILURES)),
            elapsed=self._budget.elapsed,
            gpu_hours=(self._budget.gpu_seconds + self._jobs.clocks.gpu_seconds) / 3600,
            forecast=self._budget.forecast(self._jobs.clocks.gpu_seconds),
        )


def _is_asked(candidate: Candidate, replicate: int) -> bool:
    """Whether the algorithm asked for this training; else it belongs to an extra round, `search.replicates`."""
    return candidate.replicate == replicate


def _crashed(times: int) -> Evaluation:
    """A training that is given up because it takes the search down."""
    detail = f"the search died {times} times while this network was trained (search.max_crashes)"
    return Evaluation.failed(Reason.ERROR, detail)
