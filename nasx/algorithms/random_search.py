"""Random search without repeats: the baseline that every other algorithm must beat."""

from __future__ import annotations

from numpy.random import Generator

from nasx.algorithms.base import Algorithm, Proposal, Schedule
from nasx.algorithms.operators import uniform
from nasx.protocols import Problem
from nasx.trial import Candidate


class RandomSearch(Algorithm):
    """Every candidate is drawn uniformly; one that is known or disconnected is drawn again. It never waits."""

    def __init__(self, *, problem: Problem) -> None:
        super().__init__(Schedule("generational"), problem)  # one without end, whose answers nobody waits for

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        return Proposal(uniform(self.gene_sizes, rng), "random")

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        """Nothing is learned."""
