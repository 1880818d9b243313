"""Stopping criteria of a search, the replicates that follow, and the forecast."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from nasx.errors import ConfigError
from nasx.execution import budget, jobs
from nasx.execution.workers import WorkerPlan
from nasx.experiment import check_gpu_budget
from nasx.trial import OBJECTIVES, Evaluation, Job, Reason
from tests.factories.searches import Script, drive, make_loop, measured, nsga2

STAGNANT = ((0, 0), (0, 1), (2, 2), (2, 3), (3, 3), (1, 1), (0, 2))  # the hypervolume grows twice, then stagnates
HOUR = 3600.0


@pytest.fixture
def clock(monkeypatch):
    """Clock of budgets and jobs, moved by the tests."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(budget, "time", clock)
    monkeypatch.setattr(jobs, "time", clock)
    return clock


def lasting(clock, seconds: float):
    """Return an evaluator whose trials take that long."""

    def evaluate(job: Job) -> Evaluation:
        clock.now += seconds
        return measured(job)

    return evaluate


def test_a_search_ends_when_its_hours_are_over(tmp_path, clock):
    loop = make_loop(tmp_path, nsga2(), evaluations=12, max_hours=0.5)

    assert len(drive(loop, lasting(clock, HOUR / 4))) == 2
    assert loop.finished
    assert loop.stopping == "the time of search.max_hours=0.5 is over"


def test_a_search_ends_when_its_gpu_hours_are_spent_and_a_resumed_one_goes_on_counting(tmp_path, clock):
    first = make_loop(tmp_path, nsga2(), evaluations=12, max_gpu_hours=1, gpus=0.25)
    assert len(drive(first, lasting(clock, HOUR), steps=3)) == 3
    assert first.progress().gpu_hours == 0.75
    first.store.close()
    clock.now += 1000 * HOUR  # time between sessions does not count

    resumed = make_loop(tmp_path, nsga2(), evaluations=12, max_gpu_hours=1, gpus=0.25)
    assert len(drive(resumed, lasting(clock, HOUR))) == 1

    assert resumed.finished
    assert resumed.stopping == "the GPU time of search.max_gpu_hours=1 is spent"
    assert [t.gpu_seconds for t in resumed.store.trials()] == [HOUR / 4] * 4


def test_gpu_hours_of_running_trials_and_of_every_attempt_count(tmp_path, clock):
    loop = make_loop(tmp_path, Script((0, 0), (0, 1)), evaluations=2, max_gpu_hours=3, gpus=0.5)
    lost, other = loop.next_job(), loop.next_job()
    clock.now += 10 * HOUR  # they wait for their workers
    loop.begin(lost)
    loop.begin(other)
    clock.now += HOUR
    loop.lose(lost, "its worker process died")
    clock.now += HOUR  # the lost one waits and holds no GPU
    assert loop.progress().gpu_hours == 1.5

    again = loop.next_job()
    loop.begin(again)
    clock.now += 2 * HOUR
    assert loop.progress().gpu_hours == 3.5
    assert loop.next_job() is None
    for job in (again, other):
        loop.complete(job, measured(job))

    assert [t.gpu_seconds for t in loop.store.trials()] == [1.5 * HOUR, 2 * HOUR]
    assert loop.finished


@pytest.mark.parametrize(
    ("limit", "gpus"), [({"max_hours": 2}, 0.0), ({"max_gpu_hours": 1}, 0.5)], ids=["hours", "GPU hours"]
)
def test_a_limit_of_time_that_is_met_exactly_ends_the_search(tmp_path, clock, limit, gpus):
    loop = make_loop(tmp_path, nsga2(), evaluations=12, gpus=gpus, **limit)

    assert len(drive(loop, lasting(clock, HOUR))) == 2


def test_a_search_that_has_trained_all_its_networks_has_not_stagnated():
    counted = budget.Budget(budget.SearchLimits(evaluations=3, patience=2), [OBJECTIVES["error"]], n_classes=4)
    stagnated = []
    for counted.evaluated in range(4):
        stagnated.append(counted.stagnation() is not None)

    assert stagnated == [False, False, True, False]


def test_growth_by_less_than_a_thousandth_is_none():
    counted = budget.Budget(budget.SearchLimits(evaluations=9, patience=1), [OBJECTIVES["error"]], n_classes=2)
    stagnated = []
    # hypervolumes from chance, 0.5: 0.1; 0.10009, which is 0.09 % more; 0.10015, which is 0.15 % more
    for error in (0.4, 0.39991, 0.39985):
        trial = SimpleNamespace(is_complete=True, metrics={"error": error})
        counted.count(trial, [trial])
        stagnated.append(counted.stagnation() is not None)

    assert stagnated == [False, True, False]


def test_trials_on_the_cpu_have_no_gpu_hours(tmp_path, clock):
    loop = make_loop(tmp_path, nsga2(), evaluations=3)
    drive(loop, lasting(clock, HOUR))

    assert loop.progress().gpu_hours == 0
    assert {t.gpu_seconds for t in loop.store.trials()} == {0.0}


