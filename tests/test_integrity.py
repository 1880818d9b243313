"""`check_run`: silent about a whole run, and one line for each thing that is wrong."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from journals import INFO, make_trial, record
from safetensors.numpy import save

from nasx.errors import RunError
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


def test_damaged_weights_are_found(run_dir: Path) -> None:
    path = weights_file(run_dir, "aa")
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    (problem,) = check_run(run_dir)
    assert problem.where == "archs/aa/weights_0.safetensors"
    assert_says(problem.what, "its tensors are not those that were written")


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run directory"):
        check_run(tmp_path)


def assert_says(text: str, pattern: str) -> None:
    assert re.match(pattern, text), text
