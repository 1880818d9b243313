import pytest

from nasx.errors import NasxError
from nasx.reports.paper import OBJECTIVE_NAMES, comparison_sentence, paper_front, with_paper_score
from nasx.reports.summary import summarize
from tests.factories.trials import make_noisy_run, make_run, make_trial


@pytest.mark.parametrize(
    ("dataset", "n_classes", "published"),
    [("mnist", 10, 0.347), ("cifar10", 10, 0.293), ("imagenet16_120", 120, 0.111)],
)
def test_the_fronts_have_the_hypervolume_that_the_paper_states(dataset, n_classes, published):
    assert paper_front(dataset).hypervolume(n_classes) == pytest.approx(published, abs=0.001)


def test_a_dataset_without_a_front_in_the_paper_is_refused():
    with pytest.raises(NasxError, match="no front for the dataset 'digits'; it has: cifar10, imagenet16_120, mnist"):
        paper_front("digits")


def test_trials_are_compared_by_the_papers_scorer():
    trials = make_run()
    measured = with_paper_score(trials, paper_front("cifar10"))
    assert len(measured) == len(trials)
    for before, after in zip(trials, measured, strict=True):
        if before.is_complete:
            assert after.metrics["introspectability"] == before.evaluation.score("activations").value


def test_a_run_without_the_papers_scores_is_refused():
    trials = [make_trial(0, error=0.1, introspectability=0.5)]
    with pytest.raises(NasxError, match=r"scores cifar10 by 'activations', .* not recorded \(it has: no score\)"):
        with_paper_score(trials, paper_front("cifar10"))


def test_the_recorded_scores_are_named():
    with pytest.raises(NasxError, match=r"by 'activations_weighted', .* \(it has: activations, shap\)"):
        with_paper_score(make_run(), paper_front("imagenet16_120"))


def test_estimates_are_distinguished_from_the_observed_values_of_the_paper():
    front = paper_front("cifar10")
    summary = summarize(make_noisy_run(), OBJECTIVE_NAMES, n_classes=10)
    sentence = comparison_sentence(summary, front, n_classes=10)
    assert sentence.endswith("of it); the paper's values are observed, this run's are estimates")


def test_the_comparison_has_both_hypervolumes():
    front = paper_front("cifar10")
    summary = summarize(with_paper_score(make_run(200), front), OBJECTIVE_NAMES, n_classes=10)
    assert comparison_sentence(summary, front, n_classes=10) == (
        "the paper's front on cifar10: hypervolume 0.2933; "
        "this run's front, scored by activations as well: 0.3021 (103% of it)"
    )
