"""Searches that re-train networks: recorded, resumed, retried, counted and seeded like every other training."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from nasx.errors import RunError
from nasx.runs.check import check_run
from nasx.trial import Candidate, Evaluation, Reason, TrialStatus, derive_seed
from tests.factories.journals import downgrade
from tests.factories.searches import ManyPairs, Script, bare, drive, make_loop, measured, noisy, nsga2, pool

SPACE = ManyPairs()


def begin(run_dir, evaluations=24, *, retraining=0.5, lag=3, **settings):
    algorithm = nsga2(space=SPACE, lag=lag, retraining=retraining)
    return make_loop(run_dir, algorithm, evaluations, space=SPACE, **settings)


def trainings(loop) -> list:
    return sorted((t.arch_id, t.replicate) for t in loop.store.trials())


def journal_problems(run_dir) -> list:
    return [
        problem
        for problem in check_run(run_dir).defects
        if not problem.location.startswith(("archs/", "config.yaml"))  # the search is made up: it has neither
    ]


def test_retrainings_are_candidates_with_their_own_trials_and_seeds(tmp_path):
    loop = begin(tmp_path)
    drive(loop, noisy)

    candidates = loop.store.candidates()
    again = [entry for entry in candidates if entry.candidate.replicate]
    assert len(again) > 5
    for entry in again:
        candidate, trial = entry.candidate, loop.store.trial(entry.arch_id, entry.candidate.replicate)
        (first,) = candidate.parents
        assert (candidate.operator, entry.answered) == ("retraining", False)
        assert (candidates[first].arch_id, candidates[first].candidate.replicate) == (entry.arch_id, 0)
        assert trial.candidate == candidate
        assert trial.seed == derive_seed(loop.store.info.seed, entry.arch_id, candidate.replicate)
        assert trial.metrics != loop.trials[entry.arch_id].metrics
    assert journal_problems(tmp_path) == []


def test_retrainings_count_as_evaluations(tmp_path):
    loop = begin(tmp_path)
    done = drive(loop, noisy)

    progress = loop.progress()
    assert len(done) == progress.evaluated == 24
    assert progress.complete == len(loop.trials) < 24
    assert progress.retrained == 24 - len(loop.trials)
    assert loop.finished


def test_a_script_receives_the_result_of_each_training_that_it_requests(tmp_path):
    loop = make_loop(tmp_path, Script((0, 1), (0, 2), ((1, 0), 1), ((0, 1), 2)), evaluations=4)
    answers = []

    def answer(job):
        answers.append((job.genotype, job.replicate, noisy(job)))
        return answers[-1][-1]

    drive(loop, answer)

    assert [(genotype, replicate) for genotype, replicate, _ in answers] == [
        ((0, 1), 0),
        ((0, 2), 0),
        ((0, 1), 1),
        ((0, 1), 2),
    ]
    received = [(e.metrics["error"], -e.metrics["introspectability"]) for _, _, e in answers]
    assert list(loop.algorithm.received.values()) == received
    assert len(set(received)) == 4
    (network,) = [a for a in loop.summary().architectures if a.trainings == 3]
    assert network.observed["error"] == pytest.approx((received[0][0] + received[2][0] + received[3][0]) / 3)


def test_a_retraining_of_a_network_that_was_never_trained_is_an_error(tmp_path):
    loop = make_loop(tmp_path, Script(((0, 1), 1)), evaluations=4)

    with pytest.raises(RuntimeError, match=r"^Script asks for training 2 of \w+, which was never trained$"):
        loop.next_job()


def test_a_retraining_that_fails_counts_and_the_network_keeps_its_other_trainings(tmp_path):
    def fails(job):
        return Evaluation.failed(Reason.DIVERGED, "the loss was nan") if job.replicate == 1 else noisy(job)

    loop = begin(tmp_path)
    drive(loop, fails)

    failed = [t for t in loop.store.trials() if t.status is TrialStatus.FAILED]
    assert failed
    assert loop.progress().evaluated == 24
    assert {t.arch_id for t in failed} <= {a.arch_id for a in loop.summary().architectures}
    assert any(t.replicate == 2 for t in loop.store.trials())


def test_a_lost_retraining_is_repeated(tmp_path):
    loop = make_loop(tmp_path, Script((0, 1), ((0, 1), 1)), evaluations=2, retries=1)
    drive(loop, steps=1)
    job = loop.next_job()

    loop.lose(job, "its worker process died")
    again = loop.next_job()
    loop.complete(again, noisy(again))

    assert again == job
    assert [(t.replicate, t.retries) for t in loop.store.trials()] == [(0, 0), (1, 1)]


def test_a_retraining_that_crashes_the_search_again_and_again_fails(tmp_path):
    script = (0, 1), ((0, 1), 1), (0, 2)
    drive(make_loop(tmp_path, Script(*script), evaluations=3, max_crashes=3), steps=1)
    for _ in range(3):
        assert make_loop(tmp_path, Script(*script), evaluations=3, max_crashes=3).next_job().replicate == 1

    loop = make_loop(tmp_path, Script(*script), evaluations=3, max_crashes=3)

    assert loop.next_job().genotype == (0, 2)
    first, again = loop.store.trials()
    assert (first.is_complete, again.status) == (True, TrialStatus.FAILED)
    assert again.evaluation.detail == "the search died 3 times while this network was trained (search.max_crashes)"


@pytest.mark.parametrize("lag", [1, 4])
def test_one_worker_and_two_come_to_the_same_trials_and_the_same_front(tmp_path, lag):
    one, two = begin(tmp_path / "1", lag=lag), begin(tmp_path / "2", lag=lag)

    pool(one, 1, evaluate=noisy)
    pool(two, 2, seed=1, evaluate=noisy)

    assert bare(two.store.trials()) == bare(one.store.trials())
    assert two.store.candidates() == one.store.candidates()
    figures = [[(a.arch_id, a.metrics, a.std, a.front_probability) for a in loop.front] for loop in (one, two)]
    assert figures[0] == figures[1]
    assert one.summary().noise == two.summary().noise != ()


def test_extra_rounds_go_on_with_the_next_free_number_of_each_network(tmp_path):
    loop = begin(tmp_path, replicates=2)
    drive(loop, noisy)

    candidates = {(entry.arch_id, entry.candidate.replicate) for entry in loop.store.candidates()}
    asked = [trial for trial in trainings(loop) if trial in candidates]
    extra = [trial for trial in trainings(loop) if trial not in candidates]
    assert len(asked) == 24
    assert extra
    for arch_id in {arch_id for arch_id, _ in extra}:
        numbers = [number for network, number in trainings(loop) if network == arch_id]
        assert numbers == list(range(len(numbers)))
        n_asked = sum(network == arch_id for network, _ in asked)
        assert min(number for network, number in extra if network == arch_id) == n_asked
    assert any(number > 1 for _, number in extra)
    assert loop.progress().evaluated == 24
    assert journal_problems(tmp_path) == []


def test_a_search_that_is_extended_after_extra_rounds_uses_their_trainings_and_counts_them(tmp_path):
    undisturbed = begin(tmp_path / "whole", 40)
    drive(undisturbed, noisy)
    first = begin(tmp_path / "run", 24, replicates=1)
    drive(first, noisy)
    known = set(trainings(first))

    longer = begin(tmp_path / "run", 40, replicates=1)
    done = drive(longer, noisy)

    asked = [(entry.arch_id, entry.candidate.replicate) for entry in longer.store.candidates()]
    assert not known & set(done)
    assert asked == [(entry.arch_id, entry.candidate.replicate) for entry in undisturbed.store.candidates()]
    used = {(t.arch_id, t.replicate) for t in first.all_trials if t.replicate != t.candidate.replicate} & set(asked)
    assert used
    assert longer.progress().evaluated == 40
    assert longer.finished
    assert journal_problems(tmp_path / "run") == []

    resumed = begin(tmp_path / "run", 40, replicates=1)
    assert drive(resumed, noisy) == []
    assert resumed.progress().evaluated == 40


@pytest.mark.parametrize("evaluate", [measured, noisy])
def test_a_search_that_is_killed_again_and_again_resumes_to_identical_results(tmp_path, evaluate):
    whole = begin(tmp_path / "whole", replicates=1)
    drive(whole, evaluate)
    for session in range(30):
        loop = begin(tmp_path / "run", replicates=1)
        drive(loop, evaluate, steps=1 + session % 4)
        loop.next_job()  # one is running when the search is killed
        loop.store.close()

    loop = begin(tmp_path / "run", replicates=1)
    assert drive(loop, evaluate) == []
    assert bare(loop.store.trials()) == bare(whole.store.trials())
    assert loop.store.candidates() == whole.store.candidates()


def test_the_noise_is_in_the_journal_once_the_loop_is_closed(tmp_path):
    loop = begin(tmp_path)
    drive(loop, noisy)
    assert loop.store.noise() == []

    loop.close()
    loop.close()  # a second session that trains nothing

    noise = loop.summary().noise
    assert [(n.objective, n.std, n.repeated, n.trainings) for n in loop.store.noise()] == [
        (n.objective, n.std, n.repeated, n.trainings) for n in noise
    ]
    assert {n.trainings for n in noise} == {24}


def test_without_replicates_no_noise_is_recorded(tmp_path):
    loop = begin(tmp_path, 8, retraining=0)
    drive(loop, noisy)
    loop.close()

    assert loop.store.noise() == []
    assert loop.summary().why_observed


# Journals that are damaged, or of another version


def test_a_candidate_bred_from_an_answer_that_is_missing_is_damage(tmp_path):
    drive(begin(tmp_path), noisy)
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute("DELETE FROM trials WHERE number = 1")
        connection.commit()

    loop = begin(tmp_path, 30)
    assert loop.next_job().replicate == 0  # the training that is missing
    with pytest.raises(
        RunError,
        match=r"^the journal is damaged: candidate \d+ depends on a result that is missing\. `nasx runs check` ",
    ):
        loop.next_job()


def test_a_candidate_that_is_missing_is_damage(tmp_path):
    drive(begin(tmp_path), noisy)
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute("UPDATE candidates SET number = 99 WHERE number = 12")
        connection.execute("UPDATE trials SET number = 99 WHERE number = 12")
        connection.commit()

    with pytest.raises(RunError, match=r"is damaged: its table candidates has no row with the number 12\."):
        drive(begin(tmp_path, 40), noisy)


def test_a_search_of_the_version_before_is_resumed_and_trains_again_from_there(tmp_path):
    before = begin(tmp_path, 12, retraining=0)
    done = drive(before, noisy)
    before.store.close()
    downgrade(tmp_path, 2)

    resumed = begin(tmp_path, 30)
    after = drive(resumed, noisy)
    resumed.close()

    assert not set(done) & set(after)
    assert len(after) == 18
    assert any(replicate for _, replicate in after)
    assert [entry.candidate.number for entry in resumed.store.candidates()] == list(range(30))
    assert resumed.summary().is_estimated
    assert resumed.store.noise()
    resumed.store.close()
    assert journal_problems(tmp_path) == []
    again = begin(tmp_path, 30)
    assert drive(again, noisy) == []


def test_an_algorithm_that_cannot_replay_is_asked_again(tmp_path):
    script = (0, 1), (0, 2), ((0, 1), 1), (1, 1), ((0, 2), 1)
    drive(make_loop(tmp_path, Script(*script), evaluations=5), noisy, steps=3)

    resumed = make_loop(tmp_path, Script(*script), evaluations=5)
    after = drive(resumed, noisy)

    assert [replicate for _, replicate in after] == [0, 1]
    assert [entry.candidate for entry in resumed.store.candidates()][2] == Candidate(
        2, (0, 1), 0, "script", replicate=1
    )
    assert len(resumed.algorithm.received) == 5
