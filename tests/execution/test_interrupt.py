"""Ctrl-C: once softly, twice at once, three times whatever happens."""

from __future__ import annotations

import signal
import threading

import pytest

from nasx.execution.interrupt import Interrupted, interruptible


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_without_a_soft_end_each_one_ends_the_block():
    with interruptible():
        for _ in range(3):
            with pytest.raises(Interrupted):
                ctrl_c()


def test_the_first_asks_for_a_soft_end_and_the_second_ends_the_block():
    asked = []
    with interruptible(lambda: asked.append(True)) as check:
        ctrl_c()
        check()
        assert asked == [True]
        with pytest.raises(Interrupted):
            ctrl_c()


def test_code_that_cannot_handle_exceptions_is_interrupted_where_it_checks():
    with interruptible(lambda: None, at_once=False) as check:
        ctrl_c()
        check()
        ctrl_c()
        with pytest.raises(Interrupted):
            check()
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()


def test_the_handler_of_before_is_restored():
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_handle_no_signals():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == [before]
