"""What all tests share, and those that start a Ray cluster."""

from __future__ import annotations

import signal
import tempfile

import hypothesis
import pytest
from skips import Skips

collect_ignore_glob = ["*conftest.py"]  # they have no doctests, and modules of one name cannot be imported for them

# a shell that starts the tests in the background has them ignore Ctrl-C, and every process that they start
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# how long an example takes depends on what else the machine does
hypothesis.settings.register_profile("nasx", deadline=None)
hypothesis.settings.load_profile("nasx")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist report to the controller
        config.pluginmanager.register(Skips())


@pytest.fixture
def ray_folder():
    """Where Ray keeps its files: of this test alone, and short, for sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture
def deadline():
    """Fails a test that takes longer than two minutes, by an exception wherever it waits."""

    def stop(signum, frame):
        raise TimeoutError("the test takes longer than two minutes")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
