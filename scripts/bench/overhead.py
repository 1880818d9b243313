"""What a search costs beside its trials: start, and time a trial, of serial execution and of Ray with two workers.

    python -m scripts.bench.overhead [--quick] [--json FILE]

Trials sleep for a set time, so that the cores are free for what is measured. Start: from the call until the first trial
runs. Overhead: wall time from then on, beyond trials x seconds / workers, a trial.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from nasx.algorithms.random_search import RandomSearch
from nasx.execution import Execution
from nasx.execution.limits import SearchLimits
from nasx.execution.loop import SearchLoop
from nasx.protocols import Problem
from nasx.store import RunInfo, RunStore
from nasx.trial import OBJECTIVES, Evaluation, Job
from scripts.bench.scale import Space, answer


@dataclass(frozen=True)
class Result:
    execution: str
    seconds: float  # of a trial
    trials: int
    start: float  # seconds until the first trial runs; median
    overhead: float  # seconds a trial; median
    overheads: list[float]  # of each repetition


def sleeping(job: Job, *, seconds: float, heavy: bool) -> Evaluation:
    """A trial; a heavy one has loaded what training loads."""
    if heavy:
        import nasx.evaluation  # noqa: F401
    mark = job.weights_file.parents[2] / "first"
    if not mark.exists():
        mark.write_text(str(time.monotonic()))
    time.sleep(seconds)
    return answer(job)


def measure(execution: Execution, workers: int, seconds: float, trials: int) -> tuple[float, float]:
    """(start, overhead a trial) of one search."""
    info = RunInfo("overhead", "", "", "", "", 0, ("error", "introspectability"), 10, (), "", workers)
    with tempfile.TemporaryDirectory() as directory, RunStore.create(Path(directory), info) as store:
        problem = Problem(gene_sizes=Space.gene_sizes, n_objectives=2, seed=0, workers=workers)
        loop = SearchLoop(
            run_dir=Path(directory),
            store=store,
            algorithm=RandomSearch(problem=problem),
            space=Space(),  # type: ignore[arg-type]
            objectives=[OBJECTIVES["error"], OBJECTIVES["introspectability"]],
            limits=SearchLimits(evaluations=trials),
        )
        stamps: list[float] = []  # when the trials were complete
        began = time.monotonic()

        def watch() -> None:
            stamps.extend([time.monotonic()] * (len(loop.trials) - len(stamps)))

        execution.run(loop, partial(sleeping, seconds=seconds, heavy=workers > 1), watch)
        start = float((Path(directory) / "first").read_text()) - began
        warm = 2 * workers  # trials until all workers run
        return start, (stamps[-1] - stamps[warm - 1]) / (trials - warm) - seconds / workers


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.overhead")
    parser.add_argument("--quick", action="store_true", help="one repetition, short trials")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the results here too")
    chosen = parser.parse_args()
    from nasx.execution.ray_tune import RayExecution
    from nasx.execution.serial import SerialExecution

    logging.disable(logging.WARNING)
    kinds = {"serial": (SerialExecution(device="cpu"), 1), "Ray, 2 workers": (RayExecution(device="cpu", workers=2), 2)}
    results = []
    for seconds, trials in ((0.1, 60),) if chosen.quick else ((0.1, 150), (1.0, 40)):
        for name, (execution, workers) in kinds.items():
            runs = [measure(execution, workers, seconds, trials) for _ in range(1 if chosen.quick else chosen.repeats)]
            start, overhead = (statistics.median(values) for values in zip(*runs, strict=True))
            results.append(Result(name, seconds, trials, start, overhead, [o for _, o in runs]))
    table = Table(title="what a search costs beside its trials")
    for heading in ("execution", "trial s", "trials", "start s", "overhead ms/trial", "spread"):
        table.add_column(heading, justify="right")
    for r in results:
        spread = f"{1000 * min(r.overheads):.1f} - {1000 * max(r.overheads):.1f}"
        table.add_row(
            r.execution, f"{r.seconds:g}", str(r.trials), f"{r.start:.1f}", f"{1000 * r.overhead:.1f}", spread
        )
    Console().print(table)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(r) for r in results], indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
