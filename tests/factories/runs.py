"""A tiny run on drawn lines, made by a real search."""

from __future__ import annotations

from pathlib import Path

from nasx.config.compose import compose
from nasx.workflows import search as searching

OVERRIDES = [
    *("dataset.train_images=300", "dataset.test_images=100", "space.channels=2"),
    *("training.epochs=2", "training.batch_size=16", "training.precision=float32"),
    *("scorer.samples_per_class=4", "scorer.draws=2", "scorer.background=8"),
    *("algorithm.population_size=4", "algorithm.evaluations=5", "execution.device=cpu"),
]


def search_lines(run_dir: Path) -> Path:
    """Search five networks into `run_dir`, and return it."""
    config = compose("lines", [*OVERRIDES, f"runs_dir={run_dir.parent}"])
    searching.start(config, run_dir=run_dir)
    return run_dir
