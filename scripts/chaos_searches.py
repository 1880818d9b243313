"""Searches that are killed with SIGKILL at random moments and resumed, and searches in which one trial breaks.

    scripts/chaos [--searches N] [--seed S] [--quick]

Counts what was lost, what was trained twice, and the fronts that differ from an undisturbed search's. Exit status 1 if
there is any.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasx.config import known_choices
from nasx.store import RunStore
from nasx.trial import Trial, TrialStatus
from scripts.chaos_scorer import fault
from tests.end_to_end.commands import (
    LINES,
    contents,
    finished,
    journal,
    kill,
    run,
    start,
    tabular,
    trained_twice,
    write_table,
)

WORKERS = ["execution=local", "execution.device=cpu", "execution.workers=2"]


@dataclass(frozen=True)
class Case:
    """One search to be disturbed."""

    task: str  # "table" or "lines"
    algorithm: str
    execution: str  # "serial" or "ray"
    seed: int
    kills: int  # 1 to 5

    @property
    def workers(self) -> list[str]:
        return WORKERS if self.execution == "ray" else ["execution=serial"]

    def options(self, table: Path, seconds: float) -> list[str]:
        """`seconds`: a look-up takes, so that there is time for killing."""
        if self.task == "table":
            size = ["algorithm.population_size=8"] if "nsga2" in self.algorithm else []
            options = [*tabular(table, 40, seconds), *size]
        else:
            options = [*LINES, "algorithm.evaluations=10"]
        options += [f"algorithm={self.algorithm}", f"seed={self.seed}"]
        return options


@dataclass(frozen=True)
class Outcome:
    """What came of a disturbed search."""

    case: Case
    kills: int  # that met a living search
    lost: int  # completed trials
    twice: int  # networks trained again
    same: bool  # trials, front and weights are those of the undisturbed search
    note: str = ""


def cases(n: int, seed: int) -> list[Case]:
    """`n` searches, all algorithms in turn: of each a fifth have workers, and a fifth real training."""
    rng = random.Random(seed)
    algorithms = sorted(known_choices("algorithm"))
    chosen = []
    for i in range(n):
        place = (i + i // len(algorithms)) % 10  # shifted by one from round to round
        task, execution = "lines" if place in (4, 8) else "table", "ray" if place in (3, 8) else "serial"
        algorithm = algorithms[i % len(algorithms)]
        chosen.append(Case(task, algorithm, execution, seed=rng.randrange(1000), kills=rng.randint(1, 5)))
    return chosen


def disturb(case: Case, table: Path, cwd: Path, rng: random.Random) -> Outcome:
    """Search once in peace and once killed and resumed, and compare."""
    peaceful = run(*case.options(table, 0.0), "execution=serial", "--run-dir=whole", cwd=cwd)
    if peaceful.returncode:
        return Outcome(case, 0, 0, 0, False, peaceful.stderr.strip().splitlines()[-1])
    run_dir, known, kills, lost, longest = cwd / "killed", dict[str, str](), 0, 0, 4.0
    options = [*case.options(table, 0.05), *case.workers]
    while kills < case.kills:
        process = start(*(["--resume"] if has_journal(run_dir) else options), "--run-dir=killed", cwd=cwd)
        started = time.monotonic()
        moment = rng.uniform(0.5, longest)
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
    last = run(*(["--resume"] if has_journal(run_dir) else options), "--run-dir=killed", cwd=cwd)
    if last.returncode:
        return Outcome(case, kills, lost, 0, False, last.stderr.strip().splitlines()[-1])
    now = finished(run_dir)
    lost += sum(now.get(name) != stamp for name, stamp in known.items())
    same = contents(run_dir) == contents(cwd / "whole")
    return Outcome(case, kills, lost, len(trained_twice(run_dir)), same)


@dataclass(frozen=True)
class Fault:
    """A fault, and what must be told of it."""

    name: str
    status: int  # exit status
    reason: str = ""  # of the one trial that failed; "": none may fail
    detail: str = ""  # in the journal or on stderr
    options: tuple[str, ...] = ()


FAULTS = (
    Fault("raise", 0, "error", "ValueError: made up"),
    Fault("nan", 0, "no_score", "nan"),
    Fault("oom", 0, "out_of_memory", "made up: no memory left"),
    Fault("hang", 0, "timeout", "took longer than search.time_limit", ("search.time_limit=4",)),
    Fault("kill", 0, "error", "its worker process died, at the last of 2 attempts", tuple(WORKERS)),
    Fault("disk", 2, "", "no space left on the disk"),
)


SECOND_SEARCH = "second-search"


def suffer(case: Fault, cwd: Path) -> str:
    """Search with one fault in it; returns what is wrong, empty if nothing."""
    options = [*LINES, "algorithm.evaluations=8", "scorer._target_=scripts.chaos_scorer.FaultyScorer"]
    options = ["scorer=activations", *options, *case.options]
    with fault(case.name):
        ended = run(*options, "--run-dir=run", cwd=cwd)
    if ended.returncode != case.status:
        return f"exit status {ended.returncode}: {ended.stderr.strip()[-300:]}"
    if case.status:
        again = run("--resume", "--run-dir=run", cwd=cwd)
        missing = case.detail not in ended.stderr or again.returncode != 0 or trained_twice(cwd / "run")
        return f"stderr {ended.stderr!r}, then {again.stderr!r}" if missing else ""
    failed = [trial for trial in trials(cwd / "run") if trial.status is TrialStatus.FAILED]
    if [t.evaluation.reason for t in failed] != [case.reason] or case.detail not in failed[0].evaluation.detail:
        return f"failed: {[(t.evaluation.reason, t.evaluation.detail[-200:]) for t in failed]}"
    return "" if len(finished(cwd / "run")) >= 8 else "trials are missing"


def second_search(cwd: Path, table: Path) -> str:
    """A second search on the directory of a running one; returns what is wrong, empty if nothing."""
    first = start(*tabular(table, 200, 0.1), "--run-dir=run", cwd=cwd)
    try:
        while len(finished(cwd / "run")) < 2 and first.poll() is None:
            time.sleep(0.05)
        second = run("--resume", "--run-dir=run", cwd=cwd)
    finally:
        kill(first)
    return "" if second.returncode == 2 and "is in use by another search" in second.stderr else second.stderr


def has_journal(run_dir: Path) -> bool:
    """Whether a search came so far that it can be resumed."""
    store = journal(run_dir)
    if store is not None:
        store.close()
    return store is not None


def trials(run_dir: Path) -> list[Trial]:
    with RunStore.open(run_dir, read_only=True) as store:
        return store.trials()


def check_kills(n: int, seed: int, home: Path, console: Console) -> bool:
    """Disturb `n` searches and print a table; returns whether nothing was lost."""
    table = write_table(home / "table.csv")
    rng = random.Random(seed)
    outcomes = []
    for i, case in enumerate(cases(n, seed)):
        cwd = home / f"search{i}"
        cwd.mkdir()
        outcome = disturb(case, table, cwd, rng)
        outcomes.append(outcome)
        bad = outcome.lost or outcome.twice or not outcome.same
        console.print(f"{i + 1}/{n} {case} {'BAD ' + outcome.note + str(cwd) if bad else 'ok'}", soft_wrap=True)
    shown = Table("task", "algorithm", "execution", "searches", "kills", "trials lost", "trained twice", "fronts equal")
    kinds = sorted({(o.case.task, o.case.algorithm, o.case.execution) for o in outcomes})
    for kind in [*kinds, ("all", "", "")]:
        those = [o for o in outcomes if kind[0] == "all" or (o.case.task, o.case.algorithm, o.case.execution) == kind]
        numbers = [len(those), *(sum(getattr(o, name) for o in those) for name in ("kills", "lost", "twice", "same"))]
        shown.add_row(*kind, *map(str, numbers))
    console.print(shown)
    return all(o.same and not o.lost and not o.twice for o in outcomes)


def check_faults(names: list[str], home: Path, console: Console) -> bool:
    """One search for each fault; prints a table and returns whether each ended as it must."""
    table = write_table(home / "faults.csv")
    checks: dict[str, Callable[[Path], str]] = {f.name: lambda cwd, f=f: suffer(f, cwd) for f in FAULTS}  # type: ignore[misc]
    checks[SECOND_SEARCH] = lambda cwd: second_search(cwd, table)
    shown, well = Table("fault", "ended as it must"), True
    for name in names:
        cwd = home / f"fault-{name}"
        cwd.mkdir()
        wrong = checks[name](cwd)
        well &= not wrong
        shown.add_row(name, wrong or "yes")
    console.print(shown)
    return well


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--searches", type=int, default=100, help="searches that are killed (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of algorithms, moments and seeds (default: 0)")
    names = [*(f.name for f in FAULTS), SECOND_SEARCH]
    parser.add_argument("--faults", nargs="*", choices=names, default=names, help="faults to inject (default: all)")
    parser.add_argument("--quick", action="store_true", help="5 searches and 3 faults")
    chosen = parser.parse_args(arguments)
    n, faults = (5, ["raise", "disk", SECOND_SEARCH]) if chosen.quick else (chosen.searches, chosen.faults)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="nasx-chaos-", ignore_cleanup_errors=True) as home:
        kills = check_kills(n, chosen.seed, Path(home), console) if n else True
        suffered = check_faults(faults, Path(home), console) if faults else True
    return 0 if kills and suffered else 1


if __name__ == "__main__":
    sys.exit(main())
