"""Runs made by a stranger: nothing outside of them is read, written or executed, and no command crashes or hangs."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.factories.black_box import nasx, search_lines

SAMPLE = 45  # of the hostile values; NASX_ALL_HOSTILE_VALUES=1 tests every one
COMMANDS = (("pareto", "--run-dir"), ("runs", "show"), ("runs", "check"), ("report", "--run-dir"), ("compare",))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished search of four networks, with an estimate of its noise."""
    run_dir = search_lines(tmp_path_factory.mktemp("hostile") / "sound")
    row = "INSERT INTO noise (trainings, objective, std, share, own_share, length_scale, repeated{}) VALUES (4, 'error'"
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        extra = (", checksum", ", ''") if "checksum" in columns(connection, "noise") else ("", "")
        if columns(connection, "noise"):  # absent in older versions
            connection.execute(row.format(extra[0]) + f", 0.1, 0.5, 0.5, 1.0, 1{extra[1]})")
        fix_checksums(connection)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return run_dir


@pytest.fixture
def run(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NASX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "300")
    return Path(shutil.copytree(sound, tmp_path / "run"))


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def fix_checksums(connection: sqlite3.Connection) -> None:
    """Compute all checksums again, if this version of nasx has them."""
    if "checksum" in columns(connection, "trials"):
        from tests.factories.journals import fix_checksums as fix

        fix(connection)


def execute(run_dir: Path, script: str, *values: object) -> None:
    """Change the journal with SQL, and make its checksums right."""
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        if values:
            connection.execute(script, values)
        else:
            connection.executescript(script)
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'trials' AND type = 'table'").fetchone():
            fix_checksums(connection)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def outcomes(run_dir: Path, other: Path, capsys: Any) -> dict[str, int]:
    """Run every command on a run; return its exit status, after checking that it printed no traceback."""
    found = {}
    for command in COMMANDS:
        capsys.readouterr()
        words = [*command, run_dir, *([other] if command == ("compare",) else [])]
        name = " ".join(command[:2])
        found[name] = nasx(*words)
        err = capsys.readouterr().err
        assert "Traceback" not in err, name
        if found[name] == 2 and command[:2] != ("runs", "check"):
            assert len([line for line in err.strip().splitlines() if "damaged" in line or "nasx:" in line]) >= 1, err
    return found


# Every column

JSON = [
    "",
    "{",
    "null",
    "[1e999]",
    '{"error": NaN}',
    '{"error": 1e300}',
    "[" * 50_000,
    "[[]]",
    "[-1]",
    '["a", "a"]',
    "[99]",
]
HOSTILE: dict[str, list[object]] = {
    "INTEGER": [-1, 1e20, "text", b"\0", 2**62],
    "REAL": [-1.0, 1e300, float("inf"), "text", b"\0"],
    "TEXT": [b"\xff\xfe", b""],
    "BLOB": [b"", b"\0" * 7, b"\0" * 8, "text", 5, b"\xff" * 8 * 15 + b"\0" * 7 + b"\x40"],
}
IDS = ["../../outside/x", "A000000000", "a", "", "a00000000g", "/etc/passwd"]
TIMES = ["", "yesterday", "2026-13-01T00:00:00+00:00", "2026-01-01T00:00:00"]
SPECIAL: dict[str, list[object]] = {
    "arch_id": IDS,
    "created": TIMES,
    "finished": TIMES,
    "time": TIMES,
    "n_classes": [0, 1, 99],
    "status": ["great", "", "failed"],
    "reason": ["none", "diverged"],
    "objective": ["beauty"],
    "objectives": [*JSON, "[]", '["beauty"]', '["error","error"]'],
    "metrics": [*JSON, "{}"],
    "history": JSON,
    "genotype": [*JSON, "[]", "[0]"],
    "parents": [*JSON, "[0]"],
    "heard": [*JSON, "[0]"],
    "class_names": [*JSON, '["a"]'],
    "alleles": [*JSON, '[["a"]]'],
    "config": ["", "{", "null", "[]", "5"],
    "facts": ["", "{", "null", "[]", "5"],
    "profile": ["", "{", "null", "[]", '{"a": "b"}', '{"a": 1e999}'],
    "digest": ["x", "A" * 64],
}
# text that is only shown, or numbers that no other value contradicts: any value that passes may be shown
FREE = {
    *("run.seed", "run.workers", "candidates.generation", "candidates.replicate", "trials.retries", "trials.replicate"),
    *("scores.n_samples", "scores.position", "noise.trainings", "noise.repeated", "events.replicate", "trials.seed"),
    *("scores.replicate", "candidates.number", "trials.number", "candidates.heard", "trials.history", "scores.profile"),
    *("scores.completeness_error", "candidates.parents"),
}


