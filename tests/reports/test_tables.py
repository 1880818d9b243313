import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from nasx.reports.summary import summarize
from nasx.reports.tables import front_csv, front_json, front_table, trials_table
from nasx.reports.text import (
    certainty_sentence,
    clean,
    hypervolume_sentence,
    network_facts,
    noise_sentence,
    trials_sentence,
)
from nasx.trial import OBJECTIVES
from tests.factories.trials import make_noisy_run, make_run, make_trial

GOLD = Path(__file__).parent / "gold"
BOTH = ("error", "introspectability")


@pytest.fixture
def summary():
    return summarize(make_run(), BOTH, n_classes=10)


def printed(table, width=80, **options):
    console = Console(width=width, file=io.StringIO(), **options)
    console.print(table)
    return console.file.getvalue()


def lines(text):
    """Return the lines without trailing spaces."""
    return [line.rstrip() for line in text.splitlines()]


def test_the_table_equals_the_golden_file(summary):
    assert lines(printed(front_table(summary))) == lines((GOLD / "front.txt").read_text())


def test_the_table_fits_into_80_columns_and_cuts_nothing_off(summary):
    text = printed(front_table(summary))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    joined = "".join(line[12:].strip() for line in text.splitlines() if "~" in line)
    assert joined == "".join(m.architecture for m in summary.front)


def test_the_table_has_no_escape_codes_in_a_pipe(summary):
    assert "\x1b" not in printed(front_table(summary))


def test_the_table_is_complete_without_color(summary):
    colorless = printed(front_table(summary), force_terminal=True, no_color=True)
    for member in summary.front:
        assert member.arch_id in colorless
        assert f"{100 * member.metrics['error']:.2f} %" in colorless


def test_the_knee_is_marked_in_the_table(summary):
    assert f"{summary.knee} *" in printed(front_table(summary))


def test_an_empty_front_is_said_to_be_empty():
    text = printed(front_table(summarize([], BOTH, n_classes=10)))
    assert lines(text) == ["No network on the front yet.", "trials: none"]


def test_csv_and_json_hold_the_same_front_with_every_metric(summary):
    rows = list(csv.DictReader(io.StringIO(front_csv(summary))))
    members = json.loads(front_json(summary))["front"]
    assert [r["arch_id"] for r in rows] == [m["arch_id"] for m in members] == [m.arch_id for m in summary.front]
    for row, member, result in zip(rows, members, summary.front, strict=True):
        assert set(result.metrics) <= set(row) == set(member)
        for name, value in result.metrics.items():
            assert float(row[name]) == member[name] == value


def test_the_fields_come_in_a_stable_order(summary):
    assert front_csv(summary).splitlines()[0] == (
        "arch_id,knee,trainings,front_probability,error,error_observed,error_std,"
        "introspectability,introspectability_observed,introspectability_std,"
        "introspectability_activations,macs,parameters,architecture"
    )


def test_json_says_what_the_numbers_mean(summary):
    content = json.loads(front_json(summary))
    assert content["reference"] == {"error": 0.9, "introspectability": 0.0}
    assert content["objectives"]["error"] == {"direction": "minimize", "unit": "%"}
    assert content["knee"] == summary.knee
    assert content["trials"] == {"complete": 58, "failed": 3, "infeasible": 3}


def test_a_metric_that_is_not_finite_is_null_in_json_and_empty_in_csv():
    summary = summarize([make_trial(0, error=0.1, introspectability=0.5, odd=math.nan)], BOTH, n_classes=10)
    assert json.loads(front_json(summary))["front"][0]["odd"] is None
    assert next(csv.DictReader(io.StringIO(front_csv(summary))))["odd"] == ""


def test_a_metric_that_a_member_lacks_is_empty_in_csv():
    trials = [
        make_trial(0, error=0.1, introspectability=0.1, extra=3.0),
        make_trial(1, error=0.2, introspectability=0.2),
    ]
    rows = list(csv.DictReader(io.StringIO(front_csv(summarize(trials, BOTH, n_classes=10)))))
    assert [r["extra"] for r in rows] == ["3.0", ""]


