"""The search spends its budget where the user's wish lies."""

from __future__ import annotations

import numpy as np
import pytest

from nasx.algorithms.nsga2 import NSGA2
from nasx.algorithms.preference import achievement, ranges
from nasx.protocols import Problem

SIZES = (8,) * 6


def costs(genotype):
    """A trade-off over the sum of alleles, 0 to 42, with a penalty for unequal ones; the second is maximised."""
    share = sum(genotype) / 42
    penalty = np.std(genotype) / 10
    return (1 - share**2 + penalty, -(1 - share) + penalty)


def best_miss(seed, preference, wish, evaluations=120):
    """How near a search comes to the wish."""
    problem = Problem(gene_sizes=SIZES, n_objectives=2, signs=(1, -1), seed=seed)
    algorithm = NSGA2(preference=preference, problem=problem)
    told = []
    for _ in range(evaluations):
        candidate = algorithm.ask()
        told.append(costs(candidate.genotype))
        algorithm.tell(candidate.number, told[-1])
    return achievement(told, wish, (1, 1)).min()


def test_a_search_with_a_wish_comes_nearer_to_it_than_one_without():
    wish = (0.30, -0.18)
    misses = [(best_miss(s, (0.30, 0.18), wish), best_miss(s, None, wish)) for s in range(6)]

    with_wish, without = np.mean(misses, axis=0)
    assert with_wish < without


def test_of_two_parents_the_one_nearer_to_the_wish_wins_the_tournament():
    problem = Problem(gene_sizes=(9,) * 8, n_objectives=2, seed=0)
    algorithm = NSGA2(
        preference=(0, 11), initial_samples=12, screening=1, retraining=0, mode="free_running", problem=problem
    )
    for number in range(12):
        algorithm.tell(algorithm.ask().number, (number, 11 - number))  # a front, along which the miss grows

    parents = [parent for _ in range(300) for parent in algorithm.ask().parents]

    # of two drawn from 0 .. 11 the smaller: its mean is 11 * 23 / (6 * 12), of any one of them 5.5
    assert np.mean(parents) == pytest.approx(3.51, abs=0.5)


def test_of_two_points_that_miss_alike_the_dominating_one_is_nearer():
    near, far = achievement([[2, 1], [2, 3]], wish=[1, 2], scale=[1, 1])

    assert near < far


def test_an_objective_without_range_is_not_scaled():
    assert ranges([[1, 5], [3, 5]]).tolist() == [2, 1]
