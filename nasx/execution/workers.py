"""How many trials a machine runs at a time, and what each of them gets."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from nasx.errors import ResourceError, SettingError

GPU_SHARE = 0.25  # of a GPU a trial: small networks leave most of a GPU idle


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of a search and the resources of each."""

    workers: int
    cpus: int  # cores, and threads
    gpus: float  # may be a fraction; 0 on the CPU


def plan_workers(
    device: str, *, workers: int | None = None, cpus_per_trial: int = 1, gpus_per_trial: float | None = None
) -> WorkerPlan:
    """The workers that fill this machine, or the number asked for.

    Raises SettingError where a setting is out of range, ResourceError where the GPU that is asked for is missing.
    """
    if workers is not None and workers < 1:
        raise SettingError("workers", f"must be at least 1, got {workers}")
    if cpus_per_trial < 1:
        raise SettingError("cpus_per_trial", f"must be at least 1, got {cpus_per_trial}")
    if gpus_per_trial is not None and gpus_per_trial < 0:
        raise SettingError("gpus_per_trial", f"must be at least 0, got {gpus_per_trial}")
    n_gpus = _count_gpus() if device != "cpu" else 0
    if device == "cuda" and n_gpus == 0:
        raise ResourceError("execution.device is cuda, but torch sees no GPU: say execution.device=cpu, or auto.")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    fits = max(1, cores // cpus_per_trial)
    if n_gpus == 0:
        return WorkerPlan(workers or fits, cpus_per_trial, 0.0)
    share = GPU_SHARE if gpus_per_trial is None else gpus_per_trial
    on_gpus = int(n_gpus / share) if share else fits
    return WorkerPlan(workers or max(1, min(fits, on_gpus)), cpus_per_trial, share)


def _count_gpus() -> int:
    # of NVIDIA on Linux, of NVIDIA on Windows' Linux, of AMD: without any, torch's seconds of import can come later
    if sys.platform == "linux" and not any(Path("/dev", name).exists() for name in ("nvidiactl", "dxg", "kfd")):
        return 0
    import torch

    return torch.cuda.device_count()
