"""Definition of checks; as a program, runs the checks of one stage."""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

DEVICE = torch.device(os.environ.get("NASX_DEVICE", "cuda"))
IS_CUDA = DEVICE.type == "cuda"
BROKEN = 75  # exit status if the CUDA context is broken: the next check needs a new process
CHECKS: list[tuple[Callable[[], Any], bool]] = []  # (check of this stage, True if it needs CUDA)


@dataclass(frozen=True)
class Outcome:
    """Result of a check."""

    stage: str
    name: str
    state: str  # "begun", "ok", "skipped", "failed", "cut off"
    found: str = ""
    seconds: float = 0.0
    trace: str = ""


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    """Register a check: a function that returns its finding and raises if it fails."""
    CHECKS.append((function, False))
    return function


def cuda_check(function: Callable[[], Any]) -> Callable[[], Any]:
    """Register a check that needs a GPU."""
    CHECKS.append((function, True))
    return function


def read(record: Path) -> list[Outcome]:
    """Return the last outcome of each check, in order; a check that has only begun was cut off."""
    last: dict[tuple[str, str], Outcome] = {}
    for line in record.read_text().splitlines():
        outcome = Outcome(**json.loads(line))
        if outcome.state == "begun":
            outcome = Outcome(
                outcome.stage, outcome.name, "cut off", "the process ended, or the time limit was reached"
            )
        last[outcome.stage, outcome.name] = outcome
    return list(last.values())


def run(stage: str, record: Path) -> int:
    """Run the checks that have no outcome yet; return BROKEN if the CUDA context is broken."""

    def write(name: str, state: str, **more: Any) -> None:
        with record.open("a") as file:
            file.write(json.dumps(asdict(Outcome(stage, name, state, **more))) + "\n")

    only = os.environ.get("NASX_GPU_CHECK_ONLY", "").split()
    known = {outcome.name for outcome in read(record) if outcome.stage == stage}
    for function, needs_cuda in CHECKS:
        name = function.__name__
        if name in known or (only and name not in only):
            continue
        if needs_cuda and not IS_CUDA:
            write(name, "skipped", found="needs CUDA")
            continue
        write(name, "begun")
        started = time.perf_counter()
        try:
            found = function()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.synchronize()
            text = found if isinstance(found, str) else json.dumps(found)
            write(name, "ok", found=text if found is not None else "", seconds=time.perf_counter() - started)
        except Exception as error:
            traceback.print_exc()
            first = next(iter(str(error).strip().splitlines()), "")
            write(name, "failed", found=f"{type(error).__name__}: {first}"[:1000], trace=traceback.format_exc()[-4000:])
            if IS_CUDA and not _device_works():
                return BROKEN
        gc.collect()
        torch.cuda.empty_cache()  # no effect without a context
    return 0


def _device_works() -> bool:
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


if __name__ == "__main__":
    # import by the full name: checks register in that module, not in __main__
    checking = importlib.import_module("scripts.bench.gpu_check.checking")
    importlib.import_module(sys.argv[1])
    sys.exit(checking.run(sys.argv[1].rpartition(".")[2], Path(os.environ["NASX_GPU_CHECK_RECORD"])))
