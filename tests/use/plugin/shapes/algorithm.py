"""A search that asks for every genotype, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, product

from nasx.protocols import Problem
from nasx.trial import Candidate


class Sweep:
    """Every genotype in order; then from the beginning again."""

    def __init__(self, *, problem: Problem, backwards: bool = False) -> None:
        """`backwards`: the last genotype first."""
        self.genotypes = list(product(*map(range, problem.gene_sizes)))[:: -1 if backwards else 1]
        self.numbers = count()

    def ask(self) -> Candidate:
        number = next(self.numbers)
        return Candidate(number, self.genotypes[number % len(self.genotypes)], 0, "sweep")

    def tell(self, number: int, costs: Sequence[float] | None) -> None:
        """Nothing is learned from it."""
