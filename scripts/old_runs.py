"""Create the runs, final trainings and exports of an earlier commit for tests/end_to_end/test_old_runs.py.

    python -m scripts.old_runs                      # of c8f4bd1, into tests/old_runs/c8f4bd1
    python -m scripts.old_runs --commit HEAD~5

The commit is checked out into a temporary git worktree and its `nasx` runs there, with the packages of this
environment. All files are created by its commands; an existing directory is replaced. It contains:

    finished/          a search that ended, its front fine-tuned, its best network finally trained
    interrupted/       another search (other data, another space and algorithm), stopped by Ctrl-C
    final_interrupted/ the final training of finished/ again, killed after some of its epochs
    exports/           a network of finished/ in every format of `nasx export`
    spaces/            weights of one network of every space that the searches above do not use
    components.yaml    every packaged choice of every config group, resolved: {group: {choice: settings}}
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from safetensors import safe_open

REPOSITORY = Path(__file__).parents[1]
FIXTURES = REPOSITORY / "tests/old_runs"
COMMIT = "c8f4bd1"

SMALL = (  # 240 training images, and networks of about a thousand parameters
    *("split.train_images=240", "split.validation_images=60"),
    *("training.batch_size=16", "training.precision=float32"),
    *("scorer.samples_per_class=4", "scorer.draws=2", "scorer.background=8"),
    *("execution=serial", "execution.device=cpu"),
)
FINISHED = (
    *("--config=lines.yaml", "name=finished", "dataset.train_images=300", "dataset.test_images=100"),
    *("space.channels=2", "training.epochs=3", "training.regulariser=0.1", "finetune_front=0.5"),
    *("algorithm.population_size=4", "algorithm.evaluations=6"),
)
INTERRUPTED = (
    *("--config=digits.yaml", "name=interrupted", "space=cell_yaml", "space.nodes=3", "space.channels=2"),
    *("space.cells=1", "training.epochs=2", "algorithm=regularized_evolution"),
    *("algorithm.population_size=4", "algorithm.evaluations=9"),
)
STOP_AFTER = 4  # trials of the search that is interrupted
EPOCHS = 30  # of a final training: long enough to be killed in the middle
FINAL = (f"training.epochs={EPOCHS}", "training.batch_size=16", "training.precision=float32")
SPACES = {  # spaces that the searches above do not use, with settings for small networks
    "nb201_xnas": ("space.channels=2", "space.cells=1"),
    "nb201_size": ("space.widths=[2,4]", "space.cells=1"),
    "nb201_joint": ("space.widths=[2,4]", "space.cells=1"),
    "chain": ("space.max_depth=2", "space.kernels=[1,3]", "space.widths=[2,4]", "space.channels=2"),
}
ONE_NETWORK = (
    *("--config=lines.yaml", "dataset.train_images=300", "dataset.test_images=100", "training.epochs=1"),
    *("algorithm=random", "algorithm.evaluations=4", "objectives=[error]"),
)
FORMATS = ("onnx", "torch", "safetensors")
NOT_NEEDED = ("log.txt", "README.md", ".lock", ".lock.holder", "*.db-shm", "*.db-wal")


@dataclass(frozen=True)
class OldNasx:
    """Runs the `nasx` of a worktree in a directory."""

    worktree: Path
    packages: Path  # link to the installed packages: exported programs contain the paths of their code
    directory: Path  # the current directory of every call

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command; its output is text in pipes."""
        path = os.pathsep.join(map(str, (self.worktree, self.packages)))
        environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, "-m", "nasx", *arguments],
            cwd=self.directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> str:
        """Run a command and return its stdout. Raises RuntimeError if it fails."""
        process = self.start(*arguments)
        out, err = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"nasx {' '.join(arguments)} ended with {process.returncode}: {err.strip()[-2000:]}")
        return out


def make(commit: str, out: Path) -> None:
    """Write the fixtures of a commit to `out`, which is replaced."""
    with _checked_out(commit) as worktree, tempfile.TemporaryDirectory(prefix="nasx-") as scratch:
        packages = worktree.parent / "lib"
        packages.symlink_to(sysconfig.get_path("purelib"))
        old = OldNasx(worktree, packages, Path(scratch))
        best = finished_search(old)
        final_trainings(old, best)
        interrupted_search(old)
        exports(old, best)
        weights_of_spaces(old)
        (old.directory / "components.yaml").write_text(yaml.safe_dump(components(old), sort_keys=True))
        shutil.rmtree(old.directory / "runs")  # contains only a link to the newest run
        for database in old.directory.rglob("run.db"):
            _merge_log(database)
        for name in NOT_NEEDED:
            for path in old.directory.rglob(name):
                path.unlink()
        _check_paths(old)
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(old.directory, out)


def finished_search(old: OldNasx) -> str:
    """Run a search to the end and return the id of the network with the smallest error."""
    old.run("search", *FINISHED, *SMALL, "--run-dir=finished")
    return _front(old, "finished")[0]


