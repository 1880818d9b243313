"""NVIDIA's Multi-Process Service, simulated by a script: it starts and ends with the search, even if that is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nasx.errors import ResourceError, SettingError
from nasx.execution import mps, ray, workers
from nasx.execution.mps import multi_process_service
from nasx.execution.ray import RayExecution

CONTROL = """#!/usr/bin/env bash
echo "$CUDA_MPS_PIPE_DIRECTORY ${1:-$(cat)}" >> "$(dirname "$0")/calls"
[ "${1:-}" != -d ] || exit "${MPS_STATUS:-0}"
"""


@pytest.fixture
def control(tmp_path, monkeypatch):
    """Replace the service's control by a script; returns the commands that it receives."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / mps.CONTROL).write_text(CONTROL)
    (programs / mps.CONTROL).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(mps, "PROBE", "import os; assert os.environ['CUDA_MPS_PIPE_DIRECTORY']")

    def calls() -> list[str]:
        file = programs / "calls"
        return [line.partition(" ")[2] for line in file.read_text().splitlines()] if file.exists() else []

    return calls


def test_it_runs_as_long_as_the_block(control, tmp_path):
    with multi_process_service(tmp_path / "mps") as variables:
        assert control() == ["-d"]
        assert variables["CUDA_MPS_PIPE_DIRECTORY"] == str(tmp_path / "mps" / "pipe")
        assert all(Path(directory).is_dir() for directory in variables.values())
        assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ  # not in this process
    assert control() == ["-d", "quit"]


def test_it_ends_with_a_search_that_is_killed(control, tmp_path):
    code = "import os; from nasx.execution import mps; from pathlib import Path; mps.PROBE = ''\n"
    code += f"with mps.multi_process_service(Path({str(tmp_path / 'mps')!r})): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code])

    deadline = time.monotonic() + 10
    while control() != ["-d", "quit"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert control() == ["-d", "quit"]


def test_a_service_that_does_not_start_is_an_error(control, tmp_path, monkeypatch):
    monkeypatch.setenv("MPS_STATUS", "1")
    with pytest.raises(ResourceError, match=r"^nvidia-cuda-mps-control did not start: set execution\.mps=false\.$"):
        multi_process_service(tmp_path / "mps").__enter__()


def test_a_gpu_that_the_service_cannot_use_is_an_error_and_the_service_ends(control, tmp_path, monkeypatch):
    monkeypatch.setattr(mps, "PROBE", "raise SystemExit(46)")
    with pytest.raises(ResourceError, match=r"cuInit returned 46\): set execution\.mps=false\.$"):
        multi_process_service(tmp_path / "mps").__enter__()
    assert control() == ["-d", "quit"]


def test_a_machine_without_the_service_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceError, match=r"^execution\.mps needs nvidia-cuda-mps-control of NVIDIA's driver: set"):
        multi_process_service(tmp_path / "mps").__enter__()


def test_workers_on_gpus_get_its_variables(control, monkeypatch):
    started = []
    monkeypatch.setattr(workers, "_count_gpus", lambda: 1)
    monkeypatch.setattr(ray.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray.ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray.ray, "init", lambda **_: started.append(os.environ.get("CUDA_MPS_PIPE_DIRECTORY")))
    monkeypatch.setattr(ray, "_wait_for_workers", lambda n, ready: None)

    with RayExecution(mps=True, workers=2).started():
        pass

    assert len(started) == 1 and started[0]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert control() == ["-d", "quit"]


def test_the_service_is_refused_for_trials_on_the_cpu():
    with pytest.raises(SettingError, match=r"^mps needs trials on GPUs, but these trials run on the CPU: set "):
        RayExecution(device="cpu", mps=True)


def test_the_service_is_refused_for_a_cluster():
    with pytest.raises(SettingError, match=r"^mps is for this machine only"):
        RayExecution(address="auto", workers=2, mps=True)
