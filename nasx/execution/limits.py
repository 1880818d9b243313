"""When a search ends, what it puts up with, and where it stands meanwhile."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.trial import Objective, Trial, cost_matrix, costs

MIN_GAIN = 1e-3  # growth of the hypervolume, as a share of it, that counts as growth


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """When a search ends, and what it puts up with."""

    evaluations: int  # networks trained, those that fail included
    replicates: int = 0  # rounds in which networks on or near the front are trained again, after the evaluations
    max_hours: float | None = None  # of this session; None: no limit
    patience: int | None = None  # networks trained without the hypervolume growing by `MIN_GAIN`; None: no limit
    time_limit: float | None = None  # seconds a trial may take; None: no limit
    retries: int = 1  # further attempts for a trial that failed through what may be the machine's fault
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
    replicated: int  # further trainings of networks on or near the front
    front: Sequence[Trial]
    hypervolume: float
    elapsed: float  # seconds of this session
    forecast: float | None  # seconds until the budget is spent; None until it can be told


class Budget:
    """What has been spent, and whether it was worth it."""

    def __init__(self, limits: SearchLimits, objectives: Sequence[Objective], n_classes: int) -> None:
        self.limits = limits
        self.objectives = tuple(objectives)
        self.evaluated = 0
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

    def spent(self) -> str | None:
        """Which limit ends the search now, in words; the evaluations aside."""
        limits = self.limits
        if limits.max_hours is not None and self.elapsed >= 3600 * limits.max_hours:
            return f"the time of search.max_hours={limits.max_hours:g} is over"
        is_searching = self.evaluated < limits.evaluations  # replicates make no hypervolume grow
        if limits.patience is not None and is_searching and self.evaluated - self._marked_at >= limits.patience:
            return f"the hypervolume has not grown by {MIN_GAIN:.1%} within search.patience={limits.patience} trials"
        return None

    def trained(self) -> None:
        """A network was trained in this session."""
        self._trained_at.append(self.elapsed)

    def forecast(self) -> float | None:
        """Seconds until the budget is spent, by the pace since the first training ended; None before the third."""
        if len(self._trained_at) < 3:
            return None
        # the start of the workers before the first is paid once
        pace = (self.elapsed - self._trained_at[0]) / (len(self._trained_at) - 1)
        by_evaluations = pace * max(0, self.limits.evaluations - self.evaluated)
        if self.limits.max_hours is None:
            return by_evaluations
        return min(by_evaluations, max(0.0, 3600 * self.limits.max_hours - self.elapsed))

    def hypervolume(self, front: Sequence[Trial]) -> float:
        """The hypervolume of a front; 0 while it is empty."""
        return self._volume(cost_matrix(front, self.objectives)) if front else 0.0

    def _volume(self, front: NDArray[np.float64]) -> float:
        reference = [float(w) if r is None else r for r, w in zip(self._fixed, self._worst, strict=True)]
        return pareto.hypervolume(front, reference)
