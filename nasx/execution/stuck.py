"""Trials whose worker is stuck: it is frozen, waits for a disk, or hangs outside Python, and cannot stop the trial.

The search counts only seconds in which it runs itself. A healthy worker is not killed because the machine, the batch
job or the container was suspended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from nasx.evaluation.watchdog import GRACE as WORKERS_GRACE
from nasx.evaluation.watchdog import hang_file, stalled
from nasx.execution import leftovers
from nasx.execution.budget import SearchLimits
from nasx.trial import Job

GRACE: Final = WORKERS_GRACE + 5.0  # seconds after a limit, within which a worker must stop a trial or end itself
EVERY: Final = 0.5  # seconds between two looks
SUSPENDED: Final = 5.0  # seconds without a look: this process was suspended, and its workers probably, too
IMPORTS: Final = 120.0  # further seconds for the first trial of a worker that has not imported everything ahead


@dataclass
class _Running:
    """A trial on a worker."""

    worker: Any  # Ray's handle
    job: Job
    seconds: float = 0.0  # since it began
    idle: float = 0.0  # seconds since its last progress
    progress: int | None = None  # time of the file in which the worker notes its progress
    suspended: bool = False


class RunningTrials:
    """Trials that run, their time, and the time since their last progress."""

    def __init__(self, limits: SearchLimits, *, imported_ahead: bool) -> None:
        """`imported_ahead`: whether workers have imported everything before their first trial."""
        self.limits = limits
        self.imported_ahead = imported_ahead
        self._running: dict[str, _Running] = {}
        self._proven: set[Any] = set()  # workers that have made progress
        self._looked = time.monotonic()

    def begin(self, trial: str, worker: Any, job: Job) -> None:
        """Note that a worker has begun."""
        self.look()
        self._running[trial] = _Running(worker, job, progress=_progress(job))

    def end(self, trial: str) -> bool:
        """Remove a trial. Returns whether it was suspended."""
        self.look()
        ended = self._running.pop(trial, None)
        return ended is not None and ended.suspended

    def look(self) -> bool:
        """Count the time since the last look, if it is due. Returns whether it was."""
        passed = time.monotonic() - self._looked
        if passed < EVERY:
            return False
        self._looked += passed
        for running in self._running.values():
            running.suspended |= passed > SUSPENDED
            running.seconds += _awake(passed)
            running.idle += _awake(passed)
            if self.limits.stall_limit is not None and (now := _progress(running.job)) not in (None, running.progress):
                running.progress, running.idle = now, 0.0
                self._proven.add(running.worker)
        return True

    def stuck(self) -> Iterator[tuple[str, Any, str]]:
        """Yield (trial, worker, message) of each trial whose worker has not stopped it."""
        limit, stall = self.limits.time_limit, self.limits.stall_limit
        for trial, running in self._running.items():
            grace = GRACE if self.imported_ahead or running.worker in self._proven else GRACE + IMPORTS
            if limit is not None and running.seconds > limit + grace:
                yield trial, running.worker, f"took longer than search.time_limit, {limit:g} s, and did not stop"
            elif stall is not None and running.idle > stall + grace:
                yield trial, running.worker, f"{stalled(stall)}, and its worker did not stop"


def _awake(passed: float) -> float:
    """Return the seconds since the last look that count."""
    return 0.0 if passed > SUSPENDED else passed


def _progress(job: Job) -> int | None:
    """Return when the worker of a job made progress, None if it has not noted it."""
    try:  # opened, because network file systems may return old times otherwise
        descriptor = os.open(hang_file(job.weights_file), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


class StoppedWorkers:
    """Ray's workers on this machine that are stopped, e.g. by SIGSTOP, also while they start."""

    def __init__(self, limit: float) -> None:
        """`limit`: seconds after which a stopped worker is killed."""
        self.limit = limit
        self._stopped: dict[leftovers.Process, float] = {}
        self._looked = time.monotonic()

    def kill(self, servers: set[leftovers.Process]) -> None:
        """Kill workers that have been stopped for too long; `servers`: of Ray. Looks once a second."""
        passed = time.monotonic() - self._looked
        if passed < 2 * EVERY:
            return
        self._looked += passed
        found = {p for p in leftovers.descendants(servers) - servers if leftovers.is_stopped(p)}
        self._stopped = {p: self._stopped.get(p, 0.0) + _awake(passed) for p in found}
        leftovers.kill({p for p, seconds in self._stopped.items() if seconds > self.limit})
