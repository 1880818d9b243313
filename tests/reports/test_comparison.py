import io
import json

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import mannwhitneyu, wilcoxon

from nasx.errors import RunError
from nasx.reports.comparison import RunToCompare, compare, group_labels, holm, rank_test
from nasx.reports.comparison_tables import comparison_csv, comparison_json, comparison_table
from nasx.reports.figures.comparison import comparison_figure
from nasx.reports.summary import summarize
from tests.factories.trials import make_noisy_run, make_run, make_trial

PAIR = ("error", "introspectability")


def run(name, label, seed, trials, objectives=PAIR, n_classes=10):
    return RunToCompare(name=name, label=label, seed=seed, objectives=objectives, n_classes=n_classes, trials=trials)


def single(error, introspectability, **others):
    return [make_trial(0, error=error, introspectability=introspectability, **others)]


@pytest.fixture(scope="module")
def comparison():
    """Compare two groups of three runs; all networks of the second group are worse."""
    runs = [run(f"a{s}", "good", s, make_run(24, seed=s)) for s in range(3)]
    return compare([*runs, *(run(f"b{s}", "bad", s, single(0.8, 0.1 + 0.1 * s)) for s in range(3))])


def test_runs_of_a_label_form_a_group_in_the_order_given(comparison):
    assert [(g.label, [r.name for r in g.runs]) for g in comparison.groups] == [
        ("good", ["a0", "a1", "a2"]),
        ("bad", ["b0", "b1", "b2"]),
    ]


def test_the_reference_point_is_guessing(comparison):
    assert comparison.groups[1].hypervolumes == pytest.approx([0.1 * 0.1, 0.1 * 0.2, 0.1 * 0.3])


def test_quartiles_are_those_of_the_runs(comparison):
    assert comparison.groups[1].quartiles() == pytest.approx((0.015, 0.02, 0.025))


def test_an_objective_without_a_fixed_reference_uses_the_worst_value_of_all_runs():
    objectives = ("error", "parameters")
    runs = [run("a", "a", 0, single(0.1, 0, parameters=10), objectives)]
    runs.append(run("b", "b", 0, single(0.2, 0, parameters=50), objectives))
    found = compare(runs)

    assert found.reference == (0.9, 50)
    assert [g.runs[0].hypervolume for g in found.groups] == pytest.approx([0.8 * 40, 0])


def test_different_objectives_are_refused_by_name():
    runs = [run("runs/a", "a", 0, make_run(3)), run("runs/b", "b", 0, make_run(3), ("error", "parameters"))]

    with pytest.raises(
        RunError, match="runs/a and runs/b cannot be compared: the objectives of the first are error, i"
    ):
        compare(runs)


def test_different_numbers_of_classes_are_refused():
    runs = [run("a", "a", 0, make_run(3)), run("b", "b", 0, make_run(3), n_classes=100)]

    with pytest.raises(RunError, match="the first has 10 classes, the second 100, so that the reference points"):
        compare(runs)


def test_runs_without_trials_can_be_compared():
    found = compare([run("a", "a", 0, []), run("b", "b", 0, [])])

    assert [g.quartiles() for g in found.groups] == [(0, 0, 0)] * 2
    comparison_figure(found)


def test_a_shorter_run_keeps_its_last_hypervolume():
    found = compare([run("a", "a", 0, single(0.4, 0.5)), run("b", "a", 1, make_run(3))])

    assert found.groups[0].growths().shape == (3, 3)


def test_equal_seeds_are_paired():
    a, b = [3.0, 5.0, 9.0, 4.5], [1.0, 2.5, 4.0, 4.4]
    found = rank_test(list(enumerate(a)), list(enumerate(b)))

    assert found.name == "Wilcoxon, paired by seed"
    assert found.p == pytest.approx(wilcoxon(a, b).pvalue)
    assert found.superiority == 1.0


def test_pairs_are_made_by_seed_and_not_by_order():
    assert rank_test([(0, 1.0), (1, 5.0)], [(1, 6.0), (0, 2.0)]).superiority == 0.0


@pytest.mark.parametrize("seeds", [(7, 8, 9), (0, 0, 1)])
def test_other_seeds_or_repeated_ones_are_not_paired(seeds):
    a, b = [3.0, 5.0, 9.0], [1.0, 4.0, 5.0]
    found = rank_test(list(enumerate(a)), list(zip(seeds, b, strict=True)))

    assert found.name == "Mann-Whitney"
    assert found.p == pytest.approx(mannwhitneyu(a, b).pvalue)
    assert found.superiority == pytest.approx((1 + 2.5 + 3) / 9)


def test_equal_values_have_a_p_value_of_one():
    found = rank_test([(0, 1.0), (1, 2.0)], [(0, 1.0), (1, 2.0)])

    assert (found.p, found.superiority) == (1.0, 0.5)


def test_a_single_run_has_no_p_value():
    assert rank_test([(0, 1.0)], [(0, 2.0)]).p is None


def test_three_groups_are_corrected_for_three_tests():
    assert holm([0.01, 0.02, 0.04]) == pytest.approx([0.03, 0.04, 0.04])
    assert holm([]) == []


