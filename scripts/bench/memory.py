"""Memory of a search: peak of the driver and of each worker, and growth over 1,000 trials in reused workers.

    python -m scripts.bench memory [--quick]
    python -m scripts.bench.memory --execution serial --trials 300

Runs `nasx search` on the digits with two Ray workers, with networks and trainings so small that 1,000 take minutes; or
in one process (`execution=serial`), which shows the growth caused by training and scoring. psutil samples resident
memory every two seconds. Growth: slope of a line fitted to the samples of the second half, per thousand trials.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import psutil  # type: ignore[import-untyped]

from nasx.errors import RunError
from nasx.runs.directory import is_run
from nasx.runs.journal import Journal
from scripts.bench.measurement import Measurement, Options

WORKERS = 2
TINY = (
    "algorithm=random",
    "space.channels=4",
    "training.epochs=1",
    "split.train_images=200",
    "split.validation_images=100",
    "execution.device=cpu",
    "scorer.samples_per_class=5",
)
MIN_TRIALS = 200  # minimum for reporting growth
PERIOD = 2.0  # seconds between samples
NOISE = 16.0  # MiB in 1,000 trials that count as no growth: allocators keep freed memory
MIB = 2**20

Role = Literal["driver", "worker"]


class Sample(NamedTuple):
    """Memory of one process at one time."""

    trials: int  # finished by the search so far
    role: Role
    pid: int
    mib: float  # resident


def role_of(process: psutil.Process, driver: int) -> Role | None:
    """Return the role of a process of a search; None for Ray's own processes and idle workers."""
    if process.pid == driver:
        return "driver"
    title = process.cmdline()[0]  # Ray sets the titles of its processes
    return "worker" if title.startswith("ray::") and not title.endswith(("IDLE", "Agent")) else None


def sample(driver: psutil.Process, trials: int) -> list[Sample]:
    """Sample all processes of a search."""
    found = []
    for process in (driver, *driver.children(recursive=True)):
        try:
            if (role := role_of(process, driver.pid)) is not None:
                found.append(Sample(trials, role, process.pid, process.memory_info().rss / MIB))
        except (psutil.NoSuchProcess, psutil.ZombieProcess, IndexError):  # the process has ended meanwhile
            continue
    return found


def finished(run_dir: Path) -> int:
    """Count the trials in a journal that another process is writing; 0 before there is a journal."""
    if not is_run(run_dir):
        return 0
    try:
        with Journal.open(run_dir, read_only=True) as store:
            return len(store.trials())
    except RunError:  # its schema is being written
        return 0


def watch(execution: str, trials: int) -> list[Sample]:
    """Run a search and return its samples, one per process every two seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        command = [sys.executable, "-m", "nasx", "search", "--config", "digits", "--run-dir", str(run_dir), *TINY]
        command += [f"execution={execution}", f"algorithm.evaluations={trials}", f"runs_dir={folder}"]
        command += [f"execution.workers={WORKERS}"] if execution == "local" else []
        log = Path(folder) / "log.txt"
        with log.open("w") as output:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            search = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
            driver = psutil.Process(search.pid)
            samples: list[Sample] = []
            while search.poll() is None:
                samples += sample(driver, finished(run_dir))
                time.sleep(PERIOD)
        if search.returncode:
            raise SystemExit(f"{' '.join(command)} ended with status {search.returncode}:\n{log.read_text()[-2000:]}")
    return samples


def growth(samples: list[Sample]) -> float:
    """Return the MiB that a process gains in 1,000 trials: least squares over the second half of the trials.

    >>> round(growth([Sample(n, "worker", 7, 300 + 0.01 * n) for n in range(100)]), 6)
    10.0
    """
    last = max(s.trials for s in samples)
    late = [s for s in samples if s.trials >= last / 2]
    if len({s.trials for s in late}) < 2:
        return 0.0
    return 1000 * float(np.polyfit([s.trials for s in late], [s.mib for s in late], deg=1)[0])


def by_process(samples: list[Sample], role: Role) -> list[list[Sample]]:
    """Return the samples of each process of a role that lived for more than a third of the search."""
    found: dict[int, list[Sample]] = {}
    for s in samples:
        if s.role == role:
            found.setdefault(s.pid, []).append(s)
    longest = max(map(len, found.values()), default=0)
    return [each for each in found.values() if len(each) > longest / 3]


def measure(execution: str, trials: int) -> Iterator[Measurement]:
    """Yield peak and growth of each role of a search; no growth for fewer than MIN_TRIALS trials."""
    samples = watch(execution, trials)
    for role in ("driver", "worker"):
        processes = by_process(samples, role)
        if not processes:
            continue
        row = partial(Measurement, unit="MiB", note=f"{trials} trials, {len(processes)} process(es)")
        name = f"execution={execution}, {role}"
        yield row(f"{name}: peak memory", "none", tuple(max(s.mib for s in each) for each in processes))
        if trials >= MIN_TRIALS:
            grown = tuple(growth(each) for each in processes)
            yield row(f"{name}: growth in 1,000 trials", "noise", grown, target=NOISE)


def benchmark(options: Options) -> Iterator[Measurement]:
    """Yield the memory of 1,000 trials in Ray's reused workers; if quick, of 20 trials in one process."""
    return measure("serial", 20) if options.quick else measure("local", 1000)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.memory")
    parser.add_argument("--execution", choices=("serial", "local"), default="local")
    parser.add_argument("--trials", type=int, default=1000)
    chosen = parser.parse_args()
    for measurement in measure(chosen.execution, chosen.trials):
        print(f"{measurement.what}: {', '.join(f'{mib:.0f}' for mib in measurement.ours)} MiB ({measurement.note})")
