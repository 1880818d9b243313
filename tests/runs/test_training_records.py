"""Records of trainings as JSON: exact round trips, files of older versions, damaged files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from nasx.errors import RunError
from nasx.runs import training_records
from nasx.runs.training_records import (
    FinalRecord,
    Finetuned,
    Training,
    read_final_record,
    read_finetuned,
    read_test_set_evaluations,
    record_test_set_evaluation,
    write_final_record,
    write_finetuned,
)

FINAL = FinalRecord(
    arch_id="aa00000000",
    architecture="|a|b|",
    genotype=(0, 1),
    course={"space": {}, "dataset": {}, "training": {"epochs": 2, "learning_rate": 0.1}, "seed": 0},
    class_names=("a", "ç", "caf\udce9"),  # the last is the name of a folder that is not UTF-8
    shape=(3, 8, 8),
    mean=(0.1 + 0.2, 1 / 3, 0.5),
    std=(1.0, 1e-17, 0.5),
    images={"train": 10, "calibration": 2, "test": 4},
    parameters=802426,
    macs=10**12,
    validation_error=1 / 3,
    versions={"nasx": "0.1.0"},
    trainings=(
        Training(0, 5, 1.5, ({"epoch": 1, "train_loss": math.inf, "validation_loss": 1.0},)),
        Training(1, 6, 1.5, (), {"error": 0.25, "ece": 0.1, "calibrated_ece": 0.0, "introspectability": None}),
    ),
)
FINETUNED = Finetuned(
    arch_id="aa00000000",
    replicate=0,
    regularizer=0.5,
    epochs=5,
    learning_rate=0.01,
    before={"error": 0.1},
    after={"error": 1 / 3},
    control={"error": 0.3},
    seconds=1.0,
)


def test_a_final_record_survives_the_round_trip_exactly(tmp_path: Path) -> None:
    write_final_record(FINAL, tmp_path)

    found = read_final_record(tmp_path)

    assert found is not None
    trainings = [vars(training) for training in found.trainings]
    assert repr({**vars(found), "trainings": trainings}) == repr(
        {**vars(FINAL), "trainings": [vars(training) for training in FINAL.trainings]}
    )


def test_there_is_no_record_without_a_file(tmp_path: Path) -> None:
    assert read_final_record(tmp_path) is None
    assert read_finetuned(tmp_path, "aa00000000") is None
    assert read_test_set_evaluations(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text[:-20], "Expecting|Unterminated"),
        (lambda text: "[]", "Input should be a dictionary or an instance of FinalRecord"),
        (
            lambda text: text.replace('"parameters": 802426', '"parameters": "many"'),
            "parameters: Input should be a val",
        ),
        (lambda text: text.replace('"arch_id"', '"id"'), "arch_id: Field required"),
        (lambda text: text.replace('"number": 1', '"number": null'), r"trainings\.1\.number: Input should be a valid"),
        (lambda text: "[" * 100_000, "it is nested too deeply"),
        (
            lambda text: text.replace('"error": 0.25', '"error": 5'),
            r"trainings\.1\.test.*error is 5, expected a number",
        ),
        (lambda text: text.replace('"error": 0.25', '"err": 0.25'), r"trainings\.1\.test.*error is missing"),
        (lambda text: text.replace('"calibrated_ece": 0.0', '"calibrated_ece": NaN'), r"trainings\.1\.test.* is nan"),
        (lambda text: text.replace('"test": 4', '"tests": 4'), "images: test is missing"),
        (lambda text: text.replace('"train": 10', '"train": -1'), "images: .*a number of images is negative"),
        (lambda text: text.replace('"space": {}', '"spaces": {}'), "course: .*space is missing"),
        (lambda text: text.replace('"dataset": {}', '"dataset": 5'), "course: .*expected the settings of the space"),
    ],
)
def test_a_damaged_final_record_is_reported_with_its_problem(tmp_path: Path, change, problem: str) -> None:
    write_final_record(FINAL, tmp_path)
    file = tmp_path / "final.json"
    file.write_text(change(file.read_text()))

    with pytest.raises(
        RunError, match=rf"final\.json is damaged \({problem}.*\)\. Remove its directory to train again\.$"
    ):
        read_final_record(tmp_path)


@pytest.mark.parametrize("key", ["regulariser", "regularizer"])
def test_fine_tuning_is_read_with_either_spelling_of_the_regularizer(tmp_path: Path, key: str) -> None:
    write_finetuned(FINETUNED, tmp_path)
    file = tmp_path / "archs/aa00000000/finetuned.json"
    stored = json.loads(file.read_text())
    del stored["checksum"]
    file.write_text(json.dumps({key if name == "regulariser" else name: value for name, value in stored.items()}))

    assert read_finetuned(tmp_path, "aa00000000") == FINETUNED


def test_fine_tuning_is_stored_under_the_keys_that_older_versions_read(tmp_path: Path) -> None:
    write_finetuned(FINETUNED, tmp_path)

    stored = json.loads((tmp_path / "archs/aa00000000/finetuned.json").read_text())

    assert stored["regulariser"] == 0.5
    assert stored["twin"] == {"error": 0.3}
    assert not {"regularizer", "control"} & stored.keys()


@pytest.mark.parametrize("changed", ['"epochs": 5', '"seconds": 9'])
def test_a_changed_number_of_a_record_is_detected(tmp_path: Path, changed: str) -> None:
    write_finetuned(FINETUNED, tmp_path)
    file = tmp_path / "archs/aa00000000/finetuned.json"
    stored = json.loads(file.read_text())
    name = changed.split('"')[1]
    file.write_text(json.dumps({**stored, name: stored[name] + 1}))

    with pytest.raises(RunError, match=r"finetuned\.json is damaged \(its checksum does not match its values\)\. Rem"):
        read_finetuned(tmp_path, "aa00000000")


def test_a_repeated_test_set_evaluation_counts_once(tmp_path: Path) -> None:
    assert record_test_set_evaluation(tmp_path, "aa00000000", "course", [0, 1]) == []
    (first,) = read_test_set_evaluations(tmp_path)

    assert record_test_set_evaluation(tmp_path, "aa00000000", "course", [0, 1]) == []
    assert record_test_set_evaluation(tmp_path, "bb", "course", [0]) == [first]

    assert [e.arch_id for e in read_test_set_evaluations(tmp_path)] == ["aa00000000", "bb"]
    assert first == training_records.TestSetEvaluation(first.time, "aa00000000", "course", (0, 1))


def test_damaged_test_set_evaluations_are_reported(tmp_path: Path) -> None:
    (tmp_path / "test_touches.json").write_text('[{"time": "2026"}]')

    with pytest.raises(
        RunError, match=r"test_touches\.json is damaged \(0\.arch_id: Field required\)\. It counts how of"
    ):
        read_test_set_evaluations(tmp_path)
