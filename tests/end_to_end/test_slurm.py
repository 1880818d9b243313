"""Batch script on a simulated Slurm: two "nodes" on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.factories.commands import finished, tabular, write_table

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm" / "search.sbatch"
SRUN = """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
printf 'localhost\\nlocalhost\\n'
"""


@pytest.fixture
def slurm(tmp_path, ray_folder):
    """Environment of a job on two nodes with one core each."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    here = Path(sys.executable).parent
    job = {"SLURM_JOB_NODELIST": "localhost[1-2]", "SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": str(os.getpid())}
    step = {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "nasx", "SLURM_LOCALID": "0"}
    ray = {"RAY_TMPDIR": ray_folder}
    # without variables that nasx, if another test has imported it, sets for one machine: Ray would refuse more nodes
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    return {**clean, **job, **step, **ray, "PATH": f"{programs}:{here}:{os.environ['PATH']}", "COLUMNS": "120"}


def submit(*options, cwd, env, seconds=180):
    """Run the batch script and return (status, output); end all its processes, after `seconds` at the latest."""
    log = cwd / "job.log"  # not a pipe, which a remaining process would keep open
    with log.open("w") as out:
        job = subprocess.Popen(
            ["bash", str(SCRIPT), *options], cwd=cwd, env=env, stdout=out, stderr=out, start_new_session=True
        )
        try:
            status = job.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end_session(job.pid)
            job.wait()
    return status, log.read_text()


def end_session(leader):
    """Kill every process of a session; Ray puts some of its processes into other process groups."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(process.name)) == leader:
                os.kill(int(process.name), signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.mark.slow
def test_a_search_runs_in_one_allocation(slurm, tmp_path):
    table = write_table(tmp_path / "table.csv")

    status, output = submit(*tabular(table, 12, seconds=0.05), "--run-dir=run", cwd=tmp_path, env=slurm)

    assert status == 0, output
    assert len(finished(tmp_path / "run")) == 12
    assert "12/12 trainings" in output


def test_a_node_on_which_ray_does_not_start_ends_the_job(slurm, tmp_path):
    ray = tmp_path / "bin" / "ray"
    ray.write_text("#!/usr/bin/env bash\necho no such switch >&2\nexit 3\n")
    ray.chmod(0o755)

    status, output = submit("--config=lines.yaml", cwd=tmp_path, env=slurm, seconds=60)

    assert status == 2
    assert "no such switch" in output
    assert "Ray has ended on a node with status 3; its messages are above." in output


def test_a_trial_that_needs_more_than_a_node_has_is_refused(slurm, tmp_path):
    done = subprocess.run(
        ["bash", str(SCRIPT), "--config=lines.yaml"],
        cwd=tmp_path,
        env={**slurm, "CPUS_PER_TRIAL": "8"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 2
    assert done.stderr == "A trial needs 8 cores and 0 GPUs; a node has 1 and 0.\n"


@pytest.mark.parametrize(
    ("gpus", "share", "workers", "gpus_per_trial"),
    [
        ("1", None, 8, "null"),  # 4 trials a GPU
        ("0", None, 32, "0"),
        ("2", "0.4", 8, "0.4"),  # a share does not span two GPUs
        ("2", "2", 2, "2"),
        ("2", "0", 32, "0"),
    ],
)
def test_the_number_of_trials_is_what_the_gpus_hold(slurm, tmp_path, gpus, share, workers, gpus_per_trial):
    stand_in(tmp_path)
    asked = {"SLURM_GPUS_ON_NODE": gpus, "SLURM_CPUS_PER_TASK": "16", "RAY_AUTH_TOKEN": "t"}
    asked |= {} if share is None else {"GPUS_PER_TRIAL": share}

    status, output = submit("--config=lines.yaml", cwd=tmp_path, env={**slurm, **asked}, seconds=30)

    assert status == 0, output
    assert f"execution.workers={workers}\n" in output
    assert f"execution.gpus_per_trial={gpus_per_trial}\n" in output


STAND_INS = {"ray": "sleep 30", "python": "exit 0", "nasx": 'printf "%s\\n" "$@"'}


def stand_in(folder, **programs):
    """Replace programs by bash scripts."""
    for name, text in {**STAND_INS, **programs}.items():
        (folder / "bin" / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (folder / "bin" / name).chmod(0o755)


@pytest.mark.parametrize(
    ("options", "run", "restarts", "words"),
    [
        (["--config=a"], "runs/job-7", "1", "search\n--resume\n--run-dir\nruns/job-7\nexecution=cluster\n"),
        (["--config=a", "--run-dir=b"], "b", "2", "search\n--resume\n--run-dir\nb\nexecution=cluster\n"),
        (["--config=a", "--run-dir", "b"], "b", "1", "search\n--resume\n--run-dir\nb\nexecution=cluster\n"),
        (["--resume", "--run-dir", "b"], "b", "1", "search\n--resume\n--run-dir\nb\nexecution=cluster\n"),
        (["--config=a"], "runs/job-7", "0", "search\n--config=a\n--run-dir\nruns/job-7\nexecution=cluster\n"),
        (["--config=a"], "other", "1", "search\n--config=a\n--run-dir\nruns/job-7\nexecution=cluster\n"),
    ],
)
def test_a_requeued_job_resumes_its_run(slurm, tmp_path, options, run, restarts, words):
    stand_in(tmp_path)
    (tmp_path / run).mkdir(parents=True)
    (tmp_path / run / "run.db").write_text("a journal")
    job = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": restarts, "RAY_AUTH_TOKEN": "t"}

    status, output = submit(*options, cwd=tmp_path, env={**slurm, **job}, seconds=30)

    assert status == 0, output
    assert words in output


def test_sigterm_reaches_the_search_and_its_status_is_that_of_the_job(slurm, tmp_path):
    search = "trap 'echo got SIGTERM; exit 143' TERM; touch begun; while :; do sleep 0.1; done"
    stand_in(tmp_path, nasx=search)
    with (tmp_path / "job.log").open("w") as out:
        env = {**slurm, "RAY_AUTH_TOKEN": "t"}
        job = subprocess.Popen(
            ["bash", str(SCRIPT), "--config=a"], cwd=tmp_path, env=env, stdout=out, stderr=out, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 20
            while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            job.send_signal(signal.SIGTERM)
            status = job.wait(20)
        finally:
            end_session(job.pid)
            job.wait()

    assert (tmp_path / "job.log").read_text().splitlines()[-1] == "got SIGTERM"
    assert status == 143


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    # SC2329 is the name that newer versions have for SC2317, which the script switches off where a trap calls
    checked = subprocess.run(["shellcheck", "--exclude=SC2329", str(SCRIPT)], capture_output=True, text=True)

    assert checked.stdout == ""
