"""Re-training: its share of the trainings, the networks it chooses, and when it stops."""

from __future__ import annotations

import math
import random
import re
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from nasx.algorithms.local_search import LocalSearch
from nasx.algorithms.nsga2 import NSGA2, NSGA2Paper
from nasx.algorithms.random_search import RandomSearch
from nasx.algorithms.regularized_evolution import RegularizedEvolution
from nasx.algorithms.retraining import MAX_SHARE, choose_network, is_due_early, target_share
from nasx.errors import SettingError
from nasx.protocols import Problem

PROBLEM = Problem(gene_sizes=(5,) * 6, n_objectives=2, seed=0)
ALGORITHMS = [NSGA2, partial(NSGA2Paper, population_size=8), RandomSearch, RegularizedEvolution, LocalSearch]
over_all = pytest.mark.parametrize("make", ALGORITHMS, ids=["nsga2", "nsga2_paper", "random", "evolution", "local"])


def truth(genotype):
    return sum(genotype) / 24, 1 - genotype[0] / 4 + np.std(genotype) / 4


def noisy(candidate, std=0.15):
    rng = random.Random(str((candidate.genotype, candidate.replicate)))
    return [value + rng.gauss(0, std) for value in truth(candidate.genotype)]


def exact(candidate):
    return truth(candidate.genotype)


def run(algorithm, n, answer=noisy):
    asked = []
    for _ in range(n):
        asked.append(algorithm.ask())
        algorithm.tell(asked[-1].number, answer(asked[-1]))
    return asked


@over_all
def test_a_share_of_zero_trains_nothing_again(make):
    assert not any(candidate.replicate for candidate in run(make(retraining=0, problem=PROBLEM), 60))


@pytest.mark.parametrize("make", [NSGA2Paper, RandomSearch, RegularizedEvolution, LocalSearch])
def test_the_other_algorithms_train_nothing_again_by_default(make):
    assert not any(candidate.replicate for candidate in run(make(problem=PROBLEM), 60))


@over_all
@pytest.mark.parametrize("known", [{"is_noisy": False}, {"is_noisy": False, "exact": (False, False)}])
def test_nothing_is_trained_again_if_the_problem_has_no_noise(make, known):
    problem = replace(PROBLEM, **known)
    for retraining in ("auto", 0.5):
        algorithm = make(retraining=retraining, problem=problem)
        assert not any(candidate.replicate for candidate in run(algorithm, 60, exact))


@over_all
def test_nothing_is_trained_again_if_every_objective_is_exact(make):
    algorithm = make(retraining=0.5, problem=replace(PROBLEM, exact=(True, True)))
    assert not any(candidate.replicate for candidate in run(algorithm, 60, exact))


@pytest.mark.parametrize("make", [RandomSearch, NSGA2])
def test_a_share_of_a_half_is_met(make):
    again = [candidate.replicate > 0 for candidate in run(make(retraining=0.5, problem=PROBLEM), 250)]
    assert np.mean(again[50:]) == pytest.approx(0.5, abs=0.11)  # three standard errors of 200 draws


@over_all
def test_auto_trains_again_if_results_are_noisy(make):
    asked = run(make(retraining="auto", problem=PROBLEM), 80)
    assert len({candidate.genotype for candidate in asked if candidate.replicate}) > 2


@over_all
@pytest.mark.parametrize("retraining", ["auto", 0.5])
def test_it_ends_when_two_networks_were_trained_again_with_equal_results(make, retraining):
    asked = run(make(retraining=retraining, problem=PROBLEM), 80, exact)
    heard, repeated, again = set(), set(), []
    for candidate in asked:
        heard |= set(candidate.heard)
        repeated = {asked[number].genotype for number in heard if asked[number].replicate}
        if candidate.replicate:
            assert len(repeated) < 2
            again.append(candidate)
    assert len(repeated) >= 2
    assert len(again) < 40


def test_noise_in_one_of_two_objectives_is_enough():
    def half_exact(candidate):
        return noisy(candidate)[0], truth(candidate.genotype)[1]

    asked = run(NSGA2(problem=PROBLEM), 80, half_exact)
    assert len({candidate.genotype for candidate in asked if candidate.replicate}) > 2


