"""Journal: exact round trips, and no loss of acknowledged entries."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.errors import ResourceError, RunError
from nasx.reports.summary import summarize_run
from nasx.runs.journal import Journal
from nasx.runs.rows import DataRecord, NoiseRecord, recordable
from nasx.runs.schema import SCHEMA_VERSION
from nasx.trial import INFEASIBLE_REASONS, Candidate, Evaluation, Reason, Score, Trial, TrialStatus
from tests.factories.journals import INFO, downgrade, make_trial, record

A, B = "a000000000", "b000000000"


def contents(trial: Trial) -> str:
    """Return all values of a trial as text: floats to the last bit, NaN equal to NaN, integers unlike floats."""
    scores = [{**vars(score), "distances": score.distances.tolist()} for score in trial.evaluation.scores]
    history = tuple(trial.evaluation.history)
    return repr({**vars(trial), "evaluation": {**vars(trial.evaluation), "scores": scores, "history": history}})


# Round trips

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
seconds = st.floats(0, 1e9).map(lambda x: x + 0.0)  # SQLite stores -0.0 as 0.0
numbers = st.dictionaries(names, st.floats().map(abs) | st.integers(0, 2**53), max_size=4)
counts = st.integers(0, 10**6)
arch_ids = st.text("0123456789abcdef", min_size=10, max_size=10)
genotypes = st.lists(st.integers(0, 9), max_size=6).map(tuple)
shares = st.floats(0, 1).map(lambda x: x + 0.0)


@st.composite
def scores(draw: st.DrawFn) -> Score:
    cells = draw(st.lists(st.floats(0, 2) | st.just(math.nan), min_size=9, max_size=9))
    return Score(
        scorer=draw(names),
        value=draw(shares),
        profile=draw(numbers),
        distances=np.array(cells, dtype=float).reshape(3, 3),
        n_samples=draw(counts),
        seconds=draw(seconds),
        completeness_error=draw(st.none() | seconds),
    )


@st.composite
def outcomes(draw: st.DrawFn) -> Evaluation:
    status = draw(st.sampled_from(TrialStatus))
    reasons = {TrialStatus.INFEASIBLE: INFEASIBLE_REASONS, TrialStatus.FAILED: set(Reason) - INFEASIBLE_REASONS}
    objectives = {"error": draw(shares), "introspectability": draw(st.floats(0, 2).map(lambda x: x + 0.0))}
    epochs = draw(st.lists(numbers, max_size=2))
    return Evaluation(
        status=status,
        reason=draw(st.sampled_from(sorted(reasons[status]))) if status in reasons else None,
        detail=draw(names),
        metrics={**draw(numbers), **(objectives if status is TrialStatus.COMPLETE else {})},
        scores=tuple(draw(st.lists(scores(), max_size=2, unique_by=lambda score: score.scorer))),
        history=tuple({**epoch, "epoch": i} for i, epoch in enumerate(epochs, 1)),
        train_seconds=draw(seconds),
        score_seconds=draw(seconds),
    )


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    return Trial(
        arch_id=draw(arch_ids),
        replicate=draw(counts),
        genotype=draw(genotypes),
        architecture=draw(names),
        seed=draw(counts),
        evaluation=draw(outcomes()),
        candidate=Candidate(0, draw(genotypes), draw(counts), draw(names), replicate=draw(counts)),
        finished="2026-01-02T03:05:00+00:00",
        retries=draw(counts),
        gpu_seconds=draw(seconds),
    )


@given(trial=trials())
@settings(max_examples=40, deadline=None)
def test_every_trial_survives_the_round_trip_exactly(trial: Trial) -> None:
    with tempfile.TemporaryDirectory() as name:
        with Journal.create(Path(name), INFO) as journal:
            record(journal, trial)
        with Journal.open(Path(name), read_only=True) as journal:
            assert [contents(t) for t in journal.trials()] == [contents(trial)]
            assert [entry.candidate for entry in journal.candidates()] == [trial.candidate]
            found = journal.trial(trial.arch_id, trial.replicate)
            assert found is not None
            assert contents(found) == contents(trial)


CONFIG = {"seed": 0, "space": {"sizes": [8, 16], "name": "ü"}, "limit": math.inf, "share": 0.1 + 0.2, "logger": None}


@pytest.mark.parametrize("alleles", [(), (("none", "skip"), ("8", "16", "ü"))])
@pytest.mark.parametrize("config", [{}, CONFIG], ids=["no_config", "config"])
def test_the_identity_of_the_run_survives_the_round_trip(tmp_path: Path, alleles, config) -> None:
    info = replace(INFO, alleles=alleles, config=config)
    with Journal.create(tmp_path, info) as journal:
        assert journal.info == info
    with Journal.open(tmp_path) as journal:
        assert journal.info == info


IMAGES = DataRecord("training images", "ab" * 32, {"images": 180, "classes": {"é": 90, "b": 90}, "shape": [3, 32, 32]})
SPLIT = DataRecord("split", "cd" * 32, {"seed": 5})


def test_the_content_of_the_data_is_recorded_once(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO, [IMAGES]) as journal:
        assert journal.data() == {"training images": IMAGES}
        journal.record_data([replace(IMAGES, digest="ef" * 32), SPLIT])
    with Journal.open(tmp_path, read_only=True) as journal:
        assert journal.data() == {"training images": IMAGES, "split": SPLIT}


ERROR = NoiseRecord(20, "error", 0.1 + 0.2, 0.3, 1 / 3, 2.2, 5)
SCORE = NoiseRecord(20, "introspectability", 0.0, 0.0, 0.05, 1.5, 5)


def test_estimates_of_the_noise_are_read_in_order_and_recorded_once(tmp_path: Path) -> None:
    later = replace(ERROR, trainings=31, std=0.25)
    with Journal.create(tmp_path, INFO) as journal:
        assert journal.noise() == []
        journal.record_noise([later])
        journal.record_noise([ERROR, SCORE])
        journal.record_noise([replace(ERROR, std=9.0), SCORE])  # by a resumed search that trained no network
        journal.record_noise([])
    with Journal.open(tmp_path, read_only=True) as journal:
        assert journal.noise() == [ERROR, SCORE, later]


def test_trials_are_read_in_the_order_of_their_candidates(tmp_path: Path) -> None:
    first, second, again = make_trial(0, B), make_trial(1, A), make_trial(0, B, replicate=1)
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, first, second, again)
        assert [(t.arch_id, t.replicate) for t in journal.trials()] == [(B, 0), (B, 1), (A, 0)]
        assert journal.trial(A, 1) is None


def test_a_run_may_be_moved(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with Journal.create(tmp_path / "here", INFO) as journal:
        record(journal, make_trial())
    (tmp_path / "here").rename(tmp_path / "there")
    with Journal.open(tmp_path / "there") as journal:
        assert len(journal.trials()) == 1
    assert str(tmp_path).encode() not in (tmp_path / "there" / "run.db").read_bytes()


def test_the_results_can_be_read_with_sql(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, make_trial())
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        query = "SELECT number, arch_id, replicate, error, parameters, operator FROM results"
        row = connection.execute(query).fetchone()
    assert row == (0, A, 0, 1 / 3, 802426, "random")


# Entries that a resumed search repeats


def test_a_candidate_recorded_again_changes_nothing(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        journal.record_candidate(Candidate(0, (1, 0), 0, "random"), A, answered=False)
        journal.record_candidate(Candidate(0, (1, 0), 0, "random"), A, answered=True)
        assert [entry.answered for entry in journal.candidates()] == [False]


@pytest.mark.parametrize(
    ("candidate", "arch_id"),
    [
        (Candidate(0, (1, 1), 0, "random"), A),
        (Candidate(0, (1, 0), 1, "random"), A),
        (Candidate(0, (1, 0), 0, "mutation"), A),
        (Candidate(0, (1, 0), 0, "random"), B),
        (Candidate(0, (1, 0), 0, "random", replicate=1), A),
    ],
)
def test_another_candidate_with_the_same_number_is_refused(tmp_path: Path, candidate: Candidate, arch_id: str) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        journal.record_candidate(Candidate(0, (1, 0), 0, "random"), A, answered=False)
        with pytest.raises(RunError, match=r"belongs to another config or version: its candidate 0 is \[1,0\] by rand"):
            journal.record_candidate(candidate, arch_id, answered=False)
        assert len(journal.candidates()) == 1


def test_attempts_are_counted_until_withdrawn(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        journal.record_attempt(A)
        journal.record_attempt(A)
        journal.record_attempt(B, 1)
        journal.withdraw_attempt(A)
        journal.record_event("search", "resumed")
        assert (journal.attempts(A), journal.attempts(B), journal.attempts(B, 1)) == (1, 0, 1)
        assert [e.kind for e in journal.events()] == ["attempt", "attempt", "attempt", "withdrawal", "search"]
        assert journal.events()[-1].message == "resumed"


# Durability, and the place of the file


def in_run_db_alone(run_dir: Path) -> list[str]:
    """Return the ids of the trials in run.db, as if it were copied without its -wal."""
    with closing(sqlite3.connect(f"{(run_dir / 'run.db').as_uri()}?immutable=1", uri=True)) as connection:
        return [row[0] for row in connection.execute("SELECT arch_id FROM trials ORDER BY rowid")]


def looked_up(number: int) -> Trial:
    trial = make_trial(number, f"{number:010x}")
    return replace(trial, evaluation=replace(trial.evaluation, train_seconds=0.0, score_seconds=0.0))


def test_run_db_alone_has_every_trained_trial(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        assert in_run_db_alone(tmp_path) == []  # the tables are there
        record(journal, make_trial(0, A), make_trial(1, B))
        assert in_run_db_alone(tmp_path) == [A, B]


def test_look_ups_are_copied_into_run_db_from_time_to_time_and_at_the_end(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        end = time.monotonic() + 0.3
        recorded = 0
        while time.monotonic() < end:
            record(journal, looked_up(recorded))
            recorded += 1
        assert 0 < len(in_run_db_alone(tmp_path)) <= recorded
    assert len(in_run_db_alone(tmp_path)) == recorded


@pytest.mark.parametrize("disturb", ["move", "remove", "replace_file", "replace_directory"])
def test_a_journal_that_is_no_longer_in_its_place_is_noticed(tmp_path: Path, disturb: str) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with Journal.create(run_dir, INFO) as journal:
        journal.check_place()
        if disturb == "remove":
            shutil.rmtree(run_dir)
        elif disturb == "replace_file":
            (run_dir / "run.db").rename(tmp_path / "run.db")
            shutil.copy(tmp_path / "run.db", run_dir)
        else:
            run_dir.rename(tmp_path / "moved")
        if disturb == "replace_directory":
            shutil.copytree(tmp_path / "moved", run_dir)
        assert not journal.is_in_place
        with pytest.raises(RunError, match=r"run was removed, moved or replaced while nasx was using it: stopped, and"):
            journal.check_place()


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"


def test_ctrl_c_ends_a_query(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with Journal.create(tmp_path, INFO) as journal:
        before = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            with pytest.raises(KeyboardInterrupt):
                journal._database.rows(ENDLESS)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert journal.trials() == []  # the connection is usable


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"distances": np.full((3, 3), 2.5)}, "distances of shap is 72 bytes, expected a square matrix"),
        ({"distances": np.zeros((2, 2))}, "distances of shap are 2x2, expected those of 3 classes"),
        ({"value": math.inf}, "value of shap is inf, expected a finite number"),
    ],
)
def test_a_score_that_no_reader_would_accept_fails_its_trial(change, problem: str) -> None:
    evaluation = make_trial().evaluation
    found = recordable(replace(evaluation, scores=(replace(evaluation.scores[0], **change),)), INFO)

    assert (found.status, found.reason) == (TrialStatus.FAILED, Reason.ERROR)
    assert problem in found.detail
    assert recordable(evaluation, INFO) is evaluation


def test_rows_of_another_run_are_detected(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        with Journal.create(tmp_path / name, replace(INFO, seed=seed)) as journal:
            record(journal, make_trial())
    with closing(sqlite3.connect(tmp_path / "one/run.db")) as connection:
        connection.execute("ATTACH ? AS other", [str(tmp_path / "other/run.db")])
        connection.executescript("DELETE FROM candidates; INSERT INTO candidates SELECT * FROM other.candidates")

    with Journal.open(tmp_path / "one", read_only=True) as journal, pytest.raises(RunError, match="is of another run"):
        journal.trials()


# Opening files that are not journals of nasx


def test_a_run_is_not_started_twice(tmp_path: Path) -> None:
    Journal.create(tmp_path, INFO).close()
    with pytest.raises(RunError, match=r"already contains a run\. Resume it with --resume, or choose"):
        Journal.create(tmp_path, INFO)
    with pytest.raises(RunError, match="already contains a run"):
        Journal.check_absent(tmp_path)


def test_a_directory_without_journal_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run directory: it has no run\.db"):
        Journal.open(tmp_path)
    assert not list(tmp_path.iterdir())


def write_header(path: Path) -> None:
    """Write the header that SQLite writes before the first table."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    assert path.stat().st_size > 0


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (Path.touch, r"run\.db is empty: its search was stopped while it started\. Start it again\.$"),
        (
            write_header,
            r"run\.db has no tables\. Its search was stopped while it started, or the file was copied without "
            r"run\.db-wal, in which",
        ),
    ],
    ids=["no_byte", "header"],
)
def test_a_search_killed_while_it_started_is_reported_and_can_start_again(
    tmp_path: Path, begin, message: str, read_only: bool
) -> None:
    begin(tmp_path / "run.db")
    Journal.check_absent(tmp_path)
    with pytest.raises(RunError, match=message):
        Journal.open(tmp_path, read_only=read_only)
    Journal.create(tmp_path, INFO).close()


