"""Candidates of the algorithm: which of them need a training, and which the journal or the space answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nasx.evaluation.early_stopping import EarlyStopping
from nasx.execution.front import RecordedTrials
from nasx.execution.jobs import Jobs, Key, key
from nasx.execution.replay import Replay
from nasx.protocols import SearchAlgorithm, SearchSpace
from nasx.trial import Candidate, Evaluation, Job, Objective, Reason, Trial, arch_id

MAX_KNOWN_IN_A_ROW = 1000  # candidates in a row with known networks before the space counts as exhausted


class Candidates:
    """Requests candidates, records them, turns them into jobs, and returns the results to the algorithm."""

    def __init__(
        self,
        *,
        algorithm: SearchAlgorithm,
        space: SearchSpace,
        objectives: Sequence[Objective],
        recorded: RecordedTrials,
        jobs: Jobs,
        early_stopping: bool,
    ) -> None:
        """Start with the replay of the recorded candidates.

        Args:
            algorithm: a fresh one.
            space: of the candidates.
            objectives: define the costs that the algorithm receives.
            recorded: trials of the run; it may grow.
            jobs: trainings that are not finished.
            early_stopping: stop trainings that cannot reach the front.
        """
        self.algorithm = algorithm
        self.space = space
        self.recorded = recorded
        self.jobs = jobs
        self.cached = 0  # candidates without a training: known networks, and genotypes that are disconnected
        self.generation = 0  # of the latest candidate
        self._known_in_a_row = 0
        self._arch_ids: list[str] = []  # of the candidates, by number
        self._waiting: dict[Key, list[Candidate]] = {}  # further candidates of pending trainings
        self._early_stopping = EarlyStopping(objectives) if early_stopping else None
        former = (entry.candidate for entry in recorded.store.candidates())
        self._replay = Replay(algorithm, objectives, former, recorded.by_key)

    @property
    def is_replayed(self) -> bool:
        """Return whether every recorded candidate has been requested again."""
        return self._replay.is_over

    @property
    def exhausted(self) -> str | None:
        """Return that the space has no new networks, in words; None if it may have some."""
        if self._known_in_a_row < MAX_KNOWN_IN_A_ROW:
            return None
        return f"{self._known_in_a_row} candidates in a row were known: the space has no network left to try"

    def ask(self) -> Candidate | None:
        """Return the next candidate; None while the algorithm waits for results."""
        candidate = self._replay.ask()
        if candidate is not None:
            self.generation = candidate.generation
        elif not self.jobs.pending:
            raise RuntimeError(f"{type(self.algorithm).__name__}.ask returned None although no training is pending")
        return candidate

    def take(self, candidate: Candidate) -> Job | None:
        """Record a candidate. Return the job that it needs; None if its network is known, pending or not trainable."""
        cached = self.cached
        job = self._take(candidate)
        self._known_in_a_row = self._known_in_a_row + 1 if self.cached > cached else 0
        return job

    def _take(self, candidate: Candidate) -> Job | None:
        canonical = self.space.canonical(candidate.genotype)
        identity = arch_id(self.space.name, self.space.settings, canonical)
        job = self.jobs.make(canonical, identity, candidate.replicate)
        known, is_pending = self.recorded.by_key.get(key(job)), key(job) in self.jobs.pending
        is_first = not is_pending if known is None else known.candidate.number == candidate.number
        # recorded before any training: from then on the journal refuses a search that requests another candidate here
        self.recorded.store.record_candidate(candidate, identity, answered=not is_first)
        self._arch_ids.append(identity)
        if self._early_stopping is not None:
            for number in candidate.heard:
                self._early_stopping.add(self.recorded.first_trials[self._arch_ids[number]])
        if known is not None:
            self.cached += not is_first or known.evaluation.reason is Reason.DISCONNECTED
            if not is_first and candidate.replicate > 0:  # trained in an extra round, before the search was extended
                self.recorded.budget.count(known, None)
            self._replay.tell(candidate.number, known)
        elif is_pending:
            self.cached += 1
            self._waiting.setdefault(key(job), []).append(candidate)
        elif (failure := self._check_trainable(job, candidate)) is not None:
            self._replay.tell(candidate.number, self.recorded.record(job, candidate, failure))
        else:
            return self._with_rungs(job)
        return None

    def _check_trainable(self, job: Job, candidate: Candidate) -> Evaluation | None:
        """Return the evaluation of a job that cannot be trained; None if it can."""
        if job.replicate > 0 and job.arch_id not in self.recorded.first_trials:
            raise RuntimeError(
                f"{type(self.algorithm).__name__} asks for training {job.replicate + 1} of {job.arch_id}, which was "
                "never trained"
            )
        if not self.space.is_connected(candidate.genotype):
            self.cached += 1
            return Evaluation.infeasible(Reason.DISCONNECTED, "no path leads from the cell's input to its output")
        return self.jobs.too_many_crashes(key(job))

    def _with_rungs(self, job: Job) -> Job:
        """Return a job with the rungs of early stopping, if it is the first training of its network.

        Re-trainings are never stopped: only the good ones would remain, and the estimate of the network be too good.
        """
        if self._early_stopping is None or job.replicate > 0 or not (rungs := self._early_stopping.rungs):
            return job
        return replace(job, rungs=rungs, rivals=self._early_stopping.rivals)

    def tell(self, candidate: Candidate, trial: Trial) -> None:
        """Return the trial of a training to the algorithm, for every candidate that waits for it."""
        self._replay.tell(candidate.number, trial)
        for other in self._waiting.pop(key(trial), []):
            self._replay.tell(other.number, trial)
