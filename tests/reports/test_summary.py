import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up import make_run, make_trial

from nasx.pareto import dominates
from nasx.reports.summary import summarise
from nasx.trial import Evaluation, Reason, TrialStatus, costs

BOTH = ("error", "introspectability")


def trials_at(points):
    return [make_trial(i, error=e, introspectability=s) for i, (e, s) in enumerate(points)]


def points_of(results):
    return [(r.metrics["error"], r.metrics["introspectability"]) for r in results]


def test_the_front_is_sorted_by_the_first_objective_best_first():
    summary = summarise(trials_at([(0.5, 0.9), (0.1, 0.2), (0.3, 0.5), (0.4, 0.1)]), BOTH, n_classes=10)
    assert points_of(summary.front) == [(0.1, 0.2), (0.3, 0.5), (0.5, 0.9)]


def test_an_objective_that_is_maximised_comes_highest_first():
    summary = summarise(trials_at([(0.1, 0.2), (0.5, 0.9)]), ("introspectability", "error"), n_classes=10)
    assert points_of(summary.front) == [(0.5, 0.9), (0.1, 0.2)]


def test_hypervolume_is_measured_from_guessing_and_introspectability_zero():
    summary = summarise(trials_at([(0.1, 0.5)]), BOTH, n_classes=10)
    assert summary.reference == (0.9, 0.0)
    assert summary.hypervolume == pytest.approx((0.9 - 0.1) * 0.5)


def test_an_objective_without_a_fixed_reference_is_measured_from_the_worst_trial():
    trials = [make_trial(0, error=0.1, parameters=300), make_trial(1, error=0.2, parameters=100)]
    summary = summarise(trials, ("error", "parameters"), n_classes=2)
    assert summary.reference == (0.5, 300.0)
    assert summary.hypervolume == pytest.approx((0.5 - 0.2) * (300 - 100))


def test_replicates_of_an_architecture_are_one_point_at_their_mean():
    first = make_trial(0, genotype=(1,) * 6, error=0.1, introspectability=0.4, only_once=1.0)
    second = make_trial(1, genotype=(1,) * 6, replicate=1, error=0.3, introspectability=0.6)
    summary = summarise([first, second], BOTH, n_classes=10)
    (member,) = summary.front
    assert member.replicates == 2
    assert member.metrics == pytest.approx({"error": 0.2, "introspectability": 0.5})


def test_trials_that_are_not_complete_are_counted_and_never_on_the_front():
    failed = make_trial(0, evaluation=Evaluation.failed(Reason.DIVERGED, "NaN", {"error": 0.0, "introspectability": 9}))
    summary = summarise([failed, *trials_at([(0.1, 0.5)])], BOTH, n_classes=10)
    assert points_of(summary.front) == [(0.1, 0.5)]
    assert summary.statuses == {TrialStatus.FAILED: 1, TrialStatus.COMPLETE: 1}
    assert summary.reasons == {Reason.DIVERGED: 1}


@pytest.mark.parametrize("objectives", [BOTH, ("error", "parameters")])
def test_a_run_without_a_complete_trial_has_an_empty_front(objectives):
    summary = summarise([], objectives, n_classes=10)
    assert (summary.front, summary.knee, summary.hypervolume) == ((), None, 0.0)


def test_the_knee_is_on_the_front():
    summary = summarise(make_run(), BOTH, n_classes=10)
    assert summary.knee in {m.arch_id for m in summary.front}


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=30))
def test_no_network_dominates_a_member_of_the_front_and_one_dominates_every_other(points):
    summary = summarise(trials_at(points), BOTH, n_classes=10)
    members = {m.arch_id for m in summary.front}
    everything = {a.arch_id: np.array(costs(a.metrics, summary.objectives)) for a in summary.architectures}
    for arch_id, point in everything.items():
        assert (arch_id in members) != any(dominates(other, point) for other in everything.values())


def repeated(genotype, points):
    return [
        make_trial(sum(genotype), genotype=genotype, replicate=r, error=e, introspectability=s)
        for r, (e, s) in enumerate(points)
    ]


def test_the_spread_is_that_of_a_single_training():
    summary = summarise(repeated((1,) * 6, [(0.1, 0.4), (0.3, 0.4)]), BOTH, n_classes=10)

    assert summary.front[0].spread == pytest.approx({"error": 0.2 / 2**0.5, "introspectability": 0})


def test_without_replicates_there_is_no_probability():
    summary = summarise(trials_at([(0.1, 0.5), (0.2, 0.4)]), BOTH, n_classes=10)

    assert math.isnan(summary.front[0].front_probability)
    assert summary.rivals == ()


def test_a_network_within_the_noise_of_the_front_is_a_rival():
    front = repeated((1,) * 6, [(0.10, 0.50), (0.14, 0.54), (0.12, 0.52)])
    close = repeated((2,) * 6, [(0.13, 0.51)])
    far = repeated((3,) * 6, [(0.80, 0.10)])

    summary = summarise([*front, *close, *far], BOTH, n_classes=10)

    assert [r.arch_id for r in summary.rivals] == [close[0].arch_id]
    assert summary.front[0].front_probability > summary.rivals[0].front_probability > 0.05
