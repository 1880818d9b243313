"""User package with components, installed by pip and used from a user config directory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nasx.cli.main import main
from nasx.reports.summary import summarize
from nasx.reports.tables import front_json
from nasx.runs.journal import Journal

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module")
def user(tmp_path_factory) -> Path:
    """Make a user directory with configs/; the package is installed elsewhere."""
    home = tmp_path_factory.mktemp("user")
    source = shutil.copytree(PLUGIN, home / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", home / "site", source], check=True)
    shutil.copytree(PLUGIN / "configs", home / "configs")
    shutil.rmtree(source)
    return home


@pytest.fixture(scope="module")
def front(user) -> dict:
    """Return the front of a search with only user components, in a separate process."""
    environment = {**os.environ, "PYTHONPATH": str(user / "site"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nasx", "search", "--config", "shapes.yaml"]
    done = subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Journal.open(user / "runs" / "latest", read_only=True) as journal:
        summary = summarize(journal.trials(), journal.info.objectives, n_classes=journal.info.n_classes)
    return json.loads(front_json(summary))


@pytest.fixture
def at_home(user, monkeypatch):
    """Change to the user directory and make the user package importable."""
    monkeypatch.chdir(user)
    monkeypatch.syspath_prepend(user / "site")
    yield user
    for name in [name for name in sys.modules if name.partition(".")[0] == "shapes"]:
        del sys.modules[name]


def test_a_search_runs_with_dataset_space_scorer_and_algorithm_of_the_user(front):
    assert front["trials"] == {"complete": 6}
    assert {member["architecture"] for member in front["front"]} <= {"1x2", "1x4", "2x2", "2x4", "3x2", "3x4"}
    assert all("introspectability_head_centroids" in member for member in front["front"])


def test_settings_of_user_components_are_checked(at_home, capsys):
    assert main(["search", "--config", "shapes.yaml", "dataset.images=3", "--dry-run"]) == 2

    assert capsys.readouterr().err == "nasx: dataset.images must be at least 30, got 3.\n"


def test_a_user_network_is_trained_and_exported(at_home, front, capsys):
    # the package is on PYTHONPATH, not installed: code of that kind must be trusted
    call = ["--arch-id", front["knee"], "--run-dir", "runs/latest", "--trust-code"]
    assert main(["train", *call, "training.epochs=4", "training.batch_size=16", "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["images"]["test"] == 80

    assert main(["export", *call, "--format", "safetensors", "--out", "model"]) == 2  # predict could not build it
    assert "may only name spaces of nasx: export the model as onnx" in capsys.readouterr().err
    assert main(["export", *call, "--format", "torch", "--out", "model"]) == 0

    assert "square, disc, cross" in (at_home / "model" / "README.md").read_text()
