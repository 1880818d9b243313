"""The batch script on a stand-in for Slurm: two "nodes" on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.commands import finished, tabular, write_table

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm" / "search.sbatch"
SRUN = """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
printf 'localhost\\nlocalhost\\n'
"""


@pytest.fixture
def slurm(tmp_path):
    """The environment of a job on two nodes with one core each."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    here = Path(sys.executable).parent
    job = {"SLURM_JOB_NODELIST": "localhost[1-2]", "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": str(os.getpid())}
    step = {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "nasx", "SLURM_LOCALID": "0"}
    return {**os.environ, **job, **step, "PATH": f"{programs}:{here}:{os.environ['PATH']}", "COLUMNS": "120"}


@pytest.mark.slow
def test_a_search_runs_in_one_allocation(slurm, tmp_path):
    table = write_table(tmp_path / "table.csv")
    options = [*tabular(table, 12, seconds=0.05), "--run-dir=run"]

    done = subprocess.run(
        ["bash", str(SCRIPT), *options], cwd=tmp_path, env=slurm, capture_output=True, text=True, timeout=240
    )

    assert done.returncode == 0, done.stderr
    assert len(finished(tmp_path / "run")) == 12
    assert "12/12 trials" in done.stderr


def test_more_than_a_node_has_is_refused(slurm, tmp_path):
    done = subprocess.run(
        ["bash", str(SCRIPT), "--config=lines.yaml"],
        cwd=tmp_path,
        env={**slurm, "CPUS_PER_TRIAL": "8"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert done.stderr == "A trial gets 8 cores and 0 GPUs; a node has 1 and 0.\n"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    checked = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True)

    assert checked.stdout == ""
