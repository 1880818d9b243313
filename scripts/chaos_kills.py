"""Searches that are ended or disturbed at random times and resumed, compared with the undisturbed search."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from nasx.config.find import known_choices
from nasx.runs.check import check_run
from scripts.chaos_events import choose, left, strike
from tests.factories.commands import (
    LINES,
    contents,
    finished,
    has_journal,
    last_line,
    run,
    start,
    tabular,
    trained_twice,
)

WORKERS = ("execution=local", "execution.device=cpu", "execution.workers=2")
FREE_RUNNING = "nsga2, free running"
SEEDS = 4  # of searches: few, so that cases share the undisturbed search


@dataclass(frozen=True)
class Case:
    """Search to be killed and resumed."""

    number: int
    task: str  # "table" or "lines"
    algorithm: str  # a choice of configs/algorithm, or FREE_RUNNING
    execution: str  # "serial" or "ray"
    seed: int
    kills: int  # 1 to 5

    @property
    def workers(self) -> tuple[str, ...]:
        return WORKERS if self.execution == "ray" else ("execution=serial",)

    @property
    def repeatable(self) -> bool:
        """True if a repetition has the same results; with free running they depend on the order of results."""
        return self.execution == "serial" or self.algorithm != FREE_RUNNING

    def options(self, table: Path, seconds: float) -> tuple[str, ...]:
        """Return the options of the search; `seconds` is the duration of a look-up, so that there is time for kills."""
        if self.task == "table":
            size = ["algorithm.population_size=8"] if "nsga2" in self.algorithm else []
            options = [*tabular(table, 40, seconds), *size]
        else:
            options = [*LINES, "algorithm.evaluations=10"]
        free = ["algorithm.mode=free_running"] if self.algorithm == FREE_RUNNING else []
        return (*options, f"algorithm={self.algorithm.partition(',')[0]}", *free, f"seed={self.seed}")

    def __str__(self) -> str:
        return f"search {self.number}: {self.task}, {self.algorithm}, {self.execution}, seed {self.seed}"


@dataclass(frozen=True)
class Outcome:
    """Outcome of a disturbed search."""

    case: Case
    events: tuple[str, ...]  # while the search was running
    lost: int  # completed trials
    twice: int  # networks trained again
    same: bool  # the run passes its check; if repeatable, its results equal those of the undisturbed search
    seconds: float
    note: str = ""

    @property
    def kills(self) -> int:
        return len(self.events)

    @property
    def bad(self) -> bool:
        return bool(self.lost or self.twice or not self.same)


def cases(n: int, seed: int) -> list[Case]:
    """Return `n` searches that cycle through all algorithms; a fifth have workers, and a fifth train networks."""
    rng = random.Random(seed)
    algorithms = [*sorted(known_choices("algorithm")), FREE_RUNNING]
    chosen = []
    for i in range(n):
        place = (i + i // len(algorithms)) % 10  # shifted by one from round to round
        task, execution = "lines" if place in (4, 8) else "table", "ray" if place in (3, 8) else "serial"
        algorithm = algorithms[i % len(algorithms)]
        chosen.append(Case(i, task, algorithm, execution, seed=rng.randrange(SEEDS), kills=rng.randint(1, 5)))
    return chosen


@dataclass
class Undisturbed:
    """Undisturbed searches; each runs once, when its results are first needed."""

    table: Path
    home: Path
    _locks: dict[tuple[str, ...], threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    def contents(self, case: Case) -> dict[str, object]:
        """Run the search serially without kills and return its results. Raises RuntimeError if it fails."""
        options = case.options(self.table, 0.0)
        place = f"undisturbed-{case.task}-{case.algorithm}-{case.seed}"
        with self._locks[options]:
            if not (self.home / place).exists():
                done = run(*options, "execution=serial", f"--run-dir={place}", cwd=self.home)
                if done.returncode:
                    raise RuntimeError(f"the undisturbed search: {last_line(done.stderr)}")
            return contents(self.home / place)


def disturb(case: Case, undisturbed: Undisturbed, cwd: Path, seed: int) -> Outcome:
    """Kill and resume a search, and compare it with the undisturbed one.

    Args:
        case: the search and the number of kills.
        undisturbed: provides the expected results.
        cwd: current directory of the search.
        seed: of the times of the kills.
    """
    began = time.monotonic()
    try:
        return _disturb(case, undisturbed, cwd, seed, began)
    except Exception as error:  # an error of one case must not stop the others
        return Outcome(case, (), 0, 0, False, time.monotonic() - began, f"{type(error).__name__}: {error}")


def _disturb(case: Case, undisturbed: Undisturbed, cwd: Path, seed: int, began: float) -> Outcome:
    with tempfile.TemporaryDirectory(prefix="chaos-", dir="/tmp") as temporary:  # short: it contains sockets
        return _disturb_with(case, undisturbed, cwd, seed, began, Path(temporary))


def _disturb_with(case: Case, undisturbed: Undisturbed, cwd: Path, seed: int, began: float, temporary: Path) -> Outcome:
    rng, events = random.Random(f"{seed} {case.number}"), list[str]()
    run_dir, known, lost, longest = cwd / "killed", dict[str, str](), 0, 3.0
    options, sessions = (*case.options(undisturbed.table, 0.05), *case.workers), list[int]()
    env = {"TMPDIR": str(temporary)}

    def command() -> tuple[str, ...]:
        return *(["--resume"] if has_journal(run_dir) else options), "--run-dir=killed"

    while len(events) < case.kills:
        process = start(*command(), cwd=cwd, env=env)
        sessions.append(process.pid)
        started, moment = time.monotonic(), rng.uniform(0.5, longest)
        while process.poll() is None and time.monotonic() - started < moment:
            time.sleep(0.01)
        if process.poll() is not None:  # the search ended before the event
            process.communicate()
            break
        events.append(choose(rng, case.execution))
        if wrong := strike(events[-1], process, run_dir) or left(sessions, temporary):
            note = f"{events[-1]}: {wrong}"
            return Outcome(case, tuple(events), lost, 0, False, time.monotonic() - began, note)
        now = finished(run_dir)
        lost += sum(now.get(name) != stamp for name, stamp in known.items())
        known, longest = now, longest if len(now) > len(known) else longest + 2  # slow machines take longer to start
    last = run(*command(), cwd=cwd, env=env)
    if last.returncode:
        return Outcome(case, tuple(events), lost, 0, False, time.monotonic() - began, last_line(last.stderr))
    now = finished(run_dir)
    lost += sum(now.get(name) != stamp for name, stamp in known.items())
    note = "; ".join(f"{p.location}: {p.message}" for p in check_run(run_dir).defects)
    if not note and case.repeatable and contents(run_dir) != undisturbed.contents(case):
        note = "the results differ from those of the undisturbed search"
    return Outcome(case, tuple(events), lost, len(trained_twice(run_dir)), not note, time.monotonic() - began, note)