def test_the_hypervolume_is_shown_with_its_reference_point(summary):
    assert hypervolume_sentence(summary).endswith("reference point: validation error 90 %, introspectability 0")


def test_a_large_hypervolume_is_shown_without_decimals():
    trials = [make_trial(0, error=0.1, parameters=50_000), make_trial(1, error=0.2, parameters=10_000)]
    sentence = hypervolume_sentence(summarize(trials, ("error", "parameters"), n_classes=10))
    assert sentence == "hypervolume 28,000, reference point: validation error 90 %, parameters 50,000"


def test_outcomes_of_the_trials_are_shown_with_their_reasons(summary):
    assert trials_sentence(summary) == "trials: 58 complete, 3 failed, 3 infeasible (3 chance level, 3 diverged)"


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\x07b"])
def test_names_from_outside_lose_unprintable_characters(name):
    assert clean(name).isprintable()


def test_every_objective_can_be_formatted():
    from nasx.reports.text import format_value

    assert [format_value(o, 1.0) for o in OBJECTIVES.values()] == [
        "100.00 %",
        "100.00 %",
        "1.000",
        "1",
        "1",
        "1.000 ms",
    ]


@pytest.fixture
def noisy():
    return summarize(make_noisy_run(), BOTH, n_classes=10)


def test_every_estimate_is_shown_with_its_uncertainty_trainings_and_probability(noisy):
    text = printed(front_table(noisy))
    assert noisy.is_estimated
    for member in noisy.front:
        error = f"{100 * member.metrics['error']:.2f} ± {100 * member.std['error']:.2f} %"
        shap = f"{member.metrics['introspectability']:.3f} ± {member.std['introspectability']:.3f}"
        row = f"{error}  {shap}  {member.trainings}  {100 * member.front_probability:>5.0f} %"
        (line,) = (line for line in text.splitlines() if line.startswith(member.arch_id) and "±" in line)
        assert " ".join(row.split()) in " ".join(line.split())


def test_the_table_says_how_much_of_the_hypervolume_is_certain(noisy):
    share = noisy.certain_hypervolume / noisy.hypervolume
    certain = f"{noisy.certain_hypervolume:.4f} ({100 * share:.0f} %) of it is certain: "
    assert 0.5 < share < 1
    assert certainty_sentence(noisy) == certain + "the true values reach it with probability 95 %"
    assert " ".join(f"{hypervolume_sentence(noisy)}; {certain}".split()) in " ".join(
        printed(front_table(noisy)).split()
    )


def test_the_certain_share_is_at_most_all_of_the_hypervolume(noisy):
    sure = replace(noisy, certain_hypervolume=1.1 * noisy.hypervolume)
    assert certainty_sentence(sure).startswith("all of it is certain")


def test_the_table_has_the_noise_and_its_source(noisy):
    by_name = {n.objective: n.std for n in noisy.noise}
    assert noise_sentence(noisy) == (
        f"noise of one training (standard deviation): validation error {100 * by_name['error']:.2f} %, "
        f"introspectability {by_name['introspectability']:.3f}; estimated from 4 networks trained more than once, "
        "27 trainings in all"
    )


def test_a_member_trained_once_is_marked(noisy):
    text = printed(front_table(noisy))
    once = {m.arch_id for m in (*noisy.front, *noisy.rivals) if m.trainings == 1}
    assert once
    assert "† trained once: its estimate relies on similar networks" in text
    for member in (*noisy.front, *noisy.rivals):
        (line,) = (line for line in text.splitlines() if line.startswith(member.arch_id) and "±" in line)
        assert ("†" in line) == (member.arch_id in once)


def test_without_a_model_the_table_has_means_and_the_reason(summary):
    text = " ".join(printed(front_table(summary)).split())
    assert "±" not in text
    assert "P(front)" not in text
    assert (
        "values are means of each network's trainings, not estimates: fewer than two networks have been trained more "
        "than once, so that the noise of training is unknown. They are optimistic" in text
    )


def test_counted_objectives_are_not_called_optimistic():
    trials = [make_trial(i, parameters=100 + i, macs=50 - i) for i in range(3)]
    sentence = noise_sentence(summarize(trials, ("parameters", "macs"), n_classes=10))
    assert sentence == "values are exact: no objective has noise"


