"""SQLite connection of a journal; translates SQLite errors to nasx errors. The only module that imports sqlite3.

run.db may come from a stranger. It is opened so that nothing in it is executed, it must have the tables of nasx and
nothing else, and queries are bounded: they end with Ctrl-C, and return no more than a sound file can contain.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nasx.errors import NasxError, ResourceError, RunError
from nasx.files import disk_full_error
from nasx.runs.columns import shown
from nasx.runs.directory import ARCHS, JOURNAL_FILES, file_in
from nasx.runs.rows import with_checksum
from nasx.runs.schema import (
    ADDED,
    APPLICATION_ID,
    CHECKSUM,
    COLUMNS,
    OLDEST_UPGRADED,
    SCHEMA,
    SCHEMA_VERSION,
    columns_of,
    definition,
    definitions,
)

_BUSY_SECONDS = 30.0  # timeout for the transaction of another connection; ours take milliseconds
_MAX_VALUE = 10**9  # bytes of a text or blob: more than the class distances of MAX_CLASSES
_MAX_STATEMENT = 100_000  # bytes of an SQL statement, also of those in the schema
_MAX_ROWS = 1_000_000  # of a table
_STEPS = 50_000  # of SQLite between two checks for Ctrl-C: a millisecond
_CHUNK = 500  # rows
_TEXTS = (str, bytes)
_MAGIC = b"SQLite format 3\0"


class Database:
    """Connection to the file of a journal. May be used only by the thread that opened it."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the file. Raises RunError if it is no regular file of this directory."""
        self.path = path
        self.read_only = read_only
        self._raised: BaseException | None = None  # in the progress handler
        for name in JOURNAL_FILES:
            file_in(path.parent, name)
        with self._translated():
            self._connection = (_connect_read_only if read_only else _connect)(path, self._may_continue)
        self._identity = _identity(path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _may_continue(self) -> int:
        """Let Python handle signals during a query: SQLite ends it if this returns 1."""
        try:
            return int(self._raised is not None)
        except BaseException as exc:  # raised by a signal handler; SQLite would drop it
            self._raised = exc
            return 1

    def is_in_place(self) -> bool:
        """Return whether the path still leads to the open file: it was not removed, moved or replaced."""
        return self._identity is not None and _identity(self.path) == self._identity

    def checkpoint(self) -> None:
        """Copy all transactions from run.db-wal into run.db, except those that a reader still needs there.

        They are safe in either file, so that a full disk is no error here.
        """
        if not self.read_only and not self._connection.in_transaction:
            with suppress(ResourceError), self._translated():
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    @property
    def is_empty(self) -> bool:
        """Return whether the file has no tables, e.g. because the search was killed while it started."""
        return not self.rows("SELECT name FROM sqlite_master LIMIT 1")

    def write_schema(self) -> None:
        """Create all tables. Call it in a transaction."""
        self._execute(SCHEMA)

    def _execute(self, statements: str) -> None:
        with self._translated():
            for statement in statements.split(";\n"):
                self._connection.execute(statement)

    @property
    def version(self) -> int:
        """Return the version of the schema."""
        return int(self.rows("PRAGMA user_version")[0]["user_version"])

    def check_schema(self, *, read_only: bool) -> None:
        """Raise RunError if this version of nasx cannot read the journal, or cannot write it unless `read_only`.

        Journals of the two previous versions are upgraded unless `read_only`.
        """
        if self.is_empty:
            raise RunError(why_empty(self.path))
        application = self.rows("PRAGMA application_id")[0]["application_id"]
        version = self.version
        if application != APPLICATION_ID or not version >= 1:
            wal = f", with its {self.path.name}-wal," if _size(_wal(self.path)) else ""
            raise RunError(f"{self.path}{wal} is a database, but not a journal of nasx.")
        if version > SCHEMA_VERSION:
            raise RunError(
                f"{self.path} was written by a newer nasx (schema {version}, this one reads up to {SCHEMA_VERSION}). "
                "Update nasx."
            )
        self._check_objects(version)
        if OLDEST_UPGRADED <= version < SCHEMA_VERSION and not read_only:
            self._upgrade(version)
        elif version < SCHEMA_VERSION and not read_only:
            raise RunError(
                f"{self.path} was written by an older nasx (schema {version}, this one writes {SCHEMA_VERSION}): "
                "it can be read, but only the version of nasx that started the search can resume it. Start a new run."
            )

    def _check_objects(self, version: int) -> None:
        """Raise RunError unless the database has the tables of nasx, and nothing else that SQLite could execute."""
        expected = definitions(version)
        tables = expected.keys() & COLUMNS
        for row in self.rows("SELECT type, name, tbl_name, sql FROM sqlite_master"):
            kind, name = row["type"], row["name"]
            if kind == "index" and row["sql"] is None and row["tbl_name"] in tables:
                continue  # of a primary key
            if name not in expected:
                raise RunError(
                    f"{self.path} contains the {kind} {shown(name)}, which nasx has not created. Delete it if it is "
                    "yours, e.g. with the program sqlite3; do not use a run of a stranger that has it."
                )
            is_table = name in COLUMNS
            parts = definition(kind.upper(), row["sql"] or "")
            if is_table != (kind == "table") or parts != expected.pop(name):
                raise RunError(f"{self.path} is damaged: its {kind} {name} is not defined as in nasx.{REMEDY}")
        if expected:
            raise RunError(f"{self.path} is damaged: it has no {min(expected)}.{REMEDY}")

    def _upgrade(self, version: int) -> None:
        """Upgrade a journal to the current schema, in one transaction: create all tables again, with checksums."""
        with self.transaction(sync=True):
            kept = {}
            self._execute("DROP VIEW results")
            for table in reversed(list(COLUMNS)):  # references point to earlier tables
                if columns_of(table, version):
                    kept[table] = self.read(table, columns_of(table, version))
                    self._execute(f"DROP TABLE {table}")
            self.write_schema()
            run = ""
            for table in COLUMNS:
                added = {column: ADDED.get(f"{table}.{column}", (1, None))[1] for column in COLUMNS[table]}
                for _, *values in kept.get(table, ()):
                    row = dict(zip(columns_of(table, version), values, strict=True))
                    stored = with_checksum(table, {**added, **row}, run)
                    self.insert(table, stored)
                    run = run or str(stored[CHECKSUM])  # the first table is `run`

    def read(self, table: str, columns: Sequence[str], where: str = "", *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a table in the order of recording: rowid, then the columns.

        Raises RunError if there are more rows, or more text, than the file can contain: pages may refer to each other
        so that a small file has any number of rows.
        """
        condition = f" WHERE {where}" if where else ""
        size = _size(self.path) + _size(_wal(self.path))
        found: list[tuple[Any, ...]] = []
        with self._translated():
            cursor = self._connection.execute(
                f"SELECT rowid, {', '.join(columns)} FROM {table}{condition} ORDER BY rowid", values
            )
            while chunk := cursor.fetchmany(_CHUNK):
                found += chunk
                size -= sum([len(value) for row in chunk for value in row if type(value) in _TEXTS])
                if size < 0 or len(found) > _MAX_ROWS:
                    raise RunError(f"{self.path} is damaged: its table {table} has more content than the file.{REMEDY}")
        return found

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Return all rows of a short query, each as column -> value."""
        with self._translated():
            cursor = self._connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchmany(_CHUNK)]

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Insert one row, given as column -> value. Call it in a transaction."""
        marks = ", ".join(f":{column}" for column in row)
        with self._translated():
            self._connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row)

    @contextmanager
    def transaction(self, *, write: bool = True, sync: bool = False) -> Iterator[None]:
        """Run the block in a transaction: all of its writes are committed or none, and its reads see one state.

        `sync` waits until the data is on the disk and survives a power cut. Committed data always survives a kill.
        """
        with self._translated():
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # SQLite itself rolls back if the disk is full
                    self._connection.execute("ROLLBACK")
                raise

    def problems(self) -> list[str]:
        """Return one sentence per problem that SQLite finds in the file; empty if none. Reads the whole file."""
        try:
            found = [row["integrity_check"] for row in self.rows("PRAGMA integrity_check")]
            dangling = self.rows("PRAGMA foreign_key_check")
        except NasxError as exc:
            return [str(exc)]
        dangling_rows = [
            f"row {row['rowid']} of {row['table']} refers to a row of {row['parent']} that does not exist"
            for row in dangling
        ]
        return [text for text in found if text != "ok"] + dangling_rows

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raise SQLite errors that are not bugs of nasx as NasxError."""
        try:
            yield
        except sqlite3.DatabaseError as exc:
            if raised := self._raised:
                self._raised = None
                raise raised from None
            error = _translate(exc, self.path)
            if error is None:
                raise
            raise error from exc
        except UnicodeDecodeError as exc:  # in an error message that quotes the file
            raise RunError(f"{self.path} is damaged: its text is not UTF-8.{REMEDY}") from exc


REMEDY = " Run `nasx runs check` for details, or restore it from a copy."


def _connect(path: Path, may_continue: Callable[[], int]) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        _secure(connection, may_continue)
        connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _secure(connection: sqlite3.Connection, may_continue: Callable[[], int]) -> None:
    """Let the connection execute nothing that the file contains, and check pages before they are used."""
    for limit, value in (
        (sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE),
        (sqlite3.SQLITE_LIMIT_SQL_LENGTH, _MAX_STATEMENT),
        (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
        (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    ):
        connection.setlimit(limit, value)
    connection.set_progress_handler(may_continue, _STEPS)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")


def _connect_read_only(path: Path, may_continue: Callable[[], int]) -> sqlite3.Connection:
    """Open a connection that writes nothing, also in a directory without write permission."""
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        _secure(connection, may_continue)
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.DatabaseError as exc:
        connection.close()
        # WAL needs two more files in the directory. If they cannot be created, no process writes: open without WAL.
        if _code(exc) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        if not os.access(path, os.R_OK):
            raise RunError(f"{path} cannot be read: permission denied. Check its permissions.") from exc
        if _size(_wal(path)):
            raise RunError(
                f"{path.parent} cannot be written, but its last trials must be merged from {_wal(path).name} first. "
                "Copy the directory to a place with write permission."
            ) from exc
        connection = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
        _secure(connection, may_continue)
    return connection


def _identity(path: Path) -> tuple[int, int] | None:
    """Return device and inode of a file; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - called several times per trial, and twice as fast as Path.stat
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _wal(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def why_empty(path: Path) -> str:
    """Return why a database has no tables, and what to do."""
    wal = _wal(path)
    if (path.parent / ARCHS).exists():  # created after the journal
        return (
            f"{path} has no tables, but its search has trained networks: the file is incomplete. Restore it from a "
            f"copy, together with {wal.name} if there is one."
        )
    if not _size(path):
        return f"{path} is empty: its search was stopped while it started. Start it again."
    return (
        f"{path} has no tables. Its search was stopped while it started, or the file was copied without {wal.name}, "
        f"in which older versions of nasx keep the trials of a running search. Copy {wal.name} too if there is one, "
        "otherwise start the search again."
    )


def _what_is_wrong(path: Path, problem: object) -> str:
    """Return what is wrong with a file that SQLite cannot read.

    Only for files that are no sound database: closing a file also ends the locks that this process has on it.
    """
    size = _size(path)
    with suppress(OSError), path.open("rb") as file:
        header = file.read(100)
        if not header.startswith(_MAGIC):
            return f"it is not a database: it does not start with {_MAGIC[:-1].decode()!r}"
        page = int.from_bytes(header[16:18], "big")
        expected = (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")
        if size < expected and not _size(_wal(path)):
            return f"it is truncated: it has {size:,} bytes, expected {expected:,}"
    return str(problem)


def _code(exc: sqlite3.DatabaseError) -> int:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code


# Errors that only a damaged or hostile file causes: our statements are fixed, and their tables were checked
_DAMAGED = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_FORMAT,
        sqlite3.SQLITE_AUTH,
    }
)
_DAMAGED_TEXTS = ("no such", "Could not decode", "unsupported file format", "malformed", "unknown database")


def _translate(exc: sqlite3.DatabaseError, path: Path) -> BaseException | None:
    code = _code(exc)
    if code == sqlite3.SQLITE_FULL:
        return disk_full_error(str(path))
    if code == sqlite3.SQLITE_IOERR:
        return ResourceError(
            f"the disk failed while {path} was read or written ({exc.sqlite_errorname}). "
            "Check its free space and health, then resume with --resume: every finished trial is kept."
        )
    if code == sqlite3.SQLITE_INTERRUPT:
        return KeyboardInterrupt()  # raised by a signal handler just outside of the progress handler
    if code in _DAMAGED or any(text in str(exc) for text in _DAMAGED_TEXTS):
        return RunError(f"{path} is damaged: {_what_is_wrong(path, exc)}.{REMEDY}")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL):
        return RunError(f"{path} is locked by another process ({exc}). Close it there and try again.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return RunError(f"{path} cannot be written ({exc}). Check the permissions of its directory.")
    return None
