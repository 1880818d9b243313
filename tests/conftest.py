"""Fixtures of all tests. Heavy packages are imported in the fixtures that need them."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import hypothesis
import pytest
from skips import Skips

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: tiny networks lose more to threads than they gain
# before Ray, which some tests import themselves; programs get it from `nasx.execution.ray`
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

# A shell that starts the tests in the background makes them, and every process that they start, ignore Ctrl-C
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) is signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)

# The time of an example depends on the load of the machine
hypothesis.settings.register_profile("nasx", deadline=None)
hypothesis.settings.load_profile("nasx")


def pytest_configure(config):
    if not hasattr(config, "workerinput"):  # workers of pytest-xdist report to the controller
        config.pluginmanager.register(Skips())


@pytest.fixture
def ray_folder():
    """Directory for Ray's files, of this test only. Its path is short, as it contains sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture
def deadline():
    """Fail a test that takes longer than two minutes, by an exception wherever it waits."""

    def stop(signum, frame):
        raise TimeoutError("the test takes longer than two minutes")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """Change to an empty directory, in which only the packaged configs are known."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- one tiny run, for tests of everything that follows a search


@pytest.fixture(scope="session")
def searched(tmp_path_factory) -> Path:
    """Directory of a run of five networks on the lines, to be read only."""
    from tests.factories.runs import search_lines

    return search_lines(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def run_dir(searched, tmp_path) -> Path:
    """Copy of that run, which a test may change."""
    return Path(shutil.copytree(searched, tmp_path / "run"))


@pytest.fixture(scope="session")
def searched_heads(tmp_path_factory):
    """Directory of a run of six heads on a tiny backbone, to be read only, and the cache of its features."""
    from tests.factories.heads import search_on_backbone, tiny_backbone

    folder = tmp_path_factory.mktemp("heads")
    with tiny_backbone(folder / "cache"):
        search_on_backbone(folder / "run")
    return folder / "run", folder / "cache"


@pytest.fixture
def heads_run(searched_heads, tmp_path):
    """Copy of that run, which a test may change; the tiny backbone is known, and its features are cached."""
    from tests.factories.heads import tiny_backbone

    run, cache = searched_heads
    with tiny_backbone(Path(shutil.copytree(cache, tmp_path / "cache"))):
        yield Path(shutil.copytree(run, tmp_path / "heads"))


@pytest.fixture(scope="session")
def source(searched):
    """Best network of that run, with the weights of the search."""
    from nasx.cli.options import front_trials
    from nasx.export.source import find_source

    return find_source(searched, front_trials(searched)[0])


@pytest.fixture(scope="session")
def exported(source, tmp_path_factory):
    """Function from a format to the directory with the exported network; each is written once."""
    from nasx.export.export import export

    made: dict[str, Path] = {}

    def directory(format_name: str) -> Path:
        if format_name not in made:
            made[format_name] = tmp_path_factory.mktemp(format_name)
            export(source, format_name, made[format_name])
        return made[format_name]

    return directory


# --- workers of Ray, and a serial search with the same results


@pytest.fixture(scope="module")
def workers():
    """Two workers; Ray is started once for all tests of a module."""
    from nasx.execution.ray import RayExecution

    execution = RayExecution(device="cpu", workers=2)
    with execution.started():
        execution._starting.result()  # Ray starts in the background
        yield execution


@pytest.fixture
def serial(tmp_path):
    """A search that evaluates one trial after the other, without any failure."""
    from tests.factories.searches import drive, make_loop, nsga2

    loop = make_loop(tmp_path / "serial", nsga2(), evaluations=12)
    drive(loop)
    return loop
