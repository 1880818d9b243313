"""A run and trials by hand, for tests that need a journal. Light: killed writers import it too."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from nasx.runs.journal import Journal
from nasx.runs.rows import RunInfo
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


# The tables that version 3 of the schema changed, as version 2 had them
_VERSION_2 = """
DROP VIEW results;
DROP TABLE noise;
CREATE TABLE run_before AS SELECT * FROM run;
CREATE TABLE candidates_before AS SELECT * FROM candidates;
DROP TABLE run;
DROP TABLE candidates;
CREATE TABLE run (            -- one row: what the search is
    name           TEXT NOT NULL,     -- of the experiment
    created        TEXT NOT NULL,     -- ISO 8601, UTC
    nasx_version   TEXT NOT NULL,
    torch_version  TEXT NOT NULL,
    python_version TEXT NOT NULL,
    seed           INTEGER NOT NULL,  -- from which every other seed derives
    objectives     TEXT NOT NULL,     -- JSON list of names, in order
    n_classes      INTEGER NOT NULL,
    class_names    TEXT NOT NULL,     -- JSON list; may be empty
    config_hash    TEXT NOT NULL,     -- of what must not change between a search and its resumption
    workers        INTEGER NOT NULL   -- at the start: the lag of a steady-state search
);
CREATE TABLE candidates (     -- what the algorithm asked for, and its descent
    number     INTEGER PRIMARY KEY,   -- 0, 1, 2, ... in the order of asking
    arch_id    TEXT NOT NULL,         -- the network that the genotype encodes
    genotype   TEXT NOT NULL,         -- JSON list of alleles, as asked
    generation INTEGER NOT NULL,      -- 0 is the first
    operator   TEXT NOT NULL,         -- how it was made
    parents    TEXT NOT NULL,         -- JSON list of candidate numbers
    heard      TEXT NOT NULL,         -- JSON list of candidates whose answers were taken in since the candidate before
    answered   INTEGER NOT NULL       -- 1: needed no training of its own, the network was known
);
CREATE INDEX candidates_of_arch ON candidates (arch_id);
INSERT INTO run SELECT name, created, nasx_version, torch_version, python_version, seed, objectives, n_classes,
    class_names, config_hash, workers FROM run_before;
INSERT INTO candidates SELECT number, arch_id, genotype, generation, operator, parents, heard, answered
    FROM candidates_before;
DROP TABLE run_before;
DROP TABLE candidates_before;
CREATE VIEW results AS        -- for people: sqlite3 -box run.db 'SELECT * FROM results ORDER BY error'
    SELECT number, arch_id, replicate, status, reason, json_extract(metrics, '$.error') AS error,
           json_extract(metrics, '$.introspectability') AS introspectability,
           json_extract(metrics, '$.parameters') AS parameters, json_extract(metrics, '$.macs') AS macs,
           train_seconds, score_seconds, generation, operator, architecture
    FROM trials JOIN candidates USING (number, arch_id);
PRAGMA user_version = 2;
"""
_VERSION_1 = """
ALTER TABLE candidates DROP COLUMN heard;
ALTER TABLE trials DROP COLUMN gpu_seconds;
PRAGMA user_version = 1;
"""


def downgrade(run_dir: Path, version: int) -> None:
    """Make a journal what a nasx of before wrote: schema 2 or 1."""
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        connection.executescript(_VERSION_2 + (_VERSION_1 if version == 1 else ""))
