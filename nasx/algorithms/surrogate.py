"""Surrogate: predicts the true costs of every network, trained or not, from the noisy trainings so far.

One Gaussian process per objective (`nasx.algorithms.gaussian_process`), fitted to a bounded set of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.algorithms.gaussian_process import (
    JITTER,
    MAX_PASSES,
    NOISE_INFLATION,
    Features,
    GaussianProcess,
    Measurements,
    fit,
    on_one_thread,
)

Floats = NDArray[np.float64]

FENCE: Final = 3.0  # costs above the upper quartile by more than this number of interquartile ranges are outliers
MIN_NETWORKS: Final = 8  # needed to fit a model
MAX_NETWORKS: Final = 256  # to which a model is fitted: the cost of fitting is cubic
KEPT_BY_RANK: Final = 0.75  # share of them that are the best by rank; the others are a sample
DRAWS: Final = 64  # of the posterior, for the probability of being on the front
MAX_OPEN: Final = 96  # networks whose membership of the front is considered uncertain at a time


class Surrogate:
    """Online model of the costs: learns from one result at a time; its state depends only on the results in order.

    `keys`, `counts`, `means` and `variances` describe the networks that it holds: all of them up to `MAX_NETWORKS`,
    then the front, its neighbors and a sample.

    Args:
        features: of canonical genotypes.
        exact: for each objective, whether it has no noise by definition (parameters).
        seed: of the sample and of the posterior draws.
    """

    def __init__(self, features: Features, exact: Sequence[bool], seed: int = 0) -> None:
        self.features = features
        self.exact = tuple(exact)
        self.seed = seed
        self.n_results = 0
        self.keys: list[tuple[int, ...]] = []
        self.models: list[GaussianProcess] = []  # one per objective; empty until there are `MIN_NETWORKS`
        self._indices: dict[tuple[int, ...], int] = {}  # key -> index in `keys`
        n = len(self.exact)
        self._rows = np.empty((0, features(()).shape[1]))
        self.counts = np.empty(0, dtype=int)
        self._sums = np.empty((0, n))
        self._squares = np.empty((0, n))  # sum of squared deviations from the mean of the network
        self.means = np.empty((0, n))  # posterior means of the true costs
        self.variances = np.empty((0, n))
        self._inliers: list[NDArray[np.int_]] = []  # for each objective, the networks that its model was fitted to
        self._refit_at = self._refresh_at = self._refreshed_at = 0
        self._probabilities: Floats | None = None

    @on_one_thread
    def learn(self, key: tuple[int, ...], costs: Sequence[float]) -> None:
        """Learn from the costs of one training of a network."""
        self.n_results += 1
        self._probabilities = None
        index = self._indices.get(key)
        values = np.asarray(costs, dtype=float)
        is_new = index is None
        if index is None:
            index = self._append(key, values)
        else:
            count, mean = self.counts[index], self._sums[index] / self.counts[index]
            self._squares[index] += (values - mean) ** 2 * count / (count + 1)
            self._sums[index] += values
            self.counts[index] += 1
        if len(self.keys) < MIN_NETWORKS:
            self.means[index] = self._sums[index] / self.counts[index]
        elif self.n_results >= self._refit_at:
            self._shrink()
            self._refit(MAX_PASSES)
            self._refit_at = self.n_results + max(4, self.n_results // 10)
        elif self.n_results >= self._refresh_at:
            self._refit(0)
        else:
            self._update(index, values, is_new=is_new)

    @on_one_thread
    def learn_all(self, keys: Sequence[Sequence[int]], costs: Sequence[Floats]) -> None:
        """Learn from all trainings of at least `MIN_NETWORKS` networks at once.

        `keys`: canonical genotypes; `costs`: of each, (n_trainings, n_objectives).
        """
        self._probabilities = None
        self.n_results = sum(map(len, costs))
        self.keys = [tuple(key) for key in keys]
        self._rows = self.features(self.keys)
        self.counts = np.array([len(own) for own in costs])
        self._sums = np.array([own.sum(axis=0) for own in costs])
        self._squares = np.array([((own - own.mean(axis=0)) ** 2).sum(axis=0) for own in costs])
        self.means, self.variances = self.observed, np.zeros_like(self._sums)
        self._shrink()
        self._indices = {key: index for index, key in enumerate(self.keys)}
        self._refit(MAX_PASSES)

    def estimates(self, keys: Sequence[Sequence[int]], costs: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Return posterior means and variances of the true costs of any networks, (n, n_objectives) each.

        For a network that is not held, the prediction from the held ones is updated by its own trainings.

        `keys`: canonical genotypes; `costs`: of each, (n_trainings, n_objectives).
        """
        indices = [self._indices.get(tuple(key)) for key in keys]
        means, variances = np.empty((2, len(keys), len(self.exact)))
        held = [i for i, index in enumerate(indices) if index is not None]
        chosen = [index for index in indices if index is not None]
        means[held], variances[held] = self.means[chosen], self.variances[chosen]
        others = [i for i, index in enumerate(indices) if index is None]
        if others:
            predicted, uncertain = self.predict([keys[i] for i in others])
            observed = np.array([costs[i].mean(axis=0) for i in others])
            counts = np.array([len(costs[i]) for i in others])
            for i, model in enumerate(self.models):
                own = np.zeros(len(others)) if self.objective_is_exact(i) else NOISE_INFLATION * model.noise / counts
                gain = uncertain[:, i] / np.maximum(uncertain[:, i] + own, 1e-300)
                gain = np.where(own > 0, gain, 1.0)
                means[others, i] = predicted[:, i] + gain * (observed[:, i] - predicted[:, i])
                variances[others, i] = (1 - gain) * uncertain[:, i]
        return means, variances

    def draw_around(self, means: Floats, variances: Floats, keys: Sequence[Sequence[int]], n: int) -> Floats:
        """Return draws of the true costs of any networks, (n, n_networks, n_objectives).

        Networks that are held are drawn jointly, the others independently.

        Args:
            means: (n_networks, n_objectives) posterior means.
            variances: (n_networks, n_objectives) posterior variances.
            keys: canonical genotypes.
            n: number of draws.
        """
        rng = np.random.default_rng((self.seed, self.n_results, 1))
        draws = means + np.sqrt(variances) * rng.standard_normal((n, *means.shape))
        indices = np.array([self._indices.get(tuple(key), -1) for key in keys])
        joint = self.draw(n)
        draws[:, indices >= 0] = joint[:, indices[indices >= 0]]
        return draws

    def estimate(self, key: tuple[int, ...]) -> tuple[float, ...] | None:
        """Return the posterior means of a network's true costs; None if it is not held."""
        index = self._indices.get(key)
        return None if index is None else tuple(self.means[index].tolist())

    @property
    def observed(self) -> Floats:
        """Return the mean costs of each network's trainings, (n_networks, n_objectives)."""
        result: Floats = self._sums / self.counts[:, None]
        return result

    @property
    def noise_is_known(self) -> bool:
        """Return whether enough networks were trained again to estimate the noise."""
        return int((self.counts > 1).sum()) >= 2

    @property
    def is_exact(self) -> bool:
        """Return whether no objective has noise, according to the networks that were trained again."""
        if not self.noise_is_known:
            return all(self.exact)
        return all(self.objective_is_exact(i) for i in range(len(self.exact)))

    def objective_is_exact(self, objective: int) -> bool:
        """Return whether an objective has no noise, by definition or because all re-trainings had equal values."""
        return self.exact[objective] or self._measured(objective, np.arange(len(self.keys))).is_exact

    @on_one_thread
    def predict(self, genotypes: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
        """Return mean and variance of the true costs of untrained networks, (n, n_objectives) each."""
        rows = self.features(genotypes)
        predictions = [model.predict(rows) for model in self.models]
        return np.array([mean for mean, _ in predictions]).T, np.array([variance for _, variance in predictions]).T

    def front_probabilities(self) -> Floats:
        """Return the probability of each held network to be on their front, (n_networks,), by posterior draws."""
        if self._probabilities is None:
            self._probabilities = np.zeros(len(self.keys))
            open_ones = open_networks(self.means, np.sqrt(self.variances))
            self._probabilities[open_ones] = front_probabilities(self.draw(DRAWS)[:, open_ones])
        return self._probabilities

    @on_one_thread
    def draw(self, n: int) -> Floats:
        """Return draws of the true costs from the joint posterior, (n, n_networks, n_objectives).

        Networks that are almost certainly dominated keep their means.
        """
        rng = np.random.default_rng((self.seed, self.n_results))
        draws = np.repeat(self.means[None], n, axis=0)
        deviations = np.sqrt(self.variances)
        open_ones = open_networks(self.means, deviations)
        for i, exact in enumerate(self.exact):
            normal = rng.standard_normal((n, len(open_ones)))
            if exact or not self.models:
                continue
            inside = self._inliers[i]
            found = np.searchsorted(inside, open_ones)
            held = (found < len(inside)) & (inside[np.minimum(found, len(inside) - 1)] == open_ones)
            fresh = self._refreshed_at == self.n_results
            if fresh and held.all() and not self.objective_is_exact(i):
                covariance = self.models[i].covariance(found)
                covariance[np.diag_indices(len(found))] += JITTER * self.models[i].variance
                draws[:, open_ones, i] += normal @ np.linalg.cholesky(covariance).T
            else:
                draws[:, open_ones, i] += normal * deviations[open_ones, i]
        return draws

    def _append(self, key: tuple[int, ...], values: Floats) -> int:
        self._indices[key] = len(self.keys)
        self.keys.append(key)
        self._rows = np.vstack([self._rows, self.features([key])])
        self.counts = np.append(self.counts, 1)
        for name, row in (("_sums", values), ("_squares", 0 * values), ("means", values), ("variances", 0 * values)):
            setattr(self, name, np.vstack([getattr(self, name), row]))
        return len(self.keys) - 1

    def _measured(self, objective: int, chosen: NDArray[np.int_]) -> Measurements:
        means = self._sums[chosen, objective] / self.counts[chosen]
        return Measurements(self.counts[chosen], means, float(self._squares[chosen, objective].sum()))

    def _refit(self, max_passes: int) -> None:
        """Fit the models; with 0 passes, update the posterior under the current hyperparameters."""
        models, self._inliers = [], []
        for i in range(len(self.exact)):
            inside = inlier_indices(self._sums[:, i] / self.counts)
            start = self.models[i].hyperparameters if self.models else None
            is_exact = self.objective_is_exact(i)
            passes = max_passes if start else MAX_PASSES
            model = fit(self._rows[inside], self._measured(i, inside), start, max_passes=passes, exact=is_exact)
            models.append(model)
            self._inliers.append(inside)
            self.means[:, i] = self._sums[:, i] / self.counts
            self.variances[:, i] = 0.0 if is_exact else NOISE_INFLATION * model.noise / self.counts
            if not is_exact:
                self.means[inside, i] = model.posterior_means
                self.variances[inside, i] = model.posterior_variances
        self.models = models
        self._refreshed_at = self.n_results
        self._refresh_at = self.n_results + 1 + max(len(self.keys) // 64, self.n_results // 200)

    def _update(self, index: int, values: Floats, *, is_new: bool) -> None:
        """Update the posterior of one network by its training, until the next refresh of all."""
        if is_new and not self.is_exact:
            means, variances = self.predict([self.keys[index]])
            self.means[index], self.variances[index] = means[0], variances[0]
        for i, model in enumerate(self.models):
            if self.objective_is_exact(i):
                self.means[index, i], self.variances[index, i] = values[i], 0.0
                continue
            gain = self.variances[index, i] / (self.variances[index, i] + NOISE_INFLATION * model.noise)
            self.means[index, i] += gain * (values[i] - self.means[index, i])
            self.variances[index, i] *= 1 - gain

    def _shrink(self) -> None:
        """Reduce to `MAX_NETWORKS` networks: the front, its neighbors, and a sample of the others."""
        if len(self.keys) <= MAX_NETWORKS * 5 // 4:
            return
        chosen = informative_networks(self.means, MAX_NETWORKS, np.random.default_rng((self.seed, self.n_results)))
        self.keys = [self.keys[i] for i in chosen]
        self._indices = {key: index for index, key in enumerate(self.keys)}
        for name in ("_rows", "counts", "_sums", "_squares", "means", "variances"):
            setattr(self, name, getattr(self, name)[chosen])


def inlier_indices(values: Floats) -> NDArray[np.int_]:
    """Return the indices of the values that are no upper outliers: untrainable networks would dominate a model.

    >>> inlier_indices(np.array([0.1, 0.2, 0.15, 0.12, 9.0])).tolist()
    [0, 1, 2, 3]
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return np.flatnonzero(values <= high + FENCE * (high - low))


def informative_networks(means: Floats, n: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """Return the sorted indices of `n` networks to fit a model to: the best by rank, and a sample of the others."""
    best = pareto.best_by_rank(means, int(KEPT_BY_RANK * n))
    others = np.setdiff1d(np.arange(len(means)), best)
    return np.sort(np.concatenate([best, rng.permutation(others)[: n - len(best)]]))


def open_networks(means: Floats, deviations: Floats, most: int | None = MAX_OPEN) -> NDArray[np.int_]:
    """Return the indices of the networks that may be on the front: no other one almost certainly dominates them.

    Args:
        means: (n, n_objectives) expected costs.
        deviations: (n, n_objectives) standard deviations; two of them are considered almost certain.
        most: number of networks to return at most, the best by rank; None: no limit.
    """
    surely, perhaps = means + 2 * deviations, means - 2 * deviations
    rivals = surely[pareto.front_mask(surely)]  # a dominated network is dominated by one of these
    worse = np.ones((len(rivals), len(means)), dtype=bool)
    strictly = np.zeros_like(worse)
    for high, low in zip(rivals.T, perhaps.T, strict=True):
        worse &= high[:, None] <= low
        strictly |= high[:, None] < low
    found = np.flatnonzero(~(worse & strictly).any(axis=0))
    if most is not None and len(found) > most:
        found = np.sort(found[pareto.best_by_rank(means[found], most)])
    return found


def front_probabilities(draws: Floats) -> Floats:
    """Return the share of `draws`, (n, n_networks, n_objectives), in which each network is on the front.

    >>> front_probabilities(np.array([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [[2.0, 2.0], [1.0, 0.0], [1.0, 1.0]]]))
    array([0.5, 1. , 0. ])
    """
    probabilities = np.zeros(draws.shape[1])
    near = np.flatnonzero(~_always_dominated(draws))
    probabilities[near] = _on_front(draws[:, near]).mean(axis=0)
    return probabilities


def _on_front(draws: Floats) -> NDArray[np.bool_]:
    """Return whether each network of each draw is not dominated in that draw, (n, n_networks)."""
    if draws.shape[1] > 2 * MAX_OPEN and draws.shape[2] != 2:
        return np.array([pareto.front_mask(draw) for draw in draws], dtype=bool)
    if draws.shape[2] != 2:
        return np.concatenate([_on_front_by_pairs(part) for part in np.array_split(draws, 1 + len(draws) // 16)])
    first, second = draws[..., 0], draws[..., 1]
    order = np.lexsort((second, first), axis=-1)
    first, second = (np.take_along_axis(values, order, axis=1) for values in (first, second))
    best = np.full_like(second, np.inf)  # smallest second cost among the networks with a smaller first cost
    best[:, 1:] = np.minimum.accumulate(second, axis=1)[:, :-1]
    is_equal = (first[:, 1:] == first[:, :-1]) & (second[:, 1:] == second[:, :-1])  # to the point before it
    indices = np.tile(np.arange(best.shape[1]), (len(best), 1))
    indices[:, 1:][is_equal] = 0  # equal points have the result of the first of them
    on_front = np.take_along_axis(best > second, np.maximum.accumulate(indices, axis=1), axis=1)
    result: NDArray[np.bool_] = np.empty_like(on_front)
    np.put_along_axis(result, order, on_front, axis=1)
    return result


def _on_front_by_pairs(draws: Floats) -> NDArray[np.bool_]:
    no_worse = np.ones((*draws.shape[:2], draws.shape[1]), dtype=bool)  # [draw, i, j]: i is no worse than j
    for values in np.ascontiguousarray(np.moveaxis(draws, 2, 0)):
        no_worse &= values[:, :, None] <= values[:, None, :]
    return np.asarray(~(no_worse & ~no_worse.transpose(0, 2, 1)).any(axis=1))


def _always_dominated(draws: Floats) -> NDArray[np.bool_]:
    worst, best = draws.max(axis=0), draws.min(axis=0)
    rivals = worst[pareto.front_mask(worst)]
    dominated = np.ones((len(rivals), len(best)), dtype=bool)
    for high, low in zip(rivals.T, best.T, strict=True):
        dominated &= high[:, None] < low
    return np.asarray(dominated.any(axis=0))
