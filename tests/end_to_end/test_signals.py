"""Searches that are asked to end, or whose processes die: real processes, real signals."""

from __future__ import annotations

import getpass
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.factories.black_box import LINES, nasx_process

LONG = (*LINES, "training.epochs=2000", "algorithm.evaluations=8")  # a trial takes half a minute
LOCAL = (*LONG, "execution=local", "execution.device=cpu", "execution.workers=2")
RESUME = "Resume with: nasx search --resume --run-dir run"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are looked up in /proc")


class Search:
    """A search that runs in its own session, with its own directory for temporary folders."""

    def __init__(self, cwd: Path, temporary: str, *options: str, ignore: int | None = None) -> None:
        self.run_dir, self.temporary = cwd / "run", Path(temporary)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nasx", "search", *options, "--run-dir", "run"],
            cwd=cwd,
            env={**os.environ, "TMPDIR": temporary, "COLUMNS": "120"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=None if ignore is None else lambda: signal.signal(ignore, signal.SIG_IGN),
        )

    def wait_for(self, condition) -> None:
        deadline = time.monotonic() + 90
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def wait_for_training(self) -> None:
        self.wait_for(lambda: self.count("attempt") > self.count("withdrawal"))
        time.sleep(0.5)

    def query(self, text: str) -> list:
        with suppress(sqlite3.Error):
            connection = sqlite3.connect(f"file:{self.run_dir / 'run.db'}?mode=ro", uri=True)
            try:
                return connection.execute(text).fetchall()
            finally:
                connection.close()
        return []

    def count(self, kind: str) -> int:
        return len(self.query(f"SELECT 1 FROM events WHERE kind = '{kind}'"))

    def processes(self) -> dict[int, str]:
        """Return the processes of its session, by id."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                state, _, _, session = (place / "stat").read_text().rpartition(") ")[2].split()[:4]
                if int(session) == self.process.pid and state not in "ZX":
                    found[int(place.name)] = (place / "cmdline").read_text().replace("\0", " ")
        return found

    def end(self, seconds: float) -> tuple[int, list[str]]:
        """Wait until it has ended with all its processes and folders. Returns its status and stderr."""
        deadline = time.monotonic() + seconds
        try:
            while self.process.poll() is None or self.processes() or list(self.temporary.glob("nasx-*")):
                assert time.monotonic() < deadline, (self.process.poll(), self.processes())
                time.sleep(0.05)
        finally:
            for pid in self.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return self.process.returncode, self.process.communicate()[1].splitlines()


@pytest.fixture
def temporary(ray_folder):
    return ray_folder


def test_sigterm_ends_a_search_with_workers_and_the_attempts_do_not_count(tmp_path, temporary):
    for words in ((*LOCAL, "search.max_crashes=1"), ("--resume",)):
        search = Search(tmp_path, temporary, *words)
        search.wait_for_training()
        search.process.terminate()
        time.sleep(0.1)
        search.process.terminate()  # a second one while it ends
        status, lines = search.end(8)

        assert status == 143
        assert lines[-1] == f"nasx: ended by SIGTERM. {RESUME}"
        assert not [line for line in lines if "Traceback" in line or "core_worker" in line or "***" in line]
        assert search.count("attempt") == search.count("withdrawal")
    assert search.query("SELECT * FROM trials") == []  # none has failed


def test_sighup_ends_a_serial_search_in_mid_training_unless_it_was_started_with_nohup(tmp_path, temporary):
    search = Search(tmp_path, temporary, *LONG)
    search.wait_for_training()
    search.process.send_signal(signal.SIGHUP)
    assert search.end(8) == (129, [f"nasx: ended by SIGHUP. {RESUME}"])
    assert search.count("attempt") == search.count("withdrawal") > 0
    assert not (tmp_path / "run" / ".lock.holder").exists()

    search = Search(tmp_path, temporary, "--resume", ignore=signal.SIGHUP)
    search.wait_for_training()
    search.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert search.process.poll() is None
    search.process.terminate()
    assert search.end(8)[0] == 143


def test_the_warning_of_a_batch_system_ends_a_search_with_workers_and_is_no_success(tmp_path, temporary):
    search = Search(tmp_path, temporary, *LOCAL)
    search.wait_for_training()
    search.process.send_signal(signal.SIGUSR1)  # Ray Tune has a handler of its own
    status, lines = search.end(8)

    assert (status, lines[-1]) == (128 + signal.SIGUSR1, f"nasx: ended by SIGUSR1. {RESUME}")
    assert search.count("attempt") == search.count("withdrawal")


def test_a_signal_to_all_processes_while_ray_starts_leaves_nothing(tmp_path, temporary):
    search = Search(tmp_path, temporary, *LOCAL)
    search.wait_for(lambda: any("raylet" in command for command in search.processes().values()))
    os.killpg(search.process.pid, signal.SIGTERM)
    status, lines = search.end(8)

    assert status == 143
    assert lines[-1] in (f"nasx: ended by SIGTERM. {how}" for how in (RESUME, "No trial has begun: start it again."))
    assert not [line for line in lines if "Traceback" in line or "core_worker" in line or "***" in line]


@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_a_search_whose_ray_dies_ends_soon_and_tells_how_to_resume(tmp_path, temporary, server):
    search = Search(tmp_path, temporary, *LOCAL)
    search.wait_for_training()
    (pid,) = [pid for pid, command in search.processes().items() if f"/{server} " in command]
    os.kill(pid, signal.SIGKILL)
    status, lines = search.end(10)

    assert status == 2
    assert lines[-1].startswith(f"nasx: Ray's {server} has died")
    assert lines[-1].endswith(RESUME)
    assert "Traceback" not in "".join(lines)
    assert search.count("attempt") == search.count("withdrawal") > 0


def test_a_search_that_is_killed_leaves_no_processes_and_no_folders(tmp_path, temporary):
    search = Search(tmp_path, temporary, *LOCAL)
    search.wait_for_training()
    for pid, command in search.processes().items():
        if "ray::" in command:
            os.kill(pid, signal.SIGSTOP)  # they cannot end themselves
    search.process.kill()

    assert search.end(10)[0] == -9


def test_folders_of_dead_searches_are_removed_at_the_next_start_and_no_others(tmp_path, temporary):
    here = Path(temporary)
    (here / "valuable").mkdir()
    for name in ("nasx-dead", "nasx-alive", "nasx-of-something-else", "nasx-writable"):
        (here / name).mkdir(mode=0o700)
        if name != "nasx-of-something-else":
            (here / name / "owner").touch(mode=0o600)
    (here / "nasx-writable").chmod(0o777)
    (here / "nasx-link").symlink_to(here / "valuable")
    (here / "valuable" / "owner").touch(mode=0o600)
    victim = subprocess.Popen(["sleep", "60"])
    (here / "nasx-dead" / "processes").write_text(f"another machine\n{victim.pid} 1")  # its id is used again
    hold = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(here / "nasx-alive" / "owner")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout
        holder.stdout.readline()
        options = ("execution=local", "execution.device=cpu", "execution.workers=1", "algorithm.evaluations=1")
        done = nasx_process(
            "search", *LINES, *options, "search.replicates=1", "--run-dir=run", cwd=tmp_path, env={"TMPDIR": temporary}
        )
        assert done.returncode == 0, done.stderr
        left = {path.name for path in here.iterdir()} - {f"torchinductor_{getpass.getuser()}"}
        assert left == {"valuable", "nasx-alive", "nasx-of-something-else", "nasx-writable", "nasx-link"}
        assert victim.poll() is None
    finally:
        holder.kill()
        holder.communicate()
        victim.kill()
        victim.wait()


def test_another_command_that_is_ended_says_so_in_one_line(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "nasx", "search", *LONG, "--dry-run"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    status, deadline = Path(f"/proc/{process.pid}/status"), time.monotonic() + 30
    while not int(status.read_text().partition("SigCgt:")[2].split()[0], 16) & 1 << signal.SIGTERM - 1:  # handled
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.1)
    process.terminate()
    _, err = process.communicate(timeout=30)

    assert process.returncode == 143
    assert err in ("nasx: ended by SIGTERM.\n", "nasx: ended by SIGTERM. No trial has begun: start it again.\n")
