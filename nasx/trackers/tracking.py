"""Between a search and a tracker: which trials are new, and a thread that logs them; trouble ends in one warning."""

from __future__ import annotations

import json
import math
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nasx.errors import RunError
from nasx.execution.loop import SearchLoop
from nasx.files import write_atomically
from nasx.trial import Trial

STATE = "tracker.json"  # in the run directory: the trials that each tracker has
WAIT = 30.0  # seconds at the end of a search in which a tracker must have taken in a further trial

Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Entry:
    """A finished trial and the progress of the search at that moment."""

    trial: Trial
    parents: tuple[str, ...]  # arch_ids of the networks that it descends from
    step: int  # trainings so far
    progress: Mapping[str, float]  # of the search: hypervolume of the estimates, front, ...


class Tracker(Protocol):
    """A service that shows a search. Constructed with its settings; may raise whatever its library raises."""

    def begin(self, name: str, config: Mapping[str, Any], run_dir: Path, known: str | None) -> str:
        """Open the run of a search, or go on with the one that had the id `known`; returns its id."""

    def log(self, entry: Entry) -> None:
        """Log a trial as a child of the search's run."""

    def end(self, *, finished: bool) -> None:
        """Close the search's run."""


class Tracking:
    """Hands the finished trials of a search to a tracker, each once, also when the search is resumed."""

    def __init__(
        self, tracker: Tracker, name: str, config: Mapping[str, Any], run_dir: Path, *, warn: Warn | None = None
    ) -> None:
        self._tracker = tracker
        self._begin = (name, config, run_dir)
        self._state_file = run_dir / STATE
        self._kind = type(tracker).__name__
        self._warn = warn or (lambda line: print(line, file=sys.stderr))
        self._known, self._seen = _read_state(self._state_file, self._kind)
        self._logged = set(self._seen)
        self._networks: dict[int, str] = {}  # number of a candidate -> its network
        self._queue: queue.SimpleQueue[Entry | bool] = queue.SimpleQueue()  # a bool ends it: whether all is done
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
        self._thread.start()

    def watch(self, loop: SearchLoop) -> None:
        """Queue what has finished since the last call. Cheap: it is called several times a second."""
        if self._problem is not None:
            self._tell_problem()
            return
        for trial in loop.all_trials:
            key = (trial.arch_id, trial.replicate)
            if key not in self._seen:
                self._seen.add(key)
                self._queue.put(self._entry(trial, loop))

    def close(self, *, finished: bool) -> None:
        """Wait for what is still queued, as long as something is logged in every `WAIT` seconds."""
        self._queue.put(finished)
        before = -1
        while self._thread.is_alive() and before < len(self._logged):
            before = len(self._logged)
            self._thread.join(WAIT)
        if self._thread.is_alive():
            self._problem = self._problem or f"it takes more than {WAIT:g} s to answer"
        if self._problem is not None:
            self._tell_problem()

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
        # a re-training names its own network: it does not descend from itself
        ids = tuple(parent for number in parents if (parent := self._networks[number]) != trial.arch_id)
        return Entry(trial, ids, progress.evaluated, numbers)

    def _work(self) -> None:
        """The thread. Whatever a tracker raises is one warning: the search goes on without it."""
        try:
            run_id = self._tracker.begin(*self._begin, self._known)
            while not isinstance(entry := self._queue.get(), bool):
                self._tracker.log(entry)
                self._logged.add((entry.trial.arch_id, entry.trial.replicate))
                _write_state(self._state_file, self._kind, run_id, sorted(self._logged))
            self._tracker.end(finished=entry)
        except Exception as exc:
            self._problem = " ".join(str(exc).split())[:200] or type(exc).__name__

    def _tell_problem(self) -> None:
        if self._warn is not _silent:
            self._warn(
                f"nasx: {self._kind} cannot be reached ({self._problem}): the search goes on without it. "
                "What is missing there is logged when the run is resumed."
            )
            self._warn = _silent


def _silent(line: str) -> None:
    """Once is enough."""


def _read_state(file: Path, kind: str) -> tuple[str | None, set[tuple[str, int]]]:
    """The id of the search's run at a tracker of that kind, and the trials logged there; raises RunError on damage."""
    if not file.is_file():
        return None, set()
    try:
        state = json.loads(file.read_bytes()).get(kind)
        return (None, set()) if state is None else (state["run"], {(i, int(n)) for i, n in state["trials"]})
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise RunError(f"{file} is damaged. Remove it: every trial is then logged again.") from exc


def _write_state(file: Path, kind: str, run_id: str, trials: Sequence[tuple[str, int]]) -> None:
    others = json.loads(file.read_bytes()) if file.is_file() else {}
    write_atomically(file, json.dumps({**others, kind: {"run": run_id, "trials": trials}}).encode())


def finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """Those that are finite: trackers refuse the others, or draw them at zero."""
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting by its full key.

    >>> flat({"training": {"epochs": 5}, "seed": 0})
    {'training.epochs': 5, 'seed': 0}
    """
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        leaves |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return leaves
