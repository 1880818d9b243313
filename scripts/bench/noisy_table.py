"""Noisy results as a table for nasx's own commands, and quality of the front of such a search.

    python -m scripts.bench.noisy_search --problem cifar10 --write-table noisy.csv --replicates 32 --seed 1000
    nasx search --config nats_bench.yaml --run-dir RUN evaluation.table=noisy.csv algorithm.evaluations=256 \\
        evaluation.architecture=architecture evaluation.replicate=replicate \\
        'objectives=[error,introspectability]' 'evaluation.metrics.error={column:error,factor:1,offset:0}' \\
        '+evaluation.metrics.introspectability={column:introspectability,factor:1,offset:0}'
    nasx pareto RUN --format json > front.json
    python -m scripts.bench.noisy_search --problem cifar10 --measure-front front.json

A row is a training. The costs are mapped to their metrics' ranges: from REACH standard deviations of the noise below
the smallest true cost to as many above the largest.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasx.trial import arch_id
from scripts.bench.noisy_problem import SPACE, Figures, NoisyProblem

REACH = 6.0
HEIGHT = 2.0  # upper end of introspectability


def write_table(problem: NoisyProblem, path: Path, replicates: int, search_seed: int) -> None:
    """Write one row for each network and replicate: architecture, replicate, error, introspectability.

    Args:
        problem: provides the costs.
        path: CSV file to write.
        replicates: trainings per network.
        search_seed: of the noise.
    """
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["architecture", "replicate", "error", "introspectability"])
        for network in problem.truth:
            for replicate in range(replicates):
                costs = problem.train(network, replicate, search_seed)
                assert costs is not None
                writer.writerow([SPACE.describe(network), replicate, *(f"{m:.9g}" for m in to_metrics(problem, costs))])


def bounds(problem: NoisyProblem) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the costs that are mapped to the ends of the metrics' ranges, each (2,)."""
    reach = REACH * np.array(problem.noise)
    return problem.costs.min(axis=0) - reach, problem.costs.max(axis=0) + reach


def to_metrics(problem: NoisyProblem, costs: tuple[float, float]) -> tuple[float, float]:
    """Map costs to an error in [0, 1] and an introspectability in [0, 2], of which larger is better."""
    low, high = bounds(problem)
    error, second = ((np.array(costs) - low) / (high - low)).tolist()
    return error, HEIGHT * (1 - second)


def to_costs(problem: NoisyProblem, error: float, introspectability: float) -> tuple[float, float]:
    """Invert `to_metrics`."""
    low, high = bounds(problem)
    first, second = (low + (high - low) * np.array([error, 1 - introspectability / HEIGHT])).tolist()
    return first, second


def measure_front(problem: NoisyProblem, path: Path) -> Figures:
    """Measure the front of `nasx pareto --format json`, of a search of space nb201 with its default settings."""
    networks = {arch_id(SPACE.name, SPACE.settings, network): network for network in problem.truth}
    front = json.loads(path.read_text())["front"]
    return problem.figures(
        [(networks[e["arch_id"]], to_costs(problem, e["error"], e["introspectability"])) for e in front]
    )
