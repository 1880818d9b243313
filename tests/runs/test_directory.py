"""Run directories: naming, finding, locking, moving, pruning."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from filelock import FileLock

import nasx.export
from nasx.errors import ArchitectureError, RunError, SettingError
from nasx.runs import directory
from nasx.runs.check import check_run
from nasx.trial import resolve_arch_id

NOW = datetime(2026, 1, 2, 3, 4, 5)


def make_run(runs_dir: Path, name: str = "digits", now: datetime = NOW) -> Path:
    run_dir = directory.new_run_dir(runs_dir, name, now)
    (run_dir / directory.DATABASE).touch()
    directory.mark_latest(runs_dir, run_dir)
    return run_dir


def test_a_run_is_named_by_experiment_and_time(tmp_path: Path) -> None:
    assert directory.new_run_dir(tmp_path, "digits", NOW) == tmp_path / "digits" / "2026-01-02_03-04-05"


def test_two_runs_of_one_second_get_two_directories(tmp_path: Path) -> None:
    first, second, third = (directory.new_run_dir(tmp_path, "digits", NOW).name for _ in range(3))
    assert (first, second, third) == ("2026-01-02_03-04-05", "2026-01-02_03-04-05-2", "2026-01-02_03-04-05-3")


@pytest.mark.parametrize("name", ["", "a/b", "..", "latest"])
def test_a_name_that_cannot_name_a_directory_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="name must consist of letters"):
        directory.new_run_dir(tmp_path, name, NOW)


def test_latest_points_to_the_newest_run_even_when_all_are_moved(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    newest = make_run(tmp_path / "runs", "lines")
    assert directory.find_run(None, tmp_path / "runs") == newest
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert directory.find_run(None, tmp_path / "moved") == tmp_path / "moved" / "lines" / newest.name


def test_without_the_link_the_newest_timestamp_is_meant(tmp_path: Path) -> None:
    newest = make_run(tmp_path, "digits", datetime(2026, 5, 1))
    make_run(tmp_path, "lines", datetime(2026, 4, 1))
    (tmp_path / "latest").unlink()
    assert directory.find_run(None, tmp_path) == newest
    assert [p.parent.name for p in directory.list_runs(tmp_path)] == ["lines", "digits"]


def test_a_run_is_found_by_its_path_and_by_its_journal(tmp_path: Path) -> None:
    run_dir = make_run(tmp_path)
    assert directory.find_run(run_dir, tmp_path) == run_dir
    assert directory.find_run(run_dir / "run.db", tmp_path) == run_dir
    assert directory.find_run(tmp_path / "latest", tmp_path) == run_dir


HOLD = """
import pathlib, sys
from nasx.runs import directory
from nasx.runs.check import check_run
with directory.lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_search_in_one_directory_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=rf"in use by another search \(process {first.pid} on .*\)\. Wait"),
            directory.lock(tmp_path),
        ):
            pass
        first.kill()
    with directory.lock(tmp_path):  # the lock of a killed process is released
        assert (tmp_path / ".lock.holder").read_text().startswith(f'{{"pid": {os.getpid()}')


def test_a_file_system_without_locks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(self: FileLock, timeout: float) -> None:
        raise NotImplementedError

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(RunError, match="has no file locks: store runs on another one"), directory.lock(tmp_path):
        pass


def test_pruning_keeps_only_the_named_weights(tmp_path: Path) -> None:
    first, second = "a000000000", "b000000000"
    for arch_id, replicate in ((first, 0), (first, 1), (second, 0)):
        path = directory.weights_file(tmp_path, arch_id, replicate)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (directory.arch_dir(tmp_path, second) / "network.json").touch()
    assert directory.prune_weights(tmp_path, {(first, 1)}) == 2
    assert directory.prune_weights(tmp_path, {(first, 1)}) == 0
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == [f"archs/{first}/weights_1.safetensors", f"archs/{second}/network.json"]


IDS = ["3fa0c11d22", "3fb7000000", "77b0c11d22"]


def test_any_unambiguous_prefix_identifies_an_architecture() -> None:
    assert resolve_arch_id("7", IDS) == resolve_arch_id("77b0c11d22", IDS) == "77b0c11d22"


def test_an_ambiguous_prefix_lists_its_matches() -> None:
    with pytest.raises(
        ArchitectureError, match=r"'3f' matches 2 architectures: 3fa0c11d22, 3fb7000000\. Use more digits\."
    ):
        resolve_arch_id("3f", IDS)
    with pytest.raises(ArchitectureError, match=r"'' matches 20 architectures: 0, .* and 12 more\."):
        resolve_arch_id("", map(str, range(20)))


def test_an_unknown_prefix_suggests_the_nearest_id_or_the_command_that_lists_them() -> None:
    with pytest.raises(ArchitectureError, match=r"no architecture '77c0c' in this run\. Did you mean 77b0c\?"):
        resolve_arch_id("77c0c", IDS)
    with pytest.raises(ArchitectureError, match=r"no architecture 'x' in this run\. `nasx pareto` lists those"):
        resolve_arch_id("x", IDS)


def written_constants() -> str:
    """Return all string constants of the package except docstrings."""
    texts = []
    for module in Path(nasx.__file__).parent.rglob("*.py"):
        tree = ast.parse(module.read_text("utf-8"))
        docstrings = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        texts += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in docstrings]
    return "\n".join(text for text in texts if isinstance(text, str))


@pytest.mark.parametrize("module", [nasx.runs.directory, nasx.export])
def test_every_file_that_a_docstring_lists_is_named_in_the_code(module):
    listed = re.findall(r"^ {4,}([\w<>]+(?:\.\w+)?)/? {2,}", module.__doc__, re.MULTILINE)
    constants = written_constants()

    assert len(listed) >= 3
    for name in listed:
        assert all(part in constants for part in re.split(r"<\w+>", name)), name


def test_after_a_search_only_networks_with_files_have_a_directory(searched):
    kept = {arch_id for arch_id, _ in directory.kept_weights(searched)}

    assert {path.name for path in (searched / "archs").iterdir()} == kept
    assert len(kept) < 5


def test_every_file_of_a_search_is_in_the_documented_layout(searched):
    layout = directory.__doc__
    found = {path.relative_to(searched).name for path in searched.rglob("*") if path.is_file()}

    unknown = {re.sub(r"_\d+\.", "_<replicate>.", name) for name in found if not name.startswith(".")}
    assert {name for name in unknown if name not in layout} <= {"run.db-wal", "run.db-shm"}


def test_the_directory_of_a_network_is_removed_with_its_last_file(tmp_path):
    files = [directory.weights_file(tmp_path, "a" * 10, replicate) for replicate in (0, 1)]
    files[0].parent.mkdir(parents=True)
    for file in files:
        file.touch()

    directory.prune_weights(tmp_path, {("a" * 10, 0)})
    assert files[0].is_file()
    directory.prune_weights(tmp_path, ())
    assert not files[0].parent.exists()


def test_a_directory_that_a_search_removes_meanwhile_is_made_again(tmp_path, monkeypatch):
    made = []
    make = Path.mkdir

    def removed_once(self, *arguments, **settings):
        make(self, *arguments, **settings)
        made.append(self)
        if made.count(tmp_path / "archs/a") == 1 and self.name == "a":
            self.rmdir()

    monkeypatch.setattr(Path, "mkdir", removed_once)

    assert directory.make_directory(tmp_path, "archs", "a", "explanation").is_dir()


def test_empty_directories_of_older_runs_are_no_defect(run_dir):
    (run_dir / "archs/0123456789").mkdir()

    assert not check_run(run_dir).defects
    assert directory.kept_weights(run_dir)
