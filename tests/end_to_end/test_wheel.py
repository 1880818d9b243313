"""Contents of the built wheel: the package, the configs, the templates."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Wheel built from this checkout, unpacked as by pip."""
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = built.glob("nasx-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "site")
    return built / "site"


def nasx(installed: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "nasx", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_contains_every_config_and_every_file_of_the_package(installed):
    shipped = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}

    configs = {f"nasx/{path.relative_to(ROOT)}" for path in (ROOT / "configs").rglob("*.yaml")}
    package = {
        str(p.relative_to(ROOT)) for p in (ROOT / "nasx").rglob("*") if p.is_file() and "__pycache__" not in str(p)
    }
    assert configs | package <= shipped


def test_a_search_runs_from_the_wheel_in_an_empty_directory(installed, tmp_path):
    done = nasx(installed, tmp_path, "search", "--config", "lines.yaml", "algorithm.evaluations=3", "training.epochs=3")

    assert done.returncode == 0, done.stderr
    assert "trials: 3" in done.stdout
    assert (tmp_path / "runs/latest/run.db").is_file()
