"""Line coverage of each test: a pytest plugin that measures it, and a cache of its results per file of tests.

Lines that a fixture executes count for every test that uses the fixture, so that a fixture of the session is no gap.
Programs that a test starts are measured, too, if they end normally.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import coverage
import pytest

TEST = "MUTANTS_TEST"  # variable: the running test, for the programs that it starts
OUTPUT = "MUTANTS_COVERAGE"  # variable: JSON file for the result of a session
PACKAGE = "MUTANTS_PACKAGE"  # variable: directory of the measured package
LEFT_OUT = ("tests/bench", "tests/scripts", "tests/test_wording.py", "tests/test_readme.py", "tests/old_runs")

Lines = dict[str, list[int]]  # module -> lines
Tests = dict[str, dict[str, Any]]  # test -> its seconds and its lines


class LinesOfTests:
    """Plugin that records the seconds and the lines of every test that passes."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.fixtures: dict[str, set[str]] = {}  # test -> contexts of its fixtures
        self.seconds: dict[str, float] = defaultdict(float)
        self.bad: set[str] = set()
        package, settings = os.environ[PACKAGE], output.with_suffix(".cfg")
        settings.write_text(
            f"[run]\nsource = {package}\nparallel = true\ndata_file = {output}.data\n"
            f"context = ${{{TEST}-}}\ndisable_warnings = no-data-collected,module-not-measured\n"
        )
        self.coverage = coverage.Coverage(
            data_file=f"{output}.data", data_suffix="main", source=[package], config_file=False
        )
        self.coverage.start()
        os.environ["COVERAGE_PROCESS_START"] = str(settings)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._switch(nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Iterator[Any]:
        if fixturedef.scope == "function":
            return (yield)
        before = os.environ[TEST]
        self._switch(f"fixture {fixturedef.baseid} {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self._switch(before)

    def _switch(self, context: str) -> None:
        os.environ[TEST] = context
        self.coverage.switch_context(context)

    def pytest_runtest_setup(self, item: Any) -> None:
        definitions = getattr(item, "_fixtureinfo", None)
        known = definitions.name2fixturedefs if definitions else {}
        self.fixtures[item.nodeid] = {f"fixture {d.baseid} {d.argname}" for found in known.values() for d in found}

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration if report.when != "teardown" else 0
        if not report.passed:  # tests that fail or are skipped cannot notice anything
            self.bad.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self.coverage.stop()
        self.coverage.save()
        self.coverage.combine([str(self.output.parent)], keep=False)
        data, found = self.coverage.get_data(), defaultdict(lambda: defaultdict(list))
        for file in data.measured_files():
            module = os.path.relpath(file)
            for line, contexts in data.contexts_by_lineno(file).items():
                for context in contexts:
                    found[context][module].append(line)
        tests = {
            test: {
                "seconds": round(seconds, 3),
                "lines": _union([found[test], *(found[f] for f in self.fixtures.get(test, ()))]),
            }
            for test, seconds in self.seconds.items()
            if test not in self.bad
        }
        self.output.write_text(json.dumps({"tests": tests, "bad": sorted(self.bad)}))


def pytest_configure(config: Any) -> None:
    config.pluginmanager.register(LinesOfTests(Path(os.environ[OUTPUT])))


def _union(parts: Iterable[Lines]) -> Lines:
    lines: dict[str, set[int]] = defaultdict(set)
    for part in parts:
        for module, own in part.items():
            lines[module].update(own)
    return {module: sorted(own) for module, own in lines.items()}


def lines_of_tests(tree: Path, package: str, cache: Path, *, jobs: int, say: Any = print) -> Tests:
    """Return the lines of every test of a tree; files of tests that have been measured before come from the cache.

    Args:
        tree: directory with the package and its tests.
        package: directory in the tree whose lines and doctests count.
        cache: directory with one file of results per file of tests.
        jobs: processes at a time.
        say: receives one line of progress.
    """
    shared = [*(tree / package).rglob("*.py"), *(tree / "tests" / "factories").rglob("*.py")]
    shared += (tree / "tests").rglob("conftest.py")
    common = _digest(tree, sorted(shared))
    files = sorted((tree / "tests").rglob("test_*.py"))
    files += [file for file in sorted((tree / package).rglob("*.py")) if ">>> " in file.read_text()]
    names = [name for file in files if not (name := str(file.relative_to(tree))).startswith(LEFT_OUT)]
    cached = {name: cache / f"{_digest(tree, [tree / name], common)}.json" for name in names}
    missing = [name for name in names if not cached[name].is_file()]
    if missing:
        say(f"Measuring the lines of the tests of {len(missing)} files ...")
        cache.mkdir(parents=True, exist_ok=True)
        _measure(tree, package, missing, cached, jobs)
    tests: Tests = {}
    for name in names:
        tests |= json.loads(cached[name].read_text())
    if missing:
        _check_names(tree, list(tests))
    return tests


def _digest(tree: Path, files: Iterable[Path], common: str = "") -> str:
    digest = hashlib.sha256(common.encode())
    for file in files:
        digest.update(f"{file.relative_to(tree)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:20]


def _measure(tree: Path, package: str, names: list[str], cached: dict[str, Path], jobs: int) -> None:
    """Run files of tests, a share of them in each process, and write their results into the cache."""
    plugin = Path(__file__).resolve()
    with contextlib.ExitStack() as stack:
        running = []
        for job in range(jobs):
            if not (own := names[job::jobs]):
                continue
            folder = stack.enter_context(_scratch())
            environment = {
                **os.environ,
                OUTPUT: str(folder / "lines.json"),
                PACKAGE: str(tree / package),
                "PYTHONPATH": f"{tree}{os.pathsep}{plugin.parent}",
            }
            command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", plugin.stem, *own]
            with (folder / "log").open("w") as log:
                process = subprocess.Popen(command, cwd=tree, env=environment, stdout=log, stderr=subprocess.STDOUT)
            running.append((own, folder, process))
        for own, folder, process in running:
            process.wait()
            if not (folder / "lines.json").is_file():
                raise RuntimeError("pytest did not end normally:\n" + (folder / "log").read_text()[-3000:])
            result = json.loads((folder / "lines.json").read_text())
            for test in result["bad"]:
                print(f"left out, as it fails or is skipped without any mutation: {test}", file=sys.stderr)
            for name in own:
                tests = {t: found for t, found in result["tests"].items() if t.partition("::")[0] == name}
                cached[name].write_text(json.dumps(tests))


def _check_names(tree: Path, tests: list[str]) -> None:
    """Raise RuntimeError if pytest cannot find a test by its name: each of its mutants would seem to be killed."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-q", "-n", "0", *tests]
    done = subprocess.run(
        command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError("pytest does not find every test:\n" + (done.stdout + done.stderr)[-3000:])


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        yield Path(folder)
