"""Search loop without workers: candidates, jobs, results, retries, weights and resuming."""

from __future__ import annotations

from functools import partial

import pytest

from nasx.errors import RunError
from nasx.runs.directory import kept_weights
from nasx.trial import Evaluation, Reason, TrialStatus
from tests.factories.searches import ManyPairs, Script, bare, drive, front_of, make_loop, measured, noisy, nsga2

FAILED = Evaluation.failed(Reason.DIVERGED, "the training loss was nan in epoch 1")
BROKEN = Evaluation.failed(Reason.ERROR, "Traceback (most recent call last):\n  ...\nValueError: broken scorer\n")


def test_a_known_network_is_not_trained_again(tmp_path):
    loop = make_loop(tmp_path, Script((0, 1), (1, 0), (0, 2)), evaluations=2)

    assert len(drive(loop)) == 2
    assert loop.algorithm.received == {0: (0.2, -0.4), 1: (0.2, -0.4), 2: (0.3, -0.6)}
    assert [entry.answered for entry in loop.store.candidates()] == [False, True, False]
    assert loop.progress().cached == 1


def test_a_pending_network_is_not_trained_twice_and_both_candidates_receive_the_result(tmp_path):
    loop = make_loop(tmp_path, Script((0, 1), (1, 0), None, (0, 2)), evaluations=2)
    job = loop.next_job()

    assert loop.next_job() is None
    assert loop.algorithm.received == {}
    loop.complete(job, measured(job))

    assert loop.algorithm.received == {0: (0.2, -0.4), 1: (0.2, -0.4)}


def test_a_disconnected_genotype_is_infeasible_without_training_and_costs_no_evaluation(tmp_path):
    loop = make_loop(tmp_path, Script((4, 4), (0, 1)), evaluations=1)

    assert len(drive(loop)) == 1
    assert loop.algorithm.received[0] is None
    trial = loop.store.trials()[0]
    assert (trial.status, trial.evaluation.reason) == (TrialStatus.INFEASIBLE, Reason.DISCONNECTED)
    assert loop.progress().cached == 1
    assert loop.finished
    assert loop.progress().evaluated == 1


def test_the_budget_counts_trainings_including_failed_ones(tmp_path):
    answers = iter([FAILED, None, None])
    loop = make_loop(tmp_path, Script((0, 0), (0, 1), (1, 0), (0, 2)), evaluations=3)

    assert len(drive(loop, lambda job: next(answers) or measured(job))) == 3
    assert loop.finished
    assert loop.next_job() is None


def test_no_more_jobs_run_than_the_budget_allows(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0), (0, 1), (0, 2)), evaluations=2)

    assert [loop.next_job() is None for _ in range(3)] == [False, False, True]
    assert not loop.finished


def test_the_seed_of_a_job_depends_only_on_its_network(tmp_path):
    first = make_loop(tmp_path / "a", Script((0, 1), (0, 2)))
    second = make_loop(tmp_path / "b", Script((2, 0), (1, 0)))

    a, b = [first.next_job(), first.next_job()], [second.next_job(), second.next_job()]

    assert {(j.arch_id, j.seed, j.genotype) for j in a} == {(j.arch_id, j.seed, j.genotype) for j in b}


def test_a_lost_worker_costs_a_retry(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1)
    job = loop.next_job()

    loop.lose(job, "its worker process died")
    again = loop.next_job()
    loop.complete(again, measured(again))

    assert again == job
    assert loop.incidents == "1 attempt repeated"
    assert loop.trials[job.arch_id].is_complete
    assert loop.trials[job.arch_id].retries == 1
    retries = [event.message for event in loop.store.events() if event.kind == "retry"]
    assert retries == [f"trial {job.arch_id}: error: its worker process died"]


def test_a_trial_fails_if_its_worker_is_lost_too_often(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1, retries=2)
    for _ in range(3):
        loop.lose(loop.next_job(), "its worker process died")

    (trial,) = loop.store.trials()

    assert trial.status is TrialStatus.FAILED
    assert trial.evaluation.detail == "its worker process died, at the last of 3 attempts"
    assert loop.finished


