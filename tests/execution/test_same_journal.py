"""One worker and four write the same journal: the same rows in every table, except times and order."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nasx.execution.ray import RayExecution
from nasx.runs.directory import DATABASE
from nasx.trial import Reason
from tests.factories import evaluators
from tests.factories.searches import ManyPairs, make_loop, nsga2

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

# columns with times and durations
TIMES = {
    "run": {"created"},
    "candidates": set(),
    "trials": {"train_seconds", "score_seconds", "finished", "gpu_seconds"},
    "scores": {"seconds"},
    "noise": set(),
    "events": {"time"},
    "data": set(),
}
# rows are in the order of recording; these columns identify them
KEYS = {
    "run": ["name"],
    "candidates": ["number"],
    "trials": ["arch_id", "replicate"],
    "scores": ["arch_id", "replicate", "scorer"],
    "noise": ["trainings", "objective"],
    "events": ["arch_id", "replicate", "kind", "message"],
    "data": ["part"],
}


def contents(run_dir: Path) -> dict[str, list[dict]]:
    """Return every table without times, sorted by its key."""
    with closing(sqlite3.connect(run_dir / DATABASE)) as connection:
        connection.row_factory = sqlite3.Row
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert tables == TIMES.keys()
        rows = {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in TIMES}
    for table, found in rows.items():
        found.sort(key=lambda row: tuple(row[column] for column in KEYS[table]))
        for row in found:
            for column in (*TIMES[table], "checksum"):  # it covers the times
                del row[column]
    return rows


def test_one_worker_and_four_write_the_same_journal(tmp_path):
    space, loops = ManyPairs(), {}
    four = RayExecution(device="cpu", workers=4)
    with four.started():
        for execution in (four, RayExecution(device="cpu", workers=1)):  # the second uses the Ray of the first
            workers = execution.plan.workers
            loops[workers] = make_loop(
                tmp_path / str(workers),
                nsga2(space=space, mode="generational", population_size=8, screening=1, retraining=0.25),
                40,
                space=space,
                objectives=("error", "parameters"),
                early_stopping=True,
                replicates=1,
            )
            execution.run(loops[workers], evaluators.out_of_order, lambda: None)
            loops[workers].close()
            loops[workers].store.close()

    journal = contents(tmp_path / "1")
    assert contents(tmp_path / "4") == journal
    # the comparison needs stopped trainings and replicates. On a busy machine one worker may evaluate all trials, so
    # that their order is not asserted here: test_any_order.py tests orders
    assert any(t.evaluation.reason is Reason.DOMINATED for t in loops[1].all_trials)
    assert any(t.replicate != t.candidate.replicate for t in loops[1].all_trials)
    assert any(row["replicate"] for row in journal["candidates"])
    assert journal["noise"]
