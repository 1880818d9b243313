"""Watchdog: stops a trial that takes too long or makes no progress.

One alarm implements two limits: the duration of a trial, and the time without progress. A trial reports progress when
an epoch ends or a score is computed. The alarm is SIGALRM, which interrupts Python code; the process continues. It does
not interrupt code that hangs outside Python. Therefore a worker process has a second line of defense: a thread of the
interpreter that does not need the GIL ends the process `GRACE` seconds later and writes the traceback to a file. The
search looks at the time of that file: if the whole process is frozen, it kills it (`nasx.execution.stuck`).
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nasx.errors import RunError, TrialFailure
from nasx.files import read_bounded, translate_disk_errors
from nasx.runs.directory import remove_file
from nasx.trial import Reason

GRACE = 10.0  # seconds after a limit, within which the alarm must stop a trial before its process is ended
# seconds: an alarm that is later than this came while the process was suspended, and the time starts again, once
LATE = 5.0
MAX_REPORT = 10_000_000  # bytes of a traceback that a worker has written
Progress = Callable[[], None]  # reports that a trial makes progress


@contextmanager
def watchdog(time_limit: float | None, stall_limit: float | None, hang: Path | None = None) -> Iterator[Progress]:
    """Raise TrialFailure(Reason.TIMEOUT) in the block when a limit is reached; yield the function to report progress.

    Only the main thread receives the alarm; in other threads there are no limits.

    Args:
        time_limit: seconds that the block may take; None: no limit.
        stall_limit: seconds that may pass without progress; None: no limit.
        hang: file for the traceback of a process that hangs and is ended; None: it is never ended.
    """
    if (time_limit is None and stall_limit is None) or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    message = ""
    due = math.inf
    may_be_late = True

    def stop(signum: int, frame: object) -> None:
        nonlocal may_be_late, deadline
        late = time.monotonic() - due
        if late > LATE and may_be_late:
            may_be_late = False
            deadline += late
            progress()
            return
        raise TrialFailure(Reason.TIMEOUT, message)

    with _last_resort(stall_limit, hang) as postpone:

        def progress() -> None:
            nonlocal message, due
            left = max(deadline - time.monotonic(), 1e-3)  # 0 would disable the alarm
            if stall_limit is not None and stall_limit < left:
                left, message = stall_limit, stalled(stall_limit)
            else:
                message = f"took longer than search.time_limit, {time_limit:g} s"
            due = time.monotonic() + left
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
    """End this process if the yielded function is not called for `stall_limit` + `GRACE` seconds."""
    if stall_limit is None or hang is None:
        yield lambda: None
        return
    with translate_disk_errors(str(hang)):
        hang.unlink(missing_ok=True)  # of an earlier attempt
        file = hang.open("x")  # "x": follows no link

    def postpone() -> None:
        os.utime(file.fileno())  # the search sees it (`nasx.execution.stuck`)
        faulthandler.dump_traceback_later(stall_limit + GRACE, exit=True, file=file)

    try:
        yield postpone
    finally:
        faulthandler.cancel_dump_traceback_later()
        file.close()
        remove_file(hang)


def hang_file(weights_file: Path) -> Path:
    """Return the file for the traceback of a hanging trial, which is next to the file of its weights."""
    return weights_file.with_suffix(".hang")


def read_hang_report(weights_file: Path, stall_limit: float | None) -> str | None:
    """Return the traceback of a trial whose process hung and was ended, and delete its file; None if it did not hang.

    `stall_limit`: seconds without progress, for the message.
    """
    file = hang_file(weights_file)
    try:
        trace = read_bounded(file, MAX_REPORT).decode(errors="replace")
    except (FileNotFoundError, RunError):  # none, or not written by a worker
        trace = ""
    remove_file(file)
    return f"{trace}{stalled(stall_limit)}, and would not stop" if trace and stall_limit else None


def stalled(stall_limit: float) -> str:
    """Return the message of a trial without progress."""
    return f"no progress within search.stall_limit, {stall_limit:g} s"
