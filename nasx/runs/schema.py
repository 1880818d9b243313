"""SQL schema of the journal. run.db can be read with any SQLite tool; the view `results` is meant for reading."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

# Changes by version:
# 1: first version.
# 2: candidates.heard, which makes an exact resume possible; trials.gpu_seconds.
# 3: candidates.replicate, run.alleles, the table noise.
# 4: run.config, the table data, and a checksum of each row. Journals of versions 2 and 3 are upgraded when their search
#    resumes; all versions can be read.
SCHEMA_VERSION = 4
OLDEST_UPGRADED = 2
APPLICATION_ID = 0x6E617378  # "nasx" in ASCII; identifies databases of nasx
CHECKSUM = "checksum"  # the last column of each table: `nasx.runs.rows.checksum` of all others
# Columns of later versions -> (version, value in an upgraded journal); for tables: "table." without column.
# Each `checksum` is of version 4.
ADDED: Mapping[str, tuple[int, object]] = {
    "candidates.heard": (2, "[]"),
    "trials.gpu_seconds": (2, 0.0),
    "candidates.replicate": (3, 0),
    "run.alleles": (3, "[]"),
    "noise.": (3, None),
    "run.config": (4, "{}"),
    "data.": (4, None),
}
# In JSON columns NaN is null, and infinities are the strings "Infinity" and "-Infinity".
SCHEMA = f"""
CREATE TABLE run (            -- identity of the search; one row
    name           TEXT NOT NULL,     -- of the experiment
    created        TEXT NOT NULL,     -- ISO 8601, UTC
    nasx_version   TEXT NOT NULL,
    torch_version  TEXT NOT NULL,
    python_version TEXT NOT NULL,
    seed           INTEGER NOT NULL,  -- all other seeds are derived from it
    objectives     TEXT NOT NULL,     -- JSON list of names, in order
    n_classes      INTEGER NOT NULL,
    class_names    TEXT NOT NULL,     -- JSON list; may be empty
    config_hash    TEXT NOT NULL,     -- of the settings that must be the same when the search resumes
    workers        INTEGER NOT NULL,  -- at the start; determines the lag of a steady-state search
    alleles        TEXT NOT NULL,     -- JSON list of the names of each gene's alleles; may be empty
    config         TEXT NOT NULL,     -- JSON object: the resolved config at the start; empty: unknown, of an older run
    checksum       TEXT NOT NULL      -- of the other columns of the row
);

CREATE TABLE candidates (     -- genotypes proposed by the algorithm, and their lineage
    number     INTEGER PRIMARY KEY,   -- 0, 1, 2, ... in the order of proposal
    arch_id    TEXT NOT NULL,         -- the network that the genotype encodes
    genotype   TEXT NOT NULL,         -- JSON list of alleles, as proposed
    generation INTEGER NOT NULL,      -- 0 is the first
    operator   TEXT NOT NULL,         -- how it was created: random, crossover+mutation, ...
    parents    TEXT NOT NULL,         -- JSON list of candidate numbers
    heard      TEXT NOT NULL,         -- JSON list of candidates told to the algorithm since the previous candidate
    answered   INTEGER NOT NULL,      -- 1: needed no training of its own, because the network was known
    replicate  INTEGER NOT NULL,      -- requested training of the network; 0 is the first
    checksum   TEXT NOT NULL
);
CREATE INDEX candidates_of_arch ON candidates (arch_id);

CREATE TABLE trials (         -- one network trained and scored once
    arch_id       TEXT NOT NULL,
    replicate     INTEGER NOT NULL,   -- 0 is the first training; 1, 2, ... are re-trainings with other seeds
    number        INTEGER NOT NULL REFERENCES candidates,  -- the candidate for which it was trained
    genotype      TEXT NOT NULL,      -- JSON list of alleles, canonical
    architecture  TEXT NOT NULL,      -- string form of the genotype
    seed          INTEGER NOT NULL,   -- of this training
    status        TEXT NOT NULL,      -- complete, failed, infeasible
    reason        TEXT,               -- reason if failed or infeasible, else NULL
    detail        TEXT NOT NULL,      -- sentence or traceback; empty if complete
    metrics       TEXT NOT NULL,      -- JSON: error, introspectability, parameters, macs, ...
    history       TEXT NOT NULL,      -- JSON list with one entry per epoch
    train_seconds REAL NOT NULL,
    score_seconds REAL NOT NULL,
    finished      TEXT NOT NULL,      -- ISO 8601, UTC
    retries       INTEGER NOT NULL,   -- number of attempts before the final one
    gpu_seconds   REAL NOT NULL,      -- number of GPUs times seconds, over all attempts
    checksum      TEXT NOT NULL,
    PRIMARY KEY (arch_id, replicate)
);

CREATE TABLE scores (         -- introspectability scores of a trial, one per scorer
    arch_id            TEXT NOT NULL,
    replicate          INTEGER NOT NULL,
    scorer             TEXT NOT NULL,     -- name of the scorer and variant
    position           INTEGER NOT NULL,  -- 0, 1, ... in the order of scoring
    value              REAL NOT NULL,     -- mean cosine distance over class pairs and layers
    profile            TEXT NOT NULL,     -- JSON: layer -> value, from input to output
    distances          BLOB NOT NULL,     -- (class, class) matrix, float64, little-endian, row-major; NaN: undefined
    n_samples          INTEGER NOT NULL,  -- validation images used
    seconds            REAL NOT NULL,
    completeness_error REAL,              -- only SHAP
    checksum           TEXT NOT NULL,
    PRIMARY KEY (arch_id, replicate, scorer),
    FOREIGN KEY (arch_id, replicate) REFERENCES trials
);

