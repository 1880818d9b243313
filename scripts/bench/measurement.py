"""What a benchmark gives: measurements, each ours beside what people would use instead.

A benchmark is a module of this folder with a function `benchmark(options)` that yields `Measurement`s, and `Skipped`
for what cannot be measured here. Contenders take turns, A B A B ..., so that other load on the machine meets both, and
a ratio is taken within a turn; its median and spread are reported.
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
    """What the user of the runner chose."""

    quick: bool = False  # minutes in all, for CI: does everything run, roughly how fast
    data_root: Path | None = None  # directory of the published datasets; None: what needs them is skipped
    repeats: int | None = None  # turns of a whole search; None: as many as fit into the runner's time


@dataclass(frozen=True)
class Measurement:
    """One figure: how many times better than a peer, or, without a peer, a value by itself."""

    what: str
    against: str  # the peer, or the limit where there is none
    ours: tuple[float, ...]  # one a turn
    theirs: tuple[float, ...] = ()  # of the same turns; empty: `ours` is judged by itself
    unit: str = "s"
    better: Literal["less", "more"] = "less"
    target: float | None = None  # with a peer: times better, at least; without: a bound in `unit`; None: told only
    note: str = ""

    def __post_init__(self) -> None:
        if not self.ours or len(self.theirs) not in (0, len(self.ours)):
            raise ValueError(f"{self.what}: {len(self.ours)} samples of ours, {len(self.theirs)} of the peer")

    @property
    def figures(self) -> tuple[float, ...]:
        """Times better than the peer, one a turn; without a peer the values themselves."""
        if not self.theirs:
            return self.ours
        pairs = zip(self.ours, self.theirs, strict=True)
        return tuple(theirs / ours if self.better == "less" else ours / theirs for ours, theirs in pairs)

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None where there is none."""
        if self.target is None:
            return None
        at_least = bool(self.theirs) or self.better == "more"
        return self.median >= self.target if at_least else self.median <= self.target

    def record(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {**asdict(self), "figures": self.figures, "median": self.median, "met": self.met}


@dataclass(frozen=True)
class Skipped:
    """A measurement that was not taken."""

    what: str
    why: str


def seconds_of(work: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleave(
    contenders: Mapping[str, Callable[[], float]], repeats: int, *, warm_up: bool = False
) -> dict[str, tuple[float, ...]]:
    """What each contender returns in each of `repeats` turns, A B A B ...; a turn to warm up does not count.

    >>> interleave({"a": lambda: 1.0, "b": lambda: 2.0}, repeats=2)
    {'a': (1.0, 1.0), 'b': (2.0, 2.0)}
    """
    turns = [{name: run() for name, run in contenders.items()} for _ in range(repeats + warm_up)][int(warm_up) :]
    return {name: tuple(turn[name] for turn in turns) for name in contenders}
