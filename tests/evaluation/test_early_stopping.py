"""Early stopping, by hand: reachable errors, rivals, and when nothing is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasx.errors import TrialFailure
from nasx.evaluation.early_stopping import MIN_TRAINED, EarlyStopping, check_rung
from nasx.trial import OBJECTIVES, Bounds, Candidate, Evaluation, Job, Reason, Rival, Rung, Trial, TrialStatus

ERROR = OBJECTIVES["error"]
SCORE = OBJECTIVES["introspectability"]
SIZE = OBJECTIVES["parameters"]


def epochs(*errors: float) -> tuple[dict[str, float], ...]:
    return tuple({"validation_error": e, "validation_macro_error": e} for e in errors)


def trial(name: str, *errors: float, score: float = 0.1, size: float = 100.0, **evaluation) -> Trial:
    """Return a trial with these validation errors; the last one is its result."""
    metrics = {"error": errors[-1], "macro_error": errors[-1], "introspectability": score, "parameters": size}
    made = Evaluation(**{"status": TrialStatus.COMPLETE, "metrics": metrics, "history": epochs(*errors), **evaluation})
    return Trial(name, 0, (0,), name, 0, made, Candidate(0, (0,), 0, "random"))


def job(*rungs: Rung, rivals: tuple[Rival, ...] = ()) -> Job:
    return Job(
        arch_id="new", replicate=0, genotype=(0,), seed=0, weights_file=Path("unused"), rungs=rungs, rivals=rivals
    )


def verdict(a_job: Job, *errors: float, constraints=None, metrics=None, chance: float = 0.9) -> TrialFailure | None:
    """Return the failure of a training with these validation errors so far; None if it continues."""
    try:
        check_rung(a_job, epochs(*errors), metrics or {}, constraints or {}, lambda ends: ends["error"] < chance)
    except TrialFailure as failure:
        return failure
    return None


def stopping(objectives, *trials: Trial) -> EarlyStopping:
    made = EarlyStopping(objectives)
    for each in trials:
        made.add(each)
    return made


# ten trials whose errors decrease by 0.20, 0.18, ..., 0.02 after the first quarter, to 0.30, 0.31, ..., 0.39
TEN = [trial(f"t{i}", 0.5 + 0.01 * i - 0.02 * i, 0.4, 0.35, 0.3 + 0.01 * i) for i in range(MIN_TRAINED)]


def test_a_rung_has_the_largest_improvement_from_there_to_the_end():
    rungs = stopping([ERROR], *TEN).rungs

    assert [rung.epoch for rung in rungs] == [1, 2, 3]
    assert [rung.improvement["error"] for rung in rungs] == [pytest.approx(x) for x in (0.2, 0.1, 0.05)]


def test_there_are_no_rungs_before_ten_completed_trainings():
    assert stopping([ERROR], *TEN[:-1]).rungs == ()
    assert len(stopping([ERROR], *TEN).rungs) == 3


@pytest.mark.parametrize("tenth", ["twice", "failed", "stopped", "looked up"])
def test_incomplete_trainings_do_not_count(tenth):
    other = {
        "twice": TEN[0],
        "failed": trial("x", 0.9, 0.9, 0.9, 0.1, status=TrialStatus.FAILED),
        "stopped": trial("x", 0.9, 0.9, status=TrialStatus.INFEASIBLE, metrics={"parameters": 100}),
        "looked up": trial("x", 0.1, history=()),
    }[tenth]

    assert stopping([ERROR], *TEN[:-1], other).rungs == ()


def test_short_trainings_have_no_rungs():
    assert stopping([ERROR], *(trial(f"t{i}", 0.5, 0.4, 0.3) for i in range(20))).rungs == ()


def test_a_rival_has_the_best_late_objectives_and_dominates_ten_in_the_early_ones():
    introspectable = trial("best", 0.5, 0.4, 0.35, 0.295, score=0.8)

    assert stopping([ERROR, SCORE], introspectable, *TEN[:-1]).rivals == ()
    assert stopping([ERROR, SCORE], introspectable, *TEN).rivals == (Rival("best", {"error": 0.295}),)


def test_a_network_with_the_best_score_but_a_larger_error_than_others_is_no_rival():
    introspectable = trial("best", 0.5, 0.4, 0.4, 0.35, score=0.8)  # dominates those that end at 0.36 to 0.39

    assert stopping([ERROR, SCORE], introspectable, *TEN).rivals == ()


def test_the_best_score_is_the_best_so_far():
    first, second = trial("first", 0.5, 0.4, 0.3, 0.1, score=0.8), trial("second", 0.5, 0.4, 0.3, 0.2, score=0.9)

    assert [r.arch_id for r in stopping([ERROR, SCORE], first, *TEN, second).rivals] == ["second"]
    assert [r.arch_id for r in stopping([ERROR, SCORE], second, *TEN, first).rivals] == ["second"]


def test_with_parameters_instead_of_a_score_the_rivals_are_the_front():
    small, good = trial("small", 0.5, 0.4, 0.35, 0.25, size=50), trial("good", 0.5, 0.4, 0.35, 0.2, size=90)
    neither = trial("neither", 0.5, 0.4, 0.35, 0.26, size=95)

    rivals = stopping([ERROR, SIZE], neither, small, *TEN, good).rivals

    assert [r.arch_id for r in rivals] == ["good", "small"]


def test_without_an_error_among_the_objectives_there_are_no_rivals():
    assert (
        stopping([SCORE, SIZE], *TEN, *(trial(f"x{i}", 0.5, 0.4, 0.3, 0.2, size=200) for i in range(20))).rivals == ()
    )


GOOD = Rival("good", {"error": 0.2})
HALF = Rung(2, {"error": 0.1, "macro_error": 0.1})


def test_a_training_continues_while_it_may_reach_the_front():
    assert verdict(job(HALF, rivals=(GOOD,)), 0.5, 0.29) is None


def test_a_training_dominated_by_a_rival_is_stopped_with_an_explanation():
    failure = verdict(job(HALF, rivals=(GOOD,)), 0.5, 0.31)

    assert failure.reason is Reason.DOMINATED
    assert failure.detail == (
        "stopped after epoch 2: the validation error was 31.00% and could have decreased to 21.00% at best: "
        "dominated by good with error 20.00%"
    )


def test_equal_is_not_dominated():
    assert (
        verdict(job(Rung(1, {"error": 0.25, "macro_error": 0.0}), rivals=(Rival("a", {"error": 0.25}),)), 0.5) is None
    )


def test_a_bad_epoch_after_a_good_one_is_noise():
    assert verdict(job(HALF, rivals=(GOOD,)), 0.25, 0.9) is None


def test_between_rungs_nothing_is_stopped():
    assert verdict(job(HALF, rivals=(GOOD,)), 0.9) is None
    assert verdict(job(HALF, rivals=(GOOD,)), 0.9, 0.9, 0.9) is None


def test_a_smaller_network_is_not_dominated_by_a_larger_rival():
    rival = Rival("good", {"error": 0.2, "parameters": 1000})

    assert verdict(job(HALF, rivals=(rival,)), 0.5, 0.4, metrics={"parameters": 999}) is None
    failure = verdict(job(HALF, rivals=(rival,)), 0.5, 0.4, metrics={"parameters": 1000})
    assert failure.detail.endswith("dominated by good with error 20.00%, 1,000 parameters")


def test_macro_error_is_compared_like_error():
    rival = Rival("good", {"macro_error": 0.2})

    assert verdict(job(HALF, rivals=(rival,)), 0.5, 0.31).reason is Reason.DOMINATED


def test_a_training_that_cannot_meet_a_constraint_or_beat_chance_is_stopped():
    broken = verdict(job(HALF), 0.5, 0.5, constraints={"error": Bounds(max=0.3)})
    guessing = verdict(job(HALF), 0.9, 0.9, chance=0.75)

    assert broken.reason is Reason.CONSTRAINT
    assert broken.detail.endswith("could have decreased to 40.00% at best; error 0.4 is outside [None, 0.3]")
    assert guessing.reason is Reason.CHANCE_LEVEL
    assert guessing.detail.endswith("to 80.00% at best, which is not better than guessing the most common class")


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_trials_does_not_matter(seed):
    import random

    rng = random.Random(seed)
    trials = [
        trial(f"t{i}", *(rng.random() for _ in range(4)), score=rng.choice((0.1, 0.2)), size=rng.choice((1, 2)))
        for i in range(60)
    ]
    one, other = stopping([ERROR, SCORE, SIZE], *trials), stopping([ERROR, SCORE, SIZE], *rng.sample(trials, 60))

    assert (one.rungs, one.rivals) == (other.rungs, other.rivals)
    assert one.rivals
