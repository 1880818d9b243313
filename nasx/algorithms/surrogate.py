"""The surrogate: what the trainings so far say about every network, trained or not, in each objective.

A training is a noisy answer. The k-th training of network i has the cost

    y_ik = m + f(x_i) + u_i + e_ik,    f ~ GP(0, v (1 - own) k),  u_i ~ N(0, v own),  e_ik ~ N(0, s^2)

with x_i the features of its canonical genotype, f a smooth function of them (k: Matern 5/2), u_i the effect of the
network that no smooth function of its genes explains, and e_ik the noise of one training. Objectives are modeled
independently.
Length scale, own share and noise share are the most likely ones on a grid; the mean m and the total variance have
closed forms. Replicates (several trainings of one network) identify the noise: without them own effect and noise cannot
be distinguished. Source: Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, sections 2.2, 2.7 and
5.4; for replicates as means with the variance within groups, Binois, Gramacy and Ludkovski, "Practical heteroscedastic
Gaussian process modeling for large simulation experiments", 2018.

The linear algebra is scipy's. Fitting one objective to 64 and 256 networks takes 2.5 and 24 ms of CPU time.
scikit-learn's regressor takes 18 and 75 ms for a similar choice, BoTorch's `SingleTaskGP` 2.0 and 3.5 s
(`scripts/bench/surrogate.py`); neither has the likelihood of the variance within networks that identifies the noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasx import pareto

Floats = NDArray[np.float64]
P = ParamSpec("P")
T = TypeVar("T")

# candidate length scales for genotypes of six categorical genes, in units in which two genotypes that differ in d genes
# are sqrt(2 d) apart; they grow with the square root of the number of genes
LENGTH_SCALES: Final = (1.0, 1.5, 2.2, 3.3, 5.0, 8.0)
OWN_SHARES: Final = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)  # of the variance between networks
NOISE_SHARES: Final = (1e-4, 1e-3, 0.01, 0.03, 0.06, 0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of all
START: Final = (3, 3, 6)  # places in the three grids from which the search for the most likely ones begins
MAX_PASSES: Final = 4  # over the three grids, one after the other
COUNTS_WEIGHT: Final = 1.0  # of operation counts among the features, see `Features`
# The posterior takes the noise for so many times its estimated variance. The networks that matter were chosen by the
# model for being good, so that its errors favor them: without caution a front promised .07 of the true hypervolume more
# than it kept, with it .03, and what it kept was no worse (scripts.bench.noisy_search, seeds 0-15)
CAUTION: Final = 1.4
FENCE: Final = 3.0  # costs beyond the upper quartile by so many interquartile ranges are left out of a model
JITTER: Final = 1e-9  # added to the diagonal, as a share of the variance


@cache
def _blas() -> Any:
    import scipy.linalg  # noqa: F401  its BLAS must be loaded to be found; takes 0.1 s
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _on_one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function with one BLAS thread: if cores are busy, several of them take 20 times as long for such matrices.

    Besides, sums then do not depend on the number of cores.
    """

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with _blas().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


