"""Answers from a table: what is read, what counts, and what is said of a table that will not do."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasx.errors import DataError, SettingError
from nasx.spaces.nb201 import NASBench201
from nasx.tabular import Column, TabularEvaluation
from nasx.trial import Bounds, Job, Reason, TrialStatus

SPACE = NASBench201(channels=16, cells=5)
CONV = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"  # a dead convolution: the cell is a skip
SKIP = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
POOL = "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|"


def table(tmp_path, *lines, header="accuracy,architecture"):
    file = tmp_path / "table.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    return TabularEvaluation(table=file, metrics={"error": Column(column="accuracy", factor=-0.01, offset=1)})


def job(text):
    genotype = SPACE.canonical(SPACE.parse(text))
    return Job(arch_id="a" * 10, replicate=0, genotype=genotype, seed=0, weights_file=Path("unused"))


def test_a_number_becomes_a_metric_by_factor_and_offset(tmp_path):
    answer = table(tmp_path, f"90,{POOL}").read(SPACE, ["error"])(job(POOL))

    assert answer.status is TrialStatus.COMPLETE
    assert answer.metrics == {"error": pytest.approx(0.1)}


@pytest.mark.parametrize("lines", [(f"90,{CONV}", f"80,{SKIP}"), (f"80,{SKIP}", f"90,{CONV}")])
def test_all_encodings_of_a_network_get_the_canonical_ones_answer(tmp_path, lines):
    answers = table(tmp_path, *lines).read(SPACE, ["error"])

    assert answers(job(CONV)).metrics == answers(job(SKIP)).metrics == {"error": pytest.approx(0.2)}


def test_parameters_are_counted_by_the_space(tmp_path):
    text = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    answers = table(tmp_path, f"90,{text}").read(SPACE, ["error", "parameters"])

    assert answers(job(text)).metrics["parameters"] == 802_426


def test_a_network_without_a_line_fails(tmp_path):
    answer = table(tmp_path, f"90,{POOL}").read(SPACE, ["error"])(job(SKIP))

    assert (answer.status, answer.reason) == (TrialStatus.FAILED, Reason.ERROR)
    assert answer.detail.endswith("table.csv has no line for this network")


def test_constraints_hold_for_answers_too(tmp_path):
    answers = table(tmp_path, f"90,{POOL}").read(SPACE, ["error"], {"error": Bounds(max=0.05)})

    assert answers(job(POOL)).reason is Reason.CONSTRAINT


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (
            [f"90,{POOL}"],
            "acc,architecture",
            r"has no column 'accuracy', which evaluation\.metrics\.error\.column names",
        ),
        (
            [f"90,{POOL}"],
            "accuracy,arch",
            r"has no column 'architecture', which evaluation\.architecture names\. Known: accuracy, arch\.",
        ),
        ([f"90,{POOL}", "80,|conv~0|"], None, r"table\.csv, line 3: an architecture has 3 nodes joined by '\+', got 1"),
        ([f"ninety,{POOL}"], None, r"line 2: accuracy must be a number, got 'ninety'"),
        ([f"nan,{POOL}"], None, r"line 2: error would be nan, outside \[0, 1\]"),
        ([f"9000,{POOL}"], None, r"error would be -89, outside \[0, 1\]\. evaluation\.metrics\.error sets the factor"),
        (["90"], None, r"line 2: an architecture has 3 nodes"),
        ([], None, r"table\.csv holds no architecture: nothing comes after its header"),
    ],
)
def test_a_table_that_will_not_do_is_told_by_file_and_line(tmp_path, lines, header, message):
    with pytest.raises(DataError, match=message):
        table(tmp_path, *lines, header=header or "accuracy,architecture").read(SPACE, ["error"])


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    evaluation = table(tmp_path)
    evaluation.table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"table\.csv cannot be read as CSV: 'utf-8' codec"):
        evaluation.read(SPACE, ["error"])
    evaluation.table.unlink()
    with pytest.raises(DataError, match=r"^there is no file .*table\.csv: evaluation\.table names a CSV file\.$"):
        evaluation.read(SPACE, ["error"])


def test_an_objective_from_nowhere_is_named(tmp_path):
    with pytest.raises(
        SettingError, match=r"^metrics\.macs is missing: macs is an objective, and nb201 cannot tell it$"
    ):
        table(tmp_path, f"90,{POOL}").read(SPACE, ["error", "macs"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_classes": 1}, "n_classes must be at least 2, got 1"),
        ({"seconds": -1.0}, "seconds must be at least 0, got -1"),
        (
            {"metrics": {"eror": Column(column="e")}},
            r"metrics must be known metrics, got 'eror'\. Did you mean error\?",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        TabularEvaluation(**{"table": Path("t.csv"), "metrics": {}, **settings})
