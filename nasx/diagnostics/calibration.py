"""Calibration of confidence, and how well doubt finds the errors: reliability, risk-coverage, AUROC."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score


def correlations(x: ArrayLike, y: ArrayLike) -> tuple[float | None, float | None]:
    """(Spearman's rho, Pearson's r) of two variables, (n,) each; None where either is constant.

    >>> round(correlations([1, 2, 3], [1, 2, 10])[0], 6), correlations([1, 2], [5, 5])
    (1.0, (None, None))
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None, None
    return float(stats.spearmanr(first, second).statistic), float(stats.pearsonr(first, second).statistic)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy in bins of equally many images, the least confident bin first."""

    confidence: NDArray[np.float64]  # (n_bins,) mean confidence
    accuracy: NDArray[np.float64]  # (n_bins,) share of right answers
    spearman: float | None  # rank correlation of the two; None where either is constant
    pearson: float | None  # linear correlation


def reliability(confidence: ArrayLike, is_right: ArrayLike, n_bins: int = 50) -> Reliability:
    """Confidence and accuracy in `n_bins` bins, as many as there are images where those are fewer.

    Bins hold equally many images, so that none rests on one image; of equal confidences the first in order come first.

    >>> found = reliability([0.1, 0.2, 0.8, 0.9], [False, False, False, True], n_bins=2)
    >>> found.accuracy.tolist(), round(found.spearman, 6)
    ([0.0, 0.5], 1.0)
    """
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(is_right, dtype=np.float64)
    bins = np.array_split(np.argsort(values, kind="stable"), min(n_bins, len(values)))
    means = np.array([values[b].mean() for b in bins])
    accuracy = np.array([right[b].mean() for b in bins])
    return Reliability(means, accuracy, *correlations(means, accuracy))


def expected_calibration_error(confidence: ArrayLike, is_right: ArrayLike, n_bins: int = 15) -> float:
    """How far confidences in [0, 1], taken as probabilities, are from the accuracy, on average over the images.

    Over `n_bins` bins of equal width: the sum of |mean confidence - accuracy| times the bin's share of the images.

    >>> round(expected_calibration_error([0.9, 0.9, 0.2, 0.2], [True, False, False, False]), 12)  # (0.4 + 0.2) / 2
    0.3
    """
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(is_right, dtype=np.float64)
    bins = np.clip(np.ceil(values * n_bins).astype(int) - 1, 0, n_bins - 1)  # (low, high], as the source has it
    gaps = np.bincount(bins, weights=values - right, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(values))


@dataclass(frozen=True, eq=False)
class CalibrationMap:
    """From a confidence to the probability of being right: linear between knots, flat beyond them."""

    confidence: NDArray[np.float64]  # (n_knots,) ascending
    probability: NDArray[np.float64]  # (n_knots,) in [0, 1], never falling

    def __call__(self, confidence: ArrayLike) -> NDArray[np.float64]:
        """The probability that an answer of this confidence is right."""
        values = np.asarray(confidence, dtype=np.float64)
        probability: NDArray[np.float64] = np.interp(values, self.confidence, self.probability)
        return probability


def calibration_map(confidence: ArrayLike, is_right: ArrayLike) -> CalibrationMap:
    """The never falling map that fits held-out images best, by isotonic regression.

    >>> calibration_map([1, 2, 3, 4], [False, True, False, True])([1, 2.5, 9]).tolist()
    [0.0, 0.5, 1.0]
    """
    fitted = IsotonicRegression(out_of_bounds="clip").fit(
        np.asarray(confidence, dtype=np.float64), np.asarray(is_right, dtype=np.float64)
    )
    return CalibrationMap(fitted.X_thresholds_, fitted.y_thresholds_)


def cross_calibrated(confidence: ArrayLike, is_right: ArrayLike, *, seed: int, folds: int = 5) -> NDArray[np.float64]:
    """The probability of being right for each image, (n,), by a map fitted without the image: in `folds` folds."""
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(is_right)
    probability = np.empty(len(values))
    order = np.random.default_rng(seed).permutation(len(values))
    for fold in np.array_split(order, folds):
        others = np.setdiff1d(order, fold)
        probability[fold] = calibration_map(values[others], right[others])(values[fold])
    return probability


def risk_coverage(confidence: ArrayLike, is_right: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(coverage, risk), (n,) each: the share of images answered, and the share of errors among those.

    The most confident are answered first; of equal confidences the first in order.
    Source: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017.

    >>> coverage, risk = risk_coverage([0.9, 0.2, 0.5, 0.7], [True, False, True, True])
    >>> coverage.tolist(), risk.tolist()
    ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.0, 0.25])
    """
    order = np.argsort(-np.asarray(confidence, dtype=np.float64), kind="stable")
    answered = np.arange(1, len(order) + 1)
    errors = np.cumsum(~np.asarray(is_right, dtype=bool)[order])
    return answered / len(order), errors / answered


def error_auroc(confidence: ArrayLike, is_right: ArrayLike) -> float | None:
    """The chance that a wrong answer is less confident than a right one; 0.5: confidence says nothing.

    None where all answers are right, or all are wrong.

    >>> round(error_auroc([0.9, 0.2, 0.5, 0.1], [True, False, True, True]), 6)
    0.666667
    """
    right = np.asarray(is_right, dtype=bool)
    if right.all() or not right.any():
        return None
    return float(roc_auc_score(right, np.asarray(confidence, dtype=np.float64)))


def accuracy_gain(confidence: ArrayLike, is_right: ArrayLike, dropped: float = 0.2) -> float:
    """By how much accuracy rises, as a share, when the least confident share `dropped` is left unanswered.

    >>> accuracy_gain([0.9, 0.2, 0.5, 0.7, 0.8], [True, False, True, True, False], dropped=0.2)  # 3/4 - 3/5
    0.15000000000000002
    """
    coverage, risk = risk_coverage(confidence, is_right)
    answered = max(1, round((1 - dropped) * len(coverage)))
    return float(risk[-1] - risk[answered - 1])