class Features:
    """Turns canonical genotypes into points of a Euclidean space in which similar networks are near each other.

    A categorical gene is one-hot: two different alleles are sqrt(2) apart. A gene whose alleles are numbers (a width, a
    depth) is one coordinate, its extremes sqrt(2) apart. Genes that share their alleles (the edges of a cell) add the
    count of each allele, divided by the square root of the number of genes: how often an operation is used says more
    about a network than where it is.

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


@dataclass(frozen=True, eq=False)
class Measurements:
    """What was measured of n networks in one objective."""

    counts: NDArray[np.int_]  # trainings of each network, at least 1
    means: Floats  # of their costs
    within: float  # sum of the squared deviations of single trainings from the mean of their network

    @property
    def is_exact(self) -> bool:
        """Whether networks were trained again and every answer came out the same."""
        return bool(self.counts.max(initial=1) > 1) and self.within <= 1e-18 * float(self.means @ self.means)


@dataclass(frozen=True)
class Settings:
    """Hyperparameters of a model, by their places in the grids."""

    length: int
    own: int
    noise: int


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """The posterior of one objective, given measurements of n networks."""

    settings: Settings
    length_scale: float
    own_share: float  # of the variance between networks, that no smooth function of the genes explains
    noise_share: float  # of the variance of a single training
    variance: float  # of a single training around the mean, all parts together, without caution
    mean: float  # m
    features: Floats  # (n, n_features)
    weights: Floats  # (n,) such that the smooth part at x is k(x, features) @ weights
    solved: Any  # Cholesky factor of the covariance of the means, as scipy has it
    posterior_means: Floats  # (n,) of the networks measured, own effects included
    posterior_variances: Floats  # (n,) of their true costs
    log_likelihood: float

    @property
    def noise(self) -> float:
        """Variance of the noise of one training."""
        return self.noise_share * self.variance

    @property
    def own(self) -> float:
        """Variance of the networks' own effects."""
        return (1 - self.noise_share) * self.own_share * self.variance

    @property
    def smooth(self) -> float:
        """Variance of the smooth part."""
        return (1 - self.noise_share) * (1 - self.own_share) * self.variance

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of the true cost of networks that are not among the measured ones, (n_new,) each."""
        from scipy.linalg import solve_triangular  # scipy takes 0.1 s to import

        near = _correlation(_squared_distances(features, self.features), self.length_scale)
        reduced = solve_triangular(self.solved, near.T, lower=True, check_finite=False)
        explained = self.smooth**2 / self.variance * (reduced**2).sum(axis=0)
        return self.mean + near @ self.weights, np.maximum(self.smooth + self.own - explained, 0.0)

    def covariance(self, chosen: NDArray[np.int_]) -> Floats:
        """The posterior covariance of the true costs of some of the measured networks, (n_chosen, n_chosen)."""
        from scipy.linalg import solve_triangular

        near = _correlation(_squared_distances(self.features[chosen], self.features), self.length_scale)
        prior = self.smooth * near
        prior[np.arange(len(chosen)), chosen] += self.own
        reduced = solve_triangular(self.solved, prior.T, lower=True, check_finite=False)
        posterior: Floats = prior[:, chosen] - reduced.T @ reduced / self.variance
        return posterior


def _squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances, (n_a, n_b)."""
    squares: Floats = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0.0, out=squares)


def _correlation(squared: Floats, length_scale: float) -> Floats:
    """The Matern 5/2 kernel: rough enough for spaces in which one gene may change everything."""
    scaled: Floats = np.sqrt(5 * squared) / length_scale
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def fit(
    features: Floats,
    measured: Measurements,
    start: Settings | None = None,
    *,
    max_passes: int = MAX_PASSES,
    exact: bool = False,
    caution: float = CAUTION,
) -> GaussianProcess:
    """The posterior under the most likely hyperparameters, found on their grids one after the other.

    `features` (n, n_features). `start`: where to begin; with `max_passes=0` these are taken as they are. `exact`: there
    is no noise, so that its share is the smallest of the grid. `caution`: factor of the noise in the posterior.
    """
    from scipy.linalg import solve_triangular  # scipy takes 0.1 s to import

    distances = _squared_distances(features, features)
    scaling = np.sqrt(max(1.0, (features.max(axis=0, initial=0) > features.min(axis=0, initial=0)).sum()) / 30)
    lengths = [float(scaling) * scale for scale in LENGTH_SCALES]
    tried: dict[Settings, tuple[float, Any]] = {}
    smooth: dict[int, Floats] = {}

    def likelihood(settings: Settings) -> float:
        if settings not in tried:
            if settings.length not in smooth:
                smooth[settings.length] = _correlation(distances, lengths[settings.length])
            solution = _solve(smooth[settings.length], OWN_SHARES[settings.own], NOISE_SHARES[settings.noise], measured)
            tried[settings] = solution.log_likelihood + _log_prior(settings), solution
        return tried[settings][0]

    best = start or Settings(*START)
    grids = [("length", len(LENGTH_SCALES)), ("own", len(OWN_SHARES))]
    if exact:
        best = Settings(best.length, best.own, 0)
    else:
        grids.insert(0, ("noise", len(NOISE_SHARES)))
    likelihood(best)
    for _ in range(max_passes):
        before = best
        for name, size in grids:
            best = _climb(best, name, size, likelihood)
        if best == before:
            break
    noise, own = NOISE_SHARES[best.noise], OWN_SHARES[best.own]
    likeliest = tried[best][1]
    cautious = not exact and caution != 1
    solution = _solve(smooth[best.length], own, noise, measured, caution) if cautious else likeliest
    smooth_share = (1 - noise) * (1 - own)
    prior = smooth_share * smooth[best.length]
    prior[np.diag_indices(len(prior))] += (1 - noise) * own
    posterior = solution.mean + prior @ solution.weights
    reduced = solve_triangular(solution.factor, prior, lower=True, check_finite=False)
    variances = likeliest.variance * (np.diag(prior) - (reduced**2).sum(axis=0))
    return GaussianProcess(
        best,
        lengths[best.length],
        own,
        noise,
        likeliest.variance,
        solution.mean,
        features,
        smooth_share * solution.weights,
        solution.factor,
        posterior,
        np.maximum(variances, 0.0),
        likeliest.log_likelihood,
    )


