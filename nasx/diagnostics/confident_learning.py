"""Confident learning: find wrong labels from predicted probabilities of images that a network was not trained on.

Source: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 2021. Its
authors' package cleanlab is the reference of the tests. Functions take labels, (n,), and probabilities, (n, n_classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

RESAMPLES: Final = 100  # bootstrap samples of the interval
ROUNDS: Final = 50  # until the share of false suspects is stable
COVERED: Final = (5, 95)  # percentiles of the interval
# Share of the simulated errors that are compared with the images. On Fashion-MNIST, 0.6 to 0.7 estimates uniform errors
# best; errors among similar classes are underestimated by a fourth, more with smaller shares
COMPARED: Final = 0.65


def class_thresholds(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the mean probability of each class among the images with that label, (n_classes,); without images 1.

    >>> class_thresholds([0, 0, 1], [[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]]).tolist()
    [0.7, 0.8]
    """
    given, shares = _arrays(labels, probabilities)
    counts = np.bincount(given, minlength=shares.shape[1])
    sums = np.bincount(given, weights=shares[np.arange(len(given)), given], minlength=shares.shape[1])
    return np.where(counts > 0, sums / np.maximum(counts, 1), 1.0)


def confident_classes(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.int64]:
    """Return the class to which each image confidently belongs, (n,); -1: to none.

    It is the most probable of the classes whose probability reaches their threshold. Thresholds make classes that the
    network predicts hesitantly, e.g. rare ones, equal to the others.

    >>> confident_classes([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]).tolist()
    [0, 1, 0]
    """
    given, shares = _arrays(labels, probabilities)
    reached = np.where(shares >= class_thresholds(given, shares) - 1e-6, shares, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached.max(axis=1) >= 0, best, -1)


def confident_joint(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the estimated number of images by given label (row) and true class (column), (n_classes, n_classes).

    Counts of confident images, scaled so that each row sums to the number of images with its label. A label without
    confident images counts as correct.

    >>> confident_joint([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]]).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    given, shares = _arrays(labels, probabilities)
    return _joint(given, confident_classes(given, shares), shares.shape[1])