def test_gpu_hours_without_a_gpu_are_refused_with_the_settings_to_use_instead():
    config = SimpleNamespace(search=SimpleNamespace(max_gpu_hours=2.0))

    def experiment(plan):
        return SimpleNamespace(config=config, execution=SimpleNamespace(plan=plan))

    check_gpu_budget(experiment(WorkerPlan(2, 1, 0.5, 1)))
    with pytest.raises(
        ConfigError,
        match=r"^search\.max_gpu_hours counts the time that trials hold GPUs, but these trials run on the CPU: "
        r"set search\.max_hours instead, or let them use GPUs by execution\.device and execution\.gpus_per_trial\.$",
    ):
        check_gpu_budget(experiment(WorkerPlan(2, 1, 0.0)))


def test_a_search_ends_when_its_hypervolume_has_stopped_growing(tmp_path):
    loop = make_loop(tmp_path, Script(*STAGNANT), patience=3)

    assert len(drive(loop)) == 5
    assert loop.finished
    assert loop.stopping is None
    assert loop.enough == "the hypervolume has not grown by 0.1% within search.patience=3 trials"


def test_a_running_trial_may_renew_the_patience(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0), (0, 1), (2, 2), (2, 3), (3, 3), (0, 2), (1, 1), (1, 2)), patience=3)
    drive(loop, steps=3)
    jobs = [loop.next_job() for _ in range(3)]
    for job in jobs[:2]:
        loop.complete(job, measured(job))
    assert loop.next_job() is None
    assert loop.enough

    loop.complete(jobs[2], measured(jobs[2]))

    assert loop.enough is None
    assert loop.next_job().genotype == (1, 1)


@pytest.mark.parametrize("kills", [False, True])
def test_replicates_follow_when_patience_ends_a_search_also_after_a_kill(tmp_path, kills):
    steps = 0
    for _ in range(20 if kills else 1):
        loop = make_loop(tmp_path, Script(*STAGNANT), patience=3, replicates=1)
        steps += len(drive(loop, steps=2 if kills else 100))
        loop.next_job()  # one is running when the search is killed
        loop.store.close()

    loop = make_loop(tmp_path, Script(*STAGNANT), patience=3, replicates=1)
    assert drive(loop) == []
    replicates = [t for t in loop.store.trials() if t.replicate]
    assert {t.arch_id for t in loop.front} <= {t.arch_id for t in replicates}
    assert steps == 5 + len(replicates)
    assert loop.finished


def test_replicates_follow_when_the_space_is_exhausted(tmp_path, monkeypatch):
    monkeypatch.setattr("nasx.execution.candidates.MAX_KNOWN_IN_A_ROW", 5)
    loop = make_loop(tmp_path, Script((0, 0), (0, 1), *[(0, 0)] * 5), replicates=1)

    drive(loop)

    assert [t.replicate for t in loop.store.trials()] == [0, 1, 0, 1]
    assert loop.enough == "5 candidates in a row were known: the space has no network left to try"


@pytest.mark.parametrize("ending", ["hours", "interrupt"])
def test_replicates_do_not_follow_when_time_is_over_or_the_search_is_interrupted(tmp_path, clock, ending):
    loop = make_loop(tmp_path, nsga2(retraining=0), evaluations=4, max_hours=3.5, replicates=1)
    drive(loop, lasting(clock, HOUR), steps=4 if ending == "hours" else 2)
    if ending == "interrupt":
        loop.stop("interrupted")

    assert loop.next_job() is None
    assert loop.finished
    assert not any(t.replicate for t in loop.all_trials)


def test_replicates_wait_for_the_last_networks(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0), (0, 1)), evaluations=2, replicates=1)
    first, second = loop.next_job(), loop.next_job()
    loop.complete(first, measured(first))

    assert loop.next_job() is None
    loop.complete(second, measured(second))
    assert loop.next_job().replicate == 1


@pytest.mark.parametrize(
    ("setting", "seconds", "trials"),
    [
        ({}, 600, 6),
        ({"max_hours": 1 / 6}, 200, 2),  # of 600 s, 400 are over
        ({"max_gpu_hours": 1 / 12}, 200, 2),  # half a GPU at a time: 200 of 300 s are spent
    ],
)
def test_the_forecast_goes_by_the_first_limit_that_will_be_reached(tmp_path, clock, setting, seconds, trials):
    loop = make_loop(tmp_path, nsga2(), evaluations=10, gpus=0.5, **setting)
    drive(loop, lasting(clock, 100), steps=2)
    assert loop.progress().forecast is None
    drive(loop, lasting(clock, 100), steps=2)

    progress = loop.progress()
    assert (progress.evaluated, progress.complete, progress.elapsed) == (4, 4, 400)
    assert progress.forecast.seconds == pytest.approx(seconds)
    assert progress.forecast.trials == trials
    assert progress.summary.hypervolume > 0


def test_a_trial_that_failed_by_a_stall_is_tried_again(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1)
    job = loop.next_job()
    loop.complete(job, Evaluation.failed(Reason.TIMEOUT, "no progress within search.stall_limit, 5 s"))

    again = loop.next_job()
    loop.complete(again, measured(again))

    assert loop.trials[job.arch_id].is_complete
    assert loop.store.events()[1].message == f"trial {job.arch_id}: timeout: no progress within search.stall_limit, 5 s"
