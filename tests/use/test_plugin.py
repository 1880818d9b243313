"""A package of a user's own, installed by pip, used from a config directory of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


def nasx(user: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(user / "site"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nasx", *arguments]
    return subprocess.run(command, cwd=user, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def front(user) -> dict:
    """The front of a search by the user's own parts alone."""
    done = nasx(user, "search", "--config", "shapes.yaml")
    assert done.returncode == 0, done.stderr
    return json.loads(nasx(user, "pareto", "--format", "json").stdout)


def test_a_search_runs_on_the_users_own_dataset_space_scorer_and_algorithm(front):
    assert front["trials"] == {"complete": 6}
    assert {member["architecture"] for member in front["front"]} <= {"1x2", "1x4", "2x2", "2x4", "3x2", "3x4"}
    assert all("introspectability_head_centroids" in member for member in front["front"])


def test_the_users_settings_are_checked_as_ours_are(user):
    wrong = nasx(user, "search", "--config", "shapes.yaml", "dataset.images=3", "--dry-run")

    assert wrong.returncode == 2
    assert wrong.stderr == "nasx: dataset.images must be at least 30, got 3.\n"


def test_the_users_network_is_finally_trained_and_exported(user, front):
    call = ["--arch-id", front["knee"], "training.epochs=4", "training.batch_size=16"]
    trained = nasx(user, "train", *call, "--format=json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)[0]["images"]["test"] == 80

    exported = nasx(user, "export", "--arch-id", front["knee"], "--format", "safetensors", "--out", "model")

    assert exported.returncode == 0, exported.stderr
    assert "square, disc, cross" in (user / "model" / "README.md").read_text()