def _climb(start: Settings, name: str, size: int, likelihood: Any) -> Settings:
    """The best settings along one grid, looking in both directions as long as they become more likely."""
    best = start
    for step in (1, -1):
        place = getattr(best, name) + step
        while 0 <= place < size:
            moved = Settings(**{**vars(best), name: place})
            if likelihood(moved) <= likelihood(best):
                break
            best, place = moved, place + step
    return best


def _log_prior(settings: Settings) -> float:
    """A weak prior of both shares around a fifth: few answers must not make a model certain."""
    shares = np.array([OWN_SHARES[settings.own], NOISE_SHARES[settings.noise]])
    logits = np.log(shares / (1 - shares)) - np.log(0.25)
    return float(-0.5 * (logits[0] / 1.5) ** 2 - 0.5 * (logits[1] / 3.0) ** 2)


@dataclass(frozen=True, eq=False)
class _Solution:
    log_likelihood: float
    variance: float
    mean: float
    weights: Floats  # inverse covariance of the means times their deviations, times the variance
    factor: Any


def _solve(smooth: Floats, own: float, noise: float, measured: Measurements, caution: float = 1.0) -> _Solution:
    """Log likelihood, variance and mean for given shares; the likelihood has the variance within networks, too.

    `caution`: factor of the noise of the means; the likelihood is meant for 1.
    """
    from scipy.linalg import cho_solve, cholesky  # scipy takes 0.1 s to import

    n = len(measured.means)
    covariance = ((1 - noise) * (1 - own)) * smooth
    covariance[np.diag_indices(n)] += (1 - noise) * own + caution * noise / measured.counts + JITTER
    factor = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
    ones = np.ones(n)
    solved = cho_solve((factor, True), np.column_stack([measured.means, ones]), check_finite=False)
    mean = float(ones @ solved[:, 0] / (ones @ solved[:, 1]))
    weights = solved[:, 0] - mean * solved[:, 1]
    repeats = int(measured.counts.sum()) - n
    fit_error = float((measured.means - mean) @ weights) + measured.within / noise
    total = n + repeats
    variance = max(fit_error / total, 1e-300)
    log_determinant = 2 * float(np.log(np.diag(factor)).sum()) + repeats * np.log(noise)
    return _Solution(-0.5 * (total * np.log(variance) + log_determinant), variance, mean, weights, factor)


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

    @_on_one_thread
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

    @_on_one_thread
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

    @_on_one_thread
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

    @_on_one_thread
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
