"""Gaussian process of one objective: a smooth function of the genes, an effect per network, and noise.

`Features` maps genotypes to points of a Euclidean space in which similar networks are close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COUNTS_WEIGHT: Final = 1.0  # of operation counts among the features, see `Features`


class Features:
    """Features of canonical genotypes: points of a Euclidean space in which similar networks are close.

    A categorical gene is one-hot: two different alleles are sqrt(2) apart. A gene whose alleles are numbers (a width, a
    depth) is one coordinate, its extremes sqrt(2) apart. Genes that share their alleles (the edges of a cell) add the
    count of each allele, divided by the square root of the number of genes: the number of uses of an operation predicts
    more than its position.

    Args:
        alleles: names of the alleles of each gene.
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
        """Return the features of categorical genes without names of alleles; genes of equal size share alleles."""
        return cls([[f"allele {allele}" for allele in range(size)] for size in gene_sizes])

    def __call__(self, genotypes: Sequence[Sequence[int]]) -> Floats:
        """Return the features, (n_genotypes, n_features)."""
        genes = np.asarray(genotypes, dtype=int).reshape(-1, self.n_genes)
        parts = [table[genes[:, gene]] for gene, table in self._columns]
        for members, size in self._groups:
            counts = (genes[:, members, None] == np.arange(size)).sum(axis=1)
            parts.append(COUNTS_WEIGHT * counts / np.sqrt(len(members)))
        return np.concatenate(parts, axis=1)


def _as_numbers(names: Sequence[str]) -> Floats | None:
    """Return the alleles as numbers if all are numbers and there are more than two; else None."""
    try:
        return np.array([float(name) for name in names]) if len(names) > 2 else None
    except ValueError:
        return None


