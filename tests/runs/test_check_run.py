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
from nasx.runs.check import check_run
from nasx.runs.directory import weights_file
from nasx.runs.journal import Journal
from nasx.trial import Candidate
from tests.factories.journals import INFO, downgrade, make_trial, record


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Make an intact run of three candidates: the second is known, the third was not finished."""
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, make_trial(0, "aa"))
        journal.record_candidate(Candidate(1, (1, 0), 0, "random"), "aa", answered=True)
        journal.record_candidate(Candidate(2, (1, 1), 1, "mutation", (0,)), "bb", answered=False)
    path = weights_file(tmp_path, "aa")
    path.parent.mkdir(parents=True)
    path.write_bytes(add_checksum(save({"head": np.ones(3, dtype=np.float32)})))
    return tmp_path


def test_an_intact_run_has_no_defects(run_dir: Path) -> None:
    assert check_run(run_dir) == []


@pytest.mark.parametrize(
    ("change", "location", "message"),
    [
        (
            "UPDATE candidates SET parents = '[2]' WHERE number = 2",
            "candidate 2",
            "descends from candidate 2, which does",
        ),
        (
            "UPDATE candidates SET heard = '[0,2]' WHERE number = 2",
            "candidate 2",
            "depends on the result of candidate 2, which does",
        ),
        ("UPDATE candidates SET number = 5 WHERE number = 2", "candidate 5", "candidate 2 is missing before it"),
        (
            "UPDATE candidates SET answered = 1 WHERE number = 2",
            "candidate 2",
            "was answered from the journal, but bb was",
        ),
        ("UPDATE trials SET number = 2", "trial aa", "candidate 2 requested another network"),
        (
            'UPDATE trials SET metrics = \'{"error":1.5,"introspectability":0}\'',
            "trial aa",
            r"error is 1.5, outside \[0, 1",
        ),
        ("UPDATE trials SET metrics = '{\"error\":0.5}'", "trial aa", "introspectability is nan, outside"),
        ("UPDATE trials SET status = 'failed'", "trial aa", "is failed for the reason None"),
        (
            "UPDATE trials SET status = 'failed', reason = 'constraint'",
            "trial aa",
            "is failed for the reason constraint",
        ),
        ("UPDATE run SET n_classes = 4", "trial aa", "class distances of shap are 3x3 for 4 classes"),
        ("UPDATE trials SET metrics = '{'", "run.db", "its entries cannot be read"),
        ("DELETE FROM trials", "run.db", "row 1 of scores refers to a row of trials that does not exist"),
    ],
)
def test_each_change_of_the_journal_is_detected(run_dir: Path, change: str, location: str, message: str) -> None:
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        connection.execute(change)
        connection.commit()
    (defect,) = check_run(run_dir)
    assert defect.location == location
    assert_matches(defect.message, message)


@pytest.fixture
def retrained(run_dir: Path) -> Path:
    """Make an intact run with re-trainings of aa: candidates 3 and 4 finished, 5 did not; then an extra round."""
    with Journal.open(run_dir) as journal:
        for number, replicate in ((3, 1), (4, 2), (5, 3)):
            candidate = Candidate(number, (0, 1), 1, "retraining", (0,), replicate=replicate)
            journal.record_candidate(candidate, "aa", answered=False)
            if number < 5:
                journal.record_trial(replace(make_trial(number, "aa", replicate), candidate=candidate))
        journal.record_candidate(Candidate(6, (1, 0), 1, "random"), "aa", answered=True)
        journal.record_trial(make_trial(0, "aa", 4))
    return run_dir


@pytest.mark.parametrize("version", [3, 2])
def test_a_run_with_replicates_has_no_defects(retrained: Path, version: int) -> None:
    if version == 2:  # has no re-training candidates
        with closing(sqlite3.connect(retrained / "run.db")) as connection:
            connection.executescript(
                "UPDATE trials SET number = 0; UPDATE candidates SET answered = 1 WHERE number > 2"
            )
        downgrade(retrained, 2)
    assert check_run(retrained) == []


@pytest.mark.parametrize(
    ("change", "location", "message"),
    [
        (
            "UPDATE candidates SET replicate = 1 WHERE number = 2",
            "candidate 2",
            "requests replicate 1 of bb, which was not requested before$",
        ),
        (
            "UPDATE candidates SET replicate = 4 WHERE number = 5",
            "candidate 5",
            "requests replicate 4 of aa, expected replicate 3$",
        ),
        (
            "UPDATE candidates SET replicate = 2 WHERE number = 5",
            "candidate 5",
            "requests replicate 2 of aa, expected replicate 3$",
        ),
        (
            "UPDATE trials SET number = 4 WHERE replicate = 4",
            "trial aa, replicate 4",
            "candidate 4 requested replicate 2$",
        ),
        (
            "DELETE FROM trials WHERE replicate < 4; DELETE FROM scores WHERE replicate < 4",
            "trial aa, replicate 4",
            "is a replicate of a network that has no first training$",
        ),
        (
            "UPDATE trials SET number = 6 WHERE replicate = 4",
            "trial aa, replicate 4",
            "candidate 6 requested replicate 0$",
        ),
    ],
)
def test_each_change_of_a_replicate_is_detected(retrained: Path, change: str, location: str, message: str) -> None:
    with closing(sqlite3.connect(retrained / "run.db")) as connection:
        connection.executescript(change)
    defect = check_run(retrained)[0]  # changed candidates may cause further defects
    assert defect.location == location
    assert_matches(defect.message, message)


def test_damaged_weights_are_detected(run_dir: Path) -> None:
    path = weights_file(run_dir, "aa")
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    (defect,) = check_run(run_dir)
    assert defect.location == "archs/aa/weights_0.safetensors"
    assert_matches(defect.message, "its checksum does not match its tensors")


def assert_matches(text: str, pattern: str) -> None:
    assert re.match(pattern, text), text
