"""Where the time of a search goes: training, scoring, start and the rest, of all that its workers could have worked.

    python -m scripts.bench shares [--quick]
    python -m scripts.bench.shares --before REVISION [--turns 3]

`nasx search` on the digits with Ray's two workers, from the command to its end. Start: until the first training
begins, by both workers; between: what a worker does or waits for between two trials; end: from the last trial until the
command returns. With a revision of this repository, its search is run in turns with the present one.
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

HOUSE = Path(__file__).parents[2]
WORKERS = 2
PARTS = ("training", "scoring", "between trials", "start", "end")
SEARCH = ("search", "--config=digits.yaml", "execution.device=cpu", f"execution.workers={WORKERS}")
SHORT = ("algorithm.evaluations=8", "training.epochs=2")


def shares(run_dir: Path, began: float, ended: float) -> Mapping[str, float]:
    """Percent of the workers' time by part, and the wall time in seconds; `began`, `ended`: of the command, Unix time.

    Read from the journal's tables, which an earlier revision has as well.
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


def measured(house: Path, overrides: tuple[str, ...]) -> Mapping[str, float]:
    """The shares of one search by the code of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder, "run")
        command = [sys.executable, "-m", "nasx", *SEARCH, *overrides, f"--run-dir={run_dir}", f"runs_dir={folder}"]
        environment = {**os.environ, "PYTHONPATH": str(house), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        began = time.time()
        subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
        return shares(run_dir, began, time.time())


def measurements(found: list[Mapping[str, float]], search: str) -> Iterator[Measurement]:
    """Shares and wall time of several searches as rows of the table."""
    wall = [f["wall"] for f in found]
    yield Measurement(f"{search}: from command to end", "-", tuple(wall))
    for part in PARTS:
        yield Measurement(f"{search}: {part}", "the workers' time", tuple(f[part] for f in found), unit="%")


def benchmark(options: Options) -> Iterator[Measurement]:
    """The shares of the present code."""
    overrides = SHORT if options.quick else ()
    yield from measurements([measured(HOUSE, overrides)], "digits")


def main(
    before: Annotated[str | None, typer.Option(help="A revision to compare with.")] = None,
    turns: Annotated[int, typer.Option(min=1, help="Searches of each.")] = 3,
) -> None:
    """Where the time of a search goes."""
    with tempfile.TemporaryDirectory() as folder:
        houses = {"now": HOUSE}
        if before is not None:
            houses = {"before": Path(folder, "before"), **houses}
            git = ["git", "-C", str(HOUSE), "worktree"]
            subprocess.run([*git, "add", "--detach", "--quiet", str(houses["before"]), before], check=True)
        try:
            found: dict[str, list[Mapping[str, float]]] = {name: [] for name in houses}
            for _ in range(turns):
                for name, house in houses.items():
                    found[name].append(measured(house, ()))
        finally:
            if before is not None:
                subprocess.run([*git, "remove", "--force", str(houses["before"])], check=True)
    rows = {"shares": [m for name, runs in found.items() for m in measurements(runs, name)]}
    Console().print(table(rows, f"{turns} searches of the digits each"))


if __name__ == "__main__":
    typer.run(main)
