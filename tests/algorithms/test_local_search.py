"""Local search: it exhausts the neighbors of the front before it restarts."""

from __future__ import annotations

from nasx.algorithms import local_search
from nasx.algorithms.local_search import LocalSearch, neighbors
from nasx.protocols import Problem
from nasx.trial import Candidate


def test_neighbors_differ_in_exactly_one_gene_and_are_all_there():
    found = list(neighbors((0, 0, 2), (3, 1, 4)))
    assert len(set(found)) == len(found) == 2 + 0 + 3
    assert all(sum(a != b for a, b in zip(g, (0, 0, 2), strict=True)) == 1 for g in found)


def test_it_climbs_to_the_optimum_then_explores_all_its_neighbors_then_restarts():
    algorithm = LocalSearch(initial_samples=1, problem=Problem(gene_sizes=(4, 4, 4), n_objectives=1, seed=0))
    asked = []
    while len(asked) < 64:
        asked.append(algorithm.ask())
        algorithm.tell(asked[-1].number, (float(sum(asked[-1].genotype)),))
    order = [c.genotype for c in asked]
    best = order.index((0, 0, 0))
    restart = next(c.number for c in asked[1:] if c.operator == "random")
    assert best < restart
    assert set(neighbors((0, 0, 0), (4, 4, 4))) <= set(order[:restart])


def test_neighbors_name_the_member_of_the_front_that_they_surround():
    algorithm = LocalSearch(initial_samples=3, problem=Problem(gene_sizes=(4,) * 4, n_objectives=2, seed=0))
    asked = []
    for _ in range(50):
        asked.append(algorithm.ask())
        genotype = asked[-1].genotype
        algorithm.tell(asked[-1].number, (sum(genotype), -genotype[0]))
    for candidate in asked:
        if candidate.operator == "neighbour":
            (center,) = candidate.parents
            assert candidate.genotype in set(neighbors(asked[center].genotype, (4,) * 4))


def test_with_retraining_it_remembers_the_front_and_the_latest_networks_only(monkeypatch):
    monkeypatch.setattr(local_search, "MAX_NETWORKS", 5)
    problem = Problem(gene_sizes=(40, 2), n_objectives=1, seed=0)
    algorithm = LocalSearch(initial_samples=100, retraining=0.5, problem=problem)
    best = Candidate(0, (0, 0), 0, "random")
    for number in range(9):
        candidate = best if number == 0 else Candidate(number, (number, 0), 0, "random")
        algorithm._absorb(candidate, (float(number),))
    assert len(algorithm._members) == 9

    algorithm._absorb(Candidate(9, (9, 0), 0, "random"), (9.0,))

    assert [candidate.number for candidate, _ in algorithm._members] == [0, 5, 6, 7, 8, 9]


def test_a_failed_network_is_not_remembered():
    algorithm = LocalSearch(problem=Problem(gene_sizes=(4, 4), n_objectives=1, seed=0))

    algorithm._absorb(Candidate(0, (0, 0), 0, "random"), None)

    assert algorithm._members == []
