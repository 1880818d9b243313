"""Broken workers, in which every trial fails: they are replaced, and no network is lost."""

from __future__ import annotations

import pytest

from nasx.execution.workers import FailureStreak
from nasx.trial import Evaluation, Job, Reason, TrialStatus
from tests.factories import evaluators
from tests.factories.searches import bare, make_loop, nsga2

# of Ray's own
ray_warnings = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def replaced(loop) -> list[str]:
    return [event.message for event in loop.store.events() if event.kind == "worker_replaced"]


@ray_warnings
@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (evaluators.breaks_its_device, "CUDA error: an illegal memory access was encountered"),
        (evaluators.fails_in_one_process, "in a row failed in this worker, error: RuntimeError: made up"),
        (evaluators.runs_out_of_memory_in_one_process, "in a row failed in this worker, out_of_memory: made up"),
    ],
    ids=["device", "errors", "memory"],
)
def test_a_broken_worker_is_replaced_and_no_network_is_lost(workers, serial, tmp_path, evaluate, message):
    loop = make_loop(tmp_path / "ray", nsga2(), evaluations=12, max_parts=256)

    workers.run(loop, evaluate, lambda: None)

    assert bare(loop.store.trials()) == bare(serial.store.trials())
    assert len(replaced(loop)) == 1
    assert message in replaced(loop)[0]
    assert not list((tmp_path / "ray").rglob("*.broken"))


@ray_warnings
def test_a_network_that_fails_in_every_worker_does_not_replace_any(workers, tmp_path):
    loop = make_loop(tmp_path, nsga2(), evaluations=12)

    workers.run(loop, evaluators.raises_for_one_network, lambda: None)

    failed = [trial for trial in loop.store.trials() if trial.status is TrialStatus.FAILED]
    assert [trial.genotype for trial in failed] == [(0, 1)]
    assert failed[0].evaluation.detail == "ValueError: made up"


def job_of(tmp_path, name: str) -> Job:
    return Job(arch_id=name, replicate=0, genotype=(0,), seed=0, weights_file=tmp_path / name)


ERROR = Evaluation.failed(Reason.ERROR, "Traceback:\nValueError: made up")
TIMEOUT = Evaluation.failed(Reason.TIMEOUT, "too slow")
MEMORY = Evaluation.failed(Reason.OUT_OF_MEMORY, "no memory left")
DIVERGED = Evaluation.failed(Reason.DIVERGED, "the loss was nan")
COMPLETE = Evaluation(TrialStatus.COMPLETE)
REPLACED = "3 attempts in a row failed in this worker, "


@pytest.mark.parametrize(
    ("history", "why"),
    [
        ("a:E b:E c:E", REPLACED + "error: ValueError: made up"),
        ("a:T b:T c:T", REPLACED + "timeout: too slow"),
        ("a:M a:M a:M", REPLACED + "out_of_memory: no memory left"),  # in smaller and smaller parts of a batch
        ("a:E a:E", "2 attempts in a row failed in this worker, error: ValueError: made up"),
        ("a:E b:E a:E", REPLACED + "error: ValueError: made up"),
        ("a:T a:T", None),
        ("a:E b:E", None),
        ("a:E b:E d:C c:E", None),
        ("a:E b:T c:E", None),
        ("a:D b:D c:D", REPLACED + "diverged: the loss was nan"),  # of several networks: a fault of the machine
        ("a:E b:E c:D d:E", None),
    ],
)
def test_three_failures_in_a_row_or_two_of_one_job_replace_a_worker(tmp_path, history, why):
    answers = {"E": ERROR, "T": TIMEOUT, "M": MEMORY, "D": DIVERGED, "C": COMPLETE}
    streak = FailureStreak()
    *before, last = [streak.add(job_of(tmp_path, step[0]), answers[step[2]]) for step in history.split()]

    assert not any(before)
    assert last == why
