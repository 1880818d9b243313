"""Random search without repeats: the baseline that every other algorithm must beat."""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator

from nasx.algorithms.base import Algorithm, Proposal, Schedule, always_connected, no_canonical_form
from nasx.algorithms.operators import uniform
from nasx.trial import Candidate, Genotype


class RandomSearch(Algorithm):
    """Every candidate is drawn uniformly; one that is known or disconnected is drawn again. It never waits."""

    def __init__(
        self,
        *,
        gene_sizes: tuple[int, ...],
        n_objectives: int,
        seed: int,
        key: Callable[[Genotype], Genotype] = no_canonical_form,
        is_connected: Callable[[Genotype], bool] = always_connected,
        workers: int = 1,
    ) -> None:
        super().__init__(
            Schedule("free_running"),
            gene_sizes=gene_sizes,
            n_objectives=n_objectives,
            seed=seed,
            key=key,
            is_connected=is_connected,
        )

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        return Proposal(uniform(self.gene_sizes, rng), "random")

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        """Nothing is learned."""
