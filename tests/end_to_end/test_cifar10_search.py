"""Search on CIFAR-10's published files: it finishes, reports a front, and never opens the test split."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# the whole command, in a process that fails when it opens the test split
GUARDED = """
import sys
def guard(event, arguments):
    if event == "open" and "test_batch" in str(arguments[0]):
        raise AssertionError("the search opened the test split")
sys.addaudithook(guard)
from nasx.cli.main import main
sys.exit(main(sys.argv[1:]))
"""
REDUCED = [
    *("training.epochs=1", "algorithm.population_size=4", "algorithm.evaluations=8"),
    *("space.channels=4", "space.cells=1"),
]


def nasx(*arguments: str, cwd: Path, code: str = GUARDED) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def write_easy_cifar10(root: Path) -> None:
    """Write CIFAR-10's files, including the test split, with few images whose brightness depends on the class."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        labels = np.arange(60) % 10
        noise = rng.integers(0, 12, size=(60, 3072))
        pixels = (noise + 24 * labels[:, np.newaxis]).astype(np.uint8)
        batch = {b"labels": labels.tolist(), b"data": pixels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = [b"class %d" % c for c in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=2))


def test_a_reduced_search_reports_a_front_and_never_opens_the_test_split(tmp_path):
    write_easy_cifar10(tmp_path)
    search = ["search", "--config", "cifar10.yaml", f"dataset.root={tmp_path}", "execution=serial", *REDUCED]

    done = nasx(*search, "training.epochs=10", "training.batch_size=20", "algorithm.evaluations=4", cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    front = json.loads(nasx("pareto", "--format", "json", cwd=tmp_path).stdout)
    assert front["front"]
    assert sum(front["trials"].values()) == 4


def test_the_guard_of_the_test_above_detects_reading_the_test_split(tmp_path):
    write_easy_cifar10(tmp_path)
    reads_test = GUARDED.replace("sys.exit(main(sys.argv[1:]))", "CIFAR10(root='.').test()").replace(
        "from nasx.cli.main import main", "from nasx.data.cifar import CIFAR10"
    )

    assert "the search opened the test split" in nasx(cwd=tmp_path, code=reads_test).stderr


@pytest.mark.skipif("NASX_DATA" not in os.environ, reason="NASX_DATA, the folder of real data, is not set")
def test_a_reduced_search_on_the_real_cifar10_finishes_and_reports(tmp_path):
    root = os.environ["NASX_DATA"]
    search = ["search", "--config", "cifar10.yaml", f"dataset.root={root}", "split.train_images=2000", *REDUCED]

    done = nasx(*search, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    counts = json.loads(nasx("pareto", "--format", "json", cwd=tmp_path).stdout)["trials"]
    assert sum(counts.values()) == 8
