"""One tiny run for all tests of what comes after a search."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from nasx import config as configs
from nasx import search as searching

OVERRIDES = [
    *("dataset.train_images=300", "dataset.test_images=100", "space.channels=2"),
    *("training.epochs=2", "training.batch_size=16", "training.precision=float32"),
    *("algorithm.population_size=4", "algorithm.evaluations=5", "execution.device=cpu"),
]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny networks lose more to the handing over than they gain from a second core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def searched(tmp_path_factory) -> Path:
    """A run of five networks on the lines: to be read, not written."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    config = configs.compose("lines", [*OVERRIDES, f"runs_dir={run_dir.parent}"])
    searching.start(config, run_dir=run_dir)
    return run_dir


@pytest.fixture
def run_dir(searched, tmp_path) -> Path:
    """A copy of that run, to be written."""
    return Path(shutil.copytree(searched, tmp_path / "run"))
