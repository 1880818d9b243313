"""Synthetic space whose evaluation costs nothing, to measure the overhead of a search."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nasx.execution.budget import SearchLimits
from nasx.execution.loop import SearchLoop
from nasx.protocols import SearchAlgorithm
from nasx.runs.journal import Journal
from nasx.runs.rows import RunInfo
from nasx.trial import OBJECTIVES, Evaluation, Genotype, TrialStatus


class Space:
    """Space in which all genotypes are distinct networks."""

    name = "made_up"
    settings: Mapping[str, int] = {}

    def __init__(self, gene_sizes: tuple[int, ...]) -> None:
        self.gene_sizes = gene_sizes

    def canonical(self, genotype: Genotype) -> Genotype:
        return genotype

    def is_connected(self, genotype: Genotype) -> bool:
        return True

    def allele_names(self, gene: int) -> tuple[str, ...]:
        return tuple(f"allele {allele}" for allele in range(self.gene_sizes[gene]))

    def describe(self, genotype: Genotype) -> str:
        return "".join(map(str, genotype))

    def evaluate(self, genotype: Genotype) -> Evaluation:
        """Return two conflicting objectives: an error in [0.05, 0.95] and an introspectability in [0, 0.9]."""
        shares = np.array(genotype) / (np.array(self.gene_sizes) - 1)
        error = 0.95 - 0.9 * float(shares.mean())
        introspectability = 0.85 - 0.8 * float((shares[::2] ** 2).mean()) + 0.05 * float(genotype[0] == genotype[1])
        return Evaluation(TrialStatus.COMPLETE, metrics={"error": error, "introspectability": introspectability})


@contextmanager
def search_loop(space: Space, algorithm: SearchAlgorithm, evaluations: int, workers: int = 1) -> Iterator[SearchLoop]:
    """Open a search loop with a journal in a temporary directory.

    Args:
        space: the synthetic space.
        algorithm: a fresh algorithm.
        evaluations: budget of the search.
        workers: number recorded in the journal.
    """
    objectives = ("error", "introspectability")
    info = RunInfo("made_up", "2026-01-01T00:00:00+00:00", "", "", "", 0, objectives, 10, (), "", workers)
    with tempfile.TemporaryDirectory() as directory, Journal.create(Path(directory), info) as store:
        yield SearchLoop(
            run_dir=Path(directory),
            store=store,
            algorithm=algorithm,
            space=space,  # type: ignore[arg-type]
            objectives=[OBJECTIVES[name] for name in objectives],
            limits=SearchLimits(evaluations=evaluations),
        )
