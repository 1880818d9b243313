"""The surrogate: predicts the true costs of every network, trained or not, from the noisy trainings so far.

One Gaussian process an objective (`nasx.algorithms.gaussian_process`), fitted to a bounded set of networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nasx import pareto
from nasx.algorithms.gaussian_process import (
    CAUTION,
    JITTER,
    MAX_PASSES,
    Features,
    GaussianProcess,
    Measurements,
    fit,
    on_one_thread,
)

Floats = NDArray[np.float64]

FENCE: Final = 3.0  # costs beyond the upper quartile by so many interquartile ranges are left out of a model
MIN_NETWORKS: Final = 8  # before there is a model
MAX_NETWORKS: Final = 256  # that a model is fitted to: fitting takes the cube of their number
KEPT_BY_RANK: Final = 0.75  # of them: the front and its neighbors; the others are a sample
DRAWS: Final = 64  # of the posterior, for the probability of being on the front
MAX_OPEN: Final = 96  # networks whose place on the front is considered open at a time


class Surrogate:
    """Learns from answers one at a time; its state depends on the answers and their order, and on nothing else.

    `keys`, `counts`, `means` and `variances` describe the networks that it holds: all of them up to `MAX_NETWORKS`,
    then the front, its neighbors and a sample.

    Args:
        features: of canonical genotypes.
        exact: for each objective, whether it is known to have no noise (parameters).
        seed: of the sample and of the posterior draws.
    """

    def __init__(self, features: Features, exact: Sequence[bool], seed: int = 0) -> None:
        self.features = features
        self.exact = tuple(exact)
        self.seed = seed
        self.n_answers = 0
        self.keys: list[tuple[int, ...]] = []
        self.models: list[GaussianProcess] = []  # one an objective; empty before there are `MIN_NETWORKS`
        self._places: dict[tuple[int, ...], int] = {}
        n = len(self.exact)
        self._rows = np.empty((0, features(()).shape[1]))
        self.counts = np.empty(0, dtype=int)
        self._sums = np.empty((0, n))
        self._squares = np.empty((0, n))  # sum of squared deviations from the mean of the network
        self.means = np.empty((0, n))  # posterior means of the true costs
        self.variances = np.empty((0, n))
        self._inside: list[NDArray[np.int_]] = []  # an objective -> the networks that its model was fitted to
        self._refit_at = self._refresh_at = self._refreshed_at = 0
        self._chances: Floats | None = None

    @on_one_thread
    def learn(self, key: tuple[int, ...], costs: Sequence[float]) -> None:
        """Take in the costs of one training of a network."""
        self.n_answers += 1
        self._chances = None
        place = self._places.get(key)
        values = np.asarray(costs, dtype=float)
        is_new = place is None
        if place is None:
            place = self._append(key, values)
        else:
            count, mean = self.counts[place], self._sums[place] / self.counts[place]
            self._squares[place] += (values - mean) ** 2 * count / (count + 1)
            self._sums[place] += values
            self.counts[place] += 1
        if len(self.keys) < MIN_NETWORKS:
            self.means[place] = self._sums[place] / self.counts[place]
        elif self.n_answers >= self._refit_at:
            self._shrink()
            self._refit(MAX_PASSES)
            self._refit_at = self.n_answers + max(4, self.n_answers // 10)
        elif self.n_answers >= self._refresh_at:
            self._refit(0)
        else:
            self._update(place, values, is_new=is_new)

    @on_one_thread
    def learn_all(self, keys: Sequence[Sequence[int]], costs: Sequence[Floats]) -> None:
        """Take in all trainings of many networks at once and fit the models.

        `keys`: canonical genotypes; `costs`: of each, (n_trainings, n_objectives). Needs at least `MIN_NETWORKS`.
        """
        self._chances = None
        self.n_answers = sum(map(len, costs))
        self.keys = [tuple(key) for key in keys]
        self._rows = self.features(self.keys)
        self.counts = np.array([len(own) for own in costs])
        self._sums = np.array([own.sum(axis=0) for own in costs])
        self._squares = np.array([((own - own.mean(axis=0)) ** 2).sum(axis=0) for own in costs])
        self.means, self.variances = self.observed, np.zeros_like(self._sums)
        self._shrink()
        self._places = {key: place for place, key in enumerate(self.keys)}
        self._refit(MAX_PASSES)

    def estimates(self, keys: Sequence[Sequence[int]], costs: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Posterior means and variances of the true costs, (n, n_objectives) each, of networks held or not.

        A network that is not held is predicted from those that are, then its own trainings, `costs`, are taken in.
        """
        places = [self._places.get(tuple(key)) for key in keys]
        means, variances = np.empty((2, len(keys), len(self.exact)))
        held = [i for i, place in enumerate(places) if place is not None]
        chosen = [place for place in places if place is not None]
        means[held], variances[held] = self.means[chosen], self.variances[chosen]
        others = [i for i, place in enumerate(places) if place is None]
        if others:
            predicted, uncertain = self.predict([keys[i] for i in others])
            observed = np.array([costs[i].mean(axis=0) for i in others])
            counts = np.array([len(costs[i]) for i in others])
            for i, model in enumerate(self.models):
                own = np.zeros(len(others)) if self.objective_is_exact(i) else CAUTION * model.noise / counts
                gain = uncertain[:, i] / np.maximum(uncertain[:, i] + own, 1e-300)
                gain = np.where(own > 0, gain, 1.0)
                means[others, i] = predicted[:, i] + gain * (observed[:, i] - predicted[:, i])
                variances[others, i] = (1 - gain) * uncertain[:, i]
        return means, variances

    def draw_around(self, means: Floats, variances: Floats, keys: Sequence[Sequence[int]], n: int) -> Floats:
        """Draws of the true costs of networks held or not, (n, n_networks, n_objectives).

        Those held are drawn jointly, the others independently.
        """
        rng = np.random.default_rng((self.seed, self.n_answers, 1))
        draws = means + np.sqrt(variances) * rng.standard_normal((n, *means.shape))
        places = np.array([self._places.get(tuple(key), -1) for key in keys])
        joint = self.draw(n)
        draws[:, places >= 0] = joint[:, places[places >= 0]]
        return draws

    def estimate(self, key: tuple[int, ...]) -> tuple[float, ...] | None:
        """The posterior means of a network's true costs; None if it is not held."""
        place = self._places.get(key)
        return None if place is None else tuple(self.means[place].tolist())

    @property
    def observed(self) -> Floats:
        """Mean costs of each network's trainings, (n_networks, n_objectives)."""
        result: Floats = self._sums / self.counts[:, None]
        return result

    @property
    def noise_is_known(self) -> bool:
        """Whether enough networks were trained again to say how large the noise is."""
        return int((self.counts > 1).sum()) >= 2

    @property
    def is_exact(self) -> bool:
        """Whether no objective has any noise, as far as networks that were trained again can tell."""
        if not self.noise_is_known:
            return all(self.exact)
        return all(self.objective_is_exact(i) for i in range(len(self.exact)))

    def objective_is_exact(self, objective: int) -> bool:
        """Whether an objective has no noise, by what is known of it or because every repeated answer was the same."""
        return self.exact[objective] or self._measured(objective, np.arange(len(self.keys))).is_exact

    @on_one_thread
    def predict(self, genotypes: Sequence[Sequence[int]]) -> tuple[Floats, Floats]:
        """Mean and variance of the true costs of networks that were never trained, (n, n_objectives) each."""
        rows = self.features(genotypes)
        predictions = [model.predict(rows) for model in self.models]
        return np.array([mean for mean, _ in predictions]).T, np.array([variance for _, variance in predictions]).T

    def front_chances(self) -> Floats:
        """How probably each network is on the front of the networks held, (n_networks,), by draws of the posterior."""
        if self._chances is None:
            self._chances = np.zeros(len(self.keys))
            open_ones = open_networks(self.means, np.sqrt(self.variances))
            self._chances[open_ones] = front_probabilities(self.draw(DRAWS)[:, open_ones])
        return self._chances

    @on_one_thread
    def draw(self, n: int) -> Floats:
        """Draws of the true costs from the joint posterior, (n, n_networks, n_objectives).

        Networks that are dominated beyond doubt stay at their means.
        """
        rng = np.random.default_rng((self.seed, self.n_answers))
        draws = np.repeat(self.means[None], n, axis=0)
        deviations = np.sqrt(self.variances)
        open_ones = open_networks(self.means, deviations)
        for i, exact in enumerate(self.exact):
            normal = rng.standard_normal((n, len(open_ones)))
            if exact or not self.models:
                continue
            inside = self._inside[i]
            where = np.searchsorted(inside, open_ones)
            held = (where < len(inside)) & (inside[np.minimum(where, len(inside) - 1)] == open_ones)
            fresh = self._refreshed_at == self.n_answers
            if fresh and held.all() and not self.objective_is_exact(i):
                covariance = self.models[i].covariance(where)
                covariance[np.diag_indices(len(where))] += JITTER * self.models[i].variance
                draws[:, open_ones, i] += normal @ np.linalg.cholesky(covariance).T
            else:
                draws[:, open_ones, i] += normal * deviations[open_ones, i]
        return draws

    def _append(self, key: tuple[int, ...], values: Floats) -> int:
        self._places[key] = len(self.keys)
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
        """Fit the models, or with no passes their posterior under the hyperparameters that they have."""
        models, self._inside = [], []
        for i in range(len(self.exact)):
            inside = within_fence(self._sums[:, i] / self.counts)
            start = self.models[i].settings if self.models else None
            is_exact = self.objective_is_exact(i)
            passes = max_passes if start else MAX_PASSES
            model = fit(self._rows[inside], self._measured(i, inside), start, max_passes=passes, exact=is_exact)
            models.append(model)
            self._inside.append(inside)
            self.means[:, i] = self._sums[:, i] / self.counts
            self.variances[:, i] = 0.0 if is_exact else CAUTION * model.noise / self.counts
            if not is_exact:
                self.means[inside, i] = model.posterior_means
                self.variances[inside, i] = model.posterior_variances
        self.models = models
        self._refreshed_at = self.n_answers
        self._refresh_at = self.n_answers + 1 + max(len(self.keys) // 64, self.n_answers // 200)

    def _update(self, place: int, values: Floats, *, is_new: bool) -> None:
        """Take one training into the posterior of its own network only, until the next refresh."""
        if is_new and not self.is_exact:
            means, variances = self.predict([self.keys[place]])
            self.means[place], self.variances[place] = means[0], variances[0]
        for i, model in enumerate(self.models):
            if self.objective_is_exact(i):
                self.means[place, i], self.variances[place, i] = values[i], 0.0
                continue
            gain = self.variances[place, i] / (self.variances[place, i] + CAUTION * model.noise)
            self.means[place, i] += gain * (values[i] - self.means[place, i])
            self.variances[place, i] *= 1 - gain

    def _shrink(self) -> None:
        """Keep `MAX_NETWORKS`: the front and its neighbors, and a sample of the others."""
        if len(self.keys) <= MAX_NETWORKS * 5 // 4:
            return
        chosen = informative(self.means, MAX_NETWORKS, np.random.default_rng((self.seed, self.n_answers)))
        self.keys = [self.keys[i] for i in chosen]
        self._places = {key: place for place, key in enumerate(self.keys)}
        for name in ("_rows", "counts", "_sums", "_squares", "means", "variances"):
            setattr(self, name, getattr(self, name)[chosen])


def within_fence(values: Floats) -> NDArray[np.int_]:
    """The places of the values that are no outliers upwards: networks that failed to learn would swamp a model.

    >>> within_fence(np.array([0.1, 0.2, 0.15, 0.12, 9.0])).tolist()
    [0, 1, 2, 3]
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return np.flatnonzero(values <= high + FENCE * (high - low))


def informative(means: Floats, n: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """The places of `n` networks to fit a model to, in their order: the best by rank, and a sample of the others."""
    best = pareto.best_by_rank(means, int(KEPT_BY_RANK * n))
    others = np.setdiff1d(np.arange(len(means)), best)
    return np.sort(np.concatenate([best, rng.permutation(others)[: n - len(best)]]))


def open_networks(means: Floats, deviations: Floats, most: int | None = MAX_OPEN) -> NDArray[np.int_]:
    """The places of the networks that may be on the front, at most `most`: none is better than them beyond doubt."""
    surely, perhaps = means + 2 * deviations, means - 2 * deviations
    rivals = surely[pareto.front_mask(surely)]  # who is dominated by another one is dominated by one of these
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
    """The share of the draws in which each network is on the front, (n_networks,); `draws` (n, n_networks, n_obj).

    >>> front_probabilities(np.array([[[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [[2.0, 2.0], [1.0, 0.0], [1.0, 1.0]]]))
    array([0.5, 1. , 0. ])
    """
    chances = np.zeros(draws.shape[1])
    near = np.flatnonzero(~_always_dominated(draws))
    chances[near] = _on_front(draws[:, near]).mean(axis=0)
    return chances


def _on_front(draws: Floats) -> NDArray[np.bool_]:
    """True for each network of each draw that no other of the draw dominates, (n, n_networks)."""
    if draws.shape[1] > 2 * MAX_OPEN and draws.shape[2] != 2:
        return np.array([pareto.front_mask(draw) for draw in draws], dtype=bool)
    if draws.shape[2] != 2:
        return np.concatenate([_on_front_by_pairs(part) for part in np.array_split(draws, 1 + len(draws) // 16)])
    first, second = draws[..., 0], draws[..., 1]
    order = np.lexsort((second, first), axis=-1)
    first, second = (np.take_along_axis(values, order, axis=1) for values in (first, second))
    best = np.full_like(second, np.inf)  # the smallest second cost of those with a smaller first one
    best[:, 1:] = np.minimum.accumulate(second, axis=1)[:, :-1]
    is_twin = (first[:, 1:] == first[:, :-1]) & (second[:, 1:] == second[:, :-1])  # equal points: as the first of them
    places = np.tile(np.arange(best.shape[1]), (len(best), 1))
    places[:, 1:][is_twin] = 0
    on_front = np.take_along_axis(best > second, np.maximum.accumulate(places, axis=1), axis=1)
    result: NDArray[np.bool_] = np.empty_like(on_front)
    np.put_along_axis(result, order, on_front, axis=1)
    return result


def _on_front_by_pairs(draws: Floats) -> NDArray[np.bool_]:
    no_worse = np.ones((*draws.shape[:2], draws.shape[1]), dtype=bool)  # [draw, i, j]: i is nowhere worse than j
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
