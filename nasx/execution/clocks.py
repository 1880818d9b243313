"""When the trials that are out were given to a worker, and how long each has held its GPUs."""

from __future__ import annotations

import time
from collections.abc import Iterator

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
