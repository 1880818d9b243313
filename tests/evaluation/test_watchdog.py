"""The watchdog stops trials that take too long or make no progress: by an alarm, or by ending their process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from nasx.errors import TrialFailure
from nasx.evaluation.watchdog import hang_file, read_hang_report, watchdog


def wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.005)


def test_a_block_that_takes_too_long_is_stopped_and_the_handler_restored():
    before = signal.getsignal(signal.SIGALRM)

    with (
        pytest.raises(TrialFailure, match=r"^timeout: took longer than search\.time_limit, 0\.1 s$"),
        watchdog(0.1, None) as progress,
    ):
        while True:
            progress()
            wait(0.01)

    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_a_block_without_progress_is_stopped():
    with (
        pytest.raises(TrialFailure, match=r"^timeout: no progress within search\.stall_limit, 0\.1 s$"),
        watchdog(60, 0.1),
    ):
        wait(5)


def test_a_block_with_progress_is_not_stopped():
    with watchdog(60, 0.2) as progress:
        for _ in range(6):
            wait(0.05)
            progress()


def test_the_earlier_limit_applies():
    with (
        pytest.raises(TrialFailure, match=r"search\.time_limit, 0\.15 s"),
        watchdog(0.15, 0.1) as progress,
    ):
        wait(0.08)
        progress()
        wait(5)


def test_without_limits_and_outside_the_main_thread_nothing_is_stopped():
    before = signal.getsignal(signal.SIGALRM)
    with watchdog(None, None) as progress:
        assert signal.getsignal(signal.SIGALRM) is before
        progress()

    def elsewhere() -> None:
        with watchdog(0.01, 0.01):
            wait(0.05)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()


def test_a_trial_that_ends_leaves_no_file(tmp_path):
    weights = tmp_path / "archs" / "a" / "weights_0.safetensors"
    weights.parent.mkdir(parents=True)

    with watchdog(None, 5, hang_file(weights)):
        assert hang_file(weights).exists()

    assert not weights.parent.exists()
    assert read_hang_report(weights, 5) is None


STUCK = """
import ctypes, pathlib, signal, sys
from nasx.evaluation import watchdog
watchdog.GRACE = 0.1
def stuck_outside_python():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    ctypes.PyDLL(None).sleep(60)  # holds the GIL
with watchdog.watchdog(None, 0.1, watchdog.hang_file(pathlib.Path(sys.argv[1]))):
    stuck_outside_python()
"""


def test_a_process_that_ignores_the_alarm_is_ended_and_leaves_a_traceback(tmp_path):
    weights = tmp_path / "archs" / "a" / "weights_0.safetensors"
    weights.parent.mkdir(parents=True)

    done = subprocess.run([sys.executable, "-c", STUCK, str(weights)], timeout=30)

    assert done.returncode == 1
    why = read_hang_report(weights, 0.1)
    assert "in stuck_outside_python" in why
    assert why.endswith("\nno progress within search.stall_limit, 0.1 s, and would not stop")
    assert not weights.parent.exists()
