"""SQLite connection of a journal; translates SQLite errors to nasx errors. The only module that imports sqlite3."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasx.errors import NasxError, ResourceError, RunError
from nasx.files import disk_full_error
from nasx.runs.rows import with_checksum
from nasx.runs.schema import ADDED, APPLICATION_ID, COLUMNS, OLDEST_UPGRADED, SCHEMA, SCHEMA_VERSION, columns_of

_BUSY_SECONDS = 30.0  # timeout for the transaction of another connection; ours take milliseconds


class Database:
    """Connection to the file of a journal. May be used only by the thread that opened it."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        with self._translated():
            self._connection = _connect_read_only(path) if read_only else _connect(path)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

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
            raise RunError(f"{self.path} is empty: its search was stopped while it started. Start it again.")
        application = self.rows("PRAGMA application_id")[0]["application_id"]
        version = self.version
        if application != APPLICATION_ID:
            raise RunError(f"{self.path} is a database, but not a journal of nasx.")
        if version > SCHEMA_VERSION:
            raise RunError(
                f"{self.path} was written by a newer nasx (schema {version}, this one reads up to {SCHEMA_VERSION}). "
                "Update nasx."
            )
        if OLDEST_UPGRADED <= version < SCHEMA_VERSION and not read_only:
            self._upgrade(version)
        elif version < SCHEMA_VERSION and not read_only:
            raise RunError(
                f"{self.path} was written by an older nasx (schema {version}, this one writes {SCHEMA_VERSION}): "
                "it can be read, but only the version of nasx that started the search can resume it. Start a new run."
            )

    def _upgrade(self, version: int) -> None:
        """Upgrade a journal to the current schema, in one transaction: create all tables again, with checksums."""
        with self.transaction(sync=True):
            kept = {}
            self._execute("DROP VIEW results")
            for table in reversed(list(COLUMNS)):  # references point to earlier tables
                if columns := columns_of(table, version):
                    kept[table] = self.rows(f"SELECT {', '.join(columns)} FROM {table} ORDER BY rowid")
                    self._execute(f"DROP TABLE {table}")
            self.write_schema()
            for table in COLUMNS:
                added = {column: ADDED.get(f"{table}.{column}", (1, None))[1] for column in COLUMNS[table]}
                for row in kept.get(table, ()):
                    self.insert(table, with_checksum(table, {**added, **row}))

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Return all rows of a query, each as column -> value."""
        with self._translated():
            cursor = self._connection.execute(query, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

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
    """Open a connection that writes nothing, also in a directory without write permission."""
    uri = path.resolve().as_uri()
    connection = sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_master")
    except sqlite3.DatabaseError as exc:
        connection.close()
        # WAL needs two more files in the directory. If they cannot be created, no process writes: open without WAL.
        if exc.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
        unmerged = path.with_name(f"{path.name}-wal")
        if unmerged.exists() and unmerged.stat().st_size:
            raise RunError(
                f"{path.parent} cannot be written, but its last trials must be merged from {unmerged.name} first. "
                "Copy the directory to a place with write permission."
            ) from exc
        connection = sqlite3.connect(f"{uri}?immutable=1", uri=True, isolation_level=None)
    return connection


def _translate(exc: sqlite3.DatabaseError, path: Path) -> NasxError | None:
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code
    if code == sqlite3.SQLITE_FULL:
        return disk_full_error(str(path))
    if code == sqlite3.SQLITE_IOERR:
        return ResourceError(
            f"the disk failed while {path} was read or written ({exc.sqlite_errorname}). "
            "Check its free space and health, then resume with --resume: every finished trial is kept."
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or "no such table" in str(exc):
        return RunError(f"{path} is damaged ({exc}). Run `nasx runs check` for details, or restore it from a copy.")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RunError(f"{path} is locked by another process ({exc}). Close it there and try again.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return RunError(f"{path} cannot be written ({exc}). Check the permissions of its directory.")
    return None
