"""Regularized evolution: selection of parents and removal of the oldest."""

from __future__ import annotations

import numpy as np
import pytest

from nasx.algorithms.regularized_evolution import RegularizedEvolution, tchebycheff
from nasx.protocols import Problem

PROBLEM = Problem(gene_sizes=(50,) * 4, n_objectives=1, seed=0)


def run(algorithm, n, answer):
    asked = []
    for _ in range(n):
        asked.append(algorithm.ask())
        algorithm.tell(asked[-1].number, answer(asked[-1]))
    return asked


def test_with_one_objective_and_a_full_sample_the_best_living_is_always_the_parent():
    algorithm = RegularizedEvolution(population_size=6, sample_size=6, problem=PROBLEM)
    asked = run(algorithm, 40, lambda c: (float(c.genotype[0]),))
    for child in asked[6:]:
        living = asked[child.number - 6 : child.number]
        (parent,) = child.parents
        assert asked[parent].genotype[0] == min(c.genotype[0] for c in living)


def test_the_oldest_are_removed_even_if_they_are_the_best():
    algorithm = RegularizedEvolution(population_size=6, sample_size=6, problem=PROBLEM)
    asked = run(algorithm, 40, lambda c: (float(c.number),))  # the first is the best of all
    assert all(child.parents == (child.number - 6,) for child in asked[6:])


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_decomposition_never_prefers_a_dominated_point(n_objectives):
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs = rng.random((5, n_objectives))
        costs[1] = costs[0] + 0.1
        values = tchebycheff(costs, rng.dirichlet(np.ones(n_objectives)))
        assert values[0] < values[1]


def test_by_default_a_quarter_of_the_population_competes():
    assert RegularizedEvolution(population_size=50, problem=PROBLEM).sample_size == 12
    assert RegularizedEvolution(population_size=6, sample_size=6, problem=PROBLEM).sample_size == 6


def test_the_first_population_is_drawn_at_random_even_if_some_of_it_has_been_trained():
    algorithm = RegularizedEvolution(population_size=6, problem=PROBLEM, lag=1)
    origins = []
    for _ in range(9):
        candidate = algorithm.ask()
        origins.append(candidate.operator)
        algorithm.tell(candidate.number, (sum(candidate.genotype),))

    assert origins == ["random"] * 6 + ["mutation"] * 3
