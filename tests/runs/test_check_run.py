"""`check_run`: reports nothing for an intact run, and one defect per problem."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from nasx.files import add_checksum
from nasx.runs.check import Defect, _is_distance_matrix, check_run
from nasx.runs.directory import weights_file
from nasx.runs.journal import Journal
from nasx.trial import Candidate
from tests.factories.journals import INFO, change, downgrade, make_trial, record

AA, BB = "aa00000000", "bb00000000"


def defects(run_dir: Path) -> list[Defect]:
    """Return the defects of a run that has no config."""
    return [defect for defect in check_run(run_dir).defects if defect.location != "config.yaml"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Make an intact run of three candidates: the second is known, the third was not finished."""
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, make_trial(0, AA))
        journal.record_candidate(Candidate(1, (1, 0), 0, "random"), AA, answered=True)
        journal.record_candidate(Candidate(2, (1, 1), 1, "mutation", (0,)), BB, answered=False)
    path = weights_file(tmp_path, AA)
    path.parent.mkdir(parents=True)
    path.write_bytes(add_checksum(save({"head": np.ones(3, dtype=np.float32)})))
    return tmp_path


def test_an_intact_run_has_no_defects(run_dir: Path) -> None:
    assert defects(run_dir) == []


@pytest.mark.parametrize(
    ("script", "location", "message"),
    [
        (
            "UPDATE candidates SET parents = '[2]' WHERE number = 2",
            "run.db",
            r".*row 2 of its table candidates: parents contains 2, expected earlier candidates than 2",
        ),
        (
            "UPDATE candidates SET heard = '[0,2]' WHERE number = 2",
            "run.db",
            r".*row 2 of its table candidates: heard contains 2, expected earlier candidates than 2",
        ),
        (
            "UPDATE candidates SET number = 5 WHERE number = 2",
            "run.db",
            r".*its table candidates has no row with the number 2",
        ),
        (
            "UPDATE candidates SET answered = 1 WHERE number = 2",
            "candidate 2",
            "was answered from the journal, but bb00000000 was",
        ),
        (
            "UPDATE trials SET number = 2",
            "run.db",
            ".*row 1 of its table trials: arch_id is aa00000000, expected that of its candidate 2, bb00000000",
        ),
        (
            'UPDATE trials SET metrics = \'{"error":1.5,"introspectability":0}\'',
            "run.db",
            "row 1 of its table trials: metrics is .*, expected a JSON object of numbers in range",
        ),
        (
            "UPDATE trials SET metrics = '{\"error\":0.5}'",
            "run.db",
            ".*metrics has introspectability nan, expected a finite number of a complete trial",
        ),
        ("UPDATE trials SET status = 'failed'", "run.db", ".*reason is None, expected one of status failed"),
        (
            "UPDATE trials SET status = 'failed', reason = 'constraint'",
            "run.db",
            ".*reason is constraint, expected one of status failed",
        ),
        (
            "UPDATE run SET n_classes = 4, class_names = '[]'",
            "run.db",
            ".*distances of shap are 3x3, expected those of 4 classes",
        ),
        ("UPDATE trials SET metrics = '{'", "run.db", "row 1 of its table trials: metrics is '{', expected a JSON obj"),
        (
            "UPDATE trials SET replicate = 1; UPDATE scores SET replicate = 1",
            "trial aa00000000, replicate 1",
            "is a replicate of a network that has no first training",
        ),
        ("DELETE FROM trials", "run.db", "row 1 of scores refers to a row of trials that does not exist"),
    ],
)
def test_each_change_of_the_journal_is_detected(run_dir: Path, script: str, location: str, message: str) -> None:
    change(run_dir, script)
    (defect,) = defects(run_dir)
    assert defect.location == location
    assert_matches(defect.message, message)


def test_a_changed_value_is_detected_by_its_checksum(run_dir: Path) -> None:
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        connection.execute("UPDATE trials SET train_seconds = 1.25")
        connection.commit()
    (defect,) = defects(run_dir)
    assert_matches(defect.message, "row 1 of its table trials: its checksum does not match its values")


@pytest.fixture
def retrained(run_dir: Path) -> Path:
    """Make an intact run with re-trainings of the first network: candidates 3 and 4 finished; an extra round."""
    with Journal.open(run_dir) as journal:
        for number, replicate in ((3, 1), (4, 2), (5, 3)):
            candidate = Candidate(number, (0, 1), 1, "retraining", (0,), replicate=replicate)
            journal.record_candidate(candidate, AA, answered=False)
            if number < 5:
                journal.record_trial(replace(make_trial(number, AA, replicate), candidate=candidate))
        journal.record_candidate(Candidate(6, (1, 0), 1, "random"), AA, answered=True)
        journal.record_trial(make_trial(0, AA, 4))
    return run_dir


@pytest.mark.parametrize("version", [3, 2])
def test_a_run_with_replicates_has_no_defects(retrained: Path, version: int) -> None:
    if version == 2:  # has no re-training candidates
        change(retrained, "UPDATE trials SET number = 0; UPDATE candidates SET answered = 1 WHERE number > 2")
        downgrade(retrained, 2)
    assert defects(retrained) == []


@pytest.mark.parametrize(
    ("script", "location", "message"),
    [
        (
            "UPDATE candidates SET replicate = 1 WHERE number = 2",
            "candidate 2",
            "requests replicate 1 of bb00000000, which was not requested before$",
        ),
        (
            "UPDATE candidates SET replicate = 4 WHERE number = 5",
            "candidate 5",
            "requests replicate 4 of aa00000000, expected replicate 3$",
        ),
        (
            "UPDATE candidates SET replicate = 2 WHERE number = 5",
            "candidate 5",
            "requests replicate 2 of aa00000000, expected replicate 3$",
        ),
        (
            "UPDATE trials SET number = 4 WHERE replicate = 4",
            "trial aa00000000, replicate 4",
            "candidate 4 requested replicate 2$",
        ),
        (
            "DELETE FROM trials WHERE replicate < 4; DELETE FROM scores WHERE replicate < 4",
            "trial aa00000000, replicate 4",
            "is a replicate of a network that has no first training$",
        ),
        (
            "UPDATE trials SET number = 6 WHERE replicate = 4",
            "trial aa00000000, replicate 4",
            "candidate 6 requested replicate 0$",
        ),
    ],
)
def test_each_change_of_a_replicate_is_detected(retrained: Path, script: str, location: str, message: str) -> None:
    change(retrained, script)
    defect = defects(retrained)[0]  # changed candidates may cause further defects
    assert defect.location == location
    assert_matches(defect.message, message)


def test_damaged_weights_are_detected(run_dir: Path) -> None:
    path = weights_file(run_dir, AA)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    (defect,) = defects(run_dir)
    assert defect.location == "archs/aa00000000/weights_0.safetensors"
    assert_matches(defect.message, "its checksum does not match its tensors")


def assert_matches(text: str, pattern: str) -> None:
    assert re.match(pattern, text), text


@pytest.mark.parametrize(
    ("distances", "is_one"),
    [
        ([[0.0, 0.3], [0.3, 0.0]], True),
        ([[0.0, np.nan], [np.nan, 0.0]], True),
        ([[0.0, 0.3], [0.4, 0.0]], False),
        ([[0.1, 0.3], [0.3, 0.0]], False),
    ],
)
def test_distances_of_classes_are_symmetric_with_a_zero_diagonal(distances: list[list[float]], is_one: bool) -> None:
    assert _is_distance_matrix(np.array(distances)) is is_one
