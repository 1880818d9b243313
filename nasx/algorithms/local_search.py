"""Pareto local search: propose neighbors of the front; restart from a uniform draw when all of them are known.

Source: Paquete, Chiarandini and Stützle, "Pareto local optimum sets in the biobjective traveling salesman problem",
2004. On small cell spaces a simple local search is a strong baseline: White et al., "Exploring the loss landscape in
neural architecture search", UAI 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.random import Generator
from pydantic import Field, SkipValidation

from nasx import pareto
from nasx.algorithms.base import Algorithm, Lag, Proposal, Schedule
from nasx.algorithms.operators import uniform
from nasx.algorithms.retraining import Share
from nasx.algorithms.surrogate import MAX_NETWORKS
from nasx.config.settings import checked
from nasx.protocols import Problem
from nasx.trial import Candidate, Genotype


class LocalSearch(Algorithm):
    """Local search: propose unknown networks that differ in one gene from a random member of the front.

    Args:
        initial_samples: uniform draws before the first neighbor.
        retraining: share of the trainings that re-train known networks, or "auto"; the front is then that of the
            estimates.
        lag: candidate k depends on the results up to k - lag; None: grows with the workers.
        problem: gene sizes, objectives and seed, set by the search.
    """

    @checked
    def __init__(
        self,
        *,
        initial_samples: Annotated[int, Field(ge=1)] = 10,
        retraining: Share = 0.0,
        lag: Lag | None = None,
        problem: SkipValidation[Problem],
    ) -> None:
        super().__init__(Schedule.of("steady_state", lag, problem.workers), problem, retraining)
        self.initial_samples = initial_samples
        self._members: list[tuple[Candidate, tuple[float, ...]]] = []  # the front; with re-training, others too
        self._front: list[Candidate] = []  # by the estimates after `_estimated_at` results
        self._estimated_at = 0
        self._explored: set[int] = set()  # numbers of candidates without unknown neighbors

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        if self._estimated_at != self._n_absorbed:
            self._front, self._estimated_at = self._estimated_front(), self._n_absorbed
        if number >= self.initial_samples:
            # permute explored members too: a resumed search has no `_explored` and must draw the same order
            for i in rng.permutation(len(self._front)).tolist():
                center = self._front[i]
                if center.number in self._explored:
                    continue
                unknown = [g for g in neighbors(center.genotype, self.gene_sizes) if self._is_new(g)]
                if unknown:  # "neighbour" is the name in stored runs
                    return Proposal(unknown[int(rng.integers(len(unknown)))], "neighbour", (center.number,))
                self._explored.add(center.number)
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
    """Return the members that no other dominates, in their order."""
    if not members:
        return []
    keep = pareto.front_mask(np.array([costs for _, costs in members]))
    return [member for member, stays in zip(members, keep, strict=True) if stays]


def neighbors(genotype: Genotype, sizes: tuple[int, ...]) -> Iterator[Genotype]:
    """Yield all genotypes that differ in exactly one gene.

    >>> list(neighbors((0, 1), (2, 3)))
    [(1, 1), (0, 0), (0, 2)]
    """
    for gene, size in enumerate(sizes):
        for allele in range(size):
            if allele != genotype[gene]:
                yield (*genotype[:gene], allele, *genotype[gene + 1 :])