def test_a_trial_without_memory_is_repeated_with_halved_batches(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1, retries=2)
    parts = []
    while (job := loop.next_job()) is not None:
        parts.append(job.micro_batches)
        loop.complete(job, Evaluation.failed(Reason.OUT_OF_MEMORY, "no memory left"))

    assert parts == [1, 2, 4]
    assert loop.store.trials()[0].evaluation.reason is Reason.OUT_OF_MEMORY
    assert "in 4 parts a batch: out_of_memory: no memory left" in loop.store.events()[-2].message


def test_a_batch_is_split_down_to_two_images_for_any_number_of_retries(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1, retries=1, max_parts=8)
    parts = []
    while (job := loop.next_job()) is not None:
        parts.append(job.micro_batches)
        loop.complete(job, Evaluation.failed(Reason.OUT_OF_MEMORY, "no memory left"))

    assert parts == [1, 2, 4, 8, 8]  # the last one is the retry
    assert loop.store.trials()[0].retries == 4


@pytest.mark.parametrize("reason", [Reason.DIVERGED, Reason.NO_SCORE])
def test_a_failure_that_the_same_seed_repeats_is_not_retried(tmp_path, reason):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1)

    assert len(drive(loop, lambda job: Evaluation.failed(reason, "made up"))) == 1
    assert loop.store.trials()[0].evaluation.reason is reason


def test_a_lost_job_is_not_assigned_again_when_the_search_stops(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)))
    job = loop.next_job()
    loop.stop("interrupted")

    loop.lose(job, "its worker process died")

    assert loop.next_job() is None
    assert loop.finished


def test_a_resumed_search_repeats_running_jobs_which_do_not_count_as_crashes(tmp_path):
    for _ in range(8):
        loop = make_loop(tmp_path, Script((0, 0)), evaluations=1, max_crashes=1)
        job = loop.next_job()
        measured(job)
        loop.close()
        assert not job.weights_file.exists()

    assert len(drive(make_loop(tmp_path, Script((0, 0)), evaluations=1, max_crashes=1))) == 1


def test_a_network_that_crashes_the_search_again_and_again_fails(tmp_path):
    for _ in range(3):
        make_loop(tmp_path, Script((0, 0)), max_crashes=3).next_job()

    loop = make_loop(tmp_path, Script((0, 0), (0, 1)), max_crashes=3)

    assert loop.next_job().genotype == (0, 1)
    trial = loop.store.trials()[0]
    assert trial.status is TrialStatus.FAILED
    assert trial.evaluation.detail == "the search died 3 times while this network was trained (search.max_crashes)"


def test_a_requeued_job_is_assigned_again_and_the_attempt_does_not_count(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1)
    job = loop.next_job()

    loop.requeue(job)

    assert loop.next_job() == job
    assert loop.store.attempts(job.arch_id) == 1


def test_a_search_stops_if_most_trials_fail_for_one_reason(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0), (0, 1), (0, 2), (0, 3), (1, 1)), retries=0)
    with pytest.raises(
        RunError,
        match=r"^4 of the last 4 trials failed for the same reason, error: ValueError: broken scorer\. "
        r"The search stops; finished trials are kept in ",
    ):
        drive(loop, lambda job: BROKEN)


def test_failures_for_different_reasons_do_not_stop_a_search(tmp_path):
    answers = iter([FAILED, BROKEN, None, None, FAILED])
    loop = make_loop(tmp_path, Script((0, 0), (0, 1), (0, 2), (0, 3), (1, 1)), evaluations=5, retries=0)

    assert len(drive(loop, lambda job: next(answers) or measured(job))) == 5


