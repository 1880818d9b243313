"""Facts about a machine that are needed to interpret its measurements."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
PACKAGES = ("torch", "pytorch-lightning", "ray", "optuna", "shap", "numpy")


def facts() -> dict[str, Any]:
    """Return processor, instruction sets, cores, threads, load, GPU, versions and date."""
    model, flags = processor()
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": model,
        "instructions": [flag for flag in FLAGS if flag in flags],
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],  # mean number of runnable processes in the last minute, before the benchmarks
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, frozenset[str]]:
    """Return name and instruction flags; no flags if the system has no such file."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), frozenset()
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    fields = {name.strip(): text.strip() for name, text in fields.items()}
    return fields.get("model name", platform.machine()), frozenset(fields.get("flags", "").split())


def describe(machine: dict[str, Any]) -> str:
    """Format the facts as one line."""
    instructions = ", ".join(machine["instructions"]) or "no vector instructions known"
    return (
        f"{machine['date'][:10]}, {machine['gpu'] or machine['processor']}, {machine['cores']} cores ({instructions}), "
        f"{machine['torch_threads']} torch thread(s), load {machine['load']:.1f}, Python {machine['python']}, "
        f"torch {machine['versions']['torch']}"
    )


def matmul_rate(dtype: torch.dtype, device: torch.device, size: int = 1024) -> float:
    """Return the FLOP/s of a square matrix product, the best of several, as the machine's peak rate."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    return 2 * size**3 / _fastest(lambda: a @ b, device)


def copy_bandwidth(device: torch.device, mebibytes: int) -> float:
    """Return the bytes/s, read and written, of a copy of that size."""
    source = torch.ones(mebibytes * 2**18, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: target.copy_(source), device)


def _fastest(work: Callable[[], object], device: torch.device, repeats: int = 9) -> float:
    """Return the seconds of the fastest of several calls."""

    def timed() -> float:
        _wait(device)
        started = time.perf_counter()
        work()
        _wait(device)
        return time.perf_counter() - started

    return min(timed() for _ in range(repeats))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
