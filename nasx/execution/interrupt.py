"""Signals that ask to end. Ctrl-C finishes the running trials, twice ends now; SIGTERM, SIGHUP and others end now.

To end now is an exception, `Interrupted`, so that jobs are taken back and files are removed on its way. If this takes
longer than `PATIENCE`, e.g. in a long call of C code, a thread does the most important and ends the process.
"""

from __future__ import annotations

import _thread  # the only public way to run a signal's handler in the main thread without the signal
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from nasx.escaping import printable

PATIENCE: Final = 3.5  # seconds to end after a signal
# besides Ctrl-C: of batch systems and containers, of a closed terminal, of Ctrl-\, of a limit of processor time; of
# batch systems that warn before they kill
_NAMES: Final = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGXCPU", "SIGUSR1", "SIGUSR2")
AT_ONCE: Final = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))


class Interrupted(BaseException):
    """Raised by a signal. No KeyboardInterrupt: Lightning handles that itself and ends the process."""

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def status(self) -> int:
        """Exit status of a process that ends by this signal."""
        return 128 + self.signum

    @property
    def message(self) -> str:
        """What happened and how to go on, in one line."""
        how = "interrupted" if self.signum == signal.SIGINT else f"ended by {self}"
        return f"nasx: {how}. {_state.advice}".rstrip()


@dataclass
class _Block:
    """A block of code in which signals are handled."""

    stop: Callable[[], None] | None  # asks for a soft end
    at_once: bool  # whether the handler raises
    handled: frozenset[int]  # signals


class _State:
    """Signals so far. Only the main thread enters blocks and handles signals."""

    def __init__(self) -> None:
        self.blocks: list[_Block] = []
        self.reset()

    def reset(self) -> None:
        self.received: Interrupted | None = None  # asked to end now
        self.presses = 0  # of Ctrl-C
        self.advice = ""
        self.last_steps: list[Callable[[], None]] = []
        self.impatient = threading.Event()  # ends the patience, too, if the process need not be ended
        self.is_last = False  # the process ends: its handlers stay as they are
        self.ending = threading.Lock()  # held by the thread that prints the last line and ends the process


_state = _State()