def test_late_failures_stop_a_search_as_well(tmp_path):
    everything = [(a, b) for a in range(5) for b in range(a, 5) if (a, b) != (4, 4)]
    loop = make_loop(tmp_path, Script(*everything), evaluations=14, retries=0, failure_window=6)
    answers = iter([None] * 9)

    with pytest.raises(RunError, match=r"^4 of the last 6 trials failed for the same reason, error"):
        drive(loop, lambda job: next(answers, BROKEN) or measured(job))

    assert len(loop.store.trials()) == 13


def test_the_job_of_a_broken_worker_is_assigned_again_and_the_attempt_does_not_count(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1, retries=0)
    job = loop.next_job()

    loop.replace_worker(job, "CUDA error: an illegal memory access was encountered")
    again = loop.next_job()
    loop.complete(again, measured(again))

    assert again == job
    assert loop.incidents == "1 worker replaced"
    assert loop.trials[job.arch_id].retries == 0
    assert loop.store.attempts(job.arch_id) == 1
    assert ("worker_replaced", f"trial {job.arch_id}: CUDA error: an illegal memory access was encountered") in [
        (event.kind, event.message) for event in loop.store.events()
    ]


def test_a_network_that_breaks_one_worker_after_another_fails(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1, retries=1)
    times = 0
    while (job := loop.next_job()) is not None:
        loop.replace_worker(job, "CUDA error: misaligned address")
        times += 1

    assert times == 5  # three do not count, then an attempt and its retry
    (trial,) = loop.store.trials()
    assert trial.status is TrialStatus.FAILED
    assert trial.evaluation.detail.startswith("CUDA error: misaligned address. It has broken 5 workers")


def test_all_weights_are_kept_during_a_search_and_those_of_the_front_afterwards(tmp_path):
    loop = make_loop(tmp_path, Script((1, 1), (0, 0), (2, 2), (0, 1), (0, 2)), evaluations=5)

    trained = drive(loop)
    assert kept_weights(tmp_path).keys() == set(trained)
    loop.close()

    assert sorted(t.architecture for t in loop.front) == ["a-a", "a-b", "a-c"]
    assert {arch_id for arch_id, _ in kept_weights(tmp_path)} == {t.arch_id for t in loop.front}


def test_weights_are_kept_of_all_trainings_of_the_front_and_of_its_rivals(tmp_path, monkeypatch):
    space = ManyPairs()
    whole = make_loop(tmp_path, nsga2(space=space, retraining=0.5), evaluations=40, space=space)
    drive(whole, partial(noisy, std=0.15))
    off = [network for network in whole.summary().architectures if network not in whole.front]
    likeliest = max(network.front_probability for network in off)
    monkeypatch.setattr("nasx.reports.summary.RIVAL_PROBABILITY", likeliest)

    loop = make_loop(tmp_path, nsga2(space=space, retraining=0.5), evaluations=40, space=space)
    loop.close()

    summary = loop.summary()
    kept = {network.arch_id for network in (*summary.front, *summary.rivals)}
    assert summary.rivals
    assert kept_weights(tmp_path).keys() == {(t.arch_id, t.replicate) for t in loop.all_trials if t.arch_id in kept}
    assert len(kept_weights(tmp_path)) < 40


def test_too_many_weights_are_deleted_except_those_of_the_front_and_of_running_trials(tmp_path, monkeypatch):
    monkeypatch.setattr("nasx.execution.front.MAX_WEIGHT_BYTES", 2 * len(b"weights"))
    loop = make_loop(tmp_path, Script((1, 1), (0, 0), (2, 2), (3, 3)), evaluations=4)
    bad, good, worse, running = [loop.next_job() for _ in range(4)]
    measured(running)  # its weights are written, its evaluation is not recorded

    for job in (bad, good, worse):
        loop.complete(job, measured(job))

    assert kept_weights(tmp_path).keys() == {(job.arch_id, 0) for job in (good, running)}


