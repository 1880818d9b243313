"""The journal's schema, as text. People may read run.db with any SQLite tool; the view `results` is for them."""

from __future__ import annotations

# What each version changed:
# 1: the first.
# 2: candidates.heard, without which a search cannot be continued exactly; trials.gpu_seconds.
# 3: candidates.replicate, run.alleles, the table noise. A journal of version 2 is upgraded when its search is resumed.
SCHEMA_VERSION = 3
APPLICATION_ID = 0x6E617378  # "nasx" in ASCII: tells our databases from other people's
NOISE = """CREATE TABLE noise (          -- of one training, as estimated each time the search ended
    trainings    INTEGER NOT NULL,  -- complete trainings that the estimate rests on
    objective    TEXT NOT NULL,
    std          REAL NOT NULL,     -- of a single training, in the objective's unit
    share        REAL NOT NULL,     -- of the variance of single trainings over the networks modeled, 0 to 1
    own_share    REAL NOT NULL,     -- of the variance between networks that no smooth function of the genes explains
    length_scale REAL NOT NULL,     -- of that function; two genotypes that differ in d genes are about sqrt(2 d) apart
    repeated     INTEGER NOT NULL,  -- networks trained more than once: by them the noise is known
    PRIMARY KEY (trainings, objective)
);"""
VIEW = """CREATE VIEW results AS        -- for people: sqlite3 -box run.db 'SELECT * FROM results ORDER BY error'
    SELECT number, arch_id, trials.replicate, status, reason, json_extract(metrics, '$.error') AS error,
           json_extract(metrics, '$.introspectability') AS introspectability,
           json_extract(metrics, '$.parameters') AS parameters, json_extract(metrics, '$.macs') AS macs,
           train_seconds, score_seconds, generation, operator, architecture
    FROM trials JOIN candidates USING (number, arch_id);"""
# What turns a journal of version 2 into one of version 3.
UPGRADE = f"""
ALTER TABLE run ADD COLUMN alleles TEXT NOT NULL DEFAULT '[]';
ALTER TABLE candidates ADD COLUMN replicate INTEGER NOT NULL DEFAULT 0;
DROP VIEW results;
{VIEW}
{NOISE}
PRAGMA user_version = {SCHEMA_VERSION};
"""
UPGRADED_FROM = 2
# JSON knows no NaN and no infinity: NaN is null, infinities are the strings "Infinity" and "-Infinity".
SCHEMA = f"""
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
    workers        INTEGER NOT NULL,  -- at the start: the lag of a steady-state search
    alleles        TEXT NOT NULL      -- JSON list of the names of each gene's alleles; may be empty
);

CREATE TABLE candidates (     -- what the algorithm asked for, and its descent
    number     INTEGER PRIMARY KEY,   -- 0, 1, 2, ... in the order of asking
    arch_id    TEXT NOT NULL,         -- the network that the genotype encodes
    genotype   TEXT NOT NULL,         -- JSON list of alleles, as asked
    generation INTEGER NOT NULL,      -- 0 is the first
    operator   TEXT NOT NULL,         -- how it was made
    parents    TEXT NOT NULL,         -- JSON list of candidate numbers
    heard      TEXT NOT NULL,         -- JSON list of candidates whose answers were taken in since the candidate before
    answered   INTEGER NOT NULL,      -- 1: needed no training of its own, the network was known
    replicate  INTEGER NOT NULL       -- which training of the network it asks for; 0 is the first
);
CREATE INDEX candidates_of_arch ON candidates (arch_id);

CREATE TABLE trials (         -- one network trained and scored once
    arch_id       TEXT NOT NULL,
    replicate     INTEGER NOT NULL,   -- 0 is the first training; further seeds count up
    number        INTEGER NOT NULL REFERENCES candidates,  -- the candidate for which it was trained
    genotype      TEXT NOT NULL,      -- JSON list of alleles, canonical
    architecture  TEXT NOT NULL,      -- the genotype in words
    seed          INTEGER NOT NULL,   -- of this training
    status        TEXT NOT NULL,      -- complete, failed, infeasible
    reason        TEXT,               -- why not complete, else NULL
    detail        TEXT NOT NULL,      -- a sentence or a traceback; empty where complete
    metrics       TEXT NOT NULL,      -- JSON: error, introspectability, parameters, macs, ...
    history       TEXT NOT NULL,      -- JSON list of one record an epoch
    train_seconds REAL NOT NULL,
    score_seconds REAL NOT NULL,
    finished      TEXT NOT NULL,      -- ISO 8601, UTC
    retries       INTEGER NOT NULL,   -- attempts before the one that counts
    gpu_seconds   REAL NOT NULL,      -- GPUs that it had times the seconds that it had them, all attempts together
    PRIMARY KEY (arch_id, replicate)
);

CREATE TABLE scores (         -- how introspectable a trial's network is, by each scorer
    arch_id            TEXT NOT NULL,
    replicate          INTEGER NOT NULL,
    scorer             TEXT NOT NULL,     -- name of the scorer and variant
    position           INTEGER NOT NULL,  -- 0, 1, ... in the order of scoring
    value              REAL NOT NULL,     -- mean cosine distance over class pairs and layers
    profile            TEXT NOT NULL,     -- JSON: layer -> value, from input to output
    distances          BLOB NOT NULL,     -- class by class, float64, little-endian, row by row; NaN: none
    n_samples          INTEGER NOT NULL,  -- validation images used
    seconds            REAL NOT NULL,
    completeness_error REAL,              -- SHAP alone
    PRIMARY KEY (arch_id, replicate, scorer),
    FOREIGN KEY (arch_id, replicate) REFERENCES trials
);

{NOISE}

CREATE TABLE events (         -- what happened, in order
    time      TEXT NOT NULL,          -- ISO 8601, UTC
    kind      TEXT NOT NULL,          -- attempt, withdrawal (of one), or the search's own
    arch_id   TEXT,                   -- the trial that it concerns, else NULL
    replicate INTEGER,
    message   TEXT NOT NULL
);
CREATE INDEX events_of_trial ON events (arch_id, replicate);

{VIEW}

PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""
