"""Local search: it exhausts the neighbors of the front before it restarts."""

from __future__ import annotations

from nasx.algorithms.local_search import LocalSearch, neighbors
from nasx.protocols import Problem


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
