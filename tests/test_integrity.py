"""`check_run`: silent about a whole run, and one line for each thing that is wrong."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from journals import INFO, downgrade, make_trial, record
from safetensors.numpy import save

from nasx.integrity import check_run
from nasx.rundir import weights_file
from nasx.store import RunStore
from nasx.trial import Candidate
from nasx.weights import seal


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A whole run: three candidates, of which the second is known and the third was not finished."""
    with RunStore.create(tmp_path, INFO) as store:
        record(store, make_trial(0, "aa"))
        store.record_candidate(Candidate(1, (1, 0), 0, "random"), "aa", answered=True)
        store.record_candidate(Candidate(2, (1, 1), 1, "mutation", (0,)), "bb", answered=False)
    path = weights_file(tmp_path, "aa")
    path.parent.mkdir(parents=True)
    path.write_bytes(seal(save({"head": np.ones(3, dtype=np.float32)})))
    return tmp_path


def test_a_whole_run_has_no_problems(run_dir: Path) -> None:
    assert check_run(run_dir) == []


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (
            "UPDATE candidates SET parents = '[2]' WHERE number = 2",
            "candidate 2",
            "descends from candidate 2, which does",
        ),
        (
            "UPDATE candidates SET heard = '[0,2]' WHERE number = 2",
            "candidate 2",
            "was bred from the answer to candidate 2, which does",
        ),
        ("UPDATE candidates SET number = 5 WHERE number = 2", "candidate 5", "candidate 2 is missing before it"),
        (
            "UPDATE candidates SET answered = 1 WHERE number = 2",
            "candidate 2",
            "was answered from the journal, but bb was",
        ),
        ("UPDATE trials SET number = 2", "trial aa", "candidate 2 asked for another network"),
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
        ("UPDATE trials SET metrics = '{'", "run.db", "its records cannot be read"),
        ("DELETE FROM trials", "run.db", "row 1 of scores refers to a row of trials that is not there"),
    ],
)
def test_each_change_of_the_journal_is_found(run_dir: Path, change: str, where: str, what: str) -> None:
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        connection.execute(change)
        connection.commit()
    (problem,) = check_run(run_dir)
    assert problem.where == where
    assert_says(problem.what, what)


@pytest.fixture
def retrained(run_dir: Path) -> Path:
    """A whole run in which candidates 3 and 4 trained aa again, candidate 5 was to, and an extra round came after."""
    with RunStore.open(run_dir) as store:
        for number, replicate in ((3, 1), (4, 2), (5, 3)):
            candidate = Candidate(number, (0, 1), 1, "retraining", (0,), replicate=replicate)
            store.record_candidate(candidate, "aa", answered=False)
            if number < 5:
                store.record_trial(replace(make_trial(number, "aa", replicate), candidate=candidate))
        store.record_candidate(Candidate(6, (1, 0), 1, "random"), "aa", answered=True)
        store.record_trial(make_trial(0, "aa", 4))
    return run_dir


@pytest.mark.parametrize("version", [3, 2])
def test_a_run_with_replicates_has_no_problems(retrained: Path, version: int) -> None:
    if version == 2:  # which had no candidates that train again
        with closing(sqlite3.connect(retrained / "run.db")) as connection:
            connection.executescript(
                "UPDATE trials SET number = 0; UPDATE candidates SET answered = 1 WHERE number > 2"
            )
        downgrade(retrained, 2)
    assert check_run(retrained) == []


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (
            "UPDATE candidates SET replicate = 1 WHERE number = 2",
            "candidate 2",
            "asks for replicate 1 of bb, which was not asked for before$",
        ),
        (
            "UPDATE candidates SET replicate = 4 WHERE number = 5",
            "candidate 5",
            "asks for replicate 4 of aa, expected replicate 3$",
        ),
        (
            "UPDATE candidates SET replicate = 2 WHERE number = 5",
            "candidate 5",
            "asks for replicate 2 of aa, expected replicate 3$",
        ),
        (
            "UPDATE trials SET number = 4 WHERE replicate = 4",
            "trial aa, replicate 4",
            "candidate 4 asked for replicate 2$",
        ),
        (
            "DELETE FROM trials WHERE replicate < 4; DELETE FROM scores WHERE replicate < 4",
            "trial aa, replicate 4",
            "is a replicate of a network that has no first training$",
        ),
        (
            "UPDATE trials SET number = 6 WHERE replicate = 4",
            "trial aa, replicate 4",
            "candidate 6 asked for replicate 0$",
        ),
    ],
)
def test_each_change_of_a_replicate_is_found(retrained: Path, change: str, where: str, what: str) -> None:
    with closing(sqlite3.connect(retrained / "run.db")) as connection:
        connection.executescript(change)
    problem = check_run(retrained)[0]  # a candidate that asks for another training is missed elsewhere
    assert problem.where == where
    assert_says(problem.what, what)


def test_damaged_weights_are_found(run_dir: Path) -> None:
    path = weights_file(run_dir, "aa")
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    (problem,) = check_run(run_dir)
    assert problem.where == "archs/aa/weights_0.safetensors"
    assert_says(problem.what, "its tensors are not those that were written")


def assert_says(text: str, pattern: str) -> None:
    assert re.match(pattern, text), text
