"""Checks of `nasx search`: serial trials, and several trials at the same time."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from scripts.bench.gpu_check.breaking import MARK
from scripts.bench.gpu_check.checking import DEVICE, IS_CUDA, check, cuda_check


def searched(*settings: str, limit: float, environment: Mapping[str, str] | None = None) -> tuple[str, list[str]]:
    """Run a search; return a summary and the reasons for which workers were replaced.

    Args:
        settings: overrides.
        limit: seconds.
        environment: additional variables.
    """
    file = os.environ.get("NASX_GPU_CHECK_DATA")
    data = ["dataset=numpy", f"dataset.file={file}", "dataset.test_fraction=0.02"] if file and IS_CUDA else []
    config = "cifar10.yaml" if data else "digits.yaml"
    runs = tempfile.mkdtemp()
    command = [sys.executable, "-m", "nasx", "search", "--config", config, *data, f"runs_dir={runs}"]
    command += [f"execution.device={DEVICE.type}", *settings]
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=limit, env={**os.environ, **(environment or {})}
    )
    print(done.stdout[-1500:], done.stderr[-2500:])
    assert done.returncode == 0, done.stderr.strip().splitlines()[-1]
    with sqlite3.connect(next(Path(runs).rglob("run.db"))) as base:
        states = base.execute("select status, reason, detail, count(*) from trials group by 1, 2, 3").fetchall()
        replaced = [row[0] for row in base.execute("select message from events where kind = 'worker_replaced'")]
    assert any(status == "complete" for status, *_ in states), states
    assert not any("CUDA graphs" in (detail or "") for _, _, detail, _ in states), states
    assert not any(status == "failed" for status, *_ in states), states
    counts = ", ".join(f"{count} {reason or status}" for status, reason, _, count in states)
    noise = [line for line in done.stderr.splitlines() if "Warning" in line]
    return f"{time.perf_counter() - started:.0f} s: {counts}; warnings: {sorted(set(noise))[:3]}", replaced


@check
def serial_trials() -> str:
    return searched("execution=serial", "algorithm.evaluations=3", "training.epochs=2", limit=45)[0]


SEVERAL = ["execution=local", f"execution.workers={4 if IS_CUDA else 1}", "training.epochs=3"]
SEVERAL += ["algorithm.evaluations=16" if IS_CUDA else "algorithm.evaluations=3"]


@check
def several_at_once_by_ray() -> str:
    return searched(*SEVERAL, limit=75)[0]


@cuda_check
def several_at_once_by_ray_and_mps() -> str:
    return searched(*SEVERAL, "execution.mps=true", limit=75)[0]


@cuda_check
def a_broken_worker_is_replaced() -> str:
    mark = Path(tempfile.mkdtemp(), "broken")
    scorer = ["scorer=activations", "scorer._target_=scripts.bench.gpu_check.breaking.BreakingScorer"]
    summary, replaced = searched(*SEVERAL, *scorer, limit=75, environment={MARK: str(mark)})
    assert mark.exists(), "no worker was broken"
    assert len(replaced) == 1, replaced
    return f"{summary}; {replaced[0]}"


@cuda_check
def nothing_is_left_on_the_gpu() -> str:
    """List the processes on the GPU; this process has no CUDA context in this stage."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader"]
    left = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    return left or "nothing"
