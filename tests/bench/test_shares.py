"""Time of a search by part."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from scripts.bench.shares import PARTS, shares


def test_the_parts_add_up_to_the_workers_time(tmp_path):
    # two workers; command at 100 s, trainings begin at 108, last trial at 129, end at 130
    trials = [(120.0, 10.0, 2.0), (122.0, 10.0, 2.0), (129.0, 5.0, 1.0)]
    with closing(sqlite3.connect(tmp_path / "run.db")) as database, database:
        database.execute("CREATE TABLE trials (finished TEXT, train_seconds REAL, score_seconds REAL)")
        for finished, *seconds in trials:
            moment = datetime.fromtimestamp(finished, UTC).isoformat(timespec="milliseconds")
            database.execute("INSERT INTO trials VALUES (?, ?, ?)", (moment, *seconds))

    found = shares(tmp_path, began=100.0, ended=130.0)

    assert found["wall"] == 30
    assert sum(found[part] for part in PARTS) == pytest.approx(100)
    expected = {"training": 25, "scoring": 5, "between trials": 12, "start": 16, "end": 2}
    assert {part: found[part] for part in PARTS} == pytest.approx({p: 100 * s / 60 for p, s in expected.items()})