def final_trainings(old: OldNasx, arch_id: str) -> None:
    """Run a final training, and another one into final_interrupted/ that is killed."""
    call = ("train", "--run-dir=finished", f"--arch-id={arch_id}", *FINAL)
    old.run(*call)
    checkpoint = old.directory / "final_interrupted/checkpoint_0.safetensors"
    process = old.start(*call, "--out=final_interrupted")
    _wait_for(lambda: _epochs(checkpoint) >= 2, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if not 2 <= _epochs(checkpoint) < EPOCHS:
        raise RuntimeError("the final training ended before it was killed")


def interrupted_search(old: OldNasx) -> None:
    """Run a search, and interrupt it after some trials, as by Ctrl-C."""
    process = old.start("search", *INTERRUPTED, *SMALL, "--run-dir=interrupted")
    _wait_for(lambda: _n_trials(old.directory / "interrupted/run.db") >= STOP_AFTER, process)
    process.send_signal(signal.SIGINT)
    err = process.communicate()[1]
    if process.returncode != 130:
        raise RuntimeError(f"the search ended with {process.returncode}, not by Ctrl-C: {err.strip()[-2000:]}")


def exports(old: OldNasx, arch_id: str) -> None:
    """Export a network in every format, to exports/<format>."""
    for name in FORMATS:
        old.run("export", "--run-dir=finished", f"--arch-id={arch_id}", f"--format={name}", f"--out=exports/{name}")


def weights_of_spaces(old: OldNasx) -> None:
    """Export the weights of one network of every space, to spaces/<space>.safetensors."""
    (old.directory / "spaces").mkdir()
    for space, small in SPACES.items():
        run = f"run_{space}"
        old.run("search", *ONE_NETWORK, *SMALL, f"space={space}", *small, f"--run-dir={run}")
        (arch_id, *_) = _front(old, run)
        old.run("export", f"--run-dir={run}", f"--arch-id={arch_id}", "--format=safetensors", f"--out={run}/out")
        shutil.copy(old.directory / run / "out/model.safetensors", old.directory / f"spaces/{space}.safetensors")
        shutil.rmtree(old.directory / run)


def components(old: OldNasx) -> dict[str, dict[str, Any]]:
    """Return the settings of every packaged choice of every group; "???" marks a value that the user must set."""
    found: dict[str, dict[str, Any]] = {}
    for folder in sorted(path for path in (old.worktree / "configs").iterdir() if path.is_dir()):
        for file in sorted(folder.glob("*.yaml")):
            shown: Mapping[str, Any] = yaml.safe_load(old.run("config", "show", "lines", f"{folder.name}={file.stem}"))
            found.setdefault(folder.name, {})[file.stem] = shown[folder.name]
    return found


@contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    """Check out the commit into a temporary worktree."""
    with tempfile.TemporaryDirectory(prefix="nasx-") as scratch:
        worktree = Path(scratch) / "old"
        _git("worktree", "add", "--detach", str(worktree), commit)
        try:
            yield worktree
        finally:
            _git("worktree", "remove", "--force", str(worktree))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _front(old: OldNasx, run: str) -> list[str]:
    """Return the ids of the front, smallest error first."""
    front = json.loads(old.run("pareto", f"--run-dir={run}", "--format=json"))["front"]
    return [member["arch_id"] for member in sorted(front, key=lambda member: member["error"])]


def _n_trials(database: Path) -> int:
    if not database.is_file():
        return 0
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:  # the tables are not there yet
        return 0
    finally:
        connection.close()


def _merge_log(database: Path) -> None:
    """Move everything from SQLite's write-ahead log into the database itself."""
    connection = sqlite3.connect(database)
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    connection.close()
    if busy:
        raise RuntimeError(f"{database} is in use")


def _epochs(checkpoint: Path) -> int:
    """Return the number of epochs that a checkpoint records."""
    try:
        with safe_open(checkpoint, "pt") as opened:
            return len(json.loads(opened.metadata()["state"])["history"])
    except FileNotFoundError:  # not written yet, or removed because the training has ended
        return 0


def _wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Wait until the condition holds. Raises RuntimeError if the process ends before, or after the time limit."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the command ended or was too slow: {process.communicate()[1].strip()[-2000:]}")
        time.sleep(0.005)


def _check_paths(old: OldNasx) -> None:
    """Raise RuntimeError if a file contains a path of this machine.

    Exported programs may contain paths of the temporary directories: torch records the source lines of each node.
    """
    own = (Path(sys.prefix), REPOSITORY, Path.home())
    for file in sorted(path for path in old.directory.rglob("*") if path.is_file()):
        places = own if file.suffix in (".onnx", ".pt2") else (*own, old.worktree, old.directory)
        if found := re.search(b"|".join(re.escape(f"{place}/".encode()) for place in places), file.read_bytes()):
            raise RuntimeError(f"{file.relative_to(old.directory)} contains {found[0].decode()}")


def main(
    commit: Annotated[str, typer.Option(help="Commit of the nasx to run.")] = COMMIT,
    out: Annotated[Path | None, typer.Option(help="Directory; default: tests/old_runs/COMMIT.")] = None,
) -> None:
    """Create the fixtures of an earlier commit."""
    directory = out or FIXTURES / _git("rev-parse", "--short=7", commit)
    make(commit, directory)
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    typer.echo(f"{directory}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    typer.run(main)
