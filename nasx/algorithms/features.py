"""Canonical genotypes as points of a Euclidean space in which similar networks are near each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COUNTS_WEIGHT: Final = 1.0  # of operation counts among the features, see `Features`


class Features:
    """Turns canonical genotypes into points of a Euclidean space in which similar networks are near each other.

    A categorical gene is one-hot: two different alleles are sqrt(2) apart. A gene whose alleles are numbers (a width, a
    depth) is one coordinate, its extremes sqrt(2) apart. Genes that share their alleles (the edges of a cell) add the
    count of each allele, divided by the square root of the number of genes: how often an operation is used says more
    about a network than its place.

    Args:
        alleles: the names of the alleles of each gene.
    """

    def __init__(self, alleles: Sequence[Sequence[str]]) -> None:
        self.n_genes = len(alleles)
        self._columns: list[tuple[int, Floats]] = []  # gene -> (n_alleles, n_coordinates)
        groups: dict[tuple[str, ...], list[int]] = {}
        for gene, names in enumerate(alleles):
            numbers = _as_numbers(names)
            if numbers is None:
                self._columns.append((gene, np.eye(len(names))))
                groups.setdefault(tuple(names), []).append(gene)
            else:
                spread = float(np.ptp(numbers)) or 1.0
                self._columns.append((gene, np.sqrt(2) * (numbers - numbers.min())[:, None] / spread))
        self._groups = [(genes, len(names)) for names, genes in groups.items() if len(genes) > 1]

    @classmethod
    def of_sizes(cls, gene_sizes: Sequence[int]) -> Features:
        """Features of categorical genes whose alleles have no names: genes of one size share their alleles."""
        return cls([[f"allele {allele}" for allele in range(size)] for size in gene_sizes])

    def __call__(self, genotypes: Sequence[Sequence[int]]) -> Floats:
        """The features, (n_genotypes, n_features)."""
        genes = np.asarray(genotypes, dtype=int).reshape(-1, self.n_genes)
        parts = [table[genes[:, gene]] for gene, table in self._columns]
        for members, size in self._groups:
            counts = (genes[:, members, None] == np.arange(size)).sum(axis=1)
            parts.append(COUNTS_WEIGHT * counts / np.sqrt(len(members)))
        return np.concatenate(parts, axis=1)


def _as_numbers(names: Sequence[str]) -> Floats | None:
    """The alleles as numbers if all of them are, and there are more than two."""
    try:
        return np.array([float(name) for name in names]) if len(names) > 2 else None
    except ValueError:
        return None
