"""Regularized evolution: mutate the best of a random sample and remove the oldest.

Source: Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019. With several
objectives, Tchebycheff decomposition with random weights per candidate combines the costs into one (Zhang and Li,
"MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition", 2007).
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import Field, SkipValidation

from nasx.algorithms.base import Algorithm, Lag, Proposal, Schedule
from nasx.algorithms.operators import mutate, uniform
from nasx.algorithms.retraining import Share
from nasx.config.settings import checked
from nasx.errors import SettingError
from nasx.protocols import Problem
from nasx.trial import Candidate


class RegularizedEvolution(Algorithm):
    """Aging evolution by mutation of one gene.

    Args:
        population_size: candidates in the population, and uniform draws before the first mutation.
        sample_size: candidates that compete to be the parent; None: a quarter of the population, as in the source.
        retraining: share of the trainings that re-train known networks, or "auto"; parents then compete by estimates.
        lag: candidate k depends on the results up to k - lag; None: grows with the workers.
        problem: gene sizes, objectives and seed, set by the search.
    """

    @checked
    def __init__(
        self,
        *,
        population_size: Annotated[int, Field(ge=4)] = 50,
        sample_size: Annotated[int, Field(ge=1)] | None = None,
        retraining: Share = 0.0,
        lag: Lag | None = None,
        problem: SkipValidation[Problem],
    ) -> None:
        sample_size = population_size // 4 if sample_size is None else sample_size
        if sample_size > population_size:
            raise SettingError("sample_size", f"must be at most population_size, {population_size}, got {sample_size}")
        super().__init__(Schedule.of("steady_state", lag, problem.workers, population_size), problem, retraining)
        self.population_size = population_size
        self.sample_size = sample_size
        self._living: deque[tuple[Candidate, tuple[float, ...]]] = deque(maxlen=population_size)

    def _propose(self, number: int, rng: Generator, changes: int) -> Proposal:
        if number < self.population_size or not self._living:
            return Proposal(uniform(self.gene_sizes, rng), "random")
        costs = np.array([self._estimate(candidate.genotype, costs) for candidate, costs in self._living])
        sample = rng.permutation(len(costs))[: self.sample_size]
        values = tchebycheff(costs, rng.dirichlet(np.ones(self.n_objectives)))
        parent, _ = self._living[int(sample[np.argmin(values[sample])])]
        return Proposal(mutate(parent.genotype, self.gene_sizes, changes, rng), "mutation", (parent.number,))

    def _absorb(self, candidate: Candidate, costs: tuple[float, ...] | None) -> None:
        if costs is not None:
            self._living.append((candidate, costs))  # a full deque drops the oldest


def tchebycheff(costs: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest weighted distance of each point from the ideal point, (n_points,).

    Objectives are scaled to [0, 1] over the points, so that one objective keeps their order. A hundredth of the sum is
    added, so that of two points with the same largest distance the one that dominates has the smaller value.

    Args:
        costs: (n_points, n_objectives).
        weights: (n_objectives,).

    >>> tchebycheff(np.array([[0.0, 4.0], [1.0, 0.0], [2.0, 0.0]]), np.array([0.4, 0.6])).round(3).tolist()
    [0.606, 0.202, 0.404]
    """
    low, extent = costs.min(axis=0), np.ptp(costs, axis=0)
    weighted = weights * (costs - low) / np.where(extent > 0, extent, 1.0)
    distances: NDArray[np.float64] = weighted.max(axis=1) + 0.01 * weighted.sum(axis=1)
    return distances
