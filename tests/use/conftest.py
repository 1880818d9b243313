"""One tiny run for all tests of what comes after a search."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from nasx.cli.options import front_trials
from nasx.config.compose import compose
from nasx.export.export import export
from nasx.export.source import find_source
from nasx.workflows import search as searching

OVERRIDES = [
    *("dataset.train_images=300", "dataset.test_images=100", "space.channels=2"),
    *("training.epochs=2", "training.batch_size=16", "training.precision=float32"),
    *("scorer.samples_per_class=4", "scorer.draws=2", "scorer.background=8"),
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
    config = compose("lines", [*OVERRIDES, f"runs_dir={run_dir.parent}"])
    searching.start(config, run_dir=run_dir)
    return run_dir


@pytest.fixture
def run_dir(searched, tmp_path) -> Path:
    """A copy of that run, to be written."""
    return Path(shutil.copytree(searched, tmp_path / "run"))


@pytest.fixture(scope="session")
def source(searched):
    """The best network of that run, with the weights of the search."""
    return find_source(searched, front_trials(searched)[0])


@pytest.fixture(scope="session")
def exported(source, tmp_path_factory):
    """From a format to the directory with that network in it; each is made once."""
    made: dict[str, Path] = {}

    def directory(format_name: str) -> Path:
        if format_name not in made:
            made[format_name] = tmp_path_factory.mktemp(format_name)
            export(source, format_name, made[format_name])
        return made[format_name]

    return directory
