"""Searches that are killed, interrupted or refused: real processes, real signals."""

from __future__ import annotations

import random
import shutil
import signal
import time

import pytest

from nasx.runs.directory import lock
from tests.factories.commands import (
    LINES,
    contents,
    events,
    finished,
    kill,
    run,
    start,
    tabular,
    trained_twice,
    wait_for,
    write_table,
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("table") / "table.csv")


@pytest.fixture(scope="module")
def begun(table, tmp_path_factory):
    """Directory of a search of 40 networks that was killed after some trainings."""
    cwd = tmp_path_factory.mktemp("begun")
    process = start(*tabular(table, 40, seconds=0.05), "--run-dir=run", cwd=cwd)
    wait_for(lambda: len(finished(cwd / "run")) >= 5, process)
    kill(process)
    return cwd / "run"


@pytest.fixture
def interrupted(table, begun, tmp_path):
    """Copy a killed run to tmp_path/run, and return its options."""
    shutil.copytree(begun, tmp_path / "run")
    return tabular(table, 40, seconds=0.05)


def killed_and_resumed(options, cwd, kills, seed):
    """Kill a search several times, each time after further trials, then run it to its end; check that nothing is lost.

    Args:
        options: of the search.
        cwd: current directory.
        kills: number of kills.
        seed: of their times.
    """
    rng = random.Random(seed)
    run_dir, known = cwd / "killed", {}
    for _ in range(kills):
        process = start(*(("--resume",) if known else options), "--run-dir=killed", cwd=cwd)
        goal = len(known) + rng.randint(1, 2)
        wait_for(lambda goal=goal: len(finished(run_dir)) >= goal, process)
        time.sleep(rng.uniform(0, 0.3))
        kill(process)
        now = finished(run_dir)
        assert known.items() <= now.items()
        known = now
    last = run("--resume", "--run-dir=killed", cwd=cwd)
    assert last.returncode == 0, last.stderr
    assert known.items() <= finished(run_dir).items()
    assert trained_twice(run_dir) == []
    return last


def test_a_search_killed_five_times_has_the_results_of_an_undisturbed_search(tmp_path):
    options = [*LINES, "algorithm.evaluations=16"]
    undisturbed = run(*options, "--run-dir=whole", cwd=tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stderr

    last = killed_and_resumed(options, tmp_path, kills=5, seed=1)

    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert any(replicate for _, replicate in finished(tmp_path / "whole"))
    assert last.stdout == undisturbed.stdout


def test_a_search_with_workers_killed_and_resumed_has_the_results_of_a_serial_search(table, tmp_path):
    local = ["execution=local", "execution.workers=2", "algorithm.lag=4"]
    serial = run(*tabular(table, 40), "algorithm.lag=4", "--run-dir=whole", cwd=tmp_path)
    assert serial.returncode == 0, serial.stderr

    killed_and_resumed([*tabular(table, 40, seconds=0.3), *local], tmp_path, kills=2, seed=2)

    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_a_moved_run_is_resumed(interrupted, tmp_path):
    (tmp_path / "run").rename(tmp_path / "moved")

    assert run("--resume", "--run-dir=moved", cwd=tmp_path).returncode == 0
    assert len(finished(tmp_path / "moved")) == 40


def test_resume_accepts_another_budget_and_extends_a_run(interrupted, tmp_path):
    first = run("--resume", "--run-dir=run", "algorithm.evaluations=10", cwd=tmp_path)
    second = run("--resume", "--run-dir=run", "algorithm.evaluations=45", cwd=tmp_path)
    whole = run(*interrupted, "algorithm.evaluations=45", "evaluation.seconds=0", "--run-dir=whole", cwd=tmp_path)

    assert (first.returncode, second.returncode) == (0, 0)
    assert second.stdout == whole.stdout
    assert trained_twice(tmp_path / "run") == []


def test_resume_refuses_and_reports_settings_that_would_change_results(interrupted, tmp_path):
    refused = run("--resume", "--run-dir=run", "algorithm.population_size=32", "seed=3", cwd=tmp_path)

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert refused.stderr == (
        "nasx: run was started with other settings: algorithm.population_size was 64, is 32 now; seed was 0, is 3 now. "
        "Here only algorithm.evaluations, search, execution, runs_dir, logger, finetune_front, evaluation.table may "
        "change; for other changes start a new run.\n"
    )


def test_a_run_in_use_is_refused(interrupted, tmp_path):
    with lock(tmp_path / "run"):
        refused = run("--resume", "--run-dir=run", cwd=tmp_path)

    assert refused.returncode == 2
    assert refused.stderr.startswith("nasx: run is in use by another search (process ")


def test_a_search_refuses_a_directory_that_is_not_empty(interrupted, table, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").touch()
    run_again = run(*interrupted, "--run-dir=run", cwd=tmp_path)
    elsewhere = run(*interrupted, "--run-dir=thesis", cwd=tmp_path)

    assert (run_again.returncode, elsewhere.returncode) == (2, 2)
    assert run_again.stderr == (
        "nasx: run already contains a run. Resume it with --resume, or choose another --run-dir.\n"
    )
    assert elsewhere.stderr == (
        "nasx: thesis is not empty: it contains chapter1.tex. Choose a new directory with --run-dir.\n"
    )


def test_a_search_that_was_killed_while_it_created_its_files_can_start_again(table, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.yaml.4711.tmp").write_text("name: ")
    (tmp_path / "run" / "..lock.holder.4711.tmp").write_text("4711")
    (tmp_path / "run" / ".lock").touch()

    done = run(*tabular(table, 8), "execution=serial", "--run-dir=run", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "run").glob("*.tmp"))


@pytest.mark.parametrize("execution", ["serial", "local"])
@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_once_finishes_running_trials_twice_stops_at_once_and_both_print_how_to_resume(
    table, tmp_path, execution, signals
):
    options = [f"execution={execution}", "execution.device=cpu", *(["execution.workers=2"] * (execution == "local"))]
    seconds = 1.0 if signals == 1 else 30.0
    process = start(*tabular(table, 40, seconds), *options, "--run-dir=run", cwd=tmp_path)
    wait_for(lambda: any(event.kind == "attempt" for event in events(tmp_path / "run")), process)
    time.sleep(0.5)
    kill(process, signal.SIGINT)
    if signals == 2:
        time.sleep(0.5)
        kill(process, signal.SIGINT)
    signalled = time.monotonic()
    out, err = process.communicate(timeout=60)

    assert process.returncode == 130
    assert err.splitlines()[-3:] == [
        "Run directory: run",
        "Stopped: interrupted.",
        "Resume with: nasx search --resume --run-dir run",
    ]
    assert "Traceback" not in out + err
    if signals == 1:
        assert 1 <= len(finished(tmp_path / "run")) <= 4
    else:
        assert finished(tmp_path / "run") == {}
        assert time.monotonic() - signalled < 15  # a trial takes 30 s; 2 s on an idle machine
