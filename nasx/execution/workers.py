"""Workers: plan them (number of trials at a time, cores and GPUs of each), and replace broken ones."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from pydantic import AfterValidator, Field

from nasx import machine
from nasx.config.settings import settings
from nasx.errors import NasxError, ResourceError, RunError, SettingError
from nasx.evaluation.watchdog import MAX_REPORT
from nasx.execution.budget import last_line
from nasx.execution.jobs import Key, key
from nasx.files import read_bounded, write_atomically
from nasx.runs.directory import prepare_directory, remove_file
from nasx.trial import Evaluation, Job, Reason, TrialStatus

TRIALS_PER_GPU = 4  # by default: small networks leave most of a GPU idle
SHARES = 10_000  # of a GPU: Ray counts in ten-thousandths
HERE = "this machine"
# bytes. Measured on the digits: a worker has 440 MB of its own, the search 320, Ray's processes 170. The images and the
# code of libraries are shared
WORKER_MEMORY = 550e6
SEARCH_MEMORY = 800e6


def _divisible(gpus: float) -> float:
    """Check a number of GPUs of a trial: a whole number, or a share that Ray can count."""
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(f"must be a whole number if it is above 1, got {gpus:g}")
    if 0 < gpus < 1 / SHARES:
        raise ValueError(f"must be 0 or at least {1 / SHARES:g}, got {gpus:g}")
    return gpus


Device = Literal["auto", "cpu", "cuda"]  # of trials; auto: GPUs if there are any
GPUsPerTrial = Annotated[float, Field(ge=0), AfterValidator(_divisible)]


@settings
class WorkerSettings:
    """Settings of the workers of a search."""

    device: Device = "auto"
    workers: Annotated[int, Field(ge=1)] | None = None  # trials at a time; None: as many as cores and GPUs allow
    cpus_per_trial: Annotated[int, Field(ge=1)] = 1
    gpus_per_trial: GPUsPerTrial | None = None  # a share of a GPU or a whole number; 0: the CPU; None: an even share

    def __post_init__(self) -> None:
        gpus = self.gpus_per_trial
        if self.device == "cpu" and gpus is not None and gpus > 0:
            raise SettingError("gpus_per_trial", f"must be 0 or null on execution.device=cpu, got {gpus:g}")
        if self.device == "cuda" and gpus == 0:
            raise SettingError("gpus_per_trial", "must be above 0 or null on execution.device=cuda, got 0")


@dataclass(frozen=True)
class WorkerPlan:
    """Number of workers of a search, and resources of each trial."""

    workers: int  # trials at a time
    cpus: int  # cores and threads of a trial
    gpus: float  # GPUs of a trial, a share of one or a whole number; 0: it runs on the CPU
    all_gpus: int = 0  # GPUs that trials may use, of this machine or of the cluster
    note: str = field(default="", compare=False)  # why there are fewer workers than cores, or more than fit; else ""

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Device of every trial."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        at_a_time = f"{self.workers} trial{'s' * (self.workers > 1)} at a time"
        if self.gpus:
            share = f"{self.gpus:g} of a GPU" if self.gpus < 1 else f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}"
            text = f"{at_a_time} on {self.all_gpus} GPU{'s' * (self.all_gpus > 1)}, {share} each"
        else:
            text = f"{at_a_time} on the CPU, {self.cpus} core{'s' * (self.cpus > 1)} each"
        return f"{text} ({self.note})" if self.note else text


@dataclass(frozen=True)
class Room:
    """Number of trials for which this machine has cores and memory, and what limits it."""

    workers: int  # trials at a time, at least 1
    why: str  # e.g. "CPU quota of 2 cores"

    @classmethod
    def of_this_machine(cls, cpus_per_trial: int) -> Room:
        """Return the room for trials that need `cpus_per_trial` cores each."""
        cores, memory = machine.cores(), machine.memory()
        by_cores = max(1, machine.whole_cores(cores) // cpus_per_trial)
        by_memory = max(1, int((memory.amount - SEARCH_MEMORY) / WORKER_MEMORY))
        if by_memory < by_cores:
            return cls(by_memory, f"{memory.why} of {memory.amount / 1e9:.3g} GB")
        amount = f"{cores.amount:g} core{'s' * (cores.amount != 1)}"
        if cores.amount == os.cpu_count():
            return cls(by_cores, f"this machine has {amount}")
        return cls(by_cores, f"{cores.why} of {amount}")

    def note(self, plan: WorkerPlan, asked: int | None) -> str:
        """Return a remark if this limits a plan, or if the user asks for more workers than that; else ""."""
        if asked is not None:
            return f"there is room for {self.workers}: {self.why}" if asked > self.workers else ""
        used, cores = self.workers * plan.cpus, os.cpu_count() or 1
        if plan.workers < self.workers or used >= cores - cores % plan.cpus:
            return ""
        return f"{used} of {cores} cores: {self.why}"


def plan_workers(
    device: str,
    *,
    workers: int | None = None,
    cpus_per_trial: int = 1,
    gpus_per_trial: float | None = None,
    all_gpus: int | None = None,
    place: str = HERE,
) -> WorkerPlan:
    """Return the requested workers; if none are requested, as many as this machine's cores, memory and GPUs allow.

    Cores and memory are those that this process may use: a container or Slurm may limit them. Without
    `gpus_per_trial`, the trials share the GPUs evenly: 8 workers on one GPU get 0.125 of it each.

    Args:
        device: "cpu", "cuda", or "auto": GPUs if there are any.
        workers: trials at a time; None: as many as cores, memory and GPUs allow.
        cpus_per_trial: cores of a trial.
        gpus_per_trial: GPUs of a trial, a share of one or a whole number; 0: the CPU; None: decided here.
        all_gpus: GPUs that trials may use; None: those that torch sees on this machine.
        place: name of the machine or cluster, for messages.

    Raises:
        SettingError: if a setting is out of range, or two of them contradict each other.
        ResourceError: if there are fewer GPUs than a trial needs.
    """
    asked = WorkerSettings(
        device=device,  # type: ignore[arg-type]  # checked here
        workers=workers,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
    )
    room = Room.of_this_machine(asked.cpus_per_trial)
    plan = _plan(asked, room.workers, all_gpus, place)
    return replace(plan, note=room.note(plan, asked.workers)) if place == HERE else plan


def _plan(asked: WorkerSettings, most: int, all_gpus: int | None, place: str) -> WorkerPlan:
    """Return the plan. `most`: workers for which there are cores and memory. Raises as `plan_workers`."""
    device, workers = asked.device, asked.workers
    cpus_per_trial, gpus_per_trial = asked.cpus_per_trial, asked.gpus_per_trial
    if device == "cpu" or gpus_per_trial == 0:
        return WorkerPlan(workers or most, cpus_per_trial, 0.0)
    found = _count_gpus() if all_gpus is None else all_gpus
    if found < (gpus_per_trial or (device == "cuda")):
        count = f"{found or 'no'} GPU{'s' * (found > 1)}"
        raise _too_few_gpus(
            f"torch sees {count} on {place}" if all_gpus is None else f"{place} has {count}", gpus_per_trial
        )
    if found == 0:
        return WorkerPlan(workers or most, cpus_per_trial, 0.0)
    if gpus_per_trial is None:
        workers = workers or min(most, TRIALS_PER_GPU * found)
        return WorkerPlan(workers, cpus_per_trial, _even_share(workers, found), found)
    by_gpus = _capacity(found, gpus_per_trial)
    if workers is not None and workers > by_gpus:
        problem = f"must be at most {by_gpus}: {place} has {found} GPU{'s' * (found > 1)}, and each trial needs "
        problem += f"{gpus_per_trial:g} (execution.gpus_per_trial); got {workers}"
        raise SettingError("workers", problem)
    return WorkerPlan(workers or min(most, by_gpus), cpus_per_trial, gpus_per_trial, found)


def _too_few_gpus(found: str, gpus_per_trial: float | None) -> ResourceError:
    if gpus_per_trial is None:
        return ResourceError(f"execution.device is cuda, but {found}: set execution.device to cpu or auto.")
    return ResourceError(
        f"a trial needs {gpus_per_trial:g} GPU{'s' * (gpus_per_trial > 1)} (execution.gpus_per_trial), but {found}: "
        "set it to null, or to 0 for the CPU."
    )


def _even_share(workers: int, gpus: int) -> float:
    """Return the GPUs of a trial if `workers` trials share `gpus` GPUs and none spans two; rounded down to Ray's unit.

    >>> _even_share(8, 1), _even_share(3, 2), _even_share(3, 1), _even_share(1, 4)
    (0.125, 0.5, 0.3333, 1.0)
    """
    per_gpu = math.ceil(workers / gpus)
    return (SHARES // per_gpu) / SHARES


def _capacity(gpus: int, share: float) -> int:
    """Return the number of trials at a time on `gpus` GPUs if each needs `share`; a share never spans two GPUs.

    >>> _capacity(2, 0.4), _capacity(1, 0.25), _capacity(4, 2), _capacity(1, 0.3333)
    (4, 4, 2, 3)
    """
    return gpus * int(1 / share + 1e-9) if share <= 1 else int(gpus // share)


def _count_gpus() -> int:
    # device files of NVIDIA, of NVIDIA in WSL, of AMD: if there are none, the import of torch can wait
    if sys.platform == "linux" and not any(Path("/dev", name).exists() for name in ("nvidiactl", "dxg", "kfd")):
        return 0
    import torch  # takes seconds to load

    return torch.cuda.device_count()


MAX_IN_A_ROW = 3  # failures for one reason before a worker is replaced


class FailureStreak:
    """Number of failures in a row, for one reason, of the jobs of one worker."""

    def __init__(self) -> None:
        self._reason: Reason | None = None
        self._jobs: list[Key] = []

    def add(self, job: Job, evaluation: Evaluation) -> str | None:
        """Count an evaluation. Returns why the worker must be replaced; None if it need not be.

        A worker is replaced after three failures in a row for one reason. It is also replaced if the same job raises
        twice: the process may be broken, so that a second attempt in it says little about the network.
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
    """End this process, and write the reason into a file for the search."""
    file = _reason_file(job.weights_file)
    with suppress(OSError, NasxError):  # without the file, the attempt counts as failed
        prepare_directory(job, file)
        write_atomically(file, why.encode(), parents=False)
    os._exit(1)  # no cleanup: it may wait for a broken device forever


def why_ended(weights_file: Path) -> str | None:
    """Return why the worker of a job ended itself, and delete the file; None if it did not."""
    file = _reason_file(weights_file)
    try:
        why = read_bounded(file, MAX_REPORT).decode(errors="replace")
    except (FileNotFoundError, RunError):  # none, or not written by a worker
        return None
    remove_file(file)
    return why


def _reason_file(weights_file: Path) -> Path:
    return weights_file.with_suffix(".broken")
