"""What Ray's workers import before there is anything to do: importing this module imports all that a variable names."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Final

from nasx.collector import uncollected

VARIABLE: Final = "NASX_WORKER_IMPORTS"  # modules, with commas between them

with uncollected():
    for _name in filter(None, os.environ.get(VARIABLE, "").split(",")):
        import_module(_name)