CREATE TABLE noise (          -- training noise, estimated at the end of each session of the search
    trainings    INTEGER NOT NULL,  -- number of complete trainings used for the estimate
    objective    TEXT NOT NULL,
    std          REAL NOT NULL,     -- standard deviation of a single training, unit of the objective
    share        REAL NOT NULL,     -- share of the noise in the variance of single trainings, 0 to 1
    own_share    REAL NOT NULL,     -- share of the variance between networks that no smooth function of genes explains
    length_scale REAL NOT NULL,     -- of that function; the distance of genotypes that differ in d genes is ~ sqrt(2 d)
    repeated     INTEGER NOT NULL,  -- number of networks trained more than once; the noise is estimated from them
    checksum     TEXT NOT NULL,
    PRIMARY KEY (trainings, objective)
);

CREATE TABLE events (         -- events of the search, in order
    time      TEXT NOT NULL,          -- ISO 8601, UTC
    kind      TEXT NOT NULL,          -- attempt, withdrawal (of an attempt), or an event of the search
    message   TEXT NOT NULL,
    arch_id   TEXT,                   -- of the trial concerned, else NULL
    replicate INTEGER,
    checksum  TEXT NOT NULL
);
CREATE INDEX events_of_trial ON events (arch_id, replicate);

CREATE TABLE data (           -- content of the data that the search read, to detect other data when they are read again
    part     TEXT NOT NULL PRIMARY KEY,  -- e.g. training images, split, table
    digest   TEXT NOT NULL,              -- SHA-256, hexadecimal
    facts    TEXT NOT NULL,              -- JSON object that describes what the digest covers: number of images, ...
    checksum TEXT NOT NULL
);

CREATE VIEW results AS        -- to read: sqlite3 -box run.db 'SELECT * FROM results ORDER BY error'
    SELECT number, arch_id, trials.replicate, status, reason, json_extract(metrics, '$.error') AS error,
           json_extract(metrics, '$.introspectability') AS introspectability,
           json_extract(metrics, '$.parameters') AS parameters, json_extract(metrics, '$.macs') AS macs,
           train_seconds, score_seconds, generation, operator, architecture
    FROM trials JOIN candidates USING (number, arch_id);

PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


def _columns() -> dict[str, dict[str, str]]:
    tables = re.findall(r"^CREATE TABLE (\w+) \((.*?)^\);", SCHEMA, re.MULTILINE | re.DOTALL)
    return {
        name: dict(re.findall(r"^    (\w+) +(TEXT|INTEGER|REAL|BLOB)\b", body, re.MULTILINE)) for name, body in tables
    }


COLUMNS: Mapping[str, Mapping[str, str]] = _columns()  # table -> column -> type, in the order of creation


def definitions(version: int) -> dict[str, frozenset[str]]:
    """Return the definition of every table, index and view of a version of the schema, by name; empty for the view."""
    found = {}
    for statement in SCHEMA.split(";\n"):
        if not (match := re.match(r"\s*CREATE (TABLE|INDEX|VIEW) (\w+)", statement)):
            continue
        kind, name = match.groups()
        if kind != "TABLE":
            parts = definition(kind, statement)
        elif columns := columns_of(name, version):
            kept = {*columns, "PRIMARY", "FOREIGN", *([CHECKSUM] if version >= 4 else [])}
            parts = frozenset(part for part in definition(kind, statement) if part.split()[0] in kept)
        else:
            continue
        found[name] = parts
    return found


def definition(kind: str, sql: str) -> frozenset[str]:
    """Return the parts of an SQL statement that creates an object, whatever its comments and the order of columns.

    >>> sorted(definition("TABLE", "CREATE TABLE a (x INTEGER, -- of b\\n y TEXT DEFAULT '', PRIMARY KEY (x, y))"))
    ['PRIMARY KEY (x, y)', 'x INTEGER', 'y TEXT']
    """
    if kind == "VIEW":  # nasx does not read it
        return frozenset()
    text = " ".join(re.sub("--[^\n]*", "", sql).split())
    if kind == "INDEX":
        return frozenset({text})
    body, _, end = text.partition("(")[2].rpartition(")")
    parts = (re.sub(r" DEFAULT \S+$", "", part.strip()) for part in re.split(r",(?![^(]*\))", body))  # of an upgrade
    return frozenset(filter(None, (*parts, end.strip())))


@cache
def columns_of(table: str, version: int) -> tuple[str, ...]:
    """Return the columns that a table has in a version of the schema, without its checksum; empty: it has no table.

    >>> columns_of("candidates", 1)[-2:], columns_of("candidates", 4)[-2:], columns_of("noise", 2)
    (('parents', 'answered'), ('answered', 'replicate'), ())
    """
    if _since(table) > version:
        return ()
    return tuple(c for c in COLUMNS[table] if c != CHECKSUM and _since(table, c) <= version)


def _since(table: str, column: str = "") -> int:
    return ADDED.get(f"{table}.{column}", (1, None))[0]
