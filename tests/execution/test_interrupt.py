"""Signals that ask to end: Ctrl-C once softly, twice now; SIGTERM and others now."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading

import pytest

from nasx.execution import interrupt
from nasx.execution.interrupt import Interrupted, ignore_signals, interruptible, is_ending, raising, settle

SIGINT, SIGTERM, SIGHUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def test_without_a_soft_end_the_first_one_ends_the_block_and_the_next_do_not_disturb_the_cleanup():
    with interruptible():
        with pytest.raises(Interrupted):
            signal.raise_signal(SIGINT)
        signal.raise_signal(SIGINT)
        signal.raise_signal(SIGTERM)
        assert is_ending()
        settle()
        assert not is_ending()


def test_the_first_asks_for_a_soft_end_and_the_second_ends_the_block():
    asked = []
    with interruptible(lambda: asked.append(True)) as check:
        signal.raise_signal(SIGINT)
        check()
        assert asked == [True]
        with pytest.raises(Interrupted):
            signal.raise_signal(SIGINT)
        settle()


@pytest.mark.parametrize("number", [SIGTERM, SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2])
def test_other_signals_end_the_block_at_once(number):
    asked = []
    with interruptible(lambda: asked.append(True)):
        with pytest.raises(Interrupted) as raised:
            signal.raise_signal(number)
        assert asked == [True]
        assert raised.value.status == 128 + number
        settle()


def test_code_that_cannot_handle_exceptions_is_interrupted_where_it_checks():
    with interruptible(lambda: None, at_once=False) as check:
        signal.raise_signal(SIGTERM)
        with pytest.raises(Interrupted):
            check()
        settle()


def test_a_block_inside_may_be_interrupted_anywhere():
    with interruptible(lambda: None, at_once=False) as check:
        with pytest.raises(Interrupted), raising():
            signal.raise_signal(SIGTERM)
        settle()
        check()


def test_a_signal_that_other_code_has_swallowed_or_translated_ends_the_block_all_the_same():
    with interruptible():
        with pytest.raises(Interrupted), interruptible(), contextlib.suppress(BaseException):
            signal.raise_signal(SIGTERM)
        settle()
        with pytest.raises(Interrupted), interruptible():
            try:
                signal.raise_signal(SIGTERM)
            except BaseException as error:
                raise RuntimeError("translated") from error
        settle()


def test_after_the_outermost_block_a_signal_acts_as_before():
    received = []
    before = signal.signal(SIGTERM, lambda *_: received.append(True))
    try:
        with pytest.raises(Interrupted), interruptible():
            signal.raise_signal(SIGTERM)
        with pytest.raises(KeyboardInterrupt), interruptible():
            signal.raise_signal(SIGINT)
    finally:
        signal.signal(SIGTERM, before)
    assert received == [True]


def test_the_handlers_of_before_are_restored():
    before = [signal.getsignal(number) for number in (SIGINT, SIGTERM, SIGHUP)]
    with interruptible():
        assert signal.getsignal(SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (SIGINT, SIGTERM, SIGHUP)] == before


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(SIGHUP)
            assert not is_ending()
    finally:
        signal.signal(SIGHUP, before)


def test_other_threads_handle_no_signals():
    before = signal.getsignal(SIGINT)
    seen = []

    def work() -> None:
        with interruptible():
            seen.append(signal.getsignal(SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [before]


STUCK = """
import signal, threading, time
from nasx.execution import interrupt
interrupt.PATIENCE = {patience}
with interrupt.interruptible(at_once=False):
    interrupt.advise("Go on.")
    with interrupt.last_step(lambda: print("the last step", flush=True)):
        for _ in range({times}):
            signal.raise_signal({number})
        time.sleep(60)  # never checks
"""


@pytest.mark.parametrize(
    ("number", "times", "patience", "line"),
    [(SIGTERM, 1, 0.1, "nasx: ended by SIGTERM. Go on.\n"), (SIGINT, 3, 60, "nasx: interrupted. Go on.\n")],
)
def test_code_that_does_not_end_is_ended_in_time_or_by_the_third_ctrl_c(number, times, patience, line):
    code = STUCK.format(patience=patience, times=times, number=int(number))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)

    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "the last step\n", line)


def test_signals_are_ignored_when_the_end_is_near_and_handled_as_before_after_the_block():
    before = signal.getsignal(SIGTERM)
    with interruptible():
        with pytest.raises(Interrupted):
            signal.raise_signal(SIGTERM)
        ignore_signals()
        settle()
        signal.raise_signal(SIGTERM)
    assert signal.getsignal(SIGTERM) == before


def test_further_signals_do_not_change_the_status_of_a_process_that_ends():
    code = """
import os, signal
from nasx.execution.interrupt import Interrupted, ignore_signals, interruptible, settle
with interruptible():
    try:
        signal.raise_signal(signal.SIGTERM)
    except Interrupted as interrupted:
        ignore_signals(interrupted.status)
        settle()
        status = interrupted.status
signal.raise_signal(signal.SIGTERM)
os._exit(status)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 143


def test_a_process_that_cannot_write_its_last_output_ends_all_the_same():
    code = """
import signal, time
from nasx.execution import interrupt
interrupt.PATIENCE = 0.2
with interrupt.interruptible():
    try:
        signal.raise_signal(signal.SIGTERM)
    except interrupt.Interrupted as interrupted:
        interrupt.ignore_signals(interrupted.status)
        interrupt.settle()
        time.sleep(60)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 143


def test_a_relay_ignores_a_number_that_is_no_signal_of_its_own(monkeypatch):
    over, found = threading.Event(), [-1703483304, SIGTERM]

    def wait(signals, seconds):
        number = found.pop(0)
        over.set() if not found else None
        return type("Info", (), {"si_signo": number})

    relayed = []
    monkeypatch.setattr(interrupt.signal, "sigtimedwait", wait)
    monkeypatch.setattr(interrupt._thread, "interrupt_main", relayed.append)
    interrupt._relay({SIGTERM}, over)
    assert relayed == [SIGTERM]
