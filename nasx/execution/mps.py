"""NVIDIA's Multi-Process Service: the kernels of several trials run on a GPU at the same time.

Without it the processes that share a GPU take turns, and four trainings at a time are no faster than one after another.
An error that breaks the GPU context of one process breaks those of all processes of the service, which are replaced.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nasx.errors import ResourceError

CONTROL: Final = "nvidia-cuda-mps-control"
PATIENCE: Final = 30.0  # seconds for the service to start, to answer and to end
# starts the service, and ends it as soon as this process has ended, however that happens: then its input is closed
SUPERVISOR: Final = f"{CONTROL} -d && echo started && read -r _; echo quit | {CONTROL}"
# initializes CUDA without torch, which takes seconds to import; the status is that of cuInit, 0 for success
PROBE: Final = "import ctypes, sys; sys.exit(ctypes.CDLL('libcuda.so.1').cuInit(0))"


@contextmanager
def multi_process_service(folder: Path) -> Iterator[dict[str, str]]:
    """Start the service for the time of the block; yields the variables by which processes find it.

    Args:
        folder: for its pipes and logs; its path must be short, since sockets are in it.

    Raises:
        ResourceError: if it cannot be started, or the GPU cannot be used by it.
    """
    if shutil.which(CONTROL) is None:
        raise ResourceError(f"execution.mps needs {CONTROL}, a part of NVIDIA's driver: set execution.mps=false.")
    variables = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "pipe"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "log")}
    for directory in variables.values():
        Path(directory).mkdir(parents=True)
    environment = {**os.environ, **variables}
    supervisor = subprocess.Popen(
        ["sh", "-c", SUPERVISOR],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # Ctrl-C is for the search, which ends the service last
    )
    assert supervisor.stdin is not None and supervisor.stdout is not None
    try:
        if not supervisor.stdout.readline():
            raise ResourceError(f"{CONTROL} did not start: set execution.mps=false.")
        probe = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, timeout=PATIENCE)
        if probe.returncode:
            raise ResourceError(
                f"the GPU cannot be used by NVIDIA's Multi-Process Service (cuInit returned {probe.returncode}): "
                "set execution.mps=false."
            )
        yield variables
    finally:
        supervisor.stdin.close()
        try:
            supervisor.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            supervisor.kill()
        supervisor.stdout.close()
