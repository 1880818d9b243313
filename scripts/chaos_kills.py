"""Searches that are killed with SIGKILL at random moments and resumed, held against the same search left in peace."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from nasx.config.find import known_choices
from nasx.runs.check import check_run
from tests.end_to_end.commands import (
    LINES,
    contents,
    finished,
    has_journal,
    kill,
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
    """One search to be disturbed."""

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
        """Whether the search finds the same when it is made again: free running depends on who answers first."""
        return self.execution == "serial" or self.algorithm != FREE_RUNNING

    def options(self, table: Path, seconds: float) -> tuple[str, ...]:
        """`seconds`: a look-up takes, so that there is time for killing."""
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
    """What came of a disturbed search."""

    case: Case
    kills: int  # that met a living search
    lost: int  # completed trials
    twice: int  # networks trained again
    same: bool  # the run is whole; trials, front and weights are the undisturbed search's, where it is repeatable
    seconds: float
    note: str = ""

    @property
    def bad(self) -> bool:
        return bool(self.lost or self.twice or not self.same)


def cases(n: int, seed: int) -> list[Case]:
    """`n` searches, all algorithms in turn: of each a fifth have workers, and a fifth real training."""
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
class Peaceful:
    """The undisturbed searches, each made once, by whoever needs it first."""

    table: Path
    home: Path
    _locks: dict[tuple[str, ...], threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    def contents(self, case: Case) -> dict[str, object]:
        """What the search finds in peace, serially. Raises RuntimeError where it fails."""
        options = case.options(self.table, 0.0)
        place = f"peaceful-{case.task}-{case.algorithm}-{case.seed}"
        with self._locks[options]:
            if not (self.home / place).exists():
                done = run(*options, "execution=serial", f"--run-dir={place}", cwd=self.home)
                if done.returncode:
                    raise RuntimeError(f"the undisturbed search: {last_line(done.stderr)}")
            return contents(self.home / place)


def disturb(case: Case, peaceful: Peaceful, cwd: Path, seed: int) -> Outcome:
    """Search in `cwd`, killed and resumed as often as the case says, and compare."""
    began = time.monotonic()
    try:
        return _disturb(case, peaceful, cwd, seed, began)
    except Exception as error:  # of one case: the others go on
        return Outcome(case, 0, 0, 0, False, time.monotonic() - began, f"{type(error).__name__}: {error}")


def _disturb(case: Case, peaceful: Peaceful, cwd: Path, seed: int, began: float) -> Outcome:
    rng = random.Random(f"{seed} {case.number}")
    run_dir, known, kills, lost, longest = cwd / "killed", dict[str, str](), 0, 0, 3.0
    options = (*case.options(peaceful.table, 0.05), *case.workers)

    def command() -> tuple[str, ...]:
        return *(["--resume"] if has_journal(run_dir) else options), "--run-dir=killed"

    while kills < case.kills:
        process = start(*command(), cwd=cwd)
        started, moment = time.monotonic(), rng.uniform(0.5, longest)
        while process.poll() is None and time.monotonic() - started < moment:
            time.sleep(0.01)
        if process.poll() is not None:  # it was faster
            process.communicate()
            break
        kill(process)
        kills += 1
        now = finished(run_dir)
        lost += sum(now.get(name) != stamp for name, stamp in known.items())
        known, longest = now, longest if len(now) > len(known) else longest + 2  # slow machines need longer to begin
    last = run(*command(), cwd=cwd)
    if last.returncode:
        return Outcome(case, kills, lost, 0, False, time.monotonic() - began, last_line(last.stderr))
    now = finished(run_dir)
    lost += sum(now.get(name) != stamp for name, stamp in known.items())
    note = "; ".join(f"{p.location}: {p.message}" for p in check_run(run_dir))
    if not note and case.repeatable and contents(run_dir) != peaceful.contents(case):
        note = "not what the undisturbed search finds"
    return Outcome(case, kills, lost, len(trained_twice(run_dir)), not note, time.monotonic() - began, note)