@pytest.mark.parametrize("is_begun", [False, True])
def test_checking_that_no_journal_exists_changes_nothing(tmp_path: Path, is_begun: bool) -> None:
    with closing(sqlite3.connect(tmp_path / "run.db")) as connection:
        connection.execute("CREATE TABLE t (x)" if is_begun else "PRAGMA user_version = 0")
        connection.execute("VACUUM")  # writes the header of an empty database as well
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before["run.db"]

    with pytest.raises(RunError, match="already contains a run") if is_begun else nullcontext():
        Journal.check_absent(tmp_path)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def columns(run_dir: Path) -> dict[str, list[tuple]]:
    """Return name, type and NOT NULL of each column of each table and view, sorted."""
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        return {n: sorted(row[1:4] for row in connection.execute(f"PRAGMA table_info({n})")) for n in names}


def version_of(run_dir: Path) -> int:
    with closing(sqlite3.connect(run_dir / "run.db")) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_journal_of_an_older_nasx_is_read(tmp_path: Path, version: int) -> None:
    trials = [make_trial(), make_trial(replicate=1), make_trial(1, B)]
    with Journal.create(tmp_path, replace(INFO, alleles=(("a", "b"),) * 2)) as journal:
        record(journal, *trials)
    downgrade(tmp_path, version)

    with Journal.open(tmp_path, read_only=True) as journal:
        assert [contents(trial) for trial in journal.trials()] == [contents(trial) for trial in trials]
        assert contents(journal.trial(B)) == contents(trials[2])
        assert [entry.candidate for entry in journal.candidates()] == [trials[0].candidate, trials[2].candidate]
        assert journal.noise() == []
        assert journal.info == replace(INFO, alleles=(("a", "b"),) * 2 if version == 3 else ())
        assert journal.data() == {}
        summary = summarize_run(journal.trials(), journal.info)
        assert {network.arch_id for network in summary.front} == {A, B}
        assert [network.trainings for network in summary.architectures] == [2, 1]
    assert version_of(tmp_path) == version


