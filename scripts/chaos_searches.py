"""Kill searches and inject faults into trials; fail if anything is lost.

    scripts/chaos [--searches N] [--faults NAME...] [--jobs N] [--seed S] [--quick] [--json FILE]

First, searches are disturbed at one to five random times and resumed, and compared with the undisturbed searches. They
are killed, receive SIGTERM or SIGHUP, lose a server of Ray or their directory, or have a frozen worker. Ten seconds
after each event no process and no temporary folder may be left. Then each fault is injected into one search. The exit
status is 1 if a trial is lost or trained twice, or if a fault does not have the required outcome. The directory of a
failed case is kept and reported.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from scripts.chaos_faults import FAULTS, Fault
from scripts.chaos_kills import Case, Outcome, Undisturbed, cases, disturb
from tests.factories.commands import write_table

QUICK_FAULTS = ("raise", "disk", "second-search")


@dataclass(frozen=True)
class FaultOutcome:
    """Outcome of a search with a fault."""

    fault: Fault
    wrong: str  # error message; empty if the outcome is the required one
    seconds: float

    @property
    def bad(self) -> bool:
        return bool(self.wrong)


Result = Outcome | FaultOutcome


def inject(fault: Fault, table: Path, cwd: Path) -> FaultOutcome:
    """Run the check of a fault.

    Args:
        fault: to inject.
        table: of `write_table`.
        cwd: current directory of the search.
    """
    began = time.monotonic()
    try:
        wrong = fault.check(table, cwd)
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    return FaultOutcome(fault, wrong, time.monotonic() - began)


def run_all(
    todo: Sequence[Case | Fault], do: Callable[[Any, Path], Result], home: Path, jobs: int, console: Console
) -> list[Result]:
    """Run every case in its own folder; remove the folders of successful cases.

    Args:
        todo: cases.
        do: runs one case in a folder.
        home: directory of the folders.
        jobs: cases at the same time.
        console: for progress and failures.
    """
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: list[tuple[int, Result]] = []

    def run_case(number: int) -> Result:
        cwd = home / f"case{number}"
        cwd.mkdir()
        result = do(todo[number], cwd)
        if result.bad:
            what = result.case if isinstance(result, Outcome) else result.fault.name
            why = (
                f"lost {result.lost}, twice {result.twice}, {result.note}"
                if isinstance(result, Outcome)
                else result.wrong
            )
            console.print(f"BAD: {what}: {why}; kept in {cwd}", soft_wrap=True, markup=False)
        else:
            shutil.rmtree(cwd, ignore_errors=True)
        return result

    with Progress(*bar, console=console) as progress, ThreadPoolExecutor(jobs) as threads:
        task = progress.add_task("searches", total=len(todo))
        numbers = {threads.submit(run_case, number): number for number in range(len(todo))}
        for done in as_completed(numbers):
            results.append((numbers[done], done.result()))
            progress.advance(task)
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def kills_table(outcomes: Sequence[Outcome]) -> Table:
    """Draw counts by task, algorithm and execution, and totals."""
    shown = Table("task", "algorithm", "execution", "searches", "events", "lost", "twice", "equal")
    kinds = sorted({(o.case.task, o.case.algorithm, o.case.execution) for o in outcomes})
    for kind in [*kinds, ("all", "", "")]:
        those = [o for o in outcomes if kind[0] == "all" or (o.case.task, o.case.algorithm, o.case.execution) == kind]
        numbers = [len(those), *(sum(getattr(o, name) for o in those) for name in ("kills", "lost", "twice", "same"))]
        shown.add_row(*kind, *map(str, numbers))
    return shown


def events_table(outcomes: Sequence[Outcome]) -> Table:
    """Draw counts by kind of event; an event is wrong if its case ended with it."""
    shown = Table("event", "times", "wrong")
    for kind in sorted({kind for o in outcomes for kind in o.events}):
        times = sum(o.events.count(kind) for o in outcomes)
        shown.add_row(kind, str(times), str(sum(o.note.startswith(f"{kind}: ") for o in outcomes)))
    return shown


def faults_table(faults: Sequence[FaultOutcome]) -> Table:
    """Draw one row per fault."""
    shown = Table("fault", "required outcome", "correct?")
    for s in faults:
        shown.add_row(s.fault.name, s.fault.must, s.wrong or "yes")
    return shown


def as_json(outcomes: Sequence[Outcome], faults: Sequence[FaultOutcome], seconds: float) -> str:
    """Return all results as JSON.

    Args:
        outcomes: of the kills.
        faults: outcomes of the faults.
        seconds: duration of the whole run.
    """
    rows = [{"fault": s.fault.name, "must": s.fault.must, "wrong": s.wrong, "seconds": s.seconds} for s in faults]
    return json.dumps({"seconds": seconds, "kills": [asdict(o) for o in outcomes], "faults": rows}, indent=2) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--searches", type=int, help="searches to kill (default: 100)")
    names = [f.name for f in FAULTS]
    parser.add_argument("--faults", nargs="*", choices=names, help="faults to inject (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="searches at the same time (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="for algorithms, times and seeds (default: 0)")
    parser.add_argument("--quick", action="store_true", help=f"5 searches, and the faults {', '.join(QUICK_FAULTS)}")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    chosen = parser.parse_args(arguments)
    n = chosen.searches if chosen.searches is not None else 5 if chosen.quick else 100
    wanted = chosen.faults if chosen.faults is not None else QUICK_FAULTS if chosen.quick else names
    faults = [f for f in FAULTS if f.name in wanted]

    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="nasx-chaos-"))
    undisturbed = Undisturbed(write_table(home / "table.csv"), home)

    def do(what: Case | Fault, cwd: Path) -> Result:
        if isinstance(what, Case):
            return disturb(what, undisturbed, cwd, chosen.seed)
        return inject(what, undisturbed.table, cwd)

    results = run_all([*cases(n, chosen.seed), *faults], do, home, chosen.jobs, Console(stderr=True))
    outcomes = [r for r in results if isinstance(r, Outcome)]
    fault_outcomes = [r for r in results if isinstance(r, FaultOutcome)]
    seconds = time.monotonic() - began
    console = Console()
    if outcomes:
        console.print(kills_table(outcomes))
        console.print(events_table(outcomes))
    if fault_outcomes:
        console.print(faults_table(fault_outcomes))
    console.print(f"{len(results)} cases in {seconds / 60:.1f} min")
    if chosen.json:
        chosen.json.write_text(as_json(outcomes, fault_outcomes, seconds))
    if any(result.bad for result in results):
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
