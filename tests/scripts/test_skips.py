"""A skip that is not allowed fails the session in CI; elsewhere the groups that were skipped are named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
CONFTEST = """
from skips import Skips

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Skips())
"""
ONE = (
    "import pytest\n\ndef test_passes(): ...\n\n@pytest.mark.skipif(True, reason={reason!r})\ndef test_skipped(): ...\n"
)
MODULE = "import pytest\n\npytest.importorskip('no_such_package')\n"


def run(directory: Path, *, strict: bool, workers: int, **files: str) -> tuple[int, str]:
    (directory / "conftest.py").write_text(CONFTEST)
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "NASX_NO_"))}
    environment |= {"PYTHONPATH": str(TESTS)} | ({"NASX_NO_UNLISTED_SKIPS": "1"} if strict else {})
    command = [sys.executable, "-m", "pytest", "-q", f"-n{workers}", "-p", "no:cacheprovider", "--rootdir=."]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.mark.parametrize("workers", [0, 2])
def test_a_skip_that_is_not_allowed_fails_the_session(tmp_path, workers):
    status, out = run(tmp_path, strict=True, workers=workers, test_a=ONE.format(reason="it rains"), test_b=MODULE)

    assert status == 1
    assert "not allowed by tests/skips.py: it rains" in out
    assert "not allowed by tests/skips.py: could not import 'no_such_package'" in out


@pytest.mark.parametrize("workers", [0, 2])
def test_a_skip_that_is_allowed_does_not(tmp_path, workers):
    status, out = run(tmp_path, strict=True, workers=workers, test_a=ONE.format(reason="needs a GPU"))

    assert status == 0
    assert "not allowed" not in out


def test_without_the_variable_the_last_line_names_what_was_skipped(tmp_path):
    browser, other = ONE.format(reason="browser tests need Chromium"), ONE.format(reason="it rains")
    status, out = run(tmp_path, strict=False, workers=0, test_a=browser, test_b=other)

    assert status == 0
    (line,) = (line for line in out.splitlines() if line.startswith("Groups of tests that were skipped: "))
    assert line.startswith("Groups of tests that were skipped: browser. To run: apt-get install chromium")