P = ParamSpec("P")
T = TypeVar("T")
# Length scales for genotypes of six categorical genes, in units in which two genotypes that differ in d genes are
# sqrt(2 d) apart. They grow with the square root of the number of genes
LENGTH_SCALES: Final = (1.0, 1.5, 2.2, 3.3, 5.0, 8.0)
OWN_SHARES: Final = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)  # of the variance between networks
NOISE_SHARES: Final = (1e-4, 1e-3, 0.01, 0.03, 0.06, 0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of all
START: Final = (3, 3, 6)  # indices in the three grids at which the maximization starts
MAX_PASSES: Final = 4  # over the three grids, one after the other
# Factor of the estimated noise variance in the posterior. The model selects networks that it considers good, so its
# errors favor them: the estimated hypervolume of a front was .07 of the true one too high without this factor, .03 with
# it, and the true hypervolume was no worse (scripts.bench.noisy_search, seeds 0-15)
NOISE_INFLATION: Final = 1.4
JITTER: Final = 1e-9  # added to the diagonal, as a share of the variance


@cache
def _blas() -> Any:
    import scipy.linalg  # noqa: F401  loads the BLAS to control; takes 0.1 s
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def on_one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Decorate a function to run with one BLAS thread: on busy cores, several threads take 20 times as long.

    Sums then also do not depend on the number of cores.
    """

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with _blas().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


@dataclass(frozen=True, eq=False)
class Measurements:
    """Trainings of n networks, summarized for one objective."""

    counts: NDArray[np.int_]  # trainings of each network, at least 1
    means: Floats  # of their costs
    within: float  # sum of squared deviations of single trainings from the mean of their network

    @property
    def is_exact(self) -> bool:
        """Return whether networks were trained again and all their trainings have the same value."""
        return bool(self.counts.max(initial=1) > 1) and self.within <= 1e-18 * float(self.means @ self.means)


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of a model, as indices in the grids."""

    length: int
    own: int
    noise: int


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """Posterior of one objective, given measurements of n networks."""

    hyperparameters: Hyperparameters
    length_scale: float
    own_share: float  # share of the variance between networks that no smooth function of the genes explains
    noise_share: float  # share of the variance of a single training
    variance: float  # of a single training around the mean, all parts, without noise inflation
    mean: float  # prior mean
    features: Floats  # (n, n_features)
    weights: Floats  # (n,) such that the smooth part at x is k(x, features) @ weights
    solved: Any  # Cholesky factor of the covariance of the means, lower triangle
    posterior_means: Floats  # (n,) of the measured networks, including their own effects
    posterior_variances: Floats  # (n,) of their true costs
    log_likelihood: float

    @property
    def noise(self) -> float:
        """Return the variance of the noise of one training."""
        return self.noise_share * self.variance

    @property
    def own(self) -> float:
        """Return the variance of the networks' own effects."""
        return (1 - self.noise_share) * self.own_share * self.variance

    @property
    def smooth(self) -> float:
        """Return the variance of the smooth part."""
        return (1 - self.noise_share) * (1 - self.own_share) * self.variance

    def predict(self, features: Floats) -> tuple[Floats, Floats]:
        """Return mean and variance of the true cost of new networks, (n_new,) each."""
        from scipy.linalg import solve_triangular  # scipy takes 0.1 s to import

        near = _correlation(_squared_distances(features, self.features), self.length_scale)
        reduced = solve_triangular(self.solved, near.T, lower=True, check_finite=False)
        explained = self.smooth**2 / self.variance * (reduced**2).sum(axis=0)
        return self.mean + near @ self.weights, np.maximum(self.smooth + self.own - explained, 0.0)

    def covariance(self, chosen: NDArray[np.int_]) -> Floats:
        """Return the posterior covariance of the true costs of chosen measured networks, (n_chosen, n_chosen)."""
        from scipy.linalg import solve_triangular  # scipy takes 0.1 s to import

        near = _correlation(_squared_distances(self.features[chosen], self.features), self.length_scale)
        prior = self.smooth * near
        prior[np.arange(len(chosen)), chosen] += self.own
        reduced = solve_triangular(self.solved, prior.T, lower=True, check_finite=False)
        posterior: Floats = prior[:, chosen] - reduced.T @ reduced / self.variance
        return posterior


def _squared_distances(a: Floats, b: Floats) -> Floats:
    """Return squared Euclidean distances, (n_a, n_b)."""
    squares: Floats = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.maximum(squares, 0.0, out=squares)


def _correlation(squared: Floats, length_scale: float) -> Floats:
    """Return the Matern 5/2 kernel: rough enough for spaces in which one gene may change everything."""
    scaled: Floats = np.sqrt(5 * squared) / length_scale
    return (1 + scaled + scaled**2 / 3) * np.exp(-scaled)


def fit(
    features: Floats,
    measured: Measurements,
    start: Hyperparameters | None = None,
    *,
    max_passes: int = MAX_PASSES,
    exact: bool = False,
    noise_inflation: float = NOISE_INFLATION,
) -> GaussianProcess:
    """Return the posterior under the most likely hyperparameters, maximized on one grid after the other.

    Args:
        features: (n, n_features) of the measured networks.
        measured: their trainings.
        start: hyperparameters at which the maximization starts; None: `START`.
        max_passes: passes over the grids; 0: use `start`.
        exact: True if there is no noise; its share is then the smallest of the grid.
        noise_inflation: factor of the noise variance in the posterior.
    """
    likelihoods = _Likelihoods(features, measured)
    best = _most_likely(likelihoods, start or Hyperparameters(*START), max_passes, exact=exact)
    likeliest, smooth = likelihoods.solve(best), likelihoods.kernel(best.length)
    noise, own = NOISE_SHARES[best.noise], OWN_SHARES[best.own]
    inflated = not exact and noise_inflation != 1
    solution = _solve(smooth, own, noise, measured, noise_inflation) if inflated else likeliest
    return _posterior(best, likelihoods, likeliest, solution)


class _Likelihoods:
    """Likelihoods of hyperparameters, given measurements; computed once each."""

    def __init__(self, features: Floats, measured: Measurements) -> None:
        self.features = features
        self.measured = measured
        self.distances = _squared_distances(features, features)
        varying = (features.max(axis=0, initial=0) > features.min(axis=0, initial=0)).sum()
        scaling = np.sqrt(max(1.0, varying) / 30)
        self.lengths = [float(scaling) * scale for scale in LENGTH_SCALES]
        self._kernels: dict[int, Floats] = {}
        self._solutions: dict[Hyperparameters, _Solution] = {}

    def kernel(self, length: int) -> Floats:
        """Return the correlations of the smooth part at a length scale, (n, n)."""
        if length not in self._kernels:
            self._kernels[length] = _correlation(self.distances, self.lengths[length])
        return self._kernels[length]

    def solve(self, at: Hyperparameters) -> _Solution:
        """Return the solution of the linear system for hyperparameters."""
        if at not in self._solutions:
            own, noise = OWN_SHARES[at.own], NOISE_SHARES[at.noise]
            self._solutions[at] = _solve(self.kernel(at.length), own, noise, self.measured)
        return self._solutions[at]

    def __call__(self, at: Hyperparameters) -> float:
        """Return the log posterior density of hyperparameters, up to a constant."""
        return self.solve(at).log_likelihood + _log_prior(at)


def _most_likely(likelihoods: _Likelihoods, start: Hyperparameters, max_passes: int, *, exact: bool) -> Hyperparameters:
    """Return the most likely hyperparameters found by coordinate ascent on the grids."""
    best = start
    grids = [("length", len(LENGTH_SCALES)), ("own", len(OWN_SHARES))]
    if exact:
        best = Hyperparameters(best.length, best.own, 0)
    else:
        grids.insert(0, ("noise", len(NOISE_SHARES)))
    for _ in range(max_passes):
        before = best
        for name, size in grids:
            best = _climb(best, name, size, likelihoods)
        if best == before:
            break
    return best


def _posterior(
    best: Hyperparameters, likelihoods: _Likelihoods, likeliest: _Solution, solution: _Solution
) -> GaussianProcess:
    """Return the posterior by `solution`, with inflated noise; `likeliest` is the solution without inflation."""
    from scipy.linalg import solve_triangular  # scipy takes 0.1 s to import

    noise, own = NOISE_SHARES[best.noise], OWN_SHARES[best.own]
    smooth_share = (1 - noise) * (1 - own)
    prior = smooth_share * likelihoods.kernel(best.length)
    prior[np.diag_indices(len(prior))] += (1 - noise) * own
    reduced = solve_triangular(solution.factor, prior, lower=True, check_finite=False)
    variances = likeliest.variance * (np.diag(prior) - (reduced**2).sum(axis=0))
    return GaussianProcess(
        hyperparameters=best,
        length_scale=likelihoods.lengths[best.length],
        own_share=own,
        noise_share=noise,
        variance=likeliest.variance,
        mean=solution.mean,
        features=likelihoods.features,
        weights=smooth_share * solution.weights,
        solved=solution.factor,
        posterior_means=solution.mean + prior @ solution.weights,
        posterior_variances=np.maximum(variances, 0.0),
        log_likelihood=likeliest.log_likelihood,
    )


def _climb(start: Hyperparameters, name: str, size: int, likelihood: _Likelihoods) -> Hyperparameters:
    """Return the local maximum along one grid, searched in both directions from `start`."""
    best = start
    for step in (1, -1):
        place = getattr(best, name) + step
        while 0 <= place < size:
            moved = Hyperparameters(**{**vars(best), name: place})
            if likelihood(moved) <= likelihood(best):
                break
            best, place = moved, place + step
    return best


def _log_prior(at: Hyperparameters) -> float:
    """Return the log density of a weak prior of both shares around 1/5, which keeps small samples uncertain."""
    shares = np.array([OWN_SHARES[at.own], NOISE_SHARES[at.noise]])
    logits = np.log(shares / (1 - shares)) - np.log(0.25)
    return float(-0.5 * (logits[0] / 1.5) ** 2 - 0.5 * (logits[1] / 3.0) ** 2)


@dataclass(frozen=True, eq=False)
class _Solution:
    log_likelihood: float
    variance: float
    mean: float
    weights: Floats  # inverse covariance of the means times their deviations, times the variance
    factor: Any  # Cholesky factor, lower triangle


def _solve(smooth: Floats, own: float, noise: float, measured: Measurements, inflation: float = 1.0) -> _Solution:
    """Return likelihood, variance and mean for given shares; the likelihood includes the variance within networks.

    `inflation`: factor of the noise of the means; the likelihood is only meaningful for 1.
    """
    from scipy.linalg import cho_solve, cholesky  # scipy takes 0.1 s to import

    n = len(measured.means)
    covariance = ((1 - noise) * (1 - own)) * smooth
    covariance[np.diag_indices(n)] += (1 - noise) * own + inflation * noise / measured.counts + JITTER
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
