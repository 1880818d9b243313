"""Check and measure the GPU path: it runs, computes what a CPU computes, and how fast it is.

    python -m scripts.bench.gpu_check [--out DIR] [--stages smoke equal backbone speed ideas search] [--checks NAME]
        [--data FILE.npz]
    NASX_DEVICE=cpu python -m scripts.bench.gpu_check      # runs all checks that a CPU can; ignore its figures

Each stage is a process with a time limit, 9 minutes in total. A check that fails, hangs or breaks the CUDA context does
not affect the others: the stage restarts after it. DIR/checks.jsonl has a record of each check. Without --data images
are synthetic; FILE.npz holds arrays `images` and `labels`, as in configs/dataset/numpy.yaml. The exit status is 1 if a
check failed. Without a GPU, checks that need one are reported as skipped.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.bench.gpu_check.checking import BROKEN, Outcome, read

SECONDS = {"smoke": 100, "equal": 50, "backbone": 60, "speed": 150, "ideas": 60, "search": 120}  # limit of each stage
CPU_FACTOR = 3  # of these limits on a CPU, which may be busy
STYLES = {"ok": "green", "skipped": "dim", "failed": "bold red", "cut off": "yellow"}


def run_stage(stage: str, limit: float, environment: dict[str, str], log: Path) -> None:
    """Run the checks of a stage; start a new process after a check that has broken the previous one.

    Args:
        stage: name of its module.
        limit: seconds for all its checks.
        environment: of its processes.
        log: file to append their output to.
    """
    ends = time.monotonic() + limit
    command = [sys.executable, "-m", "scripts.bench.gpu_check.checking", stage]
    with log.open("a") as output:
        while (left := ends - time.monotonic()) > 1:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            try:
                status = process.wait(left)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return
            if status != BROKEN and status >= 0:  # negative: ended by a signal
                return


def show(outcomes: list[Outcome], console: Console) -> None:
    """Print a table of the outcomes."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("stage", "check", "outcome", "found"):
        table.add_column(column, overflow="fold")
    for outcome in outcomes:
        style = STYLES[outcome.state]
        table.add_row(outcome.stage, outcome.name, f"[{style}]{outcome.state}[/]", outcome.found)
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.gpu_check")
    parser.add_argument("--out", type=Path, default=Path("build/gpu_check"))
    parser.add_argument("--stages", nargs="+", choices=tuple(SECONDS), default=list(SECONDS))
    parser.add_argument("--data", type=Path, help="real images; checks of training are more reliable with them")
    parser.add_argument("--checks", nargs="+", default=[], metavar="NAME", help="run only these checks of the stages")
    chosen = parser.parse_args()
    if chosen.data is not None and not chosen.data.is_file():
        parser.error(f"--data {chosen.data} is not a file")
    chosen.out.mkdir(parents=True, exist_ok=True)
    record = chosen.out / "checks.jsonl"
    record.write_text("")
    environment = {"NASX_DEVICE": "cuda", **os.environ, "NASX_GPU_CHECK_RECORD": str(record.resolve())}
    environment["NASX_GPU_CHECK_ONLY"] = " ".join(chosen.checks)
    if chosen.data is not None:
        environment["NASX_GPU_CHECK_DATA"] = str(chosen.data.resolve())
    factor = 1 if environment["NASX_DEVICE"] == "cuda" else CPU_FACTOR
    for stage in chosen.stages:
        started = time.monotonic()
        limit = factor * SECONDS[stage]
        run_stage(f"scripts.bench.gpu_check.{stage}", limit, environment, chosen.out / "log.txt")
        print(f"{stage}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    outcomes = read(record)
    show(outcomes, Console(width=180))
    return 1 if any(outcome.state in ("failed", "cut off") for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
