"""Contract of every search algorithm."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from nasx.algorithms.local_search import LocalSearch
from nasx.algorithms.nsga2 import NSGA2, NSGA2Paper
from nasx.algorithms.random_search import RandomSearch
from nasx.algorithms.regularized_evolution import RegularizedEvolution
from nasx.protocols import Problem

SIZES = (3, 4, 2, 5)  # 120 genotypes
REPEATABLE = {
    "nsga2": lambda **problem: NSGA2(population_size=8, initial_samples=5, **problem),
    "nsga2 without screening": lambda **problem: NSGA2(population_size=4, screening=1, **problem),
    "nsga2 with a lag": lambda **problem: NSGA2(population_size=7, lag=5, screening=3, **problem),
    "nsga2 in generations": lambda **problem: NSGA2(population_size=6, mode="generational", **problem),
    "nsga2_paper": lambda **problem: NSGA2Paper(population_size=9, **problem),
    "random": RandomSearch,
    "regularized_evolution": lambda **problem: RegularizedEvolution(population_size=12, sample_size=4, **problem),
    "local_search": LocalSearch,
    "local_search with a lag": lambda **problem: LocalSearch(lag=6, **problem),
}
REPEATABLE |= {
    "nsga2 with re-training": lambda **problem: NSGA2(population_size=8, retraining=0.4, lag=3, **problem),
    "nsga2 in generations with re-training": lambda **problem: NSGA2(
        population_size=6, mode="generational", retraining=0.4, **problem
    ),
    "nsga2_paper with re-training": lambda **problem: NSGA2Paper(population_size=4, retraining=0.7, **problem),
    "random with re-training": lambda **problem: RandomSearch(retraining=0.4, **problem),
    "regularized_evolution with re-training": lambda **problem: RegularizedEvolution(
        population_size=12, retraining=0.4, **problem
    ),
    "local_search with re-training": lambda **problem: LocalSearch(retraining=0.4, **problem),
}
ALGORITHMS = REPEATABLE | {
    "nsga2 free-running": lambda **problem: NSGA2(population_size=8, mode="free_running", retraining=0.4, **problem),
}
over_all = pytest.mark.parametrize("make", ALGORITHMS.values(), ids=ALGORITHMS)
over_repeatable = pytest.mark.parametrize("make", REPEATABLE.values(), ids=REPEATABLE)


def build(make, *, n_objectives=2, seed=0, sizes=SIZES, **problem):
    return make(problem=Problem(gene_sizes=sizes, n_objectives=n_objectives, seed=seed, **problem))


def costs(genotype, n_objectives=2):
    """Conflicting sums of alleles, and a count: many ties, a front of several genotypes."""
    total = sum(genotype)
    return (10 - total + genotype[0] % 2, total + genotype[1] % 3, len(set(genotype)))[:n_objectives]


def result(candidate, answer=costs):
    """Return the costs of a candidate; re-trainings differ slightly from the first training."""
    values = answer(candidate.genotype)
    if values is None or candidate.replicate == 0:
        return values
    rng = random.Random(str((candidate.genotype, candidate.replicate)))
    return tuple(value + rng.gauss(0, 0.5) for value in values)


def drive(algorithm, n, *, answer=costs, workers=1, order=None):
    """Ask for `n` candidates, at most `workers` open at a time; report their costs in an order drawn from `order`."""
    order, asked, open_ = order or random.Random(0), [], []
    while len(asked) < n or open_:
        while len(asked) < n and len(open_) < workers and (candidate := algorithm.ask()) is not None:
            asked.append(candidate)
            open_.append(candidate)
        assert open_, "no candidate although every one has a result"
        candidate = open_.pop(order.randrange(len(open_)))
        algorithm.tell(candidate.number, result(candidate, answer))
    return asked


@over_all
def test_candidates_are_numbered_in_the_order_of_asking(make):
    assert [c.number for c in drive(build(make), 40)] == list(range(40))


@over_all
def test_genotypes_are_tuples_of_python_integers_within_the_gene_sizes(make):
    for candidate in drive(build(make), 60):
        assert type(candidate.genotype) is tuple
        for allele, size in zip(candidate.genotype, SIZES, strict=True):
            assert type(allele) is int
            assert 0 <= allele < size


@over_all
def test_the_same_seed_and_results_yield_the_same_candidates(make):
    assert drive(build(make, seed=3), 60) == drive(build(make, seed=3), 60)


@over_all
def test_another_seed_yields_other_candidates(make):
    assert drive(build(make, seed=3), 20) != drive(build(make, seed=4), 20)


@over_repeatable
@pytest.mark.parametrize("workers", [3, 11])
def test_neither_the_order_of_results_nor_the_number_of_workers_changes_the_candidates(make, workers):
    sequential = drive(build(make), 60)
    for seed in range(2):
        assert drive(build(make), 60, workers=workers, order=random.Random(seed)) == sequential


@over_all
def test_the_global_generators_are_not_used(make):
    np_before, before = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    drive(build(make), 40)
    assert (np.random.get_state()[1] == np_before).all()  # noqa: NPY002
    assert random.getstate() == before


@over_all
def test_every_result_is_used_once_and_parents_have_results(make):
    heard = set()
    for candidate in drive(build(make), 60, workers=4):
        assert not heard & set(candidate.heard)
        heard |= set(candidate.heard)
        assert set(candidate.parents) <= heard
    assert heard <= set(range(60))


@over_all
def test_parents_were_asked_before_and_have_costs(make):
    def answer(genotype):
        return None if genotype[3] == 4 else costs(genotype)

    asked = drive(build(make), 80, answer=answer, workers=4)
    for candidate in asked:
        for parent in candidate.parents:
            assert parent < candidate.number
            assert answer(asked[parent].genotype) is not None


@over_all
def test_generations_never_go_back_and_start_at_zero(make):
    generations = [c.generation for c in drive(build(make), 60)]
    assert generations[0] == 0
    assert generations == sorted(generations)


@over_all
def test_no_network_is_asked_twice_while_there_are_others_unless_it_is_trained_again(make):
    def key(genotype):
        return tuple(sorted(genotype))

    asked = drive(build(make, sizes=(5, 5, 5, 5), key=key), 50)  # 70 networks
    assert len({(key(c.genotype), c.replicate) for c in asked}) == 50


@over_all
def test_a_network_is_trained_again_after_its_first_result_and_its_trainings_are_counted(make):
    def key(genotype):
        return tuple(sorted(genotype))

    asked = drive(build(make, sizes=(5, 5, 5, 5), key=key), 60, workers=4)
    first, trainings, heard = {}, Counter(), set()
    for candidate in asked:
        heard |= set(candidate.heard)
        network = key(candidate.genotype)
        assert candidate.replicate == trainings[network]
        assert (candidate.operator == "retraining") is (candidate.replicate > 0)
        if candidate.replicate:
            assert candidate.parents == (first[network],)
            assert first[network] in heard
        first.setdefault(network, candidate.number)
        trainings[network] += 1


@over_all
def test_a_resumed_search_continues_with_the_same_candidates(make):
    asked = drive(build(make), 60, workers=4, order=random.Random(1))
    for interrupted in (1, 13, 30, 47):
        resumed = build(make)
        for candidate in asked:
            for number in candidate.heard:
                resumed.tell(number, result(asked[number]))
            if candidate.number < interrupted:
                resumed.replay(candidate)
            else:
                assert resumed.ask() == candidate


@over_all
def test_a_candidate_out_of_order_cannot_be_replayed(make):
    algorithm = build(make)
    asked = drive(build(make), 2)
    with pytest.raises(ValueError, match="candidate 1 does not follow candidate -1"):
        algorithm.replay(asked[1])


@pytest.mark.parametrize("name", sorted(REPEATABLE.keys() - {"random"}))
def test_a_candidate_that_depends_on_a_missing_result_cannot_be_replayed(name):
    asked = drive(build(REPEATABLE[name]), 60)
    bred = next(candidate for candidate in asked if candidate.heard)
    resumed = build(REPEATABLE[name])
    for candidate in asked[: bred.number]:
        resumed.replay(candidate)
    with pytest.raises(ValueError, match=f"candidate {bred.number} depends on a result that is missing"):
        resumed.replay(bred)


@over_all
def test_disconnected_networks_are_not_proposed(make):
    asked = drive(build(make, is_connected=lambda genotype: genotype[0] > 0), 50)
    assert all(c.genotype[0] > 0 for c in asked)


@over_all
@pytest.mark.parametrize("sizes", [(1,), (2,), (2, 1, 3)])
def test_a_space_smaller_than_the_budget_is_exhausted_and_then_repeated(make, sizes):
    asked = drive(build(make, sizes=sizes), 30, answer=lambda genotype: (sum(genotype), -sum(genotype)))
    assert len(asked) == 30
    assert len({c.genotype for c in asked}) == np.prod(sizes)


@over_all
def test_a_space_without_any_network_does_not_hang(make):
    assert len(drive(build(make, is_connected=lambda genotype: False), 10, answer=lambda genotype: None)) == 10


@over_all
def test_the_search_goes_on_while_everything_fails(make):
    assert all(c.operator == "random" for c in drive(build(make), 40, answer=lambda genotype: None))


@over_all
@pytest.mark.parametrize("n_objectives", [1, 2, 3])
def test_one_two_and_three_objectives(make, n_objectives):
    algorithm = build(make, n_objectives=n_objectives)
    assert len(drive(algorithm, 60, answer=lambda genotype: costs(genotype, n_objectives))) == 60


@over_all
def test_constant_objectives_are_possible(make):
    asked = drive(build(make), 60, answer=lambda genotype: (1.0, 1.0))
    assert len({(c.genotype, c.replicate) for c in asked}) == 60


@over_all
@pytest.mark.parametrize("bad", [(1.0, float("nan")), (float("inf"), 1.0), (1.0,)])
def test_costs_that_are_not_finite_or_too_few_raise_value_error(make, bad):
    algorithm = build(make)
    number = algorithm.ask().number
    with pytest.raises(ValueError, match="candidate 0 needs 2 finite costs or None"):
        algorithm.tell(number, bad)


@over_all
def test_results_of_unknown_or_finished_candidates_raise_value_error(make):
    algorithm = build(make)
    with pytest.raises(ValueError, match="candidate 0 was never asked"):
        algorithm.tell(0, (1, 1))
    number = algorithm.ask().number
    algorithm.tell(number, (1, 1))
    with pytest.raises(ValueError, match="already has a result"):
        algorithm.tell(number, (1, 1))


@over_all
def test_given_networks_are_proposed_first_and_then_the_search_goes_on(make):
    initial = ((2, 3, 1, 4), (0, 0, 0, 1), (1, 2, 0, 3))
    algorithm = build(make, initial=initial)

    candidates = []
    for _ in range(20):
        candidate = algorithm.ask()
        algorithm.tell(candidate.number, result(candidate))
        candidates.append(candidate)

    assert tuple(c.genotype for c in candidates[:3]) == initial
    assert [c.operator for c in candidates[:3]] == ["warm_start"] * 3
    assert "warm_start" not in {c.operator for c in candidates[3:]}
    assert not {c.genotype for c in candidates[3:] if c.replicate == 0} & set(initial)
