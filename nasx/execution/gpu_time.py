"""How long trials hold their GPUs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Hashable


class GpuTime:
    """A clock for each trial that runs while a worker has it, and counts GPUs times seconds.

    `gpus`: of a trial, may be a fraction; 0: nothing is counted.
    """

    def __init__(self, gpus: float) -> None:
        self.gpus = gpus
        self._since: dict[Hashable, float] = {}  # running clocks: when they were started
        self._held: Counter[Hashable] = Counter()  # GPU-seconds of attempts that have ended

    def start(self, trial: Hashable) -> None:
        if self.gpus:
            self._since[trial] = time.monotonic()

    def stop(self, trial: Hashable) -> None:
        """The worker has given the trial back, for now or for good."""
        if trial in self._since:
            self._held[trial] += self.gpus * (time.monotonic() - self._since.pop(trial))  # type: ignore[assignment]

    def take(self, trial: Hashable) -> float:
        """GPU-seconds of all attempts at a trial, which is then forgotten."""
        self.stop(trial)
        return float(self._held.pop(trial, 0.0))

    @property
    def running(self) -> float:
        """GPU-seconds of all trials that have not been taken."""
        now = time.monotonic() if self._since else 0.0
        return sum(self._held.values()) + self.gpus * sum(now - since for since in self._since.values())
