"""NVIDIA's Multi-Process Service: kernels of several trials run on a GPU at the same time.

Without it, processes that share a GPU take turns: four trainings at a time are no faster than one after another. An
error that breaks the GPU context of one process breaks those of all processes of the service; all of them are replaced.
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
# starts the service, and ends it when its input is closed: at the latest when this process ends, even if it is killed
SUPERVISOR: Final = f"{CONTROL} -d && echo started && read -r _; echo quit | {CONTROL}"
# initializes CUDA without torch, which takes seconds to load; exit status of cuInit, 0 for success
PROBE: Final = "import ctypes, sys; sys.exit(ctypes.CDLL('libcuda.so.1').cuInit(0))"


@contextmanager
def multi_process_service(folder: Path) -> Iterator[dict[str, str]]:
    """Run the service in the block. Yields the environment variables that processes need to use it.

    Args:
        folder: for its pipes and logs. Its path must be short, because it contains sockets.

    Raises:
        ResourceError: if the service does not start, or cannot use the GPU.
    """
    if shutil.which(CONTROL) is None:
        raise ResourceError(f"execution.mps needs {CONTROL} of NVIDIA's driver: set execution.mps=false.")
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
        start_new_session=True,  # Ctrl-C must not end the service before the search
    )
    assert supervisor.stdin is not None and supervisor.stdout is not None
    try:
        if not supervisor.stdout.readline():
            raise ResourceError(f"{CONTROL} did not start: set execution.mps=false.")
        probe = subprocess.run([sys.executable, "-c", PROBE], env=environment, capture_output=True, timeout=PATIENCE)
        if probe.returncode:
            raise ResourceError(
                f"NVIDIA's Multi-Process Service cannot use the GPU (cuInit returned {probe.returncode}): "
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