@contextmanager
def interruptible(stop: Callable[[], None] | None = None, *, at_once: bool = True) -> Iterator[Callable[[], None]]:
    """Handle signals in the block, if this is the main thread; yield a function that raises `Interrupted` if it is due.

    Signals that end now raise `Interrupted`, once. Ctrl-C does without `stop`; with it, the first calls `stop`, the
    second raises. A third Ctrl-C ends the patience. Blocks may be nested: the innermost one handles the signals. A
    signal that is ignored stays ignored, except Ctrl-C if there is `stop`: shells let background jobs ignore it.

    After the outermost block, the process ends by the signal as if nasx did not handle it, if nobody has caught
    `Interrupted`.

    Args:
        stop: asks for a soft end, after what runs.
        at_once: raise `Interrupted` in the signal handler, out of any Python code. False: only in the function yielded,
            to be called several times a second, and in blocks of `raising`. Ray's C code needs this, as it cannot
            handle exceptions; the journal's entries are consistent.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, *AT_ONCE)}
    before = {n: old for n, old in found.items() if old is not signal.SIG_IGN or (n == signal.SIGINT and stop)}
    if not _state.blocks:
        _state.reset()
    _state.blocks.append(_Block(stop, at_once, frozenset(before)))
    for number in before:
        signal.signal(number, _handle)
    try:
        yield _check
        _check()
    except BaseException as error:
        if (received := _state.received) is None:
            raise
        if len(_state.blocks) == 1:
            _restore(before)
            _as_before(received.signum)
        if isinstance(error, Interrupted):
            raise
        raise Interrupted(received.signum) from error  # other code has translated it
    finally:
        _state.blocks.pop()
        if not _state.is_last:
            _restore(before)
        if not _state.blocks:
            _state.impatient.set()
            _state.reset()


def _as_before(signum: int) -> None:
    """Handle a signal as if nasx did not handle it: Python raises KeyboardInterrupt or ends the process."""
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    signal.raise_signal(signum)


@contextmanager
def raising() -> Iterator[None]:
    """Raise `Interrupted` out of any Python code of the block, if the main thread handles signals."""
    if not _state.blocks or threading.current_thread() is not threading.main_thread():
        yield
        return
    block = _state.blocks[-1]
    before, block.at_once = block.at_once, True
    try:
        _check()
        yield
    finally:
        block.at_once = before


def retake() -> None:
    """Handle the signals of the innermost block again: Ray Tune ends softly on SIGUSR1, as if the search were done."""
    if _state.blocks and threading.current_thread() is threading.main_thread():
        for number in _state.blocks[-1].handled:
            if signal.getsignal(number) is not _handle:
                signal.signal(number, _handle)


def _restore(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _handle(signum: int, frame: object) -> None:
    block = _state.blocks[-1]
    if signum == signal.SIGINT:
        _state.presses += 1
        if block.stop and _state.presses == 1 and _state.received is None:
            block.stop()
            return
    if _state.received is not None:
        if _state.presses > 2:
            _state.impatient.set()
        return
    _state.received = Interrupted(signum)
    if block.stop:
        block.stop()
    threading.Thread(target=_end_after, args=(_state.impatient, _state.received), daemon=True).start()
    if block.at_once:
        _check()


def _check() -> None:
    if _state.received is not None:
        raise Interrupted(_state.received.signum)


def is_ending() -> bool:
    """Return whether a signal has asked to end now."""
    return _state.received is not None


def settle() -> None:
    """Note that the caller has caught `Interrupted` and goes on: the process need not end."""
    _state.received = None
    _state.impatient.set()
    _state.impatient = threading.Event()


def ignore_signals(exit_status: int | None = None) -> None:
    """Ignore signals until the outermost block ends; with a status, until the process ends with it, within `PATIENCE`.

    Args:
        exit_status: of the process, which is ending by an earlier signal; None: it goes on after the block.
    """
    for number in _state.blocks[-1].handled if _state.blocks else ():
        signal.signal(number, signal.SIG_IGN)
    if exit_status is not None:
        _state.is_last = True
        timer = threading.Timer(PATIENCE, os._exit, (exit_status,))  # e.g. if nobody reads the rest of its output
        timer.daemon = True
        timer.start()


def advise(how: str) -> None:
    """Set the sentence that says how to go on after a signal."""
    _state.advice = how


@contextmanager
def last_step(do: Callable[[], None]) -> Iterator[None]:
    """Call `do` in another thread if the process is ended during the block because its main thread does not end."""
    _state.last_steps.append(do)
    try:
        yield
    finally:
        with suppress(ValueError):
            _state.last_steps.remove(do)


def last_words(line: str) -> None:
    """Print the last line of this process, unless it has been printed; then wait for the end."""
    _state.ending.acquire()  # never released: the process ends
    _print(line)


def _end_after(over: threading.Event, interrupted: Interrupted) -> None:
    """End the process after `PATIENCE` or when `over` is set, unless the signal is settled before."""
    over.wait(PATIENCE)
    if _state.received is interrupted:
        _end(interrupted.message, interrupted.status)


@contextmanager
def end_within(seconds: float, due: Callable[[], str], status: int) -> Iterator[None]:
    """End the process with a status if the block does not end within `seconds` after `due` returns what has happened.

    The last line is that and how to go on.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if what := due():
                if not over.wait(seconds):
                    _end(f"nasx: {what} {_state.advice}".rstrip(), status)
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _end(line: str, status: int) -> None:
    """Do the last steps in this thread and end the process; nothing if another thread is ending it."""
    if _state.ending.acquire(blocking=False):
        for step in reversed(list(_state.last_steps)):
            with suppress(Exception):
                step()
        _print(line)
        os._exit(status)


def _print(line: str) -> None:
    with suppress(OSError):
        os.write(2, f"{printable(line)}\n".encode(errors="replace"))


@contextmanager
def relayed() -> Iterator[Callable[[], None]]:
    """Handle signals in spite of Ray, whose C++ code replaces the handlers of SIGTERM while it starts in a thread.

    In the block, until the function yielded is called, the signals are blocked and a thread relays them. Processes that
    are started meanwhile inherit the blocked signals; `nasx.execution.imports` unblocks them in workers.
    """
    ours = {n for n in AT_ONCE if _state.blocks and signal.getsignal(n) is _handle}
    if not ours or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    over = threading.Event()
    thread = threading.Thread(target=_relay, args=(ours, over), daemon=True)
    thread.start()

    def end() -> None:
        if over.is_set():
            return
        over.set()
        thread.join()
        for number in ours:
            signal.signal(number, _handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ours)

    try:
        yield end
    finally:
        end()


def _relay(signals: set[int], over: threading.Event) -> None:
    while not over.is_set():
        received = signal.sigtimedwait(signals, 0.05)
        # a call that is interrupted when its time is over returns any number (CPython 3.11)
        if received is not None and received.si_signo in signals:
            _thread.interrupt_main(signal.Signals(received.si_signo))
