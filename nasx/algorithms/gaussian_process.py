"""Gaussian process of one objective: a smooth function of the genes, an effect of each network, and noise.

`Features` maps genotypes to points of a Euclidean space in which similar networks are close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    pass

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


P = ParamSpec("P")
T = TypeVar("T")
# candidate length scales for genotypes of six categorical genes, in units in which two genotypes that differ in d genes
# are sqrt(2 d) apart; they grow with the square root of the number of genes
LENGTH_SCALES: Final = (1.0, 1.5, 2.2, 3.3, 5.0, 8.0)
OWN_SHARES: Final = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7)  # of the variance between networks
NOISE_SHARES: Final = (1e-4, 1e-3, 0.01, 0.03, 0.06, 0.1, 0.15, 0.22, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of all
START: Final = (3, 3, 6)  # places in the three grids from which the search for the most likely ones begins
MAX_PASSES: Final = 4  # over the three grids, one after the other
# The posterior takes the noise for so many times its estimated variance. The networks that matter were chosen by the
# model for being good, so that its errors favor them: without caution a front promised .07 of the true hypervolume more
# than it kept, with it .03, and what it kept was no worse (scripts.bench.noisy_search, seeds 0-15)
CAUTION: Final = 1.4
JITTER: Final = 1e-9  # added to the diagonal, as a share of the variance


@cache
def _blas() -> Any:
    import scipy.linalg  # noqa: F401  its BLAS must be loaded to be found; takes 0.1 s
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def on_one_thread(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function with one BLAS thread: if cores are busy, several of them take 20 times as long for such matrices.

    Besides, sums then do not depend on the number of cores.
    """

    @wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> T:
        with _blas().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited


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