def _joint(given: NDArray[np.int64], confident: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    counts = np.zeros((n_classes, n_classes))
    sure = confident >= 0
    np.add.at(counts, (given[sure], confident[sure]), 1.0)
    rows, sizes = counts.sum(axis=1), np.bincount(given, minlength=n_classes)
    np.fill_diagonal(counts, np.where(rows > 0, np.diag(counts), sizes))
    rows = np.where(rows > 0, rows, np.maximum(sizes, 1))
    return counts * (sizes / rows)[:, None]


def relative_confidence(labels: ArrayLike, probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the probability of each label relative to the threshold of its class, (n,): lower is more suspect.

    Below 1 the network believes in the label less than in those of other images of the class. 0 if the threshold is 0.
    Measured on Fashion-MNIST with planted errors, it ranks better than the normalized margin if errors are uniform, and
    better than the plain probability (the loss) if similar classes are mixed up.

    >>> relative_confidence([0, 0, 1], [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]]).round(6).tolist()
    [1.5, 0.5, 1.0]
    """
    given, shares = _arrays(labels, probabilities)
    limits = class_thresholds(given, shares)[given]
    own = shares[np.arange(len(given)), given]
    return np.divide(own, limits, out=np.zeros_like(own), where=limits > 0)


@dataclass(frozen=True)
class ErrorEstimate:
    """Estimated number of wrong labels among n images, with an interval by the bootstrap over the images."""

    number: int
    low: int  # 5th percentile
    high: int  # 95th percentile

    def extrapolated(self, counted: int, n: int) -> ErrorEstimate:
        """Return the estimate for n images, of which `counted` were compared. A few images leave much open.

        >>> ErrorEstimate(0, 0, 0).extrapolated(22, 111)
        ErrorEstimate(number=0, low=0, high=11)
        """
        number, low, high = (round(n / max(counted, 1) * found) for found in (self.number, self.low, self.high))
        others = largest_share(self.number, counted) * (n - counted)
        return ErrorEstimate(number, low, max(high, round(self.high + others)))


def largest_share(found: int, n: int) -> float:
    """Return the one-sided 95 % upper confidence limit of a share: `found` of n were observed (Clopper and Pearson).

    >>> round(largest_share(0, 22), 3), largest_share(0, 0)
    (0.127, 1.0)
    """
    return 1.0 if found >= n else float(beta.ppf(0.95, found + 1, n - found))


def estimate_errors(labels: ArrayLike, probabilities: ArrayLike, *, seed: int = 0) -> ErrorEstimate:
    """Return the estimated number of wrong labels, by comparison with simulated ones.

    Images whose label the network confirms get a wrong label, drawn from the column of their class in the confident
    joint. If m images of the dataset are at least as suspect as the more suspect 65 % of these simulated errors, it has
    about m / 0.65 errors, since images with correct labels are rarely as suspect. The sum off the
    diagonal of the confident joint, the usual estimate, also counts the mistakes of the network: measured, it was up to
    2.5 times the true number.

    Args:
        labels: (n,) given labels.
        probabilities: (n, n_classes) predicted for images that the network was not trained on.
        seed: of the simulation and the resampling.
    """
    given, shares = _arrays(labels, probabilities)
    generator = np.random.default_rng(seed)
    simulated = _simulated_errors(given, shares, generator)
    if not len(simulated):
        return ErrorEstimate(0, 0, 0)
    found = relative_confidence(given, shares)
    number = _number(found, simulated)
    draws = [
        _number(generator.choice(found, len(found)), generator.choice(simulated, len(simulated)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.percentile(draws, COVERED)
    return ErrorEstimate(round(number), round(min(low, number)), round(max(high, number)))


def expected_precision(estimated: float, error: float) -> float:
    """Return the expected share of wrong labels among as many suspects as errors are estimated, in [0, 1].

    A network with a share m of own mistakes on correct labels contributes about 2 m^3 false suspects; m is the part of
    its error that the remaining suspects do not explain. The cube was fitted to simulated networks with 1 to 35 % of
    mistakes and 0 to 20 % of wrong labels; on Fashion-MNIST it was off by up to 0.2.

    Args:
        estimated: number of errors by `estimate_errors`, as a share of the images.
        error: share of the images that are predicted as another class than their label.

    >>> [round(expected_precision(0.1, error), 2) for error in (0.1, 0.25, 0.3, 0.5)]
    [1.0, 0.92, 0.78, 0.0]
    """
    if estimated <= 0:
        return 0.0
    false = 0.0
    for _ in range(ROUNDS):  # more false suspects leave more of the error to own mistakes
        false = min(2 * max(error - estimated + false, 0.0) ** 3, estimated)
    return 1 - false / estimated


def _number(found: NDArray[np.float64], simulated: NDArray[np.float64]) -> float:
    limit = np.quantile(simulated, COMPARED)
    return float((found <= limit).sum() / (simulated <= limit).mean())


def _simulated_errors(
    given: NDArray[np.int64], shares: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Return the relative confidence of simulated wrong labels of images whose label is confirmed."""
    confident = confident_classes(given, shares)
    kept = np.flatnonzero(confident == given)
    columns = _joint(given, confident, shares.shape[1])
    np.fill_diagonal(columns, 0)
    columns += 1e-9 * (1 - np.eye(len(columns)))  # a class that is never confused: any other one
    cumulative = np.cumsum(columns, axis=0) / columns.sum(axis=0)
    wrong = (generator.random(len(kept)) > cumulative[:, given[kept]]).sum(axis=0)
    limits = class_thresholds(given, shares)[wrong]
    own = shares[kept, wrong]
    return np.asarray(np.divide(own, limits, out=np.zeros_like(own), where=limits > 0))


def _arrays(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return np.asarray(labels, dtype=np.int64), np.asarray(probabilities, dtype=np.float64)
