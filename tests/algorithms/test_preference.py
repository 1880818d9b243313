"""A search with a preference concentrates on the part of the front near it."""

from __future__ import annotations

import numpy as np
import pytest

from nasx.algorithms.nsga2 import NSGA2, achievement, ranges
from nasx.protocols import Problem

SIZES = (8,) * 6


def costs(genotype):
    """A trade-off over the sum of alleles, 0 to 42, with a penalty for unequal ones; the second is maximized."""
    share = sum(genotype) / 42
    penalty = np.std(genotype) / 10
    return (1 - share**2 + penalty, -(1 - share) + penalty)


def smallest_distance(seed, preference, aspiration, evaluations=120):
    """Return the smallest distance of a search from the aspiration point."""
    problem = Problem(gene_sizes=SIZES, n_objectives=2, signs=(1, -1), seed=seed)
    algorithm = NSGA2(preference=preference, problem=problem)
    found = []
    for _ in range(evaluations):
        candidate = algorithm.ask()
        found.append(costs(candidate.genotype))
        algorithm.tell(candidate.number, found[-1])
    return achievement(found, aspiration, (1, 1)).min()


def test_a_search_with_a_preference_comes_nearer_to_it_than_one_without():
    aspiration = (0.30, -0.18)
    distances = [
        (smallest_distance(s, (0.30, 0.18), aspiration), smallest_distance(s, None, aspiration)) for s in range(6)
    ]

    with_preference, without = np.mean(distances, axis=0)
    assert with_preference < without


def test_of_two_parents_the_one_nearer_to_the_preference_wins_the_tournament():
    problem = Problem(gene_sizes=(9,) * 8, n_objectives=2, seed=0)
    algorithm = NSGA2(
        preference=(0, 11), initial_samples=12, screening=1, retraining=0, mode="free_running", problem=problem
    )
    for number in range(12):
        algorithm.tell(algorithm.ask().number, (number, 11 - number))  # a front, along which the distance grows

    parents = [parent for _ in range(300) for parent in algorithm.ask().parents]

    # of two drawn from 0 .. 11 the smaller: its mean is 11 * 23 / (6 * 12), of any one of them 5.5
    assert np.mean(parents) == pytest.approx(3.51, abs=0.5)


def test_of_two_points_with_the_same_worst_objective_the_dominating_one_is_nearer():
    near, far = achievement([[2, 1], [2, 3]], aspiration=[1, 2], scale=[1, 1])

    assert near < far


def test_an_objective_without_range_is_not_scaled():
    assert ranges([[1, 5], [3, 5]]).tolist() == [2, 1]
