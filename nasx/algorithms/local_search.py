"""Pareto local search: ask the neighbours of the front, and start anew where they are all known.

Source: Paquete, Chiarandini and Stützle, "Pareto local optimum sets in the biobjective traveling salesman problem",
2004. On small cell spaces a simple local search is a strong baseline: White et al., "Exploring the loss landscape in
neural architecture search", UAI 2021.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator

from nasx import pareto
from nasx.algorithms.base import (
    Algorithm,
    Proposal,
    Schedule,
    at_least,
)
from nasx.algorithms.operators import uniform
from nasx.algorithms.retraining import Share
from nasx.algorithms.surrogate import MAX_NETWORKS
from nasx.protocols import Problem
from nasx.trial import Candidate, Genotype


class LocalSearch(Algorithm):
    """Asks for unknown neighbours, one gene away, of a member of the front chosen at random.

    Args:
        initial_samples: uniform draws before the first neighbour.
        retraining: share of the trainings that re-train known networks, or "auto"; the front is then that of the
            estimates.
        lag: candidate k is chosen by the answers up to k - lag; None: grows as large as `workers` need.
    """

    def __init__(
        self,
        *,
        initial_samples: int = 10,
        retraining: Share = 0.0,
        lag: int | None = None,
        problem: Problem,
    ) -> None:
        at_least("initial_samples", initial_samples, 1)
        super().__init__(Schedule.of("steady_state", lag, problem.workers), problem, retraining)
        self.initial_samples = initial_samples
        self._members: list[tuple[Candidate, tuple[float, ...]]] = []  # the front, with re-training others as well
        self._front: list[Candidate] = []  # by the estimates after `_estimated_at` answers
        self._estimated_at = 0
        self._explored: set[int] = set()  # numbers of candidates all of whose neighbours are known

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        if self._estimated_at != self._n_absorbed:
            self._front, self._estimated_at = self._estimated_front(), self._n_absorbed
        if number >= self.initial_samples:
            # those explored take part, so that the choice is the same in a resumed search, which has explored nothing
            for i in rng.permutation(len(self._front)).tolist():
                centre = self._front[i]
                if centre.number in self._explored:
                    continue
                unknown = [g for g in neighbours(centre.genotype, self.gene_sizes) if self._is_new(g)]
                if unknown:
                    return Proposal(unknown[int(rng.integers(len(unknown)))], "neighbour", (centre.number,))
                self._explored.add(centre.number)
        return Proposal(uniform(self.gene_sizes, rng), "random")

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        if costs is None:
            return
        self._members.append((candidate, costs))
        if self.retraining == 0:
            self._members = on_front(self._members)
        elif len(self._members) >= 2 * MAX_NETWORKS:
            front = {member.number for member in self._estimated_front()}
            older, latest = self._members[:-MAX_NETWORKS], self._members[-MAX_NETWORKS:]
            self._members = [*(member for member in older if member[0].number in front), *latest]

    def _estimated_front(self) -> list[Candidate]:
        estimated = [(candidate, self._estimate(candidate.genotype, costs)) for candidate, costs in self._members]
        return [candidate for candidate, _ in on_front(estimated)]


def on_front(members: list[tuple[Candidate, tuple[float, ...]]]) -> list[tuple[Candidate, tuple[float, ...]]]:
    """Those that no other dominates, in their order."""
    if not members:
        return []
    keep = pareto.front_mask(np.array([costs for _, costs in members]))
    return [member for member, stays in zip(members, keep, strict=True) if stays]


def neighbours(genotype: Genotype, sizes: tuple[int, ...]) -> Iterator[Genotype]:
    """All genotypes that differ in exactly one gene.

    >>> list(neighbours((0, 1), (2, 3)))
    [(1, 1), (0, 0), (0, 2)]
    """
    for gene, size in enumerate(sizes):
        for allele in range(size):
            if allele != genotype[gene]:
                yield (*genotype[:gene], allele, *genotype[gene + 1 :])
