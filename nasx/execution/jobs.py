"""Jobs of a search: queued, running, finished and requeued, with the time that each has held a worker and its GPUs."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nasx.execution.budget import WORTH_RETRYING, Running, last_line
from nasx.protocols import SearchSpace
from nasx.runs.directory import weights_file
from nasx.runs.journal import Journal
from nasx.trial import Candidate, Evaluation, Job, Reason, Trial

Key = tuple[str, int]  # of a trial: its network's arch_id, and which training of it


class Clocks:
    """A clock for each trial that is out. `gpus`: of a trial, may be a fraction; 0 on the CPU."""

    def __init__(self, gpus: float) -> None:
        self.gpus = gpus
        self._out: dict[Key, tuple[bool, float]] = {}  # whether a worker has begun, and when it did, or was asked
        self._held: dict[Key, float] = {}  # GPU-seconds of attempts that have ended, of trials that have not

    def give(self, trial: Key) -> None:
        """The trial waits for a worker from now on, and holds no GPU."""
        self._out[trial] = False, time.monotonic()

    def begin(self, trial: Key) -> None:
        """A worker has begun with it."""
        self._out[trial] = True, time.monotonic()

    def stop(self, trial: Key) -> None:
        """The worker has given it back, for now or for good."""
        begun, since = self._out.pop(trial, (False, 0.0))
        if begun:
            self._held[trial] = self._held.get(trial, 0.0) + self.gpus * (time.monotonic() - since)

    def take(self, trial: Key) -> float:
        """The GPU-seconds of all attempts at a trial, which is then forgotten."""
        self.stop(trial)
        return self._held.pop(trial, 0.0)

    def out(self) -> Iterator[tuple[Key, bool, float]]:
        """(trial, whether a worker has begun, seconds since then or since it waits), the oldest first."""
        now = time.monotonic()
        return ((trial, begun, now - since) for trial, (begun, since) in self._out.items())

    @property
    def gpu_seconds(self) -> float:
        """Of all trials that have not been taken."""
        return sum(self._held.values()) + sum(self.gpus * seconds for _, begun, seconds in self.out() if begun)


class Jobs:
    """Trials from when they are given to a worker until they are recorded; every attempt is in the journal.

    `retries`: further attempts that a trial has. `gpus`: of a trial; 0 on the CPU. `max_parts`: into so many parts a
    batch can be split if memory is short, which does not count as a retry; None: not known, each split is a retry.
    """

    def __init__(
        self, store: Journal, run_dir: Path, *, retries: int, gpus: float, max_parts: int | None = None
    ) -> None:
        self.store = store
        self.run_dir = run_dir
        self.retries = retries
        self.max_parts = max_parts
        self.clocks = Clocks(gpus)
        self.pending: dict[Key, Candidate] = {}  # trials that wait for their evaluation, be they out or not
        self._again: deque[Job] = deque()  # jobs of them that came back without one
        self._retried: Counter[Key] = Counter()  # what `retries` limits
        self._failed: Counter[Key] = Counter()  # attempts, those for lack of memory included
        self._replaced: Counter[Key] = Counter()  # broken workers that had the job

    @property
    def running(self) -> int:
        """Jobs that are out."""
        return len(self.pending) - len(self._again)

    @property
    def come_back(self) -> int:
        """Jobs that are to be given again."""
        return len(self._again)

    @property
    def incidents(self) -> str:
        """Repeated attempts and replaced workers of this session, in words; empty if there were none."""
        counts = ((self._failed.total(), "attempt", "repeated"), (self._replaced.total(), "worker", "replaced"))
        return ", ".join(f"{n} {what}{'s' * (n > 1)} {done}" for n, what, done in counts if n)

    def give(self, job: Job, candidate: Candidate) -> Job:
        """The job of a candidate, as it goes out."""
        self.store.record_attempt(job.arch_id, job.replicate)
        self.pending[key(job)] = candidate
        self.clocks.give(key(job))
        return job

    def give_again(self) -> Job:
        """The job that came back first, as it goes out again."""
        job = self._again.popleft()
        return self.give(job, self.pending[key(job)])

    def take_back(self, job: Job) -> None:
        """The job was stopped through no fault of its own: the attempt does not count."""
        self.store.withdraw_attempt(job.arch_id, job.replicate)
        self._come_back(job)

    def replaced(self, job: Job) -> int:
        """Count one more broken worker that had the job; returns how many there were."""
        self._replaced[key(job)] += 1
        return self._replaced[key(job)]

    def tries_again(self, job: Job, evaluation: Evaluation) -> bool:
        """Whether the job is tried again: what may have been the machine's fault, as often as `retries` allows.

        If memory was short, in smaller parts of a batch, down to two images each.
        """
        short = evaluation.reason is Reason.OUT_OF_MEMORY
        splits = short and (self.max_parts is None or 2 * job.micro_batches <= self.max_parts)
        if not splits or self.max_parts is None:
            if evaluation.reason not in WORTH_RETRYING or self._retried[key(job)] >= self.retries:
                return False
            self._retried[key(job)] += 1
        if splits:
            job = replace(job, micro_batches=2 * job.micro_batches)
        self._failed[key(job)] += 1
        with_less = f", in {job.micro_batches} parts a batch" if job.micro_batches > 1 else ""
        why = f"{evaluation.reason}: {last_line(evaluation.detail)}"
        self.store.record_event("retry", f"trial {job.arch_id}{with_less}: {why}")
        self._come_back(job)
        return True

    def _come_back(self, job: Job) -> None:
        self.clocks.stop(key(job))
        self._again.append(job)

    def attempts(self, job: Job) -> int:
        """Attempts at the job in this session, this one included."""
        return self._failed[key(job)] + 1

    def end(self, job: Job) -> tuple[Candidate, int, float]:
        """The job has its evaluation: its candidate, attempts before this one, GPU-seconds of all attempts."""
        return self.pending.pop(key(job)), self._failed[key(job)], self.clocks.take(key(job))

    def close(self) -> None:
        """Take back every job that is out: a resumed search asks for it again."""
        given_back = {key(job) for job in self._again}
        for identity, replicate in self.pending.keys() - given_back:
            self.store.withdraw_attempt(identity, replicate)
            weights_file(self.run_dir, identity, replicate).unlink(missing_ok=True)

    def out(self, space: SearchSpace) -> tuple[Running, ...]:
        """The jobs that are out, the oldest first."""
        jobs = []
        for (identity, replicate), begun, seconds in self.clocks.out():
            candidate = self.pending[identity, replicate]
            architecture = space.describe(space.canonical(candidate.genotype))
            jobs.append(Running(identity, architecture, replicate, begun, seconds))
        return tuple(jobs)


def key(trial: Trial | Job) -> Key:
    return trial.arch_id, trial.replicate
