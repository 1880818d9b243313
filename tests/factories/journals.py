"""A run and trials by hand, for tests that need a journal. Light: killed writers import it too."""

from __future__ import annotations

import math
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from nasx.runs.journal import Journal
from nasx.runs.rows import RunInfo, checksum
from nasx.runs.schema import CHECKSUM, COLUMNS, SCHEMA, SCHEMA_VERSION, columns_of
from nasx.trial import Candidate, Evaluation, Score, Trial, TrialStatus

INFO = RunInfo(
    name="digits",
    created="2026-01-02T03:04:05+00:00",
    nasx_version="0.1.0",
    torch_version="2.13.0",
    python_version="3.11.7",
    seed=7,
    objectives=("error", "introspectability"),
    n_classes=3,
    class_names=("a", "b", "ç"),
    config_hash="abc",
    workers=2,
)


def make_trial(number: int = 0, arch_id: str = "a000000000", replicate: int = 0) -> Trial:
    distances = np.array([[0, 0.1, np.nan], [0.1, 0, 1 / 3], [np.nan, 1 / 3, 0]])
    score = Score("shap", 0.1 + 0.2, {"stem": 1 / 3, "stage1": 2 / 3}, distances, 100, 0.5, 1e-17)
    return Trial(
        arch_id=arch_id,
        replicate=replicate,
        genotype=(0, 1),
        architecture="|a|b|",
        seed=5,
        evaluation=Evaluation(
            TrialStatus.COMPLETE,
            metrics={"error": 1 / 3, "introspectability": 0.1 + 0.2, "parameters": 802426},
            scores=(score,),
            history=({"epoch": 1, "train_loss": math.inf, "validation_loss": 0.5},),
            train_seconds=1.5,
            score_seconds=0.25,
        ),
        candidate=Candidate(number, (1, 0), 0, "random"),
        finished="2026-01-02T03:05:00+00:00",
    )


def record(store: Journal, *trials: Trial) -> None:
    for trial in trials:
        store.record_candidate(trial.candidate, trial.arch_id, answered=False)
        store.record_trial(trial)


def old_schema(version: int) -> str:
    """Return the SQL schema as an older nasx wrote it."""

    def old_table(table: re.Match[str]) -> str:
        if not (columns := columns_of(table[1], version)):
            return ""
        lines = [line.partition("--")[0].strip().rstrip(",") for line in table[2].splitlines()]
        kept = [line for line in lines if line.split()[0] in ("PRIMARY", "FOREIGN", *columns)]
        return f"CREATE TABLE {table[1]} (\n    {', '.join(kept)}\n);"

    script = re.sub(r"^CREATE TABLE (\w+) \(.*?\n(.*?)\n\);", old_table, SCHEMA, flags=re.MULTILINE | re.DOTALL)
    return script.replace(f"user_version = {SCHEMA_VERSION}", f"user_version = {version}")


def downgrade(run_dir: Path, version: int) -> None:
    """Make a journal one that an older nasx wrote: schema 1, 2 or 3."""
    with closing(sqlite3.connect(run_dir / "run.db")) as before:
        tables = {t: columns_of(t, version) for t in COLUMNS if columns_of(t, version)}
        read = "SELECT {} FROM {} ORDER BY rowid"
        rows = {t: before.execute(read.format(", ".join(c), t)).fetchall() for t, c in tables.items()}
    for file in run_dir.glob("run.db*"):
        file.unlink()
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(old_schema(version))
        for table, columns in tables.items():
            marks = ", ".join("?" * len(columns))
            connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows[table])
        connection.commit()


def change(run_dir: Path, script: str, *values: object) -> None:
    """Change a journal as a stranger can: with SQL, and with right checksums afterwards."""
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        if values:
            connection.execute(script, values)
        else:
            connection.executescript(script)
        fix_checksums(connection)
        connection.commit()


def fix_checksums(connection: sqlite3.Connection) -> None:
    """Compute the checksum of every row again."""
    run = ""
    for table, columns in COLUMNS.items():
        names = [name for name in columns if name != CHECKSUM]
        for rowid, *values in connection.execute(f"SELECT rowid, {', '.join(names)} FROM {table}").fetchall():
            found = checksum(values, run)
            connection.execute(f"UPDATE {table} SET checksum = ? WHERE rowid = ?", (found, rowid))
            if table == "run":
                run = found
