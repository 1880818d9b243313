"""Runs that are copied, moved, removed or damaged: each state is reported as it is, and nothing finished is lost."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.factories.black_box import LINES, nasx, search_lines

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
TRIALS = 40  # of a search that is disturbed: more than it finishes


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of a finished search of four networks."""
    return search_lines(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the finished run, in the directory of runs."""
    monkeypatch.setenv("NASX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "300")
    return Path(shutil.copytree(finished, tmp_path / "runs/lines/2026-01-01_00-00-00"))


def trials(run_dir: Path) -> list[tuple[str, int]]:
    """Return the ids of the trials in run.db, without its -wal."""
    with closing(sqlite3.connect(f"{run_dir.resolve().as_uri()}/run.db?immutable=1", uri=True)) as connection:
        return connection.execute("SELECT arch_id, replicate FROM trials ORDER BY rowid").fetchall()


def search_disturbed(run_dir: Path, disturb: Callable[[], object]) -> int:
    """Search in this process; when two networks have been trained, disturb it in a thread. Return the exit status."""
    done = threading.Event()

    def wait() -> None:
        while len(list(run_dir.glob("archs/*/weights_*.safetensors"))) < 2 and not done.wait(0.01):
            pass
        disturb()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        return nasx("search", *LINES, f"algorithm.evaluations={TRIALS}", "--run-dir", run_dir)
    finally:
        done.set()
        thread.join()


def finished_trials(run_dir: Path) -> int:
    """Return the number of trials in the journal of a running search."""
    try:
        with closing(sqlite3.connect(f"{run_dir.resolve().as_uri()}/run.db?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM trials").fetchone()[0])
    except sqlite3.Error:
        return 0


def one_line(err: str) -> str:
    """Return the last line of stderr, after checking that there is no traceback."""
    assert "Traceback" not in err
    return err.strip().splitlines()[-1]


def test_run_db_alone_has_every_finished_trial_after_a_kill(tmp_path):
    run_dir, copy = tmp_path / "run", tmp_path / "copy"
    table = tmp_path / "table.csv"
    rows = [f"|{a}~0|+|{b}~0|none~1|+|skip_connect~0|none~1|none~2|" for a in OPERATIONS for b in OPERATIONS]
    table.write_text("architecture,error\n" + "".join(f"{row},0.{i + 10}\n" for i, row in enumerate(rows)))
    words = ("--config=nats_bench", f"evaluation.table={table}", "evaluation.architecture=architecture")
    words += ("evaluation.metrics={error: {column: error, factor: 1, offset: 0}}", "objectives=[error]")
    command = [sys.executable, "-m", "nasx", "search", *words, "evaluation.seconds=0.3", "execution=serial"]
    with subprocess.Popen([*command, "--run-dir", str(run_dir)], cwd=tmp_path, stderr=subprocess.PIPE) as process:
        end = time.monotonic() + 120
        while finished_trials(run_dir) < 3:
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.kill()
    known = finished_trials(run_dir)
    copy.mkdir()
    for name in ("run.db", "config.yaml"):
        shutil.copy(run_dir / name, copy)

    # a trial that was committed at the very moment of the kill may still be in the write-ahead log only
    assert known - 1 <= len(trials(copy)) <= known
    assert known >= 3


@pytest.mark.parametrize("disturbance", ["remove", "move", "replace"])
def test_a_search_whose_run_directory_is_gone_stops_with_one_line(tmp_path, capsys, disturbance):
    run_dir, other = tmp_path / "run", tmp_path / "elsewhere"

    def disturb() -> None:
        if disturbance == "remove":
            shutil.rmtree(run_dir)
        else:
            run_dir.rename(other)
        if disturbance == "replace":
            run_dir.mkdir()
            (run_dir / "run.db").write_bytes(b"of another run")

    assert search_disturbed(run_dir, disturb) == 2

    assert "run was removed, moved or replaced while nasx was using it" in one_line(capsys.readouterr().err)
    left = sorted(p.name for p in run_dir.rglob("*")) if run_dir.exists() else None
    assert left == (["run.db"] if disturbance == "replace" else None)


def test_after_a_move_everything_finished_is_in_the_moved_run_and_it_resumes(tmp_path):
    run_dir, moved = tmp_path / "run", tmp_path / "moved"
    search_disturbed(run_dir, lambda: run_dir.rename(moved))
    before = trials(moved)

    assert len(before) >= 2
    assert nasx("search", "--resume", "--run-dir", moved, f"algorithm.evaluations={len(before) + 1}") == 0
    assert trials(moved)[: len(before)] == before
    assert len(set(trials(moved))) == len(trials(moved))  # no network was trained twice
    with closing(sqlite3.connect(moved / "run.db")) as connection:
        attempts = dict(connection.execute("SELECT kind, count(*) FROM events GROUP BY kind").fetchall())
    assert attempts["attempt"] - attempts.get("withdrawal", 0) == len(trials(moved))
    assert nasx("runs", "check", moved) == 0


# States of run.db


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-4096])


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def device(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def header_only(file: Path) -> None:
    for each in file.parent.glob("run.db*"):
        each.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def foreign(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE notes (text)")


def foreign_wal(file: Path) -> None:
    """Put the -wal of another database next to run.db."""
    other = file.with_name("other.db")
    connection = sqlite3.connect(other)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE notes (text)")
    connection.executemany("INSERT INTO notes VALUES (?)", [("x" * 3000,)] * 20)
    connection.commit()
    shutil.copy(other.with_name("other.db-wal"), file.with_name("run.db-wal"))
    connection.close()
    other.unlink()


STATES = {
    "no_byte": (lambda file: file.write_bytes(b""), "run.db has no tables, but its search has trained networks"),
    "header_only": (header_only, "run.db has no tables, but its search has trained networks"),
    "truncated": (cut, "run.db is damaged: it is truncated: it has "),
    "text": (lambda file: file.write_text("no database"), "run.db is damaged: it is not a database"),
    "foreign": (foreign, "run.db is a database, but not a journal of nasx"),
    "foreign_wal": (foreign_wal, "run.db, with its run.db-wal, is a database, but not a journal of nasx"),
    "fifo": (fifo, "run.db is a named pipe, expected a file"),
    "directory": (directory, "run.db is a directory, expected a file"),
    "device": (device, "run.db is a link, expected a file"),
}


@pytest.mark.parametrize("state", STATES)
def test_each_state_of_run_db_is_reported_in_one_true_line(run, capsys, state):
    damage, message = STATES[state]
    damage(run / "run.db")
    kept = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file() and not p.is_symlink()}
    for command in (("pareto", "--run-dir"), ("runs", "show"), ("runs", "check"), ("search", "--resume", "--run-dir")):
        capsys.readouterr()
        assert nasx(*command, run) == 2
        assert message in one_line(capsys.readouterr().err), command
    assert {name: (run / name).read_bytes() for name in kept if name[0] != "." and "-shm" not in name} == {
        name: content for name, content in kept.items() if name[0] != "." and "-shm" not in name
    }


def test_an_empty_run_db_of_a_search_that_did_not_begin_is_called_empty(tmp_path, capsys):
    (tmp_path / "run.db").touch()

    assert nasx("pareto", "--run-dir", tmp_path) == 2

    assert one_line(capsys.readouterr().err).endswith(
        "is empty: its search was stopped while it started. Start it again."
    )


# Several runs


@pytest.mark.parametrize("state", [*STATES, "config", "newer", "locked_up", "loop", "not_utf8"])
def test_a_damaged_run_hides_no_other(run, capsys, tmp_path, state):
    home = run.parents[1]
    bad = Path(shutil.copytree(run, home / "lines/2026-02-01_00-00-00"))
    if state == "config":
        (bad / "config.yaml").write_text("{")
    elif state == "newer":
        with closing(sqlite3.connect(bad / "run.db")) as connection:
            connection.execute("PRAGMA user_version = 99")
    elif state == "locked_up":
        bad.chmod(0)
    elif state == "loop":
        (home / "loop").symlink_to(home)
        (home / "self").symlink_to("self")
        (bad / "run.db").write_text("no database")
    elif state == "not_utf8":
        name = bad.rename(os.fsdecode(os.fsencode(bad.parent) + b"/2026-02-01-\xff"))
        (name / "run.db").write_text("no database")
    else:
        STATES[state][0](bad / "run.db")
    root = os.geteuid() == 0
    try:
        if root:
            home.chmod(0o777)
            for path in home.parents:
                if path.is_relative_to("/tmp/pytest-of-root"):
                    path.chmod(0o755)
            os.seteuid(65534 if state == "locked_up" else 0)
        assert nasx("runs") == 0
    finally:
        os.seteuid(0 if root else os.geteuid())
        if bad.exists():
            bad.chmod(0o755)
    out = [line for line in capsys.readouterr().out.splitlines() if "2026-0" in line]

    assert [line.split()[1] for line in out if "2026-01-01" in line] == ["4"]
    assert [line.split()[1] for line in out if "2026-02-01" in line] == ["damaged:"]


def test_the_newest_run_is_found_although_latest_points_nowhere(run, capsys):
    home = run.parents[1]
    (home / "latest").symlink_to("lines/missing")
    (home / "lines/2027-01-01_00-00-00").mkdir(mode=0)  # no run

    assert nasx("pareto") == 0
    assert str(run) in capsys.readouterr().err


def test_a_comparison_shows_the_runs_that_can_be_read(run, capsys):
    others = [Path(shutil.copytree(run, run.with_name(name))) for name in ("other", "bad")]
    (others[1] / "run.db").write_text("no database")

    assert nasx("compare", run, *others) == 2

    out, err = capsys.readouterr()
    assert "other" in out
    assert "bad  damaged: " in err


# Flipped bytes


def flipped(file: Path, position: int, rng: random.Random) -> bytes:
    content = bytearray(file.read_bytes())
    content[position] ^= rng.randrange(1, 256)
    return bytes(content)


def logical(run_dir: Path) -> list[object]:
    """Return all rows of a journal, and the statements that define its tables without their comments."""
    with closing(sqlite3.connect(f"{run_dir.as_uri()}/run.db?immutable=1", uri=True)) as connection:
        master = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        tables = sorted(name for kind, name, _, _ in master if kind == "table")
        rows = [connection.execute(f"SELECT * FROM {name} ORDER BY rowid").fetchall() for name in tables]
        sql = [
            (kind, name, " ".join(line.partition("--")[0] for line in (text or "").split("\n")).split())
            for kind, name, _, text in master
            if kind != "view"
        ]
        return [sql, rows]


def check(run_dir: Path, capsys) -> int:
    capsys.readouterr()
    status = nasx("runs", "check", run_dir)
    assert "Traceback" not in capsys.readouterr().err
    return status


def test_a_flipped_byte_of_the_journal_is_found_or_in_unused_space(run, capsys):
    rng, file = random.Random(0), run / "run.db"
    sound, content = file.read_bytes(), logical(run)
    found = 0
    for position in rng.sample(range(len(sound)), 40):
        file.write_bytes(flipped(file, position, rng))
        status = check(run, capsys)
        if status == 0:
            assert logical(run) == content, position
        found += status == 2
        for name in ("run.db-wal", "run.db-shm"):
            (run / name).unlink(missing_ok=True)
        file.write_bytes(sound)
    assert found >= 10  # the other bytes are unused
    assert check(run, capsys) == 0


@pytest.mark.parametrize("pattern", ["archs/*/weights_*.safetensors", "config.yaml"])
def test_a_flipped_byte_of_a_file_is_found(run, capsys, pattern):
    rng = random.Random(1)
    file = sorted(run.glob(pattern))[0]
    sound = file.read_bytes()
    missed = []
    for position in [*range(0, 8), *rng.sample(range(len(sound)), 25)]:
        file.write_bytes(flipped(file, position, rng))
        if check(run, capsys) == 0:
            missed.append(position)
        file.write_bytes(sound)
    allowed = 0 if pattern.startswith("archs") else 20  # a config.yaml has comments, places and amounts that may change
    assert len(missed) <= allowed, [(position, sound[position : position + 8]) for position in missed]
