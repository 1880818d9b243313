"""Extra rounds of training: the networks that are due, and the end of the rounds."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from nasx.execution.replicates import Replicates, due_replicates
from nasx.trial import OBJECTIVES, Candidate, Evaluation, Reason, Trial, TrialStatus

BOTH = [OBJECTIVES["error"], OBJECTIVES["introspectability"]]


def trial(name: str, error: float, score: float, *, replicate: int = 0, failed: bool = False) -> Trial:
    metrics = {"error": error, "introspectability": score}
    evaluation = Evaluation.failed(Reason.DIVERGED, "") if failed else Evaluation(TrialStatus.COMPLETE, metrics=metrics)
    candidate = Candidate(ord(name), (ord(name),), 0, "random")
    return Trial(name, replicate, candidate.genotype, name, 0, evaluation, candidate)


# a and b are the front, c has rank 1, d has rank 2
RUN = [trial("d", 0.5, 0.1), trial("a", 0.1, 0.4), trial("c", 0.2, 0.35), trial("b", 0.3, 0.6)]


def names(due) -> list[tuple[str, int]]:
    return [(first.arch_id, number) for first, number in due]


def test_the_front_and_its_rivals_are_trained_again_in_the_order_of_asking():
    assert names(due_replicates(RUN, BOTH, 1)) == [("a", 1), ("b", 1), ("c", 1)]


def test_nothing_is_due_without_replicates_or_without_a_complete_trial():
    assert due_replicates(RUN, BOTH, 0) == []
    assert due_replicates([trial("a", 0, 0, failed=True)], BOTH, 2) == []


def test_a_round_continues_with_the_trainings_that_are_missing():
    assert names(due_replicates([*RUN, trial("b", 0.3, 0.6, replicate=1)], BOTH, 1)) == [("a", 1), ("c", 1)]


def test_the_next_round_chooses_by_the_means_so_far():
    # c turns out to be far better than its first training; d is now two ranks worse
    first_round = [
        trial("a", 0.6, 0.1, replicate=1),
        trial("b", 0.3, 0.6, replicate=1),
        trial("c", 0, 0.5, replicate=1),
    ]

    assert names(due_replicates([*RUN, *first_round], BOTH, 2)) == [("a", 2), ("b", 2), ("c", 2)]
    assert due_replicates([*RUN, *first_round], BOTH, 1) == []


def asked_again(name: str, error: float, score: float, replicate: int) -> Trial:
    """Return a training that the algorithm requested."""
    made = trial(name, error, score, replicate=replicate)
    return replace(made, candidate=replace(made.candidate, number=1000, replicate=replicate))


def test_rounds_count_on_from_the_trainings_that_the_algorithm_asked_for():
    again = [asked_again("a", 0.1, 0.4, 1), asked_again("a", 0.1, 0.4, 2), asked_again("d", 0.5, 0.1, 1)]

    assert names(due_replicates([*RUN, *again], BOTH, 1)) == [("a", 3), ("b", 1), ("c", 1)]
    first_round = [
        trial("a", 0.1, 0.4, replicate=3),
        trial("b", 0.3, 0.6, replicate=1),
        trial("c", 0.2, 0.35, replicate=1),
    ]
    assert names(due_replicates([*RUN, *again, *first_round], BOTH, 2)) == [("a", 4), ("b", 2), ("c", 2)]


def test_a_network_that_was_in_no_round_before_has_no_gap_in_its_trainings():
    # e has rank 2; then a and b turn out to be bad, so that c is the front and e has rank 1
    run = [*RUN, trial("e", 0.25, 0.32)]
    first_round = [
        trial("a", 0.9, 0.0, replicate=1),
        trial("b", 0.9, 0.0, replicate=1),
        trial("c", 0.2, 0.35, replicate=1),
    ]

    assert ("e", 1) not in names(due_replicates(run, BOTH, 2))
    assert names(due_replicates([*run, *first_round], BOTH, 2)) == [("c", 2), ("e", 1)]


@pytest.mark.parametrize("replicates", [1, 2, 3])
def test_the_rounds_end(replicates):
    trials = list(RUN)
    trained = 0
    while due := due_replicates(trials, BOTH, replicates):
        first, number = due[0]
        trials.append(trial(first.arch_id, *map(first.metrics.get, ("error", "introspectability")), replicate=number))
        trained += 1

    assert trained == 3 * replicates


def test_a_replicate_that_failed_is_not_due_again():
    failed = trial("a", 0, 0, replicate=1, failed=True)

    assert names(due_replicates([*RUN, failed], BOTH, 1)) == [("b", 1), ("c", 1)]


def test_a_training_that_is_running_is_not_due_a_second_time(tmp_path):
    class Recorded:
        by_key = all_trials = RUN
        store = SimpleNamespace(info=SimpleNamespace(alleles=()))

    replicates = Replicates(Recorded(), BOTH, 1)

    assert names([replicates.next([])]) == [("a", 1)]
    assert names([replicates.next([("a", 1)])]) == [("b", 1)]
    assert names([replicates.next([("b", 1), ("a", 1)])]) == [("c", 1)]
    assert replicates.next([("a", 1), ("b", 1), ("c", 1)]) is None
