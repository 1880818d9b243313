"""Pauses Python's garbage collection during imports, which it slows down."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block nothing is collected; what is there at its end is never looked at again.

    Imports make a million objects that live as long as the process. To go through them again and again, as the
    collector does while they become more, takes a fifth of the time that torch, Lightning and Ray take to be imported.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
