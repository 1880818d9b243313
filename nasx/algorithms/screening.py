"""Screening: of several offspring, ask the one from which a cheap model of the answers so far expects most.

Each objective is modelled by a Gaussian process over the canonical genes. An offspring is judged by how much its
optimistic costs, mean minus one standard deviation, would add to the hypervolume of the front.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from nasx import pareto
from nasx.algorithms.preference import achievement, ranges
from nasx.trial import Genotype

MIN_ANSWERS: Final = 10  # before a model is fitted
MAX_ANSWERS: Final = 2000  # from here on the front hardly moves, and models cost more than they give
MAX_FITTED: Final = 256  # a model sees the latest answers: fitting takes the cube of their number
# candidate length scales, in one-hot units where two genotypes that differ in d genes are sqrt(2 d) apart;
# the likelihood chooses among them, 20 times faster than searching for the best one and no worse
LENGTH_SCALES: Final = (1.5, 3.0, 6.0)
NOISE: Final = 0.01  # share of an objective's variance that no model of the genes explains


class Screen:
    """Learns from answers, and chooses among offspring. The same answers in the same order give the same choice."""

    def __init__(self, gene_sizes: Sequence[int]) -> None:
        self._alleles = np.arange(max(gene_sizes))
        self._answers: deque[tuple[Genotype, tuple[float, ...]]] = deque(maxlen=MAX_FITTED)
        self._n_answers = 0
        self._refit_at = 0  # number of answers
        self._models: list[GaussianProcessRegressor] = []
        self._threads = ThreadpoolController()  # BLAS threads on such small matrices cost up to 50 times the time

    def learn(self, genotype: Genotype, costs: tuple[float, ...]) -> None:
        self._answers.append((genotype, costs))
        self._n_answers += 1

    @property
    def is_ready(self) -> bool:
        return MIN_ANSWERS <= self._n_answers < MAX_ANSWERS

    def choose(
        self, genotypes: Sequence[Genotype], front: NDArray[np.float64], wish: NDArray[np.float64] | None = None
    ) -> int:
        """The index of the most promising genotype, given the costs of the front, (n_points, n_objectives).

        With a `wish` (n_objectives,), costs to come near, that is the one that is expected to come nearest.
        """
        optimistic = self.predict(genotypes)
        if wish is not None:
            return int(np.argmin(achievement(optimistic, wish, ranges(front))))
        return int(np.argmax(gains(optimistic, front)))

    def predict(self, genotypes: Sequence[Genotype]) -> NDArray[np.float64]:
        """Optimistic costs, mean minus one standard deviation, (n_genotypes, n_objectives)."""
        features = self._one_hot(genotypes)
        with self._threads.limit(limits=1):
            if self._n_answers >= self._refit_at:
                self._fit()
            predictions = [model.predict(features, return_std=True) for model in self._models]
        return np.array([mean - deviation for mean, deviation in predictions]).T

    def _fit(self) -> None:
        genotypes, costs = zip(*self._answers, strict=True)
        features = self._one_hot(genotypes)
        self._models = [fitted(features, objective) for objective in np.array(costs).T]
        self._refit_at = self._n_answers + max(8, self._n_answers // 20)

    def _one_hot(self, genotypes: Sequence[Genotype]) -> NDArray[np.float64]:
        """(n_genotypes, n_genes * n_alleles)"""
        is_allele: NDArray[np.bool_] = np.array(genotypes)[:, :, None] == self._alleles
        return is_allele.reshape(len(genotypes), -1).astype(np.float64)


def fitted(features: NDArray[np.float64], values: NDArray[np.float64]) -> GaussianProcessRegressor:
    """A Gaussian process through `values`, with the length scale under which they are most likely."""
    models = [
        GaussianProcessRegressor(RBF(scale) + WhiteKernel(NOISE), optimizer=None, normalize_y=True)
        for scale in LENGTH_SCALES
    ]
    return max((model.fit(features, values) for model in models), key=lambda m: m.log_marginal_likelihood_value_)


def gains(costs: NDArray[np.float64], front: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much hypervolume each point, (n_points, n_objectives), adds to the front by itself, (n_points,).

    Costs are scaled to the extent of all points together; the reference point lies behind all of them, so that every
    new trade-off counts.

    >>> gains(np.array([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])).round(2)
    array([0., 0., 1.])
    """
    everything = np.concatenate([costs, front])
    low, extent = everything.min(axis=0), np.ptp(everything, axis=0)
    extent = np.where(extent > 0, extent, 1.0)
    reference = np.full(costs.shape[1], 1.1)
    scaled_front = (front - low) / extent
    before = pareto.hypervolume(scaled_front, reference)
    after = [pareto.hypervolume(np.vstack([scaled_front, point]), reference) for point in (costs - low) / extent]
    return np.array(after) - before
