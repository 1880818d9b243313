import math
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nasx.reports.summary import summarize
from nasx.trial import Evaluation, Reason, TrialStatus, costs
from tests.factories.trials import make_noisy_run, make_run, make_trial

BOTH = ("error", "introspectability")


def dominates(a, b):
    """Return whether `a` is no worse than `b` in any objective and better in one."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def trials_at(points):
    return [make_trial(i, error=e, introspectability=s) for i, (e, s) in enumerate(points)]


def points_of(results):
    return [(r.metrics["error"], r.metrics["introspectability"]) for r in results]


def test_the_front_is_sorted_by_the_first_objective_best_first():
    summary = summarize(trials_at([(0.5, 0.9), (0.1, 0.2), (0.3, 0.5), (0.4, 0.1)]), BOTH, n_classes=10)
    assert points_of(summary.front) == [(0.1, 0.2), (0.3, 0.5), (0.5, 0.9)]


def test_a_maximized_objective_comes_highest_first():
    summary = summarize(trials_at([(0.1, 0.2), (0.5, 0.9)]), ("introspectability", "error"), n_classes=10)
    assert points_of(summary.front) == [(0.5, 0.9), (0.1, 0.2)]


def test_the_reference_point_is_guessing_and_introspectability_zero():
    summary = summarize(trials_at([(0.1, 0.5)]), BOTH, n_classes=10)
    assert summary.reference == (0.9, 0.0)
    assert summary.hypervolume == pytest.approx((0.9 - 0.1) * 0.5)


def test_an_objective_without_a_fixed_reference_uses_the_worst_trial():
    trials = [make_trial(0, error=0.1, parameters=300), make_trial(1, error=0.2, parameters=100)]
    summary = summarize(trials, ("error", "parameters"), n_classes=2)
    assert summary.reference == (0.5, 300.0)
    assert summary.hypervolume == pytest.approx((0.5 - 0.2) * (300 - 100))


def test_replicates_of_an_architecture_are_one_point_at_their_mean():
    first = make_trial(0, genotype=(1,) * 6, error=0.1, introspectability=0.4, only_once=1.0)
    second = make_trial(1, genotype=(1,) * 6, replicate=1, error=0.3, introspectability=0.6)
    summary = summarize([first, second], BOTH, n_classes=10)
    (member,) = summary.front
    assert member.trainings == 2
    assert member.metrics == pytest.approx({"error": 0.2, "introspectability": 0.5})


def test_trials_that_are_not_complete_are_counted_and_never_on_the_front():
    failed = make_trial(0, evaluation=Evaluation.failed(Reason.DIVERGED, "NaN", {"error": 0.0, "introspectability": 9}))
    summary = summarize([failed, *trials_at([(0.1, 0.5)])], BOTH, n_classes=10)
    assert points_of(summary.front) == [(0.1, 0.5)]
    assert summary.statuses == {TrialStatus.FAILED: 1, TrialStatus.COMPLETE: 1}
    assert summary.reasons == {Reason.DIVERGED: 1}


@pytest.mark.parametrize("objectives", [BOTH, ("error", "parameters")])
def test_a_run_without_a_complete_trial_has_an_empty_front(objectives):
    summary = summarize([], objectives, n_classes=10)
    assert (summary.front, summary.knee, summary.hypervolume) == ((), None, 0.0)


def test_the_knee_is_on_the_front():
    summary = summarize(make_run(), BOTH, n_classes=10)
    assert summary.knee in {m.arch_id for m in summary.front}


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), min_size=1, max_size=30))
def test_no_network_dominates_a_member_of_the_front_and_one_dominates_every_other(points):
    summary = summarize(trials_at(points), BOTH, n_classes=10)
    members = {m.arch_id for m in summary.front}
    everything = {a.arch_id: np.array(costs(a.metrics, summary.objectives)) for a in summary.architectures}
    for arch_id, point in everything.items():
        assert (arch_id in members) != any(dominates(other, point) for other in everything.values())


@pytest.fixture(scope="module")
def noisy():
    return summarize(make_noisy_run(), BOTH, n_classes=10)


def test_the_front_is_that_of_the_estimates_not_of_the_means(noisy):
    def points(of):
        return {a.arch_id: np.array(costs(of(a), noisy.objectives)) for a in noisy.architectures}

    def front(at):
        return {i for i, point in at.items() if not any(dominates(other, point) for other in at.values())}

    assert front(points(lambda a: a.metrics)) == {m.arch_id for m in noisy.front}
    assert front(points(lambda a: a.observed)) != {m.arch_id for m in noisy.front}


def test_estimates_are_nearer_to_the_truth_than_the_means(noisy):
    true = {t.arch_id: 0.20 - 0.025 * sum(a in (2, 3) for a in t.genotype) for t in make_noisy_run()}
    off = {
        name: fmean(abs(getattr(a, name)["error"] - true[a.arch_id]) for a in noisy.architectures)
        for name in ("metrics", "observed")
    }
    assert off["metrics"] < off["observed"]


def test_every_estimate_comes_with_its_uncertainty_and_the_probability_of_the_front(noisy):
    assert noisy.is_estimated and noisy.why_observed == ""
    for member in noisy.architectures:
        assert set(member.std) == set(BOTH)
        assert all(0 < value < 0.05 for value in member.std.values())
        assert 0 <= member.front_probability <= 1


def test_trainings_are_counted_by_network(noisy):
    assert sum(a.trainings for a in noisy.architectures) == 27
    assert sorted(a.trainings for a in noisy.architectures)[-4:] == [2, 2, 3, 4]


def test_a_network_off_the_front_that_may_be_on_the_true_one_is_a_rival(noisy):
    members = {m.arch_id for m in noisy.front}
    likely = {a.arch_id for a in noisy.architectures if a.front_probability >= 0.25} - members
    assert {r.arch_id for r in noisy.rivals} == likely
    chances = [r.front_probability for r in noisy.rivals]
    assert chances == sorted(chances, reverse=True)


def test_the_certain_hypervolume_is_less_than_the_estimate(noisy):
    assert 0 < noisy.certain_hypervolume < noisy.hypervolume


def test_the_noise_is_estimated_from_retrainings(noisy):
    assert [(n.objective, n.repeated, n.trainings) for n in noisy.noise] == [(name, 4, 27) for name in BOTH]
    assert noisy.noise[0].std == pytest.approx(0.01, rel=0.5)
    assert noisy.noise[1].std == pytest.approx(0.03, rel=0.5)


def test_an_exact_objective_keeps_its_value_without_uncertainty():
    trials = make_noisy_run()
    summary = summarize(trials, ("error", "parameters"), n_classes=10)
    exact = {t.arch_id: t.metrics["parameters"] for t in trials}
    assert {a.arch_id: a.metrics["parameters"] for a in summary.architectures} == pytest.approx(exact)
    assert {a.std["parameters"] for a in summary.architectures} == {0.0}


@pytest.mark.parametrize(
    ("trials", "why"),
    [
        (make_noisy_run(again=(1,)), "fewer than two networks have been trained more than once"),
        (make_noisy_run(n=7), "fewer than 8 networks have been trained"),
    ],
)
def test_without_a_model_values_are_means_without_uncertainty(trials, why):
    summary = summarize(trials, BOTH, n_classes=10)

    assert summary.why_observed.startswith(why)
    assert not summary.is_estimated and summary.certain_hypervolume is None and summary.rivals == ()
    for member in summary.architectures:
        assert member.metrics == member.observed
        assert member.std == {}
        assert math.isnan(member.front_probability)
