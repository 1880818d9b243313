"""Exhaustive search: proposes all genotypes in order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count, product

from nasx.protocols import Problem
from nasx.trial import Candidate


class Sweep:
    """Proposes all genotypes in order, then starts again."""

    def __init__(self, *, problem: Problem, backwards: bool = False) -> None:
        """`backwards`: start with the last genotype."""
        self.genotypes = list(product(*map(range, problem.gene_sizes)))[:: -1 if backwards else 1]
        self.numbers = count()

    def ask(self) -> Candidate:
        """Propose the next genotype."""
        number = next(self.numbers)
        return Candidate(number, self.genotypes[number % len(self.genotypes)], 0, "sweep")

    def tell(self, number: int, costs: Sequence[float] | None) -> None:
        """Ignore the costs."""
