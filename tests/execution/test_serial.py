"""Execution in this process."""

from __future__ import annotations

import pytest

from nasx.errors import ResourceError, SettingError
from nasx.execution.serial import SerialExecution
from tests.factories.evaluators import no_disk
from tests.factories.searches import Script, drive, make_loop, measured, nsga2


def test_one_job_after_the_other_is_evaluated_until_the_loop_is_finished(tmp_path):
    expected = drive(make_loop(tmp_path / "by hand", nsga2(), evaluations=9))
    loop = make_loop(tmp_path / "serial", nsga2(), evaluations=9)
    seen = []

    SerialExecution(device="cpu").run(loop, measured, lambda: seen.append(loop.running))

    assert [(t.arch_id, t.replicate) for t in loop.store.trials_by_time()] == expected
    assert loop.finished
    assert seen == [1, 0] * 9


def test_a_lack_of_resources_ends_the_search_and_the_trial_stays_unrecorded(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)))

    with pytest.raises(ResourceError, match="no space left"):
        SerialExecution(device="cpu").run(loop, no_disk, lambda: None)
    loop.close()

    assert loop.store.trials() == []
    assert loop.store.attempts(loop.store.candidates()[0].arch_id) == 0


def test_the_plan_has_the_number_of_workers_that_ray_would_have(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(6), raising=False)

    assert SerialExecution(device="cpu").plan.workers == 6


def test_an_unknown_device_is_refused():
    with pytest.raises(SettingError, match=r"^device must be auto, cpu or cuda, got 'tpu'$"):
        SerialExecution(device="tpu")
