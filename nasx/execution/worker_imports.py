"""What Ray's workers do before there is anything to do: importing this module imports all that a variable names."""

from __future__ import annotations

import contextlib
import os
from importlib import import_module
from pathlib import Path
from typing import Final

from nasx.execution.imports import uncollected

MODULES: Final = "NASX_WORKER_IMPORTS"  # variable: modules, with commas between them
READY: Final = "NASX_WORKERS_READY"  # variable: a folder where each worker leaves a file once it is done

try:
    with uncollected():
        for _name in filter(None, os.environ.get(MODULES, "").split(",")):
            import_module(_name)
finally:
    if _folder := os.environ.get(READY):
        with contextlib.suppress(OSError):  # the search may be over already, and its folder gone
            Path(_folder, str(os.getpid())).touch()
