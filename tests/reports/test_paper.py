import pytest
from made_up import make_noisy_run, make_run, make_trial

from nasx.errors import NasxError
from nasx.reports.paper import OBJECTIVE_NAMES, comparison, in_paper_measure, paper_front
from nasx.reports.summary import summarise


@pytest.mark.parametrize(
    ("dataset", "n_classes", "published"),
    [("mnist", 10, 0.347), ("cifar10", 10, 0.293), ("imagenet16_120", 120, 0.111)],
)
def test_the_fronts_have_the_hypervolume_that_the_paper_states(dataset, n_classes, published):
    assert paper_front(dataset).hypervolume(n_classes) == pytest.approx(published, abs=0.001)


def test_a_dataset_of_which_the_paper_has_no_front_is_refused_with_those_it_has():
    with pytest.raises(NasxError, match="no front for the dataset 'digits'; it has: cifar10, imagenet16_120, mnist"):
        paper_front("digits")


def test_trials_are_held_against_the_paper_by_the_papers_own_measure():
    trials = make_run()
    measured = in_paper_measure(trials, paper_front("cifar10"))
    assert len(measured) == len(trials)
    for before, after in zip(trials, measured, strict=True):
        if before.is_complete:
            assert after.metrics["introspectability"] == before.evaluation.score("activations").value


def test_a_run_without_the_papers_measure_is_not_compared():
    trials = [make_trial(0, error=0.1, introspectability=0.5)]
    with pytest.raises(NasxError, match=r"measures cifar10 by 'activations', .* not recorded \(it has: no score\)"):
        in_paper_measure(trials, paper_front("cifar10"))


def test_the_scores_that_a_run_has_are_named():
    with pytest.raises(NasxError, match=r"by 'activations_weighted', .* \(it has: activations, shap\)"):
        in_paper_measure(make_run(), paper_front("imagenet16_120"))


def test_estimates_are_told_apart_from_the_observed_values_of_the_paper():
    front = paper_front("cifar10")
    summary = summarise(make_noisy_run(), OBJECTIVE_NAMES, n_classes=10)
    told = comparison(summary, front, n_classes=10)
    assert told.endswith("of it); the paper's values are observed, this run's are estimates")


def test_the_comparison_tells_both_hypervolumes():
    front = paper_front("cifar10")
    summary = summarise(in_paper_measure(make_run(200), front), OBJECTIVE_NAMES, n_classes=10)
    assert comparison(summary, front, n_classes=10) == (
        "the paper's front on cifar10: hypervolume 0.2933; "
        "this run's, measured alike by activations: 0.3021 (103% of it)"
    )
