"""A SQLite file and its errors in our words: the only import of sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasx.errors import NasxError, ResourceError, RunError
from nasx.files import disk_full
from nasx.runs.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION, UPGRADE, UPGRADED_FROM

_BUSY_SECONDS = 30.0  # how long to wait for another connection's transaction; ours take milliseconds


class Database:
    """One connection to a journal's file; belongs to the thread that opened it."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        with self._translated():
            self._connection = _connect_read_only(path) if read_only else _connect(path)

    def close(self) -> None:
        self._connection.close()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever written, e.g. because a search was killed while it began."""
        return not self.rows("SELECT name FROM sqlite_master LIMIT 1")

    def write_schema(self) -> None:
        """Make all tables; within a transaction."""
        self._execute(SCHEMA)

    def _execute(self, statements: str) -> None:
        with self._translated():
            for statement in statements.split(";\n"):
                self._connection.execute(statement)

    @property
    def version(self) -> int:
        """Of the schema."""
        return int(self.rows("PRAGMA user_version")[0]["user_version"])

    def check_schema(self, *, read_only: bool) -> None:
        """Raise RunError unless this is a journal that this nasx can read, and write unless `read_only`.

        The journal of the version before is upgraded if it is to be written.
        """
        if self.is_empty:
            raise RunError(f"{self.path} is empty: its search was stopped while it began. Start it again.")
        application = self.rows("PRAGMA application_id")[0]["application_id"]
        version = self.version
        if application != APPLICATION_ID:
            raise RunError(f"{self.path} is a database, but not one of nasx.")
        if version > SCHEMA_VERSION:
            raise RunError(
                f"{self.path} was written by a newer nasx (schema {version}, this one reads up to {SCHEMA_VERSION}). "
                "Update nasx."
            )
        if version == UPGRADED_FROM and not read_only:
            with self.transaction(sync=True):
                self._execute(UPGRADE)
        elif version < SCHEMA_VERSION and not read_only:
            raise RunError(
                f"{self.path} was written by an older nasx (schema {version}, this one writes {SCHEMA_VERSION}): "
                "it can be read, but its search goes on only with the nasx that began it. Start a new run."
            )

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """All rows of a query, each as column -> value."""
        with self._translated():
            cursor = self._connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """Insert one row, given as column -> value; within a transaction."""
        marks = ", ".join(f":{column}" for column in row)
        with self._translated():
            self._connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", row)

    @contextmanager
    def transaction(self, *, write: bool = True, sync: bool = False) -> Iterator[None]:
        """All of the block or nothing; within it, reads see one state.

        `sync` waits until a power cut could not undo it. A killed process undoes nothing that was committed.
        """
        with self._translated():
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if sync else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # not where SQLite has rolled back itself: a full disk
                    self._connection.execute("ROLLBACK")
                raise

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the file, a sentence each; empty where it is whole. Reads all of it."""
        try:
            found = [row["integrity_check"] for row in self.rows("PRAGMA integrity_check")]
            dangling = self.rows("PRAGMA foreign_key_check")
        except NasxError as exc:
            return [str(exc)]
        lost = [
            f"row {row['rowid']} of {row['table']} refers to a row of {row['parent']} that is not there"
            for row in dangling
        ]
        return [text for text in found if text != "ok"] + lost

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Tell SQLite's errors that are no bug of ours as NasxErrors."""
        try:
            yield
        except sqlite3.DatabaseError as exc:
            error = _translate(exc, self.path)
            if error is None:
                raise
            raise error from exc


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing, not even where the directory may not be written."""
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as exc:
        connection.close()
        # WAL wants two files beside the database; where they cannot be made, nobody writes, and it can do without.
        if exc.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        unmerged = path.with_name(f"{path.name}-wal")
        if unmerged.exists() and unmerged.stat().st_size:
            raise RunError(
                f"{path.parent} cannot be written, and its last trials are still to be merged from {unmerged.name}. "
                "Copy the directory to where you may write."
            ) from exc
        connection = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
    return connection


def _translate(exc: sqlite3.DatabaseError, path: Path) -> NasxError | None:
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest details
    if code == sqlite3.SQLITE_FULL:
        return disk_full(str(path))
    if code == sqlite3.SQLITE_IOERR:
        return ResourceError(
            f"the disk failed while {path} was read or written ({exc.sqlite_errorname}). "
            "Check its free space and health, then go on with --resume: every trial that had finished is kept."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such table" in str(exc):
        return RunError(f"{path} is damaged ({exc}). `nasx runs check` tells more; restore it from a copy.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RunError(f"{path} is held by another process ({exc}). Close it there and try again.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return RunError(f"{path} cannot be written here ({exc}). Check the permissions of its directory.")
    return None
