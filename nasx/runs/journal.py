"""`RunStore`: writes the journal while a search runs and reads it for everyone else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from nasx.errors import RunError
from nasx.runs import rows
from nasx.runs.database import Database
from nasx.runs.directory import DATABASE
from nasx.runs.rows import Event, Lineage, NoiseRecord, RunInfo
from nasx.trial import Candidate, Score, Trial

# Waiting for the disk at a commit keeps it through a power cut; a killed process loses nothing either way. The wait
# makes a trial's row cost 0.5 ms instead of 0.1 on an SSD, and some 10 on a spinning or network disk. Trials that took
# real time are worth it; answers from a table are not, nor are candidates, for which a resumed search asks again.
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
    """Tells rows that no nasx has written as a RunError."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, LookupError) as exc:
        reason = " ".join(str(exc).split()) or type(exc).__name__
        raise RunError(
            f"{path} is damaged: its records cannot be read ({reason}). `nasx runs check` tells more; "
            "restore it from a copy."
        ) from exc


class Journal:
    """The journal of one run directory. A context manager; belongs to the thread that opened it.

    Any method may raise ResourceError (disk full) or RunError (damaged, not to be written).
    """

    def __init__(self, database: Database) -> None:
        """Use `create` or `open`."""
        self._database = database
        self.run_dir = database.path.parent
        self._asked_replicate = "asked.replicate" if database.version >= 3 else "0"
        with _readable(database.path):
            self.info = rows.run_info(database.rows("SELECT * FROM run")[0])

    @classmethod
    def create(cls, run_dir: Path, info: RunInfo) -> Journal:
        """Begin the journal of a new run. Raises RunError where the directory has one already."""
        database = Database(run_dir / DATABASE)
        try:
            if not database.is_empty:
                raise _holds_a_run(run_dir)
            with database.transaction(sync=True):  # a kill leaves a whole journal or an empty file
                database.write_schema()
                database.insert("run", rows.run_row(info))
            return cls(database)
        except BaseException:
            database.close()
            raise

    @classmethod
    def check_unbegun(cls, run_dir: Path) -> None:
        """Raise RunError where the directory has a journal; an empty one, of a search killed as it began, is none."""
        path = run_dir / DATABASE
        if path.is_file() and path.stat().st_size:
            database = Database(path, read_only=True)
            try:
                if not database.is_empty:
                    raise _holds_a_run(run_dir)
            finally:
                database.close()

    @classmethod
    def open(cls, run_dir: Path, *, read_only: bool = False) -> Journal:
        """Open the journal of a run; `read_only` also where the directory may not be written.

        Raises RunError where this is no run directory, or its journal is damaged or of a newer nasx; an older nasx's
        can be read, but not written.
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
        """Close the file. What was recorded is safe without it."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def record_candidate(self, candidate: Candidate, arch_id: str, *, answered: bool) -> None:
        """Record what the algorithm asked for, before it is trained or answered.

        A resumed search records its candidates again: the same ones change nothing (`answered` stays as it was).
        Raises RunError where that number was another candidate, or another network, before.
        """
        row = rows.lineage_row(Lineage(candidate, arch_id, answered))
        with self._database.transaction():
            known = self._database.rows("SELECT * FROM candidates WHERE number = ?", candidate.number)
            if not known:
                self._database.insert("candidates", row)
            elif {**known[0], "answered": row["answered"]} != row:
                raise RunError(
                    f"{self.run_dir} belongs to another config or version: its candidate {candidate.number} is "
                    f"{known[0]['genotype']} by {known[0]['operator']}, this search asks for {row['genotype']} by "
                    f"{candidate.operator}. Resume it with the config and the nasx that began it, or start a new run."
                )

    def candidates(self) -> list[Lineage]:
        """All candidates, in the order of asking."""
        with _readable(self._database.path):
            return [rows.lineage(row) for row in self._database.rows("SELECT * FROM candidates ORDER BY number")]

    def record_trial(self, trial: Trial) -> None:
        """Record a finished trial and its scores, all or nothing. Its candidate must have been recorded."""
        seconds = trial.evaluation.train_seconds + trial.evaluation.score_seconds
        with self._database.transaction(sync=seconds >= _WORTH_SYNCING_SECONDS):
            self._database.insert("trials", rows.trial_row(trial))
            for position, score in enumerate(trial.evaluation.scores):
                self._database.insert("scores", rows.score_row(trial, position, score))

    def trials(self) -> list[Trial]:
        """All finished trials, in the order of their candidates, then of their replicates."""
        return self._trials("true")

    def trials_by_time(self) -> list[Trial]:
        """All finished trials, in the order in which they were recorded."""
        return self._trials("true", order=_BY_TIME)

    def trial(self, arch_id: str, replicate: int = 0) -> Trial | None:
        """One finished trial; None where there is none."""
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

    def record_noise(self, estimates: Sequence[NoiseRecord]) -> None:
        """Record how large the noise of training is by the trainings so far; a record that is there stays."""
        with self._database.transaction():
            for estimate in estimates:
                query = "SELECT 1 FROM noise WHERE trainings = ? AND objective = ?"
                if not self._database.rows(query, estimate.trainings, estimate.objective):
                    self._database.insert("noise", vars(estimate))

    def noise(self) -> list[NoiseRecord]:
        """Every estimate of the noise, the last one last; empty for journals of before version 3."""
        if self._database.version < 3:
            return []
        with _readable(self._database.path):
            return [NoiseRecord(**row) for row in self._database.rows("SELECT * FROM noise ORDER BY trainings, rowid")]

    def record_attempt(self, arch_id: str, replicate: int = 0) -> None:
        """Record that a trial starts, so that one that takes the search down can be told when it is resumed."""
        self._record(Event(_now(), "attempt", "", arch_id, replicate))

    def withdraw_attempt(self, arch_id: str, replicate: int = 0) -> None:
        """Take the last attempt back: the trial was stopped through no fault of its own, e.g. by Ctrl-C."""
        self._record(Event(_now(), "withdrawal", "", arch_id, replicate))

    def attempts(self, arch_id: str, replicate: int = 0) -> int:
        """How often the trial was started and not withdrawn."""
        query = "SELECT kind FROM events WHERE arch_id = ? AND replicate = ?"
        kinds = [row["kind"] for row in self._database.rows(query, arch_id, replicate)]
        return kinds.count("attempt") - kinds.count("withdrawal")

    def record_event(self, kind: str, message: str) -> None:
        """Record that something happened to the search: it started, a worker died, ..."""
        self._record(Event(_now(), kind, message))

    def events(self) -> list[Event]:
        """Everything that happened, in order, attempts included."""
        return [rows.event(row) for row in self._database.rows("SELECT * FROM events ORDER BY rowid")]

    def _record(self, event: Event) -> None:
        with self._database.transaction():
            self._database.insert("events", vars(event))

    def problems(self) -> list[str]:
        """What is wrong with the file itself, a sentence each; empty where it is whole. Reads all of it."""
        return self._database.problems()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _holds_a_run(run_dir: Path) -> RunError:
    return RunError(f"{run_dir} holds a run already. Go on with it by --resume, or name another --run-dir.")
