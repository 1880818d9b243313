"""Tabular problems: published error and number of parameters of every network of NAS-Bench-201, and the true front.

All encodings of a network have the accuracy published for its canonical encoding. A cell without a path from its input
to its output is not a network; its published accuracy is that of guessing.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.spaces.nb201 import NASBench201
from nasx.trial import Genotype

DATASETS = {  # name: column of the published table, classes
    "CIFAR-10": ("CIFAR10TestAccuracy200Epochs", 10),
    "CIFAR-100": ("CIFAR100TestAccuracy200Epochs", 100),
    "ImageNet-16-120": ("ImageNetTestAccuracy200Epochs", 120),
}
REFERENCE = (1.1, 1.1)  # in units of the true front's extent, from its ideal point


@dataclass(frozen=True, eq=False)
class TabularProblem:
    """Two costs for each genotype: error (share) and parameters."""

    name: str
    space: NASBench201
    costs: dict[Genotype, tuple[float, float]]

    @cached_property
    def front(self) -> NDArray[np.float64]:
        """Costs of the true front, (n, 2)."""
        points = np.unique(list(self.costs.values()), axis=0)
        return points[pareto.front_mask(points)]

    def shares(self, genotypes: list[Genotype]) -> NDArray[np.float64]:
        """Return the share of the true hypervolume after each of the evaluations, (n,)."""
        ideal, extent = self.front.min(axis=0), np.ptp(self.front, axis=0)
        whole = pareto.hypervolume((self.front - ideal) / extent, REFERENCE)
        points = (np.array([self.costs[genotype] for genotype in genotypes]) - ideal) / extent
        shares, best, share = np.empty(len(points)), np.empty((0, 2)), 0.0
        for i, point in enumerate(points):
            if not (best <= point).all(axis=1).any():  # the point joins the front of the evaluated networks
                best = np.vstack([best[(best < point).any(axis=1)], point])
                share = pareto.hypervolume(best, REFERENCE) / whole
            shares[i] = share
        return shares


def read(table: Path, dataset: str) -> TabularProblem:
    """Read the problem of one dataset from the published table: CSV with accuracies in percent and architectures."""
    space, (column, n_classes) = NASBench201(), DATASETS[dataset]
    with table.open(newline="") as file:
        errors = {space.parse(row["ArchitectureString"]): 1 - float(row[column]) / 100 for row in csv.DictReader(file)}
    costs = {
        genotype: (errors[space.canonical(genotype)], float(space.parameters(genotype, n_classes=n_classes)))
        for genotype in errors
    }
    return TabularProblem(dataset, space, costs)
