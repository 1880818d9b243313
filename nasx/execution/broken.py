"""Ends worker processes that are broken: a new process takes their place, and their job is given again.

After an illegal memory access, for example, every CUDA call of the process fails until it ends. Such a worker fails
faster than others train, and would take most jobs of a search.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from nasx.execution.clocks import Key
from nasx.execution.failures import last_line
from nasx.execution.jobs import key
from nasx.trial import Evaluation, Job, Reason, TrialStatus

MAX_IN_A_ROW = 3  # failures for one reason, after which a worker is replaced


class FailureStreak:
    """Failures in a row, for one reason, of the jobs of one worker."""

    def __init__(self) -> None:
        self._reason: Reason | None = None
        self._jobs: list[Key] = []

    def add(self, job: Job, evaluation: Evaluation) -> str | None:
        """Count an evaluation. Returns why the worker must be replaced, or None.

        It must be replaced after three failures in a row for one reason, and if the same job raises twice: a second
        attempt in the same process is no evidence against the network.
        """
        if evaluation.status is not TrialStatus.FAILED:
            self._reason, self._jobs = None, []
            return None
        reason = evaluation.reason
        if reason is not self._reason:
            self._reason, self._jobs = reason, []
        is_again = reason is Reason.ERROR and key(job) in self._jobs
        self._jobs.append(key(job))
        if not is_again and len(self._jobs) < MAX_IN_A_ROW:
            return None
        return f"{len(self._jobs)} attempts in a row failed in this worker, {reason}: {last_line(evaluation.detail)}"


def end_worker(job: Job, why: str) -> NoReturn:
    """End this process, and leave `why` in a file for the search."""
    file = _file(job.weights_file)
    with suppress(OSError):  # without the file the attempt counts as one whose worker died
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(why)
    os._exit(1)  # no cleanup: it may wait for a broken device forever


def why_ended(weights_file: Path) -> str | None:
    """Return why the worker of a job ended itself; None if it did not."""
    file = _file(weights_file)
    if not file.is_file():
        return None
    why = file.read_text(errors="replace")
    file.unlink(missing_ok=True)
    with suppress(OSError):  # the directory has other files
        file.parent.rmdir()
    return why


def _file(weights_file: Path) -> Path:
    return weights_file.with_suffix(".broken")
