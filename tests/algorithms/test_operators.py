"""Operators: bounds by properties, distributions against their sources."""

from __future__ import annotations

import numpy as np
import pytest
from deap.tools import crossover, mutation
from hypothesis import given
from hypothesis import strategies as st

from nasx.algorithms.operators import (
    mutate,
    polynomial_mutation,
    simulated_binary_crossover,
    uniform,
    uniform_crossover,
)

sizes_and_two_genotypes = st.lists(st.integers(1, 7), min_size=1, max_size=6).flatmap(
    lambda sizes: st.tuples(
        st.just(tuple(sizes)), *[st.tuples(*[st.integers(0, size - 1) for size in sizes]) for _ in range(2)]
    )
)
seeds = st.integers(0, 2**31 - 1).map(np.random.default_rng)


def is_genotype(genotype, sizes):
    return all(type(a) is int and 0 <= a < size for a, size in zip(genotype, sizes, strict=True))


@given(sizes_and_two_genotypes, seeds, st.floats(0, 30), st.floats(0, 1))
def test_every_operator_returns_a_genotype(drawn, rng, eta, probability):
    sizes, first, second = drawn
    assert is_genotype(uniform(sizes, rng), sizes)
    assert is_genotype(mutate(first, sizes, 2, rng), sizes)
    assert is_genotype(uniform_crossover(first, second, rng), sizes)
    assert is_genotype(simulated_binary_crossover(first, second, sizes, eta, rng), sizes)
    assert is_genotype(polynomial_mutation(first, sizes, probability, eta, rng), sizes)


@given(sizes_and_two_genotypes, seeds, st.integers(0, 8))
def test_mutation_changes_exactly_n_genes_or_all_that_have_a_choice(drawn, rng, n):
    sizes, genotype, _ = drawn
    changed = sum(a != b for a, b in zip(mutate(genotype, sizes, n, rng), genotype, strict=True))
    assert changed == min(n, sum(size > 1 for size in sizes))


def test_mutation_draws_every_other_allele_equally_often():
    rng = np.random.default_rng(0)
    drawn = np.bincount([mutate((2,), (5,), 1, rng)[0] for _ in range(2000)], minlength=5) / 2000
    assert drawn == pytest.approx([0.25, 0.25, 0, 0.25, 0.25], abs=0.03)


@given(sizes_and_two_genotypes, seeds)
def test_uniform_crossover_takes_every_gene_from_a_parent(drawn, rng):
    _, first, second = drawn
    assert all(c in (a, b) for c, a, b in zip(uniform_crossover(first, second, rng), first, second, strict=True))


def test_uniform_crossover_takes_half_of_the_genes_from_either_parent():
    child = uniform_crossover((0,) * 2000, (1,) * 2000, np.random.default_rng(0))

    assert np.mean(child) == pytest.approx(0.5, abs=0.04)


@given(sizes_and_two_genotypes, seeds)
def test_equal_parents_have_equal_children_by_simulated_binary_crossover(drawn, rng):
    sizes, genotype, _ = drawn
    assert simulated_binary_crossover(genotype, genotype, sizes, 3.0, rng) == genotype


def test_simulated_binary_crossover_keeps_the_mean_of_its_parents_far_from_the_bounds():
    rng = np.random.default_rng(0)
    children = [simulated_binary_crossover((450,), (550,), (1001,), 3.0, rng)[0] for _ in range(5000)]
    # genes that are not crossed come from the first parent: half of the mean
    assert np.mean(children) == pytest.approx(0.5 * 450 + 0.5 * 500, abs=3)


@pytest.mark.parametrize("eta", [0.0, 3.0, 15.0])
def test_the_spread_of_simulated_binary_crossover_is_debs(eta):
    """Far from the bounds, spread = |child gap| / |parent gap| is below 1 with probability 1/2, its median."""
    rng = np.random.default_rng(1)
    children = np.array([simulated_binary_crossover((49000,), (51000,), (100001,), eta, rng)[0] for _ in range(3000)])
    crossed = children[children != 49000]
    inside = (crossed > 49000) & (crossed < 51000)
    assert inside.mean() == pytest.approx(0.5, abs=0.04)


class Fixed:
    """A generator of random numbers that are given."""

    def __init__(self, *numbers: float) -> None:
        self.numbers = list(numbers)

    def random(self, n: int | None = None):
        drawn = self.numbers.pop(0)
        return drawn if n is None else np.full(n, drawn)


shares = st.floats(0, 1, exclude_max=True)
alleles = st.integers(1, 5000).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, size - 1), st.integers(0, size - 1))
)


@given(alleles, shares, st.booleans(), st.floats(0, 30))
def test_simulated_binary_crossover_is_deaps(drawn, share, is_above, eta):
    """Of the same random numbers both make the same child; DEAP's stays a real number, ours is the nearest allele."""
    size, first, second = drawn
    child = [float(first)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crossover, "random", Fixed(0.0, share, 0.2 if is_above else 0.8))
        crossover.cxSimulatedBinaryBounded(child, [float(second)], eta, -0.5, size - 0.5)

    ours = simulated_binary_crossover((first,), (second,), (size,), eta, Fixed(share, 0.8 if is_above else 0.2, 0.8))

    assert ours == pytest.approx(child, abs=0.5 + 1e-6)


@given(alleles, shares, st.floats(0, 30))
def test_polynomial_mutation_is_deaps(drawn, share, eta):
    size, allele, _ = drawn
    child = [float(allele)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mutation, "random", Fixed(0.0, share))
        mutation.mutPolynomialBounded(child, eta, -0.5, size - 0.5, 1.0)

    assert polynomial_mutation((allele,), (size,), 1.0, eta, Fixed(share, 0.0)) == pytest.approx(child, abs=0.5 + 1e-6)


def test_polynomial_mutation_moves_each_gene_with_its_probability():
    rng = np.random.default_rng(0)
    children = np.array([polynomial_mutation((500, 500), (1001, 1001), 0.2, 3.0, rng) for _ in range(3000)])
    assert (children != 500).mean(axis=0) == pytest.approx(0.2, abs=0.03)


def test_the_mean_step_of_polynomial_mutation_is_its_closed_form():
    """Density (eta + 1) / 2 * (1 - |d|)^eta of the step d over the gene's width: mean |d| = 1 / (eta + 2), from the
    middle.

    The bounds cut steps at 1/2, a mass of 2^-(eta + 1): negligible with eta = 20.
    """
    rng = np.random.default_rng(0)
    children = np.array([polynomial_mutation((5000,), (10001,), 1.0, 20.0, rng)[0] for _ in range(3000)])
    assert np.abs(children - 5000).mean() / 10001 == pytest.approx(1 / 22, rel=0.08)


def test_polynomial_mutation_with_probability_zero_changes_nothing():
    assert polynomial_mutation((1, 2), (3, 3), 0.0, 3.0, np.random.default_rng(0)) == (1, 2)
