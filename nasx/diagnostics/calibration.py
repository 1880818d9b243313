"""Calibration of confidence, and detection of errors by low confidence: reliability, risk-coverage, AUROC."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Z_95: Final = 1.959963984540054  # quantile of the normal distribution for an interval of 95 %
BIN_IMAGES: Final = 30  # at least in each bin: the interval of a share is then at most about 35 % wide
MOST_BINS: Final = 50
ECE_BINS: Final = 15


def correlations(x: ArrayLike, y: ArrayLike) -> tuple[float | None, float | None]:
    """Return (Spearman's rho, Pearson's r) of two variables, (n,) each; None if either is constant.

    >>> round(correlations([1, 2, 3], [1, 2, 10])[0], 6), correlations([1, 2], [5, 5])
    (1.0, (None, None))
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None, None
    return float(stats.spearmanr(first, second).statistic), float(stats.pearsonr(first, second).statistic)


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95 % confidence interval of a share, by Wilson; (0, 1) without observations.

    It also holds for few observations and for shares of 0 and 1, for which the normal interval has no width.
    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    >>> [tuple(round(end, 3) for end in wilson_interval(k, n)) for k, n in ((3, 3), (50, 100), (0, 0))]
    [(0.439, 1.0), (0.404, 0.596), (0.0, 1.0)]
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, Z_95**2
    center = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else center - half  # exact at the ends, which rounding misses
    return max(0.0, low), 1.0 if successes == n else min(1.0, center + half)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Accuracy and confidence in bins with equal numbers of images, the least confident bin first."""

    confidence: NDArray[np.float64]  # (n_bins,) mean confidence
    accuracy: NDArray[np.float64]  # (n_bins,) share of correct predictions
    spearman: float | None  # rank correlation of confidence and accuracy; None if either is constant
    pearson: float | None  # linear correlation; None if either is constant
    images: NDArray[np.int64]  # (n_bins,) number of images
    low: NDArray[np.float64]  # (n_bins,) ends of the 95 % confidence interval of the accuracy
    high: NDArray[np.float64]


def count_bins(n: int) -> int:
    """Return the number of bins for `n` images: at least 30 images in each, at most 50 bins, at least one.

    >>> [count_bins(n) for n in (5, 59, 60, 287, 10_000)]
    [1, 1, 2, 9, 50]
    """
    return max(1, min(MOST_BINS, n // BIN_IMAGES))


def reliability(confidence: ArrayLike, is_correct: ArrayLike, n_bins: int | None = None) -> Reliability:
    """Return confidence and accuracy in bins of equal numbers of images; without images there are no bins.

    Images are sorted by confidence; the sort is stable.

    Args:
        confidence: (n,) of each prediction.
        is_correct: (n,) whether each prediction is correct.
        n_bins: number of bins, at most n; None: as many as have 30 images each, at most 50.

    >>> found = reliability([0.1, 0.2, 0.8, 0.9], [False, False, False, True], n_bins=2)
    >>> found.accuracy.tolist(), round(found.spearman, 6), found.images.tolist()
    ([0.0, 0.5], 1.0, [2, 2])
    """
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(is_correct, dtype=np.float64)
    n = len(values)
    chosen = count_bins(n) if n_bins is None else n_bins
    bins = np.array_split(np.argsort(values, kind="stable"), min(chosen, n)) if n else []
    means = np.array([values[b].mean() for b in bins])
    accuracy = np.array([right[b].mean() for b in bins])
    ends = np.array([wilson_interval(int(right[b].sum()), len(b)) for b in bins]).reshape(-1, 2)
    images = np.array([len(b) for b in bins], dtype=np.int64)
    return Reliability(means, accuracy, *correlations(means, accuracy), images, ends[:, 0], ends[:, 1])


def expected_calibration_error(confidence: ArrayLike, is_correct: ArrayLike, n_bins: int = ECE_BINS) -> float:
    """Return the expected calibration error: mean |mean confidence - accuracy| of bins, weighted by images.

    Args:
        confidence: (n,) in [0, 1], interpreted as probabilities.
        is_correct: (n,) whether each prediction is correct.
        n_bins: number of bins of equal width.

    >>> round(expected_calibration_error([0.9, 0.9, 0.2, 0.2], [True, False, False, False]), 12)  # (0.4 + 0.2) / 2
    0.3
    """
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(is_correct, dtype=np.float64)
    bins = np.clip(np.ceil(values * n_bins).astype(int) - 1, 0, n_bins - 1)  # (low, high], as in the source
    gaps = np.bincount(bins, weights=values - right, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(values))


@dataclass(frozen=True, eq=False)
class CalibrationMap:
    """Map from confidence to the probability of a correct prediction: linear between knots, constant outside."""

    confidence: NDArray[np.float64]  # (n_knots,) ascending
    probability: NDArray[np.float64]  # (n_knots,) in [0, 1], non-decreasing

    def __call__(self, confidence: ArrayLike) -> NDArray[np.float64]:
        """Return the probability that a prediction of this confidence is correct."""
        values = np.asarray(confidence, dtype=np.float64)
        probability: NDArray[np.float64] = np.interp(values, self.confidence, self.probability)
        return probability


def calibration_map(confidence: ArrayLike, is_correct: ArrayLike) -> CalibrationMap:
    """Return the non-decreasing map that fits held-out images best, by isotonic regression.

    >>> calibration_map([1, 2, 3, 4], [False, True, False, True])([1, 2.5, 9]).tolist()
    [0.0, 0.5, 1.0]
    """
    from sklearn.isotonic import IsotonicRegression  # takes half a second to load

    fitted = IsotonicRegression(out_of_bounds="clip").fit(
        np.asarray(confidence, dtype=np.float64), np.asarray(is_correct, dtype=np.float64)
    )
    return CalibrationMap(fitted.X_thresholds_, fitted.y_thresholds_)


def out_of_fold_probabilities(
    confidence: ArrayLike, is_correct: ArrayLike, *, seed: int, folds: int = 5
) -> NDArray[np.float64]:
    """Return calibrated probabilities of correct predictions, (n,), each by a map fitted to the other folds.

    Args:
        confidence: (n,) of each prediction.
        is_correct: (n,) whether each prediction is correct.
        seed: of the assignment to folds.
        folds: number of folds.
    """
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(is_correct)
    probability = np.empty(len(values))
    order = np.random.default_rng(seed).permutation(len(values))
    for fold in np.array_split(order, folds):
        others = np.setdiff1d(order, fold)
        probability[fold] = calibration_map(values[others], right[others])(values[fold])
    return probability


def risk_coverage(confidence: ArrayLike, is_correct: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (coverage, risk), (n,) each: the share of images that are predicted, and the share of errors among them.

    The most confident images are predicted first, in stable order.
    Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017.

    >>> coverage, risk = risk_coverage([0.9, 0.2, 0.5, 0.7], [True, False, True, True])
    >>> coverage.tolist(), risk.tolist()
    ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.25])
    """
    order = np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable")
    predicted = np.arange(1, len(order) + 1)
    errors = np.cumsum(~np.asarray(is_correct, dtype=bool)[order])
    return predicted / len(order), errors / predicted


