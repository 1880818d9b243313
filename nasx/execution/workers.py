"""Plan workers (how many trials at a time, with which cores and GPUs) and replace the broken ones."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from nasx.errors import ResourceError, SettingError
from nasx.execution.budget import last_line
from nasx.execution.jobs import Key, key
from nasx.trial import Evaluation, Job, Reason, TrialStatus

if TYPE_CHECKING:
    pass

TRIALS_PER_GPU = 4  # by default: small networks leave most of a GPU idle
SHARES = 10_000  # of a GPU: Ray counts in ten-thousandths


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of a search, and the resources of each trial."""

    workers: int  # trials at a time
    cpus: int  # cores of a trial, and its threads
    gpus: float  # GPUs of a trial: a share of one, or a whole number; 0: it runs on the CPU
    all_gpus: int = 0  # GPUs that trials may use, of this machine or of the cluster

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """The device of every trial."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        at_a_time = f"{self.workers} trial{'s' * (self.workers > 1)} at a time"
        if self.gpus:
            share = f"{self.gpus:g} of a GPU" if self.gpus < 1 else f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}"
            return f"{at_a_time} on {self.all_gpus} GPU{'s' * (self.all_gpus > 1)}, {share} each"
        return f"{at_a_time} on the CPU, {self.cpus} core{'s' * (self.cpus > 1)} each"


def plan_workers(
    device: str,
    *,
    workers: int | None = None,
    cpus_per_trial: int = 1,
    gpus_per_trial: float | None = None,
    all_gpus: int | None = None,
    place: str = "this machine",
) -> WorkerPlan:
    """Return the workers that fill this machine, or a cluster, or as many as are asked for.

    Without `gpus_per_trial`, the trials share the GPUs evenly: 8 workers on one GPU get 0.125 of it each.

    Args:
        device: "cpu", "cuda", or "auto": GPUs if there are any.
        workers: trials at a time; None: as many as cores and GPUs allow.
        cpus_per_trial: cores of a trial.
        gpus_per_trial: GPUs of a trial, a share of one or a whole number; 0: the CPU; None: decided here.
        all_gpus: GPUs that trials may use; None: those that torch sees on this machine.
        place: name of the machine or cluster, for messages.

    Raises:
        SettingError: if a setting is out of range, or two of them contradict each other.
        ResourceError: if there are fewer GPUs than a trial needs.
    """
    check_settings(device, workers, cpus_per_trial, gpus_per_trial)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    by_cores = max(1, cores // cpus_per_trial)
    if device == "cpu" or gpus_per_trial == 0:
        return WorkerPlan(workers or by_cores, cpus_per_trial, 0.0)
    found = _count_gpus() if all_gpus is None else all_gpus
    if found < (gpus_per_trial or (device == "cuda")):
        count = f"{found or 'no'} GPU{'s' * (found > 1)}"
        sees = f"torch sees {count} on {place}" if all_gpus is None else f"{place} has {count}"
        if gpus_per_trial is None:
            raise ResourceError(f"execution.device is cuda, but {sees}: set execution.device to cpu or auto.")
        raise ResourceError(
            f"a trial needs {gpus_per_trial:g} GPU{'s' * (gpus_per_trial > 1)} (execution.gpus_per_trial), but {sees}: "
            "set it to null, or to 0 for the CPU."
        )
    if found == 0:
        return WorkerPlan(workers or by_cores, cpus_per_trial, 0.0)
    if gpus_per_trial is None:
        workers = workers or min(by_cores, TRIALS_PER_GPU * found)
        return WorkerPlan(workers, cpus_per_trial, _even_share(workers, found), found)
    by_gpus = _capacity(found, gpus_per_trial)
    if workers is not None and workers > by_gpus:
        problem = f"must be at most {by_gpus}: {place} has {found} GPU{'s' * (found > 1)}, and each trial needs "
        problem += f"{gpus_per_trial:g} (execution.gpus_per_trial); got {workers}"
        raise SettingError("workers", problem)
    return WorkerPlan(workers or min(by_cores, by_gpus), cpus_per_trial, gpus_per_trial, found)


def check_settings(device: str, workers: int | None, cpus_per_trial: int, gpus_per_trial: float | None) -> None:
    """Raise SettingError if a setting is out of range, or contradicts another."""
    if workers is not None and workers < 1:
        raise SettingError("workers", f"must be at least 1, got {workers}")
    if cpus_per_trial < 1:
        raise SettingError("cpus_per_trial", f"must be at least 1, got {cpus_per_trial}")
    if gpus_per_trial is None:
        return
    if not 0 <= gpus_per_trial < math.inf:
        raise SettingError("gpus_per_trial", f"must be at least 0, got {gpus_per_trial}")
    if gpus_per_trial > 1 and gpus_per_trial != int(gpus_per_trial):
        raise SettingError("gpus_per_trial", f"must be a whole number if it is above 1, got {gpus_per_trial:g}")
    if 0 < gpus_per_trial < 1 / SHARES:
        raise SettingError("gpus_per_trial", f"must be 0 or at least {1 / SHARES:g}, got {gpus_per_trial:g}")
    if device == "cpu" and gpus_per_trial > 0:
        raise SettingError("gpus_per_trial", f"must be 0 or null on execution.device=cpu, got {gpus_per_trial:g}")
    if device == "cuda" and gpus_per_trial == 0:
        raise SettingError("gpus_per_trial", "must be above 0 or null on execution.device=cuda, got 0")


def _even_share(workers: int, gpus: int) -> float:
    """The GPUs of a trial if `workers` trials share `gpus` GPUs and none spans two; rounded down as Ray counts.

    >>> _even_share(8, 1), _even_share(3, 2), _even_share(3, 1), _even_share(1, 4)
    (0.125, 0.5, 0.3333, 1.0)
    """
    per_gpu = math.ceil(workers / gpus)
    return (SHARES // per_gpu) / SHARES


def _capacity(gpus: int, share: float) -> int:
    """How many trials run at a time on `gpus` GPUs if each needs `share`; a share never spans two GPUs.

    >>> _capacity(2, 0.4), _capacity(1, 0.25), _capacity(4, 2), _capacity(1, 0.3333)
    (4, 4, 2, 3)
    """
    return gpus * int(1 / share + 1e-9) if share <= 1 else int(gpus // share)


def _count_gpus() -> int:
    # of NVIDIA on Linux, of NVIDIA on Windows' Linux, of AMD: without any, torch's seconds of import can come later
    if sys.platform == "linux" and not any(Path("/dev", name).exists() for name in ("nvidiactl", "dxg", "kfd")):
        return 0
    import torch

    return torch.cuda.device_count()


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
