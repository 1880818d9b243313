"""Ctrl-C: finish what runs, or end now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Interrupted(BaseException):
    """Raised by Ctrl-C. No KeyboardInterrupt: Lightning handles that itself and ends the process."""


@contextmanager
def interruptible(stop: Callable[[], None] | None = None, *, at_once: bool = True) -> Iterator[Callable[[], None]]:
    """Handle Ctrl-C in the block, if this is the main thread; yield a function that raises `Interrupted` if it is due.

    Without `stop`, each Ctrl-C raises `Interrupted`. With it, the first calls `stop`, the second raises `Interrupted`,
    and the third raises KeyboardInterrupt at once.

    Args:
        stop: asks for a soft end, after what runs.
        at_once: raise `Interrupted` in the signal handler, out of any Python code. False: only in the function yielded,
            to be called several times a second. Ray's C code needs this: it cannot handle exceptions.
    """
    signals, due_at = 0, 1 if stop is None else 2

    def check() -> None:
        if signals >= due_at:
            raise Interrupted

    def interrupt(signum: int, frame: object) -> None:
        nonlocal signals
        signals += 1
        if stop is not None:
            stop()
            if signals > due_at:
                raise KeyboardInterrupt
        if at_once:
            check()

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
