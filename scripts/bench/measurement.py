"""Measurements: results of a benchmark, each with the values of nasx and, if there is one, of a peer.

A benchmark is a module of this folder with a function `benchmark(options)` that yields `Measurement`s, and `Skipped`
for measurements that are impossible on this machine. Contenders take turns, A B A B ..., so that other load on the
machine affects both. Ratios are computed within a turn; their median and range are reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Options:
    """Options of the runner."""

    quick: bool = False  # for CI, minutes in total: checks that everything runs, and roughly how fast
    data_root: Path | None = None  # directory of the published datasets; None: measurements on them are skipped
    repeats: int | None = None  # turns of a whole search; None: the default of the benchmark


@dataclass(frozen=True)
class Measurement:
    """One figure: the factor by which nasx is better than a peer, or, without a peer, a value."""

    what: str
    against: str  # the peer, or the limit if there is no peer
    ours: tuple[float, ...]  # one value per turn
    theirs: tuple[float, ...] = ()  # of the same turns; empty: no peer
    unit: str = "s"
    better: Literal["less", "more"] = "less"
    target: float | None = None  # with a peer: minimum factor; without: bound in `unit`; None: no target
    note: str = ""

    def __post_init__(self) -> None:
        if not self.ours or len(self.theirs) not in (0, len(self.ours)):
            raise ValueError(f"{self.what}: {len(self.ours)} samples of ours, {len(self.theirs)} of the peer")

    @property
    def figures(self) -> tuple[float, ...]:
        """Factor by which nasx is better than the peer, per turn; without a peer the values themselves."""
        if not self.theirs:
            return self.ours
        pairs = zip(self.ours, self.theirs, strict=True)
        return tuple(theirs / ours if self.better == "less" else ours / theirs for ours, theirs in pairs)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def met(self) -> bool | None:
        """True if the median meets the target; None without a target."""
        if self.target is None:
            return None
        at_least = bool(self.theirs) or self.better == "more"
        return self.median >= self.target if at_least else self.median <= self.target

    def record(self) -> dict[str, Any]:
        """Return all fields and derived values as plain data."""
        return {**asdict(self), "figures": self.figures, "median": self.median, "met": self.met}


@dataclass(frozen=True)
class Skipped:
    """Measurement that was not made."""

    what: str
    why: str


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleave(
    contenders: Mapping[str, Callable[[], float]], repeats: int, *, warm_up: bool = False
) -> dict[str, tuple[float, ...]]:
    """Call contenders in turns, A B A B ..., and return their values, one per turn.

    Args:
        contenders: by name; each returns a value, e.g. its seconds.
        repeats: number of turns.
        warm_up: run one more turn first and drop its values.

    >>> interleave({"a": lambda: 1.0, "b": lambda: 2.0}, repeats=2)
    {'a': (1.0, 1.0), 'b': (2.0, 2.0)}
    """
    turns = [{name: run() for name, run in contenders.items()} for _ in range(repeats + warm_up)][int(warm_up) :]
    return {name: tuple(turn[name] for turn in turns) for name in contenders}