def test_a_resumed_search_deletes_no_weights_before_it_has_loaded_all_trials(tmp_path, monkeypatch):
    genotypes = (1, 1), (0, 0), (2, 2), (0, 1), (0, 2)
    drive(make_loop(tmp_path, Script(*genotypes), evaluations=5))
    monkeypatch.setattr("nasx.execution.front.MAX_WEIGHT_BYTES", 5 * len(b"weights"))

    loop = make_loop(tmp_path, Script(*genotypes), evaluations=5)

    assert kept_weights(tmp_path).keys() == {(t.arch_id, 0) for t in loop.store.trials()}


def test_a_resumed_search_deletes_weights_of_a_killed_trial(tmp_path):
    job = make_loop(tmp_path, Script((0, 0))).next_job()
    measured(job)

    make_loop(tmp_path, Script((0, 0)))

    assert not job.weights_file.exists()


@pytest.mark.parametrize("cut", [0, 1, 4, 7, 12])
@pytest.mark.parametrize("evaluate", [measured, noisy])
def test_a_resumed_search_trains_the_missing_networks_and_has_identical_results(tmp_path, evaluate, cut):
    whole = make_loop(tmp_path / "whole", nsga2(), evaluations=12)
    expected = drive(whole, evaluate)
    first = make_loop(tmp_path / "cut", nsga2(), evaluations=12)
    before = drive(first, evaluate, steps=cut)
    first.next_job()  # running when the process is killed

    resumed = make_loop(tmp_path / "cut", nsga2(), evaluations=12)
    after = drive(resumed, evaluate)

    assert before + after == expected
    assert front_of(resumed) == front_of(whole)
    assert bare(resumed.store.trials()) == bare(whole.store.trials())
    assert kept_weights(tmp_path / "cut").keys() == kept_weights(tmp_path / "whole").keys()


def test_a_finished_run_can_be_extended(tmp_path):
    long = drive(make_loop(tmp_path / "long", nsga2(), evaluations=12))
    drive(make_loop(tmp_path / "short", nsga2(), evaluations=5))

    assert drive(make_loop(tmp_path / "short", nsga2(), evaluations=12)) == long[5:]


def test_a_journal_of_thousands_is_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr("nasx.execution.candidates.MAX_KNOWN_IN_A_ROW", 5)
    genotypes = [(a, b) for a in range(4) for b in range(a, 5)]
    drive(make_loop(tmp_path, Script(*genotypes[:-1]), evaluations=13))

    assert len(drive(make_loop(tmp_path, Script(*genotypes), evaluations=14))) == 1


def test_a_space_without_new_networks_ends_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr("nasx.execution.candidates.MAX_KNOWN_IN_A_ROW", 5)
    loop = make_loop(tmp_path, Script((0, 0), *[(0, 0)] * 12))
    job = loop.next_job()

    assert loop.next_job() is None  # it stops asking while a job is running
    loop.complete(job, measured(job))
    assert loop.next_job() is None

    assert loop.finished
    assert loop.enough == "5 candidates in a row were known: the space has no network left to try"


def test_an_algorithm_that_returns_no_candidate_while_no_trial_is_pending_is_an_error(tmp_path):
    loop = make_loop(tmp_path, Script(None))

    with pytest.raises(RuntimeError, match=r"^Script\.ask returned None although no training is pending$"):
        loop.next_job()


def test_after_the_evaluations_the_front_and_its_rivals_are_trained_again_with_further_seeds(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0), (0, 1), (0, 2), (2, 2), (3, 3)), evaluations=5, replicates=2)

    ids = drive(loop)

    replicates = [t for t in loop.store.trials() if t.replicate > 0]
    assert len(ids) == 5 + len(replicates)
    assert {t.replicate for t in replicates} == {1, 2}
    assert {t.arch_id for t in loop.front} <= {t.arch_id for t in replicates}
    assert len({t.seed for t in loop.all_trials}) == len(loop.all_trials)
    assert loop.finished
    assert loop.progress().retrained == len(replicates)


