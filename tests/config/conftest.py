from pathlib import Path

import pytest


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty directory, in which only the packaged configs are known."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
