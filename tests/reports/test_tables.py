import csv
import io
import json
import math
from pathlib import Path

import pytest
from made_up import make_run, make_trial
from rich.console import Console

from nasx.reports.summary import summarise
from nasx.reports.tables import front_csv, front_json, front_table
from nasx.reports.wording import clean, hypervolume_sentence, trials_sentence
from nasx.trial import OBJECTIVES

GOLD = Path(__file__).parent / "gold"
BOTH = ("error", "introspectability")


@pytest.fixture
def summary():
    return summarise(make_run(), BOTH, n_classes=10)


def printed(table, width=80, **options):
    console = Console(width=width, file=io.StringIO(), **options)
    console.print(table)
    return console.file.getvalue()


def lines(text):
    """Without the spaces at the ends of lines, which say nothing."""
    return [line.rstrip() for line in text.splitlines()]


def test_the_table_is_as_it_should_be(summary):
    assert lines(printed(front_table(summary))) == lines((GOLD / "front.txt").read_text())


def test_the_table_fits_into_80_columns_and_cuts_nothing_off(summary):
    text = printed(front_table(summary))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    joined = "".join(line[12:].strip() for line in text.splitlines() if "~" in line)
    assert joined == "".join(m.architecture for m in summary.front)


def test_the_table_has_no_escape_codes_in_a_pipe(summary):
    assert "\x1b" not in printed(front_table(summary))


def test_every_figure_of_the_table_is_there_without_colour(summary):
    coloured = printed(front_table(summary), force_terminal=True, no_color=True)
    for member in summary.front:
        assert member.arch_id in coloured
        assert f"{100 * member.metrics['error']:.2f} %" in coloured


def test_the_knee_is_marked_in_the_table(summary):
    assert f"{summary.knee} *" in printed(front_table(summary))


def test_an_empty_front_is_said_to_be_empty():
    text = printed(front_table(summarise([], BOTH, n_classes=10)))
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
        "arch_id,knee,replicates,error,introspectability,introspectability_activations,macs,parameters,architecture"
    )


def test_json_says_what_the_numbers_mean(summary):
    content = json.loads(front_json(summary))
    assert content["reference"] == {"error": 0.9, "introspectability": 0.0}
    assert content["objectives"]["error"] == {"direction": "minimize", "unit": "%"}
    assert content["knee"] == summary.knee
    assert content["trials"] == {"complete": 58, "failed": 3, "infeasible": 3}


def test_a_metric_that_is_not_finite_is_null_in_json_and_empty_in_csv():
    summary = summarise([make_trial(0, error=0.1, introspectability=0.5, odd=math.nan)], BOTH, n_classes=10)
    assert json.loads(front_json(summary))["front"][0]["odd"] is None
    assert next(csv.DictReader(io.StringIO(front_csv(summary))))["odd"] == ""


def test_a_metric_that_a_member_lacks_is_empty_in_csv():
    trials = [
        make_trial(0, error=0.1, introspectability=0.1, extra=3.0),
        make_trial(1, error=0.2, introspectability=0.2),
    ]
    rows = list(csv.DictReader(io.StringIO(front_csv(summarise(trials, BOTH, n_classes=10)))))
    assert [r["extra"] for r in rows] == ["3.0", ""]


def test_the_hypervolume_is_told_with_its_reference(summary):
    assert hypervolume_sentence(summary).endswith("measured from validation error 90 %, introspectability 0")


def test_a_large_hypervolume_is_told_without_decimals():
    trials = [make_trial(0, error=0.1, parameters=50_000), make_trial(1, error=0.2, parameters=10_000)]
    told = hypervolume_sentence(summarise(trials, ("error", "parameters"), n_classes=10))
    assert told == "hypervolume 28,000, measured from validation error 90 %, parameters 50,000"


def test_what_became_of_the_trials_is_told_with_the_reasons(summary):
    assert trials_sentence(summary) == "trials: 58 complete, 3 failed, 3 infeasible (3 chance level, 3 diverged)"


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "a\u202eb", "a\x07b"])
def test_names_from_outside_lose_what_does_not_print(name):
    assert clean(name).isprintable()


def test_every_objective_has_a_way_to_be_written():
    from nasx.reports.wording import format_value

    assert [format_value(o, 1.0) for o in OBJECTIVES.values()] == [
        "100.00 %",
        "100.00 %",
        "1.000",
        "1",
        "1",
        "1.000 ms",
    ]


def test_replicates_are_shown_with_spread_and_probability():
    trials = [
        make_trial(0, genotype=(1,) * 6, replicate=0, error=0.10, introspectability=0.5),
        make_trial(0, genotype=(1,) * 6, replicate=1, error=0.14, introspectability=0.6),
        make_trial(1, genotype=(2,) * 6, error=0.13, introspectability=0.54),
    ]
    summary = summarise(trials, BOTH, n_classes=10)

    text = printed(front_table(summary))
    assert "12.00 ± 2.83 %" in text
    assert "P(front)" in text
    assert "below the line: off the front of the means, but perhaps on the true one" in text
    row = json.loads(front_json(summary))["front"][0]
    assert row["error_std"] == pytest.approx(0.0283, abs=1e-4)
    assert 0 < row["front_probability"] <= 1
