"""A package of a user's own, installed by pip, used from a config directory of their own."""

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
    """A user's directory: configs/ of their own, and the package installed elsewhere."""
    home = tmp_path_factory.mktemp("user")
    source = shutil.copytree(PLUGIN, home / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--disable-pip-version-check", "--target", home / "site", source], check=True)
    shutil.copytree(PLUGIN / "configs", home / "configs")
    shutil.rmtree(source)
    return home


@pytest.fixture(scope="module")
def front(user) -> dict:
    """The front of a search by the user's own parts alone, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(user / "site"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nasx", "search", "--config", "shapes.yaml"]
    done = subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Journal.open(user / "runs" / "latest", read_only=True) as store:
        summary = summarize(store.trials(), store.info.objectives, n_classes=store.info.n_classes)
    return json.loads(front_json(summary))


@pytest.fixture
def at_home(user, monkeypatch):
    """In the user's directory, with their package."""
    monkeypatch.chdir(user)
    monkeypatch.syspath_prepend(user / "site")
    yield user
    for name in [name for name in sys.modules if name.partition(".")[0] == "shapes"]:
        del sys.modules[name]


def test_a_search_runs_on_the_users_own_dataset_space_scorer_and_algorithm(front):
    assert front["trials"] == {"complete": 6}
    assert {member["architecture"] for member in front["front"]} <= {"1x2", "1x4", "2x2", "2x4", "3x2", "3x4"}
    assert all("introspectability_head_centroids" in member for member in front["front"])


def test_the_users_settings_are_checked_as_ours_are(at_home, capsys):
    assert main(["search", "--config", "shapes.yaml", "dataset.images=3", "--dry-run"]) == 2

    assert capsys.readouterr().err == "nasx: dataset.images must be at least 30, got 3.\n"


def test_the_users_network_is_finally_trained_and_exported(at_home, front, capsys):
    call = ["--arch-id", front["knee"], "--run-dir", "runs/latest"]
    assert main(["train", *call, "training.epochs=4", "training.batch_size=16", "--format=json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["images"]["test"] == 80

    assert main(["export", *call, "--format", "safetensors", "--out", "model"]) == 0

    assert "square, disc, cross" in (at_home / "model" / "README.md").read_text()
