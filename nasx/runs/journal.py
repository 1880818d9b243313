"""Journal of a run: written by the search, read by all other commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from nasx.errors import RunError
from nasx.runs import rows
from nasx.runs.columns import RowError, read_row
from nasx.runs.database import REMEDY, Database, why_empty
from nasx.runs.directory import DATABASE, JOURNAL_FILES, Place, file_in, gone, is_run
from nasx.runs.rows import DataRecord, Event, Lineage, NoiseRecord, RunInfo
from nasx.runs.schema import CHECKSUM, COLUMNS, columns_of
from nasx.trial import Candidate, Score, Trial

T = TypeVar("T")
# A synchronous commit survives a power cut; every commit survives a kill. Synchronous, a trial costs 0.5 ms instead of
# 0.1 ms on an SSD, and about 10 ms on a spinning or network disk. Worth it only for trials that were trained: results
# from a table are looked up again, and candidates are requested again when the search resumes.
_WORTH_SYNCING_SECONDS = 0.1
# After a checkpoint, run.db has all trials even if it is copied without run.db-wal. It syncs twice more, 1 to 10 ms for
# a trained trial, depending on the disk. Trials of a table are checkpointed at most this often: a copy lacks only the
# look-ups of this time.
_CHECKPOINT_SECONDS = 0.1
Raw = tuple[Any, ...]  # row as SQLite returns it: rowid, then its columns


class Journal:
    """Journal of one run directory. A context manager; may be used only by the thread that opened it.

    Any method may raise ResourceError (disk full) or RunError (damaged, or not writable).
    """

    def __init__(self, database: Database) -> None:
        """Use `create` or `open` instead."""
        self._database = database
        self.run_dir = database.path.parent
        self.place = Place.of(self.run_dir)
        self._version = database.version
        self._run = ""  # checksum of the row of `run`, part of all others
        self._known: dict[int, tuple[Raw, Lineage]] = {}  # candidates read before, by number
        self._checkpointed = time.monotonic()
        found = self._raw("run")
        if len(found) != 1:
            raise self._damaged(f"its table run has {len(found)} rows, expected one")
        self.info = self._entry("run", found[0], rows.run_info)
        self._run = found[0][-1] if self._version >= 4 else ""

    @classmethod
    def create(cls, run_dir: Path, info: RunInfo, data: Sequence[DataRecord] = ()) -> Journal:
        """Create the journal of a new run. Raises RunError if the directory already has one.

        Args:
            run_dir: Directory of the run.
            info: Identity of the search.
            data: Content of the data that it has read.
        """
        file_in(run_dir, JOURNAL_FILES[-1]).unlink(missing_ok=True)  # of a search that was killed while it started
        database = Database(run_dir / DATABASE)
        try:
            if not database.is_empty:
                raise _exists_error(run_dir)
            with database.transaction(sync=True):  # after a kill: a complete journal or an empty file
                database.write_schema()
                row = rows.with_checksum("run", rows.run_values(info))
                database.insert("run", row)
                for record in data:
                    stored = rows.with_checksum("data", rows.data_values(record), str(row[CHECKSUM]))
                    database.insert("data", stored)
            database.checkpoint()
            return cls(database)
        except BaseException:
            database.close()
            raise

    @classmethod
    def check_absent(cls, run_dir: Path) -> None:
        """Raise RunError if the directory has a journal. An empty one, of a search killed at its start, is ignored."""
        path = file_in(run_dir, DATABASE)
        if path.exists() and path.stat().st_size:
            database = Database(path, read_only=True)
            try:
                if not database.is_empty:
                    raise _exists_error(run_dir)
            finally:
                database.close()

    @classmethod
    def open(cls, run_dir: Path, *, read_only: bool = False) -> Journal:
        """Open the journal of a run; with `read_only`, also in a directory without write permission.

        Raises RunError if this is not a run directory, or if its journal is damaged or of a newer nasx. Journals of
        schema 1 can be read, but not written.
        """
        if not is_run(run_dir):
            raise RunError(f"{run_dir} is not a run directory: it has no {DATABASE}. `nasx runs` lists the runs.")
        if not read_only:  # SQLite merges files on opening: first check that they fit
            with cls.open(run_dir, read_only=True) as journal:
                journal.trials()
        path = file_in(run_dir, DATABASE)
        if not path.stat().st_size:
            raise RunError(why_empty(path))
        rollback = file_in(run_dir, JOURNAL_FILES[-1])
        if rollback.exists() and rollback.stat().st_size:
            raise RunError(
                f"{rollback} is a transaction that nasx has not written: another program has changed the journal. "
                "Open it with the program sqlite3 if it is yours; do not use a run of a stranger that has it."
            )
        database = Database(path, read_only=read_only)
        try:
            database.check_schema(read_only=read_only)
            return cls(database)
        except BaseException:
            database.close()
            raise

    def check_place(self) -> None:
        """Raise RunError if the run directory or its journal was removed, moved or replaced. Takes 5 microseconds."""
        self.place.check()
        if not self._database.is_in_place():
            raise gone(self.run_dir)

    @property
    def is_in_place(self) -> bool:
        """Return whether `check_place` succeeds."""
        try:
            self.check_place()
        except RunError:
            return False
        return True

    def close(self) -> None:
        """Close the file. Entries are safe without it."""
        try:
            self._database.checkpoint()
        finally:
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def record_candidate(self, candidate: Candidate, arch_id: str, *, answered: bool) -> None:
        """Record a proposed candidate, before it is trained or answered.

        A resumed search records its candidates again: this has no effect if they are the same.

        Args:
            candidate: The candidate.
            arch_id: Network that its genotype encodes.
            answered: True if the network is known, so that the candidate needs no training of its own.

        Raises:
            RunError: If the journal has another candidate or network with this number.
        """
        row = self._row("candidates", rows.lineage_values(Lineage(candidate, arch_id, answered)))
        with self._database.transaction():
            recorded = self._database.rows("SELECT * FROM candidates WHERE number = ?", candidate.number)
            if not recorded:
                self._database.insert("candidates", row)
            elif any(recorded[0][name] != row[name] for name in row if name not in ("answered", "checksum")):
                raise RunError(
                    f"{self.run_dir} belongs to another config or version: its candidate {candidate.number} is "
                    f"{recorded[0]['genotype']} by {recorded[0]['operator']}, this search proposes {row['genotype']} "
                    f"by {candidate.operator}. Resume it with the config and the version of nasx that started it, "
                    "or start a new run."
                )

    def candidates(self) -> list[Lineage]:
        """Return all candidates in the order in which they were proposed."""
        return list(self._lineage().values())

    def _lineage(self) -> dict[int, Lineage]:
        """Return all candidates by number. Rows that were read before are not parsed again."""
        found = {}
        for position, raw in enumerate(self._raw("candidates")):
            known = self._known.get(position)
            if known is None or known[0] != raw:
                known = raw, self._entry("candidates", raw, partial(rows.lineage, info=self.info))
                self._known[position] = known
            if known[1].candidate.number != position:
                raise self._damaged(f"its table candidates has no row with the number {position}")
            found[position] = known[1]
        return found

    def record_trial(self, trial: Trial) -> None:
        """Record a finished trial and its scores in one transaction. Its candidate must be recorded before."""
        seconds = trial.evaluation.train_seconds + trial.evaluation.score_seconds
        is_trained = seconds >= _WORTH_SYNCING_SECONDS
        with self._database.transaction(sync=is_trained):
            self._database.insert("trials", self._row("trials", rows.trial_values(trial)))
            for position, score in enumerate(trial.evaluation.scores):
                self._database.insert("scores", self._row("scores", rows.score_values(trial, position, score)))
        now = time.monotonic()
        if is_trained or now - self._checkpointed >= _CHECKPOINT_SECONDS:
            self._database.checkpoint()
            self._checkpointed = now

    def trials(self) -> list[Trial]:
        """Return all finished trials in the order of their candidates, then of their replicates."""
        return sorted(self.trials_by_time(), key=lambda trial: (trial.candidate.number, trial.replicate))

    def trials_by_time(self) -> list[Trial]:
        """Return all finished trials in the order in which they were recorded."""
        with self._database.transaction(write=False):  # all queries see one state while a search writes
            lineage, raw_scores, raw_trials = self._lineage(), self._raw("scores"), self._raw("trials")
        return self._trials(lineage, raw_scores, raw_trials)

    def trial(self, arch_id: str, replicate: int = 0) -> Trial | None:
        """Return one finished trial, or None."""
        only = "arch_id = ? AND replicate = ?", arch_id, replicate
        with self._database.transaction(write=False):
            lineage, raw_scores, raw_trials = self._lineage(), self._raw("scores", *only), self._raw("trials", *only)
        found = self._trials(lineage, raw_scores, raw_trials)
        return found[0] if found else None

    def _trials(self, lineage: Mapping[int, Lineage], raw_scores: list[Raw], raw_trials: list[Raw]) -> list[Trial]:
        scores: dict[tuple[str, int], dict[int, Score]] = {}
        for raw in raw_scores:
            row = self._values("scores", raw)
            scores.setdefault((row["arch_id"], row["replicate"]), {})[row["position"]] = rows.score(row)
        found = []
        for raw in raw_trials:
            row = self._values("trials", raw)
            own = scores.pop((row["arch_id"], row["replicate"]), {})
            try:
                found.append(rows.trial(row, lineage.get(row["number"]), own, self.info))
            except RowError as exc:
                raise self._bad_row("trials", raw, exc) from exc
        if scores:
            arch_id, replicate = next(iter(scores))
            raise self._damaged(f"its table scores has a score of {arch_id}, training {replicate}, which has no trial")
        return found

    def data(self) -> dict[str, DataRecord]:
        """Return the content of the data that the search has read, by part; empty for schemas before version 4."""
        if self._version < 4:
            return {}
        return {record.part: record for record in self._entries("data", lambda row: DataRecord(**row))}

    def record_data(self, records: Sequence[DataRecord]) -> None:
        """Record the content of data for a run that does not have it, e.g. because an older nasx started it."""
        with self._database.transaction():
            known = self.data()
            for record in records:
                if record.part not in known:
                    self._database.insert("data", self._row("data", rows.data_values(record)))

    def record_noise(self, estimates: Sequence[NoiseRecord]) -> None:
        """Record estimates of the noise of training. An estimate for the same number of trainings is not replaced."""
        with self._database.transaction():
            for estimate in estimates:
                query = "SELECT 1 FROM noise WHERE trainings = ? AND objective = ?"
                if not self._database.rows(query, estimate.trainings, estimate.objective):
                    self._database.insert("noise", self._row("noise", vars(estimate)))

    def noise(self) -> list[NoiseRecord]:
        """Return all estimates of the noise, the newest last; empty for schemas before version 3."""
        if self._version < 3:
            return []
        return sorted(self._entries("noise", lambda row: NoiseRecord(**row)), key=lambda noise: noise.trainings)

    def record_attempt(self, arch_id: str, replicate: int = 0) -> None:
        """Record the start of a trial, so that a resumed search can detect a trial that crashed it."""
        self._record(Event(_now(), "attempt", "", arch_id, replicate))

    def withdraw_attempt(self, arch_id: str, replicate: int = 0) -> None:
        """Revoke the last attempt: the trial was stopped by something else, e.g. Ctrl-C."""
        self._record(Event(_now(), "withdrawal", "", arch_id, replicate))

    def attempts(self, arch_id: str, replicate: int = 0) -> int:
        """Return the number of attempts at a trial that were not revoked."""
        events = self._raw("events", "arch_id = ? AND replicate = ?", arch_id, replicate)
        kinds = [self._values("events", raw)["kind"] for raw in events]
        return kinds.count("attempt") - kinds.count("withdrawal")

    def record_event(self, kind: str, message: str, trial: tuple[str, int] | None = None) -> None:
        """Record an event of the search: it started, a worker died, ...

        Args:
            kind: Name of the kind of event.
            message: Sentence about it.
            trial: Id of the network and number of its training if the event concerns one.
        """
        arch_id, replicate = trial or (None, None)
        self._record(Event(_now(), kind, message, arch_id, replicate))

    def events(self) -> list[Event]:
        """Return all events in order, attempts included."""
        return self._entries("events", lambda row: Event(**row))

    def _record(self, event: Event) -> None:
        with self._database.transaction():
            self._database.insert("events", self._row("events", vars(event)))

    # --- rows

    def _row(self, table: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
        return rows.with_checksum(table, values, self._run)

    def _raw(self, table: str, where: str = "", *values: object) -> list[Raw]:
        """Return the rows of a table in the order of recording, unchecked."""
        names = columns_of(table, self._version)
        return self._database.read(table, [*names, CHECKSUM] if self._version >= 4 else names, where, *values)

    def _values(self, table: str, raw: Raw) -> dict[str, Any]:
        """Return the checked values of a row by column. Raises RunError for the first bad one."""
        try:
            return self._checked(table, raw)
        except RowError as exc:
            raise self._bad_row(table, raw, exc) from exc

    def _checked(self, table: str, raw: Raw) -> dict[str, Any]:
        names = columns_of(table, self._version)
        if self._version < 4:
            return read_row(table, names, raw[1:])
        values = raw[1:-1]
        row = read_row(table, names, values)
        if rows.checksum(values, "" if table == "run" else self._run) != raw[-1]:
            raise RowError("its checksum does not match its values: it was changed, or is of another run")
        return row

    def _entry(self, table: str, raw: Raw, entry: Callable[[dict[str, Any]], T]) -> T:
        try:
            return entry(self._checked(table, raw))
        except RowError as exc:
            raise self._bad_row(table, raw, exc) from exc

    def _entries(self, table: str, entry: Callable[[dict[str, Any]], T]) -> list[T]:
        return [self._entry(table, raw, entry) for raw in self._raw(table)]

    def _bad_row(self, table: str, raw: Raw, problem: RowError) -> RunError:
        return self._damaged(f"row {raw[0]} of its table {table}: {problem}")

    def _damaged(self, problem: str) -> RunError:
        return RunError(f"{self._database.path} is damaged: {problem}.{REMEDY}")

    def row_problems(self) -> list[str]:
        """Return one sentence per row that cannot be used; empty if there is none."""
        found = []
        for table in COLUMNS:
            try:
                found += self._problems_of(table) if columns_of(table, self._version) else []
            except RunError as exc:  # the table itself cannot be read
                found.append(str(exc))
        return found

    def _problems_of(self, table: str) -> list[str]:
        found = []
        for raw in self._raw(table):
            try:
                row = self._checked(table, raw)
                _ = row["history"].epochs if table == "trials" else ()
            except (RowError, RunError) as exc:
                found.append(f"row {raw[0]} of its table {table}: {exc}")
        return found

    def problems(self) -> list[str]:
        """Return one sentence per problem of the database file; empty if there is none. Reads the whole file."""
        return self._database.problems()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _exists_error(run_dir: Path) -> RunError:
    return RunError(f"{run_dir} already contains a run. Resume it with --resume, or choose another --run-dir.")
