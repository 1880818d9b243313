"""Workers of Ray, and a serial search with the same results."""

from __future__ import annotations

import pytest

from nasx.execution.ray import RayExecution
from tests.execution.searches import drive, make_loop, nsga2


@pytest.fixture(scope="module")
def workers():
    """Two workers; Ray is started once for all tests of a module."""
    execution = RayExecution(device="cpu", workers=2)
    with execution.started():
        yield execution


@pytest.fixture
def serial(tmp_path):
    """A search that evaluates one trial after the other, without any failure."""
    loop = make_loop(tmp_path / "serial", nsga2(), evaluations=12)
    drive(loop)
    return loop