def test_an_exact_value_has_no_uncertainty():
    summary = summarize(make_noisy_run(), (*BOTH, "parameters"), n_classes=10)
    text = printed(front_table(summary))
    for member in summary.front:
        (line,) = (line for line in text.splitlines() if line.startswith(member.arch_id) and "±" in line)
        assert f" {member.metrics['parameters']:,.0f} " in line
        assert line.count("±") == 2


@pytest.mark.parametrize("objectives", [BOTH, (*BOTH, "parameters"), ("error", "parameters")])
@pytest.mark.parametrize("width", [24, 34, 50, 80, 100, 1000])
def test_numbers_are_never_cut(objectives, width):
    summary = summarize(make_noisy_run(), objectives, n_classes=10)
    text = printed(front_table(summary), width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = set(text.split())
    for member in summary.front:
        assert {member.arch_id, f"{100 * member.metrics['error']:.2f}", f"{100 * member.std['error']:.2f}"} <= words
        if "parameters" in objectives:
            assert f"{member.metrics['parameters']:,.0f}" in words


def test_the_means_of_the_trainings_are_a_column_if_there_is_room(noisy):
    assert "observed" not in printed(front_table(noisy), width=80)
    text = printed(front_table(noisy), width=1000)
    for member in noisy.front:
        (line,) = (line for line in text.splitlines() if line.startswith(member.arch_id) and "±" in line)
        assert line.rstrip().endswith(f"{member.observed['introspectability']:.3f}")


def test_values_over_all_trainings_are_a_fact(noisy, summary):
    best = noisy.front[0]
    error, std = 100 * best.metrics["error"], 100 * best.std["error"]
    ((name, value),) = network_facts(noisy, best.arch_id)
    assert name == "over all trainings"
    assert value.startswith(f"validation error {error:.2f} ± {std:.2f} %, introspectability ")
    assert value.endswith(f": estimates from {best.trainings} trainings of it and from similar networks")
    assert network_facts(summary, summary.front[0].arch_id) == ()
    assert network_facts(summary, "unknown") == ()


def test_csv_and_json_have_estimate_mean_and_uncertainty_of_every_objective(noisy):
    member, row = noisy.front[0], json.loads(front_json(noisy))["front"][0]
    assert (row["error"], row["error_observed"], row["error_std"]) == (
        member.metrics["error"],
        member.observed["error"],
        member.std["error"],
    )
    assert row["trainings"] == member.trainings
    assert row["front_probability"] == member.front_probability
    assert set(next(csv.DictReader(io.StringIO(front_csv(noisy))))) == set(row)


def test_unknown_values_are_null_under_the_same_keys(summary, noisy):
    unknown, known = (json.loads(front_json(s)) for s in (summary, noisy))
    row = unknown["front"][0]
    assert (row["error_observed"], row["error_std"], row["front_probability"]) == (row["error"], None, None)
    assert (unknown["estimated"], unknown["certain_hypervolume"], unknown["noise"]) == (False, None, {})
    assert unknown["why_observed"].startswith("fewer than two networks have been trained more than once")
    assert (known["estimated"], known["why_observed"]) == (True, None)
    assert known["certain_hypervolume"] == noisy.certain_hypervolume
    assert known["noise"]["error"] == {
        "std": pytest.approx(0.01, rel=0.5),
        "share": noisy.noise[0].share,
        "own_share": noisy.noise[0].own_share,
        "length_scale": noisy.noise[0].length_scale,
        "repeated": 4,
        "trainings": 27,
    }
    assert list(unknown) == list(known)


def test_every_trial_is_listed_with_the_number_of_its_training():
    trials = make_noisy_run(n=8, again=(2,))
    rows = [line.split()[:3] for line in printed(trials_table(trials, BOTH)).splitlines() if "complete" in line]
    assert rows == [[str(t.candidate.number), t.arch_id, str(t.replicate + 1)] for t in trials]
    assert [row[2] for row in rows[-2:]] == ["2", "3"]