def error_auroc(confidence: ArrayLike, is_correct: ArrayLike) -> float | None:
    """Return the probability that an incorrect prediction is less confident than a correct one; 0.5 by chance.

    None if all predictions are correct, or all are incorrect.

    >>> round(error_auroc([0.9, 0.2, 0.5, 0.1], [True, False, True, True]), 6)
    0.666667
    """
    right = np.asarray(is_correct, dtype=bool)
    if right.all() or not right.any():
        return None
    from sklearn.metrics import roc_auc_score  # takes half a second to load

    return float(roc_auc_score(right, np.asarray(confidence, dtype=np.float64)))


def accuracy_gain(confidence: ArrayLike, is_correct: ArrayLike, dropped: float = 0.2) -> float:
    """Return the increase of accuracy, as a share, if the least confident images are rejected.

    Args:
        confidence: (n,) of each prediction.
        is_correct: (n,) whether each prediction is correct.
        dropped: share of the images that are rejected.

    >>> accuracy_gain([0.9, 0.2, 0.5, 0.7, 0.8], [True, False, True, True, False], dropped=0.2)  # 3/4 - 3/5
    0.15000000000000002
    """
    coverage, risk = risk_coverage(confidence, is_correct)
    kept = max(1, round((1 - dropped) * len(coverage)))
    return float(risk[-1] - risk[kept - 1])
