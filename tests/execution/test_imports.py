"""The collector is away for as long as it is said to be, and what it missed it leaves alone."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from nasx.execution import imports
from nasx.execution.imports import gc_paused


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()


def test_nothing_is_collected_within_the_block_and_all_is_as_before_after_it():
    assert gc.isenabled()
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_before_stays_off():
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_an_error_in_the_block_brings_the_collector_back():
    with pytest.raises(RuntimeError), gc_paused():
        raise RuntimeError
    assert gc.isenabled()


def test_what_was_there_is_not_looked_at_again():
    before = gc.get_freeze_count()
    with gc_paused():
        kept = [[] for _ in range(1000)]
    assert gc.get_freeze_count() >= before + len(kept)


@pytest.mark.parametrize("named", ["", "colorsys,wave"])
def test_workers_import_what_the_variable_names(named):
    code = "import sys, nasx.execution.imports; print(*sorted({'colorsys', 'wave'} & sys.modules.keys()), sep=',')"
    environment = {**os.environ, imports.MODULES: named}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == named


def test_a_worker_says_when_it_is_done_even_where_an_import_fails(tmp_path):
    named = {imports.MODULES: "wave,no_such_module", imports.READY: str(tmp_path)}
    command = [sys.executable, "-c", "import nasx.execution.imports"]
    process = subprocess.Popen(command, env={**os.environ, **named}, stderr=subprocess.PIPE)
    _, said = process.communicate()
    assert b"no_such_module" in said
    assert [file.name for file in tmp_path.iterdir()] == [str(process.pid)]


def test_a_worker_that_is_done_after_the_search_complains_of_nothing(tmp_path):
    late = {**os.environ, imports.READY: str(tmp_path / "gone")}
    subprocess.run([sys.executable, "-c", "import nasx.execution.imports"], env=late, check=True)
