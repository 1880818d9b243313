"""Order in which trials end: its influence on breeding, early stopping and resuming."""

from __future__ import annotations

from contextlib import contextmanager, suppress

import pytest

from nasx.runs.database import Database
from nasx.trial import Reason
from tests.factories.searches import ManyPairs, bare, make_loop, nsga2, pool, trained

EVALUATIONS = 40
SMALL = ("error", "parameters")  # known before the end of a training, so that many trainings are stopped


def begin(run_dir, mode: str, objectives=SMALL, evaluations: int = EVALUATIONS, retraining: float = 0.25):
    space = ManyPairs()
    algorithm = nsga2(space=space, mode=mode, population_size=8, screening=1, retraining=retraining)
    return make_loop(run_dir, algorithm, evaluations, space=space, objectives=objectives, early_stopping=True)


def found(loop) -> list:
    """Return the trials and candidates of the journal, without times."""
    trials = loop.store.trials()
    details = [(t.evaluation.detail, len(t.evaluation.history)) for t in trials]
    return [bare(trials), details, loop.store.candidates()]


class Killed(BaseException):
    pass


@contextmanager
def killed_after(writes: int, monkeypatch):
    """Raise Killed right after that many committed transactions."""
    plain = Database.transaction
    left = writes

    @contextmanager
    def transaction(self, *, write: bool = True, sync: bool = False):
        nonlocal left
        with plain(self, write=write, sync=sync):
            yield
        left -= write
        if not left:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Database, "transaction", transaction)
        with suppress(Killed):
            yield


@pytest.mark.parametrize("mode", ["steady_state", "generational"])
@pytest.mark.parametrize("workers", [2, 4])
def test_the_same_trials_are_stopped_at_the_same_epochs_with_any_number_of_workers(tmp_path, mode, workers):
    serial, parallel = begin(tmp_path / "1", mode), begin(tmp_path / "n", mode)

    pool(serial, 1)
    pool(parallel, workers, seed=workers)

    assert found(parallel) == found(serial)
    assert Reason.DOMINATED in {t.evaluation.reason for t in serial.store.trials()}
    assert any(t.replicate for t in serial.store.trials())


def test_a_stopped_trial_has_its_history_so_far_no_error_and_no_offspring(tmp_path):
    loop = begin(tmp_path, "steady_state")
    pool(loop, 1)

    cut = [t for t in loop.store.trials() if t.evaluation.reason is Reason.DOMINATED]

    assert cut
    assert {len(t.evaluation.history) for t in cut} <= {1, 2, 3}
    assert not any("error" in t.metrics for t in cut)
    assert not {t.candidate.number for t in cut} & {
        n for entry in loop.store.candidates() for n in entry.candidate.parents
    }
    assert loop.progress().dominated == sum(t.replicate == 0 for t in cut)


@pytest.mark.parametrize("mode", ["free_running", "steady_state"])
def test_a_search_killed_after_any_write_resumes_to_identical_results(tmp_path, monkeypatch, mode):
    whole = begin(tmp_path / "whole", mode)
    order = pool(whole, 3)
    expected, ended = found(whole), []
    assert any(number > 0 for _, number in order)
    for writes in range(1, 3 * EVALUATIONS, 7):
        run_dir = tmp_path / str(writes)
        with killed_after(writes, monkeypatch):
            pool(begin(run_dir, mode), 3, order)

        resumed = begin(run_dir, mode)
        done = {(t.arch_id, t.replicate) for t in resumed.store.trials()}
        pool(resumed, 3, [trial for trial in order if trial not in done])

        assert found(resumed) == expected
        ended.append(len(done))
        resumed.store.close()
    assert len(set(ended)) > EVALUATIONS / 4


def test_a_free_running_search_breeds_from_the_results_that_have_arrived(tmp_path):
    one, other = begin(tmp_path / "1", "free_running"), begin(tmp_path / "2", "free_running")

    pool(one, 3, seed=1)
    pool(other, 3, seed=2)

    assert found(one) != found(other)
    heard = [number for entry in one.store.candidates() for number in entry.candidate.heard]
    assert heard != sorted(heard)


def test_the_results_that_an_algorithm_has_received_are_in_the_journal(tmp_path):
    loop = begin(tmp_path, "generational", evaluations=17)
    pool(loop, 4)

    heard = {entry.candidate.number: entry.candidate.heard for entry in loop.store.candidates()}

    assert {number for number, numbers in heard.items() if numbers} == {8, 16}
    assert heard[8] == tuple(range(8))


def test_only_first_trainings_are_stopped(tmp_path):
    space, jobs = ManyPairs(), {}
    algorithm = nsga2(space=space, screening=1, retraining=0.4)
    loop = make_loop(tmp_path, algorithm, EVALUATIONS, space=space, objectives=SMALL, early_stopping=True, replicates=1)
    while (job := loop.next_job()) is not None:
        jobs[job.arch_id, job.replicate] = job
        loop.complete(job, trained(job))

    asked = {(entry.arch_id, entry.candidate.replicate) for entry in loop.store.candidates()}
    again = [job for trial, job in jobs.items() if trial in asked and job.replicate > 0]
    extra = [job for trial, job in jobs.items() if trial not in asked]
    assert any(job.rungs for job in jobs.values())
    assert again
    assert extra
    assert not any(job.rungs for job in (*again, *extra))


def test_without_early_stopping_no_training_is_stopped(tmp_path):
    space = ManyPairs()
    loop = make_loop(tmp_path, nsga2(space=space), EVALUATIONS, space=space, objectives=SMALL)

    pool(loop, 2)

    assert all(t.is_complete for t in loop.store.trials())
