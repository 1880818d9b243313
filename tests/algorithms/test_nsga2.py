"""NSGA-II: schedules, the population, both sets of operators."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nasx import pareto
from nasx.algorithms.base import Schedule, default_lag
from nasx.algorithms.nsga2 import (
    NSGA2,
    Individual,
    NSGA2Paper,
    Population,
    add_candidate,
    expected_improvements,
    tournament,
)
from nasx.protocols import Problem
from nasx.trial import Candidate

PROBLEM = Problem(gene_sizes=(4, 4, 4), n_objectives=2, seed=0)


def population(costs, size=None):
    made = Population(size or len(costs))
    for number, pair in enumerate(costs):
        made.add(Individual(Candidate(number, (0,), 0, "random"), pair))
    return made


def numbers(individuals):
    return sorted(individual.candidate.number for individual in individuals)


def test_ask_returns_none_until_the_generation_is_complete():
    algorithm = NSGA2Paper(population_size=4, problem=PROBLEM)
    for _ in range(4):
        algorithm.ask()
    for number in (3, 0, 2):
        algorithm.tell(number, (1, 1))
        assert algorithm.ask() is None
    algorithm.tell(1, (1, 1))
    assert algorithm.ask().generation == 1


def test_a_lag_of_three_allows_three_open_candidates_and_waits_for_the_oldest():
    algorithm = NSGA2(lag=3, problem=PROBLEM)
    for _ in range(3):
        assert algorithm.ask() is not None
    algorithm.tell(2, (1, 1))
    assert algorithm.ask() is None
    algorithm.tell(0, (1, 1))
    assert algorithm.ask() is not None
    assert algorithm.ask() is None


def test_free_running_never_waits():
    algorithm = NSGA2(mode="free_running", problem=PROBLEM)
    assert all(algorithm.ask() is not None for _ in range(30))


@pytest.mark.parametrize("workers", [1, 2, 3, 8, 64, 1000])
def test_the_default_lag_lets_every_worker_run(workers):
    assert default_lag(workers) >= workers
    assert Schedule.of("steady_state", None, workers).horizon(workers - 1) == 0


def test_the_default_lag_grows_so_that_a_small_search_with_many_workers_is_not_mostly_random():
    horizons = [Schedule.of("steady_state", None, workers=64).horizon(k) for k in range(5000)]

    assert horizons[:64] == [0] * 64
    assert horizons[200] == 51
    assert horizons[4999] == 4999 - default_lag(64) + 1
    assert all(later - earlier in (0, 1) for earlier, later in itertools.pairwise(horizons))


def test_survivors_are_the_best_ranks_and_of_the_last_one_the_least_crowded():
    costs = [(0, 4), (4, 0), (2, 2), (1.9, 2.1), (3, 5), (5, 5)]  # four on the front, one pair of them crowded
    made = population(costs, size=3)
    made.truncate()
    assert numbers(made.members) in ([0, 1, 2], [0, 1, 3])
    made = population(costs, size=5)
    made.truncate()
    assert numbers(made.members) == [0, 1, 2, 3, 4]


def test_survivors_equal_those_by_nasx_pareto():
    rng = np.random.default_rng(0)
    for _ in range(20):
        costs = rng.integers(0, 12, (30, 2)).astype(float)
        costs = np.unique(costs, axis=0)  # of equal points, any may survive
        made = population([tuple(pair) for pair in costs], size=8)
        made.truncate()
        ranks = pareto.ranks(costs)
        last = np.sort(ranks)[7]
        assert set(numbers(made.members)) >= set(np.flatnonzero(ranks < last).tolist())
        assert all(ranks[number] <= last for number in numbers(made.members))


def test_survivors_are_chosen_by_estimates_as_soon_as_there_are_twice_as_many():
    chosen = Population(2)
    estimates = {0: (4, 4), 1: (3, 3), 2: (2, 2), 3: (1, 1)}  # the reverse of the first trainings
    for number in range(4):
        candidate = Candidate(number, (number,), 0, "random")
        add_candidate(chosen, candidate, (number, number), lambda genotype, costs: estimates[genotype[0]])
        assert len(chosen.members) == (2 if number == 3 else number + 1)

    assert numbers(chosen.members) == [2, 3]


def test_a_generation_of_the_paper_is_bred_from_the_survivors_of_all_before_it():
    problem = Problem(gene_sizes=(9,) * 8, n_objectives=2, seed=0)
    algorithm = NSGA2Paper(population_size=4, problem=problem)
    asked = []
    for number in range(8):
        asked.append(algorithm.ask())
        algorithm.tell(number, (number**2, -number))  # all on one front: the gaps grow from 0 to 7
    third = [algorithm.ask() for _ in range(4)]

    assert [candidate.generation for candidate in third] == [2] * 4
    assert {parent for candidate in third for parent in candidate.parents} <= {0, 5, 6, 7}
    assert numbers(algorithm.population.members) == [0, 5, 6, 7]


def test_of_a_front_of_one_the_next_ranks_are_parents_as_well():
    problem = Problem(gene_sizes=(9,) * 8, n_objectives=1, seed=0)
    algorithm = NSGA2(initial_samples=8, screening=1, retraining=0, mode="free_running", problem=problem)
    for number in range(8):
        algorithm.tell(algorithm.ask().number, (number,))

    children = [algorithm.ask() for _ in range(100)]

    assert {parent for child in children for parent in child.parents} == {0, 1, 2, 3}


def test_as_many_uniform_draws_come_first_as_asked():
    algorithm = NSGA2(initial_samples=5, problem=PROBLEM)
    operators = []
    for number in range(6):
        operators.append(algorithm.ask().operator)
        algorithm.tell(number, (number, -number))

    assert operators[:5] == ["random"] * 5
    assert operators[5] != "random"


def test_the_paper_mutates_one_gene_on_average():
    problem = Problem(gene_sizes=(9,) * 8, n_objectives=2, seed=0)

    assert NSGA2Paper(problem=problem).mutation == 1 / 8
    assert NSGA2Paper(mutation=0.5, problem=problem).mutation == 0.5


def test_a_new_trade_off_at_the_end_of_the_front_is_an_improvement():
    front = np.array([[0.0, 1.0], [0.5, 0.5]])
    beyond = np.array([[1.0, 0.4]])  # better in the second objective alone, and the worst in the first

    # scaled to the unit square, reference (1.1, 1.1): the corner between 1 and 1.1, from 0.5 (scaled 1/6) down to 0
    assert expected_improvements(beyond, np.zeros((1, 2)), front) == pytest.approx([0.1 * 1 / 6])


def test_ranks_and_crowding_are_those_of_nsga2():
    members = population([(0, 2), (1, 1), (2, 0), (2, 2)]).best(4)
    assert [m.rank for m in members] == [0, 0, 0, 1]
    assert [m.crowding for m in members] == [np.inf, 2.0, np.inf, np.inf]


def test_the_best_are_the_front_filled_up_with_whole_ranks():
    made = population([(0, 2), (2, 0), (1, 3), (3, 1), (4, 4)])
    assert numbers(made.best(1)) == [0, 1]
    assert numbers(made.best(3)) == [0, 1, 2, 3]
    assert numbers(made.best(99)) == [0, 1, 2, 3, 4]
    assert Population(4).best(2) == []


def test_tournament_prefers_rank_then_crowding():
    good, crowded, bad = (Individual(Candidate(n, (0,), 0, "random"), (0, 0)) for n in range(3))
    good.crowding, crowded.crowding, bad.rank, bad.crowding = 2.0, 1.0, 1, np.inf
    rng = np.random.default_rng(0)
    won = [tournament([good, crowded, bad], rng).candidate.number for _ in range(900)]
    # of nine equally likely pairs the good one wins five, the crowded one three, the bad one its own
    assert np.bincount(won) / 900 == pytest.approx([5 / 9, 3 / 9, 1 / 9], abs=0.04)


def test_an_offspring_by_mutation_differs_from_its_parent_in_one_gene():
    problem = Problem(gene_sizes=(9,) * 8, n_objectives=2, seed=1)
    algorithm = NSGA2(initial_samples=4, crossover=0.0, retraining=0, problem=problem)
    asked = {}
    for _ in range(40):
        candidate = algorithm.ask()
        asked[candidate.number] = candidate
        algorithm.tell(candidate.number, (sum(candidate.genotype), -candidate.genotype[0]))
    children = [c for c in asked.values() if c.operator == "mutation"]
    assert len(children) == 36
    for child in children:
        (parent,) = child.parents
        assert sum(a != b for a, b in zip(child.genotype, asked[parent].genotype, strict=True)) == 1


def test_both_find_the_front_of_a_problem_with_a_known_one():
    """The front is known by enumeration."""
    sizes = (4,) * 6
    grid = np.array(np.meshgrid(*[range(4)] * 6)).reshape(6, -1).T

    def costs(genotypes):
        genotypes = np.atleast_2d(genotypes)
        left, right = genotypes[:, :3].sum(axis=1), genotypes[:, 3:].sum(axis=1)
        return np.stack([left + right, (9 - left) ** 2 + right], axis=1).astype(float)

    best = pareto.hypervolume(costs(grid), (19, 100))
    problem = Problem(gene_sizes=sizes, n_objectives=2, seed=0)
    for algorithm in (NSGA2(screening=1, problem=problem), NSGA2Paper(population_size=32, problem=problem)):
        seen = []
        for _ in range(320):
            candidate = algorithm.ask()
            seen.append(costs(candidate.genotype)[0])
            algorithm.tell(candidate.number, seen[-1])
        assert pareto.hypervolume(seen, (19, 100)) > 0.97 * best


@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_the_improvement_by_a_certain_point_is_the_difference_of_two_hypervolumes(n_objectives):
    points = np.random.default_rng(1).random((6, n_objectives))
    points[0], points[1] = 0.0, 1.0  # they span the unit cube: scaling has no effect
    front, reference = points[1:2], np.full(n_objectives, 1.1)
    before = pareto.hypervolume(front, reference)
    expected = [pareto.hypervolume([*front, point], reference) - before for point in points]

    assert expected_improvements(points, np.zeros_like(points), front) == pytest.approx(expected)


def test_an_improvement_does_not_depend_on_the_units_of_the_objectives():
    rng = np.random.default_rng(0)
    means, deviations, front = rng.random((5, 2)), 0.1 * rng.random((5, 2)), rng.random((4, 2))
    scale, shift = np.array([1e6, 1e-3]), np.array([-7.0, 2.0])

    scaled = expected_improvements(scale * means + shift, scale * deviations, scale * front + shift)

    assert scaled == pytest.approx(expected_improvements(means, deviations, front))


def test_dominating_and_uncertain_points_improve_more():
    front = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    means = np.array([[0.4, 0.4], [0.6, 0.6], [0.6, 0.6]])
    deviations = np.array([[0.1, 0.1], [0.1, 0.1], [0.01, 0.01]])

    dominating, uncertain, certain = expected_improvements(means, deviations, front)

    assert dominating > uncertain > certain
    assert certain == pytest.approx(0, abs=1e-12)


def test_improvements_without_a_range_are_finite():
    same = np.ones((3, 2))

    assert np.isfinite(expected_improvements(same, 0 * same, same[:1])).all()


@pytest.mark.parametrize("algorithm", [NSGA2, NSGA2Paper])
@pytest.mark.parametrize("size", [4, 5, 6, 7, 13])
def test_any_population_of_four_or_more_works(algorithm, size):
    made = algorithm(population_size=size, problem=PROBLEM)
    for number in range(40):
        made.tell(made.ask().number, (number % 7, -number % 5))
    assert len(made.population.members) <= 2 * size


class Forecast:
    """A surrogate for which every offspring is bad, except one that beats the whole front."""

    models, n_results = (True,), 0

    def __init__(self, place):
        self.place = place
        self.best = []  # genotype of the good offspring of each draw

    def predict(self, genotypes):
        means = np.full((len(genotypes), 2), 9.0)
        means[self.place] = -9.0
        self.best.append(genotypes[self.place])
        return means, np.full((len(genotypes), 2), 1e-6)


@pytest.mark.parametrize("preference", [None, (0.0, 0.0)])
def test_the_most_promising_of_several_offspring_is_proposed(preference):
    algorithm = NSGA2(
        initial_samples=4, screening=5, unscreened=0.0, retraining=0, preference=preference, problem=PROBLEM
    )
    for number in range(6):
        algorithm.tell(algorithm.ask().number, (number, 6 - number))
    forecast = Forecast(place=3)
    algorithm._surrogate = forecast

    drawn = [algorithm._draw(6, np.random.default_rng(seed)) for seed in range(20)]

    screened = [proposal.genotype for proposal in drawn if proposal.operator != "random"]
    assert len(screened) == len(forecast.best) > 10
    assert [tuple(genotype) for genotype in screened] == [tuple(genotype) for genotype in forecast.best]


def test_offspring_are_compared_with_the_front_only(monkeypatch):
    fronts = []

    def improvements(means, deviations, front):
        fronts.append(front)
        return np.zeros(len(means))

    monkeypatch.setattr("nasx.algorithms.nsga2.expected_improvements", improvements)
    algorithm = NSGA2(initial_samples=4, screening=5, unscreened=0.0, retraining=0, problem=PROBLEM)
    for costs in ((0, 3), (3, 0), (1, 1), (4, 4), (5, 5)):
        algorithm.tell(algorithm.ask().number, costs)
    algorithm._surrogate = Forecast(place=0)
    algorithm._draw(5, np.random.default_rng(0))

    assert sorted(map(tuple, fronts[0])) == [(0, 3), (1, 1), (3, 0)]
