import json
from dataclasses import replace

import numpy as np
import pytest

from nasx.reports.html.run_data import run_data
from nasx.reports.paper import paper_front
from nasx.reports.summary import summarize
from nasx.trial import Evaluation, Reason, TrialStatus
from tests.factories.report_inputs import make_info, make_report_input, with_lineage
from tests.factories.trials import make_distances, make_noisy_run, make_run, make_score, make_trial


@pytest.fixture(scope="module")
def report_input():
    return make_report_input(64)


@pytest.fixture(scope="module")
def data(report_input):
    return run_data(report_input)


def network(data, arch_id):
    return next(n for n in data["networks"] if n["id"] == arch_id)


def test_the_data_are_strict_json(data):
    assert json.loads(json.dumps(data, allow_nan=False))["name"] == "made up"


def test_every_network_is_listed_in_order_of_completion(data, report_input):
    finished = sorted(report_input.trials, key=lambda t: t.finished)

    assert [n["id"] for n in data["networks"]] == [t.arch_id for t in finished]


def test_front_and_knee_are_those_of_the_summary(data, report_input):
    summary = summarize(report_input.trials, report_input.info.objectives, n_classes=10)

    assert data["front"] == [m.arch_id for m in summary.front]
    assert data["knee"] == summary.knee


def test_a_network_has_its_distances_pair_by_pair(data, report_input):
    trial = next(t for t in report_input.trials if t.is_complete)
    score = network(data, trial.arch_id)["scores"][0]

    recorded = trial.evaluation.scores[0].distances[np.triu_indices(10, k=1)]
    assert score["thousandths"] == pytest.approx((1000 * recorded).tolist(), abs=0.5)


def test_layer_names_are_stored_once(data):
    assert data["layers"] == [["stem", "stage1", "stage2"]]


def test_a_failure_has_its_reason_and_no_metrics(data, report_input):
    trial = next(t for t in report_input.trials if t.evaluation.reason is Reason.DIVERGED)
    found = network(data, trial.arch_id)

    assert (found["status"], found["reason"]) == ("failed", "diverged")
    assert found["detail"] == "the loss became NaN in epoch 2"
    assert "error" not in found["metrics"]


def test_trainings_of_a_network_are_one_network_with_their_means():
    trials = [make_trial(0, error=e, introspectability=0.5, replicate=r) for r, e in enumerate((0.1, 0.3))]
    data = run_data(make_report_input(trials=trials))
    found = network(data, trials[0].arch_id)

    assert found["metrics"]["error"] == pytest.approx(0.2)
    assert (found["std"], found["observed"], found["p_front"]) == ({}, {}, None)
    assert found["trainings"] == 2
    assert data["estimated"] is False
    assert data["certainty"] == ""
    assert data["noise"].startswith("values are means of each network's trainings, not estimates: fewer than 8")


@pytest.fixture(scope="module")
def noisy():
    trials = make_noisy_run()
    return trials, run_data(make_report_input(trials=trials))


def test_every_network_has_its_estimate_its_uncertainty_and_the_mean_of_its_trainings(noisy):
    trials, data = noisy
    for result in summarize(trials, ("error", "introspectability"), n_classes=10).architectures:
        found = network(data, result.arch_id)
        assert found["trainings"] == result.trainings
        assert found["p_front"] == pytest.approx(result.front_probability)
        for name in ("error", "introspectability"):
            assert found["metrics"][name] == pytest.approx(result.metrics[name], abs=1e-7)
            assert found["std"][name] == pytest.approx(result.std[name], abs=1e-7)
            assert found["observed"][name] == pytest.approx(result.observed[name], abs=1e-7)


def test_the_page_says_how_certain_the_front_is_and_how_large_the_noise(noisy):
    _, data = noisy
    assert data["estimated"] is True
    assert data["certainty"].endswith("of it is certain: the true values reach it with probability 95 %")
    assert data["noise"].startswith("noise of one training (standard deviation): validation error ")


def test_a_retraining_is_no_network_and_adds_no_lineage(noisy):
    trials, data = noisy
    assert [n["id"] for n in data["networks"]] == [t.arch_id for t in trials if t.replicate == 0]
    assert {n["operator"] for n in data["networks"]} == {"random"}
    assert all(n["parents"] == [] for n in data["networks"])
    assert data["phylogeny"]["links"] == ()


def test_an_exact_value_has_no_uncertainty_on_the_page():
    trials = make_noisy_run()
    data = run_data(make_report_input(trials=trials, info=make_info(objectives=("error", "parameters"))))

    assert {tuple(n["std"]) for n in data["networks"]} == {("error",)}
    assert {tuple(n["observed"]) for n in data["networks"]} == {("error",)}


def test_the_growth_has_one_value_per_trial_and_ends_at_the_hypervolume_of_the_estimates(noisy):
    trials, data = noisy
    assert len(data["growth"]) == len(trials)
    volume = summarize(trials, ("error", "introspectability"), n_classes=10).hypervolume
    assert data["growth"][-1] == pytest.approx(volume, abs=1e-5)


def test_the_objectives_come_first_among_the_axes(data):
    assert list(data["metrics"])[:2] == ["error", "introspectability"]
    assert data["metrics"]["error"] == {"label": "validation error", "unit": "%", "kind": "share", "better": -1}


