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

# failures that may be a fault of the machine; the same seed would repeat all others
RETRYABLE = frozenset({Reason.OUT_OF_MEMORY, Reason.TIMEOUT, Reason.ERROR})
MIN_TRIALS = 4  # minimum number of trials for a share of failures
MIN_GAIN = 1e-3  # minimum growth of the hypervolume that renews search.patience, as a share of the hypervolume


def check_failures(latest: Collection[Trial], max_share: float, run_dir: Path) -> None:
    """Raise RunError if too many of the latest trials have failed for one reason.

    Args:
        latest: latest trials of this session.
        max_share: of the trials, in (0, 1], that may fail for one reason.
        run_dir: directory of the run, for the message.
    """
    failed = [trial for trial in latest if trial.status is TrialStatus.FAILED]
    if len(latest) < MIN_TRIALS or not failed:
        return
    reason, n = Counter(trial.evaluation.reason for trial in failed).most_common(1)[0]
    if n / len(latest) > max_share:
        last = next(trial for trial in reversed(failed) if trial.evaluation.reason is reason)
        raise RunError(
            f"{n} of the last {len(latest)} trials failed for the same reason, {reason}: "
            f"{last_line(last.evaluation.detail)}. The search stops; finished trials are kept in {run_dir}. "
            f"`nasx runs show` prints every failure."
        )


def last_line(text: str) -> str:
    """Return the last line of a traceback: the exception. "" for an empty text."""
    return next(reversed(text.strip().splitlines()), "")


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """Stopping criteria and failure tolerance of a search."""

    evaluations: int  # trainings, including failed ones and those that re-train a network
    replicates: int = 0  # rounds after the evaluations that train networks on or near the front again
    max_hours: float | None = None  # of this session; None: no limit
    max_gpu_hours: float | None = None  # of all sessions: GPUs held by trials times hours; None: no limit
    patience: int | None = None  # trainings in a row without `MIN_GAIN` more observed hypervolume; None: no limit
    time_limit: float | None = None  # seconds per trial; None: no limit
    stall_limit: float | None = None  # seconds of a trial without an epoch or a score; None: no limit
    retries: int = 1  # further attempts for a trial whose failure may be a fault of the machine
    max_crashes: int = 6  # crashes of the search during a trial before the trial has failed
    failure_window: int = 20  # number of latest trials of a session that `max_failure_share` refers to
    max_failure_share: float = 0.5  # of the latest trials, for one reason, from the fourth trial on


@dataclass(frozen=True)
class Forecast:
    """Remaining work until the first limit is reached, without replicates."""

    seconds: float
    trials: int  # trainings


@dataclass(frozen=True)
class Running:
    """A trial that waits for a worker or runs on one."""

    arch_id: str
    architecture: str  # string form
    replicate: int
    begun: bool  # whether a worker has begun
    seconds: float  # since then, or since it waits for a worker


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a search, for displays."""

    evaluations: int  # the budget
    evaluated: int  # trainings so far, in all sessions
    jobs: Sequence[Running]  # oldest first
    complete: int
    failed: int
    infeasible: int
    dominated: int  # of the infeasible: stopped early
    cached: int  # candidates without a training: known networks, and genotypes that are disconnected
    generation: int  # of the latest candidate
    retrained: int  # further trainings of networks
    summary: FrontSummary  # a recent one
    failures: Sequence[Trial]  # latest of this session, newest first
    elapsed: float  # seconds of this session
    gpu_hours: float  # of all sessions; 0 on the CPU
    forecast: Forecast | None  # None before the third training of this session

    @property
    def running(self) -> int:
        """Number of trials that wait for a worker or run on one."""
        return len(self.jobs)


class Budget:
    """Trainings, time and GPU time spent by a search, compared with its limits."""

    def __init__(self, limits: SearchLimits, objectives: Sequence[Objective], n_classes: int) -> None:
        """Start the time of this session.

        Args:
            limits: stopping criteria.
            objectives: define the hypervolume for `patience`.
            n_classes: of the dataset, for the reference point.
        """
        self.limits = limits
        self.objectives = tuple(objectives)
        self.evaluated = 0
        self.gpu_seconds = 0.0  # of finished trials
        self._gpu_seconds_before = 0.0  # of former sessions
        self._started = time.monotonic()
        self._trained_at: list[float] = []  # seconds of this session at which a training ended
        self._fixed = [None if (r := o.reference(n_classes)) is None else o.sign * r for o in objectives]
        self._worst = np.full(len(self.objectives), -np.inf)  # highest cost of each objective so far
        self._grown_front: NDArray[np.float64] | None = None  # observed front when its hypervolume last grew
        self._grown_at = 0  # number of trainings at that time

    @property
    def elapsed(self) -> float:
        """Seconds of this session."""
        return time.monotonic() - self._started

    def count(self, trial: Trial, new_front: Sequence[Trial] | None) -> None:
        """Count a training; `new_front`: the observed front if the training has changed it."""
        self.evaluated += 1
        if trial.is_complete:
            self._worst = np.maximum(self._worst, costs(trial.metrics, self.objectives))
        if new_front is None or self.limits.patience is None:
            return
        front = cost_matrix(new_front, self.objectives)
        # both by the current reference point: it moves if it is the worst value so far
        if self._grown_front is None or self._volume(front) > (1 + MIN_GAIN) * self._volume(self._grown_front):
            self._grown_front, self._grown_at = front, self.evaluated

    def time_is_over(self, running: float) -> str | None:
        """Return which limit of time is reached, in words; None if there is time left.

        `running`: GPU-seconds of the trials that are not finished.
        """
        limits = self.limits
        if limits.max_hours is not None and self.elapsed >= 3600 * limits.max_hours:
            return f"the time of search.max_hours={limits.max_hours:g} is over"
        if limits.max_gpu_hours is not None and self.gpu_seconds + running >= 3600 * limits.max_gpu_hours:
            return f"the GPU time of search.max_gpu_hours={limits.max_gpu_hours:g} is spent"
        return None

    def stagnation(self) -> str | None:
        """Return that the hypervolume has stopped growing before the last evaluation, in words; None if it has not."""
        patience = self.limits.patience
        if patience is None or self.evaluated >= self.limits.evaluations:
            return None
        if self.evaluated - self._grown_at < patience:
            return None
        return f"the hypervolume has not grown by {MIN_GAIN:.1%} within search.patience={patience} trials"

    def count_session_training(self) -> None:
        """Note the end of a training in this session, for the forecast."""
        self._trained_at.append(self.elapsed)

    def begin_session(self) -> None:
        """Attribute all GPU time so far to former sessions."""
        self._gpu_seconds_before = self.gpu_seconds

    def forecast(self, running: float) -> Forecast | None:
        """Return the remaining work, by the pace since the end of the first training; None before the third.

        `running`: GPU-seconds of the trials that are not finished.
        """
        if len(self._trained_at) < 3:
            return None
        # the first training includes the start of the workers, which is not repeated
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