def cases() -> list[tuple[str, str, object]]:
    """Return (table, column, value) of every hostile value."""
    from nasx.runs.schema import COLUMNS

    found = [
        (table, column, value)
        for table, kinds in COLUMNS.items()
        for column, kind in kinds.items()
        if column != "checksum"
        for value in [*HOSTILE[kind], *SPECIAL.get(column, [])]
    ]
    return found if os.environ.get("NASX_ALL_HOSTILE_VALUES") else random.Random(7).sample(found, SAMPLE)


def test_every_hostile_value_of_every_column_is_refused_in_one_line(sound, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    wrong = []
    for number, (table, column, value) in enumerate(cases()):
        run_dir = Path(shutil.copytree(sound, tmp_path / str(number)))
        try:
            execute(run_dir, f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT max(rowid) FROM {table})", value)
        except sqlite3.IntegrityError:
            continue  # SQLite refuses it
        case = f"{table}.{column} = {value!r:.60}"
        try:
            found = outcomes(run_dir, sound, capsys)
        except Exception as exc:  # report all cases at once
            wrong.append(f"{case}: {type(exc).__name__} {exc}"[:300])
            continue
        if found["runs check"] != 2 and f"{table}.{column}" not in FREE:
            wrong.append(f"{case}: {found}")
        if set(found.values()) - {0, 2}:
            wrong.append(f"{case}: {found}")
        shutil.rmtree(run_dir)
    assert wrong == []


INCOMPLETE = {
    "places_of_no_form": "UPDATE data SET facts = '{\"keys\": null}' WHERE part = 'places'",
    "places_of_no_text": "UPDATE data SET facts = '{\"keys\": [1, {}]}' WHERE part = 'places'",
    "places_that_decide": 'UPDATE data SET facts = \'{"keys": ["seed", "split"]}\' WHERE part = \'places\'',
    "places_gone": "DELETE FROM data WHERE part = 'places'",
    "pixels_gone": "DELETE FROM data WHERE part = 'pixels'",
    "split_gone": "DELETE FROM data WHERE part = 'split'",
    "data_gone": "DELETE FROM data",
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_a_journal_that_does_not_describe_its_data_is_refused(run, sound, capsys, case):
    execute(run, INCOMPLETE[case])
    assert outcomes(run, sound, capsys)["runs check"] == 2
    assert nasx("search", "--resume", "--run-dir", run) == 2
    err = capsys.readouterr().err
    assert "run.db is damaged" in err
    assert "Traceback" not in err


def test_other_names_of_alleles_than_those_of_the_space_are_reported(run, capsys):
    with closing(sqlite3.connect(run / "run.db")) as connection:
        alleles = json.loads(connection.execute("SELECT alleles FROM run").fetchone()[0])
    alleles[0].reverse()
    execute(run, "UPDATE run SET alleles = ?", json.dumps(alleles))
    assert nasx("runs", "check", run) == 2
    assert "its names of alleles are not those of the space" in " ".join(capsys.readouterr().out.split())


# Objects of the database that are not those of nasx

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT"
OBJECTS = {
    "recursive_view": f"""
        ALTER TABLE trials RENAME TO kept;
        CREATE VIEW trials AS {ENDLESS} 'a' AS arch_id, x AS number FROM n;""",
    "other_view": f"CREATE VIEW extra AS {ENDLESS} x FROM n;",
    "trigger": "CREATE TRIGGER t AFTER INSERT ON trials BEGIN DELETE FROM trials; END;",
    "expression_index": "CREATE INDEX i ON trials (abs(number));",
    "plain_index": "CREATE INDEX mine ON trials (status);",
    "virtual_table": "CREATE VIRTUAL TABLE notes USING fts5(text);",
    "generated_column": "ALTER TABLE trials ADD COLUMN g AS (number * 2);",
    "extra_table": "CREATE TABLE notes (text);",
    "check_constraint": "ALTER TABLE trials ADD COLUMN c INTEGER CHECK (c < 1);",
    "missing_table": "DROP TABLE scores;",
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_that_nasx_has_not_created_is_named_and_refused(run, sound, capsys, name):
    with closing(sqlite3.connect(run / "run.db")) as connection:
        connection.executescript(OBJECTS[name])
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    alarm = threading.Timer(60, os.kill, (os.getpid(), signal.SIGKILL))  # a query that never ends
    alarm.start()
    try:
        assert set(outcomes(run, sound, capsys).values()) == {2}
        assert nasx("search", "--resume", "--run-dir", run) == 2
        assert "run.db " in capsys.readouterr().err
    finally:
        alarm.cancel()


# Ids and links that lead out of the run


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that no command may change."""
    directory = tmp_path / "outside"
    (directory / "x").mkdir(parents=True)
    for name in ("weights_0.safetensors", "file", "x/weights_0.safetensors"):
        (directory / name).write_bytes(b"precious")
    yield directory
    left = {p.relative_to(directory).as_posix() for p in directory.rglob("*") if p.is_file()}
    assert left == {"weights_0.safetensors", "file", "x/weights_0.safetensors"}
    assert all(p.read_bytes() == b"precious" for p in directory.rglob("*") if p.is_file())


def rename_network(run: Path, name: str) -> None:
    """Replace the id of a network in every table."""
    with closing(sqlite3.connect(run / "run.db")) as connection:
        own = connection.execute("SELECT arch_id FROM trials").fetchone()[0]
    tables = ("candidates", "trials", "scores", "events")
    execute(run, "".join(f"UPDATE {table} SET arch_id = '{name}' WHERE arch_id = '{own}';" for table in tables))


def test_an_id_that_is_a_path_leads_nowhere(run, outside, capsys):
    rename_network(run, "../../outside/x")

    for command in (("explain", "--arch-id", ".."), ("search", "--resume", "algorithm.evaluations=5")):
        assert nasx(*command, "--run-dir", run) == 2
        assert "expected 10 hexadecimal digits" in capsys.readouterr().err


def test_an_id_of_another_network_is_refused_when_a_search_resumes(run, capsys):
    rename_network(run, "0123456789")

    assert nasx("search", "--resume", "--run-dir", run, "algorithm.evaluations=5") == 2
    assert "0123456789: the network of its genotype has another id" in capsys.readouterr().err
    assert nasx("runs", "check", run) == 2


def kept_id(run: Path) -> str:
    return next((run / "archs").glob("*/weights_0.safetensors")).parent.name


LINKS: dict[str, Callable[[Path, str, Path], tuple[Path, Path]]] = {  # name -> (link, its target)
    "archs": lambda run, arch, out: (run / "archs", out),
    "network": lambda run, arch, out: (run / "archs" / arch, out / "x"),
    "weights": lambda run, arch, out: (run / "archs" / arch / "weights_0.safetensors", out / "weights_0.safetensors"),
    "explanation": lambda run, arch, out: (run / "archs" / arch / "explanation", out),
    "export": lambda run, arch, out: (run / "archs" / arch / "export", out),
    "final": lambda run, arch, out: (run / "archs" / arch / "final", out),
    "config": lambda run, arch, out: (run / "config.yaml", out / "file"),
    "lock": lambda run, arch, out: (run / ".lock", out / "file"),
    "journal": lambda run, arch, out: (run / "run.db-journal", out / "file"),
    "wal": lambda run, arch, out: (run / "run.db-wal", out / "file"),
    "record": lambda run, arch, out: (run / "test_touches.json", out / "file"),
}


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("name", LINKS)
def test_nothing_in_a_run_leads_out_of_it_or_blocks(run, outside, capsys, name, kind):
    arch = kept_id(run)
    link, target = LINKS[name](run, arch, outside)
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    if kind == "link":
        link.symlink_to(target)
    else:
        os.mkfifo(link)
    alarm = threading.Timer(60, os.kill, (os.getpid(), signal.SIGKILL))
    alarm.start()
    try:
        for command in (
            ("runs", "check"),
            ("pareto", "--run-dir"),
            ("report", "--run-dir"),
            ("explain", "--samples", "1", "--arch-id", arch, "--run-dir"),
            ("search", "--resume", "algorithm.evaluations=4", "--run-dir"),
        ):
            capsys.readouterr()
            assert nasx(*command, run) in (0, 2), command
            assert "Traceback" not in capsys.readouterr().err
        assert nasx("runs", "check", run) == 2
    finally:
        alarm.cancel()
    if kind == "link":
        assert b"precious" not in b"".join(p.read_bytes() for p in run.rglob("*.html"))


def test_a_huge_record_is_refused_before_it_is_read(run, capsys):
    with (run / "test_touches.json").open("wb") as file:
        file.truncate(10**12)  # sparse

    assert nasx("runs", "check", run) == 2
    assert "test_touches.json has 1,000,000,000,000 bytes, expected at most" in capsys.readouterr().out