@pytest.mark.parametrize("version", [2, 3])
def test_the_journal_of_a_previous_version_is_upgraded_before_writing(tmp_path: Path, version: int) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, make_trial())
    whole = columns(tmp_path)
    downgrade(tmp_path, version)
    assert columns(tmp_path) != whole

    again = replace(
        make_trial(1, replicate=1), candidate=Candidate(1, (0, 1), 0, "retraining", (0,), (0,), replicate=1)
    )
    for _ in range(2):  # the second time it is already upgraded
        with Journal.open(tmp_path) as journal:
            journal.record_candidate(make_trial().candidate, A, answered=False)  # as a resumed search does
            if journal.trial(A, 1) is None:
                record(journal, again)
            journal.record_noise([ERROR])
            assert [contents(trial) for trial in journal.trials()] == [contents(make_trial()), contents(again)]
            assert journal.noise() == [ERROR]

    assert columns(tmp_path) == whole
    assert version_of(tmp_path) == SCHEMA_VERSION


def test_the_journal_of_schema_1_cannot_be_resumed(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, make_trial())
    downgrade(tmp_path, 1)
    with pytest.raises(
        RunError,
        match=r"run\.db was written by an older nasx \(schema 1, this one writes 4\): it can be read, but only the "
        r"version of nasx that started the search can resume it\. Start a new run\.$",
    ):
        Journal.open(tmp_path)
    assert version_of(tmp_path) == 1