def test_labels_contain_what_differs_except_the_seed():
    base = {"seed": 0, "training": {"epochs": 3}, "algorithm": {"_target_": "nasx.NSGA2", "population_size": 16}}
    other = {"seed": 0, "training": {"epochs": 3}, "algorithm": {"_target_": "nasx.RandomSearch"}}

    assert group_labels([base, base | {"seed": 1}, other]) == [
        "algorithm=NSGA2",
        "algorithm=NSGA2",
        "algorithm=RandomSearch",
    ]


def test_labels_contain_settings_that_differ_within_a_class():
    def config(target, **settings):
        return {"algorithm": {"_target_": target, **settings}}

    labels = group_labels([config("m.A", size=1), config("m.A", size=2), config("m.B")])

    assert labels == ["algorithm=A, algorithm.size=1", "algorithm=A, algorithm.size=2", "algorithm=B"]


def test_place_and_speed_do_not_separate_groups():
    one = {"seed": 1, "name": "x", "execution": {"workers": 2}, "dataset": {"root": "/a", "flip": True}}
    two = {"seed": 2, "name": "y", "execution": {"workers": 8}, "dataset": {"root": "/b", "flip": True}}

    assert group_labels([one, two]) == ["all", "all"]


def shown(comparison, width=80):
    console = Console(width=width, file=io.StringIO())
    console.print(comparison_table(comparison))
    return console.file.getvalue()


def test_the_table_has_the_result_of_the_test_and_fits_80_columns(comparison):
    text = shown(comparison)

    assert "reference point of the hypervolume: validation error 90 %, introspectability 0" in text
    assert "good against bad: larger hypervolume in 100% of pairs, p = 0.25 (Wilcoxon," in text
    assert max(map(len, text.splitlines())) <= 80


def test_csv_has_one_line_per_run(comparison):
    header, *lines = comparison_csv(comparison).splitlines()

    assert header == "group,run,seed,networks,front,hypervolume,trials,estimated"
    assert len(lines) == 6


def test_json_has_the_fronts_in_the_units_of_the_objectives(comparison):
    groups = json.loads(comparison_json(comparison))["groups"]

    assert groups[1]["runs"][0]["front"] == [[0.8, 0.1]]
    assert groups[1]["hypervolume"]["median"] == pytest.approx(0.02)


@pytest.fixture(scope="module")
def noisy():
    """Compare a run with re-trainings, hence estimates, with the same run without them."""
    trials = make_noisy_run()
    firsts = [t for t in trials if t.replicate == 0]
    return compare([run("again", "again", 0, trials), run("once", "once", 0, firsts)])


def test_the_fronts_and_hypervolumes_are_those_of_the_estimates(noisy):
    summary = summarize(make_noisy_run(), PAIR, n_classes=10)
    again = noisy.groups[0].runs[0]

    assert again.hypervolume == pytest.approx(summary.hypervolume)
    assert again.front[:, 0].tolist() == [m.metrics["error"] for m in summary.front]
    assert (again.trials, again.networks) == (27, 20)
    assert again.growth[-1] == pytest.approx(again.hypervolume)


def test_a_run_with_observed_means_only_is_marked_with_the_reason(noisy):
    again, once = (group.runs[0] for group in noisy.groups)
    text = " ".join(shown(noisy).split())

    assert once.hypervolume > again.hypervolume  # optimistic: lucky trainings
    assert (again.is_estimated, once.is_estimated) == (True, False)
    assert f"once 0 20 20 {len(once.front)} {once.hypervolume:.4f}°" in text
    assert f"again 0 27 20 {len(again.front)} {again.hypervolume:.4f} " in text
    assert "° of observed means, which are optimistic, not of estimates: fewer than two networks have been" in text
    assert "do not rank runs of the two kinds: observed means overestimate" in text
    groups = json.loads(comparison_json(noisy))["groups"]
    assert [g["runs"][0]["estimated"] for g in groups] == [True, False]
    assert groups[1]["runs"][0]["why_observed"] == once.why_observed
    assert (
        comparison_figure(noisy).get_supxlabel().endswith("1 of 2 runs has observed means only, which are optimistic")
    )


def test_exact_objectives_are_not_called_optimistic():
    trials = [make_trial(i, parameters=10 * i, macs=50 - i) for i in range(3)]
    found = compare([run(name, name, 0, trials, ("parameters", "macs")) for name in "ab"])

    assert "optimistic" not in shown(found)


def test_the_figure_shows_surfaces_and_growth(comparison):
    surfaces, growth = comparison_figure(comparison).axes

    assert surfaces.get_xlabel() == "introspectability, higher is better →"
    median = surfaces.lines[-1].get_xydata()  # of three single networks: the second of three introspectabilities
    assert median[np.isfinite(median).all(axis=1)] == pytest.approx(np.array([[0.2, 0.8]]))
    assert [line.get_label() for line in growth.lines] == ["good (3 runs)", "bad (3 runs)"]


@pytest.mark.parametrize("objectives", [("error",), ("error", "introspectability", "parameters")])
def test_without_two_objectives_only_growth_is_drawn(objectives):
    runs = [run(name, name, 0, make_run(12, seed=i), objectives) for i, name in enumerate("ab")]
    figure = comparison_figure(compare(runs))

    assert len(figure.axes) == 1
