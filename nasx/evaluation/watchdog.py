"""Ends a trial that takes too long, or gets nowhere.

Two limits in one alarm: the seconds that a trial may take, and the seconds that may pass without progress, which the
trial tells itself: an epoch has ended, a score is taken. The alarm is SIGALRM: it interrupts whatever Python does, and
the process lives on. Code that is stuck outside Python never hears it. So a worker process has a last resort: a thread
of the interpreter's, which needs no lock of Python's, ends the process `GRACE` seconds later, and leaves word in a file
where it hung.
"""

from __future__ import annotations

import faulthandler
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nasx.errors import TrialFailure
from nasx.files import translate_disk_errors
from nasx.trial import Reason

GRACE = 30.0  # seconds beyond a limit, within which a trial must stop by itself before its process is ended
Progress = Callable[[], None]  # tells that a trial has got on


@contextmanager
def watchdog(time_limit: float | None, stall_limit: float | None, hang: Path | None = None) -> Iterator[Progress]:
    """Raise TrialFailure(Reason.TIMEOUT) in the block when it is too late; gives the function that tells of progress.

    Limits are in seconds; None: no limit. `hang`: the file that tells where the process hung when it had to be ended;
    None: it is never ended. Only a main thread can take the alarm; elsewhere nothing is watched.
    """
    if (time_limit is None and stall_limit is None) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    message = ""

    def stop(signum: int, frame: object) -> None:
        raise TrialFailure(Reason.TIMEOUT, message)

    with _last_resort(stall_limit, hang) as postpone:

        def progress() -> None:
            nonlocal message
            left = max(deadline - time.monotonic(), 1e-3)  # 0 would switch the alarm off
            if stall_limit is not None and stall_limit < left:
                left, message = stall_limit, stalled(stall_limit)
            else:
                message = f"took longer than search.time_limit, {time_limit:g} s"
            signal.setitimer(signal.ITIMER_REAL, left)
            postpone()

        before = signal.signal(signal.SIGALRM, stop)
        try:
            progress()
            yield progress
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@contextmanager
def _last_resort(stall_limit: float | None, hang: Path | None) -> Iterator[Progress]:
    """End this process where the function given is not called for `stall_limit` seconds and `GRACE`."""
    if stall_limit is None or hang is None:
        yield lambda: None
        return
    with translate_disk_errors(str(hang)):
        hang.parent.mkdir(parents=True, exist_ok=True)
        file = hang.open("w")
    try:
        yield lambda: faulthandler.dump_traceback_later(stall_limit + GRACE, exit=True, file=file)
    finally:
        faulthandler.cancel_dump_traceback_later()
        file.close()
        _remove(hang)


def hang_file(weights_file: Path) -> Path:
    """Where a trial leaves word of its hanging, by the file of its weights."""
    return weights_file.with_suffix(".hang")


def why_it_hung(weights_file: Path, stall_limit: float | None) -> str | None:
    """What is known of a trial whose process is gone: where it hung; None where it died of something else."""
    file = hang_file(weights_file)
    trace = file.read_text(errors="replace") if file.is_file() else ""
    _remove(file)
    return f"{trace}{stalled(stall_limit)}, and would not stop" if trace and stall_limit else None


def stalled(stall_limit: float) -> str:
    return f"no progress within search.stall_limit, {stall_limit:g} s"


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    with suppress(OSError):  # the directory has something else in it
        file.parent.rmdir()