def test_trials_are_also_read_in_the_order_of_finishing(tmp_path: Path) -> None:
    first, second, again = make_trial(0, B), make_trial(1, A), make_trial(0, B, replicate=1)
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, first, second, again)
        assert [(t.arch_id, t.replicate) for t in journal.trials_by_time()] == [(B, 0), (A, 0), (B, 1)]


def test_overwritten_pages_are_reported(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, *(make_trial(number, f"{number:010x}") for number in range(50)))
    data = bytearray((tmp_path / "run.db").read_bytes())
    page = data.index(b"validation_loss") // 4096 * 4096  # a page with trials
    data[page : page + 4096] = b"\xa5" * 4096
    (tmp_path / "run.db").write_bytes(data)
    with Journal.open(tmp_path, read_only=True) as journal:
        assert journal.problems()
        with pytest.raises(RunError, match=r"run\.db is damaged: database disk image is malformed\. Run `nasx run"):
            journal.trials()


# Directories without write permission


@contextmanager
def writable_directory() -> Iterator[Path]:
    """Yield a directory that the process can write until it calls `os.seteuid`, or chmod if it is not root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@contextmanager
def not_writable(directory: Path) -> Iterator[None]:
    """Remove write permission within the block. Root can write anywhere, so the process becomes `nobody`."""
    directory.chmod(0o555)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)
        directory.chmod(0o755)


def test_a_run_on_a_read_only_disk_can_be_read_but_not_written() -> None:
    with writable_directory() as run_dir:
        with Journal.create(run_dir, INFO) as journal:
            record(journal, make_trial())
        (run_dir / "run.db").chmod(0o444)
        with not_writable(run_dir):
            with Journal.open(run_dir, read_only=True) as journal:
                assert len(journal.trials()) == 1
            with (
                Journal.open(run_dir, read_only=True) as journal,
                pytest.raises(RunError, match="cannot be written"),
            ):
                journal.record_event("search", "")
            with pytest.raises(RunError, match=r"run\.db cannot be written .*permissions of its directory"):
                Journal.open(run_dir)


def copy_unclosed(run_dir: Path, files: tuple[str, ...]) -> None:
    """Copy to `run_dir` the journal of one trial as a killed search leaves it."""
    with tempfile.TemporaryDirectory() as name, Journal.create(Path(name), INFO) as journal:
        record(journal, make_trial())
        for file in files:
            shutil.copy(Path(name) / file, run_dir)


def test_the_journal_of_a_killed_search_can_be_read_on_a_read_only_disk() -> None:
    with writable_directory() as run_dir:
        copy_unclosed(run_dir, ("run.db", "run.db-wal", "run.db-shm"))
        with not_writable(run_dir), Journal.open(run_dir, read_only=True) as journal:
            assert len(journal.trials()) == 1


def test_a_journal_that_cannot_be_merged_is_not_read_partially() -> None:
    with writable_directory() as run_dir:
        copy_unclosed(run_dir, ("run.db", "run.db-wal"))
        with (
            not_writable(run_dir),
            pytest.raises(RunError, match=r"its last trials must be merged from run\.db-wal first\. Copy the dir"),
        ):
            Journal.open(run_dir, read_only=True)


# Full disks


def test_a_full_disk_is_reported_and_loses_no_entry(tmp_path: Path) -> None:
    with Journal.create(tmp_path, INFO) as journal:
        record(journal, make_trial())
        journal._database.rows("PRAGMA max_page_count = 1")  # no further page, as on a full disk
        big = make_trial(1, B)
        big = replace(big, evaluation=replace(big.evaluation, detail="x" * 10**6))
        journal.record_candidate(big.candidate, B, answered=False)
        with pytest.raises(
            ResourceError, match=r"no space left on the disk while writing .*run\.db\. Free some space.*"
        ):
            journal.record_trial(big)
        assert [t.arch_id for t in journal.trials()] == [A]
        journal._database.rows("PRAGMA max_page_count = 1000000")
        journal.record_trial(big)
        assert len(journal.trials()) == 2


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 512 KiB. Needs root."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_search_on_a_disk_that_fills_up_keeps_every_trial(tiny_disk: Path) -> None:
    recorded = 0
    with Journal.create(tiny_disk, INFO) as journal:
        with pytest.raises(ResourceError, match="every finished trial is kept"):
            for number in range(10_000):
                record(journal, make_trial(number, f"{number:010x}"))
                recorded += 1
        assert len(journal.trials()) == recorded > 10
    with Journal.open(tiny_disk, read_only=True) as journal:
        assert len(journal.trials()) == recorded
        assert journal.problems() == []


# Kills

WRITE_FOREVER = """
import itertools, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.factories.journals import INFO, make_trial, record
from nasx.runs.journal import Journal

