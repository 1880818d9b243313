import pytest

from nasx.reports.summary import hypervolume_growth, summarize
from nasx.trial import Evaluation, Reason
from tests.factories.trials import make_noisy_run, make_run, make_trial

PAIR = ("error", "introspectability")


def point(number, error, introspectability, replicate=0):
    return make_trial(number, error=error, introspectability=introspectability, replicate=replicate)


def growth_of(trials, objectives=PAIR, **settings):
    return hypervolume_growth(trials, summarize(trials, objectives, n_classes=10), **settings)


def test_the_hypervolume_grows_with_each_better_network():
    trials = [point(0, 0.4, 0.5), point(1, 0.5, 0.4), point(2, 0.2, 0.25)]

    assert growth_of(trials) == pytest.approx([0.25, 0.25, 0.25 + 0.2 * 0.25])


def test_a_failed_network_adds_nothing():
    failed = make_trial(1, evaluation=Evaluation.failed(Reason.ERROR, "broken"))

    assert growth_of([point(0, 0.4, 0.5), failed]) == pytest.approx([0.25, 0.25])


def test_a_network_counts_once_by_all_its_trainings():
    again = point(0, 0.2, 0.7, replicate=1)

    assert growth_of([point(0, 0.4, 0.5), again]) == pytest.approx([0.6 * 0.6, 0.6 * 0.6])


def test_without_a_reference_every_volume_is_zero():
    failed = make_trial(0, evaluation=Evaluation.failed(Reason.ERROR, "broken"))

    assert growth_of([failed], ("parameters",)) == [0.0]


def test_another_reference_can_be_given():
    assert growth_of([point(0, 0.4, 0.5)], reference=(0.5, 0.0)) == pytest.approx([0.05])


@pytest.mark.parametrize("trials", [make_run(200), make_noisy_run()])
def test_growth_is_monotonic_with_one_value_per_trial_and_ends_at_the_hypervolume_of_the_front(trials):
    growth = growth_of(trials)

    assert growth == sorted(growth)
    assert len(growth) == len(trials)
    assert growth[-1] == pytest.approx(summarize(trials, PAIR, n_classes=10).hypervolume)


def test_retrainings_do_not_raise_the_curve():
    growth = growth_of(make_noisy_run(n=20, again=(3, 2)))

    assert growth[-6:] == [growth[-1]] * 6
