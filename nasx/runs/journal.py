"""Journal of a run: written by the search, read by all other commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from nasx.errors import RunError
from nasx.runs import rows
from nasx.runs.database import Database
from nasx.runs.directory import DATABASE
from nasx.runs.rows import DataRecord, Event, Lineage, NoiseRecord, RunInfo
from nasx.runs.schema import columns_of
from nasx.trial import Candidate, Score, Trial

# A synchronous commit survives a power cut; every commit survives a kill. Synchronous, a trial costs 0.5 ms instead of
# 0.1 ms on an SSD, and about 10 ms on a spinning or network disk. Worth it only for trials that were trained: results
# from a table are looked up again, and candidates are requested again when the search resumes.
_WORTH_SYNCING_SECONDS = 0.1
_TRIALS = """
    SELECT asked.*, trials.*, asked.genotype AS asked_genotype, {} AS asked_replicate
    FROM trials JOIN candidates AS asked ON asked.number = trials.number
    WHERE {} ORDER BY {}
"""
_BY_NUMBER, _BY_TIME = "trials.number, trials.replicate", "trials.rowid"  # rows are only ever added
_SCORES = "SELECT * FROM scores WHERE {} ORDER BY arch_id, replicate, position"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise RunError for rows that nasx has not written in this form."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError) as exc:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        raise RunError(
            f"{path} is damaged: its entries cannot be read ({reason}). Run `nasx runs check` for details, "
            "or restore it from a copy."
        ) from exc


class Journal:
    """Journal of one run directory. A context manager; may be used only by the thread that opened it.

    Any method may raise ResourceError (disk full) or RunError (damaged, or not writable).
    """

    def __init__(self, database: Database) -> None:
        """Use `create` or `open` instead."""
        self._database = database
        self.run_dir = database.path.parent
        self._asked_replicate = "asked.replicate" if database.version >= 3 else "0"
        with _readable(database.path):
            self.info = rows.run_info(self._read("run")[0])

    @classmethod
    def create(cls, run_dir: Path, info: RunInfo, data: Sequence[DataRecord] = ()) -> Journal:
        """Create the journal of a new run. Raises RunError if the directory already has one.

        Args:
            run_dir: Directory of the run.
            info: Identity of the search.
            data: Content of the data that it has read.
        """
        database = Database(run_dir / DATABASE)
        try:
            if not database.is_empty:
                raise _exists_error(run_dir)
            with database.transaction(sync=True):  # after a kill: a complete journal or an empty file
                database.write_schema()
                database.insert("run", rows.run_row(info))
                for record in data:
                    database.insert("data", rows.data_row(record))
            return cls(database)
        except BaseException:
            database.close()
            raise

    @classmethod
    def check_absent(cls, run_dir: Path) -> None:
        """Raise RunError if the directory has a journal. An empty one, of a search killed at its start, is ignored."""
        path = run_dir / DATABASE
        if path.is_file() and path.stat().st_size:
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
        path = run_dir / DATABASE
        if not path.is_file():
            raise RunError(f"{run_dir} is not a run directory: it has no {DATABASE}. `nasx runs` lists the runs.")
        database = Database(path, read_only=read_only)
        try:
            database.check_schema(read_only=read_only)
            return cls(database)
        except BaseException:
            database.close()
            raise

    def close(self) -> None:
        """Close the file. Entries are safe without it."""
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
        row = rows.lineage_row(Lineage(candidate, arch_id, answered))
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
        with _readable(self._database.path):
            return [rows.lineage(row) for row in self._database.rows("SELECT * FROM candidates ORDER BY number")]

    def record_trial(self, trial: Trial) -> None:
        """Record a finished trial and its scores in one transaction. Its candidate must be recorded before."""
        seconds = trial.evaluation.train_seconds + trial.evaluation.score_seconds
        with self._database.transaction(sync=seconds >= _WORTH_SYNCING_SECONDS):
            self._database.insert("trials", rows.trial_row(trial))
            for position, score in enumerate(trial.evaluation.scores):
                self._database.insert("scores", rows.score_row(trial, position, score))

    def trials(self) -> list[Trial]:
        """Return all finished trials in the order of their candidates, then of their replicates."""
        return self._trials("true")

    def trials_by_time(self) -> list[Trial]:
        """Return all finished trials in the order in which they were recorded."""
        return self._trials("true", order=_BY_TIME)

    def trial(self, arch_id: str, replicate: int = 0) -> Trial | None:
        """Return one finished trial, or None."""
        found = self._trials("{0}.arch_id = ? AND {0}.replicate = ?", arch_id, replicate)
        return found[0] if found else None

    def _trials(self, condition: str, *values: object, order: str = _BY_NUMBER) -> list[Trial]:
        scores: dict[tuple[str, int], list[Score]] = {}
        with self._database.transaction(write=False):  # both queries see one state while a search writes
            score_rows = self._database.rows(_SCORES.format(condition.format("scores")), *values)
            query = _TRIALS.format(self._asked_replicate, condition.format("trials"), order)
            trial_rows = self._database.rows(query, *values)
        with _readable(self._database.path):
            for row in score_rows:
                scores.setdefault((row["arch_id"], row["replicate"]), []).append(rows.score(row))
            return [rows.trial(row, scores.get((row["arch_id"], row["replicate"]), ())) for row in trial_rows]

    def data(self) -> dict[str, DataRecord]:
        """Return the content of the data that the search has read, by part; empty for schemas before version 4."""
        if self._database.version < 4:
            return {}
        with _readable(self._database.path):
            return {row["part"]: rows.data_record(row) for row in self._read("data")}

    def record_data(self, records: Sequence[DataRecord]) -> None:
        """Record the content of data for a run that does not have it, e.g. because an older nasx started it."""
        with self._database.transaction():
            known = {row["part"] for row in self._read("data")}
            for record in records:
                if record.part not in known:
                    self._database.insert("data", rows.data_row(record))

    def _read(self, table: str) -> list[dict[str, Any]]:
        """Return all rows of a table, in the order of recording, without their checksums."""
        columns = ", ".join(columns_of(table, self._database.version))
        return self._database.rows(f"SELECT {columns} FROM {table} ORDER BY rowid")

    def record_noise(self, estimates: Sequence[NoiseRecord]) -> None:
        """Record estimates of the noise of training. An estimate for the same number of trainings is not replaced."""
        with self._database.transaction():
            for estimate in estimates:
                query = "SELECT 1 FROM noise WHERE trainings = ? AND objective = ?"
                if not self._database.rows(query, estimate.trainings, estimate.objective):
                    self._database.insert("noise", rows.noise_row(estimate))

    def noise(self) -> list[NoiseRecord]:
        """Return all estimates of the noise, the newest last; empty for schemas before version 3."""
        if self._database.version < 3:
            return []
        with _readable(self._database.path):
            return sorted((NoiseRecord(**row) for row in self._read("noise")), key=lambda n: n.trainings)

    def record_attempt(self, arch_id: str, replicate: int = 0) -> None:
        """Record the start of a trial, so that a resumed search can detect a trial that crashed it."""
        self._record(Event(_now(), "attempt", "", arch_id, replicate))

    def withdraw_attempt(self, arch_id: str, replicate: int = 0) -> None:
        """Revoke the last attempt: the trial was stopped by something else, e.g. Ctrl-C."""
        self._record(Event(_now(), "withdrawal", "", arch_id, replicate))

    def attempts(self, arch_id: str, replicate: int = 0) -> int:
        """Return the number of attempts at a trial that were not revoked."""
        query = "SELECT kind FROM events WHERE arch_id = ? AND replicate = ?"
        kinds = [row["kind"] for row in self._database.rows(query, arch_id, replicate)]
        return kinds.count("attempt") - kinds.count("withdrawal")

    def record_event(self, kind: str, message: str) -> None:
        """Record an event of the search: it started, a worker died, ..."""
        self._record(Event(_now(), kind, message))

    def events(self) -> list[Event]:
        """Return all events in order, attempts included."""
        return [rows.event(row) for row in self._read("events")]

    def _record(self, event: Event) -> None:
        with self._database.transaction():
            self._database.insert("events", rows.event_row(event))

    def problems(self) -> list[str]:
        """Return one sentence per problem of the database file; empty if there is none. Reads the whole file."""
        return self._database.problems()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _exists_error(run_dir: Path) -> RunError:
    return RunError(f"{run_dir} already contains a run. Resume it with --resume, or choose another --run-dir.")