def test_replicates_neither_count_as_evaluations_nor_reach_the_algorithm(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0), (0, 1)), evaluations=2, replicates=1)

    drive(loop)

    assert loop.progress().evaluated == 2
    assert sorted(loop.algorithm.received) == [0, 1]


def test_a_resumed_search_trains_the_missing_replicates(tmp_path):
    undisturbed = make_loop(tmp_path / "one", nsga2(), evaluations=8, replicates=2)
    drive(undisturbed)
    steps = 0
    for session in range(20):
        loop = make_loop(tmp_path / "other", nsga2(), evaluations=8, replicates=2)
        steps += len(drive(loop, steps=3 + session % 2))
        loop.next_job()  # a job is running when the search is killed
        loop.store.close()

    other = make_loop(tmp_path / "other", nsga2(), evaluations=8, replicates=2)
    assert drive(other) == []
    assert steps == len(undisturbed.all_trials)
    assert bare(other.store.trials()) == bare(undisturbed.store.trials())


def test_a_lost_replicate_is_repeated_and_its_failure_is_recorded(tmp_path):
    loop = make_loop(tmp_path, Script((0, 0)), evaluations=1, replicates=1, retries=1)
    drive(loop, steps=1)

    loop.lose(loop.next_job(), "its worker process died")
    loop.lose(loop.next_job(), "its worker process died")

    assert loop.next_job() is None
    assert [(t.replicate, t.status) for t in loop.store.trials()] == [
        (0, TrialStatus.COMPLETE),
        (1, TrialStatus.FAILED),
    ]


@pytest.fixture
def slow_summaries(monkeypatch):
    """Summaries take so long that a recent one is shown during a search, without the latest trials."""
    monkeypatch.setattr("nasx.execution.front.SUMMARY_PAUSE", 1e12)


def test_the_last_trials_decide_which_weights_are_kept_even_if_summaries_are_slow(tmp_path, slow_summaries):
    loop = make_loop(tmp_path, Script((1, 1), (0, 0)), evaluations=2)
    loop.complete(job := loop.next_job(), measured(job))
    assert len(loop.progress().summary.architectures) == 1
    loop.complete(job := loop.next_job(), measured(job))
    assert len(loop.progress().summary.architectures) == 1  # a recent summary will do for the display

    loop.close()

    assert {arch_id for arch_id, _ in kept_weights(tmp_path)} == {job.arch_id}
    assert len(loop.summary().architectures) == 2


def test_weights_are_deleted_by_an_up_to_date_front(tmp_path, monkeypatch, slow_summaries):
    monkeypatch.setattr("nasx.execution.front.MAX_WEIGHT_BYTES", len(b"weights"))
    loop = make_loop(tmp_path, Script((1, 1), (0, 0)), evaluations=2)
    for job in (loop.next_job(), loop.next_job()):
        loop.complete(job, measured(job))
        loop.progress()

    assert kept_weights(tmp_path).keys() == {(job.arch_id, 0)}


def test_the_progress_counts_trials_by_status_and_shows_the_latest_failures_only(tmp_path):
    loop = make_loop(tmp_path, Script((1, 1), (0, 0), (2, 2), (4, 4), (3, 3)), evaluations=10)
    first = loop.next_job()
    loop.complete(first, FAILED)
    later = Evaluation.failed(Reason.DIVERGED, "later")
    for result in (measured, lambda job: later, measured):
        job = loop.next_job()
        loop.complete(job, result(job))

    progress = loop.progress()

    assert (progress.complete, progress.failed, progress.infeasible) == (2, 2, 1)
    assert [trial.evaluation for trial in progress.failures] == [later, FAILED]
    assert progress.evaluated == 4 and progress.evaluations == 10


def test_an_attempt_is_withdrawn_once_however_often_a_search_is_closed(tmp_path):
    loop = make_loop(tmp_path, Script((1, 1)), evaluations=1)
    job = loop.next_job()
    assert loop.store.attempts(job.arch_id) == 1

    loop.close()
    loop.close()

    assert loop.store.attempts(job.arch_id) == 0
