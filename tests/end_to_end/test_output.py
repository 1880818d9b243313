"""Output that cannot be written: full disks, readers and terminals that are gone, closed streams, encodings."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.factories.black_box import nasx, search_lines
from tests.factories.every_command import LINES, run_line

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


class Broken(io.TextIOBase):
    """A stream of which every write fails."""

    encoding = "utf-8"

    def __init__(self, error: type[OSError] | OSError, terminal: bool = False) -> None:
        self.error, self.terminal = error, terminal

    def write(self, text: str) -> int:
        raise self.error

    def isatty(self) -> bool:
        return self.terminal


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return search_lines(tmp_path_factory.mktemp("output") / "runs" / "run")


QUICK = [
    *([name, "--help"] for name in LINES),
    ["--help"],
    ["--version"],
    ["config", "list"],
    ["config", "show", "digits"],
    ["config", "show", "digits", "--format", "json"],
    ["config", "show", "digits", "--plain"],
]


def test_every_command_has_a_line():
    from nasx.cli.main import COMMANDS

    assert set(LINES) == set(COMMANDS)


@pytest.mark.parametrize("words", QUICK, ids=" ".join)
def test_a_closed_reader_is_no_error(words, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(32, "Broken pipe")))

    assert nasx(*words) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(5, "Input/output error")], ids=str)
@pytest.mark.parametrize("words", QUICK[-6:], ids=" ".join)
def test_output_that_is_lost_is_one_line_and_status_2(words, error, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(error))

    assert nasx(*words) == 2

    err = capsys.readouterr().err
    assert err == f"nasx: the output cannot be written ({error.strerror}).\n"


@pytest.mark.parametrize("line", ["pareto --run-dir {run}", "runs show {run}", "runs --runs-dir {runs}"])
@pytest.mark.parametrize("error", [OSError(28, "No space"), BrokenPipeError(32, "Broken pipe")], ids=["full", "closed"])
def test_results_that_are_lost_are_reported_unless_the_reader_left(run, line, error, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(error))

    assert run_line(line, run=run, runs=run.parent) == (0 if error.errno == 32 else 2)
    assert ("cannot be written" in capsys.readouterr().err) == (error.errno != 32)


@pytest.mark.parametrize("terminal", [True, False], ids=["a terminal that is gone", "a full disk"])
def test_progress_that_cannot_be_written_never_ends_a_search(tmp_path, capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys, "stderr", Broken(OSError(5, "Input/output error"), terminal))

    search_lines(tmp_path / "run")

    assert "hypervolume" in capsys.readouterr().out


@pytest.mark.parametrize("terminal", [True, False], ids=["a terminal that is gone", "a full disk"])
def test_an_error_that_cannot_be_reported_is_its_status(monkeypatch, terminal):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Broken(OSError(5, "Input/output error"), terminal))

    assert nasx("nope") == 2
    assert nasx("pareto", "--run-dir", "/nowhere") == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_a_console_without_unicode_gets_replacements(run, encoding, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))

    for line in ("pareto --run-dir {run}", "runs show {run}", "config show digits"):
        assert run_line(line, run=run) == 0
    assert nasx("pareto", "--run-dir", "/日本 ± é") == 2

    sys.stderr.flush()
    assert b"does not exist" in sys.stderr.buffer.getvalue()


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = ["bash", "-c", f'nasx() {{ {sys.executable} -m nasx "$@"; }}; {line}; exit ${{PIPESTATUS[0]}}']
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("nasx --help | true", 0, ""),
        ("nasx config show digits | head -0", 0, ""),
        ("PYTHONIOENCODING=ascii nasx config list | head -1 > /dev/null", 0, ""),
        ("nasx config list >&-", 0, ""),
        ("nasx config list >&- 2>&-", 0, ""),
        ("nasx nope 2>&-", 2, ""),
        pytest.param("nasx --version > /dev/full", 2, "nasx: the output cannot be written", marks=needs_full),
        pytest.param("nasx config list > /dev/full 2> /dev/full", 2, "", marks=needs_full),
        pytest.param("nasx nope 2> /dev/full", 2, "", marks=needs_full),
    ],
)
def test_a_process_ends_quietly_whatever_its_streams_are(tmp_path, line, status, said):
    done = shell(line, tmp_path)

    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said)


def test_the_descriptor_of_a_closed_stdout_is_never_a_file_of_the_run(tmp_path):
    """Libraries write to descriptor 1 themselves, e.g. into run.db if that were its number."""
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import os, nasx.__main__\n"
        "nasx.__main__._open_standard_files()\n"
        "with open('first', 'w') as file:\n"
        "    file.write(f'{file.fileno()} ' + ' '.join(os.readlink(f'/proc/self/fd/{n}') for n in range(3)))\n"
    )

    shell(f"{sys.executable} probe.py <&- >&- 2>&-", tmp_path)

    number, *places = (tmp_path / "first").read_text().split()
    assert int(number) > 2
    assert places == ["/dev/null"] * 3
