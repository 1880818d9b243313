"""Jobs of a search: running, requeued and finished, with the GPU time of each and its attempts in the journal."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nasx.execution.budget import RETRYABLE, Running, last_line
from nasx.protocols import SearchSpace
from nasx.runs.directory import remove_file, weights_file
from nasx.runs.journal import Journal
from nasx.runs.weights import RETRY, retry_message
from nasx.trial import Candidate, Evaluation, Genotype, Job, Reason, Trial, derive_seed

Key = tuple[str, int]  # of a trial: arch_id of its network, number of the training (0 is the first)


def key(trial: Trial | Job) -> Key:
    """Return the key of a trial or of its job."""
    return trial.arch_id, trial.replicate


def is_requested(candidate: Candidate, replicate: int) -> bool:
    """Return whether the algorithm requested this training; otherwise it belongs to the rounds of search.replicates."""
    return candidate.replicate == replicate


class Clocks:
    """Time of each trial that waits for a worker or runs on one, and the GPU-seconds of its attempts."""

    def __init__(self, gpus: float) -> None:
        """`gpus`: GPUs of a trial, may be a fraction; 0 on the CPU."""
        self.gpus = gpus
        self._active: dict[Key, tuple[bool, float]] = {}  # whether a worker has begun, and since when it runs or waits
        self._gpu_seconds: dict[Key, float] = {}  # of finished attempts, of trials that are not finished

    def wait(self, trial: Key) -> None:
        """Start the time in which a trial waits for a worker. It uses no GPU."""
        self._active[trial] = False, time.monotonic()

    def begin(self, trial: Key) -> None:
        """Start the time in which a worker runs the trial."""
        self._active[trial] = True, time.monotonic()

    def stop(self, trial: Key) -> None:
        """Stop the time of an attempt, and add up its GPU-seconds."""
        begun, since = self._active.pop(trial, (False, 0.0))
        if begun:
            self._gpu_seconds[trial] = self._gpu_seconds.get(trial, 0.0) + self.gpus * (time.monotonic() - since)

    def remove(self, trial: Key) -> float:
        """Remove a finished trial. Returns the GPU-seconds of all its attempts."""
        self.stop(trial)
        return self._gpu_seconds.pop(trial, 0.0)

    def active(self) -> Iterator[tuple[Key, bool, float]]:
        """Yield (trial, whether a worker has begun, seconds since then or since it waits), oldest first."""
        now = time.monotonic()
        return ((trial, begun, now - since) for trial, (begun, since) in self._active.items())

    @property
    def gpu_seconds(self) -> float:
        """GPU-seconds of all trials that have not been removed."""
        return sum(self._gpu_seconds.values()) + sum(
            self.gpus * seconds for _, begun, seconds in self.active() if begun
        )


class Jobs:
    """Trials from their assignment to a worker until their evaluation; every attempt is recorded in the journal."""

    def __init__(
        self,
        store: Journal,
        run_dir: Path,
        *,
        retries: int,
        max_crashes: int,
        gpus: float,
        max_parts: int | None = None,
    ) -> None:
        """Start without jobs.

        Args:
            store: journal of the run.
            run_dir: directory of the run, for the weights.
            retries: further attempts of a trial whose failure may be a fault of the machine.
            max_crashes: crashes of the search during a trial before the trial has failed.
            gpus: GPUs of a trial; 0 on the CPU.
            max_parts: maximum number of parts into which a batch is split if memory is short. Splits up to it do not
                count as retries. None: unknown, each split is a retry.
        """
        self.store = store
        self.run_dir = run_dir
        self.retries = retries
        self.max_crashes = max_crashes
        self.max_parts = max_parts
        self.clocks = Clocks(gpus)
        self.pending: dict[Key, Candidate] = {}  # trials without an evaluation, running or returned
        self._returned: deque[Job] = deque()  # jobs of pending trials that workers returned without an evaluation
        self._closed: set[Key] = set()  # taken back at the end
        self._retried: Counter[Key] = Counter()  # retries so far, limited by `retries`
        self._failed: Counter[Key] = Counter()  # failed attempts, including those for lack of memory
        self._replaced: Counter[Key] = Counter()  # broken workers that had the job

    @property
    def running(self) -> int:
        """Number of jobs that workers have."""
        return len(self.pending) - len(self._returned)

    @property
    def returned(self) -> int:
        """Number of jobs that will be assigned again."""
        return len(self._returned)

    @property
    def requested(self) -> int:
        """Number of pending trials that the algorithm requested."""
        return sum(is_requested(candidate, replicate) for (_, replicate), candidate in self.pending.items())

    @property
    def incidents(self) -> str:
        """Repeated attempts and replaced workers of this session, in words; empty if there were none."""
        counts = ((self._failed.total(), "attempt", "repeated"), (self._replaced.total(), "worker", "replaced"))
        return ", ".join(f"{n} {noun}{'s' * (n > 1)} {verb}" for n, noun, verb in counts if n)

    def make(self, genotype: Genotype, arch_id: str, replicate: int) -> Job:
        """Return the job of a training, with its own seed and weights file.

        Args:
            genotype: canonical genotype of the network.
            arch_id: of the network.
            replicate: number of the training; 0 is the first.
        """
        return Job(
            arch_id=arch_id,
            replicate=replicate,
            genotype=genotype,
            seed=derive_seed(self.store.info.seed, arch_id, replicate),
            weights_file=weights_file(self.run_dir.resolve(), arch_id, replicate),
            run_inode=self.store.place.inode,
        )

    def too_many_crashes(self, trial: Key) -> Evaluation | None:
        """Return the evaluation of a trial during which the search has crashed too often; None if it has not."""
        crashes = self.store.attempts(*trial)
        if crashes < self.max_crashes:
            return None
        detail = f"the search died {crashes} times while this network was trained (search.max_crashes)"
        return Evaluation.failed(Reason.ERROR, detail)

    def assign(self, job: Job, candidate: Candidate) -> Job:
        """Record an attempt at the job of a candidate, and return the job for a worker."""
        self.store.record_attempt(job.arch_id, job.replicate)
        self.pending[key(job)] = candidate
        self.clocks.wait(key(job))
        return job

    def assign_again(self) -> Job:
        """Return the job that was returned first, for a worker."""
        job = self._returned.popleft()
        return self.assign(job, self.pending[key(job)])

    def requeue(self, job: Job) -> None:
        """Take back a job that stopped for a reason outside of it: the attempt does not count."""
        self.store.withdraw_attempt(job.arch_id, job.replicate)
        self._return(job)

    def count_replaced(self, job: Job) -> int:
        """Count one more broken worker that had the job. Returns their number."""
        self._replaced[key(job)] += 1
        return self._replaced[key(job)]

    def retry(self, job: Job, evaluation: Evaluation) -> bool:
        """Requeue a job whose failure may be a fault of the machine. Returns whether it was requeued.

        A job fails for good after `retries` further attempts. If memory is short, the next attempt splits batches into
        twice as many parts, down to two images each.
        """
        short = evaluation.reason is Reason.OUT_OF_MEMORY
        splits = short and (self.max_parts is None or 2 * job.micro_batches <= self.max_parts)
        if not splits or self.max_parts is None:
            if evaluation.reason not in RETRYABLE or self._retried[key(job)] >= self.retries:
                return False
            self._retried[key(job)] += 1
        if splits:
            job = replace(job, micro_batches=2 * job.micro_batches)
        self._failed[key(job)] += 1
        why = f"{evaluation.reason}: {last_line(evaluation.detail)}"
        self.store.record_event(RETRY, retry_message(job.arch_id, job.micro_batches, why), key(job))
        self._return(job)
        return True

    def _return(self, job: Job) -> None:
        self.clocks.stop(key(job))
        self._returned.append(job)

    def attempts(self, job: Job) -> int:
        """Return the number of attempts at the job in this session, including the current one."""
        return self._failed[key(job)] + 1

    def finish(self, job: Job) -> tuple[Candidate, int, float]:
        """Remove a job that has its evaluation.

        Returns:
            Its candidate, the number of attempts before the last, and the GPU-seconds of all attempts.
        """
        return self.pending.pop(key(job)), self._failed[key(job)], self.clocks.remove(key(job))

    def close(self, store: Journal) -> None:
        """Take back every running job without counting the attempt: a resumed search assigns it again.

        `store`: the journal, opened by the current thread. Each attempt is withdrawn once, whoever calls.
        """
        returned = {key(job) for job in self._returned}
        for arch_id, replicate in self.pending.keys() - returned - self._closed:
            self._closed.add((arch_id, replicate))
            store.withdraw_attempt(arch_id, replicate)
            if store.is_in_place:  # otherwise a file at this path may be of another run
                remove_file(weights_file(self.run_dir, arch_id, replicate))

    def active(self, space: SearchSpace) -> tuple[Running, ...]:
        """Return the jobs that wait for a worker or run on one, oldest first."""
        jobs = []
        for (arch_id, replicate), begun, seconds in self.clocks.active():
            candidate = self.pending[arch_id, replicate]
            architecture = space.describe(space.canonical(candidate.genotype))
            jobs.append(Running(arch_id, architecture, replicate, begun, seconds))
        return tuple(jobs)
