"""The same loop with worker processes: same results, whatever happens to the workers."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray

import nasx
from nasx.errors import ResourceError, SettingError
from nasx.execution import ray as ray_module
from nasx.execution import stuck, tuner
from nasx.execution.budget import SearchLimits
from nasx.execution.ray import RayExecution, _quiet_threads
from nasx.trial import Job, Reason, TrialStatus
from tests.factories import evaluators
from tests.factories.searches import Script, bare, front_of, make_loop, nsga2

# of Ray's own
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def test_it_finds_what_a_serial_search_finds_and_its_workers_live_through_every_wait(workers, serial, tmp_path):
    loop = make_loop(tmp_path / "ray", nsga2(lag=3), evaluations=12)

    workers.run(loop, evaluators.with_process_id, lambda: None)

    assert bare(loop.store.trials()) == bare(serial.store.trials())
    assert front_of(loop) == front_of(serial)
    # trials as short as these may leave Tune with one worker; more than two would mean that idle ones had been ended
    assert 1 <= len(evaluators.process_ids(tmp_path / "ray")) <= 2


def test_trials_run_in_the_processes_that_ray_has_started_ahead(workers, tmp_path):
    loop = make_loop(tmp_path, nsga2(), evaluations=4)

    workers.run(loop, evaluators.with_environment, lambda: None)

    assert len(loop.trials) >= 4
    assert not (tmp_path / "own-environment").exists()


@pytest.mark.parametrize(
    "controller", [None, SimpleNamespace(_actor_cache=None, _class_cache=SimpleNamespace(_cache=()))]
)
def test_a_tune_that_looks_different_inside_costs_only_speed(controller):
    trial = SimpleNamespace(placement_group_factory=None, get_trainable_cls=lambda: tuner.TrialRunner)

    tuner.KeepWorkers(2, started_ahead=True).on_trial_add(SimpleNamespace(_tune_controller=controller), trial)


def test_ray_runs_none_of_the_processes_that_a_search_has_no_use_for(workers):
    running = ray._private.worker._global_node.all_processes
    assert "raylet" in running
    assert not running.keys() & {"monitor", "log_monitor", "dashboard"}


def test_ray_listens_on_loopback_only_and_keeps_its_files_in_the_folder_of_the_search(workers):
    assert ray.util.get_node_ip_address() == "127.0.0.1"
    assert re.match(r"/tmp/nasx-\w+/ray/session_", ray.nodes()[0]["ObjectStoreSocketName"])
    assert "RAY_TMPDIR" not in os.environ


def test_tune_forgets_what_it_has_heard_of_a_trial(workers, tmp_path, monkeypatch):
    left = []
    forget = tuner.Watcher.on_trial_complete

    def and_look(self, iteration, trials, trial, **info):
        forget(self, iteration, trials, trial, **info)
        left.append((dict(trial.metric_analysis), dict(trial.metric_n_steps), "outcome" in trial.last_result))

    monkeypatch.setattr(tuner.Watcher, "on_trial_complete", and_look)
    loop = make_loop(tmp_path, nsga2(), evaluations=4)

    workers.run(loop, evaluators.with_process_id, lambda: None)

    assert len(loop.trials) >= 4
    assert left
    assert all(found == ({}, {}, False) for found in left)


def test_a_worker_killed_in_mid_trial_costs_a_retry_only(workers, serial, tmp_path):
    loop = make_loop(tmp_path / "ray", nsga2(), evaluations=12)

    workers.run(loop, evaluators.killed_once, lambda: None)

    assert bare(loop.store.trials()) == bare(serial.store.trials())
    retried = {t.genotype for t in loop.trials.values() if t.retries}
    assert retried == set(evaluators.KILLERS) & {t.genotype for t in loop.trials.values()} != set()


def test_what_the_machine_lacks_stops_the_search_with_its_message(workers, tmp_path):
    loop = make_loop(tmp_path, nsga2())

    with pytest.raises(ResourceError, match=r"^no space left on the disk while writing weights\.$"):
        workers.run(loop, evaluators.no_disk, lambda: None)

    assert loop.store.trials() == []


def test_a_bug_in_a_worker_is_raised_as_it_is(workers, tmp_path):
    with pytest.raises(ZeroDivisionError, match="a bug"):
        workers.run(make_loop(tmp_path, nsga2()), evaluators.broken, lambda: None)


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        ("time_limit", "took longer than search.time_limit, 0.3 s, and did not stop"),
        ("stall_limit", "no progress within search.stall_limit, 0.3 s, and its worker did not stop"),
    ],
)
def test_a_worker_that_is_frozen_is_killed_beyond_the_limit(workers, tmp_path, monkeypatch, limit, why):
    monkeypatch.setattr(stuck, "GRACE", 0.7)
    loop = make_loop(tmp_path, Script((0, 0), (0, 1)), evaluations=2, retries=0, **{limit: 0.3})

    workers.run(loop, evaluators.stuck_once, lambda: None)

    frozen, other = loop.store.trials()
    assert (frozen.status, frozen.evaluation.reason) == (TrialStatus.FAILED, Reason.TIMEOUT)
    assert frozen.evaluation.detail == why
    assert other.is_complete


def test_a_worker_that_freezes_while_it_starts_is_replaced(workers, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_module, "GRACE", -4.0)
    loop = make_loop(tmp_path, Script((0, 0), (0, 1)), evaluations=2, stall_limit=1.0)

    workers.run(loop, evaluators.FrozenWhileItStarts(tmp_path / "frozen"), lambda: None)

    assert (tmp_path / "frozen").exists()
    assert all(trial.is_complete for trial in loop.store.trials())


def test_workers_are_not_killed_for_time_in_which_the_search_was_suspended(tmp_path, monkeypatch):
    now = 0.0
    monkeypatch.setattr(stuck.time, "monotonic", lambda: now)
    job = Job(arch_id="a", replicate=0, genotype=(0,), seed=0, weights_file=tmp_path / "a")
    running = stuck.RunningTrials(SearchLimits(evaluations=1, stall_limit=10.0), imported_ahead=True)
    running.begin("1", "worker", job)
    for now in (1.0, 2.0, 3602.0, 3603.0):  # noqa: B007 - the clock reads it
        running.look()
    assert list(running.stuck()) == []
    for now in range(3604, 3640):  # noqa: B007
        running.look()
    assert [trial for trial, _, _ in running.stuck()] == ["1"]
    assert running.end("1")


def test_a_worker_that_hears_no_alarm_ends_itself_and_tells_where_it_hung(workers, tmp_path):
    loop = make_loop(tmp_path, Script((0, 0), (0, 1)), evaluations=2, stall_limit=0.2, retries=0)

    workers.run(loop, evaluators.hangs, lambda: None)

    stuck, other = loop.store.trials()
    assert stuck.evaluation.reason is Reason.TIMEOUT
    assert "in hangs\n" in stuck.evaluation.detail
    assert stuck.evaluation.detail.splitlines()[-1] == (
        "no progress within search.stall_limit, 0.2 s, and would not stop"
    )
    assert other.is_complete


def test_what_the_watcher_raises_ends_the_search_soon(workers, tmp_path):
    class Enough(BaseException):
        pass

    def watch() -> None:
        if loop.running and len(loop.trials) > 4:
            raised.append(time.monotonic())
            raise Enough

    raised: list[float] = []
    loop = make_loop(tmp_path, nsga2(), evaluations=12)
    with pytest.raises(Enough):
        workers.run(loop, evaluators.with_process_id, watch)

    assert time.monotonic() - raised[0] < 4  # 1 s and what a busy machine adds


def test_a_crash_of_tune_itself_costs_no_trial(workers, serial, tmp_path, monkeypatch):
    crashes = iter([True, True])
    choose = tuner.KeepWorkers.choose_trial_to_run

    def crash_twice(self, controller):
        if loop.running and len(loop.trials) >= 3 and next(crashes, False):
            raise ray.exceptions.RaySystemError("made up")
        return choose(self, controller)

    monkeypatch.setattr(tuner.KeepWorkers, "choose_trial_to_run", crash_twice)
    loop = make_loop(tmp_path / "ray", nsga2(), evaluations=12)
    workers.run(loop, evaluators.with_process_id, lambda: None)

    assert bare(loop.store.trials()) == bare(serial.store.trials())
    assert [e.kind for e in loop.store.events()].count("executor_restart") == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"cpus_per_trial": 0}, "cpus_per_trial must be at least 1, got 0"),
        ({"gpus_per_trial": -1.0}, "gpus_per_trial must be at least 0, got -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        RayExecution(**settings)


def test_a_cluster_that_is_not_there_is_named_soon(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    execution = RayExecution(device="cpu", workers=1, address="127.0.0.1:1")

    with pytest.raises(ResourceError, match=r"^could not join the Ray cluster at 127\.0\.0\.1:1: .*refused"):
        execution.run(None, None, lambda: None)  # type: ignore[arg-type]


def test_workers_find_a_checkout_that_is_not_installed(monkeypatch):
    home = str(Path(nasx.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", "/users/own")
    monkeypatch.setattr("site.getsitepackages", lambda: ["/usr/lib/python3/site-packages"])
    assert ray_module._python_path() == f"{home}{os.pathsep}/users/own"
    monkeypatch.setattr("site.getsitepackages", lambda: [home])  # it would come before Python's own modules
    assert ray_module._python_path() == "/users/own"


def test_the_environment_is_as_it_was_once_ray_has_started(monkeypatch, tmp_path):
    seen = {}
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(ray_module.ray, "init", lambda **_: seen.update(os.environ))
    monkeypatch.setattr(ray_module, "_wait_for_workers", lambda n, ready: None)
    before = dict(os.environ)

    ray_module._start(None, RayExecution(device="cpu", workers=1).plan, ["os"], str(tmp_path))

    assert seen[ray_module.PRELOAD]
    assert seen["PYTHONPATH"]
    assert dict(os.environ) == before


def test_errors_of_threads_of_ray_are_not_printed_and_others_are():
    def fail(error):
        thread = threading.Thread(target=lambda: (_ for _ in ()).throw(error))
        thread.start()
        thread.join()

    shown = []
    before, threading.excepthook = threading.excepthook, lambda args: shown.append(args.exc_value)
    try:
        with _quiet_threads():
            fail(ray.exceptions.RaySystemError("recvmsg: connection reset by peer"))
            fail(ours := ValueError("ours"))
    finally:
        threading.excepthook = before
    assert shown == [ours]
