"""Variation of genotypes: uniform sampling, crossover and mutation, categorical and (the paper's) on integers.

Gene i takes the alleles 0 .. sizes[i] - 1. Every operator draws from the given generator and returns a new genotype.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from nasx.trial import Genotype


def uniform(sizes: Sequence[int], rng: Generator) -> Genotype:
    """Return a genotype drawn with all alleles equally likely."""
    return tuple(rng.integers(0, sizes).tolist())


def mutate(genotype: Genotype, sizes: Sequence[int], n_changes: int, rng: Generator) -> Genotype:
    """Return a genotype with different alleles in `n_changes` genes, or in all genes that have a choice if fewer.

    Args:
        genotype: one allele per gene.
        sizes: number of alleles of each gene.
        n_changes: genes to change, drawn without replacement.
        rng: source of the draws.

    >>> mutate((0, 0, 0), (2, 1, 2), 5, np.random.default_rng(0))
    (1, 0, 1)
    """
    changed = list(genotype)
    free = [gene for gene, size in enumerate(sizes) if size > 1]
    for gene in rng.permutation(free)[:n_changes].tolist():
        allele = int(rng.integers(sizes[gene] - 1))
        changed[gene] = allele + (allele >= changed[gene])
    return tuple(changed)


def uniform_crossover(first: Genotype, second: Genotype, rng: Generator) -> Genotype:
    """Return a genotype that takes each gene from either parent with probability 1/2."""
    from_second = rng.random(len(first)) < 0.5
    return tuple(np.where(from_second, second, first).tolist())


def simulated_binary_crossover(
    first: Genotype, second: Genotype, sizes: Sequence[int], eta: float, rng: Generator
) -> Genotype:
    """Return one child by bounded simulated binary crossover on integers.

    Alleles are widened to intervals of length one, crossed as real numbers and rounded. Each gene is crossed with
    probability 1/2. Sources: Deb and Agrawal, "Simulated binary crossover for continuous search space", 1995; for the
    bounds Deb, "An efficient constraint handling method for genetic algorithms", 2000.

    Args:
        first: parent; genes that are not crossed are copied from it.
        second: parent.
        sizes: number of alleles of each gene.
        eta: distribution index, at least 0; the smaller, the farther the child is from its parents.
        rng: source of the draws.
    """
    parents = np.array([first, second], dtype=float)
    low, high = parents.min(axis=0), parents.max(axis=0)
    bottom, top = -0.5, np.asarray(sizes) - 0.5
    gap = np.where(high > low, high - low, 1.0)
    u = rng.random(len(first))
    below = (low + high - _spread(u, 1 + 2 * (low - bottom) / gap, eta) * gap) / 2
    above = (low + high + _spread(u, 1 + 2 * (top - high) / gap, eta) * gap) / 2
    crossed = np.where(rng.random(len(first)) < 0.5, below, above)
    kept = (rng.random(len(first)) < 0.5) | (high == low)
    return _rounded(np.where(kept, first, crossed), sizes)


def _spread(u: NDArray[np.float64], beta: NDArray[np.float64], eta: float) -> NDArray[np.float64]:
    """Return Deb's spread factor of the uniform draw `u`; `beta` is the largest factor that stays in bounds."""
    alpha = 2 - beta ** -(eta + 1)
    inside = u <= 1 / alpha
    return np.where(inside, u * alpha, 1 / np.where(inside, 1.0, 2 - u * alpha)) ** (1 / (eta + 1))


def polynomial_mutation(
    genotype: Genotype, sizes: Sequence[int], probability: float, eta: float, rng: Generator
) -> Genotype:
    """Return a genotype after bounded polynomial mutation on integers.

    Alleles are widened to intervals of length one, mutated as real numbers and rounded, so that a gene may keep its
    allele. Source: Deb and Goyal, "A combined genetic adaptive search (GeneAS) for engineering design", 1996.

    Args:
        genotype: one allele per gene.
        sizes: number of alleles of each gene.
        probability: of a mutation, for each gene.
        eta: distribution index, at least 0; the smaller, the larger the steps.
        rng: source of the draws.
    """
    values = np.asarray(genotype, dtype=float)
    width = np.asarray(sizes, dtype=float)  # from -0.5 to size - 0.5
    u = rng.random(len(values))
    left, right = 1 - (values + 0.5) / width, 1 - (width - 0.5 - values) / width
    down = (2 * u + np.maximum(1 - 2 * u, 0) * left ** (eta + 1)) ** (1 / (eta + 1)) - 1
    up = 1 - (2 * (1 - u) + np.maximum(2 * u - 1, 0) * right ** (eta + 1)) ** (1 / (eta + 1))
    moved = values + np.where(u < 0.5, down, up) * width
    return _rounded(np.where(rng.random(len(values)) < probability, moved, values), sizes)


def _rounded(values: NDArray[np.float64], sizes: Sequence[int]) -> Genotype:
    """Return the nearest alleles; the clip only corrects rounding errors at the bounds."""
    return tuple(np.clip(np.rint(values), 0, np.asarray(sizes) - 1).astype(int).tolist())