run_dir = Path(sys.argv[2])
journal = Journal.open(run_dir) if (run_dir / "run.db").exists() else Journal.create(run_dir, INFO)
for number in itertools.count(len(journal.trials())):
    journal.record_attempt(f"{number:010x}")
    record(journal, make_trial(number, f"{number:010x}"))
    print(f"{number:010x}", flush=True)
"""


def start_writer(run_dir: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITE_FOREVER, str(Path(__file__).parents[2]), str(run_dir)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_sigkill_at_random_moments_loses_no_trial_that_was_acknowledged(tmp_path: Path) -> None:
    moments = random.Random(0)
    acknowledged: list[str] = []
    for _ in range(5):
        with start_writer(tmp_path) as writer:
            assert writer.stdout is not None
            acknowledged += [writer.stdout.readline().strip() for _ in range(moments.randint(1, 100))]
            writer.send_signal(signal.SIGKILL)
            acknowledged += writer.stdout.read().split()
        with Journal.open(tmp_path) as journal:
            trials = journal.trials()
            # at most one more: committed, but killed before it was acknowledged
            assert [t.arch_id for t in trials][: len(acknowledged)] == acknowledged
            assert len(trials) <= len(acknowledged) + 1
            assert all(len(t.evaluation.scores) == 1 for t in trials)
            assert journal.problems() == []
            acknowledged = [t.arch_id for t in trials]


def test_readers_see_whole_trials_while_a_search_writes(tmp_path: Path) -> None:
    seen = [0]
    with start_writer(tmp_path) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while len(seen) < 20:
            with Journal.open(tmp_path, read_only=True) as journal:
                trials = journal.trials()
                assert all(len(t.evaluation.scores) == 1 for t in trials)
                seen.append(len(trials))
                writer.stdout.readline()
        writer.kill()
    assert seen == sorted(seen)
    assert seen[-1] > seen[1] > 0
