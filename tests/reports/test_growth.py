import pytest
from made_up import make_run, make_trial

from nasx.reports.growth import hypervolume_growth
from nasx.reports.summary import summarise
from nasx.trial import OBJECTIVES, Evaluation, Reason

PAIR = (OBJECTIVES["error"], OBJECTIVES["introspectability"])


def point(number, error, introspectability, replicate=0):
    return make_trial(number, error=error, introspectability=introspectability, replicate=replicate)


def test_the_volume_grows_by_what_each_network_adds():
    trials = [point(0, 0.4, 0.5), point(1, 0.5, 0.4), point(2, 0.2, 0.25)]

    assert hypervolume_growth(trials, PAIR, (0.9, 0.0)) == pytest.approx([0.25, 0.25, 0.25 + 0.2 * 0.25])


def test_a_failed_network_adds_nothing():
    failed = make_trial(1, evaluation=Evaluation.failed(Reason.ERROR, "broken"))

    assert hypervolume_growth([point(0, 0.4, 0.5), failed], PAIR, (0.9, 0.0)) == pytest.approx([0.25, 0.25])


def test_only_the_first_training_of_a_network_counts():
    again = point(0, 0.1, 0.9, replicate=1)

    assert hypervolume_growth([point(0, 0.4, 0.5), again], PAIR, (0.9, 0.0)) == pytest.approx([0.25])


def test_without_a_reference_every_volume_is_zero():
    failed = make_trial(0, evaluation=Evaluation.failed(Reason.ERROR, "broken"))

    assert hypervolume_growth([failed], (OBJECTIVES["parameters"],), (None,)) == [0.0]


def test_growth_never_falls_and_ends_at_the_volume_of_the_front():
    trials = make_run(200)
    summary = summarise(trials, ["error", "introspectability"], n_classes=10)
    growth = hypervolume_growth(trials, summary.objectives, summary.reference)

    assert growth == sorted(growth)
    assert growth[-1] == pytest.approx(summary.hypervolume)
