"""Logging of new trials to a tracker by a thread; the first error of the tracker ends it with a warning."""

from __future__ import annotations

import math
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from nasx.execution.loop import SearchLoop
from nasx.files import read_record, write_record
from nasx.trial import Trial

STATE = "tracker.json"  # in the run directory: trials logged by each tracker
WAIT = 30.0  # seconds at the end of a search within which a tracker must log another trial

Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Entry:
    """Finished trial and the progress of the search at that time."""

    trial: Trial
    parents: tuple[str, ...]  # arch_ids of its parents
    step: int  # number of trainings so far
    progress: Mapping[str, float]  # of the search: hypervolume of the estimates, front, ...


class Tracker(Protocol):
    """Service that displays a search. Constructed with its settings; may raise any exception of its library."""

    def begin(self, name: str, config: Mapping[str, Any], run_dir: Path, known: str | None) -> str:
        """Open a run for the search.

        Args:
            name: Name of the experiment.
            config: Config of the search.
            run_dir: Directory of the search.
            known: Id of the run of a previous session, to be continued; None: open a new one.

        Returns:
            The id of the run.
        """

    def log(self, entry: Entry) -> None:
        """Log a trial as a child of the search's run."""

    def end(self, *, finished: bool) -> None:
        """Close the search's run."""


@dataclass(frozen=True)
class TrackerState:
    """Trials that a tracker has logged."""

    run: str  # id of the tracker's run
    trials: tuple[tuple[str, int], ...]  # (arch_id, replicate), sorted


_STATES = TypeAdapter(dict[str, TrackerState])  # by the class name of the tracker


class Tracking:
    """Logs the finished trials of a search to a tracker, each once, also if the search is resumed."""

    def __init__(
        self, tracker: Tracker, name: str, config: Mapping[str, Any], run_dir: Path, *, warn: Warn | None = None
    ) -> None:
        """Start the thread.

        Args:
            tracker: Destination.
            name: Name of the experiment.
            config: Config of the search.
            run_dir: Directory of the run.
            warn: Prints a warning; by default to stderr.
        """
        self._tracker = tracker
        self._begin = (name, config, run_dir)
        self._state_file = run_dir / STATE
        self._kind = type(tracker).__name__
        self._warn = warn or (lambda line: print(line, file=sys.stderr))
        state = _read_states(self._state_file).get(self._kind)
        self._known = None if state is None else state.run  # id of the tracker's run in the previous session
        self._seen = set() if state is None else set(state.trials)  # queued or logged, (arch_id, replicate)
        self._logged = set(self._seen)
        self._networks: dict[int, str] = {}  # number of a candidate -> arch_id
        self._queue: queue.SimpleQueue[Entry | bool] = queue.SimpleQueue()  # a bool ends it
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def watch(self, loop: SearchLoop) -> None:
        """Queue the trials finished since the last call. Fast: it is called several times per second."""
        if self._problem is not None:
            self._report_problem()
            return
        for trial in loop.all_trials:
            key = (trial.arch_id, trial.replicate)
            if key not in self._seen:
                self._seen.add(key)
                self._queue.put(self._entry(trial, loop))

    def close(self, *, finished: bool) -> None:
        """Wait until the queue is empty, or until nothing has been logged for `WAIT` seconds."""
        self._queue.put(finished)
        before = -1
        while self._thread.is_alive() and before < len(self._logged):
            before = len(self._logged)
            self._thread.join(WAIT)
        if self._thread.is_alive():
            self._problem = self._problem or f"no response within {WAIT:g} s"
        if self._problem is not None:
            self._report_problem()

    def _entry(self, trial: Trial, loop: SearchLoop) -> Entry:
        parents = trial.candidate.parents
        if any(number not in self._networks for number in parents):
            self._networks = {each.candidate.number: each.arch_id for each in loop.store.candidates()}
        progress = loop.progress()
        front = progress.summary
        numbers = {
            "hypervolume": front.hypervolume,
            "certain_hypervolume": math.nan if front.certain_hypervolume is None else front.certain_hypervolume,
            "front": len(front.front),
            "failed": progress.failed,
            "retrained": progress.retrained,
        }
        # the parent of a re-training is its own network: leave it out
        ids = tuple(parent for number in parents if (parent := self._networks[number]) != trial.arch_id)
        return Entry(trial, ids, progress.evaluated, numbers)

    def _work(self) -> None:
        """Log the queued trials, in the thread. Any exception ends it with one warning; the search continues."""
        try:
            run_id = self._tracker.begin(*self._begin, self._known)
            while not isinstance(entry := self._queue.get(), bool):
                self._tracker.log(entry)
                self._logged.add((entry.trial.arch_id, entry.trial.replicate))
                state = TrackerState(run_id, tuple(sorted(self._logged)))
                states = {**_read_states(self._state_file), self._kind: state}
                write_record(self._state_file, states, _STATES, indent=None, parents=False, checksum=True)
            self._tracker.end(finished=entry)
        except Exception as exc:
            self._problem = " ".join(str(exc).split())[:200] or type(exc).__name__

    def _report_problem(self) -> None:
        if self._warn is not _silent:
            self._warn(
                f"nasx: {self._kind} cannot be reached ({self._problem}): the search continues without it. "
                "Missing trials are logged when the run is resumed."
            )
            self._warn = _silent


def _silent(line: str) -> None:
    """Print nothing: the warning has been printed."""


def _read_states(file: Path) -> dict[str, TrackerState]:
    """Read the states of all trackers. Raises RunError if the file is damaged."""
    return read_record(file, _STATES, remedy="Remove it: all trials are then logged again.") or {}


def finite_only(numbers: Mapping[str, float]) -> dict[str, float]:
    """Return the finite values as floats: trackers reject the others or draw them at zero."""
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return all settings by their full key.

    >>> flatten({"training": {"epochs": 5}, "seed": 0})
    {'training.epochs': 5, 'seed': 0}
    """
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        leaves |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves
