"""Time of a search by part: training, scoring, start and the rest, as shares of the workers' total time.

    python -m scripts.bench shares [--quick]
    python -m scripts.bench.shares --before REVISION [--turns 3]

Measures `nasx search` on the digits with two Ray workers, from the command to its end. Start: until the first training
begins, for both workers. Between: work and waiting between two trials. End: from the last trial until the command
returns. With --before, the search of that revision of this repository alternates with the current one.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from scripts.bench.measurement import Measurement, Options
from scripts.bench.table import table

ROOT = Path(__file__).parents[2]
WORKERS = 2
PARTS = ("training", "scoring", "between trials", "start", "end")
SEARCH = ("search", "--config=digits.yaml", "execution.device=cpu", f"execution.workers={WORKERS}")
SHORT = ("algorithm.evaluations=8", "training.epochs=2")


def shares(run_dir: Path, began: float, ended: float) -> Mapping[str, float]:
    """Return the percentage of the workers' time by part, and "wall": the wall time in seconds.

    Reads the journal's tables by SQL, so that journals of an earlier revision work too.

    Args:
        run_dir: the finished search.
        began: start of the command, Unix time.
        ended: end of the command, Unix time.
    """
    with closing(sqlite3.connect(run_dir / "run.db")) as database:
        rows = database.execute("SELECT finished, train_seconds, score_seconds FROM trials").fetchall()
    finished = [datetime.fromisoformat(row[0]).timestamp() for row in rows]
    training, scoring = sum(row[1] for row in rows), sum(row[2] for row in rows)
    first = min(f - row[1] - row[2] for f, row in zip(finished, rows, strict=True) if row[1])
    last = max(finished)
    seconds = {
        "training": training,
        "scoring": scoring,
        "between trials": WORKERS * (last - first) - training - scoring,
        "start": WORKERS * (first - began),
        "end": WORKERS * (ended - last),
    }
    return {part: 100 * s / (WORKERS * (ended - began)) for part, s in seconds.items()} | {"wall": ended - began}


def measured(checkout: Path, overrides: tuple[str, ...]) -> Mapping[str, float]:
    """Run one search with the code of a checkout and return its shares."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder, "run")
        command = [sys.executable, "-m", "nasx", *SEARCH, *overrides, f"--run-dir={run_dir}", f"runs_dir={folder}"]
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        began = time.time()
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
        return shares(run_dir, began, time.time())


def measurements(found: list[Mapping[str, float]], search: str) -> Iterator[Measurement]:
    """Yield wall time and shares of several searches as rows of the table."""
    wall = [f["wall"] for f in found]
    yield Measurement(f"{search}: from command to end", "-", tuple(wall))
    for part in PARTS:
        yield Measurement(f"{search}: {part}", "the workers' time", tuple(f[part] for f in found), unit="%")


def benchmark(options: Options) -> Iterator[Measurement]:
    """Yield the shares of the current code."""
    overrides = SHORT if options.quick else ()
    yield from measurements([measured(ROOT, overrides)], "digits")


def main(
    before: Annotated[str | None, typer.Option(help="Revision to compare with.")] = None,
    turns: Annotated[int, typer.Option(min=1, help="Searches per revision.")] = 3,
) -> None:
    """Measure the time of a search by part."""
    with tempfile.TemporaryDirectory() as folder:
        checkouts = {"now": ROOT}
        if before is not None:
            checkouts = {"before": Path(folder, "before"), **checkouts}
            git = ["git", "-C", str(ROOT), "worktree"]
            subprocess.run([*git, "add", "--detach", "--quiet", str(checkouts["before"]), before], check=True)
        try:
            found: dict[str, list[Mapping[str, float]]] = {name: [] for name in checkouts}
            for _ in range(turns):
                for name, checkout in checkouts.items():
                    found[name].append(measured(checkout, ()))
        finally:
            if before is not None:
                subprocess.run([*git, "remove", "--force", str(checkouts["before"])], check=True)
    rows = {"shares": [m for name, runs in found.items() for m in measurements(runs, name)]}
    Console().print(table(rows, f"{turns} searches on the digits each"))


if __name__ == "__main__":
    typer.run(main)
