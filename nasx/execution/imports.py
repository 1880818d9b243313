"""Import heavy packages quickly: without garbage collection, and ahead of time in Ray's workers.

Ray's workers import this module before they get work. Two environment variables say what else they import, and where
they report that they are ready; without them importing this module does nothing.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

MODULES: Final = "NASX_WORKER_IMPORTS"  # variable: names of modules, separated by commas
READY: Final = "NASX_WORKERS_READY"  # variable: directory in which each worker creates a file when it is ready


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable garbage collection in the block, then freeze the surviving objects (`gc.freeze`).

    Imports create a million objects that live as long as the process. Collecting again and again among them takes a
    fifth of the time in which torch, Lightning and Ray are imported.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


if os.environ.get(READY):
    # blocked while the search starts Ray (`nasx.execution.interrupt.relayed`)
    _ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
try:
    with gc_paused() if os.environ.get(MODULES) else contextlib.nullcontext():
        for _name in filter(None, os.environ.get(MODULES, "").split(",")):
            import_module(_name)
finally:
    if _folder := os.environ.get(READY):
        with contextlib.suppress(OSError):  # the search may have ended and removed the directory
            Path(_folder, str(os.getpid())).touch()
