"""Results from a table: parsing, precedence of rows, and messages about invalid tables."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from nasx.cli.main import main
from nasx.errors import DataError, SettingError
from nasx.evaluation.tabular import Column, TabularEvaluation
from nasx.runs.journal import Journal
from nasx.spaces.nb201 import NASBench201
from nasx.trial import Bounds, Job, Reason, TrialStatus

SPACE = NASBench201(channels=16, cells=5)
CONV = "|nor_conv_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"  # a dead convolution: only the skip counts
SKIP = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
POOL = "|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|"


def table(tmp_path, *lines, header="accuracy,architecture", replicate=None):
    file = tmp_path / "table.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    metrics = {"error": Column(column="accuracy", factor=-0.01, offset=1)}
    return TabularEvaluation(table=file, metrics=metrics, replicate=replicate)


def replicates(tmp_path, *lines):
    """Read a table with the columns accuracy, seed and architecture, whose replicates are numbered by seed."""
    return table(tmp_path, *lines, header="accuracy,seed,architecture", replicate="seed").read(SPACE, ["error"])


def job(text, replicate=0):
    genotype = SPACE.canonical(SPACE.parse(text))
    return Job(arch_id="a" * 10, replicate=replicate, genotype=genotype, seed=0, weights_file=Path("unused"))


def errors(answers, text, trainings):
    return [answers(job(text, k)).metrics["error"] for k in range(trainings)]


def test_a_number_becomes_a_metric_by_factor_and_offset(tmp_path):
    answer = table(tmp_path, f"90,{POOL}").read(SPACE, ["error"])(job(POOL))

    assert answer.status is TrialStatus.COMPLETE
    assert answer.metrics == {"error": pytest.approx(0.1)}


@pytest.mark.parametrize("lines", [(f"90,{CONV}", f"80,{SKIP}"), (f"80,{SKIP}", f"90,{CONV}")])
def test_all_encodings_of_a_network_have_the_result_of_the_canonical_one(tmp_path, lines):
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


def test_constraints_apply_to_results_from_a_table(tmp_path):
    answers = table(tmp_path, f"90,{POOL}").read(SPACE, ["error"], {"error": Bounds(max=0.05)})

    assert answers(job(POOL)).reason is Reason.CONSTRAINT


def test_training_k_of_a_network_has_the_results_of_its_row_k_in_the_order_of_the_replicate_column(tmp_path):
    lines = [f"70,30,{POOL}", f"90,-4,{POOL}", f"50,1,{SKIP}", f"80,7,{POOL}"]
    answers = replicates(tmp_path, *lines)

    assert errors(answers, POOL, trainings=3) == pytest.approx([0.1, 0.2, 0.3])  # -4, 7, 30: as numbers, not as text
    assert errors(answers, SKIP, trainings=1) == pytest.approx([0.5])
    assert len(answers.metrics) == 2


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_the_rows_of_the_canonical_encoding_are_used_instead_of_those_of_other_encodings(tmp_path, order):
    lines = [f"90,1,{CONV}", f"80,2,{SKIP}", f"70,1,{SKIP}", f"60,3,{CONV}", f"50,0,{CONV}"]
    answers = replicates(tmp_path, *lines[order])

    assert errors(answers, CONV, trainings=2) == errors(answers, SKIP, trainings=2) == pytest.approx([0.3, 0.2])
    with pytest.raises(DataError, match="2 rows"):
        answers(job(CONV, replicate=2))


def test_without_a_canonical_encoding_the_rows_of_the_first_encoding_are_used(tmp_path):
    other = CONV.replace("nor_conv_3x3~0", "nor_conv_1x1~0")
    answers = replicates(tmp_path, f"90,2,{other}", f"10,0,{CONV}", f"80,1,{other}", f"20,1,{CONV}")

    assert errors(answers, SKIP, trainings=2) == pytest.approx([0.2, 0.1])


def test_without_a_replicate_column_one_row_is_used_for_every_training(tmp_path):
    answers = table(tmp_path, f"90,{POOL}").read(SPACE, ["error"])

    assert errors(answers, POOL, trainings=3) == pytest.approx([0.1, 0.1, 0.1])


@pytest.mark.parametrize(("encoding", "accuracies"), [(SKIP, (70, 80)), (CONV, (80, 70))])
def test_without_a_replicate_column_the_last_row_of_a_canonical_and_the_first_of_another_encoding_is_used(
    tmp_path, encoding, accuracies
):
    answers = table(tmp_path, *(f"{accuracy},{encoding}" for accuracy in accuracies)).read(SPACE, ["error"])

    assert errors(answers, SKIP, trainings=1) == pytest.approx([0.2])


def test_parameters_are_counted_for_every_row(tmp_path):
    evaluation = table(tmp_path, f"90,1,{POOL}", f"80,2,{POOL}", header="accuracy,seed,architecture", replicate="seed")
    answers = evaluation.read(SPACE, ["error", "parameters"])

    found = [answers(job(POOL, k)).metrics["parameters"] for k in range(2)]
    assert found == [SPACE.parameters(SPACE.parse(POOL), n_classes=10)] * 2


def test_constraints_apply_to_each_row(tmp_path):
    lines = [f"90,1,{POOL}", f"97,2,{POOL}"]
    evaluation = table(tmp_path, *lines, header="accuracy,seed,architecture", replicate="seed")
    answers = evaluation.read(SPACE, ["error"], {"error": Bounds(max=0.05)})

    assert [answers(job(POOL, k)).status for k in range(2)] == [TrialStatus.INFEASIBLE, TrialStatus.COMPLETE]


def test_results_are_noisy_only_if_a_network_has_several_rows(tmp_path):
    assert not table(tmp_path, f"90,{POOL}", f"80,{POOL}").read(SPACE, ["error"]).is_noisy
    assert not replicates(tmp_path, f"90,1,{POOL}", f"80,2,{SKIP}").is_noisy
    assert replicates(tmp_path, f"90,1,{POOL}", f"80,1,{SKIP}", f"80,2,{SKIP}").is_noisy


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["90,3"],
            r"table\.csv has 1 row for network a{10}, \|none~0\|.*avg_pool.*, but the search requests training 2 of it."
            r" Add rows, or set algorithm\.retraining=0 and search\.replicates=0, or decrease algorithm.evaluations\.$",
        ),
        (["90,3", "80,4"], r"has 2 rows for network a{10}, .* requests training 3 of it"),
    ],
)
def test_a_training_without_a_row_is_an_error_that_can_be_pickled(tmp_path, rows, message):
    answers = replicates(tmp_path, *(f"{row},{POOL}" for row in rows))

    with pytest.raises(DataError, match=message) as caught:
        answers(job(POOL, replicate=len(rows)))

    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (DataError, str(caught.value))


def test_a_table_can_be_pickled_for_a_worker(tmp_path):
    answers = replicates(tmp_path, f"90,1,{POOL}", f"80,2,{POOL}")

    copy = pickle.loads(pickle.dumps(answers))

    assert errors(copy, POOL, trainings=2) == pytest.approx([0.1, 0.2])
    assert copy.is_noisy


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"90,1,{POOL}", f"80,,{POOL}"], r"table\.csv, line 3: seed must be an integer, got ''\."),
        ([f"90,1.5,{POOL}"], r"line 2: seed must be an integer, got '1\.5'\."),
        (
            [f"90,7,{CONV}", f"80,7,{SKIP}", f"70,7,{CONV}"],
            r"table\.csv, line 4: seed 7 occurs twice for \|nor_conv_3x3~0\|.*\|\. Number the rows of an architecture",
        ),
    ],
)
def test_a_wrong_replicate_is_reported_by_file_and_line(tmp_path, lines, message):
    with pytest.raises(DataError, match=message):
        replicates(tmp_path, *lines)


def test_a_missing_replicate_column_is_named(tmp_path):
    with pytest.raises(DataError, match=r"has no column 'sed', which evaluation\.replicate names\."):
        table(tmp_path, f"90,{POOL}", replicate="sed").read(SPACE, ["error"])


def test_a_search_that_needs_a_missing_row_exits_with_2_and_one_line_and_keeps_what_is_complete(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rows = ["relu 1x1:8,1,0.5,0.6", "relu 1x1:8,2,0.5,0.6", "relu 3x3:8,1,0.4,0.5"]  # no second row of 3x3
    Path("table.csv").write_text("\n".join(["architecture,seed,error,score", *rows]) + "\n")
    options = [
        "--config=nats_bench",
        "space=chain",
        "space.max_depth=1",
        "space.kernels=[1,3]",
        "space.widths=[8]",
        "space.activations=[relu]",
        "algorithm=random",
        "algorithm.evaluations=2",
        "search.replicates=1",
        "objectives=[error,introspectability]",
        "evaluation.table=table.csv",
        "evaluation.architecture=architecture",
        "evaluation.replicate=seed",
        "evaluation.metrics.error={column: error, factor: 1, offset: 0}",
        "+evaluation.metrics.introspectability={column: score}",
        "--run-dir=run",
    ]

    status = main(["search", *options])

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nasx: ")]
    assert status == 2
    assert len(lines) == 1
    assert "table.csv has 1 row for network" in lines[0]
    assert "relu 3x3:8, but the search requests training 2 of it" in lines[0]
    with Journal.open(tmp_path / "run", read_only=True) as store:
        assert {trial.architecture for trial in store.trials() if trial.is_complete} == {"relu 1x1:8", "relu 3x3:8"}


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
        ([f"90,{POOL}", "80,|conv~0|"], None, r"table\.csv, line 3: expected 3 nodes joined by '\+', got 1"),
        ([], "", "has no column 'accuracy'|has no column 'architecture'"),
        ([f"ninety,{POOL}"], None, r"line 2: accuracy must be a number, got 'ninety'"),
        ([f"nan,{POOL}"], None, r"line 2: error would be nan, outside \[0, 1\]"),
        ([f"9000,{POOL}"], None, r"error would be -89, outside \[0, 1\]\. evaluation\.metrics\.error sets the factor"),
        (["90"], None, r"line 2: expected 3 nodes"),
        ([], None, r"table\.csv has no architectures: there are no lines after the header\."),
    ],
)
def test_an_invalid_table_is_reported_by_file_and_line(tmp_path, lines, header, message):
    with pytest.raises(DataError, match=message):
        table(tmp_path, *lines, header="accuracy,architecture" if header is None else header).read(SPACE, ["error"])


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    evaluation = table(tmp_path)
    evaluation.table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"table\.csv cannot be read as CSV: 'utf-8' codec"):
        evaluation.read(SPACE, ["error"])
    evaluation.table.unlink()
    with pytest.raises(DataError, match=r"^there is no file .*table\.csv: evaluation\.table names a CSV file\.$"):
        evaluation.read(SPACE, ["error"])


def test_an_objective_without_a_column_is_reported(tmp_path):
    with pytest.raises(
        SettingError, match=r"^metrics\.macs is missing: macs is an objective, and the space nb201 cannot compute it$"
    ):
        table(tmp_path, f"90,{POOL}").read(SPACE, ["error", "macs"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_classes": 1}, "n_classes must be at least 2, got 1"),
        ({"seconds": -1.0}, r"seconds must be at least 0, got -1\.0"),
        (
            {"metrics": {"eror": Column(column="e")}},
            r"metrics must be known metrics, got 'eror'\. Did you mean error\?",
        ),
    ],
)
def test_settings_out_of_range_are_rejected(settings, message):
    with pytest.raises(SettingError, match=f"^{message}$"):
        TabularEvaluation(**{"table": Path("t.csv"), "metrics": {}, **settings})


@pytest.mark.parametrize("seconds", [0.0, 0.25])
def test_a_lookup_takes_as_long_as_asked(tmp_path, monkeypatch, seconds):
    slept = []
    monkeypatch.setattr("nasx.evaluation.tabular.time.sleep", slept.append)
    file = table(tmp_path, f"0.5,{POOL}").table
    slow = TabularEvaluation(table=file, metrics={"error": Column(column="accuracy")}, seconds=seconds)
    answers = slow.read(SPACE, ["error"])

    assert answers(job(POOL)).train_seconds == seconds
    assert sum(slept) == seconds
