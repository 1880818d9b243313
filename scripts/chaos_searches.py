"""Kills searches and breaks trials, and counts what is lost: nothing may be.

    scripts/chaos [--searches N] [--faults NAME...] [--jobs N] [--seed S] [--quick] [--json FILE]

First searches are killed with SIGKILL at one to five random moments and resumed, and held against the same searches
left in peace; then one search suffers each fault. Exit status 1 if a trial is lost, trained twice, or a fault is not
answered as it must be. The directory of a bad case is kept, and named.
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
from scripts.chaos_kills import Case, Outcome, Peaceful, cases, disturb
from tests.end_to_end.commands import write_table

QUICK_FAULTS = ("raise", "disk", "second-search")


@dataclass(frozen=True)
class Suffered:
    """What came of a search with a fault."""

    fault: Fault
    wrong: str  # empty if it ended as it must
    seconds: float

    @property
    def bad(self) -> bool:
        return bool(self.wrong)


Result = Outcome | Suffered


def suffer(fault: Fault, table: Path, cwd: Path) -> Suffered:
    """Let a search suffer the fault in `cwd`."""
    began = time.monotonic()
    try:
        wrong = fault.check(table, cwd)
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    return Suffered(fault, wrong, time.monotonic() - began)


def run_all(
    todo: Sequence[Case | Fault], do: Callable[[Any, Path], Result], home: Path, jobs: int, console: Console
) -> list[Result]:
    """Every case in a folder of its own, `jobs` at a time; the folders of those that end well are removed."""
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: list[tuple[int, Result]] = []

    def attend(number: int) -> Result:
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
        numbers = {threads.submit(attend, number): number for number in range(len(todo))}
        for done in as_completed(numbers):
            results.append((numbers[done], done.result()))
            progress.advance(task)
    return [result for _, result in sorted(results, key=lambda pair: pair[0])]


def kills_table(outcomes: Sequence[Outcome]) -> Table:
    """Counts by task, algorithm and execution, and in all."""
    shown = Table("task", "algorithm", "execution", "searches", "kills", "lost", "twice", "equal")
    kinds = sorted({(o.case.task, o.case.algorithm, o.case.execution) for o in outcomes})
    for kind in [*kinds, ("all", "", "")]:
        those = [o for o in outcomes if kind[0] == "all" or (o.case.task, o.case.algorithm, o.case.execution) == kind]
        numbers = [len(those), *(sum(getattr(o, name) for o in those) for name in ("kills", "lost", "twice", "same"))]
        shown.add_row(*kind, *map(str, numbers))
    return shown


def faults_table(suffered: Sequence[Suffered]) -> Table:
    shown = Table("fault", "what must come of it", "did it?")
    for s in suffered:
        shown.add_row(s.fault.name, s.fault.must, s.wrong or "yes")
    return shown


def as_json(outcomes: Sequence[Outcome], suffered: Sequence[Suffered], seconds: float) -> str:
    faults = [{"fault": s.fault.name, "must": s.fault.must, "wrong": s.wrong, "seconds": s.seconds} for s in suffered]
    return json.dumps({"seconds": seconds, "kills": [asdict(o) for o in outcomes], "faults": faults}, indent=2) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--searches", type=int, help="searches that are killed (default: 100)")
    names = [f.name for f in FAULTS]
    parser.add_argument("--faults", nargs="*", choices=names, help="faults to inject (default: all)")
    parser.add_argument("--jobs", type=int, default=2, help="searches at a time (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of algorithms, moments and seeds (default: 0)")
    parser.add_argument("--quick", action="store_true", help=f"5 searches, and the faults {', '.join(QUICK_FAULTS)}")
    parser.add_argument("--json", type=Path, help="write the results here too")
    chosen = parser.parse_args(arguments)
    n = chosen.searches if chosen.searches is not None else 5 if chosen.quick else 100
    wanted = chosen.faults if chosen.faults is not None else QUICK_FAULTS if chosen.quick else names
    faults = [f for f in FAULTS if f.name in wanted]

    began = time.monotonic()
    home = Path(tempfile.mkdtemp(prefix="nasx-chaos-"))
    peaceful = Peaceful(write_table(home / "table.csv"), home)

    def do(what: Case | Fault, cwd: Path) -> Result:
        return (
            disturb(what, peaceful, cwd, chosen.seed) if isinstance(what, Case) else suffer(what, peaceful.table, cwd)
        )

    results = run_all([*cases(n, chosen.seed), *faults], do, home, chosen.jobs, Console(stderr=True))
    outcomes = [r for r in results if isinstance(r, Outcome)]
    suffered = [r for r in results if isinstance(r, Suffered)]
    seconds = time.monotonic() - began
    console = Console()
    if outcomes:
        console.print(kills_table(outcomes))
    if suffered:
        console.print(faults_table(suffered))
    console.print(f"{len(results)} cases in {seconds / 60:.1f} min")
    if chosen.json:
        chosen.json.write_text(as_json(outcomes, suffered, seconds))
    if any(result.bad for result in results):
        return 1
    shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
