"""Wheels for a machine without a network, and the reduced wheel of Ray."""

from __future__ import annotations

import zipfile

import pytest

pytest.importorskip("packaging")

from scripts.bench.gpu_check.wheels import needed, slim


def test_indirect_dependencies_are_found():
    found = set(needed("nasx", "3.12"))
    assert {"deap", "ray", "omegaconf", "pydantic-core", "shap"} <= found
    assert "ruff" not in found  # from the extra for developers
    assert "tensorboardx" in found  # from ray[tune]
    assert set(needed("torch", "3.12")) < found


def test_a_slim_wheel_lacks_the_files_that_a_search_does_not_use(tmp_path):
    wheel = tmp_path / "ray-1.whl"
    record = ["ray/__init__.py,sha256=a,1", "ray/jars/ray.jar,sha256=b,1", "ray-1.dist-info/RECORD,,"]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("ray/__init__.py", "1")
        archive.writestr("ray/jars/ray.jar", "2" * 9999)
        archive.writestr("ray-1.dist-info/RECORD", "\n".join(record))

    slim(wheel)

    with zipfile.ZipFile(wheel) as archive:
        assert archive.namelist() == ["ray/__init__.py", "ray-1.dist-info/RECORD"]
        assert archive.read("ray-1.dist-info/RECORD").decode().splitlines() == [record[0], record[2]]