def test_the_score_that_is_the_objective_is_no_axis_of_its_own():
    trials = [make_trial(i, error=0.1 * i, introspectability=i, introspectability_shap=i) for i in range(1, 4)]

    assert "introspectability_shap" not in run_data(make_report_input(trials=trials))["metrics"]


def test_the_papers_front_is_compared_by_the_papers_scorer(data):
    paper = data["paper"]

    assert paper["scorer"] == "activations"
    assert len(paper["theirs"]) == len(paper_front("cifar10").error)
    ours = hypervolume_by_steps(paper)
    assert paper["difference"] == pytest.approx(ours - paper_front("cifar10").hypervolume(10), abs=1e-4)


def hypervolume_by_steps(paper):
    """Return the hypervolume of the points with reference point (0, 0.9), as a sum of steps."""
    points = sorted((x, y) for x, y, _ in paper["ours"])
    volume, before = 0.0, 0.0
    for x, y in points:
        best = min(error for other, error in points if other >= x)
        assert best == y
        volume += (x - before) * (0.9 - y)
        before = x
    return volume


@pytest.mark.parametrize("published", ["digits", ""])
def test_a_dataset_without_a_front_in_the_paper_has_no_overlay(published):
    assert run_data(make_report_input(8, published=published))["paper"] is None


def test_a_run_without_the_papers_scores_has_no_overlay():
    trials = [make_trial(i, error=0.1, introspectability=0.5) for i in range(3)]

    assert run_data(make_report_input(trials=trials))["paper"] is None


def test_a_run_without_any_trial_yet_has_a_report():
    data = run_data(make_report_input(trials=[]))

    assert data["networks"] == []
    assert data["knee"] is None
    assert data["growth"] == []


def test_a_run_where_everything_failed_has_a_report():
    failed = Evaluation.failed(Reason.ERROR, "broken")
    data = run_data(make_report_input(trials=[make_trial(i, evaluation=failed) for i in range(3)]))

    assert data["front"] == []
    assert len(data["networks"]) == 3


@pytest.mark.parametrize("objectives", [("error",), ("error", "introspectability", "parameters")])
def test_one_objective_or_three_make_a_report(objectives):
    data = run_data(make_report_input(32, info=make_info(objectives=objectives)))

    assert list(data["metrics"])[: len(objectives)] == list(objectives)
    assert data["front"]


def test_a_space_without_cells_and_traits_makes_a_report():
    data = run_data(make_report_input(16, edges={}, traits={}))

    assert data["motifs"] == []
    assert all(n["edges"] == [] for n in data["networks"])


def test_with_many_classes_only_the_front_has_all_distances():
    rng = np.random.default_rng(0)
    trials = []
    for i, (error, score) in enumerate([(0.1, 0.5), (0.2, 0.4)]):
        found = make_score(make_distances(rng, 20, 0.4), {})
        metrics = {"error": error, "introspectability": score}
        trials.append(make_trial(i, evaluation=Evaluation(TrialStatus.COMPLETE, metrics=metrics, scores=(found,))))
    data = run_data(
        make_report_input(trials=trials, info=make_info(n_classes=20, class_names=tuple("abcdefghijklmnopqrst")))
    )
    member, other = (network(data, t.arch_id)["scores"][0] for t in trials)

    assert len(member["thousandths"]) == 190
    assert "thousandths" not in other
    upper = np.sort(trials[1].evaluation.scores[0].distances[np.triu_indices(20, k=1)])
    assert [d for *_, d in other["closest"]] == pytest.approx(upper[:5].tolist(), abs=5e-4)
    assert [d for *_, d in other["farthest"]] == pytest.approx(upper[:-6:-1].tolist(), abs=5e-4)


def test_a_class_pair_without_distance_is_null():
    distances = np.array([[0, np.nan, 0.2], [np.nan, 0, 0.4], [0.2, 0.4, 0]])
    evaluation = Evaluation(
        TrialStatus.COMPLETE, metrics={"error": 0.1, "introspectability": 0.3}, scores=(make_score(distances, {}),)
    )
    data = run_data(
        make_report_input(
            trials=[make_trial(0, evaluation=evaluation)], info=make_info(n_classes=3, class_names=("a", "b", "c"))
        )
    )

    assert data["networks"][0]["scores"][0]["thousandths"] == [None, 200, 400]


def test_a_large_run_keeps_its_data_small():
    trials = with_lineage(make_run(500))

    assert len(json.dumps(run_data(make_report_input(trials=trials)))) < 500 * 2_000


def test_parents_are_named_by_their_networks(data, report_input):
    child = next(t for t in report_input.trials if t.candidate.parents)
    parents = {t.arch_id for t in report_input.trials if t.candidate.number in child.candidate.parents}

    assert set(network(data, child.arch_id)["parents"]) == parents


def test_control_characters_in_class_names_are_removed():
    info = make_info(class_names=("a\x1b[2J", *"123456789"))

    assert run_data(make_report_input(8, info=info))["class_names"][0] == "a [2J"


def test_times_of_replicates_are_means():
    trials = [
        replace(t, evaluation=replace(t.evaluation, train_seconds=s))
        for t, s in zip(
            (make_trial(0, error=0.1, introspectability=0.2, replicate=r) for r in (0, 1)), (1, 3), strict=True
        )
    ]

    assert run_data(make_report_input(trials=trials))["networks"][0]["metrics"]["train_seconds"] == 2
