"""Whether doubt finds the errors: what is gained by leaving the images to people of which the network is unsure.

A confidence is any number per image that is larger where the network is surer; `is_right` says where its answer is
right. Both (n,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score


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
