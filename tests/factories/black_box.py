"""`nasx` as a user sees it: commands, files and exit statuses only. These tests run on any version of nasx.

Imports nothing of nasx but its entry point, so that a test can be run on an older version to show that it fails there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# a search of a few seconds on drawn lines; every other setting can be added behind it
LINES = (
    *("--config=lines", "dataset.train_images=300", "dataset.test_images=100", "space.channels=2"),
    *("training.epochs=1", "training.batch_size=16", "training.precision=float32"),
    *("scorer.samples_per_class=4", "scorer.draws=2", "scorer.background=8"),
    *("algorithm.population_size=4", "algorithm.evaluations=4", "execution=serial"),
)


def nasx(*arguments: str | Path) -> int:
    """Run a command in this process and return its exit status."""
    from nasx.cli.main import main

    return main([str(argument) for argument in arguments])


def nasx_process(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None, timeout: float = 240
) -> subprocess.CompletedProcess[str]:
    """Run a command in its own process.

    Args:
        arguments: of the command.
        cwd: current directory.
        env: added to the environment of this process.
        timeout: seconds after which the process is killed.
    """
    return subprocess.run(
        [sys.executable, "-m", "nasx", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )


def search_lines(run_dir: Path, *overrides: str, config: Sequence[str] = LINES) -> Path:
    """Search four networks on drawn lines into `run_dir`, and return it."""
    assert nasx("search", *config, *overrides, "--run-dir", run_dir) == 0
    return run_dir
