"""Search budget: stopping criteria, failure tolerance, progress."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.errors import RunError
from nasx.reports.summary import FrontSummary
from nasx.trial import Objective, Reason, Trial, TrialStatus, cost_matrix, costs

# what may be the machine's fault and is tried again; the others would come out the same from the same seed
WORTH_RETRYING = frozenset({Reason.OUT_OF_MEMORY, Reason.TIMEOUT, Reason.ERROR})
MIN_WATCHED = 4  # trials before a share of them says something


def check_failures(latest: Collection[Trial], max_share: float, run_dir: Path) -> None:
    """Raise RunError if more than `max_share` of the latest trials of a session have failed for one reason."""
    failed = [trial for trial in latest if trial.status is TrialStatus.FAILED]
    if len(latest) < MIN_WATCHED or not failed:
        return
    reason, n = Counter(trial.evaluation.reason for trial in failed).most_common(1)[0]
    if n / len(latest) > max_share:
        last = next(trial for trial in reversed(failed) if trial.evaluation.reason is reason)
        raise RunError(
            f"{n} of the last {len(latest)} trials failed for the same reason, {reason}: "
            f"{last_line(last.evaluation.detail)}. The search stops; what has finished is kept in {run_dir}. "
            f"`nasx runs show` prints every failure."
        )


def last_line(text: str) -> str:
    """Return the last line of a traceback: the exception. Empty for an empty text."""
    return next(reversed(text.strip().splitlines()), "")


MIN_GAIN = 1e-3  # growth of the hypervolume, as a share of it, that counts as growth


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """When a search ends, and what it puts up with."""

    evaluations: int  # trainings, those that fail included, and those of known networks
    replicates: int = 0  # rounds in which networks on or near the front are trained again, after the evaluations
    max_hours: float | None = None  # of this session; None: no limit
    max_gpu_hours: float | None = None  # of all sessions, GPUs times the time that trials had them; None: no limit
    patience: int | None = None  # trainings in a row without `MIN_GAIN` more observed hypervolume; None: no limit
    time_limit: float | None = None  # seconds a trial may take; None: no limit
    stall_limit: float | None = None  # seconds a trial may take without an epoch or a score; None: no limit
    retries: int = 1  # further attempts for a trial that failed through what may be the machine's fault
    max_crashes: int = 6  # searches that may die while a trial runs, before the trial counts as failed
    failure_window: int = 20  # latest trials of a session that are watched for a common failure
    max_failure_share: float = 0.5  # of them, for one reason, from the fourth trial on


@dataclass(frozen=True)
class Forecast:
    """What is to come until the first limit is reached, replicates aside."""

    seconds: float
    trials: int  # networks to be trained


@dataclass(frozen=True)
class Running:
    """A trial that is out."""

    arch_id: str
    architecture: str  # string form
    replicate: int
    begun: bool  # whether a worker has begun with it
    seconds: float  # since then, or since it waits for one


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a search stands: plain data for displays."""

    evaluations: int  # the budget
    evaluated: int  # networks trained so far, in this session or before
    jobs: Sequence[Running]  # that are out, the oldest first
    complete: int
    failed: int
    infeasible: int
    dominated: int  # of the infeasible: stopped early
    cached: int  # candidates answered from the journal, or known to be no network
    generation: int  # of the candidate last asked
    retrained: int  # trainings of networks that were known
    summary: FrontSummary  # the front, of a moment ago
    failures: Sequence[Trial]  # the last of this session, the newest first
    elapsed: float  # seconds of this session
    gpu_hours: float  # of all sessions; 0 on the CPU
    forecast: Forecast | None  # None until it can be told

    @property
    def running(self) -> int:
        """Trials that are out."""
        return len(self.jobs)


class Budget:
    """What has been spent, and whether it was worth it."""

    def __init__(self, limits: SearchLimits, objectives: Sequence[Objective], n_classes: int) -> None:
        self.limits = limits
        self.objectives = tuple(objectives)
        self.evaluated = 0
        self.gpu_seconds = 0.0  # of trials that have ended
        self._gpu_seconds_before = 0.0  # this session
        self._started = time.monotonic()
        self._trained_at: list[float] = []  # seconds into this session at which a training ended
        self._fixed = [None if (r := o.reference(n_classes)) is None else o.sign * r for o in objectives]
        self._worst = np.full(len(self.objectives), -np.inf)  # cost seen
        self._mark: NDArray[np.float64] | None = None  # the front when its hypervolume grew last
        self._marked_at = 0

    @property
    def elapsed(self) -> float:
        """Seconds of this session."""
        return time.monotonic() - self._started

    def count(self, trial: Trial, new_front: Sequence[Trial] | None) -> None:
        """Take in a trained network, and the front where it has changed."""
        self.evaluated += 1
        if trial.is_complete:
            self._worst = np.maximum(self._worst, costs(trial.metrics, self.objectives))
        if new_front is None or self.limits.patience is None:
            return
        front = cost_matrix(new_front, self.objectives)
        # both by today's reference point: where the worst value seen stands in for one, it moves
        if self._mark is None or self._volume(front) > (1 + MIN_GAIN) * self._volume(self._mark):
            self._mark, self._marked_at = front, self.evaluated

    def spent(self, running: float) -> str | None:
        """Which limit of time ends the search now, in words. `running`: GPU-seconds of the trials that are out."""
        limits = self.limits
        if limits.max_hours is not None and self.elapsed >= 3600 * limits.max_hours:
            return f"the time of search.max_hours={limits.max_hours:g} is over"
        if limits.max_gpu_hours is not None and self.gpu_seconds + running >= 3600 * limits.max_gpu_hours:
            return f"the GPU time of search.max_gpu_hours={limits.max_gpu_hours:g} is spent"
        return None

    def stagnation(self) -> str | None:
        """Whether the search has stopped finding anything, in words, while it may still train networks."""
        patience = self.limits.patience
        if patience is None or self.evaluated >= self.limits.evaluations:
            return None
        if self.evaluated - self._marked_at < patience:
            return None
        return f"the hypervolume has not grown by {MIN_GAIN:.1%} within search.patience={patience} trials"

    def trained(self) -> None:
        """A network was trained in this session."""
        self._trained_at.append(self.elapsed)

    def begin(self) -> None:
        """What has been spent so far was spent before this session."""
        self._gpu_seconds_before = self.gpu_seconds

    def forecast(self, running: float) -> Forecast | None:
        """What is to come, by the pace since the first training ended; None before the third.

        `running`: GPU-seconds of the trials that are out.
        """
        if len(self._trained_at) < 3:
            return None
        # the start of the workers before the first is paid once
        pace = (self.elapsed - self._trained_at[0]) / (len(self._trained_at) - 1)
        trials = max(0, self.limits.evaluations - self.evaluated)
        seconds = pace * trials
        if self.limits.max_hours is not None:
            seconds = min(seconds, max(0.0, 3600 * self.limits.max_hours - self.elapsed))
        if self.limits.max_gpu_hours is not None:
            spent = self.gpu_seconds + running
            rate = (spent - self._gpu_seconds_before) / self.elapsed  # GPUs held at a time
            left = max(0.0, 3600 * self.limits.max_gpu_hours - spent)
            seconds = min(seconds, left / rate) if rate > 0 else seconds
        return Forecast(seconds, min(trials, round(seconds / pace)) if pace > 0 else trials)

    def _volume(self, front: NDArray[np.float64]) -> float:
        reference = [float(w) if r is None else r for r, w in zip(self._fixed, self._worst, strict=True)]
        return pareto.hypervolume(front, reference)