def test_a_network_whose_training_failed_is_not_trained_again():
    def answer(candidate):
        return None if candidate.genotype[1] == 0 else noisy(candidate)

    asked = run(NSGA2(retraining=0.5, problem=PROBLEM), 80, answer)
    assert any(candidate.replicate for candidate in asked)
    assert all(candidate.genotype[1] > 0 for candidate in asked if candidate.replicate)


def test_the_repeated_result_of_a_known_network_is_no_further_training():
    """In an exhausted space, known networks are proposed again; their results come from the journal."""
    problem = Problem(gene_sizes=(3, 3), n_objectives=2, seed=0)
    algorithm = NSGA2(retraining=0.3, problem=problem)

    asked = run(algorithm, 60)

    trainings = {(candidate.genotype, candidate.replicate) for candidate in asked}
    assert len(trainings) < 50
    assert algorithm._surrogate.counts.sum() == len(trainings)


@over_all
@pytest.mark.parametrize(
    ("retraining", "message"),
    [
        (0.8, "a number, at least 0 and at most 0.75, got 0.8"),
        (-1, "a number, at least 0 and at most 0.75, got -1"),
        ("always", "a number, got 'always'"),
        (float("nan"), "a number, at least 0 and at most 0.75, got NaN"),
    ],
)
def test_other_shares_are_rejected(make, retraining, message):
    with pytest.raises(SettingError, match=f"^retraining must be auto or {re.escape(message)}$"):
        make(retraining=retraining, problem=PROBLEM)


def test_the_largest_share_is_three_quarters():
    assert RandomSearch(retraining=0.75, problem=PROBLEM).retraining == MAX_SHARE == 0.75


def test_six_networks_are_trained_again_early_to_know_the_noise():
    n_retrained = 0
    for n_asked in range(40):
        n_retrained += is_due_early(n_asked, n_retrained, "auto")
        assert n_retrained == min(6, max(0, math.ceil((n_asked - 5) * 6 / 14)))  # from 6 results on, by 20

    assert not is_due_early(19, 6, "auto")
    assert not is_due_early(10, 0, 0)


def surrogate(probabilities, *, is_exact=False):
    return SimpleNamespace(
        is_exact=is_exact,
        models=["a model"],
        front_probabilities=lambda: np.array(probabilities),
        means=np.zeros((len(probabilities), 2)),
    )


def test_auto_increases_with_the_uncertainty_of_the_front():
    shares = [
        target_share(surrogate(probabilities), "auto")
        for probabilities in ([1, 1, 0], [0.95, 0.9, 0.1], [0.8, 0.7, 0.4])
    ]

    assert shares[0] == 0
    assert 0 < shares[1] < shares[2] < MAX_SHARE
    assert target_share(surrogate([0.5] * 40), "auto") <= MAX_SHARE


def test_a_given_share_is_used_unless_results_are_exact():
    assert target_share(surrogate([1, 1, 0]), 0.3) == 0.3
    assert target_share(surrogate([0.5, 0.5], is_exact=True), 0.3) == 0
    assert target_share(surrogate([0.5, 0.5], is_exact=True), "auto") == 0


@pytest.mark.parametrize(
    ("probabilities", "asked", "chosen"),
    [
        ([0.5, 0.9, 0.2], [1, 1, 1], 1),  # p (2 - p) / n: 0.75, 0.99, 0.36
        ([0.5, 0.9, 0.2], [1, 2, 1], 0),  # 0.75, 0.495, 0.36
        ([1.0, 1.0, 0.5], [3, 2, 2], 1),  # 0.333, 0.5, 0.375
        ([1.0, 0.0, 0.01], [60, 1, 1], 2),  # 0.0167, 0, 0.0199
    ],
)
def test_members_and_uncertain_networks_with_few_trainings_are_trained_again(probabilities, asked, chosen):
    assert choose_network(surrogate(probabilities), np.array(asked), np.random.default_rng(0)) == chosen


def test_if_nothing_is_uncertain_the_front_member_with_the_fewest_trainings_is_chosen():
    settled = surrogate([1.0, 1.0, 1.0, 0.0])
    settled.means = np.array([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0], [2.0, 2.0]])

    assert choose_network(settled, np.array([3, 2, 4, 1]), np.random.default_rng(0)) == 1


def test_random_search_without_noise_never_waits():
    problem = Problem(gene_sizes=(4, 4, 4), n_objectives=2, seed=0, is_noisy=False)
    algorithm = RandomSearch(retraining=0.5, problem=problem)

    assert [algorithm.ask().number for _ in range(30)] == list(range(30))
