from pathlib import Path

import pytest


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory: only the packaged configs are known there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
